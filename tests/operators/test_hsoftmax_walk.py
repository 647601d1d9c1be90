"""Gradients by one walk through the sorted examples: batches of many chunks, trees of all kinds.

A chunk is 32 to 128 examples, by the size of the batch, and a row's sum joins a part from each of
its chunks. Where the tree is too deep for a walk or a node has more than eight rows, each node
collects its examples instead.
"""

import numpy as np
import pytest

import cython_sparseops as cso
from helpers import reference
from helpers.batches import digest, make_batch
from helpers.hierarchies import BUILDERS, paths_of_splits


def assert_close(got, expected, tolerance):
    assert got.shape == np.shape(expected)
    assert np.abs(got.astype(float) - expected).max(initial=0) <= tolerance


def chain(depth):
    """One class leaves at every step; depth + 1 of them."""
    return cso.Hierarchy.from_parents(
        np.concatenate([np.arange(-1, depth - 1), np.arange(depth), [depth - 1]])
    )


def softmax_chain(depth):
    """The same of nodes with two rows each."""
    path = np.concatenate([np.arange(min(c + 1, depth)) for c in range(depth + 1)])
    ptr = np.cumsum([0] + [min(c + 1, depth) for c in range(depth + 1)])
    leaves = np.ones(len(path), int)  # child 1 goes on, but for the class that leaves
    leaves[ptr[1:-1] - 1] = 0
    return cso.Hierarchy.from_paths(ptr, path, leaves, logistic=np.zeros(depth, bool))


def renumbered(n_nodes, widths=(2,), flags=(True,)):
    """Nodes with numbers of the caller's own, so that the walk meets rows out of order."""
    rng = np.random.default_rng(5)
    splits = [(int(i), int(rng.choice(widths))) for i in rng.integers(0, 1000, n_nodes)]
    return paths_of_splits(splits, flags, rng).hierarchy()


TREES = {
    "huffman": lambda: BUILDERS["huffman"](300),
    "balanced": lambda: cso.Hierarchy.balanced(64),
    "two classes": lambda: cso.Hierarchy.balanced(2),
    "renumbered": lambda: renumbered(199),
    "chain of 40": lambda: chain(40),  # more parts than examples, unless the batch is one chunk
    "chain of 300": lambda: chain(300),  # deeper than the stack
    "two rows a node": lambda: BUILDERS["softmax huffman"](300),
    "three rows a node": lambda: BUILDERS["balanced of arity 3"](300),
    "one to eight rows": lambda: renumbered(120, (2, 3, 8), (True, False)),
    "softmax chain of 140": lambda: softmax_chain(140),
    "wider nodes": lambda: cso.Hierarchy.balanced(300, arity=9),
}


def test_the_trees_are_what_their_names_say():
    trees = {name: tree() for name, tree in TREES.items()}
    assert [trees[f"chain of {depth}"].depth for depth in (40, 300)] == [40, 300]
    rows = {name: np.unique(np.diff(tree.row_ptr)).tolist() for name, tree in trees.items()}
    assert rows["two rows a node"] == rows["softmax chain of 140"] == [2]
    assert rows["renumbered"] == [1]
    assert rows["three rows a node"][-1] == 3
    assert rows["one to eight rows"] == [1, 2, 3, 8]
    assert rows["wider nodes"][-1] == 9
    first_steps = trees["renumbered"].path_node[trees["renumbered"].path_ptr[:-1]]
    assert (first_steps == first_steps[0]).all()
    assert first_steps[0] != 0  # the root of a tree numbered depth first


BATCHES = [(name, N) for name in TREES for N in (33, 640)]
BATCHES += [(name, N) for name in ("huffman", "renumbered", "one to eight rows") for N in (1, 129)]
BATCHES += [(name, N) for name in ("huffman", "two rows a node") for N in (700, 2100)]


@pytest.mark.parametrize(("name", "N"), BATCHES)
def test_batches_of_many_chunks_agree_with_the_reference(name, N):
    p = make_batch(TREES[name](), N=N, D=5, seed=N)
    rng = np.random.default_rng(N)
    labels = np.where(rng.random(N) < 0.1, -1, p.labels)
    p = p._replace(labels=np.minimum(labels, rng.integers(0, p.h.n_classes, N)))  # some often
    g = rng.normal(size=N)
    nll, dX, dW, db, touched = reference.gradient(p.tree, *p[:4], grad_output=g, ignore_index=-1)
    tolerance = p.gradient_tolerance(np.abs(g).max())
    options = {"grad_output": g, "ignore_index": -1}
    got = cso.hsoftmax_gradient(*p, **options)
    assert got.rows.tolist() == np.flatnonzero(touched).tolist()
    assert_close(got.nll, nll, p.tolerance)
    for mine, theirs in ((got.X, dX), (got.W, dW[touched]), (got.b, db[touched])):
        assert_close(mine, theirs, tolerance)
    dense = cso.hsoftmax_gradient(*p, sparse=False, **options)
    assert digest([dense.W[got.rows], dense.b[got.rows]]) == digest([got.W, got.b])
    assert np.count_nonzero(np.abs(dense.W).sum(axis=1)) <= len(got.rows)
    for threads in (1, 2, 3):
        assert digest(cso.hsoftmax_gradient(*p, num_threads=threads, **options)) == digest(got)
    if N > 1:
        nll, residuals = cso.hsoftmax(*p, ignore_index=-1, return_residuals=True)
        again = cso.hsoftmax_gradient(*p, residuals=residuals, **options)
        assert digest(again) == digest(got)


@pytest.mark.parametrize("name", sorted(set(TREES) - {"two classes"}))
def test_an_update_steps_by_the_bytes_of_the_gradient(name):
    p = make_batch(TREES[name](), N=700, D=5, dtype="float32")
    g = cso.hsoftmax_gradient(*p)
    W, b = p.W.copy(), p.b.copy()
    cso.hsoftmax_update(p.X, W, b, p.labels, p.h, cso.SGD(lr=0.5))
    expected, bias = p.W.copy(), p.b.copy()
    expected[g.rows] -= np.float32(0.5) * g.W  # halving is exact, so it matters not what is fused
    bias[g.rows] -= np.float32(0.5) * g.b
    assert digest([W, b]) == digest([expected, bias])


@pytest.mark.parametrize("name", ["huffman", "two rows a node", "one to eight rows"])
def test_a_logit_that_is_not_finite_is_refused_wherever_it_lies(name):
    p = make_batch(TREES[name](), N=700, D=5)
    for row in p.h.row_ptr[p.h.path_node[p.h.path_ptr[p.labels[[3, 350, 699]]] + 1]]:
        W = p.W.copy()
        W[row, 2] = np.inf
        for function in (cso.hsoftmax, cso.hsoftmax_gradient):
            with pytest.raises(ValueError, match=r"W and b must be finite.* on the path to class"):
                function(p.X, W, p.b, p.labels, p.h)
        before = W.copy()
        with pytest.raises(ValueError, match="W and b must be finite"):
            cso.hsoftmax_update(p.X, W, p.b, p.labels, p.h, cso.SGD(lr=0.5))
        assert np.array_equal(W, before, equal_nan=True)


def test_gradients_of_about_the_same_size_take_blocks_of_the_same_size():
    """So that each finds the memory of one before: fresh pages took a third of the time."""
    h = cso.Hierarchy.huffman(1 / np.arange(1, 3001))
    blocks = set()
    for N in range(980, 1000):
        g = cso.hsoftmax_gradient(*make_batch(h, N=N, D=64, dtype="float32"))
        block = g.W if g.W.base is None else g.W.base
        assert g.W.shape == (len(g.rows), 64)
        assert g.W.flags.c_contiguous
        assert g.W.nbytes <= block.nbytes <= 1.25 * g.W.nbytes
        blocks.add(block.nbytes)
    assert len(blocks) <= 2
