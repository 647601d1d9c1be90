"""`sparse_normalize` of SparseWeights."""

import numpy as np
import pytest

pytest.importorskip("scipy")

import cython_sparseops as cso
from operators.test_search_blocks import setting


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("ord", ["l1", "l2", "max"])
@pytest.mark.parametrize("options", [{}, {"max_norm": True, "norm": 3.0}, {"threshold": 0.5}])
def test_it_is_the_normalized_matrix(axis, ord, options):
    h, W, X = setting(0.1)
    dense = W.to_scipy().toarray()
    want, norms = cso.sparse_normalize(dense, axis=axis, ord=ord, return_norms=True, **options)
    found = cso.sparse_normalize(W, axis=axis, ord=ord, return_norms=True, **options)
    np.testing.assert_allclose(found.W.to_scipy().toarray(), want, rtol=1e-6)
    np.testing.assert_allclose(found.norms, norms, rtol=1e-12)
    np.testing.assert_array_equal(found.W.bias, W.bias)
    np.testing.assert_array_equal(found.W.temperatures, W.temperatures)
    assert cso.hsoftmax_search(X, found.W, None, h, 2).classes.shape == (400, 2)


def test_pruned_weights_go_and_threads_change_no_byte():
    _, W, _ = setting(0.1)
    found = [
        cso.sparse_normalize(W, axis=1, threshold=0.7, prune=True, num_threads=n) for n in (1, 2, 3)
    ]
    assert found[0].nnz == W.prune(0.7).nnz < W.nnz
    assert len({one.to_arrays()["weight"].tobytes() for one in found}) == 1


def test_in_place_is_refused():
    _, W, _ = setting(0.1)
    with pytest.raises(ValueError, match="copy must be True for SparseWeights"):
        cso.sparse_normalize(W, axis=1, copy=False)
