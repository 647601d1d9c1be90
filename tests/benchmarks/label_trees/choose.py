"""What `choose` takes for tasks that ``tasks.py`` wrote: python choose.py FOLDER …"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.label_trees.forms import TOP, Task
from cython_sparseops import precision_at_k, recall_at_k
from cython_sparseops.sklearn import choose


def measure(folder):
    """Print the table of one task, and what the winner does on its test rows."""
    task = Task(folder)
    found, report = choose(task.rows("train"), task.labels("train"), time_budget=90, random_state=0)
    ranked = found.top_k(task.rows("test"), TOP).labels
    truth = task.matrix("Y_test")
    figures = [f(truth, ranked, k) for f, k in ((precision_at_k, 1), (precision_at_k, 5))]
    figures.append(recall_at_k(truth, ranked, TOP))
    print(task.task, report, sep="\n")
    print("test: P@1 {:.4f}, P@5 {:.4f}, R@5 {:.4f}".format(*figures))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        measure(name)
