"""A head whose rows lie on several processes: inputs travel, weights do not."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cython_sparseops._arrays import Array, as_flag, as_integer
from cython_sparseops._hierarchy import Hierarchy
from cython_sparseops._hsoftmax import hsoftmax, hsoftmax_gradient

from .loss import as_batch
from .module import HSoftmax, HSoftmaxOutput, as_hierarchy, bounds
from .ops import array_of, as_rows
from .tree import NAMES

PARTS_PER_RANK = 4  # pieces: so many that the ranks get about equal work


class _Exchange:
    """The examples of all ranks in rank order, and the way back to their owners."""

    def __init__(self, n: int, group: Any) -> None:
        self.group, self.world = group, torch.distributed.get_world_size(group)
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        torch.distributed.all_gather(counts, torch.tensor([n]), group=group)
        self.sizes = [int(count) for count in counts]
        self.own = n

    def gather(self, mine: Tensor) -> Tensor:
        """The rows of all ranks; there may be more on one than on another."""
        most = max(self.sizes)
        padded = mine.new_zeros((most, *mine.shape[1:]))
        padded[: self.own] = mine
        found = [torch.empty_like(padded) for _ in self.sizes]
        torch.distributed.all_gather(found, padded, group=self.group)
        parts = [one[:size] for one, size in zip(found, self.sizes, strict=True)]
        return torch.cat(parts)

    def sum_at_owners(self, parts: Array) -> Array:
        """Of the rows of all ranks my own, what every rank has of them added in rank order."""
        sent = torch.from_numpy(parts)
        got = sent.new_empty((self.world * self.own, *sent.shape[1:]))
        sizes = [self.own] * self.world
        torch.distributed.all_to_all_single(got, sent, sizes, self.sizes, group=self.group)
        total = np.zeros((self.own, *parts.shape[1:]))
        for part in got.view(self.world, self.own, *sent.shape[1:]).numpy():
            total += part
        return total


class _Loss(torch.autograd.Function):  # type: ignore[misc]
    """nll of my own examples; the gradient of my own x and of the rows that lie here."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, W: Tensor, b: Tensor | None, target: Tensor, head: ShardedHSoftmax
    ) -> Tensor:
        exchange = _Exchange(len(target), head.group)
        everyone, labels = exchange.gather(x.detach()), exchange.gather(target)
        ctx.save_for_backward(x, W, b, everyone, labels)
        ctx.call = exchange, head
        partial = np.zeros(len(labels))
        for piece in head._passing(array_of(labels)):
            arrays = head._arrays(piece, array_of(everyone), W, b)
            partial[piece.own] += hsoftmax(*arrays, piece.exits, piece.hierarchy)
        nll = exchange.sum_at_owners(partial)
        return torch.from_numpy(nll).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("ShardedHSoftmax has no second derivative (create_graph=True)")
        x, W, b, everyone, labels = ctx.saved_tensors
        exchange, head = ctx.call
        upstream = array_of(exchange.gather(grad.contiguous()))
        dx = np.zeros(tuple(everyone.shape))
        rows, dW, db = [], [], []
        for piece in head._passing(array_of(labels)):
            own_X, own_W, own_b = head._arrays(piece, array_of(everyone), W, b)
            h, own = piece.hierarchy, upstream[piece.own]
            g = hsoftmax_gradient(own_X, own_W, own_b, piece.exits, h, grad_output=own)
            dx[piece.own] += g.X
            rows.append(torch.from_numpy(g.rows + piece.start))
            dW.append(torch.from_numpy(g.W))
            db.append(torch.from_numpy(g.b))
        mine = torch.from_numpy(exchange.sum_at_owners(dx)).to(x.dtype)
        scale = 1 / exchange.world  # as DDP averages over the ranks
        touched = torch.cat(rows or [labels.new_empty(0)]).unsqueeze(0)
        dense = torch.cat([*dW, W.new_empty((0, W.shape[1]))]).mul_(scale)
        found_W = as_rows(touched, dense, W.size())
        if not head.sparse:
            found_W = found_W.to_dense()
        if b is None:
            return mine, found_W, None, None, None
        found_b = as_rows(touched, torch.cat([*db, b.new_empty(0)]).mul_(scale), b.size())
        return mine, found_W, found_b if head.sparse else found_b.to_dense(), None, None


class _Passing:
    """A piece that lies here, and the examples that pass it."""

    def __init__(self, hierarchy: Hierarchy, start: int, own: Array, exits: Array) -> None:
        self.hierarchy, self.start, self.own, self.exits = hierarchy, start, own, exits


class _Place(nn.Module):  # type: ignore[misc]
    """Which rows of which tree lie here, as a digest that goes into a state dict."""

    def __init__(self, h: Hierarchy, rows: Array) -> None:
        super().__init__()
        digest = hashlib.sha256()
        for array in (*(getattr(h, name) for name in NAMES), rows):
            digest.update(np.array(len(array)).data)
            digest.update(array.data)
        self.digest = digest.hexdigest()

    def is_that_of(self, state: Any) -> bool:
        return isinstance(state, dict) and state.get("digest") == self.digest

    def get_extra_state(self) -> dict[str, str]:
        return {"digest": self.digest}

    def set_extra_state(self, state: Any) -> None:
        """It has been compared: the head does that before it loads weights."""


class ShardedHSoftmax(nn.Module):  # type: ignore[misc]
    """A hierarchical softmax whose rows are shared out among the processes of a group.

    Every process gives its own batch, and gets the losses and the gradient of its own input. The
    inputs travel; W, its gradient and the state of its optimizer stay where they are.

    Parameters
    ----------
    hierarchy_or_counts_or_n, in_features, bias, sparse, ignore_index, dtype
        As for `HSoftmax`, the same on every process.
    counts : array_like of shape (C,), optional
        How often each class occurs, to share out the work. Default: all equal.
    process_group : optional
        Of ``torch.distributed``; default: all processes. The back end must work on CPU tensors, as
        gloo does.

    Attributes
    ----------
    hierarchy : Hierarchy
        The whole tree.
    weight : Parameter of shape (R_here, D)
        The rows that lie here.
    bias : Parameter of shape (R_here,), or None

    Raises
    ------
    RuntimeError
        If ``torch.distributed`` is not initialized.

    Notes
    -----
    Each call of `forward` and each backward pass is collective: all processes make the same ones,
    with batches of any size. The gradient of the rows is the mean over processes, as that which DDP
    makes of the layers before: with equal batches a step is that of one process with all of them.
    Losses differ from those of one process by two units in the last place at most, gradients by
    the rounding of sums over a path.

    Do not wrap it in DDP: wrap what is before it.

    A ``state_dict`` holds the rows that lie here, to go on with the same tree, counts and number of
    processes on the same rank: every process saves its own, and others' are refused. ``gather()``
    saves for any number of processes.

    Examples
    --------
    >>> import torch
    >>> one = {"store": torch.distributed.HashStore(), "rank": 0, "world_size": 1}
    >>> torch.distributed.init_process_group("gloo", **one)
    >>> head = ShardedHSoftmax([8, 4, 2, 1], 3)
    >>> head(torch.ones(2, 3), torch.tensor([0, 3])).output.shape
    torch.Size([2])
    >>> torch.distributed.destroy_process_group()
    """

    def __init__(
        self,
        hierarchy_or_counts_or_n: Hierarchy | npt.ArrayLike | int,
        in_features: int,
        *,
        counts: npt.ArrayLike | None = None,
        bias: bool = True,
        sparse: bool = True,
        ignore_index: int = -100,
        process_group: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            raise RuntimeError(
                "ShardedHSoftmax must find torch.distributed initialized: call "
                "torch.distributed.init_process_group first"
            )
        self.hierarchy = as_hierarchy(hierarchy_or_counts_or_n)
        if self.hierarchy.is_independent:
            raise ValueError("hierarchy must have softmax or logistic nodes, got independent ones")
        self.in_features = as_integer("in_features", in_features, 1)
        self.sparse, self.group = as_flag("sparse", sparse), process_group
        self.ignore_index = as_integer("ignore_index", ignore_index)
        world, rank = distributed.get_world_size(self.group), distributed.get_rank(self.group)
        self.plan = self.hierarchy.split(PARTS_PER_RANK * world, counts=counts)
        self.pieces = _deal([piece.work for piece in self.plan.pieces], world)[rank]
        sizes = [len(self.plan.pieces[i].rows) for i in self.pieces]
        self.starts = np.cumsum([0, *sizes])
        own = (int(self.starts[-1]), self.in_features)
        self.weight = nn.Parameter(torch.empty(own, dtype=dtype))
        self.bias = (
            nn.Parameter(torch.empty(own[0], dtype=dtype)) if as_flag("bias", bias) else None
        )
        self.place = _Place(self.hierarchy, self._rows())
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights for the rows that lie here, from torch's generator; biases are 0.

        Give each process a seed of its own, or their rows are alike.

        Examples
        --------
        >>> import torch
        >>> one = {"store": torch.distributed.HashStore(), "rank": 0, "world_size": 1}
        >>> torch.distributed.init_process_group("gloo", **one)
        >>> head = ShardedHSoftmax([8, 4, 2, 1], 3)
        >>> head.reset_parameters()
        >>> torch.distributed.destroy_process_group()
        """
        nn.init.uniform_(self.weight, *bounds(self.in_features))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _passing(self, labels: Array) -> list[_Passing]:
        """The pieces that lie here, each with the examples that pass it."""
        kept = np.flatnonzero(labels != self.ignore_index)
        found = []
        for i, start in zip(self.pieces, self.starts[:-1], strict=True):
            own, exits = self.plan.examples(i, labels[kept])
            found.append(_Passing(self.plan.pieces[i].hierarchy, int(start), kept[own], exits))
        return found

    @staticmethod
    def _arrays(piece: _Passing, X: Array, W: Tensor, b: Tensor | None) -> tuple[Any, Any, Any]:
        """X, W and b of a piece."""
        rows = slice(piece.start, piece.start + piece.hierarchy.n_rows)
        return X[piece.own], array_of(W)[rows], None if b is None else array_of(b)[rows]

    def forward(self, x: Tensor, target: Tensor) -> HSoftmaxOutput:
        """Log-probabilities of this process's targets, and their mean loss.

        Parameters
        ----------
        x : Tensor of shape (..., D), floating
            On the CPU.
        target : Tensor of int32 or int64, shape (...)

        Returns
        -------
        HSoftmaxOutput
            output (...), loss ().

        Raises
        ------
        TypeError, ValueError
            As for `HSoftmax`. What one process refuses leaves the others waiting.

        Examples
        --------
        >>> import torch
        >>> one = {"store": torch.distributed.HashStore(), "rank": 0, "world_size": 1}
        >>> torch.distributed.init_process_group("gloo", **one)
        >>> head = ShardedHSoftmax([8, 4, 2, 1], 3)
        >>> head.forward(torch.ones(2, 3), torch.tensor([0, 3])).loss.shape
        torch.Size([])
        >>> torch.distributed.destroy_process_group()
        """
        batch = as_batch(x, target, self.weight)
        if not batch.x.is_cpu:
            raise ValueError(f"x must be on the CPU, got {batch.x.device}")
        labels = batch.target.long()
        nll = _Loss.apply(batch.x, self.weight, self.bias, labels, self)
        loss = nll.sum() / (labels != self.ignore_index).sum()
        return HSoftmaxOutput((-nll).view(batch.shape), loss)

    def gather(self) -> HSoftmax:
        """Return a head of one process with all rows, on every process; collective.

        Returns
        -------
        HSoftmax
            To evaluate, to search with, and to save.

        Examples
        --------
        >>> import torch
        >>> one = {"store": torch.distributed.HashStore(), "rank": 0, "world_size": 1}
        >>> torch.distributed.init_process_group("gloo", **one)
        >>> head = ShardedHSoftmax([8, 4, 2, 1], 3)
        >>> head.gather().weight.shape
        torch.Size([3, 3])
        >>> torch.distributed.destroy_process_group()
        """
        dim, dtype = self.in_features, self.weight.dtype
        head = HSoftmax(self.hierarchy, dim, bias=self.bias is not None, dtype=dtype)
        exchange = _Exchange(len(self.weight), self.group)
        rows = torch.from_numpy(self._rows())
        places = exchange.gather(rows)
        with torch.no_grad():
            head.weight[places] = exchange.gather(self.weight.detach())
            if self.bias is not None and head.bias is not None:
                head.bias[places] = exchange.gather(self.bias.detach())
        return head

    def scatter(self, head: HSoftmax) -> None:
        """Take the rows that lie here from a head of one process.

        Parameters
        ----------
        head : HSoftmax
            Of the same tree.

        Raises
        ------
        ValueError
            If its tree or its width is another.

        Examples
        --------
        >>> import torch
        >>> one = {"store": torch.distributed.HashStore(), "rank": 0, "world_size": 1}
        >>> torch.distributed.init_process_group("gloo", **one)
        >>> head = ShardedHSoftmax([8, 4, 2, 1], 3)
        >>> head.scatter(HSoftmax([8, 4, 2, 1], 3))
        >>> torch.distributed.destroy_process_group()
        """
        if head.hierarchy != self.hierarchy or head.in_features != self.in_features:
            raise ValueError(
                f"head must have the tree {self.hierarchy!r} and width {self.in_features}, "
                f"got {head.hierarchy!r} and {head.in_features}"
            )
        rows = torch.from_numpy(self._rows())
        with torch.no_grad():
            self.weight.copy_(head.weight[rows])
            if self.bias is not None and head.bias is not None:
                self.bias.copy_(head.bias[rows])

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, metadata: Any, strict: bool, *lists: Any
    ) -> None:
        """Refuse the rows of another tree or place, or load."""
        name = f"{prefix}place._extra_state"
        if name in state_dict and not self.place.is_that_of(state_dict[name]):
            lists[-1].append(
                f"{name} must be of the tree, the counts, the number of processes and the rank of "
                f"this head, got another (gather() makes a head to save for any number of them)"
            )
            return
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, *lists)

    def _rows(self) -> Array:
        """Places of the rows that lie here in the whole W."""
        none = [np.empty(0, np.int64)]
        return np.concatenate([self.plan.pieces[i].rows for i in self.pieces] or none)


def _deal(works: list[float], world: int) -> list[list[int]]:
    """Pieces, the heaviest first, each to the process that has the least so far."""
    loads = [0.0] * world
    hands: list[list[int]] = [[] for _ in range(world)]
    for i, work in enumerate(works):
        rank = loads.index(min(loads))
        hands[rank].append(i)
        loads[rank] += work
    return hands
