"""What is told of class trees: their cost, what pruning changed, which of them is fastest."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import INT64, as_counts, as_integer, require_finite
from ._table import table

__all__ = ["HierarchyChoice", "HierarchyReport", "MeasuredHierarchy", "PruneReport"]

PLAIN = "plain softmax"


class HierarchyReport(NamedTuple):
    """What a tree costs. Expectations are over the class frequencies; printed, it is a table.

    Attributes
    ----------
    n_classes, n_nodes, n_rows, depth : int
        C, V, R, and the longest path.
    expected_path_length : float
        Steps per example.
    entropy : float
        Of the classes, in bits: no binary tree has a shorter expected path.
    expected_rows : float
        Rows of W scored per example.
    expected_flops : float or None
        Multiply-adds per example, forward: ``expected_rows * dim``; None without dim.
    weight_bytes : int or None
        Of W in float32; None without dim.

    Examples
    --------
    >>> print(Hierarchy.huffman([2, 1, 1]).report([2, 1, 1], dim=8))
    classes                                  3
    inner nodes                              2
    rows of W                                2
    depth                                    2
    expected path length           1.500 steps
    entropy of the classes          1.500 bits
    rows per example                       1.5
    multiply-adds per example               12
    W in float32                       0.0 MiB
    """

    n_classes: int
    n_nodes: int
    n_rows: int
    depth: int
    expected_path_length: float
    entropy: float
    expected_rows: float
    expected_flops: float | None
    weight_bytes: int | None

    def __str__(self) -> str:
        lines = [
            ("classes", f"{self.n_classes:,}"),
            ("inner nodes", f"{self.n_nodes:,}"),
            ("rows of W", f"{self.n_rows:,}"),
            ("depth", f"{self.depth:,}"),
            ("expected path length", f"{self.expected_path_length:.3f} steps"),
            ("entropy of the classes", f"{self.entropy:.3f} bits"),
            ("rows per example", f"{self.expected_rows:.1f}"),
        ]
        if self.expected_flops is not None and self.weight_bytes is not None:
            lines += [
                ("multiply-adds per example", f"{self.expected_flops:,.0f}"),
                ("W in float32", f"{self.weight_bytes / 2**20:,.1f} MiB"),
            ]
        return "\n".join(f"{name:<26}{value:>16}" for name, value in lines)


class PruneReport(NamedTuple):
    """What `Hierarchy.prune` changed.

    Attributes
    ----------
    nodes_before, nodes_after : int
        V.
    expected_path_length_before, expected_path_length_after : float
        Steps per example.
    expected_rows_before, expected_rows_after : float
        Rows of W scored per example.

    Examples
    --------
    >>> counts = [8, 4, 2, 1, 1]
    >>> report = Hierarchy.huffman(counts).prune(counts, max_depth=2).prune_report
    >>> report.nodes_before, report.nodes_after
    (4, 2)
    """

    nodes_before: int
    nodes_after: int
    expected_path_length_before: float
    expected_path_length_after: float
    expected_rows_before: float
    expected_rows_after: float


class MeasuredHierarchy(NamedTuple):
    """One candidate of `Hierarchy.choose` and what it took on this machine.

    Attributes
    ----------
    name : str
    n_rows, depth : int
        R, and the longest path.
    expected_rows : float
        Rows of W per example.
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
        """Return the candidate of this name.

        Parameters
        ----------
        name : str
            Such as ``"huffman"`` or ``"plain softmax"``.

        Returns
        -------
        MeasuredHierarchy

        Raises
        ------
        ValueError
            If there is none.

        Examples
        --------
        >>> h, report = Hierarchy.choose([5, 3, 1, 1], dim=8, time_budget=0.02)
        >>> report.candidate("plain softmax").n_rows
        4
        """
        for one in self.candidates:
            if one.name == name:
                return one
        names = ", ".join(one.name for one in self.candidates)
        raise ValueError(f"name must be one of {names}, got {name!r:.60}")

    @property
    def plain_softmax_wins(self) -> bool:
        """Whether no tree is faster than one softmax over all classes."""
        return self.winner == PLAIN

    def __str__(self) -> str:
        titles = ["", "ms per batch", "top-1 us", "rows per example", "rows", "depth", "W in MiB"]
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


def report_of(h: Any, counts: npt.ArrayLike | None, dim: int | None) -> HierarchyReport:
    """The report of `Hierarchy.report`."""
    weight = np.ones(h.n_classes) if counts is None else as_counts(counts)
    if weight.shape != (h.n_classes,):
        raise ValueError(f"counts must have one entry a class, {h.n_classes}, got {len(weight)}")
    require_finite("counts", weight, non_negative=True)
    total = weight.sum()
    p = weight / total if total > 0 else np.full(h.n_classes, 1 / h.n_classes)
    rows_before = np.concatenate([np.zeros(1, INT64), np.cumsum(np.diff(h.row_ptr)[h.path_node])])
    expected_rows = float(p @ np.diff(rows_before[h.path_ptr]))
    width = None if dim is None else as_integer("dim", dim, 1)
    return HierarchyReport(
        h.n_classes,
        h.n_nodes,
        h.n_rows,
        h.depth,
        float(p @ np.diff(h.path_ptr)),
        float(-(p[p > 0] * np.log2(p[p > 0])).sum()) + 0.0,
        expected_rows,
        None if width is None else expected_rows * width,
        None if width is None else h.n_rows * width * 4,
    )
