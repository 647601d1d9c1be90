"""Memory as the system counts it, in processes of their own: estimates, and no N × C array."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "tests" / "examples" / "million_classes.py"
PROMISES = ROOT / "docs" / "guide" / "promises.md"

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="no /proc to measure memory with"
)

START = """
import ctypes, gc, sys
import numpy as np
import cython_sparseops as cso
MiB = 2**20
def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))
def resident():
    gc.collect()
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)  # freed memory goes back
    return status("VmRSS")
class Peak:  # of what a block takes beyond what there is at its start
    def __enter__(self):
        self.before = resident()
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # VmHWM starts anew
        return self
    def __exit__(self, *_):
        self.bytes = status("VmHWM") - self.before
"""


# ---- promises -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_classes", [100_000, 1_000_000])
def test_a_head_that_was_trained_takes_what_was_estimated(run_python, n_classes, dtype):
    """Within 10 %. Every class is trained once: a row of zeros that nothing touched takes none."""
    code = f"""
C, D, dtype = {n_classes}, {64 if n_classes < 1_000_000 else 16}, np.dtype("{dtype}")
X = np.random.default_rng(0).normal(size=(16384, D)).astype(dtype)
counts = 1 / np.arange(1, C + 1)
def train(h, W, b, optimizer):
    for start in range(0, h.n_classes, len(X)):
        labels = np.arange(start, min(h.n_classes, start + len(X)))
        cso.hsoftmax_update(X[:len(labels)], W, b, labels, h, optimizer)
small = cso.Hierarchy.huffman(counts[:5000])  # starts workers, loads what is loaded late
train(small, *cso.init_weights(small, D, dtype=dtype), cso.SGD(0.1))
makes = [
    lambda: cso.SGD(0.1), lambda: cso.Adagrad(0.1), lambda: cso.Adam(0.01),
    lambda: cso.Adagrad(0.1, rowwise=True),
]
for make in makes if C < 1_000_000 else makes[-1:]:
    before = resident()
    optimizer = make()
    h = cso.Hierarchy.huffman(counts)
    W, b = cso.init_weights(h, D, dtype=dtype)
    train(h, W, b, optimizer)
    grown = resident() - before
    estimate = cso.estimate_memory(h, D, dtype=dtype, optimizer=optimizer)
    assert 0.9 < estimate / grown < 1.1, (optimizer, estimate / MiB, grown / MiB)
    del h, W, b, optimizer
"""
    run_python(START + code, timeout=300, OMP_NUM_THREADS="2")


def test_the_operators_that_need_no_distribution_make_no_array_of_rows_times_classes(run_python):
    """20 000 rows × 100 000 classes: 2 GB even of single bytes. All together take 64 MiB."""
    code = """
N, C, D = 20_000, 100_000, 16
h = cso.Hierarchy.balanced(C)
W, b = cso.init_weights(h, D, rng=0)
rng = np.random.default_rng(0)
X, labels = (30 * rng.normal(size=(N, D))).astype("f"), rng.integers(0, C, N)  # sure: fast search
with Peak() as peak:
    cso.hsoftmax(X, W, b, labels, h)
    cso.hsoftmax_update(X, W, b, labels, h, cso.Adagrad(0.1))
    cso.hsoftmax_search(X, W, b, h, 5)
    cso.hsoftmax_sample(X, W, b, h, 5, rng=0)
    cso.hsoftmax_log_proba(X, W, b, h, classes=labels)
    gradient = cso.hsoftmax_gradient(X, W, b, labels, h)
assert peak.bytes < 64 * MiB, peak.bytes / MiB
with Peak() as peak:  # the measure measures
    cso.hsoftmax_log_proba(X[:500], W, b, h)
assert 0.9 < peak.bytes / (500 * C * 4) < 1.2, peak.bytes / MiB
"""
    run_python(START + code, timeout=120, OMP_NUM_THREADS="2")


def test_the_classifier_makes_no_array_of_rows_times_classes(run_python):
    """fit, partial_fit, predict, score and top_k; predict_proba gives one, as it says."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    code = """
from cython_sparseops.sklearn import HSoftmaxClassifier
N, C, D = 20_000, 100_000, 16
rng = np.random.default_rng(0)
X, y = (30 * rng.normal(size=(N, D))).astype("f"), rng.integers(0, C, N)  # sure: fast search
model = HSoftmaxClassifier(hierarchy=cso.Hierarchy.balanced(C), epochs=1)
model.fit(X[:100], y[:100]).score(X[:100], y[:100])  # loads what is loaded late
with Peak() as fit:
    model.fit(X, y).partial_fit(X[:1000], y[:1000])
with Peak() as use:
    model.predict(X)
    model.top_k(X, 5)
    model.score(X, y)
assert max(fit.bytes, use.bytes) < 64 * MiB, (fit.bytes / MiB, use.bytes / MiB)
"""
    run_python(START + code, timeout=120, OMP_NUM_THREADS="2")


@pytest.mark.skipif(not PROMISES.exists(), reason="the documentation is not here")
def test_the_peak_of_a_million_classes_is_what_the_promises_say():
    text = PROMISES.read_text(encoding="utf-8")
    found = re.search(r"peak memory is (\d+) MiB.*?estimate_memory` says (\d+)", text)
    assert found, "the page of promises should give the peak memory of the example"
    peak, estimate = map(int, found.groups())
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--steps", "3"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    measured = {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()[2:]}
    assert measured["estimate"] == estimate
    assert abs(measured["peak"] / peak - 1) < 0.15
