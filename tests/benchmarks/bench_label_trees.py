"""Training a label tree on WordNet beside its peers; label_trees/race.py does far more."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from benchmarks.label_trees.forms import Task
from benchmarks.label_trees.race import PEERS, one_run
from benchmarks.label_trees.tasks import wordnet_tasks
from benchmarks.timing import row


def main(quick):
    """For run.py: WordNet, two threads. SPARSEOPS_BENCH_PEERS: the Python of the peers, if set."""
    peers = os.environ.get("SPARSEOPS_BENCH_PEERS", sys.executable)
    rows = []
    with tempfile.TemporaryDirectory(prefix="sparseops-bench-") as folder:
        wordnet_tasks(Path(folder), ["wordnet"])
        task = Task(Path(folder) / "wordnet")
        ours = one_run("ours", task, 2, 0, sys.executable)
        if "failed" in ours:
            raise RuntimeError(ours["failed"])
        for name in ("omikuji", "PECOS", "nearest centroid") if quick else PEERS:
            run = one_run(name, task, 2, 0, peers)
            if "failed" in run:
                print(f"  skipped: {name} ({run['failed']})", file=sys.stderr)
                continue
            note = f"P@1 {ours['p1']:.3f} against {run['p1']:.3f}"
            note += f", P@5 {ours['p5']:.3f} against {run['p5']:.3f}"
            times = ours["train_s"] * 1e3, run["train_s"] * 1e3
            rows.append(row("label tree, WordNet, training", name, *times, 2, note=note))
    return rows
