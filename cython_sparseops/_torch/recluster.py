"""Another tree for a trained head, and the rows that predict there what the head predicts.

At an input of zeros the log-probability of a class has a value and a slope; to first order they are
the model. The log-probability of a set of classes has the mean of their slopes, weighted by their
probabilities: so are rows of any tree found.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from cython_sparseops._arrays import Array, as_real
from cython_sparseops._hierarchy import Hierarchy
from cython_sparseops._sparse import is_sparse

BLOCK = 16  # columns at a time, so that float64 takes little memory


class Entries(NamedTuple):
    """The children of all nodes: where nodes begin, and a row each."""

    start: Array  # (V,)
    width: Array  # (V,)
    row: Array
    factor: Array  # 1; at logistic nodes, whose one row is that of child 1, which child it is
    inverse: Array  # 1; at logistic nodes, whose centered child 1 is half of the row, 2 for it

    def centered(self, values: Array, share: Array) -> Array:
        """Values (E, …) less their mean over the node, weighted by shares that sum to 1."""
        weighted = (values.T * share).T
        mean = np.add.reduceat(weighted, self.start, axis=0)
        found: Array = values - np.repeat(mean, self.width, axis=0)
        return found

    def log_softmax(self, z: Array) -> Array:
        shifted = z - np.repeat(np.maximum.reduceat(z, self.start), self.width)
        total = np.add.reduceat(np.exp(shifted), self.start)
        found: Array = shifted - np.repeat(np.log(total), self.width)
        return found


def entries_of(h: Hierarchy) -> Entries:
    width = np.diff(h.child_ptr)
    node = np.repeat(np.arange(h.n_nodes), width)
    rank = np.arange(len(node)) - h.child_ptr[:-1][node]
    logistic = (np.diff(h.row_ptr)[node] == 1) & (width[node] == 2)
    row = h.row_ptr[:-1][node] + np.where(logistic, 0, rank)
    factor = np.where(logistic, rank, 1.0)
    return Entries(h.child_ptr[:-1], width, row, factor, np.where(logistic, 2 * factor, 1.0))


def steps_of(h: Hierarchy) -> list[tuple[Array, Array]]:
    """For each level the classes that have one, and their entries there."""
    length = np.diff(h.path_ptr)
    entry = h.child_ptr[h.path_node] + h.path_child
    found = []
    for level in range(h.depth):
        classes = np.flatnonzero(length > level)
        found.append((classes, entry[h.path_ptr[:-1][classes] + level]))
    return found


def expand(h: Hierarchy, W: Array, b: Array | None) -> tuple[Array, Array]:
    """Log-probabilities (C,) and their slopes (C, D) at an input of zeros."""
    log_p, slopes = np.zeros(h.n_classes), np.zeros((h.n_classes, W.shape[1]), W.dtype)
    if h.depth == 0:
        return log_p, slopes
    entries, steps = entries_of(h), steps_of(h)
    bias = np.zeros(len(W)) if b is None else b.astype(np.float64)
    log_share = entries.log_softmax(entries.factor * bias[entries.row])
    share = np.exp(log_share)
    for classes, at in steps:
        log_p[classes] += log_share[at]
    for first in range(0, W.shape[1], BLOCK):
        columns = slice(first, first + BLOCK)
        part = W[:, columns].astype(np.float64)[entries.row] * entries.factor[:, None]
        part = entries.centered(part, share)
        total = np.zeros((h.n_classes, part.shape[1]))
        for classes, at in steps:
            total[classes] += part[at]
        slopes[:, columns] = total
    return log_p, slopes


def rows_for(h: Hierarchy, log_p: Array, slopes: Array) -> tuple[Array, Array]:
    """Rows (R, D) and biases (R,) with these log-probabilities and slopes at an input of zeros."""
    W, b = np.zeros((h.n_rows, slopes.shape[1]), slopes.dtype), np.zeros(h.n_rows, slopes.dtype)
    if h.depth == 0:
        return W, b
    entries = entries_of(h)
    groups = [_Group(classes, at, log_p) for classes, at in steps_of(h)]
    mass = np.empty(len(entries.row))
    for group in groups:
        mass[group.entry] = group.mass
    mass = entries.log_softmax(mass)
    even = np.repeat(1 / entries.width, entries.width)
    kept = np.flatnonzero(entries.inverse)
    row, inverse = entries.row[kept], entries.inverse[kept]
    b[row] = entries.centered(mass, even)[kept] * inverse
    for first in range(0, W.shape[1], BLOCK):
        columns = slice(first, first + BLOCK)
        part = slopes[:, columns].astype(np.float64)
        mean = np.empty((len(mass), part.shape[1]))
        for group in groups:
            mean[group.entry] = group.mean(part)
        W[row, columns] = entries.centered(mean, even)[kept] * inverse[:, None]
    return W, b


def cluster(vectors: Any, slopes: Array, counts: Array | None, **options: Any) -> Hierarchy:
    """The tree of these vectors, or of the slopes."""
    given: Any = slopes if vectors is None else vectors
    if isinstance(given, torch.Tensor):
        given = given.detach().to("cpu", torch.float32).numpy()
    if not is_sparse(given):
        given = as_real("vectors", given, 2)
    if given.shape[0] != len(slopes):
        raise ValueError(f"vectors must have shape ({len(slopes)}, F), got {tuple(given.shape)}")
    return Hierarchy.cluster(given, counts=counts, **options)


class _Group:
    """The classes below each entry of a level."""

    def __init__(self, classes: Array, at: Array, log_p: Array) -> None:
        order = np.argsort(at, kind="stable")
        self.classes, sorted_at = classes[order], at[order]
        self.entry, self.start, counts = np.unique(sorted_at, return_index=True, return_counts=True)
        given = log_p[self.classes]
        most = np.maximum.reduceat(given, self.start)
        weight = np.exp(given - np.repeat(most, counts))
        total = np.add.reduceat(weight, self.start)
        self.mass = most + np.log(total)
        self.weight = weight / np.repeat(total, counts)

    def mean(self, values: Array) -> Array:
        """Of values (C, …) of the classes, weighted by their probabilities."""
        weighted = values[self.classes] * self.weight[:, None]
        return np.add.reduceat(weighted, self.start, axis=0)
