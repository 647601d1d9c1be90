"""The fused update on rows of 16 bits: that of float32 on the widened rows, then one rounding."""

import copy
import functools
import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cython_sparseops as cso
from helpers.batches import digest, make_batch
from helpers.hierarchies import BUILDERS, counts_of, paths
from helpers.reference_sparse import philox

KINDS = ("bfloat16", "float16")
each_kind = pytest.mark.parametrize("kind", KINDS)

OPTIMIZERS = {
    "sgd": lambda: cso.SGD(0.1),
    "sgd with decay": lambda: cso.SGD(0.1, weight_decay=0.01),
    "adagrad": lambda: cso.Adagrad(0.2, weight_decay=0.01),
    "rowwise adagrad": lambda: cso.Adagrad(0.2, rowwise=True),
    "adam": lambda: cso.Adam(0.01),
}
each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def make_halves(kind, h, **options):
    """A batch in float32 whose W is exact in 16 bits, and that W."""
    p = make_batch(h, dtype="float32", **options)
    W = cso.quantize(p.W, kind)
    return p._replace(W=W.dequantize()), W


def pickled(protocol):
    return lambda W: pickle.loads(pickle.dumps(W, protocol))


def bits_of(W):
    return W.to_arrays()["data"].view(np.uint16)


def draws(seed, step, rows, cols):
    """What element (row, col) draws: 16 bits of a mixed word, as kernels/half.hpp says."""
    keys = np.stack([philox(seed, np.uint64(block), 10 << 56 | step) for block in range(8)])
    add, multiply = (keys[start::2].reshape(16).astype(np.uint32) for start in (0, 1))
    units = -(-cols // 128)
    unit, at = np.divmod(np.arange(cols), 128)
    v, lane = np.divmod(at, 16)
    number = (np.arange(rows)[:, None] * units + unit).astype(np.uint32)
    word = add[lane] + (multiply[lane] | np.uint32(1)) * number
    word = (word ^ word >> 16) * np.uint32(0x7FEB352D)
    word = (word ^ word >> 15) * np.uint32(0x846CA68B)
    word = (word ^ word >> 16).astype(np.uint64)
    rotation = np.array([0, 16, 8, 24, 4, 20, 12, 28], np.uint64)[v]
    return ((word | word << np.uint64(32)) >> rotation & np.uint64(0xFFFF)).astype(np.uint32)


def widened(bits):
    """bfloat16 in float32."""
    return (bits.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def rounded(kind, x, u):
    """The bits of finite x in 16 bits: away from zero if what is cut off and u make one."""
    bits = x.view(np.uint32)
    sign, size = bits >> 16 & 0x8000, np.abs(x)
    if kind == "bfloat16":
        most = np.uint32(0x7F7F)
        found = np.minimum((bits & 0x7FFFFFFF) + u >> 16, most)
    else:
        cut = u >> 3
        small = (size * np.float32(2**24) + cut.astype(np.float32) * np.float32(2**-13)).astype(
            "u4"
        )
        normal = (bits & 0x7FFFFFFF) + cut - (112 << 23) >> 13
        found = np.where(size < 2**-14, small, np.minimum(normal, 0x7BFF))
    return (sign | found).astype(np.uint16)


# ---- agrees with the reference ------------------------------------------------------------------


@each_optimizer
@each_kind
@given(paths(max_nodes=8), st.booleans(), st.sampled_from([1, 5, 16, 37, 140]), st.integers(0, 99))
@settings(max_examples=10)
def test_a_step_is_that_of_float32_and_then_a_rounding(name, kind, shape, bias, D, seed):
    h = shape.hierarchy()
    p, W = make_halves(kind, h, D=D, bias=bias, seed=seed)
    halves, floats = OPTIMIZERS[name](), OPTIMIZERS[name]()
    b, exact_b = (None, None) if p.b is None else (p.b.copy(), p.b.copy())
    for step in range(1, 4):
        exact = W.dequantize()
        before = exact.copy()
        in_halves = step > 1 and halves.state.get("first", exact).dtype == np.int16
        if in_halves:  # else it is float32, or there is none
            floats.state["first"] = widened(halves.state["first"])
        expected = cso.hsoftmax_update(p.X, exact, exact_b, p.labels, h, floats)
        old = bits_of(W).copy()
        got = cso.hsoftmax_update(p.X, W, b, p.labels, h, halves, rng=seed)
        assert digest(got) == digest(expected)
        assert b is None or b.tobytes() == exact_b.tobytes()
        touched = cso.hsoftmax_gradient(p.X, before, b, p.labels, h).rows
        wanted = rounded(kind, exact, draws(seed, step, *exact.shape))
        assert (bits_of(W)[touched] == wanted[touched]).all()
        others = np.setdiff1d(np.arange(h.n_rows), touched)
        assert (bits_of(W)[others] == old[others]).all()
        sums = halves.state.pop("first", None)
        if name == "adagrad":  # sum j draws what element j ^ 16 does
            beside = draws(seed, step, len(exact), -(-D // 32) * 32)[:, np.arange(D) ^ 16]
            sums_wanted = rounded("bfloat16", floats.state["first"], beside)
            assert (sums.view(np.uint16)[touched] == sums_wanted[touched]).all()
            assert not (sums[others].any() and step == 1)
        elif sums is not None:
            assert sums.tobytes() == floats.state["first"].tobytes()
        for state in halves.state:
            assert halves.state[state].tobytes() == floats.state[state].tobytes()
        if sums is not None:
            halves.state = {"first": sums, **halves.state}


@each_kind
@given(paths(max_nodes=8), st.sampled_from([1, 5, 16, 37]), st.booleans(), st.integers(0, 99))
@settings(max_examples=20)
def test_the_gradient_is_that_of_the_widened_rows(kind, shape, D, sparse, seed):
    p, W = make_halves(kind, shape.hierarchy(), D=D, seed=seed)
    expected = cso.hsoftmax_gradient(*p, sparse=sparse)
    got = cso.hsoftmax_gradient(*p._replace(W=W), sparse=sparse)
    for mine, theirs in zip(got, expected, strict=True):
        assert (mine is None and theirs is None) or mine.tobytes() == theirs.tobytes()


def arrays_of(kind, W):
    """The same rows as arrays that hold 16-bit floats."""
    if kind == "float16":
        return W.dequantize().astype(np.float16)
    return W.dequantize().astype(pytest.importorskip("ml_dtypes").bfloat16)


@each_kind
def test_arrays_of_16_bits_are_changed_where_they_lie(kind):
    p, W = make_halves(kind, BUILDERS["huffman"](9))
    array = arrays_of(kind, W)
    for optimizer in (cso.SGD(0.1), cso.Adam(0.01)):
        other = copy.deepcopy(optimizer)
        a, b = p.b.copy(), p.b.copy()
        mine = cso.hsoftmax_update(p.X, array, a, p.labels, p.h, optimizer)
        theirs = cso.hsoftmax_update(p.X, W, b, p.labels, p.h, other)
        assert digest(mine) == digest(theirs)
        assert array.tobytes() == bits_of(W).tobytes()
        assert a.tobytes() == b.tobytes()


# ---- mathematics --------------------------------------------------------------------------------


@each_kind
def test_steps_far_below_half_an_ulp_add_up(kind):
    """To nearest none of them would be seen."""
    ulp = 2.0 ** (-7 if kind == "bfloat16" else -10)  # of numbers in [1, 2)
    D, steps, start = 512, 2000, 1.25
    W = cso.quantize(np.full((1, D), start), kind)
    X, h = np.full((1, D), 1 / D, np.float32), cso.Hierarchy.balanced(2)
    optimizer, moved = (
        cso.SGD(ulp / 100 * D * (1 + np.exp(start))),
        0.0,
    )  # 1/100 ulp a step at first
    for _ in range(steps):
        nll = cso.hsoftmax_update(X, W, None, [1], h, optimizer).nll[0]
        moved += optimizer.lr * -np.expm1(-float(nll)) / D
    assert 15 * ulp < moved < 21 * ulp
    # a rounding that moves an element by an ulp with probability q has a variance of q (1 - q) ulp²
    error = np.sqrt(moved * ulp / D)
    assert abs(W.dequantize().mean(dtype=float) - start - moved) <= 5 * error


@each_kind
def test_sums_of_small_squares_add_up_within_their_bound(kind):
    """Squares of 1 / 1000 of an ulp of the sum at first; to nearest none of them would be seen."""
    D, steps = 512, 2000
    h, optimizer = cso.Hierarchy.balanced(2), cso.Adagrad(1e-6)
    W = cso.quantize(np.zeros((1, D)), kind)
    X = np.full((1, D), 1.0, np.float32)
    for step in range(steps):
        if step == 1:
            X /= np.float32(np.sqrt(1000 * 128))
        cso.hsoftmax_update(X, W, None, [step % 2], h, optimizer)  # a gradient of X / 2
    found = widened(optimizer.state["first"])[0].astype(float)
    exact = 0.25 * (1 + (steps - 1) / 128_000)
    spread = np.sqrt((exact - 0.25) * 2**-9)  # ulp times what was added, below 1 / 2
    assert found.std() <= 1.2 * spread < exact / np.sqrt(128)
    assert abs(found.mean() - exact) <= 5 * spread / np.sqrt(D)


@each_kind
def test_numbers_that_fit_stay(kind):
    """A step of nothing, on rows of every kind of number."""
    p, W = make_halves(kind, BUILDERS["huffman"](9), D=70, scale=3.0)
    before = bits_of(W).copy()
    for optimizer in (cso.SGD(0.1), cso.Adagrad(0.1), cso.Adam(0.1)):
        nothing = np.zeros(len(p.X))
        cso.hsoftmax_update(*p._replace(W=W), optimizer, sample_weight=nothing)
    assert (bits_of(W) == before).all()


@pytest.mark.parametrize(("kind", "lr"), [("bfloat16", 3e32), ("float16", 1e4)])
def test_the_largest_number_is_never_passed(kind, lr):
    largest = float.fromhex("0x1.fep127") if kind == "bfloat16" else 65504.0
    for label in (0, 1):
        W = cso.quantize(np.array([[largest, -largest]]), kind)
        for _ in range(20):
            X = np.sign(W.dequantize()[0] * [1, -1])[None]  # the logit stays small
            cso.hsoftmax_update(X, W, None, [label], cso.Hierarchy.balanced(2), cso.SGD(lr))
            assert np.abs(W.dequantize()).max() <= largest


@each_optimizer
@each_kind
def test_the_loss_of_a_fixed_batch_falls_as_in_float32(name, kind):
    p, W = make_halves(kind, BUILDERS["huffman"](20), N=30)
    b, half, full = p.b.copy(), OPTIMIZERS[name](), OPTIMIZERS[name]()
    mine = [cso.hsoftmax_update(p.X, W, b, p.labels, p.h, half).nll.mean() for _ in range(60)]
    theirs = [cso.hsoftmax_update(*p, full).nll.mean() for _ in range(60)]
    assert mine[-1] < 0.7 * mine[0]
    assert abs(mine[-1] - theirs[-1]) <= 0.02 * theirs[0]


def noisy_classes(n_classes=200, dim=16, n=4000):
    """Points around a center a class, classes by Zipf's law."""
    rng = np.random.default_rng(0)
    labels = np.minimum(rng.zipf(1.5, n) - 1, n_classes - 1)
    centers = rng.normal(size=(n_classes, dim))
    X = centers[labels] + 0.7 * rng.normal(size=(n, dim))
    return X.astype(np.float32), labels.astype(np.int64), n_classes


def held_out_quality(W, b, X, labels, h):
    nll = cso.hsoftmax(X, W, b, labels, h).mean()
    return nll, (cso.hsoftmax_search(X, W, b, h).classes[:, 0] == labels).mean()


@pytest.mark.parametrize(
    "make", [lambda: cso.SGD(0.02), lambda: cso.Adagrad(0.1, rowwise=True), lambda: cso.Adam(0.003)]
)
@each_kind
def test_what_is_learnt_is_as_good_as_in_float32(kind, make):
    X, labels, n_classes = noisy_classes()
    h = cso.Hierarchy.huffman(np.bincount(labels, minlength=n_classes) + 1)
    train, test = slice(0, 3000), slice(3000, None)
    found = []
    for half in (True, False):
        W, b = cso.init_weights(h, X.shape[1], rng=0)
        W, optimizer = cso.quantize(W, kind) if half else W, make()
        for _ in range(5):
            for i in range(train.start, train.stop, 50):
                y = labels[i : i + 50]
                cso.hsoftmax_update(X[i : i + 50], W, b, y, h, optimizer)
        found.append(held_out_quality(W, b, X[test], labels[test], h))
    (nll, right), (exact_nll, exact_right) = found
    assert abs(nll - exact_nll) <= 0.02
    assert abs(right - exact_right) <= 0.01


# ---- rejections ---------------------------------------------------------------------------------


def test_rows_that_cannot_be_trained_are_refused():
    p = make_batch(BUILDERS["huffman"](9), dtype="float32")
    for refused in (cso.quantize(p.W, "int8"), cso.quantize(p.W, "int8")._compiled):
        with pytest.raises(TypeError, match="W must"):
            cso.hsoftmax_update(*p._replace(W=refused), cso.SGD(0.1))
    data = cso.quantize(p.W, "bfloat16").to_arrays()["data"]  # read-only, as a mapped file is
    with pytest.raises(ValueError, match="W must be writeable to be changed in place, got read-on"):
        cso.hsoftmax_update(*p._replace(W=cso.QuantizedWeights(data)), cso.SGD(0.1))
    W = p.W.astype(np.float16)
    for wrong, error in (
        (W[:, ::2], ValueError),
        (np.asfortranarray(W), ValueError),
        (W.tolist(), TypeError),
        (W[1:].copy(), ValueError),
        (W[0], ValueError),
        (W.view(np.int16), TypeError),
    ):
        with pytest.raises(error, match="W must"):
            cso.hsoftmax_update(*p._replace(W=wrong), cso.SGD(0.1))


@each_optimizer
@each_kind
def test_a_refused_update_writes_nothing(name, kind):
    p, W = make_halves(kind, cso.Hierarchy.huffman(counts_of(10)))
    optimizer = OPTIMIZERS[name]()
    cso.hsoftmax_update(*p._replace(W=W), optimizer)
    X, large, labels = p.X.copy(), p.X.copy(), p.labels.copy()
    X[2, 1], large[0, 1], labels[3] = np.nan, 1e35, 12
    not_finite = arrays_of(kind, W)
    not_finite[:] = np.inf
    cases = [
        ({"X": X}, {}, "X must be finite, got nan at row 2, column 1"),
        ({"X": large * 1e-1}, {}, "(X must keep gradients|W and b must be finite)"),
        ({"W": not_finite}, {}, "W and b must be finite"),
        ({"labels": labels}, {}, r"labels must be in \[0, 10\), got 12 at index 3"),
        ({"b": p.b.astype(float)}, {}, "b must have float32 where W has 16 bits, got float64"),
        ({"b": p.b[1:].copy()}, {}, "b must have"),
        ({}, {"rng": -1}, r"rng must be in \[0, 2\*\*64\), got -1"),
        ({}, {"rng": "seed"}, "rng must be None, an integer"),
        ({}, {"sample_weight": np.full(len(p.X), 1e35)}, "sample_weight must keep gradients"),
    ]
    before, state = bits_of(W).copy(), pickle.dumps(optimizer.state_dict())
    b = p.b.tobytes()
    for change, options, message in cases:
        with pytest.raises((ValueError, TypeError), match=message):
            cso.hsoftmax_update(*p._replace(**{"W": W, **change}), optimizer, **options)
        assert (bits_of(W) == before).all()
        assert p.b.tobytes() == b
        assert pickle.dumps(optimizer.state_dict()) == state


# ---- promises -----------------------------------------------------------------------------------


def many_updates(**options):
    """sha256 of what updates write, on narrow and wide nodes, with all optimizers."""
    found = []
    for tree in ("huffman", "two_level"):
        for kind in KINDS:
            for make in OPTIMIZERS.values():
                p, W = make_halves(kind, BUILDERS[tree](300), N=32, D=33, scale=0.1)
                b, optimizer, rng = p.b.copy(), make(), np.random.default_rng(1)
                for _ in range(60):
                    X = rng.normal(size=p.X.shape).astype(np.float32)
                    labels = rng.integers(0, 300, len(X))
                    nll, dX = cso.hsoftmax_update(X, W, b, labels, p.h, optimizer, **options)
                found += [nll, dX, bits_of(W), b, *optimizer.state.values()]
    return hashlib.sha256(digest(found).encode()).hexdigest()


def test_updates_give_the_same_bytes_on_one_two_and_three_threads():
    assert len({many_updates(num_threads=n) for n in (1, 2, 3)}) == 1


def test_updates_give_the_same_bytes_on_every_fma_instruction_set(child, fma_isas):
    if len(fma_isas) < 2:
        pytest.skip(f"this machine runs {fma_isas} alone")
    assert len({child.call(many_updates, isa=isa) for isa in fma_isas}) == 1


def test_the_seed_and_the_count_of_steps_say_how_rows_are_rounded():
    p, W = make_halves("bfloat16", BUILDERS["huffman"](30), N=20, D=33)

    def step(rng, step_count=0):
        own, optimizer = copy.copy(W), cso.SGD(1e-4)
        optimizer.step_count = step_count
        cso.hsoftmax_update(p.X, own, p.b.copy(), p.labels, p.h, optimizer, rng=rng)
        return bits_of(own).tobytes()

    assert step(0) == step(0) == step(np.uint64(0))
    assert len({step(0), step(1), step(2**64 - 1), step(0, 1), step(0, 2**40)}) == 5
    assert step(None) != step(None)
    assert step(np.random.default_rng(3)) == step(np.random.default_rng(3))


@each_kind
@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickled(4), pickled(5)])
def test_a_copy_has_memory_of_its_own(kind, how):
    p, W = make_halves(kind, BUILDERS["huffman"](9))
    other, before = how(W), bits_of(W).copy()
    cso.hsoftmax_update(p.X, other, p.b, p.labels, p.h, cso.SGD(1.0))
    assert (bits_of(W) == before).all()
    assert (bits_of(other) != before).any()


@each_kind
def test_resuming_is_as_if_never_stopped(kind):
    p, start = make_halves(kind, BUILDERS["huffman"](30))

    def run(stop):
        W, b, optimizer = copy.copy(start), p.b.copy(), cso.Adagrad(0.1, rowwise=True)
        for step in range(6):
            if stop and step == 3:
                W = cso.QuantizedWeights.from_arrays(
                    {name: array.copy() for name, array in W.to_arrays().items()}
                )
                state, optimizer = optimizer.state_dict(), cso.Adagrad(0.1, rowwise=True)
                optimizer.load_state_dict(pickle.loads(pickle.dumps(state)))
            cso.hsoftmax_update(p.X, W, b, p.labels, p.h, optimizer, rng=7)
        return digest([bits_of(W), b])

    assert run(stop=True) == run(stop=False)


def test_rows_of_float32_ignore_the_seed():
    p = make_batch(BUILDERS["huffman"](9), dtype="float32")
    update = functools.partial(cso.hsoftmax_update, p.X, labels=p.labels, h=p.h)
    found = set()
    for rng in (0, 1, None):
        W, b = p.W.copy(), p.b.copy()
        update(W=W, b=b, optimizer=cso.SGD(0.1), rng=rng)
        found.add(digest([W, b]))
    assert len(found) == 1
