"""Real Caffe2 results replayed: HSoftmax, its gradient, HSoftmaxSearch, the cost of Huffman trees.

Every Caffe2 node is a softmax node that owns the rows it was given, so a case is translated: nodes
with one child are dropped (probability 1), places that no word uses get a class of their own, and W
is multiplied by a matrix `select` that deals its rows out in our order. The row of a logistic node
is w1 - w0; the gradient comes back through the transpose.
"""

import json
from typing import NamedTuple

import numpy as np
import pytest

import cython_sparseops as cso
from helpers import reference

CLAMP = -np.log(1e-20)  # Caffe2 takes p >= 1e-20, so that no step costs more than 46.05; we do not
# Not one tree: refused, see the rejections below.
UNDEFINED = {"hsoftmax_overlapping_nodes", "hsoftmax_duplicate_word", "hsoftmax_nonfinite"}
EPS = np.finfo(np.float32).eps


class Translated(NamedTuple):
    path_ptr: np.ndarray
    path_node: np.ndarray
    path_child: np.ndarray
    row_ptr: np.ndarray
    first_row: list  # Caffe2's first row of each node
    words: list  # the word of each class; None where a place was empty

    def hierarchy(self, logistic):
        """All softmax nodes, as in Caffe2, or with logistic nodes where there are two children."""
        flags = None if logistic else False
        paths = self.path_ptr, self.path_node, self.path_child
        return cso.Hierarchy.from_paths(*paths, logistic=flags)

    def select(self, h, size):
        """(R, Caffe2's rows): our W is select @ theirs."""
        out = np.zeros((h.n_rows, size))
        for v, first in enumerate(self.first_row):
            rows = np.arange(h.row_ptr[v], h.row_ptr[v + 1])
            if len(rows) == 1:
                out[rows[0], [first, first + 1]] = -1, 1
            else:
                out[rows, first + np.arange(len(rows))] = 1
        return out


def translate(paths):
    """paths: (word, [(node key, first row, children, child), ...]); nodes numbered as they come."""
    paths = [(word, [step for step in path if step[2] > 1]) for word, path in paths]
    number, first_row, sizes, used = {}, [], [], set()
    for _, path in paths:
        for key, first, size, child in path:
            if key not in number:
                number[key] = len(number)
                first_row.append(first)
                sizes.append(size)
            used.add((key, child))
    for key, v in number.items():
        holes = [j for j in range(sizes[v]) if (key, j) not in used]
        way = next((path[:i] for _, path in paths for i, step in enumerate(path) if step[0] == key))
        paths += [(None, [*way, (key, first_row[v], sizes[v], j)]) for j in holes]
    steps = [step for _, path in paths for step in path]
    return Translated(
        np.cumsum([0] + [len(path) for _, path in paths]),
        np.array([number[s[0]] for s in steps], int),
        np.array([s[3] for s in steps], int),
        np.cumsum([0, *sizes]),
        first_row,
        [w for w, _ in paths],
    )


def paths_of(case):
    """The paths of an HSoftmax or Huffman case; a node's key is its first row."""
    steps = list(
        zip(
            case["node_index"].tolist(),
            case["node_index"].tolist(),
            case["node_length"].tolist(),
            case["node_target"].tolist(),
            strict=True,
        )
    )
    ptr = case["path_ptr"]
    return [(w, steps[ptr[i] : ptr[i + 1]]) for i, w in enumerate(case["path_word"].tolist())]


def paths_of_json(node, above=()):
    """The paths of a search case: child nodes come before the words; a node's key is its name."""
    size = len(node["children"]) + len(node["words"])
    step = [(*above, (node["name"], node["offset"], size, j)) for j in range(size)]
    out = [(word, list(step[len(node["children"]) + i])) for i, word in enumerate(node["words"])]
    return out + [p for j, c in enumerate(node["children"]) for p in paths_of_json(c, step[j])]


def magnitude(X, W, b):
    """(N, R): the sum of |terms| of each logit, what rounding errors are in proportion to."""
    return np.abs(X).astype(float) @ np.abs(W).astype(float).T + np.abs(b) + 1


class Replay(NamedTuple):
    t: Translated
    select: np.ndarray
    labels: np.ndarray
    exact: np.ndarray  # (N,) no step of the row was clamped by Caffe2
    tolerance: (
        np.ndarray
    )  # (N,) of the nll: 8 eps for each logit on the path, in units of its terms


def replay(case, h, t):
    class_of = {word: c for c, word in enumerate(t.words)}
    labels = np.array([class_of[word] for word in case["labels"].tolist()])
    select = t.select(h, len(case["W"]))
    tree = reference.Tree.of(h)
    edges = reference.edge_log_probs(tree, case["X"], select @ case["W"], select @ case["b"])
    steps = [[-edges[v][s, j] for v, j in tree.paths[c]] for s, c in enumerate(labels)]
    scale = magnitude(case["X"], case["W"], case["b"]).max(axis=1)
    return Replay(
        t,
        select,
        labels,
        np.array([max(s, default=0) < CLAMP for s in steps], bool),
        8 * EPS * scale * np.array([max(len(s), 1) for s in steps]),
    )


def within(got, expected, tolerance):
    assert got.shape == expected.shape
    assert (np.abs(got.astype(float) - expected) <= tolerance).all()


# ---- agrees with the reference ------------------------------------------------------------------


@pytest.mark.parametrize("logistic", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nll_is_that_of_caffe2_hsoftmax(hsoftmax_case, logistic, dtype):
    case = hsoftmax_case
    t = translate(paths_of(case))
    h = t.hierarchy(logistic)
    r = replay(case, h, t)
    X, W, b = (a.astype(dtype) for a in (case["X"], r.select @ case["W"], r.select @ case["b"]))
    nll = cso.hsoftmax(X, W, b, r.labels, h)
    assert nll.dtype == dtype
    within(nll[r.exact], case["Y"][r.exact], r.tolerance[r.exact])
    assert (nll[~r.exact] >= case["Y"][~r.exact] - r.tolerance[~r.exact]).all()
    within(
        reference.nll(reference.Tree.of(h), X, W, b, r.labels)[r.exact],
        case["Y"][r.exact],
        r.tolerance[r.exact],
    )


@pytest.mark.parametrize("logistic", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_is_that_of_caffe2_hsoftmax_gradient(hsoftmax_case, logistic, dtype):
    case = hsoftmax_case
    t = translate(paths_of(case))
    h = t.hierarchy(logistic)
    r = replay(case, h, t)
    X, W, b = (a.astype(dtype) for a in (case["X"], r.select @ case["W"], r.select @ case["b"]))
    got = cso.hsoftmax_gradient(
        X, W, b, r.labels, h, grad_output=case["dY"].astype(dtype), sparse=False
    )
    within(got.nll[r.exact], case["Y"][r.exact], r.tolerance[r.exact])
    per_step = (
        np.abs(case["dY"]) * r.tolerance
    )  # the error of a delta is at most that of its logits
    dX_tolerance = 2 * (per_step * np.abs(case["W"]).max())[:, None]
    within(got.X[r.exact], case["dX"][r.exact], np.broadcast_to(dX_tolerance, X.shape)[r.exact])
    if r.exact.all():
        within(r.select.T @ got.W, case["dW"], 2 * per_step.sum() * np.abs(case["X"]).max())
        within(r.select.T @ got.b, case["db"], 2 * per_step.sum())


@pytest.mark.parametrize("logistic", [False, True])
def test_search_with_nodes_is_caffe2_hsoftmax_search(search_case, logistic):
    case = search_case
    args = json.loads(str(case["args"]))
    k, beam = args["topN"] or 5, 0.01 if args["beam"] is None else max(args["beam"], 0.0)
    t = translate(paths_of_json(json.loads(str(case["tree_json"]))))
    h = t.hierarchy(logistic)
    select = t.select(h, len(case["W"]))
    W, b = ((select @ case[key]).astype(np.float32) for key in "Wb")
    got = cso.hsoftmax_search(case["X"], W, b, h, k, edge_beam=beam, nodes=True)
    names = np.array([str(word) for word in t.words] + names_of_nodes(case, h))
    scale = magnitude(case["X"], case["W"], case["b"]).max(axis=1)
    for s, tolerance in enumerate(8 * EPS * max(h.depth, 1) * scale):
        full = case["names"][s] != ""
        known = full & np.isin(
            case["names"][s], names
        )  # the others have one child: their child says it
        scores = case["scores"][s][known]
        unclamped = int((scores < CLAMP - 0.01).sum())
        found = got.classes[s] >= 0
        assert found.sum() == known.sum() or (full.all() and found.sum() > known.sum())
        ours = -got.log_probs[s][: known.sum()]
        within(ours[:unclamped], scores[:unclamped], tolerance)
        assert (ours[unclamped:] > CLAMP - 0.01).all()
        alone = np.diff(scores, prepend=-1) > 2 * tolerance  # not tied with the one before or after
        alone &= (
            np.diff(scores, append=scores[-1:] + (1 if found.sum() == k else 0)) > 2 * tolerance
        )
        alone[unclamped:] = False
        ids = got.classes[s][: known.sum()]
        assert (names[ids][alone] == case["names"][s][known][alone]).all()


def names_of_nodes(case, h):
    """Names of our nodes 0 … V-1: translate() numbered them in the order of the paths."""
    order = [
        s[0]
        for _, path in paths_of_json(json.loads(str(case["tree_json"])))
        for s in path
        if s[2] > 1
    ]
    names = list(dict.fromkeys(order))
    assert len(names) == h.n_nodes
    return names


def test_huffman_costs_what_caffe2_huffman_costs_and_is_no_deeper(huffman_case):
    case = huffman_case
    counts = case["counts"]
    h = cso.Hierarchy.huffman(counts)
    lengths = np.diff(h.path_ptr)
    by_word = {word: len(path) for word, path in paths_of(case)}
    theirs = [by_word.get(c, 0) for c in range(len(counts))]  # one class: Caffe2 loses the word
    cost, depth = reference.huffman_cost(counts.tolist())
    assert counts @ lengths == counts @ theirs == cost
    assert h.depth == depth <= max(theirs)


# ---- edges --------------------------------------------------------------------------------------


def test_classes_that_caffe2_never_saw_do_not_make_a_deep_tree(golden):
    """Its heap makes 110 levels of 450 unseen classes; a complete tree has 9."""
    case = golden("huffman_zero_450")
    assert max(np.diff(case["path_ptr"])) == 110
    assert cso.Hierarchy.huffman(case["counts"]).depth == 9


def test_a_step_below_probability_1e_20_is_not_clamped_as_caffe2_does(golden):
    case = golden("search_clamp")
    t = translate(paths_of_json(json.loads(str(case["tree_json"]))))
    h = t.hierarchy(logistic=False)
    select = t.select(h, len(case["W"]))
    W, b = ((select @ case[key]).astype(np.float32) for key in "Wb")
    ours = -cso.hsoftmax_log_proba(case["X"], W, b, h)
    expected = -reference.log_proba(reference.Tree.of(h), case["X"], W, b)
    np.testing.assert_allclose(ours, expected, rtol=8 * EPS * h.depth)
    assert ours.max() > case["scores"].max() + 5  # theirs stop at 46.05 for the one unlikely step


# ---- rejections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(UNDEFINED))
def test_paths_that_are_not_one_tree_are_refused(golden, name):
    """Caffe2 takes rows shared by nodes, a word with two paths, and words with different roots."""
    case = golden(name)
    number = {row: v for v, row in enumerate(dict.fromkeys(case["node_index"].tolist()))}
    nodes = [number[row] for row in case["node_index"].tolist()]
    with pytest.raises(ValueError, match=r"^path"):
        cso.Hierarchy.from_paths(case["path_ptr"], nodes, case["node_target"])


def test_weights_that_are_not_finite_are_refused_where_caffe2_returns_nan(golden):
    case = golden("hsoftmax_nonfinite")
    assert np.isnan(case["Y"]).any()
    h = cso.Hierarchy.balanced(4, logistic=False)
    W, b = case["W"][: h.n_rows], case["b"][: h.n_rows]
    with pytest.raises(ValueError, match=r"^W and b must be finite"):
        cso.hsoftmax(case["X"], W, b, case["labels"], h)
