"""What 16-bit embeddings and tree rows cost in accuracy and loss, and what they save.

In turns with float32, the same seeds. By itself it prints the table over five seeds:
``python tests/benchmarks/bench_mixed.py [SEEDS]``; with ``--memory`` the peak of training a
million classes on a million features, in a process of its own for each dtype.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.data import synthetic, wordnet
from benchmarks.timing import row, set_threads, thread_counts
from cython_sparseops import hsoftmax
from cython_sparseops.sklearn import HSoftmaxClassifier

DTYPES = ("float32", "bfloat16", "float16")
EPOCHS = 5


def main(quick):
    """A row for each task and 16-bit dtype, against float32."""
    out, threads = [], thread_counts()[-1]
    set_threads(threads)
    for data in tasks(quick):
        found = measure(data, range(1 if quick else 3))
        base = found["float32"]
        for dtype in DTYPES[1:]:
            seconds, p_at_1, nll = found[dtype]
            note = f"P@1 {p_at_1:.4f} against {base[1]:.4f}; nll {nll:.3f} against {base[2]:.3f}"
            out.append(
                row(
                    f"training {data.name} in {dtype}",
                    "float32",
                    seconds * 1e3,
                    base[0] * 1e3,
                    threads,
                    note=note,
                )
            )
    return out


def tasks(quick):
    rows = 20_000 if quick else 200_000
    return [
        wordnet(quick),
        synthetic(20_000, rows, 5_000),
        synthetic(1_000, rows // 2, 5_000, per_row=60, n_features=4_000, seed=1),
    ]


def measure(data, seeds, dtypes=DTYPES):
    """Of each dtype the median seconds of fit, and the means of P@1 and nll on test rows."""
    runs = {dtype: [] for dtype in dtypes}
    for seed in seeds:
        for dtype in dtypes:
            runs[dtype].append(run(data, seed, dtype=dtype, epochs=EPOCHS))
    return {
        dtype: (np.median([r[0] for r in found]), *np.mean([r[1:] for r in found], axis=0))
        for dtype, found in runs.items()
    }


def run(data, seed, **options):
    """Seconds of fit, P@1, and the mean loss of test rows of classes that were trained."""
    model = HSoftmaxClassifier(random_state=seed, **options)
    start = time.perf_counter()
    model.fit(data.X, data.y)
    seconds = time.perf_counter() - start
    hit = float(np.mean(model.predict(data.X_test) == data.y_test))
    known = np.isin(data.y_test, model.classes_)
    labels = np.searchsorted(model.classes_, data.y_test[known])
    trained = model.model_
    hidden = trained.hidden(data.X_test[known].astype(np.float32))
    nll = hsoftmax(hidden, trained.W, trained.b, labels, trained.hierarchy)
    return seconds, hit, float(nll.mean())


def peak(dtype):
    """MiB that training a million classes × 128 on a million features takes at its peak."""
    code = f"from benchmarks.bench_mixed import train_a_million; train_a_million({dtype!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    return float(done.stdout)


def train_a_million(dtype, n=1_000_000, rows=20_000):
    from scipy.sparse import csr_matrix

    from cython_sparseops import Hierarchy

    rng = np.random.default_rng(0)
    indices = rng.integers(0, n, 10 * rows).astype(np.int32)
    ptr = np.arange(rows + 1, dtype=np.int32) * 10
    X = csr_matrix((np.ones(10 * rows, np.float32), indices, ptr), (rows, n))
    y, tree = rng.integers(0, n, rows), Hierarchy.huffman(1 / np.arange(1.0, n + 1))
    options = {} if dtype is None else {"dtype": dtype}
    model = HSoftmaxClassifier(128, hierarchy=tree, epochs=2, random_state=0, **options)
    model.fit(X, y, classes=np.arange(n))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        for dtype in (None, *DTYPES):
            print(dtype or "default", f"{peak(dtype):,.0f} MiB", flush=True)
    else:
        for data in tasks(False):
            for dtype, found in measure(data, range(int((sys.argv[1:2] or [5])[0]))).items():
                print(
                    data.name, dtype, "{:.2f} s, P@1 {:.4f}, nll {:.4f}".format(*found), flush=True
                )
