"""Centroids of classes, trees clustered from vectors, the tree of an adaptive softmax."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

pytest.importorskip("scipy")

from scipy.sparse import csr_array, random_array

import cython_sparseops as cso
from cython_sparseops import Hierarchy, class_centroids
from helpers.compressed import Compressed


def documents(n, features, classes, seed=0, dtype=np.float32):
    """Rows around a centre a class; their classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    centres = random_array((classes, features), density=0.1, rng=rng, format="csr")
    noise = random_array((n, features), density=0.02, rng=rng, format="csr")
    return csr_array(centres[labels] + 0.3 * noise).astype(dtype), labels


def indicator(lists, classes):
    ptr = np.cumsum([0, *map(len, lists)])
    classes_of = np.concatenate([np.sort(np.asarray(of, np.int64)) for of in lists])
    return csr_array((np.ones(ptr[-1]), classes_of, ptr), shape=(len(lists), classes))


def leaves(h):
    """The classes below each last node."""
    children = [h.child[h.child_ptr[v] : h.child_ptr[v + 1]] for v in range(h.n_nodes)]
    return [~below for below in children if (below < 0).all()]


# ---- agrees with the reference ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_centroids_are_the_unit_sums_of_the_rows(dtype, index):
    X, labels = documents(500, 80, 30, dtype=dtype)
    X.indptr, X.indices = X.indptr.astype(index), X.indices.astype(index)
    sums = np.zeros((30, 80))
    np.add.at(sums, labels, X.toarray().astype(float))
    eps = np.finfo(dtype).eps
    Z = class_centroids(X, labels, 30, normalize=False)
    assert Z.dtype == dtype
    assert Z.has_sorted_indices
    assert_allclose(Z.toarray(), sums, rtol=2 * eps, atol=0)
    unit = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-300)
    assert_allclose(class_centroids(X, labels, 30).toarray(), unit, rtol=4 * eps, atol=0)
    assert_allclose(class_centroids(X.toarray(), labels, 30), unit, rtol=4 * eps, atol=0)


def test_a_row_counts_for_each_of_its_classes():
    X = csr_array(np.array([[3.0, 0.0], [0.0, 4.0]]))
    Y = indicator([[0, 2], [2]], 3)
    got = class_centroids(X, Y, 3, normalize=False).toarray()
    assert_array_equal(got, [[3, 0], [0, 0], [3, 4]])
    assert_array_equal(class_centroids(X.toarray(), Y, 3, normalize=False), got)


def test_sparse_and_dense_vectors_give_trees_of_the_same_quality():
    X, labels = documents(3000, 100, 64)
    Z = class_centroids(X, labels, 64)
    trees = [Hierarchy.cluster(v, arity=4, leaf=4) for v in (Z, Z.toarray())]
    assert [t.n_nodes for t in trees] == [21, 21]
    assert [sorted(map(len, leaves(t))) for t in trees] == [[4] * 16] * 2


# ---- mathematics --------------------------------------------------------------------------------


def test_classes_that_are_alike_share_a_leaf():
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(16), 8))
    vectors = np.eye(16)[group] + 0.02 * rng.normal(size=(128, 16))
    for v in (vectors, csr_array(vectors)):
        h = Hierarchy.cluster(v, arity=4, leaf=8, rng=1)
        together = [len(set(group[leaf])) for leaf in leaves(h)]
        assert len(together) == 16
        assert np.mean(together) < 1.6  # of random leaves: 6.5


@pytest.mark.parametrize("n", [1, 2, 3, 5, 100, 257, 1000])
@pytest.mark.parametrize("leaf", [1, 4, 30])
def test_every_class_is_there_once_and_leaves_have_the_size_asked_for(n, leaf):
    vectors = np.random.default_rng(n).normal(size=(n, 8))
    h = Hierarchy.cluster(vectors, arity=8, leaf=leaf)  # from_buffers checks that it is a tree
    assert h.n_classes == n
    for below in leaves(h):
        assert len(below) <= max(8, 1.5 * leaf + 1)  # classes alone hang below a node of 8


def test_halves_of_equal_mass_give_frequent_classes_short_paths():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(256, 8))
    counts = 1.0 / np.arange(1, 257) ** 1.5
    by_mass = Hierarchy.cluster(vectors, arity=2, leaf=2, counts=counts, balance="mass")
    by_classes = Hierarchy.cluster(vectors, arity=2, leaf=2, counts=counts, balance="classes")
    expected = [np.average(np.diff(h.path_ptr), weights=counts) for h in (by_mass, by_classes)]
    assert expected[0] < expected[1]
    skewed = Hierarchy.cluster(vectors, arity=2, leaf=2, counts=counts)
    even = Hierarchy.cluster(vectors, arity=2, leaf=2, counts=np.ones(256))
    assert skewed == by_mass  # one class has more than a twentieth of the counts
    assert even == by_classes


# ---- edges --------------------------------------------------------------------------------------


def test_classes_without_rows_are_dealt_evenly():
    vectors = np.random.default_rng(0).normal(size=(96, 8))
    vectors[::2] = 0
    for v in (vectors, csr_array(vectors)):
        h = Hierarchy.cluster(v, arity=4, leaf=6)
        sizes = [(np.sum(leaf % 2 == 0), len(leaf)) for leaf in leaves(h)]
        assert sizes == [(3, 6)] * 16


def test_only_empty_vectors_give_a_balanced_tree():
    h = Hierarchy.cluster(csr_array((64, 5)), arity=4, leaf=4)
    assert [len(leaf) for leaf in leaves(h)] == [4] * 16
    assert Hierarchy.cluster(np.zeros((64, 0)), arity=4, leaf=4) == h


def test_equal_vectors_are_halved_all_the_same():
    h = Hierarchy.cluster(np.ones((64, 3)), arity=4, leaf=4)
    assert [len(leaf) for leaf in leaves(h)] == [4] * 16


def test_a_matrix_that_is_not_scipys_gives_its_parts():
    X, labels = documents(50, 20, 5)
    parts = Compressed(X.indptr, X.indices, X.data, X.shape, "csr")
    got, wanted = class_centroids(parts, labels, 5), class_centroids(X, labels, 5)
    assert got.shape == (5, 20)
    assert_array_equal(got.data, wanted.data)


def test_an_adaptive_tree_has_the_shape_of_torchs():
    counts = [5, 100, 50, 4, 3, 2, 1]
    h = Hierarchy.adaptive(counts, cutoffs=[2, 4])
    assert np.diff(h.path_ptr).tolist() == [2, 1, 1, 2, 2, 2, 2]
    assert sorted(np.diff(h.child_ptr).tolist()) == [2, 3, 4]
    assert h.n_rows == 2 + 2 + 2 + 3  # head: two classes and two clusters; the clusters' classes
    assert Hierarchy.adaptive(counts).depth == 2
    assert Hierarchy.adaptive([1.0]).n_classes == 1
    assert Hierarchy.adaptive(np.zeros(4)).n_classes == 4


# ---- rejections ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"arity": 10}, "arity must be a power of two, got 10"),
        ({"arity": 1}, "arity must be a power of two, got 1"),
        ({"leaf": 0}, "leaf must be at least 1, got 0"),
        ({"balance": "counts"}, "balance must be 'auto', 'classes' or 'mass', got 'counts'"),
        ({"balance": "mass"}, "counts must be given for balance='mass', got None"),
        ({"counts": [1.0]}, "counts must have 3 entries, got 1"),
        ({"counts": [1, -1, 1]}, "counts must be finite and non-negative, got -1 at index 1"),
        ({"rng": -1}, "rng must be in [0, 2**64), got -1"),
    ],
)
def test_options_of_cluster_are_refused(change, text):
    with pytest.raises(ValueError) as error:
        Hierarchy.cluster(np.eye(3), **change)
    assert str(error.value) == text


def test_malformed_input_is_refused():
    X, labels = documents(20, 10, 4)
    bad = X.copy()
    bad.indices[3] = 10
    with pytest.raises(ValueError, match=r"^X.indices must be in \[0, 10\), got 10 at index 3$"):
        class_centroids(bad, labels, 4)
    bad = X.copy()
    bad.data[2] = np.nan
    with pytest.raises(ValueError, match=r"^X must be finite, got nan at stored value 2$"):
        class_centroids(bad, labels, 4)
    with pytest.raises(ValueError, match=r"^vectors must be finite, got nan at stored value 2$"):
        Hierarchy.cluster(bad)
    with pytest.raises(ValueError, match=r"^labels must be in \[0, 2\), got \d at index \d+$"):
        class_centroids(X, labels, 2)
    with pytest.raises(ValueError, match=r"^labels must have one entry a row of X, 20, got 3$"):
        class_centroids(X, labels[:3], 4)
    with pytest.raises(ValueError, match=r"^labels must have shape \(20, 4\), got \(20, 5\)$"):
        class_centroids(X, csr_array((20, 5)), 4)
    with pytest.raises(ValueError, match=r"^labels.data must be 0 or 1, got 2.0 at index 0$"):
        class_centroids(X[:1], csr_array([[0, 2.0, 0, 0]]), 4)
    twice = Compressed(np.array([0, 2]), np.array([1, 1]), np.ones(2), (1, 4), "csr")
    with pytest.raises(ValueError, match=r"^labels must not repeat within a row, got 1 twice"):
        class_centroids(X[:1], twice, 4)
    with pytest.raises(ValueError, match=r"^X must have sums that are finite, got another for"):
        class_centroids(np.full((2, 1), 1.5e308), [0, 0], 1)
    with pytest.raises(ValueError, match=r"^cutoffs must rise within \[1, 2\], got \[2, 2\]$"):
        Hierarchy.adaptive([1, 1, 1], cutoffs=[2, 2])


# ---- promises -----------------------------------------------------------------------------------


def test_threads_never_change_centroids_or_trees():
    X, labels = documents(6000, 400, 500)
    Z = class_centroids(X, labels, 500, num_threads=1)
    h = Hierarchy.cluster(Z, arity=4, leaf=8, num_threads=1)
    dense = Hierarchy.cluster(Z.toarray(), arity=4, leaf=8, num_threads=1)
    for threads in (2, 3):
        other = class_centroids(X, labels, 500, num_threads=threads)
        assert other.data.tobytes() == Z.data.tobytes()
        assert Hierarchy.cluster(Z, arity=4, leaf=8, num_threads=threads) == h
        assert Hierarchy.cluster(Z.toarray(), arity=4, leaf=8, num_threads=threads) == dense
    assert Hierarchy.cluster(Z, arity=4, leaf=8, rng=1) != h


def test_input_may_be_read_only():
    X, labels = documents(100, 30, 10)
    for array in (X.data, X.indices, X.indptr, labels):
        array.flags.writeable = False
    Z = class_centroids(X, labels, 10)
    assert cso.Hierarchy.cluster(Z, leaf=3).n_classes == 10
