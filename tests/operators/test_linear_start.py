"""`linear_train(start=)`: weights that go on from stored ones."""

import numpy as np
import pytest

pytest.importorskip("scipy")

from scipy.sparse import csr_array
from scipy.special import softmax

from cython_sparseops import Hierarchy, linear_train
from operators.test_linear import EXACT, arrays_equal, dense_rows, documents, flat

C = 2.0


def slopes(loss, scores, positive):
    """The derivative of the loss by each score."""
    sign = np.where(positive, 1.0, -1.0)
    if loss == "squared_hinge":
        return -2 * sign * np.maximum(0, 1 - sign * scores)
    if loss == "logistic":
        return -sign / (1 + np.exp(sign * scores))
    return softmax(scores, axis=1) - positive


@pytest.mark.parametrize("loss", ["squared_hinge", "softmax", "logistic"])
def test_it_minimizes_the_loss_of_the_new_rows_and_the_distance_to_the_start(loss):
    h = flat(12)
    X, labels = documents(seed=1)
    start = linear_train(*documents(), h, loss=loss)  # of other tastes
    W = linear_train(X, labels, h, loss=loss, C=C, start=start, **EXACT)
    (old, old_bias), (rows, bias) = dense_rows(start), dense_rows(W)
    D = X.toarray().astype(float)
    change = C * slopes(loss, D @ rows.T + bias, labels[:, None] == np.arange(12))
    assert np.abs(rows - old + change.T @ D).max() < 1e-3
    assert np.abs(bias - old_bias + change.sum(axis=0)).max() < 1e-3
    assert np.array_equal(W.temperatures, start.temperatures)


@pytest.mark.parametrize("loss", ["squared_hinge", "softmax", "logistic"])
def test_no_rows_change_nothing_and_threads_no_byte(loss):
    X, labels = documents(n=900)
    h = Hierarchy.balanced(12, arity=3)
    start = linear_train(X[:600], labels[:600], h, loss=loss)
    empty = csr_array((0, X.shape[1]), dtype=np.float32)
    assert arrays_equal(linear_train(empty, [], h, loss=loss, start=start), start)
    nothing = linear_train(X[:1], labels[:1], h, sample_weight=[0], loss=loss, start=start)
    assert arrays_equal(nothing, start)
    found = [
        linear_train(X[600:], labels[600:], h, loss=loss, start=start, num_threads=n)
        for n in (1, 2, 3)
    ]
    assert arrays_equal(found[0], found[1])
    assert arrays_equal(found[0], found[2])
    assert not arrays_equal(found[0], start)


def test_binary_nodes_go_on_too():
    X, labels = documents(classes=2)
    h = Hierarchy.balanced(2)
    start = linear_train(X[:100], labels[:100], h)
    W = linear_train(X, labels, h, C=C, start=start, **EXACT)
    (old, old_bias), (rows, bias) = dense_rows(start), dense_rows(W)
    D = X.toarray().astype(float)
    change = C * slopes("squared_hinge", D @ rows.T + bias, labels[:, None] == 1)
    assert np.abs(rows - old + change.T @ D).max() < 1e-3
    assert np.abs(bias - old_bias + change.sum(axis=0)).max() < 1e-3


def test_weights_for_new_features_are_added_and_small_ones_dropped():
    X, labels = documents()
    h = flat(12)
    first = X.toarray()
    first[:, 30:] = 0
    start = linear_train(csr_array(first), labels, h, threshold=0.05)
    assert start.to_arrays()["feature"].max() < 30
    W = linear_train(X, labels, h, start=start, threshold=0.3)
    assert W.to_arrays()["feature"].max() >= 30
    assert np.abs(W.to_arrays()["weight"]).min() > 0.3


def test_a_start_that_does_not_fit_is_refused():
    X, labels = documents()
    h = flat(12)
    start = linear_train(X, labels, h)
    with pytest.raises(ValueError, match="start must have the rows of the tree's nodes"):
        linear_train(X, labels, Hierarchy.balanced(12, arity=3), start=start)
    with pytest.raises(ValueError, match="start must have a column for each of X, 59, got 60"):
        linear_train(X[:, :59], labels, h, start=start)
    with pytest.raises(TypeError, match="h must be a Hierarchy, got"):  # found by hostile calls
        linear_train(X, labels, object.__new__(Hierarchy))
    with pytest.raises(TypeError, match="start must be SparseWeights or None, got"):
        linear_train(X, labels, h, start=np.ones((12, 60)))
