"""From a text file to a saved model: `sparseops supervised` and fastText, the same settings.

Each is a process of its own, reading included. By itself it takes the megabytes of text:
``python tests/benchmarks/bench_text.py 1000``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.timing import peer, row, thread_counts, zipf_labels

CLASSES, WORDS, PER_ROW = 20_000, 200_000, 24
SETTINGS = {"loss": "hs", "dim": 100, "lr": 0.5, "epoch": 2, "wordNgrams": 2, "minCount": 5}
SETTINGS |= {"bucket": 500_000}
FASTTEXT = """
import json, sys
from benchmarks.fasttext_peer import zeroed_memory
import fasttext
with zeroed_memory():
    model = fasttext.train_supervised(sys.argv[1], verbose=0, **json.loads(sys.argv[3]))
model.save_model(sys.argv[2] + ".bin")
"""


def main(quick, megabytes=None):
    """A row for each number of threads."""
    megabytes = megabytes or (16 if quick else 128)
    out = []
    with tempfile.TemporaryDirectory(prefix="sparseops-bench-") as folder:
        train, test, model = (str(Path(folder) / name) for name in ("train", "test", "model"))
        write(train, megabytes * 1_000_000, 0)
        write(test, 2_000_000, 1)
        for threads in thread_counts(quick or megabytes > 128):
            values = SETTINGS | {"thread": threads}
            options = [word for name, value in values.items() for word in (f"-{name}", str(value))]
            sparseops = [sys.executable, "-m", "cython_sparseops", "supervised"]
            contestants = {"ours": [*sparseops, "-input", train, "-output", model, *options]}
            if peer("fasttext") is not None:
                call = [sys.executable, "-c", FASTTEXT, train, model, json.dumps(values)]
                contestants["fastText"] = call
            runs = {name: [] for name in contestants}
            for _ in range(1 if quick or megabytes > 128 else 3):
                for name, command in contestants.items():
                    runs[name].append((*process(command), precision(name, model + ".bin", test)))
            out.append(compare(runs, megabytes, threads))
    return out


def compare(runs, megabytes, threads):
    found = {name: np.median(values, axis=0) for name, values in runs.items()}
    (ours_s, cpu, peak, hit), theirs = found["ours"], found.get("fastText")
    note = f"P@1 {hit:.3f}, CPU {cpu:.1f} s, {peak:,.0f} MiB"
    if theirs is not None:
        note += f"; fastText {theirs[3]:.3f}, {theirs[1]:.1f} s, {theirs[2]:,.0f} MiB"
    name = f"text of {megabytes:,} MB to a saved model, bigrams, {SETTINGS['epoch']} epochs"
    against = "fastText hs" if theirs is not None else "none installed"
    their_ms = None if theirs is None else theirs[0] * 1e3
    return row(name, against, ours_s * 1e3, their_ms, threads, 3, note=note)


def write(path, size, seed):
    """Zipf words and labels; half of a line's words are of its label."""
    rng, words, half = np.random.default_rng(seed), np.arange(WORDS), PER_ROW // 2
    own = np.random.default_rng(2).integers(0, WORDS, (CLASSES, 12))
    names = np.array([f"w{word:x}" for word in words])
    steps, written = np.cumsum(1 / (words + 10.0)), 0
    with open(path, "w") as file:
        while written < size:
            y = zipf_labels(rng, CLASSES, 10_000)
            drawn = np.searchsorted(steps, rng.random((len(y), PER_ROW)) * steps[-1])
            drawn[:, :half] = own[y[:, None], rng.integers(0, 12, (len(y), half))]
            lines = [
                f"__label__{label} {' '.join(line)}\n"
                for label, line in zip(y.tolist(), names[drawn].tolist(), strict=True)
            ]
            written += file.write("".join(lines))


def process(command):
    """Seconds, CPU seconds and the most MiB of a process."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    start = time.perf_counter()
    child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    used = usage.ru_utime + usage.ru_stime
    return time.perf_counter() - start, used, usage.ru_maxrss / 1024


def precision(name, model, test):
    """P@1 of a saved model."""
    sparseops = [sys.executable, "-m", "cython_sparseops"]
    if name == "fastText":
        subprocess.run([*sparseops, "convert", model, "-o", model], capture_output=True, check=True)
    command = [*sparseops, "test", model, test]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith("P@1")))


if __name__ == "__main__":
    for one in main(False, int(sys.argv[1]) if sys.argv[1:] else None):
        print(f"{one['name']}, {one['threads']} threads: {one['ratio'] or 0:.2f}x", one["note"])
