"""The best classes by the mean probability of several trees."""

import numpy as np
import pytest

pytest.importorskip("scipy")

from scipy.sparse import csr_array, random_array
from scipy.special import logsumexp

import cython_sparseops as cso
from cython_sparseops._search import log_mean_exp, search_mean
from operators.test_hsoftmax_sparse import sparse_weights


def forest(n_trees=3, classes=70, features=40, seed=0, scale=1.0):
    """Trees of several shapes over the same classes, with random weights."""
    rng = np.random.default_rng(seed)
    order = [rng.permutation(classes).astype(float) + 1 for _ in range(n_trees)]
    arities = [4, 9, 70, 2]
    trees = []
    for t in range(n_trees):
        h = cso.Hierarchy.huffman(order[t], arity=arities[t % 4])
        W = scale * rng.normal(size=(h.n_rows, features)).astype(np.float32)
        W[rng.random(W.shape) < 0.6] = 0
        b = rng.normal(size=h.n_rows).astype(np.float32)
        W = sparse_weights(h, W.astype(np.float32), b, np.ones(h.depth, np.float32))
        trees.append((h, W))
    X = random_array((150, features), density=0.2, rng=rng, dtype=np.float32, format="csr")
    return trees, X


def means(trees, X):
    return log_mean_exp([cso.hsoftmax_log_proba(X, W, None, h) for h, W in trees])


@pytest.mark.parametrize("n_trees", [1, 2, 3, 5])
@pytest.mark.parametrize("k", [1, 5, 69, 70, 75])
@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0])
def test_it_is_sorting_the_means_ties_and_bits_included(n_trees, k, scale):
    trees, X = forest(n_trees, scale=scale)
    log_p = means(trees, X)
    order = np.lexsort((np.broadcast_to(np.arange(70), log_p.shape), -log_p))[:, :k]
    classes, log_probs = search_mean(trees, X, k)
    np.testing.assert_array_equal(classes[:, :70], order)
    np.testing.assert_array_equal(log_probs[:, :70], np.take_along_axis(log_p, order, axis=1))
    assert (classes[:, 70:] == -1).all()
    assert (log_probs[:, 70:] == -np.inf).all()


def test_independent_nodes_are_averaged_too():
    trees, X = forest()
    trees = [(h.independent(), W) for h, W in trees if (np.diff(h.row_ptr) > 1).all()]
    log_p = means(trees, X)
    classes, log_probs = search_mean(trees, X, 4)
    np.testing.assert_array_equal(log_probs, -np.sort(-log_p, axis=1)[:, :4])
    np.testing.assert_array_equal(np.take_along_axis(log_p, classes, axis=1), log_probs)


def test_a_beam_gives_exact_means_of_what_it_finds():
    trees, X = forest(scale=2.0)
    log_p = means(trees, X)
    classes, log_probs = search_mean(trees, X, 3, beam=2)
    np.testing.assert_array_equal(np.take_along_axis(log_p, classes, axis=1), log_probs)
    assert (np.diff(log_probs, axis=1) <= 0).all()
    best = -np.sort(-log_p, axis=1)[:, :3]
    assert (log_probs <= best).all()
    wide, _ = search_mean(trees, X, 3, beam=1_000)
    exact, _ = search_mean(trees, X, 3)
    np.testing.assert_array_equal(wide, exact)


def test_the_mean_is_that_of_the_probabilities():
    rng = np.random.default_rng(0)
    log_p = rng.normal(scale=20, size=(4, 5, 300)).astype(np.float32)
    log_p[0, 0, :9] = log_p[:, 1, :9] = -np.inf
    found = log_mean_exp(list(log_p))
    want = logsumexp(log_p.astype(float), axis=0) - np.log(4)
    np.testing.assert_allclose(found, want, rtol=2e-7, atol=1e-6)


@pytest.mark.parametrize("beam", [None, 3])
def test_same_bytes_for_any_threads_and_batches(beam):
    trees, X = forest(scale=0.5)
    whole = search_mean(trees, X, 5, beam=beam, num_threads=1)
    for threads in (2, 3):
        again = search_mean(trees, X, 5, beam=beam, num_threads=threads)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(whole, again, strict=True))
    parts = [search_mean(trees, X[[i]], 5, beam=beam) for i in range(20)]
    for a, b in zip(whole, zip(*parts, strict=True), strict=True):
        assert a[:20].tobytes() == np.concatenate(b).tobytes()


def test_wrong_calls_are_refused():
    trees, X = forest()
    with pytest.raises(ValueError, match="k must be at least 1"):
        search_mean(trees, X, 0)
    with pytest.raises(ValueError, match="beam must be at least 1"):
        search_mean(trees, X, 1, beam=0)
    with pytest.raises(ValueError, match="trees must have the same classes"):
        search_mean([trees[0], forest(1, classes=60)[0][0]], X, 1)
    bad = csr_array(X)
    bad.data[3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        search_mean(trees, bad, 1)
