"""Loss and cost of errors by a trial on a few branches of the tree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cython_sparseops._arrays import Array
from cython_sparseops._hierarchy import Hierarchy
from cython_sparseops._hsoftmax import hsoftmax
from cython_sparseops._linear import linear_train

USUAL = ("squared_hinge", 1.0)
LONGER, SHORTER = ("squared_hinge", 3.0), ("squared_hinge", 0.3)
NOISY = ("logistic", 10.0)
SHARE, LEAST_ROWS = 1 / 20, 4000  # of the rows: what a trial takes
HELD_OUT, LEAST_HELD_OUT = 0.15, 100  # a share of these rows, and the least that say something
LEAST_FITTED = 300  # rows that fit the temperatures
ERRORS_OF_C, ERRORS_OF_LOSS = 1.0, 2.0  # standard errors of the gain that a change must exceed


class Branch(NamedTuple):
    """Branches of a tree, their rows, and which of these are held out."""

    tree: Hierarchy
    classes: Array
    rows: Array
    labels: Array
    held_out: Array


def chosen_loss(
    X: Any,
    labels: Array,
    h: Hierarchy,
    settings: Mapping[str, Any],
    *,
    losses: tuple[str, ...],
    clustered: bool,
    seed: int,
    num_threads: int | None,
) -> tuple[str, float]:
    """The loss and C with the least negative log-probability of held-out rows of some branches.

    Labels of a task are as clean in one branch as in the next. C = 3 is tried first; where that
    gains nothing, a smaller C and the logistic loss, which suit noisy labels.
    """
    branch = find_branch(labels, h, seed)
    if branch is None:
        return USUAL

    def nll(loss: str, C: float) -> Array:
        own = {**settings, "loss": loss, "C": C, "verbose": 0, "clustered": clustered, "rng": seed}
        return _nll(X, branch, own, num_threads)

    usual = nll(*USUAL)
    if _gains(usual, nll(*LONGER), ERRORS_OF_C):
        return LONGER
    if NOISY[0] in losses and _gains(usual, nll(*NOISY), ERRORS_OF_LOSS):
        return NOISY
    return SHORTER if _gains(usual, nll(*SHORTER), ERRORS_OF_C) else USUAL


def _gains(before: Array, after: Array, errors: float) -> bool:
    """Whether the mean falls by more than so many standard errors."""
    gain = (before.astype(np.float64) - after).tolist()
    mean = math.fsum(gain) / len(gain)
    variance = math.fsum((one - mean) ** 2 for one in gain) / len(gain)
    return mean > errors * math.sqrt(variance / len(gain))


def find_branch(labels: Array, h: Hierarchy, seed: int) -> Branch | None:
    """Children of the root, drawn until they have the rows of a trial; None if none will do."""
    if len(labels) < LEAST_ROWS / 2:
        return None
    random = np.random.RandomState(seed % 2**32)
    lengths = np.diff(h.path_ptr)
    child = h.path_child[h.path_ptr[:-1]]
    below = np.bincount(child[labels], weights=lengths[labels] > 1)
    wanted = max(SHARE * len(labels), LEAST_ROWS)
    drawn = [c for c in random.permutation(len(below)) if 0 < below[c] <= 1.5 * wanted]
    enough = int(np.searchsorted(np.cumsum(below[drawn]), wanted)) + 1
    chosen = np.sort(np.array(drawn[:enough], np.int64))
    classes = np.flatnonzero(np.isin(child, chosen) & (lengths > 1))
    number = np.full(h.n_classes, -1)
    number[classes] = np.arange(len(classes))
    rows = np.flatnonzero(number[labels] >= 0)
    if len(rows) < wanted / 2:
        return None
    own = number[labels[rows]]
    held_out = np.zeros(len(rows), bool)
    held_out[random.permutation(len(rows))[: int(HELD_OUT * len(rows))]] = True
    seen = np.bincount(own[~held_out], minlength=len(classes)) > 0
    kept = ~held_out | seen[own]  # nothing is learned of a class without rows
    if np.sum(held_out & kept) < LEAST_HELD_OUT:
        return None
    tree = _branches(h, classes, chosen)
    return Branch(tree, classes, rows[kept], own[kept], held_out[kept])


def _branches(h: Hierarchy, classes: Array, children: Array) -> Hierarchy:
    """The tree of these classes, which are all below these children of the root."""
    skipped = int(len(children) == 1)  # then that child is the root
    lengths = h.path_ptr[classes + 1] - h.path_ptr[classes] - skipped
    ends = np.cumsum(lengths)
    start = ends - lengths
    step = np.arange(ends[-1]) + np.repeat(h.path_ptr[classes] + skipped - start, lengths)
    child = h.path_child[step].copy()
    if not skipped:
        child[start] = np.searchsorted(children, child[start])
    node = np.unique(h.path_node[step], return_inverse=True)[1]
    return Hierarchy.from_paths(np.append(0, ends), node, child)


def _nll(X: Any, branch: Branch, options: dict[str, Any], num_threads: int | None) -> Array:
    """Of each held-out row, by a tree of the others."""
    train, held = ~branch.held_out, branch.held_out
    rows = branch.rows[train]
    for name, places in (("sample_weight", rows), ("class_weight", branch.classes)):
        if options.get(name) is not None:
            options[name] = options[name][places]
    share = max(0.05, LEAST_FITTED / len(rows))
    W = linear_train(
        X[rows],
        branch.labels[train],
        branch.tree,
        validation=share,
        num_threads=num_threads,
        **options,
    )
    X, truth = X[branch.rows[held]], branch.labels[held]
    return hsoftmax(X, W, None, truth, branch.tree, num_threads=num_threads)
