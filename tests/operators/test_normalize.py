"""Rows and columns of sparse and dense matrices scaled to a norm."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cython_sparseops as cso
from helpers import reference_sparse as reference
from helpers.compressed import Compressed, compress
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
    st.sampled_from(["float16", "float32", "float64"]),
    st.sampled_from([np.int32, np.int64]),
    st.sampled_from(["l1", "l2", "max"]),
    st.integers(0, 1),
    st.integers(0, 40),
    st.integers(0, 40),
    st.booleans(),
    st.sampled_from([0.0, 0.3]),
    st.integers(0, 999),
)
def test_a_matrix_is_scaled_as_the_oracle_says(
    format, dtype, index, ord, axis, rows, cols, max_norm, threshold, seed
):
    D = random_matrix(rows, cols, dtype, seed)
    options = {"ord": ord, "norm": 1.5, "max_norm": max_norm, "threshold": threshold}
    want, norms = reference.normalize(D, axis, **options)
    if threshold:  # as compared in the dtype of W
        want, norms = reference.normalize(
            np.where(np.abs(D) <= np.dtype(dtype).type(threshold), 0, D),
            axis,
            **options | {"threshold": 0.0},
        )
    W = make(D, format, index)
    before = values(W).copy()
    got = cso.sparse_normalize(W, axis=axis, return_norms=True, **options)
    # One rounding of the result, sums in double; in float64 also one a term and two of the factor.
    n = rows if axis == 0 else cols
    tolerance = (2 if dtype != "float64" else n + 4) * EPS[dtype]
    error = np.abs(dense(got.W).astype(float) - want)
    assert (error <= tolerance * np.abs(want) + 2**-24 * (dtype == "float16")).all()
    assert np.allclose(got.norms, norms, rtol=(n + 2) * 2**-53, atol=0)
    assert values(got.W).dtype == dtype
    assert type(got.W) is type(W)
    assert np.array_equal(values(W), before)
    if format in ("csr", "csc"):
        assert got.W.format == format
        assert got.W.indices.dtype == index
        assert np.array_equal(got.W.indices, W.indices)
        assert not np.shares_memory(got.W.indices, W.indices)
    elif D.size:
        assert got.W.flags[f"{format}_CONTIGUOUS"]


@each_axis
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("copy", [False, True])
def test_bfloat16_is_computed_in_float32_and_rounded_once(axis, sparse, copy):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    values = np.random.default_rng(0).normal(size=12).astype(bfloat16)
    limit = float(abs(values[3]))

    def matrix(data):
        parts = np.array([0, 4, 8, 12]), np.tile(np.arange(4), 3), data.copy(), (3, 4)
        return Compressed(*parts) if sparse else data.reshape(3, 4).copy()

    options = {"axis": axis, "norm": 2.0, "threshold": limit, "return_norms": True}
    wide = cso.sparse_normalize(matrix(values.astype("f")), **options)
    W = matrix(values)
    got = cso.sparse_normalize(W, **options, copy=copy)
    found, want = (m.data if sparse else m.reshape(-1) for m in (got.W, wide.W))
    assert found.dtype == bfloat16
    assert found.tobytes() == want.astype(bfloat16).tobytes()
    assert got.norms.tobytes() == wide.norms.tobytes()
    assert (got.W is W) == (not copy)
    assert found[3] == 0
    huge = cso.sparse_normalize(matrix(values), threshold=1e300)
    assert not np.any(huge.data.astype("f") if sparse else huge.astype("f"))


def test_scipy_matrices_and_arrays_keep_their_type():
    sp = pytest.importorskip("scipy.sparse")
    for kind in (sp.csr_array, sp.csr_matrix, sp.csc_array, sp.csc_matrix):
        W = kind(random_matrix(20, 12))
        for axis in (0, 1):
            got = cso.sparse_normalize(W, axis=axis)
            assert type(got) is kind
            want = reference.normalize(W.toarray(), axis)[0]
            assert np.abs(got.toarray() - want).max() <= 2 * EPS["float32"]


def test_scikit_learn_says_the_same():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    sp = pytest.importorskip("scipy.sparse")
    W = sp.csr_matrix(random_matrix(200, 70, "float64"))
    for axis in (0, 1):
        for ord in ("l1", "l2", "max"):
            want = preprocessing.normalize(W, norm=ord, axis=axis).toarray()
            assert np.allclose(
                cso.sparse_normalize(W, axis=axis, ord=ord).toarray(), want, atol=1e-14
            )


# ---- mathematics --------------------------------------------------------------------------------


@each_format
@each_axis
@pytest.mark.parametrize("ord", ["l1", "l2", "max"])
def test_every_vector_that_is_not_zero_has_the_norm(format, axis, ord):
    D = random_matrix(60, 45, "float64")
    D[:, 3] = D[7] = 0
    got = dense(cso.sparse_normalize(make(D, format), axis=axis, ord=ord, norm=2.5))
    sizes = np.array([reference.NORMS[ord](v) for v in (got.T if axis == 0 else got)])
    empty = ~D.any(axis=axis)
    assert empty.any()
    assert np.array_equal(sizes[empty], np.zeros(empty.sum()))
    assert np.allclose(sizes[~empty], 2.5, rtol=200 * EPS["float64"], atol=0)


# ---- edges --------------------------------------------------------------------------------------


@each_axis
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("format", FORMATS)
def test_sizes_beyond_the_square_root_of_the_range_neither_overflow_nor_vanish(format, dtype, axis):
    info = np.finfo(dtype)
    for size in (info.max / 2, 1e30, 1e-30, info.tiny, info.smallest_subnormal * 8):
        D = np.zeros((9, 8), dtype)
        D[:, 2] = D[4] = size
        D[0, 2] = -size
        got = cso.sparse_normalize(make(D, format), axis=axis, return_norms=True)
        want, norms = reference.normalize(D / dtype_one(dtype, size), axis)
        assert np.allclose(dense(got.W), want, rtol=4 * EPS[dtype], atol=0)
        with np.errstate(over="ignore"):
            assert np.allclose(got.norms, norms * float(dtype_one(dtype, size)), rtol=1e-14, atol=0)


def dtype_one(dtype, size):
    return np.dtype(dtype).type(size)


def test_a_column_of_float64_whose_squares_underflow_beside_a_plain_one():
    """Found by thought: its sum of squares is 0, as if the column were empty."""
    D = np.array([[1e-200, 3.0, 0.0], [1e-200, 4.0, 0.0]])
    for format in FORMATS:
        got = dense(cso.sparse_normalize(make(D, format)))
        assert np.allclose(got, [[0.5**0.5, 0.6, 0], [0.5**0.5, 0.8, 0]], rtol=1e-15)


@each_axis
@each_format
@pytest.mark.parametrize(
    ("dtype", "size", "norm", "want"),
    [
        ("float64", 5e-324, 1e300, 1e300),
        ("float64", 5e-324, 1.5e308, 1.5e308),
        ("float64", 1e-140, 1e250, 1e250),
        ("float64", 1e100, 1e-300, 1e-300),
        ("float64", 1e300, 1e-300, 1e-300),
        ("float32", 1e-45, 1e38, 1e38),
        ("float32", 1e-45, 1e300, np.inf),  # rounded
        ("float16", 6e-8, 60000.0, 60000.0),
    ],
)
def test_a_norm_far_from_the_sizes_keeps_zeros_and_digits(format, axis, dtype, size, norm, want):
    """Found by review: norm / size was infinite or 0, and zeros became NaN."""
    D = np.zeros((3, 3), dtype)
    D[1, 1] = -dtype_one(dtype, size)
    W = compress(np.ones_like(D), format) if format in ("csr", "csc") else make(D, format)
    values(W).reshape(-1)[:] = D.reshape(-1)  # the same in every order
    with np.errstate(over="ignore"):
        got = dense(cso.sparse_normalize(W, axis=axis, norm=norm)).astype(float)
    assert got[1, 1] == pytest.approx(-want, rel=4 * EPS[dtype], abs=0)
    got[1, 1] = 0
    assert not got.any()


@each_format
@pytest.mark.parametrize(("dtype", "limit"), [("float16", 1e5), ("float32", 1e39)])
def test_a_threshold_beyond_the_dtype_lets_no_infinity_through(format, dtype, limit):
    """Found by review: as a float the threshold was infinite, and infinities became zeros."""
    D = np.array([[1, np.finfo(dtype).max], [np.inf, 2]], dtype)
    with pytest.raises(ValueError, match=r"^W must be finite, got inf"):
        cso.sparse_normalize(make(D, format), threshold=limit)
    options = {"threshold": limit, "check_finite": False}
    got = dense(cso.sparse_normalize(make(D, format), **options))
    assert np.isnan(got[:, 0]).all()
    assert not got[:, 1].any()
    if format in ("csr", "csc"):
        pruned = cso.sparse_normalize(make(D, format), prune=True, **options)
        assert np.isnan(pruned.data).tolist() == [True]
    with pytest.raises(ValueError, match=r"^threshold must be finite and non-negative, got inf"):
        cso.sparse_normalize(make(D, format), threshold=np.inf)


@each_format
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (1, 1)])
def test_empty_matrices_are_legal(format, shape):
    for axis in (0, 1):
        got = cso.sparse_normalize(make(np.zeros(shape), format), axis=axis, return_norms=True)
        assert dense(got.W).shape == shape
        assert got.norms.shape == (shape[1 - axis],)
    assert cso.sparse_normalize_rows(np.zeros(shape), []).shape == (0,)


def test_stored_duplicates_count_one_by_one_and_stored_zeros_stay():
    data = np.array([3.0, 4.0, 0.0, 0.0])
    W = Compressed(np.array([0, 3, 4]), np.array([1, 1, 0, 1]), data, (2, 2))
    assert cso.sparse_normalize(W, axis=1).data == pytest.approx([0.6, 0.8, 0.0, 0.0])
    assert cso.sparse_normalize(W, axis=0).data == pytest.approx([0.6, 0.8, 0.0, 0.0])


def test_prune_drops_what_the_threshold_zeroed():
    D = random_matrix(30, 20)
    for format in ("csr", "csc"):
        for axis in (0, 1):
            full = cso.sparse_normalize(make(D, format), axis=axis, threshold=0.4)
            small = cso.sparse_normalize(make(D, format), axis=axis, threshold=0.4, prune=True)
            assert np.array_equal(dense(full), dense(small))
            assert len(small.data) == (np.abs(D) > np.float32(0.4)).sum() < len(full.data)
            assert small.indptr[-1] == len(small.indices)


def test_long_segments_and_many_blocks():
    D = random_matrix(5000, 3, "float32", density=1.0)
    for format in FORMATS:
        for axis in (0, 1):
            want = reference.normalize(D, axis)[0]
            assert (
                np.abs(dense(cso.sparse_normalize(make(D, format), axis=axis)) - want).max() <= 1e-7
            )


@pytest.mark.parametrize("threads", [1, 3])
def test_columns_whose_sums_lie_far_apart(threads):
    W = wide_matrix(8000)  # two blocks of sums, and work for a team
    squares = np.bincount(W.indices, W.data.astype(float) ** 2, 20_011)
    got = cso.sparse_normalize(W, return_norms=True, num_threads=threads)
    np.testing.assert_allclose(got.norms, np.sqrt(squares), rtol=1e-14)
    want = W.data / np.sqrt(squares)[W.indices]
    assert np.abs(got.W.data - want).max() <= 2.0**-24
    assert np.array_equal(got.W.indices, W.indices)


@pytest.mark.parametrize("at", [0, 95, 96, 97, 1400, 2702, 2703, 2704, 2799])
@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_an_index_out_of_range_is_found_wherever_its_sum_would_lie(at, index):
    for bad in (-1, 20_011, np.iinfo(index).max, np.iinfo(index).min):
        W = wide_matrix(index=index)
        W.indices[at] = bad
        before = W.data.tobytes()
        message = rf"^W.indices must be in \[0, 20011\), got {bad} at index {at}$"
        with pytest.raises(ValueError, match=message):
            cso.sparse_normalize(W, copy=False)
        assert W.data.tobytes() == before


# ---- rejections ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": 2}, "axis must be 0 or 1, got 2"),
        ({"ord": "l3"}, "ord must be one of l1, l2, max, got 'l3'"),
        ({"norm": -1}, "norm must be finite and non-negative, got -1"),
        ({"norm": np.nan}, "norm must be finite and non-negative, got nan"),
        ({"threshold": -0.5}, "threshold must be finite and non-negative, got -0.5"),
        (
            {"prune": True, "copy": False},
            "prune must be False in place and for a dense array, got True",
        ),
        ({"num_threads": 0}, "num_threads must be at least 1, got 0"),
    ],
)
@each_format
def test_an_option_out_of_range_is_refused(options, message, format):
    W = make(random_matrix(8, 6), format)
    before = values(W).tobytes()
    with pytest.raises(ValueError, match=f"^{message.replace('(', chr(92) + '(')}"):
        cso.sparse_normalize(W, **{"copy": False} | options)
    assert values(W).tobytes() == before


@each_format
@each_axis
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("ord", ["l1", "l2", "max"])
def test_what_is_not_finite_is_refused_and_nothing_written(format, axis, bad, dtype, ord):
    D = random_matrix(600, 5, dtype, density=1.0)
    D[D == 0] = 1
    D[444, 3] = bad
    W = make(D, format)
    before = values(W).tobytes()
    at = {"csr": 444 * 5 + 3, "C": 444 * 5 + 3, "csc": 3 * 600 + 444, "F": 3 * 600 + 444}[format]
    with pytest.raises(ValueError, match=f"^W must be finite, got {bad} at stored value {at}$"):
        cso.sparse_normalize(W, axis=axis, ord=ord, copy=False)
    assert values(W).tobytes() == before
    with pytest.raises(ValueError, match=r"^W must be finite"):
        cso.sparse_normalize(W, axis=axis, ord=ord)
    got = cso.sparse_normalize(W, axis=axis, ord=ord, check_finite=False, return_norms=True)
    vector = 3 if axis == 0 else 444  # NaN as a whole: an infinity is no reason for zeros
    vectors = dense(got.W).T if axis == 0 else dense(got.W)
    assert np.isnan(vectors[vector]).all()
    assert np.isfinite(np.delete(vectors, vector, 0)).all()
    assert np.flatnonzero(np.isnan(got.norms)).tolist() == [vector]


def test_a_malformed_matrix_is_refused():
    good = compress(random_matrix(6, 4))

    def changed(to):
        return np.where(np.arange(len(good.data)) == 2, to, good.indices).astype(np.int32)

    for change, message in [
        ({"indices": changed(4)}, r"W.indices must be in \[0, 4\), got 4 at index 2"),
        ({"indices": changed(-1)}, r"W.indices must be in \[0, 4\), got -1 at index 2"),
        ({"indptr": np.array([0, 3, 1, 4, 5, 6, 7], np.int32)}, "W.indptr must not decrease"),
        ({"indptr": np.array([0, 1, 2, 3, 4, 5, 99], np.int32)}, "W.indptr must end by"),
        ({"indptr": np.array([1, 1, 2, 3, 4, 5, 6], np.int32)}, "W.indptr must start with 0"),
        ({"indptr": np.array([0, 1], np.int32)}, "W.indptr must have 7 entries, got 2"),
        ({"data": good.data[:-1]}, "W.indices must have"),
    ]:  # fmt: skip
        W = good.but(**{"data": good.data.copy()} | change)
        before = W.data.tobytes()
        with pytest.raises(ValueError, match=message):
            cso.sparse_normalize(W, copy=False)
        assert W.data.tobytes() == before
    with pytest.raises(TypeError, match="W must be a CSR or CSC matrix, got coo"):
        cso.sparse_normalize(good.but(format="coo"))
    with pytest.raises(TypeError, match="W must have a real dtype, got object"):
        cso.sparse_normalize(np.array([[None]]))
    with pytest.raises(ValueError, match="W must have 2 dimensions, got 1"):
        cso.sparse_normalize(np.ones(3))


@each_format
def test_in_place_needs_something_to_write(format):
    D = random_matrix(8, 6)
    W = make(D, format)
    values(W).flags.writeable = False
    name = "W.data" if format in ("csr", "csc") else "W"
    with pytest.raises(
        ValueError,
        match=f"^{name} must be writeable to be changed in place, got a read-only array$",
    ):
        cso.sparse_normalize(W, copy=False)
    with pytest.raises(TypeError, match="W must be a NumPy array to be changed in place, got list"):
        cso.sparse_normalize([[1.0]], copy=False)
    with pytest.raises(TypeError, match="got int64"):
        cso.sparse_normalize(np.ones((2, 2), np.int64), copy=False)
