"""Pictures of the results: ``python tests/benchmarks/plots.py [RESULTS] [FOLDER]``.

Reads the JSON files that run.py wrote, by default those of the documentation, and draws their
pictures into its ``_static``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

DOCS = Path(__file__).resolve().parents[2] / "docs"
STYLES = "o-", "s--", "^-.", "v:", "d-", "x--", "*-.", "p:"
OURS = "cython_sparseops"
CURVES = {  # of the first page: name in the results, label, color, marker
    OURS: ("cython_sparseops", "#c0392b", "o"),
    "fastText hs loop": ("fastText hs", "#8e6bbf", "D"),
    "torch adaptive softmax": ("PyTorch adaptive softmax", "#2f7fb8", "s"),
    "torch full softmax": ("PyTorch full softmax", "#555555", "^"),
}


def main(arguments):
    """Draw what the results allow, and print the paths."""
    results = Path(arguments[0]) if arguments else DOCS / "benchmarks" / "results"
    folder = Path(arguments[1]) if len(arguments) > 1 else DOCS / "_static"
    rows = []
    for path in sorted(results.glob("*.json")):
        rows += json.loads(path.read_text(encoding="utf-8"))["rows"]
    for path in draw(rows, folder):
        print(path)


def draw(rows, folder):
    """Write the pictures that the rows allow; the paths."""
    trees = [one for one in rows if one.get("work") == "tree: nll+gradient"]
    steps = [one for one in rows if one.get("work") == "training step"]
    rows = [one for one in rows if one.get("work") == "nll+gradient"]
    most = max((one["threads"] for one in rows), default=1)
    at = {"threads": most}
    made = [
        lines(rows, "classes", at | {"batch": 1024}, folder / "time-against-classes.svg"),
        lines(rows, "batch", at | {"classes": 100_000}, folder / "time-against-batch.svg"),
        lines(trees, "classes", {"batch": 1024}, folder / "trees.svg"),
        first_page(steps, folder / "speed.svg"),
    ]
    return [path for path in made if path is not None]


def first_page(rows, path):
    """A training step against the number of classes, each curve with its name at its end."""
    curves = points_of(rows, "classes", "best")
    if not any(len(points) > 1 for points in curves.values()):
        return None
    figure, axes = pyplot.subplots(figsize=(7.5, 3.9))
    for name, (label, color, marker) in CURVES.items():
        x = sorted(curves.get(name, {}))
        if not x:
            continue
        y = [curves[name][value] for value in x]
        wide = 2.4 if name == OURS else 1.5
        axes.plot(x, y, color=color, marker=marker, linewidth=wide, markersize=5)
        axes.annotate(
            f"{label}\n{y[-1]:,.3g} ms" if y[-1] < 1000 else f"{label}\n{y[-1]:,.0f} ms",
            (x[-1], y[-1]),
            xytext=(8, 0),
            textcoords="offset points",
            color=color,
            va="center",
            fontsize=9,
            fontweight="bold" if name == OURS else "normal",
        )
    axes.set(xscale="log", yscale="log", xlim=(8e2, 2e7), xlabel="classes")
    axes.set_ylabel("ms per 1,024 examples")
    ticks = sorted({one["classes"] for one in rows})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return save(figure, path)


def points_of(rows, axis, suffix="ms"):
    """{curve: {place: milliseconds}} of ours and of every peer."""
    curves = {}
    for one in rows:
        ours = curves.setdefault(OURS, {})
        mine = one[f"ours_{suffix}"]
        ours[one[axis]] = min(mine, ours.get(one[axis], mine))
        if one["peer"] != "ours" and one["peer_ms"] is not None:
            curves.setdefault(one["peer"], {})[one[axis]] = one[f"peer_{suffix}"]
    return curves


def lines(rows, axis, fixed, path):
    """Milliseconds of ours and of every peer over one axis, the others fixed."""
    chosen = [one for one in rows if all(one.get(key) == value for key, value in fixed.items())]
    curves = points_of(chosen, axis)
    if not any(len(points) > 1 for points in curves.values()):
        return None
    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    for (name, points), style in zip(curves.items(), STYLES * 3, strict=False):
        x = sorted(points)
        axes.plot(x, [points[value] for value in x], style, label=name)
    axes.set(xscale="log", yscale="log")
    title = ", ".join(f"{key} {value:,}" for key, value in fixed.items())
    axes.set(xlabel=axis, ylabel="ms", title=f"loss + gradient, D = 128, {title}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return save(figure, path)


def save(figure, path):
    """The same bytes from the same results: no date, no random names inside."""
    figure.tight_layout()
    with matplotlib.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


if __name__ == "__main__":
    main(sys.argv[1:])
