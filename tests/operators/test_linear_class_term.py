"""The class term of linear training: what it adds to the rows, where, and what that gains."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

pytest.importorskip("scipy")

from scipy.sparse import csr_array

from cython_sparseops import Hierarchy, class_centroids, hsoftmax, linear_train


def documents(n, classes, features=400, seed=0):
    """Unit rows of eight draws from the distribution of their class."""
    rng = np.random.default_rng(seed)
    taste = rng.dirichlet(np.full(features, 0.03), size=classes)
    labels = rng.integers(0, classes, n)
    D = np.log1p(np.array([rng.multinomial(8, taste[c]) for c in labels], np.float32))
    return csr_array(D / np.linalg.norm(D, axis=1, keepdims=True)), labels


def rare(n=6000, seed=0):
    """A few rows a class, where centroids know more than trained rows."""
    return documents(n, classes=1200, seed=seed)


def clustered(X, labels, **kwargs):
    vectors = class_centroids(X, labels, labels.max() + 1)
    return Hierarchy.cluster(vectors, arity=4, leaf=40, **kwargs)


def centroid_of_rows(h, X, labels, weight):
    """(R, D): for each row of W the weighted sum of rows of X below its child, at unit length."""
    D = X.toarray().astype(float) * weight[:, None]
    below = np.zeros((2, h.n_rows, X.shape[1]))  # of a logistic node both children
    for c in range(h.n_classes):
        total = D[labels == c].sum(axis=0)
        steps = slice(h.path_ptr[c], h.path_ptr[c + 1])
        for v, child in zip(h.path_node[steps], h.path_child[steps], strict=True):
            one_row = h.row_ptr[v + 1] - h.row_ptr[v] == 1
            first = one_row and child == 0
            below[int(first), h.row_ptr[v] + (0 if one_row else child)] += total
    norm = np.linalg.norm(below, axis=2, keepdims=True)
    return np.subtract(*(below / np.where(norm > 0, norm, 1)))


def differences(h, X, labels, weight=None, **options):
    """What the term adds to each row, and what it should be a multiple of, by depth."""
    options |= {"threshold": 0.0, "sample_weight": weight}
    with_term = linear_train(X, labels, h, **options)
    without = linear_train(X, labels, h, class_term=False, **options)
    assert_array_equal(with_term.bias, without.bias)
    added = with_term.to_scipy().toarray().astype(float) - without.to_scipy().toarray()
    weight = np.ones(len(labels)) if weight is None else weight
    wanted = centroid_of_rows(h, X, labels, weight)
    level = np.zeros(h.n_nodes, int)
    for c in range(h.n_classes):
        steps = slice(h.path_ptr[c], h.path_ptr[c + 1])
        level[h.path_node[steps]] = np.arange(h.path_ptr[c + 1] - h.path_ptr[c])
    of_row = np.repeat(level, np.diff(h.row_ptr))
    return [(added[of_row == d], wanted[of_row == d]) for d in range(h.depth)]


def multiple(added, wanted):
    """The factor between the two, which they must have."""
    factor = float((added * wanted).sum() / (wanted * wanted).sum())
    assert_allclose(added, factor * wanted, atol=1e-5 * max(1, factor))
    return factor


def test_it_adds_a_multiple_of_the_centroids_above_the_classes():
    X, labels = rare()
    h = clustered(X, labels)
    assert h.depth > 1
    *upper, last = differences(h, X, labels)
    assert multiple(*last) > 0.5
    for added, _ in upper:
        assert_array_equal(added, 0)


def test_on_a_tree_of_other_origin_every_depth_may_have_one():
    X, labels = rare()
    h = Hierarchy.balanced(1200, arity=2)  # logistic nodes
    weight = np.random.default_rng(0).integers(1, 4, len(labels)).astype(float)
    factors = [multiple(*d) for d in differences(h, X, labels, weight, clustered=False)]
    assert min(factors) >= 0
    assert sum(factor > 0 for factor in factors) > 1


def test_several_labels_of_a_row_have_it_too():
    X, labels = rare()
    other = np.random.default_rng(0).integers(0, 1200, len(labels))
    each = np.concatenate([labels, other])
    rows = np.tile(np.arange(len(labels)), 2)
    Y = csr_array((np.ones(len(each)), (rows, each)), shape=(len(labels), 1200))
    Y.data[:] = 1
    h = clustered(X, labels).independent()
    W, without = (linear_train(X, Y, h, class_term=term, threshold=0.0) for term in (True, False))
    added = (W.to_scipy() - without.to_scipy()).toarray()
    assert np.abs(added).max() > 0.1
    assert (added > -1e-5).all()


def test_it_lowers_the_loss_of_new_rows():
    X, labels = rare(9000)
    train, test = slice(0, 6000), slice(6000, None)
    h = clustered(X[train], labels[train])
    nll = [
        hsoftmax(X[test], linear_train(X[train], labels[train], h, class_term=term), None,
                 labels[test], h).mean()
        for term in (True, False)
    ]  # fmt: skip
    assert nll[0] < nll[1] - 0.05


def test_where_it_gains_nothing_nothing_is_added():
    X, labels = documents(6000, classes=4)
    labels = np.random.default_rng(0).permutation(labels)
    h = Hierarchy.balanced(4, arity=4)
    W, without = (linear_train(X, labels, h, class_term=term) for term in (True, False))
    for name, array in W.to_arrays().items():
        assert_array_equal(array, without.to_arrays()[name])


def test_small_weights_are_dropped_of_the_sum():
    X, labels = rare()
    h = clustered(X, labels)
    W = linear_train(X, labels, h)
    assert np.abs(W.to_arrays()["weight"]).min() > 0.1
    assert W.nnz < 1.5 * linear_train(X, labels, h, class_term=False).nnz


@pytest.mark.parametrize("name", ["clustered", "class_term"])
def test_flags_are_refused(name):
    X, labels = documents(20, classes=4)
    with pytest.raises(TypeError, match=f"^{name} must be True or False, got 'yes'$"):
        linear_train(X, labels, Hierarchy.balanced(4), **{name: "yes"})
