"""Hierarchical softmax: loss, gradient, log-probabilities, sampling, first weights.

The promises of the room (threads, instruction sets, memory) are in test_hsoftmax_promises.py.
"""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cython_sparseops as cso
from helpers import reference
from helpers.batches import all_results, batches, digest, make_batch, read_only
from helpers.hierarchies import BUILDERS, counts_of

Hierarchy = cso.Hierarchy


def assert_close(got, expected, tolerance):
    assert got.shape == np.shape(expected)
    assert np.abs(got.astype(float) - expected).max(initial=0) <= tolerance


# ---- agrees with the reference ------------------------------------------------------------------


@given(batches())
def test_nll_and_residuals_agree(p):
    nll, residuals = cso.hsoftmax(*p, return_residuals=True)
    assert nll.dtype == residuals.dtype == p.X.dtype
    assert_close(nll, reference.nll(p.tree, *p[:4]), p.tolerance)
    assert_close(residuals, reference.residuals(p.tree, *p[:4]), p.tolerance)
    assert (cso.hsoftmax(*p) == nll).all()


@given(batches(), st.integers(0, 10**6))
def test_sparse_and_dense_gradients_agree(p, seed):
    g = np.random.default_rng(seed).normal(size=len(p.X)).astype(p.X.dtype)
    nll, dX, dW, db, touched = reference.gradient(p.tree, *p[:4], grad_output=g)
    tolerance = p.gradient_tolerance(np.abs(g).max(initial=1))
    sparse = cso.hsoftmax_gradient(*p, grad_output=g)
    dense = cso.hsoftmax_gradient(*p, grad_output=g, sparse=False)
    assert sparse.rows.dtype == np.int64
    assert sparse.rows.tolist() == np.flatnonzero(touched).tolist()
    assert dense.rows is None
    for got in (sparse, dense):
        assert {a.dtype for a in (got.nll, got.X, got.W, got.b)} == {p.X.dtype}
        assert_close(got.nll, nll, p.tolerance)
        assert_close(got.X, dX, tolerance)
    assert_close(sparse.W, dW[touched], tolerance)
    assert_close(sparse.b, db[touched], tolerance)
    assert_close(dense.W, dW, tolerance)
    assert_close(dense.b, db, tolerance)


@given(batches(min_rows=1), st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.9]))
def test_weights_ignored_labels_and_smoothing_agree(p, seed, smoothing):
    rng = np.random.default_rng(seed)
    ignore = int(rng.choice([-100, p.labels[0], p.h.n_classes]))
    labels = np.where(rng.random(len(p.labels)) < 0.3, ignore, p.labels)
    weight = rng.integers(0, 3, len(labels)).astype(p.X.dtype)
    p = p._replace(labels=labels)
    options = {"ignore_index": ignore, "label_smoothing": smoothing}
    expected = reference.nll(p.tree, *p[:4], sample_weight=weight, **options)
    widest = np.diff(p.h.child_ptr).max(initial=1)  # every child enters, not the label's alone
    assert_close(
        cso.hsoftmax(*p, sample_weight=weight, **options), expected, 2 * widest * p.tolerance
    )
    nll, dX, dW, db, touched = reference.gradient(p.tree, *p[:4], grad_output=weight, **options)
    got = cso.hsoftmax_gradient(*p, grad_output=weight, **options)
    assert got.rows.tolist() == np.flatnonzero(touched).tolist()
    assert_close(got.nll, nll, widest * p.tolerance)
    for mine, theirs in ((got.X, dX), (got.W, dW[touched]), (got.b, db[touched])):
        assert_close(mine, theirs, p.gradient_tolerance(2))


@given(batches())
def test_log_probabilities_of_classes_and_nodes_agree(p):
    classes, nodes = reference.class_and_node_log_probs(p.tree, *p[:3])
    X, W, b, labels, h = p
    assert_close(cso.hsoftmax_log_proba(X, W, b, h), classes, p.tolerance)
    assert_close(cso.hsoftmax_node_log_proba(X, W, b, h), nodes, p.tolerance)
    rows = np.arange(len(X))
    assert_close(
        cso.hsoftmax_log_proba(X, W, b, h, classes=labels), classes[rows, labels], p.tolerance
    )
    several = np.stack([labels, labels[::-1], labels], axis=1)
    expected = np.take_along_axis(classes, several.astype(int), axis=1)
    assert_close(cso.hsoftmax_log_proba(X, W, b, h, classes=several), expected, p.tolerance)


# ---- mathematics --------------------------------------------------------------------------------


@given(batches())
def test_probabilities_sum_to_one_at_every_floor_of_the_tree(p):
    X, W, b, labels, h = p
    classes = np.exp(cso.hsoftmax_log_proba(X, W, b, h).astype(float))
    nodes = np.exp(cso.hsoftmax_node_log_proba(X, W, b, h).astype(float))
    eps = np.finfo(X.dtype).eps
    # a log-probability of size |l| rounds by eps |l|, and p |l| <= 1/e
    assert_close(classes.sum(axis=1), np.ones(len(X)), 8 * eps * max(h.depth, 1) * h.n_classes)
    for v in range(h.n_nodes):
        below = sum(
            nodes[:, c] if c >= 0 else classes[:, ~c]
            for c in h.child[h.child_ptr[v] : h.child_ptr[v + 1]]
        )
        assert_close(below, nodes[:, v], 8 * eps * max(h.depth, 1) * h.n_classes)
    nll = cso.hsoftmax(*p)
    assert_close(
        nll, -cso.hsoftmax_log_proba(X, W, b, h, classes=labels), 8 * eps * (1 + nll.max(initial=0))
    )


@pytest.mark.parametrize("name", ["balanced", "huffman", "two_level by size"])
def test_a_million_float32_probabilities_sum_to_one_within_1e_6(name):
    h = BUILDERS[name](10**6)
    X, W, b, *_ = make_batch(h, N=2, D=4, dtype="float32")
    total = np.exp(cso.hsoftmax_log_proba(X, W, b, h).astype(float)).sum(axis=1)
    assert np.abs(total - 1).max() < 1e-6


@given(batches(max_nodes=6, min_rows=1, dtypes=["float64"]), st.integers(0, 10**6))
@settings(max_examples=30)
def test_gradient_agrees_with_central_differences(p, seed):
    X, W, b, labels, h = p._replace(W=p.W / max(1, np.abs(p.W).max(initial=0)))
    rng = np.random.default_rng(seed)
    g, b = rng.normal(size=len(X)), np.zeros(h.n_rows) if b is None else b
    got = cso.hsoftmax_gradient(X, W, b, labels, h, grad_output=g, sparse=False)
    step = 1e-5  # error: step² |f'''| / 6 + eps |f| / step
    for value, gradient in ((X, got.X), (W, got.W), (b, got.b)):
        direction = rng.choice([-1.0, 1.0], size=value.shape) / max(1, value.size)
        ahead, behind = (
            [a + sign * step * direction if a is value else a for a in (X, W, b)]
            for sign in (1, -1)
        )
        change = (
            g @ (cso.hsoftmax(*ahead, labels, h) - cso.hsoftmax(*behind, labels, h)) / (2 * step)
        )
        assert abs(change - (gradient * direction).sum()) < 1e-7


def test_nll_of_logits_of_80_is_right_to_1e_5():
    """The loss of a step is z + log1p(exp(-z)), not the logarithm of a rounded probability."""
    z = np.array([-80, -30, -16, -1, 0, 1, 16, 30, 80.0])
    for logistic in (True, False):
        h = Hierarchy.balanced(2, logistic=logistic)
        W = np.array([[1.0]] if logistic else [[0.0], [1.0]])
        for dtype in ("float32", "float64"):
            for label, sign in ((0, 1), (1, -1)):
                args = z[:, None].astype(dtype), W.astype(dtype), None, np.full(len(z), label), h
                expected = np.logaddexp(0, sign * z)
                np.testing.assert_allclose(cso.hsoftmax(*args), expected, rtol=1e-5)
                got = cso.hsoftmax_gradient(*args)
                np.testing.assert_allclose(got.nll, expected, rtol=1e-5)
                p = np.exp(-np.logaddexp(0, -sign * z))
                eps = np.finfo(dtype).eps
                np.testing.assert_allclose(got.X[:, 0], sign * p, rtol=1e-5, atol=eps)


def test_logits_of_ten_thousand_stay_finite():
    for name in ("huffman", "two_level"):
        X, W, b, labels, h = make_batch(BUILDERS[name](50), dtype="float32", scale=1e4)
        assert all(np.isfinite(a).all() for a in all_results(X, W, b, labels, h))


def test_a_float32_path_of_a_thousand_steps_is_summed_in_double():
    h = Hierarchy.from_parents(np.r_[np.arange(-1, 999), np.arange(1000), 999])
    X, W = np.full((1, 1), 0.1, np.float32), np.full((h.n_rows, 1), 0.3, np.float32)
    tree = reference.Tree.of(h)
    nll = cso.hsoftmax(X, W, None, [1000], h)
    expected = reference.nll(tree, X, W, None, [1000])
    assert (
        abs(nll[0] - expected[0]) <= 4 * np.finfo(np.float32).eps * expected[0]
    )  # one rounding, not 1000


@pytest.mark.parametrize("name", ["huffman", "two_level", "from_parents"])
def test_samples_have_the_frequencies_of_the_probabilities(name):
    X, W, b, _, h = make_batch(BUILDERS[name](12), N=3)
    n = 20_000
    draws = cso.hsoftmax_sample(X, W, b, h, n, rng=1)
    assert draws.shape == (3, n)
    assert draws.dtype == np.int64
    p = np.exp(cso.hsoftmax_log_proba(X, W, b, h))
    found = np.stack([np.bincount(row, minlength=12) for row in draws])
    chi2 = ((found - n * p) ** 2 / (n * p)).sum(axis=1)
    assert (chi2 < 40).all()  # 11 degrees of freedom: p = 3.5e-5
    rng = np.random.default_rng(1)
    first, second = (cso.hsoftmax_sample(X, W, b, h, 50, rng=rng) for _ in range(2))
    assert (first != second).any()  # a generator goes on
    assert (first == cso.hsoftmax_sample(X, W, b, h, 50, rng=np.random.default_rng(1))).all()


def test_a_class_that_cannot_be_is_never_drawn():
    """Draw 670,897 of seed 21 falls into what rounding leaves of 1; the last child took that."""
    h = Hierarchy.balanced(15, arity=15)
    W = np.zeros((15, 1), np.float32)
    W[-1] = -10_000
    draws = cso.hsoftmax_sample(np.ones((1, 1), np.float32), W, None, h, 670_900, rng=21)
    assert draws.max() == 13


def wide_logits(C):
    """Logits of C children: random, equal, and terms that float sums round the same way."""
    rng = np.random.default_rng(0)
    yield rng.standard_normal(C)
    yield np.zeros(C)
    yield np.where(np.arange(C) % 16 == 0, 0, -0.34)
    yield np.linspace(-6, 6, C)


@pytest.mark.parametrize("C", [1_000, 20_000, 100_000, 1_000_000])
def test_probabilities_of_one_wide_node_sum_to_1(C):
    """Summed in float32, a million of them were off by 9e-4."""
    h = Hierarchy.balanced(C, arity=C)
    x = np.ones((1, 1), np.float32)
    for z in wide_logits(C):
        W = z[:, None].astype(np.float32)
        log_p = cso.hsoftmax_log_proba(x, W, None, h)
        assert abs(np.exp(log_p, dtype=float).sum() - 1) <= 1e-6
        wide = W.astype(float)
        exact = wide[:, 0] - np.logaddexp.reduce(wide[:, 0])
        # one rounding of the result and one of z - max, both of numbers below 18
        assert np.abs(log_p[0] - exact).max() <= 2 * np.spacing(np.float32(18))
        label = [C - 1]
        assert cso.hsoftmax(x, W, None, label, h)[0] == -log_p[0, -1]
        top = cso.hsoftmax_search(x, W, None, h, 3)
        assert (top.log_probs == log_p[0, top.classes]).all()
        gradient = cso.hsoftmax_gradient(x, W, None, label, h)
        # it is p - onehot, whose sum is 0: each entry is one rounding off
        assert abs(gradient.W.sum(dtype=float)) <= 2e-7


def test_first_weights_depend_on_the_seed_alone():
    h = BUILDERS["huffman of arity 5"](40)
    W, b = cso.init_weights(h, 6, dtype=np.float64, rng=3)
    assert W.shape == (h.n_rows, 6)
    assert W.dtype == b.dtype == np.float64
    assert W.std() > 0
    assert b.tolist() == [0] * h.n_rows
    assert cso.init_weights(h, 6, rng=3)[0].dtype == np.float32
    assert digest(cso.init_weights(h, 6, rng=3)) == digest(cso.init_weights(h, 6, rng=3))
    assert digest(cso.init_weights(h, 6, rng=3)) != digest(cso.init_weights(h, 6, rng=4))


# ---- edges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("n_classes", [1, 2, 9])
def test_every_builder_serves_full_and_empty_batches(name, n_classes):
    h = BUILDERS[name](n_classes)
    for N in (0, 1, 4):
        p = make_batch(h, N=N, dtype="float32")
        assert_close(cso.hsoftmax(*p), reference.nll(p.tree, *p[:4]), p.tolerance)
        g = cso.hsoftmax_gradient(*p)
        assert g.X.shape == (N, 5)
        assert g.W.shape == (len(g.rows), 5)
        assert g.b.shape == g.rows.shape
        assert cso.hsoftmax_log_proba(*p[:3], h).shape == (N, n_classes)
        assert cso.hsoftmax_node_log_proba(*p[:3], h).shape == (N, h.n_nodes)
        assert cso.hsoftmax_sample(*p[:3], h, 2, rng=0).shape == (N, 2)


def test_one_class_has_probability_one():
    p = make_batch(Hierarchy.balanced(1), N=3)
    assert p.W.shape == (0, 5)
    assert cso.hsoftmax(*p).tolist() == [0, 0, 0]
    assert cso.hsoftmax_log_proba(*p[:3], p.h).tolist() == [[0], [0], [0]]
    assert not cso.hsoftmax_gradient(*p).X.any()


def test_anything_numpy_takes_is_taken():
    X, W, b, labels, h = make_batch(BUILDERS["huffman"](9))
    X, W, b = X.round(), W.round(), b.round()
    expected = cso.hsoftmax(X, W, b, labels, h)
    for args in [
        (X.tolist(), W.tolist(), b.tolist(), labels.tolist()),
        (X.astype(int), W, b, labels),
        (np.asfortranarray(X), np.asfortranarray(W), b, labels.astype("int32")),
        (np.repeat(X, 2, axis=1)[:, ::2], W, np.repeat(b, 2)[::2], np.repeat(labels, 2)[::2]),
        (X.astype(np.float32), W, b, labels),
    ]:
        got = cso.hsoftmax(*args, h)
        assert got.dtype == np.float64
        assert (got == expected).all()
    zero = np.zeros(h.n_rows)
    assert (cso.hsoftmax(X, W, None, labels, h) == cso.hsoftmax(X, W, zero, labels, h)).all()


def test_out_is_written_and_returned():
    X, W, b, _, h = make_batch(BUILDERS["huffman"](9), dtype="float32")
    out = np.full((len(X), 9), np.nan, np.float32)
    assert cso.hsoftmax_log_proba(X, W, b, h, out=out) is out
    assert (out == cso.hsoftmax_log_proba(X, W, b, h)).all()


# ---- rejections ---------------------------------------------------------------------------------

N, D, C = 7, 5, 10


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


# Title -> what each spoilt argument becomes, and the refusal.
REFUSED = {
    "label above": (
        {"labels": lambda p: changed(p.labels, 3, 12)},
        r"labels must be in \[0, 10\), got 12 at index 3",
    ),
    "label below": (
        {"labels": lambda p: changed(p.labels, 0, -1)},
        r"labels must be in \[0, 10\), got -1 at index 0",
    ),
    "too few labels": ({"labels": lambda p: p.labels[1:]}, "labels must"),
    "X of a third dimension": ({"X": lambda p: p.X[None]}, "X must"),
    "X narrower than W": ({"X": lambda p: p.X[:, 1:]}, r"(X|W) must"),
    "W with a row too few": ({"W": lambda p: p.W[1:]}, r"W must have shape \("),
    "b with a row too few": ({"b": lambda p: p.b[1:]}, "b must"),
    "nan in X": (
        {"X": lambda p: changed(p.X, (2, 1), np.nan)},
        "X must be finite, got nan at row 2, column 1",
    ),
    "inf in X": (
        {"X": lambda p: changed(p.X, (0, 4), -np.inf)},
        "X must be finite, got -inf at row 0, column 4",
    ),
    "nan in W": ({"W": lambda p: np.full_like(p.W, np.nan)}, "W and b must be finite"),
    "inf in b": ({"b": lambda p: np.full_like(p.b, np.inf)}, "W and b must be finite"),
    "a logit that overflows": (
        {"X": lambda p: np.full_like(p.X, 1e200), "W": lambda p: np.full_like(p.W, 1e200)},
        "W and b must be finite",
    ),
}
# The functions, by the arguments of a batch that each takes.
CALLS = {
    cso.hsoftmax: ("X", "W", "b", "labels", "h"),
    cso.hsoftmax_gradient: ("X", "W", "b", "labels", "h"),
    cso.hsoftmax_log_proba: ("X", "W", "b", "h"),
    cso.hsoftmax_node_log_proba: ("X", "W", "b", "h"),
    functools.partial(cso.hsoftmax_sample, size=2, rng=0): ("X", "W", "b", "h"),
}
PAIRS = [
    pytest.param(call, case, id=f"{getattr(call, 'func', call).__name__}-{case}")
    for call, takes in CALLS.items()
    for case, (spoilt, _) in REFUSED.items()
    if set(spoilt) <= set(takes)
]


@pytest.mark.parametrize(("call", "case"), PAIRS)
def test_bad_input_is_refused_with_the_rule_and_the_place(call, case):
    p = make_batch(Hierarchy.huffman(counts_of(C)), N, D)
    spoilt, message = REFUSED[case]
    bad = p._replace(**{name: spoil(p) for name, spoil in spoilt.items()})
    before = digest(bad[:4])
    with pytest.raises(ValueError, match=message):
        call(*(getattr(bad, name) for name in CALLS[call]))
    assert digest(bad[:4]) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_weight": [1.0]}, "sample_weight must"),
        ({"sample_weight": -np.ones(N)}, "sample_weight must"),
        ({"sample_weight": np.full(N, np.nan)}, "sample_weight must"),
        ({"label_smoothing": 1.0}, "label_smoothing must"),
        ({"label_smoothing": -0.1}, "label_smoothing must"),
        ({"num_threads": -1}, "num_threads must"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        cso.hsoftmax(*make_batch(Hierarchy.balanced(C), N, D), **options)


def test_bad_upstream_residuals_classes_and_out_are_refused():
    X, W, b, labels, h = p = make_batch(Hierarchy.balanced(C), N, D)
    for name, value in [("grad_output", np.ones(N + 1)), ("residuals", np.ones(3))]:
        with pytest.raises(ValueError, match=f"{name} must"):
            cso.hsoftmax_gradient(*p, **{name: value})
    for name, value in [
        ("classes", labels + 10),
        ("classes", labels[1:]),
        ("out", np.empty((N, C - 1))),
        ("out", np.empty((N, C), np.float32)),
        ("out", read_only(np.empty((N, C)))[0]),
    ]:
        with pytest.raises((ValueError, TypeError), match=f"{name} must"):
            cso.hsoftmax_log_proba(X, W, b, h, **{name: value})


@pytest.mark.parametrize("name", ["X", "W", "b", "labels"])
def test_objects_and_words_are_a_type_error_naming_the_argument(name):
    p = make_batch(Hierarchy.balanced(C), N, D)
    for dtype in (object, str, complex):
        with pytest.raises(TypeError, match=rf"^{name} must"):
            cso.hsoftmax(*p._replace(**{name: getattr(p, name).astype(dtype)}))
    with pytest.raises(TypeError, match="labels must"):
        cso.hsoftmax(*p._replace(labels=p.labels + 0.5))


def test_numbers_that_are_not_finite_pass_if_the_caller_says_so():
    p = make_batch(Hierarchy.balanced(C), N, D)
    nll = cso.hsoftmax(changed(p.X, (2, 1), np.nan), *p[1:], check_finite=False)
    assert np.isnan(nll[2])
    assert np.isfinite(np.delete(nll, 2)).all()
