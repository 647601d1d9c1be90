"""Memory as the system counts it, in processes of their own: estimates, and no N × C array."""

import re
from pathlib import Path

import numpy as np
import pytest

import cython_sparseops as cso
from helpers.resident import MiB, Peak, resident

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "tests" / "examples" / "million_classes.py"
PROMISES = ROOT / "docs" / "guide" / "promises.md"

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="no /proc to measure memory with"
)


# ---- promises -----------------------------------------------------------------------------------


def train_heads(n_classes, dim, dtype):
    """For each optimizer: what it is, the estimate, and by how much the process grew."""
    dtype = np.dtype(dtype)
    X = np.random.default_rng(0).normal(size=(16384, dim)).astype(dtype)
    counts = 1 / np.arange(1, n_classes + 1)

    def train(h, W, b, optimizer):
        for start in range(0, h.n_classes, len(X)):
            labels = np.arange(start, min(h.n_classes, start + len(X)))
            cso.hsoftmax_update(X[: len(labels)], W, b, labels, h, optimizer)

    small = cso.Hierarchy.huffman(counts[:5000])  # starts workers, loads what is loaded late
    train(small, *cso.init_weights(small, dim, dtype=dtype), cso.SGD(0.1))
    makes = [
        lambda: cso.SGD(0.1),
        lambda: cso.Adagrad(0.1),
        lambda: cso.Adam(0.01),
        lambda: cso.Adagrad(0.1, rowwise=True),
    ]
    found = []
    for make in makes if n_classes < 1_000_000 else makes[-1:]:
        before = resident()
        optimizer = make()
        h = cso.Hierarchy.huffman(counts)
        W, b = cso.init_weights(h, dim, dtype=dtype)
        train(h, W, b, optimizer)
        grown = resident() - before
        estimate = cso.estimate_memory(h, dim, dtype=dtype, optimizer=optimizer)
        found.append((repr(optimizer), estimate, grown))
        del h, W, b, optimizer
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_classes", [100_000, 1_000_000])
def test_a_head_that_was_trained_takes_what_was_estimated(child, n_classes, dtype):
    """Within 5 %. Every class is trained once: a row of zeros that nothing touched takes none."""
    dim = 64 if n_classes < 1_000_000 else 16
    found = child.call(train_heads, n_classes, dim, dtype, timeout=300, OMP_NUM_THREADS="2")
    assert len(found) == (4 if n_classes < 1_000_000 else 1)
    for optimizer, estimate, grown in found:
        assert 0.95 < estimate / grown < 1.05, (optimizer, estimate / MiB, grown / MiB)


def train_on_tree(kind, n_classes, dim):
    """The estimate with Adam, and by how much the process grew."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4096, dim)).astype("f")

    def build(n):
        if kind == "cluster":
            return cso.Hierarchy.cluster(vectors[:n])
        return cso.Hierarchy.balanced(n, arity=16)

    def train(h):
        W, b = cso.init_weights(h, dim)
        optimizer = cso.Adam(0.01)
        for start in range(0, h.n_classes, len(X)):
            labels = np.arange(start, min(h.n_classes, start + len(X)))
            cso.hsoftmax_update(X[: len(labels)], W, b, labels, h, optimizer)
        return W, b, optimizer

    vectors = rng.normal(size=(n_classes, 8)).astype("f")
    train(build(5000))
    before = resident()
    h = build(n_classes)
    head = train(h)
    grown = resident() - before
    return cso.estimate_memory(h, dim, optimizer=head[2]), grown


@pytest.mark.parametrize("kind", ["16-ary", "cluster"])
def test_wide_nodes_take_what_was_estimated(child, kind):
    """Within 5 %, as binary trees do."""
    estimate, grown = child.call(train_on_tree, kind, 100_000, 64, timeout=120, OMP_NUM_THREADS="2")
    assert 0.95 < estimate / grown < 1.05, (estimate / MiB, grown / MiB)


def peaks_of_operators(N, C, D):
    """Of all that need no distribution, and of one that gives 500."""
    h = cso.Hierarchy.balanced(C)
    W, b = cso.init_weights(h, D, rng=0)
    rng = np.random.default_rng(0)
    X = (30 * rng.normal(size=(N, D))).astype("f")  # sure of its classes: a fast search
    labels = rng.integers(0, C, N)
    with Peak() as peak:
        cso.hsoftmax(X, W, b, labels, h)
        cso.hsoftmax_update(X, W, b, labels, h, cso.Adagrad(0.1))
        cso.hsoftmax_search(X, W, b, h, 5)
        cso.hsoftmax_sample(X, W, b, h, 5, rng=0)
        cso.hsoftmax_log_proba(X, W, b, h, classes=labels)
        cso.hsoftmax_gradient(X, W, b, labels, h)
    with Peak() as distribution:
        cso.hsoftmax_log_proba(X[:500], W, b, h)
    return peak.bytes, distribution.bytes


def test_the_operators_that_need_no_distribution_make_no_array_of_rows_times_classes(child):
    """20 000 rows × 100 000 classes: 2 GB even of single bytes. All together take 64 MiB."""
    N, C, D = 20_000, 100_000, 16
    peak, distribution = child.call(peaks_of_operators, N, C, D, timeout=120, OMP_NUM_THREADS="2")
    assert peak < 64 * MiB, peak / MiB
    assert 0.9 < distribution / (500 * C * 4) < 1.2, distribution / MiB  # the measure measures


def peak_of_the_loss_on_one_node(N, C, D):
    """Of the loss alone: no gradient, no residuals."""
    h = cso.Hierarchy.balanced(C, arity=C)
    W, b = cso.init_weights(h, D, rng=0)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D)).astype("f")
    labels = rng.integers(0, C, N)
    cso.hsoftmax(X[:64], W, b, labels[:64], h)  # starts workers
    with Peak() as peak:
        cso.hsoftmax(X, W, b, labels, h)
    return peak.bytes


def test_the_loss_on_one_wide_node_makes_no_array_of_rows_times_classes(child):
    """4,096 rows × 50,000 classes: 781 MiB. Each worker has the logits of 32 rows."""
    peak = child.call(
        peak_of_the_loss_on_one_node, 4096, 50_000, 8, timeout=120, OMP_NUM_THREADS="2"
    )
    assert peak < 32 * MiB, peak / MiB


def peaks_of_the_classifier(N, C, D):
    """Of training, and of use."""
    from cython_sparseops.sklearn import HSoftmaxClassifier

    rng = np.random.default_rng(0)
    X = (30 * rng.normal(size=(N, D))).astype("f")  # sure of its classes: a fast search
    y = rng.integers(0, C, N)
    model = HSoftmaxClassifier(hierarchy=cso.Hierarchy.balanced(C), epochs=1)
    model.fit(X[:100], y[:100]).score(X[:100], y[:100])  # loads what is loaded late
    with Peak() as fit:
        model.fit(X, y).partial_fit(X[:1000], y[:1000])
    with Peak() as use:
        model.predict(X)
        model.top_k(X, 5)
        model.score(X, y)
    return fit.bytes, use.bytes


def test_the_classifier_makes_no_array_of_rows_times_classes(child):
    """fit, partial_fit, predict, score and top_k; predict_proba gives one, as it says."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    peaks = child.call(
        peaks_of_the_classifier, 20_000, 100_000, 16, timeout=120, OMP_NUM_THREADS="2"
    )
    assert max(peaks) < 64 * MiB, [peak / MiB for peak in peaks]


@pytest.mark.skipif(not PROMISES.exists(), reason="the documentation is not here")
def test_the_peak_of_a_million_classes_is_what_the_promises_say(child):
    text = PROMISES.read_text(encoding="utf-8")
    found = re.search(r"peak memory is (\d+) MiB.*?estimate_memory` says (\d+)", text)
    assert found, "the page of promises should give the peak memory of the example"
    peak, estimate = map(int, found.groups())
    done = child.run(EXAMPLE, "--steps", "3", timeout=300)
    measured = {line.split()[0]: int(line.split()[1]) for line in done.stdout.splitlines()[2:]}
    assert measured["estimate"] == estimate
    assert abs(measured["peak"] / peak - 1) < 0.15
