"""The gradient of normalise: against the oracle, slopes, and by number of threads."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cython_sparseops as cso
import reference_sparse as reference
from matrices import EPS, FORMATS, dense, each_axis, each_format, make, random_matrix, values

# ---- agrees with the reference ------------------------------------------------------------------


@given(
    st.sampled_from(FORMATS),
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 1),
    st.integers(1, 20),
    st.integers(1, 20),
    st.booleans(),
    st.integers(0, 999),
)
def test_the_gradient_is_the_oracles(format, dtype, axis, rows, cols, max_norm, seed):
    D = random_matrix(rows, cols, dtype, seed)
    G = np.where(D != 0, random_matrix(rows, cols, dtype, seed + 1, 1.0), 0).astype(dtype)
    options = {"axis": axis, "norm": 1.5, "max_norm": max_norm}
    want = reference.normalize_gradient(D, G, **options)
    W = make(D, format)
    grad = make(G, format)
    if format in ("csr", "csc"):  # by the pattern of W, or as values alone
        M, Gm = (D, G) if format == "csr" else (D.T, G.T)
        grad = SimpleNamespace(**vars(W) | {"data": Gm[np.nonzero(M)]})
        flat = cso.sparse_normalize_gradient(W, grad.data, **options)
        assert np.array_equal(flat.data, cso.sparse_normalize_gradient(W, grad, **options).data)
    got = dense(cso.sparse_normalize_gradient(W, grad, **options))
    scale = np.abs(G).max() * 1.5 / max(np.abs(D[D != 0]).min(initial=1), 1e-3)
    assert np.abs(got - want * (D != 0 if format in ("csr", "csc") else 1)).max() <= 64 * EPS[
        dtype
    ] * max(scale, 1)


# ---- mathematics --------------------------------------------------------------------------------


@each_format
@each_axis
def test_the_gradient_is_the_slope(format, axis):
    D = random_matrix(6, 5, "float64", density=1.0)
    G = random_matrix(6, 5, "float64", seed=9, density=1.0)
    got = dense(
        cso.sparse_normalize_gradient(make(D, format), make(G, format), axis=axis, norm=0.7)
    )
    step = 2.0**-17  # central differences err by step² and eps / step
    for i in range(6):
        for j in range(5):
            up, down = D.copy(), D.copy()
            up[i, j] += step
            down[i, j] -= step
            slope = (
                (
                    reference.normalize(up, axis, norm=0.7)[0]
                    - reference.normalize(down, axis, norm=0.7)[0]
                )
                * G
            ).sum() / (2 * step)
            assert got[i, j] == pytest.approx(slope, abs=1e-8)


def test_the_gradient_is_at_right_angles_to_its_vector():
    D, G = random_matrix(40, 30, "float64", density=1.0), random_matrix(40, 30, "float64", 5, 1.0)
    dx = cso.sparse_normalize_gradient(D, G, axis=1)
    assert np.abs((dx * D).sum(axis=1)).max() <= 1e-13


# ---- edges --------------------------------------------------------------------------------------


@each_format
@each_axis
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_gradient_of_what_is_not_finite_is_nan(format, axis, dtype, bad):
    """Found by review: behind a NaN the upstream gradient went through unchanged."""
    D = random_matrix(7, 5, dtype, density=1.0)
    D[4, 2] = bad
    W = make(D, format)
    with pytest.raises(ValueError, match=r"^W must be finite"):
        cso.sparse_normalize_gradient(W, W, axis=axis)
    ones = np.ones_like(values(W))
    got = dense(cso.sparse_normalize_gradient(W, ones, axis=axis, check_finite=False))
    lost = np.zeros((7, 5), bool)
    lost[(slice(None), 2) if axis == 0 else 4] = True
    assert np.array_equal(np.isnan(got), lost)


# ---- rejections ---------------------------------------------------------------------------------


def test_a_gradient_of_another_shape_is_refused():
    W = reference.compress(random_matrix(6, 4))
    with pytest.raises(ValueError, match="grad must have the format and the pattern of W"):
        cso.sparse_normalize_gradient(W, reference.compress(random_matrix(6, 4, seed=1)))
    with pytest.raises(ValueError, match="grad must have"):
        cso.sparse_normalize_gradient(W, np.ones(3))
    with pytest.raises(ValueError, match=r"grad must have shape \(2, 2\), got \(2, 3\)"):
        cso.sparse_normalize_gradient(np.ones((2, 2)), np.ones((2, 3)))
