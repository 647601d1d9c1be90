"""Quantised rows: rounding, scoring with them, refusing to train them."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cython_sparseops as cso
from helpers.batches import batches, digest, make_batch, read_only
from helpers.hierarchies import BUILDERS

KINDS = ("int8", "bfloat16", "float16")
HALF = ("bfloat16", "float16")


def scores(p, W, **options):
    """Everything that quantised rows can be used for."""
    X, _, b, labels, h = p
    return [
        *cso.hsoftmax(X, W, b, labels, h, return_residuals=True, **options),
        cso.hsoftmax_log_proba(X, W, b, h, **options),
        cso.hsoftmax_log_proba(X, W, b, h, classes=labels, **options),
        cso.hsoftmax_node_log_proba(X, W, b, h, **options),
        cso.hsoftmax_sample(X, W, b, h, 3, rng=0, **options),
        *cso.hsoftmax_search(X, W, b, h, 3, **options),
        *cso.hsoftmax_search(X, W, b, h, 3, beam=2, nodes=True, min_prob=0.3, **options),
    ]


def logits(X, W):
    """X Wᵀ through the loss of stumps: the residuals of trees of one node are their logits."""
    h = cso.Hierarchy.balanced(2)
    z = [
        cso.hsoftmax(X, one, None, np.zeros(len(X), int), h, return_residuals=True).residuals
        for one in W
    ]
    return np.stack(z, axis=1)


# ---- agrees with the reference ------------------------------------------------------------------


@given(batches(dtypes=("float32",)), st.sampled_from(HALF))
def test_half_precision_has_the_bytes_of_the_float_path_on_the_rounded_rows(p, kind):
    q = cso.quantize(p.W, kind)
    assert digest(scores(p, q)) == digest(scores(p, q.dequantize()))


@given(batches(dtypes=("float32",)))
def test_an_array_of_bfloat16_is_weights_of_that_kind_without_loss(p):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    W = p.W.astype(bfloat16)
    q = cso.quantize(W, "bfloat16")
    assert q.to_arrays()["data"].tobytes() == W.tobytes()
    assert cso.QuantizedWeights(W).to_arrays()["data"].tobytes() == W.tobytes()
    frozen = W.copy()
    frozen.flags.writeable = False
    for layout in (W, np.asfortranarray(W), frozen):
        assert digest(scores(p, layout)) == digest(scores(p, q))
    rest = {"b": None if p.b is None else p.b.astype(bfloat16), "X": p.X.astype(bfloat16)}
    rounded = {name: a if a is None else a.astype("f") for name, a in rest.items()}
    assert digest(scores(p._replace(**rest), W)) == digest(scores(p._replace(**rounded), q))
    assert digest(scores(p._replace(**rest), p.W)) == digest(scores(p._replace(**rounded), p.W))


def test_every_finite_number_of_bfloat16_is_kept():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    bits = np.arange(1 << 16, dtype=np.uint16)
    W = bits[(bits & 0x7F80) != 0x7F80].view(bfloat16)[None]
    assert cso.quantize(W, "bfloat16").to_arrays()["data"].tobytes() == W.tobytes()
    assert cso.quantize(W, "bfloat16").dequantize().tobytes() == W.astype("f").tobytes()


def test_training_takes_bfloat16_input():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    p = make_batch(BUILDERS["huffman"](30), dtype="float32")
    W, X = p.W.astype(bfloat16), p.X.astype(bfloat16)
    got = cso.hsoftmax_gradient(X, W, p.b, p.labels, p.h)
    want = cso.hsoftmax_gradient(X.astype("f"), W.astype("f"), p.b, p.labels, p.h)
    assert digest(list(got)) == digest(list(want))
    before = W.copy()
    step = cso.hsoftmax_update(X, W, p.b, p.labels, p.h, cso.SGD(0.1))  # W may be changed
    assert digest(list(step)) == digest(list(got[:2]))
    changed = (before != W).any(axis=1)
    assert set(np.flatnonzero(changed)) == set(got.rows)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bfloat16_rows_that_are_not_finite_are_refused(bad):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    h = cso.Hierarchy.balanced(2)
    W, X = np.full((1, 2), bad, bfloat16), np.ones((1, 2), "f")
    for call in (
        lambda: cso.hsoftmax(X, W, None, [0], h),
        lambda: cso.hsoftmax_search(X, W, None, h),
        lambda: cso.quantize(W, "bfloat16"),
    ):
        with pytest.raises(ValueError, match="must be finite"):
            call()
    with pytest.raises(ValueError, match="W must have 2 dimensions, got 1"):
        cso.hsoftmax(X, W[0], None, [0], h)


@given(st.integers(1, 300), st.integers(0, 10**6), st.sampled_from([1e-20, 1.0, 1e15]))
def test_int8_logits_are_those_of_the_rounded_rows(dim, seed, size):
    """x is off by half a step of 32767 a largest |x|; then two roundings of the scales and one
    of the product, on either side of a float32 sum."""
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(5, dim)) * size).astype("float32")
    W = rng.normal(size=(3, dim)).astype("float32")
    got = logits(X, [cso.quantize(w[None], "int8") for w in W])
    rounded = np.stack([cso.quantize(w[None], "int8").dequantize()[0] for w in W]).astype(float)
    exact = X.astype(float) @ rounded.T
    step = np.abs(X).max(1) / 32767
    bound = 0.51 * step[:, None] * np.abs(rounded).sum(1)[None]
    bound += 8 * np.finfo("float32").eps * (np.abs(X).astype(float) @ np.abs(rounded).T)
    assert (np.abs(got - exact) <= bound).all()


@given(st.integers(0, 9), st.integers(1, 40), st.integers(0, 10**6))
def test_rounding_is_to_nearest_even(rows, cols, seed):
    rng = np.random.default_rng(seed)
    W = (rng.normal(size=(rows, cols)) * 10.0 ** rng.integers(-9, 4, (rows, cols))).astype(
        "float32"
    )
    assert (cso.quantize(W, "float16").to_arrays()["data"] == W.astype("float16")).all()
    assert (cso.quantize(W, "float16").dequantize() == W.astype("float16")).all()
    bits = W.view(np.uint32)
    nearest = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).view(np.float32)
    assert (cso.quantize(W, "bfloat16").dequantize() == nearest).all()
    q = cso.quantize(W, "int8")
    step = np.abs(W).max(1, keepdims=True) / 127
    assert (np.abs(q.dequantize() - W) <= 0.5001 * step + 1e-30).all()


def test_every_float16_survives():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)].astype(np.float32)[None]
    q = cso.quantize(every, "float16")
    assert (q.dequantize().view(np.uint32) == every.view(np.uint32)).all()
    # through the kernel: each alone, times one
    h = cso.Hierarchy.balanced(every.size + 1)
    rows = cso.quantize(every.reshape(-1, 1), "float16")
    z = cso.hsoftmax_log_proba(np.ones((1, 1), "float32"), rows, None, h)
    assert (z == cso.hsoftmax_log_proba(np.ones((1, 1), "float32"), every.T.copy(), None, h)).all()


# ---- mathematics --------------------------------------------------------------------------------


@given(batches(dtypes=("float32",)), st.sampled_from(KINDS))
def test_search_for_all_classes_is_sorting_log_proba(p, kind):
    q = cso.quantize(p.W, kind)
    log_p = cso.hsoftmax_log_proba(p.X, q, p.b, p.h)
    got = cso.hsoftmax_search(p.X, q, p.b, p.h, p.h.n_classes)
    order = np.argsort(-log_p, axis=1, kind="stable")
    assert (got.classes == order).all()
    assert (got.log_probs == np.take_along_axis(log_p, order, 1)).all()


@given(batches(dtypes=("float32",)), st.sampled_from(KINDS))
def test_probabilities_sum_to_one(p, kind):
    log_p = cso.hsoftmax_log_proba(p.X, cso.quantize(p.W, kind), p.b, p.h)
    assert np.abs(np.exp(log_p.astype(float)).sum(1) - 1).max(initial=0) < 1e-5


def test_the_report_is_the_change_on_the_rows_given():
    X, W, b, labels, h = make_batch(BUILDERS["huffman"](50), N=300, D=16, dtype="float32")
    q = cso.quantize(W, "int8")
    report = q.evaluate(X, labels, h, b=b, reference=W)
    nll = [cso.hsoftmax(X, w, b, labels, h).mean(dtype=float) for w in (q, W)]
    hit = [(cso.hsoftmax_search(X, w, b, h).classes[:, 0] == labels).mean() for w in (q, W)]
    assert report == pytest.approx((nll[0] - nll[1], hit[0] - hit[1], *nll, *hit), abs=1e-12)
    assert 0 < abs(report.nll_change) < 0.05


# ---- edges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(0, 4), (3, 4)])
def test_no_rows_and_zero_rows(kind, shape):
    h = cso.Hierarchy.balanced(shape[0] + 1)
    q = cso.quantize(np.zeros(shape), kind)
    assert q.shape == shape
    assert (q.dequantize() == 0).all()
    log_p = cso.hsoftmax_log_proba(np.ones((2, 4)), q, None, h)
    assert np.abs(np.exp(log_p) - 1 / h.n_classes).max() < 1e-6
    assert cso.hsoftmax(np.ones((0, 4)), q, None, np.zeros(0, int), h).shape == (0,)
    assert np.isnan(q.evaluate(np.ones((0, 4)), np.zeros(0, int), h, reference=q).nll_change)


def test_the_scale_of_int8_has_a_floor():
    W = np.zeros((4, 3), np.float32)
    W[:, 1] = 1e-20, 1e-30, 1e-33, 1e-45
    arrays = cso.quantize(W, "int8").to_arrays()
    largest = np.maximum(W[:, 1], np.float32(1e-30))
    assert (arrays["scale"] == largest / np.float32(127)).all()
    assert arrays["data"][:, 1].tolist() == [127, 127, 0, 0]


def test_long_rows_of_int8_do_not_overflow():
    for dim in (512, 517, 4096, 100_000):
        X, W = np.full((1, dim), 3, "float32"), np.full((1, dim), 2, "float32")
        got = logits(X, [cso.quantize(W, "int8")])[0, 0]
        assert got == pytest.approx(6 * dim, rel=1e-6)


def test_double_inputs_become_float32():
    p = make_batch(BUILDERS["huffman"](9), dtype="float64")
    q = cso.quantize(p.W, "int8")
    single = p._replace(X=p.X.astype("float32"), b=p.b.astype("float32"))
    assert digest(scores(p, q)) == digest(scores(single, q))
    assert cso.hsoftmax(p.X, q, p.b, p.labels, p.h).dtype == np.float32


def test_pickles_copies_and_files_keep_the_bytes(tmp_path):
    p = make_batch(BUILDERS["huffman"](30), dtype="float32")
    for kind in KINDS:
        q = cso.quantize(p.W, kind)
        cso.save_arrays(tmp_path / kind, q.to_arrays())
        loaded = cso.QuantizedWeights.from_arrays(cso.load_arrays(tmp_path / kind)[0])
        for other in (pickle.loads(pickle.dumps(q)), copy.deepcopy(q), loaded):
            assert (other.dtype, other.shape, other.nbytes) == (kind, q.shape, q.nbytes)
            assert digest(scores(p, other)) == digest(scores(p, q))


def test_not_finite_inputs_come_through_unchecked():
    q = cso.quantize(np.ones((1, 2)), "int8")
    h = cso.Hierarchy.balanced(2)
    got = cso.hsoftmax_log_proba([[np.nan, 1], [1, 1]], q, None, h, check_finite=False)
    assert np.isnan(got[0]).all()
    assert np.isfinite(got[1]).all()


# ---- rejections ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("W", "kind", "error", "text"),
    [
        ([[1, np.nan]], "int8", ValueError, "W must be finite, got nan at row 0, column 1"),
        ([[1], [-np.inf]], "bfloat16", ValueError, "W must be finite, got -inf at row 1, column 0"),
        (
            [[65505.0]],
            "float16",
            ValueError,
            r"W must be in \[-65504, 65504\] for float16, got 65505 at row 0, column 0",
        ),
        ([[1e39]], "int8", ValueError, "W must be finite, got inf at row 0, column 0"),
        ([[3.4e38]], "bfloat16", ValueError, "W must be in ±3.39e38 for bfloat16"),
        ([[1]], "int4", ValueError, "dtype must be one of int8, bfloat16, float16, got 'int4'"),
        ([1], "int8", ValueError, "W must have 2 dimensions, got 1"),
        ([["a"]], "int8", TypeError, "W must have a real dtype"),
    ],
)
def test_rows_that_cannot_be_stored_are_refused(W, kind, error, text):
    with pytest.raises(error, match=text):
        cso.quantize(W, kind)


def test_int8_rows_cannot_be_trained():
    X, W, b, labels, h = make_batch(BUILDERS["huffman"](9), dtype="float32")
    q = cso.quantize(W, "int8")
    with pytest.raises(TypeError, match="W must be a float array here, got int8 weights"):
        cso.hsoftmax_gradient(X, q, b, labels, h)
    with pytest.raises(
        TypeError, match="W must be a float array or weights of bfloat16 or float16"
    ):
        cso.hsoftmax_update(X, q, b, labels, h, cso.SGD(0.1))


def test_wrong_shapes_are_refused():
    X, W, b, _, h = make_batch(BUILDERS["huffman"](9), dtype="float32")
    q = cso.quantize(W, "int8")
    with pytest.raises(ValueError, match=r"W must have shape \(8, 4\), got \(8, 5\)"):
        cso.hsoftmax_search(X[:, :4].copy(), q, b, h)
    with pytest.raises(ValueError, match="X must be finite, got inf at row 0, column 0"):
        cso.hsoftmax_search(np.full((1, 5), 1e300), q, b, h)
    wide = cso.quantize(np.ones((1, 140_000)), "int8")
    with pytest.raises(ValueError, match="W must have at most 132104 columns of int8 weights"):
        cso.hsoftmax_search(np.ones((1, 140_000)), wide, None, cso.Hierarchy.balanced(2))


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({}, "arrays must have data"),
        ({"data": np.zeros((2, 2), "int8")}, "scale must be an array for int8, got None"),
        ({"data": np.zeros((2, 2), "int32")}, "data must be a matrix of int8, int16"),
        ({"data": np.zeros((2, 2), "int8"), "scale": [1.0]}, "scale must have 2 entries, got 1"),
        ({"data": np.zeros((1, 2), "int8"), "scale": [np.nan]}, "scale must be finite"),
        ({"data": np.full((1, 2), np.inf, "float16")}, "data must be finite"),
        ({"data": np.full((1, 2), 0x7F80, "int16")}, "data must be finite"),
        ({"data": np.zeros((1, 2), "int16"), "scale": [1.0]}, "scale must be None for bfloat16"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, text):
    with pytest.raises(ValueError, match=text):
        cso.QuantizedWeights.from_arrays(arrays)


# ---- promises -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["huffman", "two_level", "huffman of arity 5"])
def test_one_two_and_three_threads_give_the_same_bytes(name, kind):
    p = make_batch(BUILDERS[name](3000), N=200, D=67, dtype="float32")
    stored = [cso.quantize(p.W, kind, num_threads=n) for n in (1, 2, 3)]
    assert len({digest(q.to_arrays().values()) for q in stored}) == 1
    got = {digest(scores(p, q, num_threads=n)) for n, q in enumerate(stored, 1)}
    assert len(got) == 1


def isa_results(kinds=KINDS):
    out = []
    for D in (3, 67, 128):
        for name in ("huffman", "two_level", "huffman of arity 5"):
            p = make_batch(BUILDERS[name](200), N=40, D=D, dtype="float32")
            for kind in kinds:
                out += scores(p, cso.quantize(p.W, kind))
    return out


def test_every_fma_instruction_set_gives_the_same_bytes(child, fma_isas):
    if len(fma_isas) < 2:
        pytest.skip(f"this machine runs {fma_isas} alone")
    assert len({digest(child.call(isa_results, isa=isa)) for isa in fma_isas}) == 1


def isa_logits():
    p = make_batch(cso.Hierarchy.huffman(np.arange(1, 200)), N=40, D=67, dtype="float32")
    q = cso.quantize(p.W, "int8")
    kept = cso.hsoftmax(p.X, q, p.b, p.labels, p.h, return_residuals=True).residuals
    return [*q.to_arrays().values(), kept]


def test_int8_logits_are_the_same_on_the_baseline_too(child):
    assert digest(child.call(isa_logits, isa="baseline")) == digest(isa_logits())


def test_read_only_rows_are_accepted_and_nothing_is_written():
    p = make_batch(BUILDERS["huffman"](30), dtype="float32")
    for kind in KINDS:
        X, W, b, labels = read_only(*p[:4])
        q = cso.quantize(W, kind)
        before = digest(q.to_arrays().values())
        assert not any(a.flags.writeable for a in q.to_arrays().values())
        scores(p._replace(X=X, b=b, labels=labels), q)
        assert digest(q.to_arrays().values()) == before


def test_int8_takes_a_quarter_of_the_memory():
    W = np.ones((1000, 128), "float32")
    assert cso.quantize(W, "int8").nbytes == 1000 * 132
    assert cso.quantize(W, "float16").nbytes == cso.quantize(W, "bfloat16").nbytes == 1000 * 256
