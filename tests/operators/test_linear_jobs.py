"""Nodes that are dealt over processes train to the bytes of one run."""

import numpy as np
import pytest

import cython_sparseops as cso

pytest.importorskip("scipy")
pytest.importorskip("joblib")
from joblib import parallel_config
from scipy.sparse import csr_array

from cython_sparseops._linear import _train_share, _trainer


def task(n=1500, features=200, classes=120, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.random((classes, features)) < 0.05
    labels = np.minimum(rng.zipf(1.2, n), classes) - 1
    X = (centers[labels] & (rng.random((n, features)) < 0.7)) | (rng.random((n, features)) < 0.02)
    X = X / np.maximum(1, np.sqrt(X.sum(axis=1, keepdims=True)))
    X = csr_array(X.astype(np.float32))
    return X, labels, cso.Hierarchy.cluster(cso.class_centroids(X, labels, classes), leaf=8, rng=0)


def bytes_of(W):
    return b"".join(np.ascontiguousarray(a).tobytes() for a in W.to_arrays().values())


@pytest.mark.parametrize("loss", ["squared_hinge", "softmax", "logistic"])
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_shares_of_the_nodes_make_the_same_bytes(loss, backend):
    X, labels, h = task(n=6000)  # enough rows to keep some out
    alone = cso.linear_train(X, labels, h, loss=loss, num_threads=1)
    with parallel_config(backend=backend):
        for n_jobs in (2, 3):
            shared = cso.linear_train(X, labels, h, loss=loss, n_jobs=n_jobs, num_threads=1)
            assert bytes_of(shared) == bytes_of(alone)


def test_several_labels_and_stored_weights_too():
    X, labels, h = task()
    several = csr_array((np.ones(len(labels), int), (np.arange(len(labels)), labels)))
    for tree, y, start in [(h.independent(), several, None), (h, labels, True)]:
        given = cso.linear_train(X, y, tree) if start else None
        alone = cso.linear_train(X[:400], y[:400], tree, start=given)
        shared = cso.linear_train(X[:400], y[:400], tree, start=given, n_jobs=2)
        assert bytes_of(shared) == bytes_of(alone)


def test_what_a_worker_sends_is_checked():
    X, labels, h = task()
    made = []

    def record(*arguments):
        made.append(arguments)
        return _trainer(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cython_sparseops._linear._trainer", record)
        cso.linear_train(X, labels, h)
    trained = _train_share(0, 2, *made[0])
    trainer = _trainer(*made[0])
    rng = np.random.default_rng(0)
    for end in rng.integers(1, len(trained), size=200):
        with pytest.raises(ValueError, match="trained must come from a trainer of the same input"):
            trainer.take(trained[:end])
    refused = 0
    for at in rng.integers(len(trained), size=2000):
        damaged = bytearray(trained)
        damaged[at] ^= 1 << int(rng.integers(8))
        try:
            _trainer(*made[0]).take(bytes(damaged))
        except ValueError:
            refused += 1
    assert refused > 100


def test_bad_numbers_of_jobs_are_named():
    X, labels, h = task(n=50)
    with pytest.raises(TypeError, match="n_jobs must be an integer"):
        cso.linear_train(X, labels, h, n_jobs="two")
