"""Search of many rows together: as each row alone, whatever form a node's weights take for them."""

import numpy as np
import pytest

pytest.importorskip("scipy")

from scipy.sparse import csr_array, random_array

import cython_sparseops as cso
from operators.test_hsoftmax_sparse import sparse_weights


def setting(density, seed=0, classes=90, features=200, n=400, share=0.2):
    """A tree, weights of which this share is not 0, and rows."""
    rng = np.random.default_rng(seed)
    h = cso.Hierarchy.balanced(classes, arity=30)
    W = rng.normal(size=(h.n_rows, features)).astype(np.float32)
    W[rng.random(W.shape) > share] = 0
    W = sparse_weights(h, W, rng.normal(size=h.n_rows).astype(np.float32), np.ones(2, np.float32))
    X = random_array((n, features), density=density, rng=rng, dtype=np.float32, format="csr")
    return h, W, X


def alone(X, W, h, **options):
    """Each row searched by itself."""
    options["k"] = options.get("k", 5)
    found = [cso.hsoftmax_search(X[[i]], W, None, h, **options) for i in range(X.shape[0])]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


# sparse tables, and matrices without gaps
@pytest.mark.parametrize("share", [0.02, 0.2, 0.9])
@pytest.mark.parametrize("options", [{}, {"beam": 2}, {"edge_beam": 2.0}, {"nodes": True}])
def test_rows_together_have_the_bytes_of_rows_alone(share, options):
    for density in (0.05, 1.0):
        h, W, X = setting(density, share=share)
        together = cso.hsoftmax_search(X, W, None, h, 5, **options)
        for a, b in zip(together, alone(X[:40], W, h, **options), strict=True):
            assert a[:40].tobytes() == b.tobytes()


def test_numbers_that_are_not_finite_do_not_meet_the_zeros_of_a_matrix():
    h, W, X = setting(1.0, share=0.5)
    X.data[5::1_000] = np.inf
    X = csr_array(X)
    options = {"k": 3, "check_finite": False}
    together = cso.hsoftmax_search(X, W, None, h, **options)
    for a, b in zip(together, alone(X, W, h, **options), strict=True):
        assert a.tobytes() == b.tobytes()
    with pytest.raises(ValueError, match="finite"):
        cso.hsoftmax_search(X, W, None, h)
