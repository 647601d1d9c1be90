"""Sparse dropout of entries with replacement, its gradient, the numbers behind masks."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cython_sparseops as cso
from cython_sparseops._core import dropout as core
from helpers import reference_sparse as reference
from helpers.compressed import compress
from helpers.matrices import places, random_matrix
from helpers.reference_sparse import likely_counts

drop = cso.sparse_dropout_with_replacement


# ---- agrees with the reference ------------------------------------------------------------------


KNOWN = [  # Random123's kat_vectors for philox4x32-10: counter, key, words
    ((0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**64 - 1, 2**64 - 1), 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x85A308D3_243F6A88, 0x03707344_13198A2E),
        0x299F31D0_A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_gives_the_known_answers(counter, key, words):
    assert reference.philox(key, *counter) == words
    assert core.philox(key, *counter) == words


@given(
    st.integers(0, 2**64 - 1),
    st.one_of(st.integers(0, 300), st.integers(2**34 - 100, 2**34), st.integers(2**60, 2**61)),
    st.integers(0, 300),
    st.sampled_from([0.0, 2**-40, 0.1, 0.5, 0.999, 1 - 2**-40, 1.0]),
)
def test_a_mask_is_the_oracles_words_below_the_rate(seed, start, n, rate):
    want = reference.drops(seed, start, n, rate)
    x = np.arange(1, n + 1, dtype=np.float32)
    got = drop(x, rate, -1, rng=seed, start=start, return_mask=True)
    assert np.array_equal(got.mask, want)
    assert np.array_equal(got.x, np.where(want, np.float32(-1), x))
    packed = drop(x, rate, rng=seed, start=start, return_mask="packed").mask
    assert packed.dtype == np.uint8
    assert np.array_equal(packed, np.packbits(want, bitorder="little"))


@given(
    st.sampled_from(["float16", "float32", "float64"]),
    st.sampled_from([(), (7,), (1, 7), (9, 1), (9, 7), (3, 9, 7), (3, 1, 7), (3, 1, 1), (1, 9, 1)]),
    st.integers(0, 99),
)
def test_an_array_of_replacements_is_broadcast(dtype, shape, seed):
    rng = np.random.default_rng(seed)
    x, r = rng.normal(size=(3, 9, 7)).astype(dtype), rng.normal(size=shape).astype(dtype)
    y, mask = drop(x, 0.4, r, rng=seed, return_mask=True)
    assert y.dtype == dtype
    assert np.array_equal(y, np.where(mask, r, x))
    assert np.array_equal(mask.ravel(), reference.drops(seed, 0, x.size, 0.4))


@pytest.mark.parametrize("shape", [(), (5,), (40_000, 1), (40_000, 5)])
def test_replacements_wrap_across_blocks(shape):
    x = np.random.default_rng(0).normal(size=(40_000, 5)).astype(np.float32)
    r = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    y, mask = drop(x, 0.3, r, rng=5, return_mask=True)
    assert np.array_equal(y, np.where(mask, r, x))


def test_bfloat16_keeps_its_bytes():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = np.random.default_rng(0).normal(size=200).astype(bfloat16)
    y, mask = drop(x, 0.3, 2, rng=5, return_mask=True)
    assert y.dtype == bfloat16
    assert y.tobytes() == np.where(mask, bfloat16(2), x).tobytes()


@pytest.mark.parametrize("format", ["csr", "csc"])
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("shape", [(), (8,), (20, 1), (20, 8)])
def test_of_a_sparse_matrix_the_stored_values_are_dropped(format, index, shape):
    W = compress(random_matrix(20, 8), format, index)
    r = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    y, mask = drop(W, 0.5, r, rng=3, return_mask=True)
    want = reference.drops(3, 0, len(W.data), 0.5)
    assert np.array_equal(mask, want)
    assert np.array_equal(y.data, np.where(want, np.broadcast_to(r, (20, 8))[places(W)], W.data))
    assert np.array_equal(y.indices, W.indices)
    assert y.indices.dtype == index
    assert y.format == format
    assert not np.shares_memory(y.indices, W.indices)


def test_scipy_matrices_keep_their_type():
    sp = pytest.importorskip("scipy.sparse")
    for kind in (sp.csr_array, sp.csc_matrix):
        W = kind(random_matrix(20, 8))
        assert type(drop(W, 0.5, rng=0)) is kind


@pytest.mark.parametrize("center", ["mean", "median"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mean_and_median_are_those_of_what_is_not_zero(center, dtype):
    D = random_matrix(301, 6, dtype)
    D[:, 2] = 0
    f = getattr(np, center)
    tolerance = {"rtol": 302 * np.finfo(dtype).eps, "atol": 1e-6 if dtype == "float32" else 1e-15}
    assert np.allclose(drop(D, 1.0, center), f(D[D != 0].astype(float)), **tolerance)
    columns = [f(c[c != 0].astype(float)) if c.any() else 0 for c in D.T]
    assert np.allclose(drop(D, 1.0, center, per="column")[0], columns, **tolerance)
    for format in ("csr", "csc"):
        W = compress(D, format)
        assert np.allclose(drop(W, 1.0, center).data, f(D[D != 0].astype(float)), **tolerance)
        got = drop(W, 1.0, center, per="column").data
        assert np.allclose(got, np.array(columns)[places(W)[1]], **tolerance)
    assert drop(np.zeros(4, dtype), 1.0, center).tolist() == [0] * 4


@given(
    st.sampled_from(["float32", "float64"]),
    st.sampled_from([(), (7,), (1, 7), (9, 1), (9, 7), (3, 9, 7), (3, 1, 7), (3, 1, 1), (1, 9, 1)]),
    st.booleans(),
    st.integers(0, 99),
)
def test_the_gradient_goes_to_x_or_to_the_replacement(dtype, shape, packed, seed):
    rng = np.random.default_rng(seed)
    grad, mask = rng.normal(size=(3, 9, 7)).astype(dtype), rng.random((3, 9, 7)) < 0.5
    given_mask = np.packbits(mask, bitorder="little") if packed else mask
    got = cso.sparse_dropout_gradient(grad, given_mask, shape)
    assert np.array_equal(got.x, np.where(mask, 0, grad))
    used = np.where(mask, grad, 0).astype(float)
    full = (1,) * (3 - len(shape)) + shape
    want = used.sum(axis=tuple(a for a in range(3) if full[a] == 1), keepdims=True).reshape(shape)
    assert got.replacement.shape == shape
    assert got.replacement.dtype == dtype
    assert np.allclose(got.replacement, want, rtol=0, atol=200 * np.finfo(dtype).eps)


@pytest.mark.parametrize("format", ["csr", "csc"])
@pytest.mark.parametrize("shape", [(), (8,), (20, 1), (20, 8)])
def test_the_gradient_of_a_sparse_matrix(format, shape):
    W = compress(random_matrix(20, 8, "float64"), format)
    mask = np.random.default_rng(0).random(len(W.data)) < 0.5
    got = cso.sparse_dropout_gradient(W, mask, shape)
    assert np.array_equal(got.x.data, np.where(mask, 0, W.data))
    used = np.zeros((20, 8))
    used[places(W)] = np.where(mask, W.data, 0)
    full = (1,) * (2 - len(shape)) + shape
    want = used.sum(axis=tuple(a for a in range(2) if full[a] == 1)).reshape(shape)
    assert np.allclose(got.replacement, want, rtol=0, atol=1e-14)


# ---- mathematics --------------------------------------------------------------------------------


N = 1_000_000


def mask_of(rate, seed, start=0, n=N):
    return drop(np.ones(n, np.float32), rate, rng=seed, start=start, return_mask=True).mask


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.25, 0.5, 0.9, 0.999])
def test_the_frequency_is_the_rate(rate):
    """Fails for a right generator with probability below 1e-9 in all."""
    assert mask_of(rate, 11).sum() in likely_counts(N, rate)


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 5, 16, 64, 65, 4096])
def test_neighbours_are_independent(lag):
    """Pairs (i, i + lag), those of even i // lag so that no draw is in two; 1e-10 a lag."""
    m = mask_of(0.5, 12)
    i = np.arange(N - lag)
    i = i[(i // lag) % 2 == 0]
    assert (m[i] & m[i + lag]).sum() in likely_counts(len(i), 0.25)


@pytest.mark.parametrize("other", [13 + 1, 13 + 2**32, 13 ^ 2**63, 0])
def test_seeds_are_independent(other):
    assert (mask_of(0.5, 13) & mask_of(0.5, other)).sum() in likely_counts(N, 0.25)


def test_every_lane_has_the_frequency():
    """64 places of a group, 1e-10 each."""
    counts = mask_of(0.3, 14).reshape(-1, 64).sum(axis=0)
    assert all(c in likely_counts(N // 64, 0.3) for c in counts)


def test_the_gradient_is_the_slope():
    rng = np.random.default_rng(0)
    x, r, g = rng.normal(size=(5, 4)), rng.normal(size=4), rng.normal(size=(5, 4))
    mask = drop(x, 0.5, r, rng=1, return_mask=True).mask
    got = cso.sparse_dropout_gradient(g, mask, (4,))

    def loss(x, r):
        return (drop(x, 0.5, r, rng=1) * g).sum()

    h = 2.0**-20  # the loss is linear: differences are exact but for rounding
    for j in range(4):
        e = np.eye(4)[j] * h
        assert (loss(x, r + e) - loss(x, r - e)) / (2 * h) == pytest.approx(
            got.replacement[j], abs=1e-8
        )
    for i in range(5):
        e = np.zeros((5, 4))
        e[i, 2] = h
        assert (loss(x + e, r) - loss(x - e, r)) / (2 * h) == pytest.approx(got.x[i, 2], abs=1e-8)


# ---- edges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0), ()])
def test_empty_and_single_arrays_are_legal(shape):
    x = np.ones(shape)
    y, mask = drop(x, 0.5, rng=1, return_mask=True)
    assert y.shape == mask.shape == shape
    got = cso.sparse_dropout_gradient(x, mask)
    assert got.x.shape == shape
    assert got.replacement.shape == ()
    assert drop(x, 0.5, "mean", rng=1).shape == shape
    assert drop(x, 0.5, rng=1, return_mask="packed").mask.shape == ((x.size + 7) // 8,)


def test_rates_0_and_1_are_exact_and_rates_between_never_certain():
    x = np.random.default_rng(0).normal(size=100_000)
    assert drop(x, 0.0, 9, rng=0).tobytes() == x.tobytes()
    assert (drop(x, 1.0, 9, rng=0) == 9).all()
    assert not drop(x, 5e-324, 9, rng=0, return_mask=True).mask.any()
    assert drop(x, 1 - 2**-53, 9, rng=0, return_mask=True).mask.all()


def test_integers_become_float64_and_fortran_order_is_read_in_c_order():
    x = np.arange(12).reshape(3, 4)
    got = drop(np.asfortranarray(x), 0.5, -1, rng=2)
    assert got.dtype == np.float64
    assert np.array_equal(got, drop(x.astype(float), 0.5, -1, rng=2))


def test_a_generator_gives_one_seed_a_call():
    x, rng = np.ones(200), np.random.default_rng(5)
    a, b = drop(x, 0.5, rng=rng), drop(x, 0.5, rng=rng)
    assert not np.array_equal(a, b)
    assert np.array_equal(a, drop(x, 0.5, rng=np.random.default_rng(5)))
    assert not np.array_equal(drop(x, 0.5), drop(x, 0.5))


def test_counters_cross_32_bits():
    x = np.ones(1000)
    first = 4 * 2**32 - 333
    got = drop(x, 0.5, rng=1, start=first, return_mask=True).mask
    assert np.array_equal(got, reference.drops(1, first, 1000, 0.5))


# ---- rejections ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((-0.1,), {}, r"rate must be in \[0, 1\], got -0.1"),
        ((1.5,), {}, r"rate must be in \[0, 1\], got 1.5"),
        ((np.nan,), {}, r"rate must be in \[0, 1\], got nan"),
        ((0.5, [1.0, 2.0]), {}, r"replacement must broadcast to shape \(6, 5\), got shape \(2,\)"),
        ((0.5, np.ones((2, 6, 5))), {}, r"replacement must broadcast to shape \(6, 5\)"),
        ((0.5, np.inf), {}, "replacement must be finite as float32, got inf"),
        ((0.5, 1e39), {}, r"replacement must be finite as float32, got 1e\+39"),
        (
            (0.5, "mode"),
            {},
            "replacement must be a number, an array, 'mean' or 'median', got 'mode'",
        ),
        ((0.5, "mean"), {"per": "row"}, "per must be 'array' or 'column', got 'row'"),
        ((0.5, 1.0), {"per": "column"}, "per must be 'array' unless"),
        ((0.5,), {"start": -1}, "start must be at least 0, got -1"),
        (
            (0.5,),
            {"return_mask": "bits"},
            "return_mask must be True, False, 'bool' or 'packed', got 'bits'",
        ),
        ((0.5,), {"rng": -1}, r"rng must be in \[0, 2\*\*64\), got -1"),
    ],
)
def test_an_option_out_of_range_is_refused(args, options, message):
    x = random_matrix(6, 5)
    before = x.tobytes()
    with pytest.raises(ValueError, match=f"^{message}"):
        drop(x, *args, copy=False, **{"rng": 0} | options)
    assert x.tobytes() == before


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 5000, 9999])
def test_what_is_not_finite_is_refused_and_nothing_written(dtype, bad, at):
    x = np.ones(10_000, dtype)
    x[at] = bad
    before = x.tobytes()
    for replacement in (0, "mean"):
        for copy in (True, False):
            with pytest.raises(
                ValueError, match=f"^x must be finite, got .* at stored value {at}$"
            ):
                drop(x, 0.5, replacement, rng=1, copy=copy)
    assert x.tobytes() == before
    y, mask = drop(x, 0.5, rng=1, check_finite=False, return_mask=True)
    assert y.tobytes() == np.where(mask, np.dtype(dtype).type(0), x).tobytes()


def test_in_place_needs_something_to_write():
    x = np.ones((4, 4))
    x.flags.writeable = False
    with pytest.raises(
        ValueError, match="x must be writeable to be changed in place, got a read-only array"
    ):
        drop(x, 0.5, copy=False)
    with pytest.raises(ValueError, match="x must be contiguous"):
        drop(np.ones((4, 4)).T[1:], 0.5, copy=False)
    with pytest.raises(TypeError, match="x must be a NumPy array to be changed in place, got list"):
        drop([1.0], 0.5, copy=False)
    with pytest.raises(TypeError, match="got int64"):
        drop(np.ones(3, np.int64), 0.5, copy=False)
    with pytest.raises(TypeError, match="x must have a real dtype, got object"):
        drop(np.array([None]), 0.5)


def test_a_mask_that_does_not_fit_is_refused():
    f = cso.sparse_dropout_gradient
    with pytest.raises(ValueError, match=r"mask must have shape \(3,\), got \(4,\)"):
        f(np.ones(3), np.ones(4, bool))
    with pytest.raises(ValueError, match="mask must be bools of shape"):
        f(np.ones(9), np.ones(1, np.uint8))
    with pytest.raises(ValueError, match="replacement must broadcast to shape"):
        f(np.ones(3), np.ones(3, bool), (2,))


# ---- promises -----------------------------------------------------------------------------------


def test_the_number_of_threads_changes_no_byte():
    x = random_matrix(3000, 100, density=0.8)
    mask = mask_of(0.5, 1, n=x.size).reshape(x.shape)
    out = []
    for n in (1, 2, 3):
        y, m = drop(x, 0.3, "mean", rng=2, return_mask=True, num_threads=n)
        z = drop(x, 0.3, "median", per="column", rng=2, num_threads=n)
        g = cso.sparse_dropout_gradient(x, mask, (100,), num_threads=n)
        s = cso.sparse_dropout_gradient(x, mask, num_threads=n)
        out.append([a.tobytes() for a in (y, m, z, *g, *s)])
    assert out[0] == out[1] == out[2]


@given(st.lists(st.integers(0, 500), min_size=1, max_size=6), st.integers(0, 2**40))
def test_parts_with_their_starts_make_the_mask_of_the_whole(sizes, start):
    x = np.arange(sum(sizes), dtype=np.float64)
    whole = drop(x, 0.4, -1, rng=8, start=start)
    ends = np.cumsum(sizes)
    parts = [
        drop(x[e - n : e], 0.4, -1, rng=8, start=start + int(e - n))
        for n, e in zip(sizes, ends, strict=True)
    ]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def isa_results():
    h, rng = hashlib.sha256(), np.random.default_rng(0)
    for dtype in ("float16", "float32", "float64"):
        x = rng.normal(size=(701, 37)).astype(dtype)
        for r in (0.5, rng.normal(size=37), "mean", "median"):
            for start in (0, 5, 2**34):
                y, m = drop(x, 0.3, r, rng=4, start=start, return_mask=True)
                h.update(y.tobytes() + m.tobytes())
    ids = cso.sparse_dropout_segments(np.arange(900), np.full(300, 3), 0.5, -1, rng=2).ids
    h.update(ids.tobytes())
    return h.hexdigest()


def test_every_instruction_set_gives_the_same_bytes(child, fma_isas, baseline):
    """The baseline too: nothing is summed in a kernel here."""
    assert len({child.call(isa_results, isa=isa) for isa in [*fma_isas, *baseline]}) <= 1


def test_read_only_input_is_fine_and_stays():
    x = random_matrix(20, 8)
    W = compress(x)
    for array in (x, W.data, W.indices, W.indptr):
        array.flags.writeable = False
    before = x.tobytes()
    drop(x, 0.5, rng=0)
    drop(W, 0.5, "median", per="column", rng=0)
    ids = np.arange(6)
    ids.flags.writeable = False
    cso.sparse_dropout_segments(ids, [6], 0.5, 0, rng=0)
    assert x.tobytes() == before


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_in_place_writes_the_caller_with_the_same_bytes_as_a_copy(dtype):
    x = random_matrix(200, 8, dtype)
    want = drop(x, 0.5, 3, rng=1).tobytes()
    y, _ = drop(x, 0.5, 3, rng=1, copy=False, return_mask=True)
    assert y is x
    assert x.tobytes() == want
    W = compress(random_matrix(200, 8, dtype, 1))
    want, data = drop(W, 0.5, 3, rng=1).data.tobytes(), W.data
    assert drop(W, 0.5, 3, rng=1, copy=False) is W
    assert W.data is data
    assert data.tobytes() == want
