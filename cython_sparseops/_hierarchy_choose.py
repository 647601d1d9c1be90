"""Which tree is the fastest here: every candidate of `Hierarchy.choose` is built and timed."""

from __future__ import annotations

import math
import time

import numpy as np
import numpy.typing as npt

from ._arrays import (
    FLOAT32,
    Array,
    aligned_empty,
    as_counts,
    as_float,
    as_integer,
    as_seed,
    draw_labels,
)
from ._hierarchy import Hierarchy
from ._hierarchy_reports import PLAIN, HierarchyChoice, MeasuredHierarchy
from ._hsoftmax import hsoftmax_gradient
from ._runtime import get_num_threads, resolve_threads
from ._search import hsoftmax_search

_NOISE = 1.03  # less is noise: a tree that is later in the list must be this much faster
_HOPELESS = 3.0  # no noise makes up for so much: a tree this much slower is timed no further
_ROUNDS = 45  # a median of more does not move; small trees would fill the whole budget
_SHARE = 1 / 8  # of the budget for one measurement: there are seven candidates
_FOR_SEARCH = 1 / 4  # of the budget, left for the searches that follow the race
_LEAST_CLASSES = 1024  # fewer would time the call, not the rows
_BATCHES = 5  # taken in turn, so that the rows of one are not in the caches already
_QUERIES = 32
_STEP_FLOPS = 6  # a row, a feature and an example: logit, dx and dW
_SLOW = 5e9  # floating-point operations per second that any machine reaches
_PLAIN_CLASSES = 1 << 18  # more than so many are timed on so many, and scaled


class _Candidate:
    """A tree and the inputs on which it is timed."""

    def __init__(self, name: str, tree: Hierarchy, counts: Array, dim: int) -> None:
        self.name, self.tree, self.counts, self.dim = name, tree, counts, dim
        self.expected = tree.report(counts).expected_rows
        self.timed, self.scale = tree, 1.0
        self.seconds: list[float] = []
        self.search_seconds = math.nan

    def shrink(self, n_classes: int) -> None:
        """Time a plain softmax over fewer classes: its cost is proportional to them."""
        self.scale = len(self.counts) / n_classes
        self.timed = _plain(n_classes)
        self.counts = self.counts[:n_classes]

    def cost(self, batch_size: int) -> float:
        """Seconds a batch takes at most, or so."""
        pairs = batch_size * self.expected / self.scale
        return pairs * self.dim * _STEP_FLOPS / _SLOW

    def prepare(self, W: Array, X: Array, draws: Array) -> None:
        """Labels are drawn from the counts: the same draws for all trees."""
        self.labels = draw_labels(self.counts, draws)  # (batches, N)
        self.W, self.X = W[: self.timed.n_rows], X

    def measure(self, threads: int | None) -> float:
        """One nll + gradient."""
        labels = self.labels[len(self.seconds) % len(self.labels)]
        start = time.perf_counter()
        hsoftmax_gradient(
            self.X, self.W, None, labels, self.timed, check_finite=False, num_threads=threads
        )
        return (time.perf_counter() - start) * self.scale

    def measure_search(self, threads: int | None) -> None:
        """Top-1 of queries that the model answers with about the same certainty for every tree: the
        inputs are moved toward their labels until the mean loss is at most one nat."""
        labels = self.labels[0, :_QUERIES]
        start = np.zeros((len(labels), self.dim), FLOAT32)
        first = hsoftmax_gradient(start, self.W, None, labels, self.timed, num_threads=threads)
        queries: Array = start
        step, nll = 1.0, math.inf
        while nll > 1 and step < 1e4:
            step *= 2
            queries = -step * first.X
            nll = float(
                hsoftmax_gradient(
                    queries, self.W, None, labels, self.timed, num_threads=threads
                ).nll.mean()
            )
        before = time.perf_counter()
        hsoftmax_search(queries, self.W, None, self.timed, 1, num_threads=threads)
        self.search_seconds = (time.perf_counter() - before) * self.scale / len(labels)

    def median(self) -> float:
        return float(np.median(self.seconds))

    def result(self) -> MeasuredHierarchy:
        """What the report says."""
        return MeasuredHierarchy(
            self.name,
            self.tree.n_rows,
            self.tree.depth,
            self.expected,
            self.tree.n_rows * self.dim * FLOAT32.itemsize,
            self.median() * 1e3,
            self.search_seconds * 1e6,
            len(self.seconds),
            self.scale != 1,
        )


def _plain(n_classes: int) -> Hierarchy:
    parents = np.full(n_classes + 1, n_classes)
    parents[-1] = -1
    return Hierarchy.from_parents(parents)


def candidate_trees(counts: Array) -> dict[str, Hierarchy]:
    """The trees to choose among, by name, the simplest first."""
    return {
        "huffman": Hierarchy.huffman(counts),
        "huffman, arity 4": Hierarchy.huffman(counts, arity=4),
        "huffman, arity 8": Hierarchy.huffman(counts, arity=8),
        "huffman, arity 16": Hierarchy.huffman(counts, arity=16),
        "two_level": Hierarchy.two_level(counts),
        "balanced": Hierarchy.balanced(len(counts)),
    }


def _candidates(counts: Array, dim: int) -> list[_Candidate]:
    """Each tree once, and the plain softmax."""
    out: list[_Candidate] = []
    plain = _plain(len(counts))
    for name, tree in candidate_trees(counts).items():
        if tree != plain and not any(tree == other.tree for other in out):
            out.append(_Candidate(name, tree, counts, dim))
    return [*out, _Candidate(PLAIN, plain, counts, dim)]


def choose(
    counts: npt.ArrayLike,
    dim: int,
    *,
    batch_size: int,
    time_budget: float,
    rng: int | np.random.Generator | None,
    num_threads: int | None,
) -> tuple[Hierarchy, HierarchyChoice]:
    """See `Hierarchy.choose`."""
    width, batch = as_integer("dim", dim, 1), as_integer("batch_size", batch_size, 1)
    budget = as_float("time_budget", time_budget)
    if not (math.isfinite(budget) and budget > 0):
        raise ValueError(f"time_budget must be positive and finite, got {time_budget}")
    threads = resolve_threads(num_threads) or get_num_threads()
    tally = as_counts(counts)
    candidates = _candidates(tally, width)
    plain = candidates[-1]
    affordable = len(tally) * budget * _SHARE / max(plain.cost(batch), 1e-12)
    limit = max(_LEAST_CLASSES, int(min(affordable, _PLAIN_CLASSES)))
    if len(tally) > limit:
        plain.shrink(limit)
    _race(candidates, width, batch, budget, as_seed(rng), threads)
    best = min(one.median() for one in candidates)
    winner = next(one for one in candidates if one.median() <= best * _NOISE)
    report = HierarchyChoice(
        winner.name, len(tally), width, batch, threads, tuple(one.result() for one in candidates)
    )
    return winner.tree, report


def _race(
    candidates: list[_Candidate], dim: int, batch: int, budget: float, seed: int, threads: int
) -> None:
    """Time the candidates in turn (A B C A B C …) until the budget is spent, hopeless ones once."""
    generator = np.random.Generator(np.random.Philox(seed))
    W = aligned_empty((max(one.timed.n_rows for one in candidates), dim), FLOAT32)
    generator.random(out=W, dtype=np.float32)
    W -= 0.5
    W *= 2 / math.sqrt(dim)
    X = aligned_empty((batch, dim), FLOAT32)
    generator.standard_normal(out=X, dtype=np.float32)
    draws = generator.random((_BATCHES, batch))
    deadline = time.perf_counter() + budget
    running = sorted(candidates, key=lambda one: one.cost(batch))
    for one in running:
        one.prepare(W, X, draws)
        first = one.measure(threads)
        if first > budget * _SHARE:  # once is enough to see; the warm-up counts
            one.seconds.append(first)
        else:
            one.seconds.append(one.measure(threads))
    for _ in range(_ROUNDS - 1):
        best = min(one.median() for one in running)
        running = [one for one in running if one.median() <= best * _HOPELESS]
        for one in running:
            one.seconds.append(one.measure(threads))
        if time.perf_counter() > deadline - budget * _FOR_SEARCH:
            break
    for one in candidates:
        one.measure_search(threads)
