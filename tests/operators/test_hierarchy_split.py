"""`Hierarchy.split`: pieces are trees of their own, cover the tree once, and train to its bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cython_sparseops as cso
from cython_sparseops import Hierarchy
from helpers.hierarchies import paths

trees = st.builds(
    lambda p, independent: p.hierarchy().independent() if independent else p.hierarchy(),
    paths(),
    st.booleans(),
)


def work_of_nodes(h, counts):
    """The slow and obvious: mass of the classes below times rows."""
    mass = np.zeros(h.n_nodes)
    for c in range(h.n_classes):
        for node in h.path_node[h.path_ptr[c] : h.path_ptr[c + 1]]:
            mass[node] += counts[c]
    return mass * np.diff(h.row_ptr)


@given(trees, st.integers(1, 12), st.booleans())
def test_pieces_cover_the_tree_once_and_keep_their_share(h, n_parts, weighted):
    counts = np.arange(1.0, h.n_classes + 1) if weighted else np.ones(h.n_classes)
    plan = h.split(n_parts, counts=counts if weighted else None)
    nodes = np.concatenate([piece.nodes for piece in plan.pieces] + [np.empty(0, int)])
    rows = np.concatenate([piece.rows for piece in plan.pieces] + [np.empty(0, int)])
    np.testing.assert_array_equal(np.sort(nodes), np.arange(h.n_nodes))
    np.testing.assert_array_equal(np.sort(rows), np.arange(h.n_rows))
    work = work_of_nodes(h, counts)
    for piece in plan.pieces:
        assert piece.work == pytest.approx(work[piece.nodes].sum() / work.sum())
        assert piece.work <= 1 / n_parts + 1e-6 or len(piece.nodes) == 1
        assert piece.hierarchy.n_rows == len(piece.rows)
        assert piece.hierarchy.n_classes == len(piece.exits)
        assert piece.hierarchy.is_independent == h.is_independent
    shares = [piece.work for piece in plan.pieces]
    assert shares == sorted(shares, reverse=True)
    if n_parts == 1:
        assert len(plan.pieces) == min(h.n_nodes, 1)
    leaves = np.concatenate([p.exits[p.exits >= 0] for p in plan.pieces] + [np.empty(0, int)])
    if h.n_nodes:
        np.testing.assert_array_equal(np.sort(leaves), np.arange(h.n_classes))


@given(trees, st.integers(1, 12), st.randoms(use_true_random=False))
def test_losses_of_the_pieces_add_up(h, n_parts, random):
    rng = np.random.default_rng(random.randrange(2**32))
    X, W = rng.standard_normal((30, 3)), rng.standard_normal((h.n_rows, 3))
    labels = rng.integers(h.n_classes, size=30)
    plan = h.split(n_parts)
    total = np.zeros(30)
    for i, piece in enumerate(plan.pieces):
        own, exits = plan.examples(i, labels)
        total[own] += cso.hsoftmax(X[own], W[piece.rows], None, exits, piece.hierarchy)
    np.testing.assert_allclose(total, cso.hsoftmax(X, W, None, labels, h), rtol=1e-12)


@pytest.mark.parametrize("n_parts", [2, 8])
@pytest.mark.parametrize("make", [cso.SGD, cso.Adagrad, cso.Adam])
def test_pieces_train_to_the_bytes_of_the_whole_where_nodes_are_wide(make, n_parts):
    rng = np.random.default_rng(1)
    h = Hierarchy.huffman(1 / np.arange(1, 601), arity=32)
    W, b = cso.init_weights(h, 16, rng=2)
    X = rng.standard_normal((4, 200, 16), np.float32)
    labels = rng.integers(600, size=(4, 200))
    plan = h.split(n_parts)
    assert len(plan.pieces) > n_parts
    parts = [(W[p.rows], b[p.rows], make(0.1)) for p in plan.pieces]
    optimizer = make(0.1)
    for x, y in zip(X, labels, strict=True):
        cso.hsoftmax_update(x, W, b, y, h, optimizer)
        for i, (piece, (w, bias, own_optimizer)) in enumerate(zip(plan.pieces, parts, strict=True)):
            own, exits = plan.examples(i, y)
            cso.hsoftmax_update(x[own], w, bias, exits, piece.hierarchy, own_optimizer)
    assert plan.merge([w for w, _, _ in parts]).tobytes() == W.tobytes()
    assert plan.merge([bias for _, bias, _ in parts]).tobytes() == b.tobytes()


def test_bad_arguments_are_named():
    h = Hierarchy.balanced(8)
    plan = h.split(2)
    with pytest.raises(ValueError, match=r"n_parts must be at least 1, got 0"):
        h.split(0)
    with pytest.raises(ValueError, match=r"counts must have one entry a class, 8, got 2"):
        h.split(2, counts=[1, 2])
    with pytest.raises(ValueError, match=r"piece must be in \[0, \d+\), got 99"):
        plan.examples(99, [0])
    with pytest.raises(ValueError, match=r"labels must be in \[0, 8\), got 8 at index 1"):
        plan.examples(0, [0, 8])
    with pytest.raises(ValueError, match=r"parts must be \d+, one a piece, got 0"):
        plan.merge([])
    wrong = [np.zeros((len(piece.rows), 3), np.float32) for piece in plan.pieces]
    wrong[-1] = wrong[-1][:, :2]
    with pytest.raises(ValueError, match=r"parts\[\d\] must be float32 of shape"):
        plan.merge(wrong)


def test_a_million_classes_are_cut():
    h = Hierarchy.huffman(1 / np.arange(1, 1_000_001))
    plan = h.split(32, counts=1 / np.arange(1, 1_000_001))
    assert len(plan.pieces) >= 32
    assert sum(len(piece.rows) for piece in plan.pieces) == h.n_rows
