"""Named rows of tables scaled to a norm, in place."""

import json

import numpy as np
import pytest

import cython_sparseops as cso
from helpers import reference_sparse as reference
from helpers.matrices import EPS, random_matrix


def case(name, golden):
    found = golden(name)
    return found | json.loads(str(found["args"]))


# ---- agrees with the reference ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
@pytest.mark.parametrize("max_norm", [True, False])
def test_named_rows_are_scaled_once_and_the_others_left(dtype, max_norm):
    real = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    rng = np.random.default_rng(3)
    param = (rng.normal(size=(50, 3, 7)) * rng.choice([0.05, 1, 20], (50, 1, 1))).astype(real)
    param[4] = 0
    rows = rng.integers(0, 50, (5, 9)).astype(np.uint8)
    rows[0, :2] = 4
    before = param.copy()
    norms = cso.sparse_normalize_rows(param, rows, norm=2.0, max_norm=max_norm)
    named = np.unique(rows)
    eps = 2.0**-8 if dtype == "bfloat16" else EPS[dtype]
    for row, size in zip(named, norms, strict=True):
        want, exact = reference.scale_vector(
            before[row].astype(np.float64).ravel(), norm=2.0, max_norm=max_norm
        )
        assert size == pytest.approx(exact, rel=30 * 2**-53)
        error = np.abs(param[row].astype(float).ravel() - want)
        assert (error <= 6 * eps * np.abs(want) + 2**-24 * (dtype == "float16")).all()
    others = np.setdiff1d(np.arange(50), named)
    assert param[others].tobytes() == before[others].tobytes()
    assert not param[4].astype(float).any()


ROW_CASES = [
    "sparse_normalize_d257",
    "sparse_normalize_defaults",
    "sparse_normalize_indices_2d",
    "sparse_normalize_norm_0",
    "sparse_normalize_param_1d",
    "sparse_normalize_repeated_indices_max",
    "f16_sparse_normalize_constant_norm",
    "f16_sparse_normalize_constant_norm_0p3",
    "f16_sparse_normalize_d257",
    "f16_sparse_normalize_defaults",
    "f16_sparse_normalize_empty_indices",
    "f16_sparse_normalize_indices_2d",
    "f16_sparse_normalize_max_norm_2p5",
    "f16_sparse_normalize_param_1d",
    "f16_sparse_normalize_repeated_indices",
    "f16_sparse_normalize_repeated_indices_max",
]


@pytest.mark.parametrize("name", ROW_CASES)
def test_caffe2_recorded_the_same(name, golden):
    """Deliberate difference: a zero float16 row stays zero where Caffe2 makes it NaN."""
    c = case(name, golden)
    param = c["param"].copy()
    options = {"norm": c["norm"], "max_norm": c["use_max_norm"]}
    cso.sparse_normalize_rows(
        param, c["indices"], **{k: v for k, v in options.items() if v is not None}
    )
    want = c["param_out"].copy()
    rows = param.reshape(len(param), -1)
    zero = ~c["param"].reshape(len(param), -1).any(axis=1)
    assert not rows[zero].any()
    # Caffe2 sums in float32 in its own order and scales a duplicate again: roundings of the result.
    eps, width = EPS[str(param.dtype)], rows.shape[1]
    tolerance = (2 * c["indices"].size + 4) * eps + width * EPS["float32"]
    error = np.abs(rows[~zero].astype(float) - want.reshape(rows.shape)[~zero])
    allowed = tolerance * np.abs(want.reshape(rows.shape)[~zero]) + 2**-24 * (eps > 2**-12)
    assert (error <= allowed).all()


@pytest.mark.parametrize(
    "name",
    [
        "sparse_normalize_extremes_constant",
        "f16_sparse_normalize_extremes",
        "f16_sparse_normalize_extremes_constant",
    ],
)
def test_rows_that_caffe2_loses_are_refused_or_right(name, golden):
    """Deliberate differences: NaN and infinity are refused; huge and tiny rows get the norm."""
    c = case(name, golden)
    param = c["param"].copy()
    finite = np.isfinite(param.astype(float)).all(axis=1)
    if not finite.all():
        with pytest.raises(ValueError, match="param must be finite, got nan or inf in row"):
            cso.sparse_normalize_rows(param, c["indices"], max_norm=c["use_max_norm"])
        assert param.tobytes() == c["param"].tobytes()
    kept = np.flatnonzero(finite)
    cso.sparse_normalize_rows(param, kept, max_norm=c["use_max_norm"])
    for row in kept:
        want, _ = reference.scale_vector(c["param"][row], max_norm=c["use_max_norm"])
        eps = EPS[str(param.dtype)]
        assert np.allclose(
            param[row].astype(float), want, rtol=4 * eps, atol=2**-24 * (eps > 2**-12)
        )


# ---- edges --------------------------------------------------------------------------------------


def test_a_row_of_1e30_floats_gets_norm_1():
    param = np.full((2, 1000), 1e30, np.float32)
    assert cso.sparse_normalize_rows(param, [1])[0] == pytest.approx(1e30 * 1000**0.5, rel=1e-6)
    assert np.linalg.norm(param[1].astype(float)) == pytest.approx(1, rel=1e-7)
    assert (param[0] == np.float32(1e30)).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_becomes_nan_where_it_may(dtype, bad):
    real = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    table = random_matrix(6, 9, density=1.0).astype(real)
    table[2, 4] = bad
    table[2, 5] = 0
    clean = np.delete(table, 2, 0)
    norms = cso.sparse_normalize_rows(table, np.arange(6), check_finite=False)
    cso.sparse_normalize_rows(clean, np.arange(5))
    assert np.isnan(table[2].astype(float)).all()
    assert np.flatnonzero(np.isnan(norms)).tolist() == [2]
    assert np.delete(table, 2, 0).tobytes() == clean.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rows_without_entries_have_norm_0(dtype):
    assert cso.sparse_normalize_rows(np.empty((4, 0), dtype), [3, 1]).tolist() == [0, 0]


def test_a_norm_far_from_the_sizes_keeps_zeros():
    for dtype, size, norm in (("float64", 5e-324, 1e300), ("float32", 1e-45, 1e38)):
        table = np.array([[size, 0, -size]], dtype)
        cso.sparse_normalize_rows(table, [0], norm=norm, max_norm=False)
        want = np.array([[1, 0, -1]]) * norm * 0.5**0.5
        assert np.allclose(table, want, rtol=4 * EPS[dtype], atol=0)


# ---- rejections ---------------------------------------------------------------------------------


def test_refused_rows_leave_the_table():
    table = random_matrix(10, 6, density=1.0)
    before = table.tobytes()
    for rows, options, message in [
        ([1, 10], {}, r"^rows must be in \[0, 10\), got 10 at index 1$"),
        ([-1], {}, r"^rows must be in \[0, 10\), got -1 at index 0$"),
        ([0], {"norm": -2.0}, "^norm must be finite and non-negative, got -2$"),
    ]:
        with pytest.raises(ValueError, match=message):
            cso.sparse_normalize_rows(table, rows, **options)
    with pytest.raises(TypeError, match="rows must have an integer dtype, got float64"):
        cso.sparse_normalize_rows(table, [0.5])
    with pytest.raises(
        TypeError, match="param must be a NumPy array to be changed in place, got list"
    ):
        cso.sparse_normalize_rows([[1.0]], [0])
    with pytest.raises(ValueError, match="param must be contiguous"):
        cso.sparse_normalize_rows(table.T, [0])
    assert table.tobytes() == before
    table[7, 2] = np.nan
    before = table.tobytes()
    with pytest.raises(ValueError, match=r"^param must be finite, got nan or inf in row 7$"):
        cso.sparse_normalize_rows(table, np.arange(10))
    assert table.tobytes() == before
    cso.sparse_normalize_rows(table, np.arange(7))  # a row that is not named is not looked at


# ---- promises -----------------------------------------------------------------------------------


def test_the_number_of_threads_changes_no_byte_of_a_table():
    tables = []
    for n in (1, 2, 3):
        table = random_matrix(20_000, 64, density=1.0)
        cso.sparse_normalize_rows(table, np.arange(0, 20_000, 3), num_threads=n)
        tables.append(table.tobytes())
    assert tables[0] == tables[1] == tables[2]
