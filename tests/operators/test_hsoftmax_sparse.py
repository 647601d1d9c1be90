"""Sparse rows of W with sparse rows of X, and trees of independent nodes."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("scipy")

from scipy.sparse import csr_array

import cython_sparseops as cso
from cython_sparseops._models.labels import with_classes
from helpers import reference
from helpers.batches import Batch, digest
from helpers.compressed import Compressed, compress
from helpers.hierarchies import counts_of, paths

Hierarchy = cso.Hierarchy
CLASSES = Hierarchy.huffman(counts_of(60), arity=5)


def levels(h):
    """The depth of every node, 0 the root's."""
    out = np.zeros(h.n_nodes, int)
    for c in range(h.n_classes):
        nodes = h.path_node[h.path_ptr[c] : h.path_ptr[c + 1]]
        out[nodes] = np.arange(len(nodes))
    return out


def sparse_weights(h, W, b, temperature):
    """The entries of W that are not zero, node by node."""
    feature_ptr, feature, entry_ptr, slot, weight = [0], [], [0], [], []
    for v in range(h.n_nodes):
        rows = W[h.row_ptr[v] : h.row_ptr[v + 1]]
        for f in np.flatnonzero(rows.any(axis=0)):
            used = np.flatnonzero(rows[:, f])
            feature.append(f)
            slot.extend(used)
            weight.extend(rows[used, f])
            entry_ptr.append(len(slot))
        feature_ptr.append(len(feature))
    return cso.SparseWeights.from_arrays(
        {
            "row_ptr": h.row_ptr,
            "feature_ptr": np.array(feature_ptr, np.int64),
            "feature": np.array(feature, np.int32),
            "entry_ptr": np.array(entry_ptr, np.int64),
            "slot": np.array(slot, np.uint16),
            "weight": np.array(weight, np.float32),
            "bias": b,
            "temperature": temperature,
            "shape": np.array(W.shape),
        }
    )


class Task:
    """Sparse rows of X and W; `dense`: the same for the oracle, temperatures applied."""

    def __init__(self, h, N=7, D=12, seed=0, index=np.int32):
        rng = np.random.default_rng(seed)

        def few(*shape):
            return (rng.normal(size=shape) * (rng.random(shape) < 0.4)).astype(np.float32)

        self.h, self.D = h, D
        X, W, b = few(N, D), few(h.n_rows, D), rng.normal(size=h.n_rows).astype(np.float32)
        temperature = rng.choice([0.5, 2.0, 4.0], h.depth).astype(np.float32)
        self.X, self.W = compress(X, "csr", index), sparse_weights(h, W, b, temperature)
        self.labels = rng.integers(0, h.n_classes, N)
        by_row = np.repeat(temperature[levels(h)], np.diff(h.row_ptr)) if h.n_nodes else b
        self.dense = Batch(X, W * by_row[:, None], b * by_row, self.labels, h)

    def results(self, X=None, W=None, **options):
        """All that the five operators say."""
        X, W = self.X if X is None else X, self.W if W is None else W
        k = min(4, self.h.n_classes)
        searches = [{}, {"beam": 3}, {"nodes": True, "beam": 2}, {"edge_beam": 2.0}]
        out = [
            cso.hsoftmax(X, W, None, self.labels, self.h, **options),
            cso.hsoftmax_log_proba(X, W, None, self.h, **options),
            cso.hsoftmax_log_proba(X, W, None, self.h, classes=self.labels, **options),
            cso.hsoftmax_node_log_proba(X, W, None, self.h, **options),
        ]
        for search in [*searches, {"min_prob": 0.1}]:
            out.extend(cso.hsoftmax_search(X, W, None, self.h, k, **search, **options))
        if not self.h.is_independent:
            out.append(cso.hsoftmax_sample(X, W, None, self.h, 3, rng=0, **options))
        return out


@st.composite
def tasks(draw):
    h = draw(paths()).hierarchy()
    if draw(st.booleans()):
        h = h.independent()
    N, index = draw(st.integers(0, 9)), draw(st.sampled_from([np.int32, np.int64]))
    return Task(h, N, draw(st.sampled_from([1, 3, 40])), draw(st.integers(0, 10**6)), index)


# ---- agrees with the reference -------------------------------------------------------------------


@given(tasks())
def test_loss_and_distributions_are_those_of_dense_rows(t):
    p = t.dense
    classes, nodes = reference.class_and_node_log_probs(p.tree, p.X, p.W, p.b)
    nll, log_proba, of, node_log_proba = t.results()[:4]
    picked = classes[np.arange(len(classes)), t.labels]
    np.testing.assert_allclose(nll, -picked, atol=p.tolerance)
    np.testing.assert_allclose(log_proba, classes, atol=p.tolerance)
    np.testing.assert_allclose(node_log_proba, nodes, atol=p.tolerance)
    np.testing.assert_array_equal(of, -nll)


@given(tasks(), st.integers(1, 30), st.booleans())
def test_search_is_sorting(t, k, nodes):
    h, tree = t.h, t.dense.tree
    tables = (
        cso.hsoftmax_log_proba(t.X, t.W, None, h),
        cso.hsoftmax_node_log_proba(t.X, t.W, None, h),
    )
    edges = reference.edge_log_probs(tree, t.dense.X, t.dense.W, t.dense.b)
    ids, scores, _ = reference.search(tree, *tables, edges, k, nodes=nodes)
    for options in ({}, {"beam": 2**62}):
        got = cso.hsoftmax_search(t.X, t.W, None, h, k, nodes=nodes, **options)
        np.testing.assert_array_equal(got.classes, ids)
        np.testing.assert_array_equal(got.log_probs, scores)


@given(tasks(), st.integers(1, 9), st.integers(1, 4))
def test_a_beam_follows_the_likeliest_nodes(t, k, width):
    h, tree = t.h, t.dense.tree
    tables = (
        cso.hsoftmax_log_proba(t.X, t.W, None, h),
        cso.hsoftmax_node_log_proba(t.X, t.W, None, h),
    )
    edges = reference.edge_log_probs(tree, t.dense.X, t.dense.W, t.dense.b)
    ids, scores, _ = reference.search(tree, *tables, edges, k, beam=width)
    got = cso.hsoftmax_search(t.X, t.W, None, h, k, beam=width)
    np.testing.assert_array_equal(got.classes, ids)
    np.testing.assert_array_equal(got.log_probs, scores)
    missed = tables[0].copy()  # no class that is missing is likelier than the bound
    for row, found in zip(missed, got.classes, strict=True):
        row[found[found >= 0]] = -np.inf
    if k >= h.n_classes:
        assert (missed.max(axis=1, initial=-np.inf) <= got.bound).all()


# ---- mathematics ---------------------------------------------------------------------------------


def test_independent_probabilities_are_products_of_sigmoids():
    h = Hierarchy.balanced(4).independent()
    W = np.arange(6, dtype=float)[:, None] - 2
    log_p = cso.hsoftmax_log_proba([[0.5]], W, None, h)
    sigmoid = 1 / (1 + np.exp(-0.5 * W[:, 0]))
    paths_rows = [(0, 2), (0, 3), (1, 4), (1, 5)]  # rows are numbered node by node
    expected = [np.log(sigmoid[a]) + np.log(sigmoid[b]) for a, b in paths_rows]
    np.testing.assert_allclose(log_p[0], expected, rtol=1e-14)


def test_samples_follow_the_distribution():
    t = Task(CLASSES, N=3, seed=5)
    p = np.exp(cso.hsoftmax_log_proba(t.X, t.W, None, CLASSES))
    draws = cso.hsoftmax_sample(t.X, t.W, None, CLASSES, 20_000, rng=1)
    for row, expected in zip(draws, p, strict=True):
        share = np.bincount(row, minlength=CLASSES.n_classes) / len(row)
        assert (np.abs(share - expected) < 6 * np.sqrt(expected / len(row)) + 1e-3).all()


# ---- edges ---------------------------------------------------------------------------------------


def test_dense_rows_of_x_and_scipy_s_are_the_same():
    t = Task(CLASSES)
    whole = digest(t.results())
    assert digest(t.results(X=t.dense.X)) == whole
    assert digest(t.results(X=t.dense.X.astype(float))) == whole
    assert digest(t.results(X=csr_array(t.dense.X.astype(float)))) == whole


def test_indices_in_any_order_are_put_in_order():
    t = Task(CLASSES)
    X = Compressed(**vars(t.X))
    X.indices, X.data = X.indices.copy(), X.data.copy()
    for a, b in zip(X.indptr, X.indptr[1:], strict=False):
        X.indices[a:b], X.data[a:b] = X.indices[a:b][::-1].copy(), X.data[a:b][::-1].copy()
    before = X.indices.copy(), X.data.copy()
    assert digest(t.results(X=X)) == digest(t.results())
    np.testing.assert_array_equal(X.indices, before[0])
    np.testing.assert_array_equal(X.data, before[1])


def test_an_index_that_comes_twice_adds_up():
    t = Task(CLASSES, N=1)
    twice = Compressed(
        np.array([0, 3]), np.array([5, 2, 5]), np.array([0.5, 1, 0.5], np.float32), (1, t.D)
    )
    once = np.zeros((1, t.D), np.float32)
    once[0, [2, 5]] = 1
    got = cso.hsoftmax_log_proba(twice, t.W, None, CLASSES)
    expected = cso.hsoftmax_log_proba(once, t.W, None, CLASSES)
    np.testing.assert_allclose(got, expected, atol=t.dense.tolerance)


def test_room_behind_the_last_entry_is_not_read():
    t = Task(CLASSES)
    X = t.X.but(
        indices=np.append(t.X.indices, np.int32(-9)), data=np.append(t.X.data, np.float32(np.nan))
    )
    assert digest(t.results(X=X)) == digest(t.results())


def test_a_skewed_tree_and_one_class():
    deep = Hierarchy.huffman(2.0 ** np.arange(200))
    t = Task(deep, N=5)
    top = cso.hsoftmax_search(t.X, t.W, None, deep, 200)
    log_p = cso.hsoftmax_log_proba(t.X, t.W, None, deep)
    np.testing.assert_array_equal(top.log_probs, -np.sort(-log_p, axis=1))
    one = Task(Hierarchy.balanced(1), N=2)
    assert (
        cso.hsoftmax_search(one.X, one.W, None, one.h, 2, beam=1).classes.tolist() == [[0, -1]] * 2
    )
    assert cso.hsoftmax_log_proba(one.X, one.W, None, one.h).tolist() == [[0], [0]]


def test_independent_trees_are_kept_by_files_and_copies(tmp_path):
    h = Hierarchy.huffman(counts_of(9))
    free = h.independent()
    assert free != h
    assert (free.n_rows, free.n_nodes, free.n_classes) == (16, 8, 9)
    free.save(tmp_path / "tree.sops")
    for other in (
        Hierarchy.load(tmp_path / "tree.sops"),
        Hierarchy.from_arrays(free.to_arrays()),
        pickle.loads(pickle.dumps(free)),
        copy.deepcopy(free),
        free.independent(),
    ):
        assert other.is_independent
        assert other == free
        assert hash(other) == hash(free)
    assert not Hierarchy.from_arrays(h.to_arrays()).is_independent
    assert h.independent() != Hierarchy.huffman(counts_of(9), logistic=False)
    assert free.optimal_codes(counts_of(9)).is_independent
    assert free.prune(counts_of(9), max_depth=3).is_independent
    assert "independent" in repr(free)


def test_an_independent_tree_keeps_its_names(tmp_path):
    named = Hierarchy.from_table(["ant", "bee", "cow", "insect"], ["insect", "insect", "", ""])
    free = named.independent()
    assert free.class_names == named.class_names
    free.save(tmp_path / "tree.sops")
    loaded = Hierarchy.load(tmp_path / "tree.sops")
    assert loaded.class_names == named.class_names
    assert loaded == free
    three, four = np.array(["cow", "bee", "ant"]), np.array(["cow", "bee", "ant", "insect"])
    dealt = with_classes(named, three, np.ones(3)).independent()
    assert dealt == with_classes(free, three, np.ones(3))
    assert with_classes(free, four, np.ones(4)).is_independent


# ---- rejections ----------------------------------------------------------------------------------


def score(X, W, b=None, h=CLASSES, **options):
    return cso.hsoftmax_log_proba(X, W, b, h, **options)


def test_what_does_not_go_together_is_refused():
    t = Task(CLASSES)
    with pytest.raises(
        TypeError, match=r"^X must be a dense array, got a sparse matrix \(csr\): W must"
    ):
        score(t.X, t.dense.W, t.dense.b)
    with pytest.raises(
        TypeError, match=r"^X must be a dense array, got a sparse matrix \(csr\): W must"
    ):
        score(csr_array(t.dense.X), cso.quantize(t.dense.W))
    with pytest.raises(ValueError, match=r"^b must be None with SparseWeights, which hold the"):
        score(t.X, t.W, t.dense.b)
    with pytest.raises(TypeError, match=r"^X must be a CSR matrix, got csc"):
        score(csr_array(t.dense.X).tocsc(), t.W)
    with pytest.raises(TypeError, match=r"^W must be a float array here, got sparse weights"):
        cso.hsoftmax_gradient(t.dense.X, t.W, None, t.labels, CLASSES)
    with pytest.raises(ValueError, match=r"^W must have shape \(\d+, 11\), got \(\d+, 12\)"):
        score(t.dense.X[:, :11], t.W)
    other = Hierarchy.huffman(counts_of(60), arity=5).independent()
    with pytest.raises(ValueError, match=r"^W must have "):
        score(t.X, t.W, h=Hierarchy.huffman(counts_of(61), arity=5))
    assert score(t.X, t.W, h=other).shape == (7, 60)  # rows of the same shape


def test_rows_of_another_tree_are_refused_whichever_came_first():
    a, b = Hierarchy.two_level(12, n_groups=3), Hierarchy.two_level(12, n_groups=3)
    swapped = Hierarchy.from_parents([-1, 0, 0, 0, *[1] * 3, *[2] * 5, *[3] * 4], logistic=False)
    assert swapped.n_rows == a.n_rows
    t = Task(a)
    for h in (a, b, a):
        assert score(t.X, t.W, h=h).shape == (7, 12)
        with pytest.raises(ValueError, match=r"^W must have the rows of the tree's nodes"):
            score(t.X, t.W, h=swapped)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("bad", [12, -1, 2**31 - 1])
def test_an_index_out_of_range_is_refused(index, bad):
    t = Task(CLASSES, index=index)
    t.X.indices = t.X.indices.copy()
    t.X.indices[2] = bad
    for operator in (
        lambda: cso.hsoftmax(t.X, t.W, None, t.labels, CLASSES),
        lambda: score(t.X, t.W),
        lambda: score(t.X, t.W, classes=t.labels),
        lambda: cso.hsoftmax_node_log_proba(t.X, t.W, None, CLASSES),
        lambda: cso.hsoftmax_search(t.X, t.W, None, CLASSES),
        lambda: cso.hsoftmax_search(t.X, t.W, None, CLASSES, beam=2),
        lambda: cso.hsoftmax_sample(t.X, t.W, None, CLASSES),
    ):
        with pytest.raises(ValueError, match=rf"^X.indices must be in \[0, 12\), got {bad} at"):
            operator()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    t = Task(CLASSES)
    t.X.data = t.X.data.copy()
    t.X.data[3] = bad
    with pytest.raises(ValueError, match=r"^X must be finite, got (nan|inf) at stored value 3"):
        t.results()
    for table in t.results(check_finite=False):
        assert table.shape[0] == 7


def test_independent_nodes_are_refused_where_they_have_no_meaning():
    h = Hierarchy.balanced(4).independent()
    X, W, labels = np.ones((2, 3)), np.zeros((6, 3)), [0, 3]
    expected = r"^h must have logistic or softmax nodes for a gradient, got independent nodes"
    with pytest.raises(ValueError, match=expected):
        cso.hsoftmax_gradient(X, W, None, labels, h)
    with pytest.raises(ValueError, match=expected):
        cso.hsoftmax_update(X, W, None, labels, h, cso.SGD(0.1))
    assert not W.any()
    with pytest.raises(ValueError, match=r"^h must have logistic or softmax nodes for samples"):
        cso.hsoftmax_sample(X, W, None, h)
    with pytest.raises(ValueError, match=r"^label_smoothing must be 0 on a tree of independent"):
        cso.hsoftmax(X, W, None, labels, h, label_smoothing=0.1)
    arrays = h.to_arrays()
    for wrong in (np.zeros(1, np.uint8), np.ones(2, np.uint8), np.ones(1, np.int64)):
        with pytest.raises(ValueError, match=r"^independent must "):
            Hierarchy.from_arrays(arrays | {"independent": wrong})
    arrays["row_ptr"] = Hierarchy.balanced(4).row_ptr
    with pytest.raises(ValueError, match=r"^row_ptr must give node 0 one row a child, as nodes"):
        Hierarchy.from_arrays(arrays)


# ---- promises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("h", [CLASSES, CLASSES.independent(), Hierarchy.huffman(counts_of(60))])
def test_same_bytes_for_any_threads_and_batches(h):
    t = Task(h, N=700, D=40)
    whole = t.results(num_threads=1)
    for threads in (2, 3):
        assert digest(t.results(num_threads=threads)) == digest(whole)
    for rows in (slice(0, 1), slice(3, 20), slice(250, 700)):
        part = Task(h, N=1)
        part.labels, part.W = t.labels[rows], t.W
        got = part.results(X=compress(t.dense.X[rows]))
        for table, expected in zip(got[: 4 + 15], whole, strict=False):
            np.testing.assert_array_equal(table, expected[rows])


def test_read_only_input_is_taken_and_left_alone():
    t = Task(CLASSES)
    whole = digest(t.results())
    for part in ("indptr", "indices", "data"):
        getattr(t.X, part).flags.writeable = False
    assert digest(t.results()) == whole
    assert digest(t.results(W=pickle.loads(pickle.dumps(t.W)))) == whole
