"""The page of label trees beside their peers, from the runs that ``race.py`` kept.

``python tests/benchmarks/label_trees/pages.py [--check]`` writes ``docs/benchmarks/label_trees.md``
from ``docs/benchmarks/label_trees.json``; ``tables.py`` does so too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "benchmarks"
RUNS, PAGE = FOLDER / "label_trees.json", FOLDER / "label_trees.md"


def summary(results):
    """Means over seeds of what was answered, medians of times and sizes: one dictionary a
    contestant, task and number of threads."""
    groups = {}
    for run in results["runs"]:
        if "failed" not in run:
            groups.setdefault((run["task"], run["name"], run["threads"]), []).append(run)
    out = []
    for (task, name, threads), runs in groups.items():
        one = {"task": task, "name": name, "threads": threads, "runs": len(runs)}
        for key in runs[0]:
            values = [run.get(key) for run in runs]
            if key in one or not all(isinstance(value, int | float) for value in values):
                continue
            mean = key.startswith(("p1", "p3", "p5", "nll"))
            one[key] = float(np.mean(values) if mean else np.median(values))
        out.append(one)
    return out


def table(results, threads):
    """Markdown of one number of threads, a section a task, the best figures in bold."""
    rows = [one for one in summary(results) if one["threads"] == threads]
    lines = []
    for task in dict.fromkeys(one["task"] for one in rows):
        mine = sorted((one for one in rows if one["task"] == task), key=ours_first)
        best = {key: max(round(one[key], 4) for one in mine) for key in ("p1", "p5")}
        facts = results["tasks"].get(task, {})
        lines += [
            "",
            f"**{task}**: {facts.get('n_train', 0):,} rows, {facts.get('n_labels', 0):,} labels, "
            f"{facts.get('features_a_row')} features and {facts.get('labels_a_row')} labels a row",
            "",
            "| | P@1 | P@5 | nll | training, s | CPU s | peak, MiB | file, MiB | model, MiB | "
            "CPU µs a query, beam 10 | exact |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for one in mine:
            cells = [
                one["name"],
                *(bold(round(one[key], 4), best[key]) for key in ("p1", "p5")),
                cell(one.get("nll"), ".2f"),
                cell(one["train_s"], ".1f"),
                cell(one["train_cpu_s"], ".1f"),
                cell(one["peak_mib"], ",.0f"),
                cell(one["file_mib"], ".1f"),
                cell(one["model_mib"], ".0f"),
                cell(beam(one), ",.0f"),
                cell(one.get("cpu us, exact"), ",.0f"),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ours_first(one):
    return not one["name"].startswith("ours"), one["name"]


def beam(one):
    """CPU microseconds a query with beam 10, in the contestant's fastest form."""
    return min(
        (value for key, value in one.items() if key.startswith("cpu us, beam")), default=None
    )


def comparison(results, threads):
    """Ours against the peers, a line a task: what is to be seen first."""
    rows = [one for one in summary(results) if one["threads"] == threads]
    lines = [
        "| task | P@1: one tree, three, best peer | P@5 | CPU of training: omikuji, PECOS | "
        "CPU of beam 10: omikuji, PECOS | exact: napkinXC | peak | added | file |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for task in dict.fromkeys(one["task"] for one in rows):
        mine = {one["name"]: one for one in rows if one["task"] == task}
        peers = [one for name, one in mine.items() if not name.startswith(("ours", "flat"))]
        if "ours" not in mine or not peers:
            continue
        one = mine["ours"]
        cells = [task, *(triple(mine, peers, key) for key in ("p1", "p5"))]
        for value in (lambda row: row["train_cpu_s"], beam):
            pair = [times(mine.get(name), one, value) for name in ("omikuji", "PECOS")]
            cells.append(", ".join(filter(None, pair)))
        cells.append(times(mine.get("napkinXC PLT"), one, lambda row: row.get("cpu us, exact")))
        theirs = mine.get("omikuji")
        for value in (lambda row: row["peak_mib"], added, lambda row: row["file_mib"]):
            cells.append(cell(theirs and value(one) / value(theirs), ".2f"))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def added(one):
    """MiB that training needs beside what the process holds before it: library and rows."""
    return one["peak_mib"] - one["before_mib"]


def triple(mine, peers, key):
    """Ours with one tree, with three, and the best peer, who is named where it wins."""
    best = max(peers, key=lambda one: one[key])
    forest = mine.get("ours, 3 trees", {}).get(key)
    ours = max(mine["ours"][key], forest or 0)
    name = f" **{best['name']}**" if best[key] > ours else ""
    return f"{mine['ours'][key]:.3f}, {cell(forest, '.3f') or '–'}, {best[key]:.3f}{name}"


def times(theirs, ours, value):
    """Theirs divided by ours."""
    if theirs is None or value(theirs) is None:
        return ""
    ratio = value(theirs) / value(ours)
    return f"{ratio:.0f}×" if ratio >= 10 else f"{ratio:.1f}×"


def cell(value, form):
    return "" if value is None else format(value, form)


def bold(value, best):
    return f"**{value:.3f}**" if value == best else f"{value:.3f}"


HEAD = """# Label trees beside their peers

<!-- Written by tests/benchmarks/label_trees/pages.py from docs/benchmarks/label_trees.json. -->

Each contestant trained, and answered from the files that it saved, in processes of its own, with
the settings below. `tests/benchmarks/label_trees/race.py` runs it all; `tasks.py` there says what
the tasks are made of.

P@1 and P@5 are means over seeds. Of tasks with one label a row they are the share of rows whose
class comes first, is among the first five; of tasks with several labels the precision at 1, at 5.
The best of a task are bold. Times are medians; compare the CPU seconds, for other programs ran
beside these. Queries are a batch of all test rows, top 5. *Peak* is the most memory of the process
while training, the rows included; *model* is what a process grows by when it loads the model.

## At a glance

One thread. A ratio is the peer's CPU time divided by ours; *peak*, *added* and *file* are ours
divided by omikuji's with one tree, where *added* is the peak without what the process held before
it trained, libraries and rows. A peer that is better than both of ours is named.
"""


def render(results):
    """The page as Markdown."""
    parts = [HEAD, comparison(results, 1) + "\n"]
    for threads in sorted({run["threads"] for run in results["runs"]}):
        plural = "s" if threads > 1 else ""
        parts.append(f"## {threads} thread{plural}\n{table(results, threads)}\n")
    parts.append("## Settings\n\n" + settings(results) + "\n")
    parts.append(machine(results) + "\n")
    return "\n".join(parts)


def settings(results):
    """One line a contestant."""
    said = {}
    for run in results["runs"]:
        if "settings" in run:
            versions = ", ".join(f"{name} {value}" for name, value in run["versions"].items())
            said[run["name"]] = f"- **{run['name']}** ({versions}): {run['settings']}"
    return "\n".join(said.values())


def machine(results):
    facts = results.get("machine", {})
    return ", ".join(f"{key}: {value}" for key, value in facts.items())


def pages():
    """{path: text} of what is written; nothing without runs."""
    if not RUNS.exists():
        return {}
    return {PAGE: render(json.loads(RUNS.read_text(encoding="utf-8")))}


def main(arguments):
    """Write the page, or compare it."""
    for path, text in pages().items():
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != text:
            return f"out of date: {path.name}; run tests/benchmarks/label_trees/pages.py"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
