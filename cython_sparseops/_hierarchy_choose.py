"""Which tree is the fastest here: every candidate of `Hierarchy.choose` is built and timed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import FLOAT32, INT64, Array, aligned_empty, as_counts, as_float, as_integer, as_seed
from ._hsoftmax import hsoftmax_gradient
from ._runtime import resolve_threads
from ._search import hsoftmax_search
from ._table import table

if TYPE_CHECKING:
    from ._hierarchy import Hierarchy

__all__ = ["HierarchyChoice", "MeasuredHierarchy"]

PLAIN = "plain softmax"
_NOISE = 1.03  # a tree that is later in the list must be this much faster
_HOPELESS = 3.0  # one this much slower than the best after a round gets no further rounds
_ROUNDS = 45
_BATCHES = 5  # taken in turn, so that the rows of one are not in the caches already
_QUERIES = 32
_STEP_FLOPS = 6  # a row, a feature and an example: logit, dx and dW
_SLOW = 5e9  # floating-point operations a second that any machine reaches
_PLAIN_CLASSES = 1 << 18  # more than so many are timed on so many, and scaled


class MeasuredHierarchy(NamedTuple):
    """One candidate of `Hierarchy.choose` and what it took on this machine.

    Attributes
    ----------
    name : str
    n_rows, depth : int
        R, and the longest path.
    expected_rows : float
        Rows of W an example.
    weight_bytes : int
        W in float32.
    gradient_ms : float
        Milliseconds of loss and gradient of a batch, median.
    search_us : float
        Microseconds of an exact top-1 search of one query.
    rounds : int
        Measurements behind gradient_ms.
    scaled : bool
        Timed on fewer classes, and the times scaled up.

    Examples
    --------
    >>> h, report = Hierarchy.choose([5, 3, 1, 1], dim=8, time_budget=0.02)
    >>> one = report.candidates[0]
    >>> one.name, one.n_rows, one.weight_bytes, one.gradient_ms > 0
    ('huffman', 3, 96, True)
    """

    name: str
    n_rows: int
    depth: int
    expected_rows: float
    weight_bytes: int
    gradient_ms: float
    search_us: float
    rounds: int
    scaled: bool


class HierarchyChoice(NamedTuple):
    """The report of `Hierarchy.choose`; printed, it is a table of the candidates.

    Attributes
    ----------
    winner : str
        Name of the fastest for loss and gradient.
    n_classes, dim, batch_size, num_threads : int
        What was measured.
    candidates : tuple of MeasuredHierarchy

    Examples
    --------
    >>> h, report = Hierarchy.choose([5, 3, 1, 1], dim=8, time_budget=0.02)
    >>> report.candidate(report.winner).name == report.winner
    True
    """

    winner: str
    n_classes: int
    dim: int
    batch_size: int
    num_threads: int
    candidates: tuple[MeasuredHierarchy, ...]

    def candidate(self, name: str) -> MeasuredHierarchy:
        """Give the candidate of this name.

        Parameters
        ----------
        name : str
            Such as ``"huffman"`` or ``"plain softmax"``.

        Returns
        -------
        MeasuredHierarchy

        Examples
        --------
        >>> h, report = Hierarchy.choose([5, 3, 1, 1], dim=8, time_budget=0.02)
        >>> report.candidate("plain softmax").n_rows
        4
        """
        return next(one for one in self.candidates if one.name == name)

    @property
    def plain_softmax_wins(self) -> bool:
        """Whether no tree is faster than one softmax over all classes."""
        return self.winner == PLAIN

    def __str__(self) -> str:
        titles = ["", "ms a batch", "top-1 us", "rows an example", "rows", "depth", "W in MiB"]
        lines = [
            [
                ("> " if one.name == self.winner else "  ") + one.name,
                _shown(one.gradient_ms, one.scaled),
                _shown(one.search_us, one.scaled),
                f"{one.expected_rows:,.1f}",
                one.n_rows,
                one.depth,
                f"{one.weight_bytes / 2**20:,.1f}",
            ]
            for one in self.candidates
        ]
        head = (
            f"{self.n_classes:,} classes, dim {self.dim}, batch {self.batch_size:,}, "
            f"{self.num_threads} thread{'s' * (self.num_threads > 1)}"
        )
        if self.plain_softmax_wins:
            verdict = "plain softmax wins: these are too few classes for a tree to pay"
        else:
            ratio = self.candidate(PLAIN).gradient_ms / self.candidate(self.winner).gradient_ms
            verdict = f"{self.winner} wins: {ratio:,.1f} times as fast as plain softmax"
        notes = (
            ["~ timed on fewer classes and scaled"]
            if any(one.scaled for one in self.candidates)
            else []
        )
        return "\n".join([head, table(titles, lines), verdict, *notes])


def _shown(value: float, scaled: bool) -> str:
    digits = 3 if value < 10 else 1
    return f"{'~' * scaled}{value:,.{digits}f}"


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
        self.timed = _plain(type(self.tree), n_classes)
        self.counts = self.counts[:n_classes]

    def cost(self, batch_size: int) -> float:
        """Seconds a batch takes at most, or so."""
        pairs = batch_size * self.expected / self.scale
        return pairs * self.dim * _STEP_FLOPS / _SLOW

    def prepare(self, W: Array, X: Array, draws: Array) -> None:
        """Labels are drawn from the counts: the same draws for all trees."""
        steps: Any = np.cumsum(self.counts)
        if steps[-1] <= 0:
            steps = np.cumsum(np.ones(len(steps)))
        labels = np.searchsorted(steps, draws * steps[-1], side="right")
        self.labels = np.minimum(labels, len(steps) - 1).astype(INT64)  # (batches, N)
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
        inputs are moved towards their labels until the mean loss is at most one nat."""
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


def _plain(cls: Any, n_classes: int) -> Any:
    parents = np.full(n_classes + 1, n_classes)
    parents[-1] = -1
    return cls.from_parents(parents)


def _candidates(cls: Any, counts: Array, dim: int) -> list[_Candidate]:
    """The trees, the simplest first, each once, and the plain softmax."""
    makers: dict[str, Callable[[], Any]] = {
        "huffman": lambda: cls.huffman(counts),
        "huffman, arity 4": lambda: cls.huffman(counts, arity=4),
        "huffman, arity 8": lambda: cls.huffman(counts, arity=8),
        "huffman, arity 16": lambda: cls.huffman(counts, arity=16),
        "two_level": lambda: cls.two_level(counts),
        "balanced": lambda: cls.balanced(len(counts)),
    }
    out: list[_Candidate] = []
    plain = _plain(cls, len(counts))
    for name, make in makers.items():
        tree = make()
        if tree != plain and not any(tree == other.tree for other in out):
            out.append(_Candidate(name, tree, counts, dim))
    return [*out, _Candidate(PLAIN, plain, counts, dim)]


def choose(
    cls: Any,
    counts: npt.ArrayLike,
    dim: int,
    *,
    batch_size: int,
    time_budget: float,
    rng: int | np.random.Generator | None,
    num_threads: int | None,
) -> tuple[Any, HierarchyChoice]:
    """See `Hierarchy.choose`."""
    width, batch = as_integer("dim", dim, 1), as_integer("batch_size", batch_size, 1)
    budget = as_float("time_budget", time_budget)
    if not (math.isfinite(budget) and budget > 0):
        raise ValueError(f"time_budget must be positive and finite, got {time_budget}")
    threads = resolve_threads(num_threads)
    tally = as_counts(counts)
    candidates = _candidates(cls, tally, width)
    plain = candidates[-1]
    affordable = len(tally) * budget / 8 / max(plain.cost(batch), 1e-12)
    limit = max(1024, int(min(affordable, _PLAIN_CLASSES)))
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
        if first > budget / 8:  # once is enough to see; the warm-up counts
            one.seconds.append(first)
        else:
            one.seconds.append(one.measure(threads))
    for _ in range(_ROUNDS - 1):
        best = min(one.median() for one in running)
        running = [one for one in running if one.median() <= best * _HOPELESS]
        for one in running:
            one.seconds.append(one.measure(threads))
        if time.perf_counter() > deadline - budget / 4:
            break
    for one in candidates:
        one.measure_search(threads)
