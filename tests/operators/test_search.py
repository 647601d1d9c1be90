"""Top-k search: exact, with beams, with inner nodes, climbing to a sure ancestor."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import cython_sparseops as cso
from helpers import reference
from helpers.batches import batches, digest, make_batch, read_only
from helpers.hierarchies import BUILDERS, counts_of, paths

Hierarchy = cso.Hierarchy


def tables(p):
    """The compiled log-probabilities of classes and nodes, which a search must sort bit for bit,
    and the conditional ones of the oracle."""
    X, W, b, _, h = p
    edges = reference.edge_log_probs(p.tree, X, W, b)
    return cso.hsoftmax_log_proba(X, W, b, h), cso.hsoftmax_node_log_proba(X, W, b, h), edges


def search(p, k, **options):
    return cso.hsoftmax_search(p.X, p.W, p.b, p.h, k, **options)


def assert_is(got, expected):
    """Same ids, and the same log-probabilities to the bit."""
    ids, scores, left_out = expected
    assert got.classes.dtype == np.int64
    assert got.log_probs.dtype == got.bound.dtype == scores.dtype
    assert got.bound.shape == left_out.shape
    np.testing.assert_array_equal(got.classes, ids)
    np.testing.assert_array_equal(got.log_probs, scores)


def clear_of(p, limit, edges):
    """No edge is so close to the limit that rounding decides."""
    return all((np.abs(-e - limit) > p.tolerance).all() for e in edges)


# ---- agrees with the reference ------------------------------------------------------------------


@given(batches(), st.integers(1, 30))
def test_exact_search_is_sorting(p, k):
    assert_is(search(p, k), reference.search(p.tree, *tables(p), k))


@given(batches(), st.integers(1, 30))
def test_inner_nodes_compete_but_the_root(p, k):
    got = search(p, k, nodes=True)
    assert_is(got, reference.search(p.tree, *tables(p), k, nodes=True))
    if p.h.n_nodes:
        assert not (got.classes == p.h.n_classes + p.tree.root).any()


@given(batches(), st.integers(1, 30), st.sampled_from([0.0, 0.3, 1.0, 3.0, 50.0]), st.booleans())
def test_edge_beam_keeps_the_children_that_are_likely_enough(p, k, limit, nodes):
    classes, inner, edges = tables(p)
    assume(clear_of(p, limit, edges))
    got = search(p, k, edge_beam=limit, nodes=nodes)
    expected = reference.search(p.tree, classes, inner, edges, k, edge_beam=limit, nodes=nodes)
    assert_is(got, expected)
    assert (got.bound >= expected[2] - p.tolerance).all()


@given(batches(), st.integers(1, 30), st.integers(1, 5), st.booleans())
def test_beam_keeps_the_likeliest_open_nodes_of_a_level(p, k, beam, nodes):
    got = search(p, k, beam=beam, nodes=nodes)
    expected = reference.search(p.tree, *tables(p), k, beam=beam, nodes=nodes)
    assert_is(got, expected)
    assert (got.bound >= expected[2]).all()


@given(batches(), st.integers(1, 30), st.integers(1, 5), st.sampled_from([0.5, 2.0]))
def test_both_beams_at_once_agree(p, k, beam, limit):
    classes, inner, edges = tables(p)
    assume(clear_of(p, limit, edges))
    expected = reference.search(p.tree, classes, inner, edges, k, beam=beam, edge_beam=limit)
    assert_is(search(p, k, beam=beam, edge_beam=limit), expected)


@given(batches(), st.integers(1, 30), st.sampled_from([0.02, 0.2, 0.5, 0.9, 1.0]), st.booleans())
def test_min_prob_climbs_to_the_deepest_sure_ancestor(p, k, least, nodes):
    classes, inner, edges = tables(p)
    below_root = np.delete(inner, [] if p.tree.root is None else [p.tree.root], axis=1)
    near = np.abs(np.hstack([classes, below_root]) - np.log(least)) <= p.tolerance
    assume(not near.any())  # rounding would decide
    expected = reference.search(p.tree, classes, inner, edges, k, min_prob=least, nodes=nodes)
    assert_is(search(p, k, min_prob=least, nodes=nodes), expected)


def test_results_that_climbed_are_best_first():
    """Found with a tree of four classes, whose second result had climbed above the first."""
    h = cso.Hierarchy.balanced(4)
    W = np.array([[0.4], [-3.0], [0.1]], np.float32)  # the first result stays, the second climbs
    for least in (0.2, 0.4, 0.45):
        got = cso.hsoftmax_search(np.ones((1, 1), np.float32), W, None, h, 4, min_prob=least)
        found = got.log_probs[got.classes >= 0]
        assert len(found) > 1
        assert (np.diff(found) <= 0).all()


# ---- mathematics --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["huffman", "two_level", "from_parents"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_k_of_all_classes_is_the_whole_order(name, dtype):
    p = make_batch(BUILDERS[name](20_000), N=3, D=8, dtype=dtype)
    got = search(p, 20_000)
    log_p = cso.hsoftmax_log_proba(*p[:3], p.h)
    order = np.argsort(-log_p, axis=1, kind="stable")  # ties to the lower class
    np.testing.assert_array_equal(got.classes, order)
    np.testing.assert_array_equal(got.log_probs, np.take_along_axis(log_p, order, axis=1))
    assert (got.bound == -np.inf).all()


@given(batches(min_rows=1), st.integers(1, 8), st.integers(1, 3))
def test_the_bound_says_when_a_beam_was_exact_all_the_same(p, k, beam):
    exact, beamed = search(p, k), search(p, k, beam=beam)
    classes = cso.hsoftmax_log_proba(*p[:3], p.h)
    for s in range(len(p.X)):
        sure = beamed.bound[s] < beamed.log_probs[s, -1]
        if sure:
            assert (beamed.classes[s] == exact.classes[s]).all()
        # a class that beats the result and is not in it was not looked at, so the bound covers it
        missed = np.setdiff1d(
            np.flatnonzero(classes[s] > beamed.log_probs[s, -1]), beamed.classes[s]
        )
        assert (classes[s, missed] <= beamed.bound[s]).all()


@given(batches(), st.integers(1, 20))
def test_fewer_results_are_the_first_of_more(p, k):
    more, fewer = search(p, k + 3), search(p, k)
    assert (more.classes[:, :k] == fewer.classes).all()
    assert (more.log_probs[:, :k] == fewer.log_probs).all()
    assert (np.diff(more.log_probs[:, : min(k, p.h.n_classes)], axis=1) <= 0).all()
    assert (more.log_probs <= 0).all()


def test_a_beam_as_wide_as_the_tree_leaves_nothing_out():
    p = make_batch(BUILDERS["from_parents"](60), N=5)
    got, exact = search(p, 60, beam=p.h.n_nodes), search(p, 60)
    assert (got.classes == exact.classes).all()
    assert (got.bound == -np.inf).all()


# ---- edges --------------------------------------------------------------------------------------


def test_ties_go_to_the_lower_class_and_to_the_leaf_before_the_node():
    h = Hierarchy.balanced(16)
    X, W = np.ones((2, 3)), np.zeros((h.n_rows, 3))
    assert (cso.hsoftmax_search(X, W, None, h, 16).classes == np.arange(16)).all()
    assert (cso.hsoftmax_search(X, W, None, h, 5).classes == np.arange(5)).all()
    chain = Hierarchy.from_paths([0, 1, 3, 5], [0, 0, 1, 0, 1], [0, 1, 0, 1, 1])
    got = cso.hsoftmax_search(X, np.zeros((2, 3)), None, chain, 4, nodes=True)
    assert (got.classes == [0, 4, 1, 2]).all()  # class 0 and node 1 both have 1/2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_open_node_as_likely_as_the_result_may_hide_a_lower_class(dtype):
    """Class 0 is below node 1 with a probability that rounds to 1, so that it ties with class 1."""
    h = Hierarchy.from_paths([0, 2, 3, 5], [0, 1, 0, 0, 1], [1, 1, 0, 1, 0])
    X, W = np.ones((1, 1), dtype), np.array([[0.0], [100.0]], dtype)
    log_p = cso.hsoftmax_log_proba(X, W, None, h)[0]
    assert log_p[0] == log_p[1]
    assert cso.hsoftmax_search(X, W, None, h, 1).classes.tolist() == [[0]]
    assert cso.hsoftmax_search(X, W, None, h, 3).classes.tolist() == [[0, 1, 2]]


def test_edge_beam_keeps_what_is_strictly_below_it():
    h = Hierarchy.balanced(8)
    p = make_batch(h, N=1, bias=False)._replace(W=np.zeros((7, 5)))
    half = -cso.hsoftmax_node_log_proba(p.X, p.W, None, h)[0, 1]
    assert half == pytest.approx(np.log(2))
    assert (search(p, 8, edge_beam=half).classes == -1).all()
    assert (search(p, 8, edge_beam=np.nextafter(half, 1)).classes == np.arange(8)).all()


@given(paths(), st.integers(1, 12), st.integers(1, 3), st.booleans())
def test_ties_everywhere_are_sorted_by_id_in_every_mode(shape, k, beam, nodes):
    h = shape.hierarchy()
    p = make_batch(h, N=1, bias=False)._replace(W=np.zeros((h.n_rows, 5)))
    for options in ({}, {"beam": beam}):
        expected = reference.search(p.tree, *tables(p), k, nodes=nodes, **options)
        assert_is(search(p, k, nodes=nodes, **options), expected)


def test_places_that_cannot_be_filled_hold_minus_one_and_minus_infinity():
    p = make_batch(BUILDERS["huffman"](5), N=2)
    got = search(p, 9)
    assert (got.classes[:, 5:] == -1).all()
    assert (got.log_probs[:, 5:] == -np.inf).all()
    nothing = search(p, 3, edge_beam=0.0)
    assert (nothing.classes == -1).all()
    assert (nothing.bound >= cso.hsoftmax_log_proba(*p[:3], p.h).max(axis=1)).all()


def test_a_step_of_probability_zero_is_a_result_and_not_left_out():
    """Found by fuzzing: a difference of logits beyond the largest float counted as out of reach."""
    h = Hierarchy.from_parents([3, 3, 3, -1])
    W = np.array([[1e308], [-1e308], [0.0]])
    got = cso.hsoftmax_search(np.ones((1, 1)), W, None, h, 3)
    assert got.classes.tolist() == [[0, 2, 1]]
    assert got.log_probs.tolist() == [[0.0, -1e308, -np.inf]]
    some = cso.hsoftmax_search(np.ones((1, 1)), W, None, h, 3, edge_beam=np.inf)
    assert some.classes.tolist() == [[0, 2, -1]]


@pytest.mark.parametrize(
    "options", [{}, {"beam": 1}, {"edge_beam": 1.0}, {"nodes": True}, {"min_prob": 1.0}]
)
def test_one_class_and_no_rows_are_legal(options):
    p = make_batch(Hierarchy.balanced(1), N=3)
    got = search(p, 2, **options)
    assert got.classes.tolist() == [[0, -1]] * 3
    assert got.log_probs.tolist() == [[0, -np.inf]] * 3
    assert got.bound.tolist() == [-np.inf] * 3
    empty = search(make_batch(BUILDERS["huffman"](9), N=0), 2, **options)
    assert empty.classes.shape == empty.log_probs.shape == (0, 2)
    assert empty.bound.shape == (0,)


def test_a_tree_as_deep_as_it_has_classes_is_searched():
    h = Hierarchy.from_parents(np.r_[np.arange(-1, 499), np.arange(500), 499])
    p = make_batch(h, N=2, D=2, scale=0.1)
    assert_is(search(p, 7), reference.search(p.tree, *tables(p), 7))


@pytest.mark.parametrize("scale", [1.0, 30.0, 3e4, 3e30])
def test_classes_are_sorted_however_improbable(scale):
    """Open nodes wait by their likelihood: thousands of nats, and more than a float holds."""
    h = Hierarchy.huffman(2.0 ** -np.arange(60))  # as deep as it can be
    X = np.linspace(-1, 1, 7, dtype=np.float32)[:, None]
    W = np.float32(scale) * np.linspace(-1, 1, h.n_rows, dtype=np.float32)[:, None]
    everything = cso.hsoftmax_log_proba(X, W, None, h)
    for k in (1, 7, 60):
        got = cso.hsoftmax_search(X, W, None, h, k)
        order = np.argsort(-everything, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(got.classes, order)
        np.testing.assert_array_equal(got.log_probs, np.take_along_axis(everything, order, 1))


def test_the_root_is_the_answer_if_nothing_else_is_sure():
    p = make_batch(BUILDERS["balanced"](8), N=4)._replace(W=np.zeros((7, 5)), b=np.zeros(7))
    got = search(p, 2, min_prob=0.9)
    assert got.classes.tolist() == [[8, -1]] * 4
    assert got.log_probs[:, 0].tolist() == [0] * 4


# ---- rejections ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"k": -3}, "k must be at least 1, got -3"),
        ({"beam": 0}, "beam must"),
        ({"edge_beam": -1.0}, "edge_beam must"),
        ({"edge_beam": np.nan}, "edge_beam must"),
        ({"min_prob": 0.0}, "min_prob must"),
        ({"min_prob": 1.1}, "min_prob must"),
        ({"min_prob": np.nan}, "min_prob must"),
        ({"num_threads": -2}, "num_threads must"),
    ],
)
def test_bad_options_are_refused_with_the_rule(options, message):
    p = make_batch(Hierarchy.huffman(counts_of(10)))
    with pytest.raises(ValueError, match=message):
        cso.hsoftmax_search(p.X, p.W, p.b, p.h, **options)


def test_bad_arrays_are_refused_and_not_written():
    p = make_batch(Hierarchy.huffman(counts_of(10)))
    X, W, b, _, h = p
    nan = X.copy()
    nan[2, 1] = np.nan
    for args, message in [
        ((nan, W, b), "X must be finite, got nan at row 2, column 1"),
        ((X, W[1:], b), r"W must have shape \("),
        ((X, W, b[1:]), "b must"),
        ((X[0], W, b), "X must"),
        ((X, W * np.inf, b), "W and b must be finite"),
        ((X, W, b * np.nan), "W and b must be finite"),
    ]:
        before = digest(args)
        with pytest.raises(ValueError, match=message):
            cso.hsoftmax_search(*args, h)
        assert digest(args) == before
    with pytest.raises(TypeError, match="X must"):
        cso.hsoftmax_search(X.astype(object), W, b, h)
    assert (
        cso.hsoftmax_search(nan, W, b, h, check_finite=False).classes[3:]
        == search(p, 1).classes[3:]
    ).all()


# ---- promises -----------------------------------------------------------------------------------


def every_mode(p, **options):
    return [
        a
        for mode in ({}, {"beam": 3}, {"edge_beam": 1.0}, {"nodes": True}, {"min_prob": 0.1})
        for a in search(p, 10, **mode, **options)
    ]


def some_batches():
    return [
        make_batch(BUILDERS[name](2000), N=200, D=19, dtype=dtype)
        for name in ("huffman", "two_level", "from_parents")
        for dtype in ("float32", "float64")
    ]


def test_one_two_and_three_threads_give_the_same_bytes():
    for p in some_batches():
        assert len({digest(every_mode(p, num_threads=n)) for n in (1, 2, 3)}) == 1


def every_result():
    return digest(a for p in some_batches() for a in every_mode(p))


def test_every_fma_instruction_set_gives_the_same_bytes(child, fma_isas):
    if len(fma_isas) < 2:
        pytest.skip(f"this machine runs {fma_isas} alone")
    assert len({child.call(every_result, isa=isa) for isa in fma_isas}) == 1


def test_read_only_input_is_accepted():
    p = make_batch(BUILDERS["huffman"](30), dtype="float32")
    frozen = p._replace(**dict(zip(("X", "W", "b", "labels"), read_only(*p[:4]), strict=True)))
    assert digest(every_mode(frozen)) == digest(every_mode(p))


def test_every_row_is_searched_as_if_alone():
    p = make_batch(BUILDERS["from_parents"](300), N=20)
    together = search(p, 4, nodes=True)
    for s in range(20):
        alone = search(p._replace(X=p.X[s : s + 1]), 4, nodes=True)
        assert digest(a[s : s + 1] for a in together) == digest(alone)


def test_a_row_of_one_dimension_is_a_batch_of_one():
    """What SciPy's sparse arrays give when they are iterated over."""
    sparse = pytest.importorskip("scipy.sparse")
    h, X = cso.Hierarchy.balanced(4, arity=4), sparse.csr_array(np.eye(4, dtype=np.float32))
    W = cso.linear_train(X, [0, 1, 2, 3], h)
    for i, row in enumerate(X):
        assert row.shape == (4,)
        found, expected = (cso.hsoftmax_search(x, W, None, h, 2) for x in (row, X[[i]]))
        assert found.classes.tolist() == expected.classes.tolist()
        assert found.log_probs.tobytes() == expected.log_probs.tobytes()
        E = np.eye(4, dtype=np.float32)
        assert cso.embedding_bag(row, E).tolist() == E[[i]].tolist()


@pytest.mark.parametrize("arity", [2, 3])
@pytest.mark.parametrize("spread", [0, 1e-7, 1e-4])
def test_ties_of_a_large_tree_are_searched_past_the_queue(arity, spread):
    """More nodes are as likely as the results than come from the queue."""
    C, k = 40_000, 7
    rng = np.random.default_rng(0)
    h = cso.Hierarchy.balanced(C, arity=arity)
    X = rng.normal(size=(3, 8)).astype("f")
    W = (spread * rng.normal(size=(h.n_rows, 8))).astype("f")
    b = np.zeros(h.n_rows, "f")
    log_p = cso.hsoftmax_log_proba(X, W, b, h)
    found = cso.hsoftmax_search(X, W, b, h, k)
    for i, row in enumerate(log_p):
        best = np.lexsort((np.arange(C), -row))[:k]
        assert found.classes[i].tolist() == best.tolist()
        assert found.log_probs[i].tobytes() == row[best].tobytes()
