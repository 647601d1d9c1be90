"""The gradient of normalise: against the oracle, slopes, and by number of threads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cython_sparseops as cso
from helpers import reference_sparse as reference
from helpers.compressed import compress
from helpers.matrices import (
    EPS,
    FORMATS,
    dense,
    each_axis,
    each_format,
    make,
    random_matrix,
    values,
    wide_matrix,
)

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
        grad = W.but(data=Gm[np.nonzero(M)])
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


@each_format
@each_axis
@pytest.mark.parametrize(
    ("dtype", "tiny", "grads"),
    [
        ("float64", (5e-324, 3e-300, 7e-9), (1.1, 3e200)),
        ("float32", (1e-45, 3e-40, 7e-9), (1.1, 3e30)),
    ],
)
@pytest.mark.parametrize("norm", [1e30, 1e100, 1e300])
def test_the_gradient_of_a_single_entry_is_zero(format, axis, dtype, tiny, grads, norm):
    """Its direction cannot change. What rounding left of it was scaled to infinity."""
    for g in grads:
        W = np.diag(np.array(tiny, dtype))
        G = np.diag(np.full(len(tiny), g, dtype))
        dx = cso.sparse_normalize_gradient(make(W, format), make(G, format), axis=axis, norm=norm)
        assert (dense(dx) == 0).all()


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


@each_format
@each_axis
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_vectors_that_are_not_scaled_pass_every_bit_of_g(format, axis, dtype):
    D = -np.abs(random_matrix(9, 9, dtype, density=1.0)) * np.asarray(1e-3, dtype)
    D[(0, ...) if axis == 1 else (..., 0)] *= np.asarray(1e6, dtype)  # this one is too long
    G = random_matrix(9, 9, dtype, seed=3, density=1.0)
    G[1:, 1] = -0.0
    G[2, 2:4] = np.inf, np.nan
    W = make(D, format)
    grad = {"csr": G.reshape(-1), "csc": G.T.reshape(-1)}.get(format, G)
    got = cso.sparse_normalize_gradient(W, grad, axis=axis, max_norm=True, check_finite=False)
    rest = (slice(1, None), ...) if axis == 1 else (..., slice(1, None))
    assert dense(got)[rest].tobytes() == G[rest].tobytes()
    assert not np.array_equal(dense(got)[0, 0], G[0, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_columns_whose_sums_lie_far_apart(dtype):
    W = wide_matrix(8000, dtype=dtype)  # two blocks of sums, and work for a team
    g = np.random.default_rng(5).normal(size=W.data.shape).astype(dtype)
    n = W.shape[1]
    x, own = W.data.astype(float), g.astype(float)
    squares = np.bincount(W.indices, x**2, n)[W.indices]
    products = np.bincount(W.indices, x * own, n)[W.indices]
    want = (own - x * products / squares) / np.sqrt(squares)
    one, three = (cso.sparse_normalize_gradient(W, g, num_threads=n).data for n in (1, 3))
    assert one.tobytes() == three.tobytes()
    assert (np.abs(one - want) <= EPS[dtype] * np.abs(want) + 1e-14).all()


# ---- rejections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 96, 1400, 2799])
def test_an_index_out_of_range_is_found_wherever_its_sum_would_lie(at):
    for bad in (-1, 20_011, np.iinfo(np.int32).max, np.iinfo(np.int32).min):
        W = wide_matrix()
        W.indices[at] = bad
        message = rf"^W.indices must be in \[0, 20011\), got {bad} at index {at}$"
        with pytest.raises(ValueError, match=message):
            cso.sparse_normalize_gradient(W, np.ones_like(W.data))


def test_a_gradient_of_another_shape_is_refused():
    W = compress(random_matrix(6, 4))
    with pytest.raises(ValueError, match="grad must have the format and the pattern of W"):
        cso.sparse_normalize_gradient(W, compress(random_matrix(6, 4, seed=1)))
    with pytest.raises(ValueError, match="grad must have"):
        cso.sparse_normalize_gradient(W, np.ones(3))
    with pytest.raises(ValueError, match=r"grad must have shape \(2, 2\), got \(2, 3\)"):
        cso.sparse_normalize_gradient(np.ones((2, 2)), np.ones((2, 3)))
