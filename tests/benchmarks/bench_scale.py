"""Trees of 10^4 to 10^7 classes: seconds to build and to load them, and the memory they take.

Ours alone, each size in a process of its own. By itself it prints a table, for whichever version
the Python at hand has: ``python tests/benchmarks/bench_scale.py [CLASSES ...]``.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZES = 10_000, 100_000, 1_000_000, 10_000_000
STEPS = "build Huffman", "build two-level", "load mapped Huffman"


def main(quick):
    """One row for each size and step, in milliseconds of the processor."""
    from benchmarks.timing import row

    out = []
    for n_classes in SIZES[:3] if quick else SIZES:
        found = measure(n_classes)
        for step in STEPS:
            note = f"peak {found['peak']:.0f} MiB" if step == STEPS[0] else ""
            out.append(row(f"{step} C={n_classes}", "", 1e3 * found[step], None, 1, note=note))
    return out


def measure(n_classes):
    """Seconds of each step, and MiB of the tree and of the peak while it is built."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(n_classes)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout)


def child(n_classes):
    """What `measure` asks for, printed as JSON: the best of three, or of one above 10^6 classes."""
    from cython_sparseops import Hierarchy

    counts = np.random.default_rng(0).permutation(1 / np.arange(1.0, n_classes + 1))
    Hierarchy.huffman(counts[:1000])
    before = resident()
    turns = 3 if n_classes <= 1_000_000 else 1
    found = {}
    h, found[STEPS[0]] = best(turns, lambda: Hierarchy.huffman(counts))
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    found["tree"] = resident() - before
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tree.hierarchy"
        h.save(path)
        del h
        _, found[STEPS[2]] = best(turns, lambda: Hierarchy.load(path))
    _, found[STEPS[1]] = best(turns, lambda: Hierarchy.two_level(counts))
    print(json.dumps(found))


def best(turns, call):
    """The last result and the shortest time, with nothing of an earlier turn in memory."""
    shortest, result = float("inf"), None
    for _ in range(turns):
        result = None
        start = time.process_time()
        result = call()
        shortest = min(shortest, time.process_time() - start)
    return result, shortest


def resident():
    """MiB of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def table(sizes):
    """Lines of Markdown, printed one by one, for the largest takes a while."""
    print("| classes | Huffman, s | two-level, s | load, s | tree, MiB | peak of building, MiB |")
    print("|---|---|---|---|---|---|")
    for n_classes in sizes:
        found = measure(n_classes)
        seconds = " | ".join(f"{found[step]:.3g}" for step in STEPS)
        print(
            f"| {n_classes:,} | {seconds} | {found['tree']:.3g} | {found['peak']:.3g} |", flush=True
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(int(sys.argv[2]))
    else:
        table([int(size) for size in sys.argv[1:]] or SIZES)
