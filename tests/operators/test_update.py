"""The fused update: equal to the gradient and then a step of the optimizer."""

import copy
import functools
import hashlib
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cython_sparseops as cso
from helpers import reference
from helpers.batches import digest, make_batch, read_only
from helpers.hierarchies import BUILDERS, counts_of, paths

Hierarchy = cso.Hierarchy

DECAY = 1 / 32  # exact in float32, so that where it cancels a gradient the difference is exact too

# name -> an optimizer of ours or of the oracle, made anew
PLAIN = {
    "sgd": lambda m: m.SGD(0.1),
    "adagrad": lambda m: m.Adagrad(0.2),
    "rowwise adagrad": lambda m: m.Adagrad(0.2, rowwise=True),
    "adam": lambda m: m.Adam(0.01),
}
DECAYING = {
    "sgd with decay": lambda m: m.SGD(0.1, weight_decay=DECAY),
    "adagrad with decay": lambda m: m.Adagrad(0.2, eps=1e-6, weight_decay=DECAY),
    "rowwise adagrad with decay": lambda m: m.Adagrad(0.2, rowwise=True, weight_decay=DECAY),
    "adam with decay": lambda m: m.Adam(0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=DECAY),
}
OPTIMIZERS = PLAIN | DECAYING
each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def stream(p, steps, seed=1):
    """Batches of the shape of p, one after another."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        X = rng.normal(size=p.X.shape).astype(p.X.dtype)
        yield X, rng.integers(0, p.h.n_classes, len(X))


def train(p, optimizer, steps=200, **options):
    """sha256 of everything that 200 updates write."""
    W, b = p.W.copy(), None if p.b is None else p.b.copy()
    parts = [
        cso.hsoftmax_update(X, W, b, labels, p.h, optimizer, **options)
        for X, labels in stream(p, steps)
    ]
    return digest([W] + ([] if b is None else [b]) + [a for part in parts for a in part])


def same_bytes(a, b):
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


# ---- agrees with the reference ------------------------------------------------------------------


@each_optimizer
@given(
    paths(max_nodes=8), st.booleans(), st.sampled_from(["float32", "float64"]), st.integers(0, 99)
)
@settings(max_examples=20)
def test_an_update_is_the_gradient_at_the_old_weights_and_then_a_step(
    name, shape, bias, dtype, seed
):
    p = make_batch(shape.hierarchy(), dtype=dtype, bias=bias, seed=seed)
    W, b = p.W.copy(), None if p.b is None else p.b.copy()
    exact_W, exact_b = W.astype(float), None if b is None else b.astype(float)
    ours, theirs, steps = OPTIMIZERS[name](cso), OPTIMIZERS[name](reference), 4
    for X, labels in stream(p, steps, seed):
        weight = np.random.default_rng(seed).integers(0, 3, len(X)).astype(dtype)
        args = X, W, b, labels
        now = p._replace(X=X, W=W.copy(), b=b)
        nll, dX, *_ = reference.gradient(p.tree, *args, sample_weight=weight)
        sparse = cso.hsoftmax_gradient(*args, p.h, grad_output=weight)
        dense = cso.hsoftmax_gradient(*args, p.h, grad_output=weight, sparse=False)
        got = cso.hsoftmax_update(*args, p.h, ours, sample_weight=weight)
        assert got.nll.dtype == got.X.dtype == dtype
        assert np.abs(got.nll - nll).max(initial=0) <= 2 * now.tolerance
        assert np.abs(got.X - dX).max(initial=0) <= now.gradient_tolerance(2)
        touched = np.isin(np.arange(p.h.n_rows), sparse.rows)
        theirs.step(exact_W, exact_b, dense.W.astype(float), dense.b.astype(float), touched)
        # a step is a dozen operations on numbers no larger than these, and so is the state
        largest = 1 + max(np.abs(a).max(initial=0) for a in (now.W, dense.W, dense.b))
        for mine, exact in ((W, exact_W), (b, exact_b)):
            if mine is not None:
                off = np.abs(mine - exact).max(initial=0)
                assert off <= 16 * steps * np.finfo(dtype).eps * largest
                exact[...] = mine


@each_optimizer
def test_an_update_takes_upstream_gradients_of_any_sign(name):
    """What a layer gets in a backward pass; the losses stay those of the examples."""
    p, ours = make_batch(BUILDERS["huffman"](9), N=12), OPTIMIZERS[name](cso)
    upstream, W, b = np.linspace(-2.0, 3.0, 12), p.W.copy(), p.b.copy()
    dense = cso.hsoftmax_gradient(*p, grad_output=upstream, sparse=False)
    got = cso.hsoftmax_update(*p, ours, grad_output=upstream)
    assert (got.nll == dense.nll).all()
    assert (got.X == dense.X).all()
    touched = np.isin(np.arange(p.h.n_rows), cso.hsoftmax_gradient(*p).rows)
    theirs = OPTIMIZERS[name](reference)
    theirs.step(W, b, dense.W, dense.b, touched)
    largest = 1 + max(np.abs(a).max() for a in (W, b, dense.W))
    assert np.abs(p.W - W).max() <= 16 * np.finfo(float).eps * largest
    assert np.abs(p.b - b).max() <= 16 * np.finfo(float).eps * largest


# ---- mathematics --------------------------------------------------------------------------------


@each_optimizer
def test_the_loss_of_a_fixed_batch_falls(name):
    X, W, b, labels, h = make_batch(BUILDERS["huffman"](20), N=30, dtype="float32")
    optimizer = OPTIMIZERS[name](cso)
    losses = [cso.hsoftmax_update(X, W, b, labels, h, optimizer).nll.sum() for _ in range(60)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_first_steps_of_adam_on_one_gradient_are_the_learning_rate(dtype):
    """The corrections undo the start from 0: with a constant gradient every step is lr, to rounding
    (found when 1 - beta2, of a beta2 rounded to float32, met a correction by the exact beta2)."""
    h, lr = Hierarchy.balanced(2), 2.0**-30  # so small that the gradient stays what it is
    W, optimizer = np.zeros((1, 3), dtype), cso.Adam(lr, eps=0.0)
    for step in range(1, 5):
        cso.hsoftmax_update(np.ones((1, 3), dtype), W, None, [0], h, optimizer)
        off = np.abs(W / (-lr * step) - 1).max()
        assert off <= step * (8 * np.finfo(dtype).eps + lr)


@each_optimizer
def test_rows_that_no_label_touches_stay_as_they_are(name):
    X, W, b, labels, h = make_batch(BUILDERS["two_level"](50), N=2)
    touched = cso.hsoftmax_gradient(X, W, b, labels, h).rows
    optimizer, before, b_before = OPTIMIZERS[name](cso), W.copy(), b.copy()
    for _ in range(3):
        cso.hsoftmax_update(X, W, b, labels, h, optimizer)
    changed = np.flatnonzero((before != W).any(axis=1) | (b != b_before))
    assert changed.tolist() == touched.tolist()


def test_ignored_and_weightless_rows_and_smoothing_follow_the_gradient():
    X, W, b, labels, h = make_batch(BUILDERS["huffman"](9), N=12)
    labels[:3], weight = -1, np.arange(12.0)
    options = {"ignore_index": -1, "label_smoothing": 0.1, "sample_weight": weight}
    _, _, dW, db, _ = reference.gradient(reference.Tree.of(h), X, W, b, labels, **options)
    expected = W - 0.5 * dW, b - 0.5 * db
    got = cso.hsoftmax_update(X, W, b, labels, h, cso.SGD(0.5), **options)
    assert not got.nll[:3].any()
    assert not got.X[:3].any()
    np.testing.assert_allclose(W, expected[0], atol=1e-12)
    np.testing.assert_allclose(b, expected[1], atol=1e-12)


# ---- edges --------------------------------------------------------------------------------------


@each_optimizer
def test_no_rows_one_class_and_no_bias_are_legal(name):
    optimizer = OPTIMIZERS[name](cso)
    X, W, b, labels, h = make_batch(BUILDERS["huffman"](9), N=0)
    before = digest([W, b])
    got = cso.hsoftmax_update(X, W, b, labels, h, optimizer)
    assert got.nll.shape == (0,)
    assert got.X.shape == (0, 5)
    assert digest([W, b]) == before
    one = make_batch(Hierarchy.balanced(1), N=3)
    assert cso.hsoftmax_update(*one, OPTIMIZERS[name](cso)).nll.tolist() == [0, 0, 0]
    free = make_batch(BUILDERS["huffman"](9), bias=False)
    before = free.W.copy()
    cso.hsoftmax_update(*free, OPTIMIZERS[name](cso))
    assert (before != free.W).any()


def test_x_is_cast_to_the_dtype_of_w():
    X, W, b, labels, h = make_batch(BUILDERS["huffman"](9), dtype="float32")
    other, other_b = W.copy(), b.copy()
    got = cso.hsoftmax_update(X.astype(float), W, b, labels, h, cso.SGD(0.1))
    assert got.X.dtype == np.float32
    cso.hsoftmax_update(X, other, other_b, labels, h, cso.SGD(0.1))
    assert same_bytes(W, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("eps", [0.0, 1e-60, 1e-300])
@pytest.mark.parametrize("lr", [0.1, 1e30])
def test_a_step_of_nothing_moves_nothing(dtype, eps, lr):
    """0 / 0 was NaN in all of them, and so was an infinite step times 0."""
    for make in (cso.Adagrad, functools.partial(cso.Adagrad, rowwise=True), cso.Adam):
        p = make_batch(BUILDERS["huffman"](9), dtype=dtype)
        before = digest([p.W, p.b])
        for _ in range(2):
            cso.hsoftmax_update(*p, make(lr, eps=eps), sample_weight=np.zeros(len(p.X)))
        assert digest([p.W, p.b]) == before


# ---- rejections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SGD", "Adagrad", "Adam"])
def test_settings_out_of_range_are_refused(name):
    make = getattr(cso, name)
    for lr in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="lr must"):
            make(lr)
    with pytest.raises(ValueError, match="weight_decay must"):
        make(0.1, weight_decay=-1)
    if name != "SGD":
        with pytest.raises(ValueError, match="eps must"):
            make(0.1, eps=-1)
    for betas in ((1.0, 0.9), (0.9, -0.1)):
        with pytest.raises(ValueError, match="beta"):
            cso.Adam(0.1, betas=betas)


def broken(p):
    """What is wrong -> (arguments, options, what the message says)."""

    def at(a, place, value):
        a = a.copy()
        a[place] = value
        return a

    return {
        "label": (
            p._replace(labels=at(p.labels, 3, 12)),
            r"labels must be in \[0, 10\), got 12 at index 3",
        ),
        "labels": (p._replace(labels=p.labels[1:]), "labels must"),
        "X": (
            p._replace(X=at(p.X, (2, 1), np.nan)),
            "X must be finite, got nan at row 2, column 1",
        ),
        "W": (p._replace(W=at(p.W, slice(None), np.inf)), "W and b must be finite"),
        "b": (p._replace(b=at(p.b, slice(None), np.nan)), "W and b must be finite"),
        "W's rows": (p._replace(W=p.W[1:].copy()), r"W must have shape \("),
        "b's rows": (p._replace(b=p.b[1:].copy()), "b must"),
        "read-only W": (p._replace(W=read_only(p.W)[0]), "W must"),
        "read-only b": (p._replace(b=read_only(p.b)[0]), "b must"),
        "strided W": (p._replace(W=np.repeat(p.W, 2, axis=1)[:, ::2]), "W must"),
        "Fortran W": (p._replace(W=np.asfortranarray(p.W)), "W must"),
        "integer W": (p._replace(W=p.W.astype(int)), "W must"),
        "list for W": (p._replace(W=p.W.tolist()), "W must"),
        "b of another dtype": (p._replace(b=p.b.astype("float32")), "b must"),
    }


@each_optimizer
@pytest.mark.parametrize("case", broken(make_batch(Hierarchy.balanced(10))))
def test_a_refused_update_writes_nothing(name, case):
    good = make_batch(Hierarchy.huffman(counts_of(10)))
    optimizer = OPTIMIZERS[name](cso)
    cso.hsoftmax_update(*good, optimizer)
    bad, message = broken(good)[case]
    arrays, state = digest(bad[:4]), pickle.dumps(optimizer.state_dict())
    with pytest.raises((ValueError, TypeError), match=message):
        cso.hsoftmax_update(*bad, optimizer)
    assert digest(bad[:4]) == arrays
    assert pickle.dumps(optimizer.state_dict()) == state


def test_bad_weights_and_another_model_are_refused():
    p = make_batch(Hierarchy.huffman(counts_of(10)))
    for weight in (np.ones(3), -np.ones(7), np.full(7, np.inf)):
        before = digest(p[:4])
        with pytest.raises(ValueError, match="sample_weight must"):
            cso.hsoftmax_update(*p, cso.SGD(0.1), sample_weight=weight)
        assert digest(p[:4]) == before
    for upstream in (np.ones(3), np.full(7, -np.inf), np.full(7, 1e300)):
        before = digest(p[:4])
        with pytest.raises(ValueError, match="grad_output must"):
            cso.hsoftmax_update(*p, cso.SGD(1e9), grad_output=upstream)
        assert digest(p[:4]) == before
    with pytest.raises(ValueError, match="grad_output must be None where sample_weight is given"):
        cso.hsoftmax_update(*p, cso.SGD(0.1), grad_output=np.ones(7), sample_weight=np.ones(7))
    optimizer = cso.Adagrad(0.1)
    with pytest.raises(ValueError, match="X must be finite"):
        cso.hsoftmax_update(
            *make_batch(Hierarchy.balanced(4))._replace(X=np.full((7, 5), np.nan)), optimizer
        )
    cso.hsoftmax_update(*p, optimizer)  # a refused call does not bind it to its W
    with pytest.raises(ValueError, match="optimizer"):
        cso.hsoftmax_update(*make_batch(Hierarchy.balanced(11)), optimizer)
    with pytest.raises(TypeError, match="optimizer must"):
        cso.hsoftmax_update(*p, "sgd")


@each_optimizer
@pytest.mark.parametrize(("dtype", "large"), [("float32", 1e35), ("float64", 1e305)])
@pytest.mark.parametrize("argument", ["sample_weight", "X"])
def test_what_gradients_cannot_hold_is_refused(name, dtype, large, argument):
    """Infinite state never let the row move again, an infinite gradient made W infinite."""
    p, optimizer = make_batch(BUILDERS["huffman"](9), dtype=dtype), OPTIMIZERS[name](cso)
    cso.hsoftmax_update(*p, optimizer)
    arrays, state = digest([p.W, p.b]), pickle.dumps(optimizer.state_dict())
    weight = np.ones(len(p.X))
    if argument == "X":
        p.X[0, 1] = large
        p.W[:] = np.abs(p.W) / large
        arrays = digest([p.W, p.b])
    else:
        weight[0] = large
    with pytest.raises(ValueError, match=rf"^{argument} must keep gradients .* got .*e\+3"):
        cso.hsoftmax_update(*p, optimizer, sample_weight=weight)
    assert digest([p.W, p.b]) == arrays
    assert pickle.dumps(optimizer.state_dict()) == state
    ignored = p.labels.copy()
    ignored[0] = -1  # what no label asks for is no part of a gradient
    cso.hsoftmax_update(
        p.X, p.W, p.b, ignored, p.h, optimizer, sample_weight=weight, ignore_index=-1
    )
    assert np.isfinite(p.W).all()


@each_optimizer
def test_settings_that_the_dtype_of_w_cannot_hold_are_refused(name):
    p, optimizer = make_batch(BUILDERS["huffman"](9), dtype="float32"), OPTIMIZERS[name](cso)
    before = digest([p.W, p.b])
    for setting in ("lr", "weight_decay", "eps"):
        if hasattr(optimizer, setting):
            good = getattr(optimizer, setting)
            setattr(optimizer, setting, 1e39)
            with pytest.raises(ValueError, match=rf"^{setting} must be finite .* got 1e\+39"):
                cso.hsoftmax_update(*p, optimizer)
            setattr(optimizer, setting, good)
    assert digest([p.W, p.b]) == before


# ---- promises -----------------------------------------------------------------------------------


def some_batches():
    return [
        make_batch(BUILDERS[tree](300), N=32, D=33, dtype=dtype, scale=0.1)
        for tree in ("huffman", "two_level")
        for dtype in ("float32", "float64")
    ]


def two_hundred_updates(**options):
    digests = [
        train(p, make(cso), **options)
        for p in some_batches()
        for make in (PLAIN["sgd"], *DECAYING.values())
    ]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def test_two_hundred_updates_give_the_same_bytes_on_one_two_and_three_threads():
    assert len({two_hundred_updates(num_threads=n) for n in (1, 2, 3)}) == 1


def test_two_hundred_updates_give_the_same_bytes_on_every_fma_instruction_set(child, fma_isas):
    if len(fma_isas) < 2:
        pytest.skip(f"this machine runs {fma_isas} alone")
    assert len({child.call(two_hundred_updates, isa=isa) for isa in fma_isas}) == 1


@each_optimizer
@pytest.mark.parametrize("how", ["state_dict", "pickle", "deepcopy"])
def test_resuming_is_as_if_never_stopped(name, how):
    p = make_batch(BUILDERS["huffman"](30), dtype="float32")

    def run(stop):
        W, b, optimizer = p.W.copy(), p.b.copy(), OPTIMIZERS[name](cso)
        for i, (X, labels) in enumerate(stream(p, 10)):
            if stop and i == 5 and how == "state_dict":
                state = pickle.loads(pickle.dumps(optimizer.state_dict()))
                optimizer = OPTIMIZERS[name](cso)
                optimizer.load_state_dict(state)
            elif stop and i == 5:
                optimizer = {
                    "pickle": lambda o: pickle.loads(pickle.dumps(o)),
                    "deepcopy": copy.deepcopy,
                }[how](optimizer)
            cso.hsoftmax_update(X, W, b, labels, p.h, optimizer)
        return digest([W, b])

    assert run(stop=True) == run(stop=False)


def test_a_state_dict_is_plain_and_does_not_change_afterwards():
    p, optimizer = make_batch(BUILDERS["huffman"](9)), cso.Adam(0.01)
    cso.hsoftmax_update(*p, optimizer)
    state = optimizer.state_dict()
    plain = (int, float, bool, str, type(None), tuple, list, np.ndarray)
    assert all(isinstance(key, str) and isinstance(value, plain) for key, value in state.items())
    before = pickle.dumps(state)
    cso.hsoftmax_update(*p, optimizer)
    assert pickle.dumps(state) == before
    with pytest.raises((ValueError, KeyError, TypeError)):
        cso.Adam(0.01).load_state_dict({"nonsense": 1})


def test_read_only_x_labels_and_weights_are_accepted():
    p = make_batch(BUILDERS["huffman"](9))
    X, labels, weight = read_only(p.X, p.labels, np.ones(len(p.X)))
    cso.hsoftmax_update(X, p.W, p.b, labels, p.h, cso.SGD(0.1), sample_weight=weight)
    assert same_bytes(X, make_batch(BUILDERS["huffman"](9)).X)


def test_a_state_that_the_constructor_would_refuse_is_refused():
    optimizer = cso.Adam(0.1)
    for change in (
        {"lr": -1},
        {"lr": "x"},
        {"step_count": -5},
        {"step_count": "a"},
        {"betas": (2, 0)},
    ):
        with pytest.raises((ValueError, TypeError), match="must"):
            optimizer.load_state_dict({**optimizer.state_dict(), **change})
    assert optimizer.lr == 0.1


def test_biases_inside_the_weights_are_refused():
    W = np.zeros((7, 5))
    with pytest.raises(ValueError, match="b must not overlap W"):
        cso.hsoftmax_update(
            np.ones((2, 5)), W, W.ravel()[:7], [0, 1], cso.Hierarchy.balanced(8), cso.SGD(0.1)
        )
    assert not W.any()


# ---- the surface


def test_settings_may_come_in_their_order():
    """As the surface states it: lr first, weight_decay last."""
    assert repr(cso.SGD(0.1, 1e-5)) == repr(cso.SGD(lr=0.1, weight_decay=1e-5))
    named = cso.Adagrad(lr=0.1, eps=1e-6, rowwise=True, weight_decay=1e-5)
    assert repr(cso.Adagrad(0.1, 1e-6, True, 1e-5)) == repr(named)
    named = cso.Adam(lr=0.1, betas=(0.8, 0.9), eps=1e-6, weight_decay=1e-5)
    assert repr(cso.Adam(0.1, (0.8, 0.9), 1e-6, 1e-5)) == repr(named)


def test_a_word_that_the_compiled_layer_does_not_know_is_refused():
    """Another method was taken as SGD, another limit of prune as max_depth."""
    from cython_sparseops._core import hierarchy, quantize, update

    with pytest.raises(ValueError, match=r"^method must be sgd, .*, got adamw$"):
        update.Settings("adamw", None, 1, 0.1, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match=r"^by must be min_count, .*, got depth$"):
        hierarchy.prune(cso.Hierarchy.balanced(4)._tree, np.ones(4), "depth", 1.0)
    with pytest.raises(ValueError, match=r"^kind must be int8, .*, got int4$"):
        quantize.Quantized("int4", np.zeros((1, 1), np.uint8), 1, None)


@pytest.mark.parametrize("make", [cso.Adagrad, cso.Adam, lambda lr: cso.Adagrad(lr, rowwise=True)])
def test_read_only_state_is_called_that(make):
    h = Hierarchy.balanced(4)
    W, b = np.zeros((3, 2)), np.zeros(3)
    optimizer = make(0.1)
    cso.hsoftmax_update(np.ones((1, 2)), W, b, [0], h, optimizer)
    for array in optimizer.state.values():
        array.flags.writeable = False
    before = W.copy()
    with pytest.raises(ValueError, match=r"state of this W that is writeable, got read-only"):
        cso.hsoftmax_update(np.ones((1, 2)), W, b, [0], h, optimizer)
    np.testing.assert_array_equal(W, before)
    optimizer.load_state_dict(optimizer.state_dict())
    cso.hsoftmax_update(np.ones((1, 2)), W, b, [0], h, optimizer)
    assert optimizer.step_count == 2
