"""The command ``sparseops bench``: how fast the operators are here, for given classes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import cython_sparseops as cso
from cython_sparseops._arrays import Array, draw_labels

_BATCHES = 4  # taken in turn, so that the rows of one are not in the caches already
_LEAST = 3  # turns of every operator, however long they take
_MOST = 200
_DROPOUT = 1 << 20  # values


class Timing(NamedTuple):
    """What one operator took: the median of its turns."""

    operator: str
    threads: int
    ms: float
    per_second: float  # examples; rows of a normalizer, values of a dropout
    turns: int


def measure(
    counts: Array,
    dim: int,
    batch: int,
    k: int,
    *,
    arity: int = 2,
    threads: tuple[int, ...],
    seconds: float,
) -> tuple[Any, list[Timing]]:
    """Time the operators on a Huffman tree.

    Parameters
    ----------
    counts : ndarray of shape (C,)
        How often each class occurs; labels are drawn from them.
    dim, batch, k, arity : int
        Width of W, examples per call, results of a search, children per node.
    threads : tuple of int
        Numbers of threads to time.
    seconds : float
        In all, about; every operator runs at least three times.

    Returns
    -------
    h : Hierarchy
    timings : list of Timing

    Examples
    --------
    >>> h, timings = measure(np.ones(50), 8, 4, 2, threads=(1,), seconds=0.01)
    >>> timings[0].operator
    'nll'
    """
    rng = np.random.default_rng(0)
    h = cso.Hierarchy.huffman(counts, arity=arity)
    W, b = cso.init_weights(h, dim, rng=0)
    labels = draw_labels(counts, rng.random((_BATCHES, batch)))
    X = rng.standard_normal((_BATCHES, batch, dim), dtype=np.float32)
    rows = rng.integers(0, max(1, h.n_rows), (_BATCHES, batch))
    values = rng.standard_normal(_DROPOUT, dtype=np.float32)
    sgd, adagrad = cso.SGD(1e-6), cso.Adagrad(1e-6)

    operators: dict[str, tuple[int, Callable[[int, int], object]]] = {
        "nll": (batch, lambda i, t: cso.hsoftmax(X[i], W, b, labels[i], h, num_threads=t)),
        "nll + gradient": (
            batch,
            lambda i, t: cso.hsoftmax_gradient(X[i], W, b, labels[i], h, num_threads=t),
        ),
        "update, SGD": (
            batch,
            lambda i, t: cso.hsoftmax_update(X[i], W, b, labels[i], h, sgd, num_threads=t),
        ),
        "update, Adagrad": (
            batch,
            lambda i, t: cso.hsoftmax_update(X[i], W, b, labels[i], h, adagrad, num_threads=t),
        ),
        f"exact top-{k}": (
            batch,
            lambda i, t: cso.hsoftmax_search(X[i], W, b, h, min(k, len(counts)), num_threads=t),
        ),
        "max-norm of rows": (
            batch,
            lambda i, t: cso.sparse_normalize_rows(W, rows[i], norm=1e3, num_threads=t),
        ),
        "dropout": (
            _DROPOUT,
            lambda i, t: cso.sparse_dropout_with_replacement(
                values, 0.5, rng=i, copy=False, num_threads=t
            ),
        ),
    }
    if h.n_rows == 0:  # one class: nothing to normalize
        del operators["max-norm of rows"]
    budget = seconds / len(operators) / len(threads)
    return h, [
        _time(name, amount, call, t, budget)
        for name, (amount, call) in operators.items()
        for t in threads
    ]


def _time(
    name: str, amount: int, call: Callable[[int, int], object], threads: int, budget: float
) -> Timing:
    call(0, threads)
    taken: list[float] = []
    deadline = time.perf_counter() + budget
    while len(taken) < _LEAST or (len(taken) < _MOST and time.perf_counter() < deadline):
        start = time.perf_counter()
        call(len(taken) % _BATCHES, threads)
        taken.append(time.perf_counter() - start)
    median = float(np.median(taken))
    return Timing(name, threads, median * 1e3, amount / median, len(taken))
