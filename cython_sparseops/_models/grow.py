"""New classes for a trained model: they get leaves beside others, and no row of W changes."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cython_sparseops._arrays import Array, aligned_empty
from cython_sparseops._hierarchy import Hierarchy
from cython_sparseops._models.bag import BagModel, BagTrainer
from cython_sparseops._quantize import QuantizedWeights, quantize
from cython_sparseops._search import hsoftmax_search

Numbers = npt.NDArray[np.int64]


class Grown(NamedTuple):
    """A tree with new classes.

    Attributes
    ----------
    hierarchy : Hierarchy
    rows : ndarray of int64, shape (R,)
        The new place of each row of W of the smaller tree.
    """

    hierarchy: Hierarchy
    rows: Numbers


def find_siblings(
    model: BagModel,
    hidden: Iterable[tuple[slice, Array]],
    labels: Array,
    new: Array,
    num_threads: int | None = None,
) -> dict[int, int]:
    """For each new class the known one that the model takes most of its rows for.

    Of a class without rows it is the one that lies deepest: in a tree by counts, the rarest.

    Parameters
    ----------
    model : BagModel
    hidden : iterable of (slice, ndarray)
        The rows of new classes as the tree takes them, in blocks.
    labels : ndarray of int, shape (N,)
        The new classes of these rows.
    new : ndarray of int
        All new classes.
    num_threads : int, optional

    Returns
    -------
    dict of int to int
    """
    deepest = int(np.argmax(np.diff(model.hierarchy.path_ptr)))
    siblings = dict.fromkeys(new.tolist(), deepest)
    if not len(labels):
        return siblings
    taken = np.empty(len(labels), np.int64)
    for rows, x in hidden:
        found = hsoftmax_search(x, model.W, model.b, model.hierarchy, num_threads=num_threads)
        taken[rows] = found.classes[:, 0]
    votes, count = np.unique(np.stack([labels, taken]), axis=1, return_counts=True)
    for at in np.argsort(count, kind="stable"):  # the most votes last; ties to the higher class
        siblings[int(votes[0, at])] = int(votes[1, at])
    return siblings


def grow_tree(h: Hierarchy, numbers: Numbers, siblings: dict[int, int]) -> Grown:
    """Give every new class a leaf beside a class that is there.

    If that one hangs below a softmax node, so does the new class; otherwise its leaf becomes a node
    of both. No other node changes, nor its number.

    Parameters
    ----------
    h : Hierarchy
    numbers : ndarray of int64, shape (C,)
        What each class of h is called in the new tree.
    siblings : dict of int to int
        The class of h beside which a new class is put, by the number of the new one.

    Returns
    -------
    Grown

    Examples
    --------
    >>> grown = grow_tree(Hierarchy.balanced(2), np.array([0, 2]), {1: 1})
    >>> grown.hierarchy.path_node.tolist(), grown.rows.tolist()
    ([0, 0, 1, 1], [0])
    """
    rows_of = np.diff(h.row_ptr)
    flags = list(rows_of == 1)
    width: dict[int, int] = {}  # of nodes that grow
    paths: dict[int, tuple[list[int], list[int]]] = {}  # of classes, by their new numbers
    for sibling in sorted(set(siblings.values())):
        added = sorted(new for new, beside in siblings.items() if beside == sibling)
        steps = slice(h.path_ptr[sibling], h.path_ptr[sibling + 1])
        nodes, children = h.path_node[steps].tolist(), h.path_child[steps].tolist()
        if nodes and not flags[nodes[-1]]:
            node = nodes[-1]
            first = width.setdefault(node, int(rows_of[node]))
            width[node] += len(added)
            for at, new in enumerate(added):
                paths[new] = nodes, [*children[:-1], first + at]
            continue
        node = len(flags)
        flags.append(len(added) == 1)
        for at, new in enumerate([int(numbers[sibling]), *added]):
            paths[new] = [*nodes, node], [*children, at]
    grown = _of_paths(h, numbers, paths, np.array(flags, dtype=bool))
    return Grown(grown, _places(h, grown))


def _of_paths(
    h: Hierarchy, numbers: Numbers, paths: dict[int, tuple[list[int], list[int]]], logistic: Array
) -> Hierarchy:
    total = len(set(paths) | set(numbers.tolist()))
    lengths = np.zeros(total, dtype=np.int64)
    lengths[numbers] = np.diff(h.path_ptr)
    for new, (nodes, _) in paths.items():
        lengths[new] = len(nodes)
    ptr = np.concatenate([[0], np.cumsum(lengths)])
    node, child = np.empty(ptr[-1], np.int64), np.empty(ptr[-1], np.int64)
    kept = np.ones(h.n_classes, dtype=bool)
    kept[np.isin(numbers, list(paths))] = False
    sizes = np.diff(h.path_ptr)[kept]
    step = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    source = np.repeat(h.path_ptr[:-1][kept], sizes) + step
    target = np.repeat(ptr[numbers[kept]], sizes) + step
    node[target], child[target] = h.path_node[source], h.path_child[source]
    for new, (nodes, children) in paths.items():
        node[ptr[new] : ptr[new + 1]], child[ptr[new] : ptr[new + 1]] = nodes, children
    return Hierarchy.from_paths(ptr, node, child, logistic=logistic)


def _places(h: Hierarchy, grown: Hierarchy) -> Numbers:
    shift = (grown.row_ptr[: h.n_nodes] - h.row_ptr[:-1])[: h.n_nodes]
    places: Numbers = np.arange(h.n_rows) + np.repeat(shift, np.diff(h.row_ptr))
    return places


def grow_model(model: BagModel, grown: Grown) -> BagModel:
    """Give the model rows for a grown tree; those that it has stay as they are, to the last bit.

    A row in a node that was there starts as the mean of the node's rows: the new class is there
    never the likeliest before it is trained. Rows of new nodes start at zero, as in `create`.

    Parameters
    ----------
    model : BagModel
    grown : Grown
        By `grow_tree`, of the model's tree.

    Returns
    -------
    BagModel
        A new one; E is shared.

    Examples
    --------
    >>> model = BagModel(Hierarchy.balanced(2), None, np.ones((1, 3)), np.zeros(1))
    >>> grow_model(model, grow_tree(model.hierarchy, np.array([0, 1]), {2: 1})).W
    array([[1., 1., 1.],
           [0., 0., 0.]])
    """
    h, old = grown.hierarchy, model.hierarchy
    halves = isinstance(model.W, QuantizedWeights)
    stored = model.W.to_arrays()["data"] if isinstance(model.W, QuantizedWeights) else model.W
    W, b = _spread(stored, grown), _spread(model.b, grown)
    wider = np.flatnonzero(np.diff(h.row_ptr)[: old.n_nodes] > np.diff(old.row_ptr))
    for node in wider.tolist():
        first, end = int(old.row_ptr[node]), int(old.row_ptr[node + 1])
        new = slice(int(h.row_ptr[node]) + end - first, int(h.row_ptr[node + 1]))
        rows = QuantizedWeights(stored[first:end]).dequantize() if halves else stored[first:end]
        mean = rows.mean(axis=0, dtype=np.float64)
        W[new] = quantize(mean[None], model.storage).to_arrays()["data"] if halves else mean
        b[new] = model.b[first:end].mean(dtype=np.float64)
    return BagModel(h, model.E, QuantizedWeights(W) if halves else W, b, mode=model.mode)


def grow_trainer(trainer: BagTrainer, model: BagModel, grown: Grown) -> BagTrainer:
    """The trainer of a grown model: rows keep the optimizer's state, new ones have none.

    Parameters
    ----------
    trainer : BagTrainer
        Stays as it is.
    model : BagModel
        By `grow_model`.
    grown : Grown

    Returns
    -------
    BagTrainer
    """
    own, optimizer = copy.copy(trainer), copy.copy(trainer.W_optimizer)
    optimizer.state = {name: _spread(state, grown) for name, state in optimizer.state.items()}
    own.model, own.W_optimizer = model, optimizer
    return own


def _spread(rows: Array, grown: Grown) -> Array:
    """Rows at their new places, zeros between them."""
    wide = aligned_empty((grown.hierarchy.n_rows, *rows.shape[1:]), rows.dtype)
    wide[:] = 0
    wide[grown.rows] = rows
    return wide
