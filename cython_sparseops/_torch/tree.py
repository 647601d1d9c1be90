"""A class tree as tensors of a device."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from cython_sparseops._hierarchy import Hierarchy, as_tree

NAMES = ("path_ptr", "path_node", "path_child", "child_ptr", "child", "row_ptr")
FEW = 8  # rows: trees of such nodes take the core's way path by path
WIDE = 512  # rows: wider nodes take a product of their own, narrower ones are gathered


def as_tensors(h: Hierarchy) -> dict[str, torch.Tensor]:
    """The six arrays, copied: whoever changes them must not change the tree."""
    return {name: torch.from_numpy(getattr(h, name).copy()) for name in NAMES}


def from_tensors(tensors: Any) -> Hierarchy:
    """The tree of what `as_tensors` returned; ValueError if it is none."""
    return Hierarchy.from_arrays({name: t.cpu().numpy() for name, t in tensors.items()})


class TreeTensors:
    """The six arrays of a tree on a device, and what the plain path knows of it beforehand.

    They are no buffers: DDP would send them with every forward pass.
    """

    def __init__(self, h: Hierarchy, device: torch.device) -> None:
        if as_tree(h) is not None and h.is_independent:
            raise ValueError("hierarchy must have softmax or logistic nodes, got independent ones")
        self.h, self.device = h, device
        self.levels: Any = None  # of the plain path, once it needs them
        self.arrays = [tensor.to(device) for tensor in as_tensors(h).values()]
        self.n_classes, self.n_rows, self.depth = h.n_classes, h.n_rows, h.depth
        widths = np.diff(h.row_ptr)
        logistic = (widths == 1) & (np.diff(h.child_ptr) == 2)
        self.all_logistic = bool(logistic.all())
        self.few_rows = int(widths.max(initial=0)) <= FEW
        self.narrow = int(widths[widths <= WIDE].max(initial=1))
        self.wide = [
            (int(v), int(h.row_ptr[v]), int(widths[v])) for v in np.flatnonzero(widths > WIDE)
        ]

    def __deepcopy__(self, memo: object) -> TreeTensors:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return TreeTensors, (self.h, self.device)


@lru_cache(maxsize=8)
def tree_tensors(h: Hierarchy, device: torch.device) -> TreeTensors:
    """Of a tree that no module holds."""
    return TreeTensors(h, device)
