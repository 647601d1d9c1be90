"""Class hierarchies: builders, editing, reports."""

import copy
import hashlib
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cython_sparseops as cso
from helpers import reference
from helpers.hierarchies import BUILDERS, counts_of, parents_of, paths

Hierarchy = cso.Hierarchy
ARRAYS = ("path_ptr", "path_node", "path_child", "child_ptr", "child", "row_ptr")
some_counts = st.sampled_from([0, 1, 3, 50]).flatmap(  # the fewer values, the more ties
    lambda top: st.lists(st.integers(0, top), min_size=1, max_size=60)
)


def lengths(h):
    return np.diff(h.path_ptr)


def nested(tree, flat=lambda v, depth: False):
    """The tree as sets of sets of classes, so that neither node numbers nor places matter; nodes
    for which flat() is true hold all the classes below them."""

    def below(child, depth):
        if child < 0:
            return ~child
        if flat(child, depth):
            return frozenset(tree.classes_below(child))
        return frozenset(below(c, depth + 1) for c in tree.children[child])

    return below(~0 if tree.root is None else tree.root, 0)


def digest(*hierarchies):
    parts = [
        np.ascontiguousarray(getattr(h, name)).tobytes() for h in hierarchies for name in ARRAYS
    ]
    return hashlib.sha256(b"|".join(parts)).hexdigest()


def assert_is_a_tree(h):
    """Counts, paths, children and rows all tell the same tree."""
    tree = reference.Tree.of(h)
    V, C = h.n_nodes, h.n_classes
    assert (tree.n_classes, tree.n_nodes, tree.n_rows) == (C, V, h.n_rows)
    assert h.depth == tree.depths().max()
    for v in range(V):
        assert h.child[h.child_ptr[v] : h.child_ptr[v + 1]].tolist() == tree.children[v]
        assert len(tree.children[v]) >= 2
        assert len(tree.rows(v)) in (
            {1, 2} if len(tree.children[v]) == 2 else {len(tree.children[v])}
        )
    leaves = [~c for c in np.asarray(h.child).tolist() if c < 0] if V else [0]
    assert sorted(leaves) == list(range(C))
    assert len(h.child) == len(leaves) + max(V - 1, 0) if V else True
    return tree


# ---- agrees with the reference ------------------------------------------------------------------


@given(
    some_counts,
    st.sampled_from([2, 3, 4, 7]),
    st.sampled_from(["int32", "int64", "float32", "float64"]),
)
def test_huffman_is_an_optimal_code_and_the_shallowest_of_them(counts, arity, dtype):
    h = Hierarchy.huffman(np.array(counts, dtype), arity=arity)
    cost, depth = reference.huffman_cost(counts, arity)
    assert np.array(counts) @ lengths(h) == cost
    assert h.depth <= depth if arity > 2 else h.depth == depth


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=8), st.sampled_from([2, 3]), st.integers(0, 2)
)
@settings(max_examples=60)
def test_limited_huffman_is_the_best_code_within_the_limit(counts, arity, slack):
    limit = next(d for d in range(9) if arity**d >= len(counts)) + slack
    h = Hierarchy.huffman(counts, arity=arity, max_depth=limit)
    assert_is_a_tree(h)
    assert h.depth <= limit
    assert np.array(counts) @ lengths(h) == reference.limited_huffman_cost(counts, arity, limit)


@given(paths())
def test_from_paths_keeps_the_caller_s_nodes_and_paths(p):
    h = p.hierarchy()
    assert_is_a_tree(h)
    for name in ARRAYS[:3]:
        assert (getattr(h, name) == getattr(p, name)).all()
    k = np.diff(h.child_ptr)
    assert (np.diff(h.row_ptr) == np.where(p.logistic, 1, k)).all()


@given(st.integers(1, 40), st.integers(0, 10**6))
def test_from_parents_is_the_tree_without_its_chains(n_classes, seed):
    parents = parents_of(n_classes, seed)

    def subtree(i):
        below = [subtree(j) for j in np.flatnonzero(parents == i)]
        return i - n_classes if not below else below[0] if len(below) == 1 else frozenset(below)

    h = Hierarchy.from_parents(parents)
    assert nested(assert_is_a_tree(h)) == subtree(0)


@given(paths(), st.integers(0, 10**6))
def test_optimal_codes_deals_the_frequent_classes_to_the_shallow_leaves(p, seed):
    h = p.hierarchy()
    counts = np.random.default_rng(seed).integers(0, 9, h.n_classes)
    best = h.optimal_codes(counts)
    assert_is_a_tree(best)
    assert sorted(lengths(best)) == sorted(lengths(h))
    assert (best.child_ptr == h.child_ptr).all()
    assert (best.row_ptr == h.row_ptr).all()
    assert ((best.child < 0) == (h.child < 0)).all()
    assert counts @ lengths(best) == np.sort(counts)[::-1] @ np.sort(lengths(h))


@given(paths(), st.integers(0, 10**6))
def test_report_counts_what_the_paths_say(p, seed):
    h = p.hierarchy()
    tree, counts = reference.Tree.of(h), np.random.default_rng(seed).integers(1, 9, h.n_classes)
    report = h.report(counts, dim=11)
    assert (report.n_classes, report.n_nodes, report.n_rows) == (h.n_classes, h.n_nodes, h.n_rows)
    assert report.depth == h.depth
    assert report.expected_path_length == pytest.approx(
        reference.expected_path_length(tree, counts)
    )
    assert report.entropy == pytest.approx(reference.entropy(counts), abs=1e-12)
    rows = [sum(len(tree.rows(v)) for v, _ in path) for path in tree.paths]
    assert report.expected_flops == pytest.approx(11 * (counts @ rows) / counts.sum())
    assert report.weight_bytes >= 11 * h.n_rows * 4
    assert str(h.n_rows) in str(report)
    assert len(str(report).splitlines()) > 4


# ---- mathematics --------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [1, 2, 3, 10, 97])
@pytest.mark.parametrize("name", BUILDERS)
def test_every_builder_gives_a_tree_numbered_depth_first(name, n_classes):
    h = BUILDERS[name](n_classes)
    assert h.n_classes == n_classes
    tree = assert_is_a_tree(h)
    assert tree.preorder() == list(range(h.n_nodes))
    two = np.diff(h.child_ptr) == 2
    if name != "softmax huffman":
        assert (np.diff(h.row_ptr)[two] == 1).all() or name == "prune"
    else:
        assert (np.diff(h.row_ptr)[two] == 2).all()


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=60))
def test_huffman_is_within_a_bit_of_the_entropy(counts):
    report = Hierarchy.huffman(counts).report(counts)
    assert report.entropy <= report.expected_path_length + 1e-12
    assert report.expected_path_length < report.entropy + 1


@given(some_counts, st.sampled_from([3, 4, 7]))
def test_k_ary_huffman_leaves_at_most_one_node_not_full(counts, arity):
    k = np.diff(Hierarchy.huffman(counts, arity=arity).child_ptr)
    assert (k <= arity).all()
    assert (k < arity).sum() <= 1


@given(st.integers(1, 300), st.sampled_from([2, 3, 10]))
def test_balanced_is_complete_and_in_order(n_classes, arity):
    h = Hierarchy.balanced(n_classes, arity=arity)
    tree = assert_is_a_tree(h)
    assert h.depth == next(d for d in range(10) if arity**d >= n_classes)
    assert h.depth - lengths(h).min() <= 1
    order = sorted(range(n_classes), key=lambda c: [j for _, j in tree.paths[c]])
    assert order == list(range(n_classes))


@given(st.integers(2, 200), st.integers(0, 10**6), st.sampled_from([None, 2, 5]))
def test_two_level_groups_have_equal_size_or_mass(n_classes, seed, n_groups):
    counts = np.random.default_rng(seed).integers(1, 100, n_classes)
    groups = math.ceil(math.sqrt(n_classes)) if n_groups is None else min(n_groups, n_classes)
    for by in ("size", "frequency"):
        h = Hierarchy.two_level(counts, n_groups=n_groups and groups, by=by)
        tree = assert_is_a_tree(h)
        assert h.depth <= 2
        top = [[~c] if c < 0 else tree.classes_below(c) for c in tree.children[tree.root]]
        assert len(top) == groups
        mass = [counts[t].sum() if by == "frequency" else len(t) for t in top]
        largest = counts.max() if by == "frequency" else 1
        if by == "size":
            assert max(mass) - min(mass) <= 1
        else:
            assert max(mass) <= counts.sum() / groups + largest


@given(paths(min_nodes=3), st.integers(0, 10**6), st.integers(1, 15))
def test_prune_makes_flat_what_is_below_its_limit_and_nothing_else(p, seed, limit):
    h = p.hierarchy()
    tree, counts = reference.Tree.of(h), np.random.default_rng(seed).integers(0, 9, h.n_classes)
    tally = [int(counts[tree.classes_below(v)].sum()) for v in range(h.n_nodes)]
    cases = [("max_nodes", limit, None)]  # which of the legal trees is the library's choice
    cases += [("max_depth", limit, nested(tree, lambda v, depth: depth + 1 >= limit))]
    for least in {0, *tally, max(tally) + 1}:
        cases += [("min_count", least, nested(tree, lambda v, _, least=least: tally[v] < least))]
    for option, value, expected in cases:
        pruned = h.prune(counts, **{option: value})
        result, report = nested(assert_is_a_tree(pruned)), pruned.prune_report
        assert (report.nodes_before, report.nodes_after) == (h.n_nodes, pruned.n_nodes)
        assert report.expected_rows_before > 0
        assert report.expected_rows_after > 0
        assert pruned.n_nodes <= h.n_nodes
        if option == "max_nodes":
            assert pruned.n_nodes <= limit
            assert limit < h.n_nodes or result == nested(tree)
        else:
            assert result == expected


@given(st.integers(1, 60), st.integers(0, 10**6), st.sampled_from([2, 3, 5]))
def test_splitting_wide_nodes_keeps_every_group_together(n_classes, seed, width):
    parents = parents_of(n_classes, seed)
    wide = reference.Tree.of(Hierarchy.from_parents(parents))
    h = Hierarchy.from_parents(parents, max_children=width)
    split = assert_is_a_tree(h)
    assert (np.diff(h.child_ptr) <= width).all()
    groups = {frozenset(split.classes_below(v)) for v in range(h.n_nodes)}
    assert {frozenset(wide.classes_below(v)) for v in range(wide.n_nodes)} <= groups


# ---- edges --------------------------------------------------------------------------------------


def test_one_class_is_a_tree_without_nodes():
    for h in [
        Hierarchy.huffman([5]),
        Hierarchy.balanced(1),
        Hierarchy.two_level(1),
        Hierarchy.from_parents([-1]),
        Hierarchy.from_parents([1, 2, -1]),
        Hierarchy.from_paths([0, 0], [], []),
        Hierarchy.huffman([0]).optimal_codes([0]),
    ]:
        assert (h.n_classes, h.n_nodes, h.n_rows, h.depth) == (1, 0, 0, 0)
        assert h.path_ptr.tolist() == [0, 0]
        assert h.row_ptr.tolist() == [0]
        assert h.report([3], dim=4).expected_path_length == 0


def test_counts_that_are_all_zero_make_a_complete_tree():
    for n in (2, 5, 64, 1000):
        assert Hierarchy.huffman(np.zeros(n)).depth == math.ceil(math.log2(n))


def test_a_hundred_thousand_classes_of_which_most_are_unseen_are_at_most_60_deep():
    """Caffe2's heap makes 24 921 levels of such counts."""
    counts = np.zeros(100_000, np.int64)
    counts[::4] = np.random.default_rng(0).zipf(1.1, 25_000).clip(max=10**7)
    assert Hierarchy.huffman(counts).depth <= 60


def test_fibonacci_counts_make_the_deepest_tree_and_max_depth_limits_it():
    counts = [1, 1]
    while len(counts) < 70:
        counts.append(counts[-1] + counts[-2])
    h = Hierarchy.huffman(np.array(counts, float))
    assert h.depth == 69
    assert Hierarchy.huffman(np.array(counts, float), max_depth=7).depth == 7


def test_a_tree_as_deep_as_it_has_classes_does_not_recurse():
    n = 3000
    parents = np.r_[np.arange(-1, n - 1), np.arange(n), n - 1]
    h = Hierarchy.from_parents(parents)
    assert (h.n_classes, h.depth) == (n + 1, n)
    assert pickle.loads(pickle.dumps(h)) == h == h.optimal_codes(np.ones(n + 1))
    assert h.prune(np.ones(n + 1), max_depth=5).depth == 5


def test_classes_of_from_parents_are_in_leaf_order_or_as_asked():
    parents = [4, 4, 3, 4, -1, 3]  # the root 4 has the leaves 0, 1 and node 3 with the leaves 2, 5
    assert nested(reference.Tree.of(Hierarchy.from_parents(parents))) == {0, 1, frozenset({2, 3})}
    h = Hierarchy.from_parents(parents, classes=[5, 1, 0, 2])
    assert nested(reference.Tree.of(h)) == {1, 2, frozenset({0, 3})}


def test_a_wide_root_is_split_into_the_huffman_tree_of_its_counts():
    counts = counts_of(200)
    parents = np.r_[-1, np.zeros(200, int)]
    for arity in (2, 3):
        h = Hierarchy.from_parents(parents, counts=counts, max_children=arity)
        assert counts @ lengths(h) == reference.huffman_cost(counts.tolist(), arity)[0]


def test_ties_go_to_the_lower_class():
    assert lengths(Hierarchy.huffman([1, 1, 1])).tolist() == [1, 2, 2]
    shape = Hierarchy.huffman([1, 2, 9, 4])
    assert lengths(shape.optimal_codes([5, 5, 5, 5])).tolist() == [1, 2, 3, 3]


# ---- rejections ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Hierarchy.huffman([]), "counts must not be empty"),
        (
            lambda: Hierarchy.huffman([1, 2, 0, -1]),
            r"counts must be finite and non-negative, got -1(\.0)? at index 3",
        ),
        (
            lambda: Hierarchy.huffman([1, np.nan]),
            "counts must be finite and non-negative, got nan at index 1",
        ),
        (
            lambda: Hierarchy.huffman([np.inf]),
            "counts must be finite and non-negative, got inf at index 0",
        ),
        (lambda: Hierarchy.huffman([[1, 2]]), "counts must"),
        (lambda: Hierarchy.huffman([1, 2], arity=1), "arity must be at least 2, got 1"),
        (lambda: Hierarchy.huffman(np.ones(9), max_depth=3), "max_depth must"),
        (lambda: Hierarchy.balanced(0), "n_classes must"),
        (lambda: Hierarchy.balanced(4, arity=0), "arity must be at least 2, got 0"),
        (lambda: Hierarchy.two_level(4, n_groups=5), "n_groups must"),
        (lambda: Hierarchy.two_level(4, n_groups=0), "n_groups must"),
        (lambda: Hierarchy.two_level(4, by="color"), "by must"),
        (lambda: Hierarchy.from_parents([]), "parents must"),
        (lambda: Hierarchy.from_parents([1, 2, 1, -1]), "parents must"),  # a cycle
        (lambda: Hierarchy.from_parents([0]), "parents must"),
        (lambda: Hierarchy.from_parents([-1, 0, -1]), "parents must"),  # two roots
        (lambda: Hierarchy.from_parents([-1, 3, 0]), "parents must"),
        (lambda: Hierarchy.from_parents([-1, -2, 0]), "parents must"),
        (lambda: Hierarchy.from_parents([-1, 0, 0], classes=[1, 1]), "classes must"),
        (lambda: Hierarchy.from_parents([-1, 0, 0], classes=[0, 1]), "classes must"),
        (lambda: Hierarchy.from_parents([-1, 0, 0], classes=[1]), "classes must"),
        (lambda: Hierarchy.from_parents([-1, 0, 0], classes=[1, 3]), "classes must"),
        (lambda: Hierarchy.from_parents([-1, 0, 0], max_children=1), "max_children must"),
        (lambda: Hierarchy.from_parents([-1, 0, 0], counts=[1, 2, 3]), "counts must"),
        (lambda: Hierarchy.from_paths([0, 1, 2], [0, 0], [0, 0]), "path"),  # two classes in a place
        (lambda: Hierarchy.from_paths([0, 1, 2], [0, 0], [0, 2]), "path"),  # a gap
        (lambda: Hierarchy.from_paths([0, 1], [0], [0]), "path"),  # a node with a single child
        (lambda: Hierarchy.from_paths([0, 1, 2], [0, 1], [0, 1]), "path"),  # two roots
        (
            lambda: Hierarchy.from_paths([0, 1, 3], [0, 0, 0], [0, 1, 0]),
            "path",
        ),  # a node below itself
        (lambda: Hierarchy.from_paths([0, 2, 1], [0, 0], [0, 1]), "path"),
        (lambda: Hierarchy.from_paths([0, 1, 2], [0, 0], [0, -1]), "path"),
        (lambda: Hierarchy.from_paths([0, 1, 2], [7, 7], [0, 1]), "path"),
        (lambda: Hierarchy.from_paths([0, 1, 2], [0, 0], [0]), "path"),
        (
            lambda: Hierarchy.from_paths([0, 1, 2, 3], [0, 0, 0], [0, 1, 2], logistic=[True]),
            "logistic must",
        ),
        (lambda: Hierarchy.balanced(4).optimal_codes([1, 2, 3]), "counts must"),
        (lambda: Hierarchy.balanced(4).prune([1, 2, 3, -4], max_nodes=2), "counts must"),
        (lambda: Hierarchy.balanced(4).prune(np.ones(4), max_nodes=0), "max_nodes must"),
        (lambda: Hierarchy.balanced(4).prune(np.ones(4)), "must"),
        (lambda: Hierarchy.balanced(4).prune(np.ones(4), max_nodes=2, max_depth=1), "must"),
        (lambda: Hierarchy.balanced(4).report(np.ones(5)), "counts must"),
    ],
)
def test_bad_input_is_refused_with_the_rule_and_the_place(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_counts_that_are_not_numbers_are_a_type_error():
    for counts in (np.array([1, "x"], object), ["a", "b"]):
        with pytest.raises(TypeError, match="counts"):
            Hierarchy.huffman(counts)


# ---- promises -----------------------------------------------------------------------------------


def test_arrays_are_read_only_and_attributes_cannot_be_set():
    h = Hierarchy.huffman(counts_of(20))
    for name in ARRAYS:
        with pytest.raises(ValueError, match="read-only"):
            getattr(h, name)[0] = 1
        with pytest.raises(AttributeError):
            setattr(h, name, None)
        with pytest.raises(ValueError, match="WRITEABLE"):
            getattr(h, name).flags.writeable = True


@given(paths())
@settings(max_examples=20)
def test_pickles_copies_and_equal_trees_are_equal(p):
    h = p.hierarchy()
    for other in (pickle.loads(pickle.dumps(h)), copy.copy(h), copy.deepcopy(h), p.hierarchy()):
        assert other == h
        assert digest(other) == digest(h)
    assert h != Hierarchy.balanced(h.n_classes + 1)
    assert h != "a tree"


def test_read_only_and_strided_counts_are_accepted():
    counts = np.arange(40.0)[::2]
    counts.flags.writeable = False
    assert Hierarchy.huffman(counts) == Hierarchy.huffman(counts.tolist())


def every_builder():
    return digest(*(f(500) for f in BUILDERS.values()))


def test_builders_give_the_same_bytes_in_another_process(child):
    assert child.call(every_builder) == every_builder()


@pytest.mark.parametrize(
    ("n", "seen", "groups"), [(10_000, 495, 100), (12, 5, 4), (12, 3, 6), (7, 0, 3), (5, 4, 5)]
)
def test_two_level_deals_classes_that_do_not_occur_evenly(n, seen, groups):
    counts = np.zeros(n)
    counts[np.random.default_rng(0).permutation(n)[:seen]] = 1000 // np.arange(1, seen + 1)
    h = Hierarchy.two_level(counts, n_groups=groups)
    group = np.full(n, -1)
    for c in range(n):
        group[c] = h.path_child[h.path_ptr[c]]
    sizes = np.bincount(group[counts == 0], minlength=groups)
    others = np.bincount(group[counts > 0], minlength=groups)
    alone = others == 0
    assert np.ptp(sizes - alone) <= 1 or (sizes - alone).min() >= 0
    assert (sizes + others).min() >= 1
    dealt = (sizes - alone)[~alone] if (~alone).any() else sizes
    assert np.ptp(dealt) <= 1
    if n == 10_000:
        assert h.report(counts).expected_rows < 260
