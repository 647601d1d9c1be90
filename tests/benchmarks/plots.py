"""Pictures of the results: time against classes, against batch and against threads."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

STYLES = "o-", "s--", "^-.", "v:", "d-", "x--", "*-.", "p:"


def draw(rows, folder):
    """Write the pictures that the rows allow; the paths."""
    trees = [one for one in rows if one.get("work") == "tree: nll+gradient"]
    rows = [one for one in rows if one.get("work") == "nll+gradient"]
    most = max((one["threads"] for one in rows), default=1)
    at = {"threads": most}
    made = [
        lines(rows, "classes", at | {"batch": 1024}, folder / "time-against-classes.png"),
        lines(rows, "batch", at | {"classes": 100_000}, folder / "time-against-batch.png"),
        lines(
            rows,
            "threads",
            {"classes": 100_000, "batch": 1024},
            folder / "time-against-threads.png",
        ),
    ]
    if trees:
        made.append(lines(trees, "classes", {"batch": 1024}, folder / "trees.png"))
    return [path for path in made if path is not None]


def lines(rows, axis, fixed, path):
    """Milliseconds of ours and of every peer over one axis, the others fixed."""
    chosen = [one for one in rows if all(one.get(key) == value for key, value in fixed.items())]
    curves = {}
    for one in chosen:
        curves.setdefault("cython_sparseops", {})[one[axis]] = one["ours_ms"]
        if one["peer"] != "ours":
            curves.setdefault(one["peer"], {})[one[axis]] = one["peer_ms"]
    if not any(len(points) > 1 for points in curves.values()):
        return None
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for (name, points), style in zip(curves.items(), STYLES * 3, strict=False):
        x = sorted(points)
        axes.plot(x, [points[value] for value in x], style, label=name)
    axes.set(xscale="log" if axis != "threads" else "linear", yscale="log")
    if axis == "threads":
        axes.set_xticks(sorted({one[axis] for one in chosen}))
    title = ", ".join(f"{key} {value:,}" for key, value in fixed.items())
    axes.set(xlabel=axis, ylabel="ms", title=f"loss + gradient, D = 128, {title}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path
