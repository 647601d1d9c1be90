"""What normalise promises: the same bytes whatever the threads, and what it leaves alone."""

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cython_sparseops as cso
from helpers.matrices import EPS, each_axis, each_format, make, random_matrix, values


@each_format
@each_axis
def test_the_number_of_threads_changes_no_byte(format, axis):
    D = random_matrix(40_000, 50, "float32", density=0.9)
    G = random_matrix(40_000, 50, "float32", 4, 1.0)
    W = make(D, format)
    grad = make(G, format) if isinstance(W, np.ndarray) else np.resize(G, W.data.shape)
    out = [
        (
            values(cso.sparse_normalize(W, axis=axis, num_threads=n)).tobytes(),
            values(cso.sparse_normalize_gradient(W, grad, axis=axis, num_threads=n)).tobytes(),
        )
        for n in (1, 2, 3)
    ]
    assert out[0] == out[1] == out[2]


def isa_results():
    h, rng = hashlib.sha256(), np.random.default_rng(0)
    for dtype in ("float16", "float32", "float64"):
        D = rng.normal(size=(700, 37)).astype(dtype)
        for order, axis in itertools.product("CF", (0, 1)):
            for ord, limit in itertools.product(("l1", "l2", "max"), (0, 0.5)):
                W = np.array(D, order=order)
                h.update(cso.sparse_normalize(W, axis=axis, ord=ord, threshold=limit).tobytes())
            if dtype != "float16":
                h.update(cso.sparse_normalize_gradient(W, W[::-1], axis=axis).tobytes())
        cso.sparse_normalize_rows(D, np.arange(5, 600), norm=3.0)
        h.update(D.tobytes())
    return h.hexdigest()


def test_every_instruction_set_with_fused_multiply_add_gives_the_same_bytes(child, fma_isas):
    assert len({child.call(isa_results, isa=isa) for isa in fma_isas}) <= 1


def rows_normalized():
    D = np.random.default_rng(0).normal(size=(300, 37))
    return {
        dtype: cso.sparse_normalize(D.astype(dtype), axis=1) for dtype in ("float32", "float64")
    }


def test_the_baseline_differs_by_roundings_alone(child, baseline):
    if not baseline:
        pytest.skip("no baseline here")
    others = child.call(rows_normalized, isa="baseline")
    for dtype, ours in rows_normalized().items():
        most = (2 if dtype == "float32" else 40) * EPS[dtype]
        assert np.abs(ours - others[dtype]).max() <= most


@each_format
def test_read_only_input_is_fine_and_stays(format):
    W = make(random_matrix(9, 7), format)
    parts = [W] if isinstance(W, np.ndarray) else [W.data, W.indices, W.indptr]
    for part in parts:
        part.flags.writeable = False
    before = values(W).tobytes()
    cso.sparse_normalize(W)
    cso.sparse_normalize_gradient(W, W)
    assert values(W).tobytes() == before


@each_format
@each_axis
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_in_place_writes_the_callers_values_with_the_same_bytes_as_a_copy(format, axis, dtype):
    D = random_matrix(300, 20, dtype)
    W = make(D, format)
    want = values(cso.sparse_normalize(W, axis=axis, norm=2, threshold=0.1)).tobytes("K")
    kept = values(W)
    got = cso.sparse_normalize(W, axis=axis, norm=2, threshold=0.1, copy=False)
    assert got is W
    assert values(W) is kept
    assert kept.tobytes("K") == want


@settings(max_examples=30)
@given(st.integers(0, 99))
def test_max_norm_leaves_the_bytes_of_what_is_short_enough(seed):
    D = random_matrix(30, 20, "float32", seed)
    got = cso.sparse_normalize(D, axis=1, norm=2.0, max_norm=True)
    short = np.linalg.norm(D.astype(float), axis=1) <= 2.0
    assert got[short].tobytes() == D[short].tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_threshold_is_compared_in_the_dtype_of_the_matrix(dtype):
    # Found by hypothesis: float16(0.3) is above 0.3, and was kept when compared in float32.
    W = np.array([[0.3], [1.0]], dtype)
    assert cso.sparse_normalize(W, threshold=0.3).tolist() == [[0.0], [1.0]]
