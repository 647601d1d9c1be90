"""Hierarchical softmax in plain torch operations: for other devices, second derivatives, and
transforms such as vmap.

Code that runs on any device, and under fake tensors of devices that are not there, avoids
`tensor[index]`, which asks for a guard of the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cython_sparseops._arrays import Array

from .tree import WIDE, TreeTensors


def _take(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return table.index_select(0, index.reshape(-1)).view(index.shape)


def _rows(W: torch.Tensor, rows: torch.Tensor, sparse: bool) -> torch.Tensor:
    return functional.embedding(rows, W, sparse=sparse)


def _biases(b: torch.Tensor, rows: torch.Tensor, sparse: bool) -> torch.Tensor:
    return torch.gather(b, 0, rows.reshape(-1), sparse_grad=sparse).view(rows.shape)


def path_nll(
    x: torch.Tensor,
    W: torch.Tensor,
    b: torch.Tensor | None,
    target: torch.Tensor,
    tree: TreeTensors,
    ignore_index: int,
    *,
    sparse: bool = False,
    static: bool = True,
) -> torch.Tensor:
    """The losses (N,) of x (N, D). `static`: no shape depends on the data."""
    target = target.to(torch.int64)
    kept = target != ignore_index
    y = torch.where(kept, target, 0)
    sums = torch.float32 if x.device.type == "mps" else torch.float64
    if tree.depth == 0:
        return (x.sum(1) * 0).to(x.dtype)
    path_ptr, path_node, path_child = tree.arrays[:3]
    start = _take(path_ptr, y)
    length = _take(path_ptr, y + 1) - start
    steps = tree.depth
    if not static:
        steps = int(length.max()) if len(y) else 0
    at = torch.arange(steps, device=x.device)
    inside = (at < length.unsqueeze(1)) & kept.unsqueeze(1)
    place = torch.where(inside, start.unsqueeze(1) + at, start.unsqueeze(1))
    node, child = _take(path_node, place).long(), _take(path_child, place).long()
    near = _narrow_nll(x, W, b, node, child, tree, sparse)
    narrow = inside & (_rows_of(node, tree)[1] <= WIDE) if tree.wide else inside
    nll = torch.where(narrow, near, 0).to(sums).sum(1)
    met = None if static or not tree.wide else set(torch.unique(node).tolist())
    for v, start, width in tree.wide:
        if met is None or v in met:
            here = (node == v) & inside
            passes, chosen = here.any(1), torch.where(here, child, 0).sum(1)
            decision = _decision_rows(W, b, start, width, sparse)
            nll = _add_wide(nll, x, decision, passes, chosen, static)
    return nll.to(x.dtype)


def _rows_of(node: torch.Tensor, tree: TreeTensors) -> tuple[torch.Tensor, torch.Tensor]:
    """First row and number of rows."""
    first = _take(tree.arrays[5], node)
    return first, _take(tree.arrays[5], node + 1) - first


def _narrow_nll(
    x: torch.Tensor,
    W: torch.Tensor,
    b: torch.Tensor | None,
    node: torch.Tensor,
    child: torch.Tensor,
    tree: TreeTensors,
    sparse: bool,
) -> torch.Tensor:
    """Of every step (N, S) whose node is not wide; of others anything."""
    first, width = _rows_of(node, tree)
    at = torch.arange(tree.narrow, device=x.device)
    rows = first.unsqueeze(2) + torch.minimum(at, width.unsqueeze(2) - 1)
    n, steps, wide = rows.shape
    gathered = _rows(W, rows.view(n, steps * wide), sparse)
    z = torch.bmm(gathered, x.unsqueeze(2)).view(n, steps, wide)
    if b is not None:
        z = z + _biases(b, rows, sparse)
    # Not softplus, which is the identity beyond 20 and off by 2e-9 there.
    yes_or_no = -functional.logsigmoid(torch.where(child == 1, 1, -1) * z.select(2, 0))
    if tree.all_logistic:
        return yes_or_no
    z = z.masked_fill(at >= width.unsqueeze(2), -torch.inf)
    chosen = torch.minimum(child, torch.full_like(child, wide - 1)).unsqueeze(2)
    softmax = torch.logsumexp(z, 2) - z.gather(2, chosen).squeeze(2)
    children = _take(tree.arrays[3], node + 1) - _take(tree.arrays[3], node)
    logistic = (width == 1) & (children == 2)
    return torch.where(logistic, yes_or_no, softmax)


def _decision_rows(
    W: torch.Tensor, b: torch.Tensor | None, start: int, width: int, sparse: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Consecutive rows, in a form that keeps their gradient sparse where that is wanted."""
    if not sparse:
        return W.narrow(0, start, width), None if b is None else b.narrow(0, start, width)
    rows = torch.arange(start, start + width, device=W.device)
    return _rows(W, rows, True), None if b is None else _biases(b, rows, True)


def _add_wide(
    nll: torch.Tensor,
    x: torch.Tensor,
    decision: tuple[torch.Tensor, torch.Tensor | None],
    passes: torch.Tensor,
    chosen: torch.Tensor,
    static: bool,
) -> torch.Tensor:
    """nll and the losses at one node of those that pass it."""
    if static:
        z = functional.linear(x, *decision)
        losses = functional.cross_entropy(z, chosen, reduction="none")
        return nll + torch.where(passes, losses, 0).to(nll.dtype)
    index = passes.nonzero().squeeze(1)
    z = functional.linear(x.index_select(0, index), *decision)
    losses = functional.cross_entropy(z, chosen.index_select(0, index), reduction="none")
    return nll.index_add(0, index, losses.to(nll.dtype))


def path_log_prob(
    x: torch.Tensor, W: torch.Tensor, b: torch.Tensor | None, tree: TreeTensors
) -> torch.Tensor:
    """Log-probabilities (N, C) of all classes, level by level."""
    if tree.depth == 0:
        return (x.sum(1, keepdim=True) * 0).expand(-1, 1)
    n, levels = len(x), _levels(tree)
    z = functional.linear(x, W, b)
    steps = z.new_zeros((n, len(levels.node)))
    if levels.logistic.numel():
        rows = levels.row.index_select(0, levels.logistic)
        chosen = levels.sign.index_select(0, levels.logistic) * z.index_select(1, rows)
        steps = steps.index_copy(1, levels.logistic, functional.logsigmoid(chosen))
    if levels.softmax.numel():
        chosen = z.index_select(1, levels.row.index_select(0, levels.softmax))
        owner = levels.node.index_select(0, levels.softmax)
        nodes = len(tree.arrays[5]) - 1
        most = z.new_full((n, nodes), -torch.inf)
        most = most.scatter_reduce(1, owner.expand(n, -1), chosen.detach(), "amax")
        chosen = chosen - most.index_select(1, owner)
        total = z.new_zeros((n, nodes)).index_add(1, owner, chosen.exp())
        chosen = chosen - total.index_select(1, owner).log()
        steps = steps.index_copy(1, levels.softmax, chosen)
    log_p = torch.zeros_like(steps)
    for entries, above in levels.entries:
        here = steps.index_select(1, entries)
        if above is not None:
            here = here + log_p.index_select(1, above)
        log_p = log_p.index_copy(1, entries, here)
    return log_p.index_select(1, levels.leaf)


class _Levels:
    """The entries of the array `child`: node, row, sign of a logistic node, by kind and level."""

    def __init__(self, tree: TreeTensors) -> None:
        h, device = tree.h, tree.device
        node = np.repeat(np.arange(h.n_nodes), np.diff(h.child_ptr))
        rank = np.arange(len(h.child)) - h.child_ptr[node]
        width, children = np.diff(h.row_ptr)[node], np.diff(h.child_ptr)[node]
        logistic = (width == 1) & (children == 2)
        entry_of = np.full(h.n_nodes, -1)  # where a node stands among the children
        inner = h.child >= 0
        entry_of[h.child[inner]] = np.flatnonzero(inner)
        leaf = np.empty(h.n_classes, np.int64)
        leaf[~h.child[~inner]] = np.flatnonzero(~inner)

        def on(array: Array) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        self.node, self.leaf = on(node), on(leaf)
        self.row = on(h.row_ptr[node] + np.where(logistic, 0, rank))
        self.sign = on(np.where(rank == 1, 1, -1))
        self.logistic, self.softmax = on(np.flatnonzero(logistic)), on(np.flatnonzero(~logistic))
        self.entries = []
        nodes: Array = np.zeros(1, np.int32)
        above: Array | None = None
        while len(nodes):
            mine = np.flatnonzero(np.isin(node, nodes))
            parents = None if above is None else on(entry_of[node[mine]])
            self.entries.append((on(mine), parents))
            below = h.child[mine]
            nodes, above = below[below >= 0], nodes


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _levels(tree: TreeTensors) -> Any:
    if tree.levels is None:
        tree.levels = _Levels(tree)
    return tree.levels
