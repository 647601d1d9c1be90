"""What a class tree costs: sizes and expectations."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import INT64, as_counts, as_integer

if TYPE_CHECKING:
    from ._hierarchy import Hierarchy

__all__ = ["HierarchyReport", "PruneReport"]


class HierarchyReport(NamedTuple):
    """What a tree costs. Expectations are over the class frequencies; printed, it is a table.

    Attributes
    ----------
    n_classes, n_nodes, n_rows, depth : int
        C, V, R, and the longest path.
    expected_path_length : float
        Steps an example.
    entropy : float
        Of the classes, in bits: no binary tree has a shorter expected path.
    expected_rows : float
        Rows of W scored an example.
    expected_flops : float or None
        Multiply-adds an example, forward: ``expected_rows * dim``; None without dim.
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
    rows an example                        1.5
    multiply-adds an example                12
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
            ("rows an example", f"{self.expected_rows:.1f}"),
        ]
        if self.expected_flops is not None and self.weight_bytes is not None:
            lines += [
                ("multiply-adds an example", f"{self.expected_flops:,.0f}"),
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
        Steps an example.
    expected_flops_before, expected_flops_after : float
        Multiply-adds an example and dimension.

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
    expected_flops_before: float
    expected_flops_after: float


def report(h: Hierarchy, counts: npt.ArrayLike | None, dim: int | None) -> HierarchyReport:
    """The report of one tree; see `Hierarchy.report`."""
    weight = np.ones(h.n_classes) if counts is None else as_counts(counts)
    if weight.shape != (h.n_classes,):
        raise ValueError(f"counts must have one entry a class, {h.n_classes}, got {len(weight)}")
    refused = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if refused.size:
        raise ValueError(
            f"counts must be finite and non-negative, got {weight[refused[0]]} at index "
            f"{refused[0]}"
        )
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


def prune_report(h: Hierarchy, pruned: Hierarchy, counts: npt.ArrayLike) -> PruneReport:
    """The report of a tree and what pruning made of it."""
    before, after = report(h, counts, None), report(pruned, counts, None)
    return PruneReport(
        before.n_nodes,
        after.n_nodes,
        before.expected_path_length,
        after.expected_path_length,
        before.expected_rows,
        after.expected_rows,
    )
