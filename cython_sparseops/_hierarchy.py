"""Class hierarchies: trees whose leaves are the classes, as flat arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ._arrays import Array, as_counts, as_exact, as_flag, as_float, describe
from ._core import hierarchy as core
from ._hierarchy_builders import HierarchyBuilders
from ._hierarchy_report import HierarchyReport, PruneReport, prune_report, report
from ._storage import load_arrays, save_arrays

__all__ = ["Hierarchy", "HierarchyReport", "PruneReport"]

_NAMES = ("path_ptr", "path_node", "path_child", "child_ptr", "child", "row_ptr")
_DTYPES = (np.int64, np.int32, np.int32, np.int64, np.int32, np.int64)


def _from_buffer(buffer: Any, dtype: Any) -> Array:
    """What C++ built, without a copy: the array keeps the tree that owns it alive."""
    return np.frombuffer(buffer, dtype) if len(memoryview(buffer)) else np.empty(0, dtype)


class Hierarchy(HierarchyBuilders):
    """A class tree. Build it by one of the class methods; it is immutable and its arrays are
    read-only.

    The leaves are the classes ``0 … C-1``. An inner node is *logistic* (two children, one row of W,
    ``P(child 1 | x) = σ(w·x + b)``) or *softmax* (k children, k consecutive rows). Builders number
    the nodes depth first and make nodes with two children logistic unless ``logistic=False``.

    Attributes
    ----------
    n_classes, n_nodes, n_rows, depth : int
        C, V, R, and the longest path.
    path_ptr : ndarray of int64, shape (C+1,)
    path_node, path_child : ndarray of int32
        The path of class c is the slice ``path_ptr[c]:path_ptr[c+1]``, root first.
    child_ptr : ndarray of int64, shape (V+1,)
    child : ndarray of int32
        Children of v: slice ``child_ptr[v]:child_ptr[v+1]``; a value >= 0 is a node, < 0 the class
        ``~value``.
    row_ptr : ndarray of int64, shape (V+1,)
        Node v owns the rows ``row_ptr[v]:row_ptr[v+1]`` of W.
    prune_report : PruneReport or None
        On a tree that `prune` returned.

    Examples
    --------
    >>> h = Hierarchy.huffman([8, 4, 2, 2])
    >>> h.n_classes, h.n_nodes, h.n_rows, h.depth
    (4, 3, 3, 3)
    >>> [h.path_ptr[c + 1] - h.path_ptr[c] for c in range(4)] == [1, 2, 3, 3]
    True
    """

    __slots__ = (*_NAMES, "_tree", "prune_report")

    path_ptr: npt.NDArray[np.int64]
    path_node: npt.NDArray[np.int32]
    path_child: npt.NDArray[np.int32]
    child_ptr: npt.NDArray[np.int64]
    child: npt.NDArray[np.int32]
    row_ptr: npt.NDArray[np.int64]
    _tree: Any
    prune_report: PruneReport | None

    def __init__(self) -> None:
        raise TypeError(
            "Hierarchy must be built by one of its class methods, such as Hierarchy.huffman(counts)"
        )

    @classmethod
    def _from_buffers(cls, buffers: Any) -> Hierarchy:
        """The six arrays, already of their dtypes; checked by the compiled tree."""
        self = object.__new__(cls)
        for name, dtype, buffer in zip(_NAMES, _DTYPES, buffers, strict=True):
            array = (
                buffer if isinstance(buffer, np.ndarray) else _from_buffer(buffer, dtype)
            ).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        object.__setattr__(self, "_tree", core.Tree([getattr(self, name) for name in _NAMES]))
        object.__setattr__(self, "prune_report", None)
        return self

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Hierarchy is immutable: {name} cannot be set")

    # ---- facts

    @property
    def n_classes(self) -> int:
        """C, the leaves."""
        return len(self.path_ptr) - 1

    @property
    def n_nodes(self) -> int:
        """V, the inner nodes."""
        return len(self.row_ptr) - 1

    @property
    def n_rows(self) -> int:
        """R, the rows of W."""
        return int(self.row_ptr[-1])

    @property
    def depth(self) -> int:
        """The steps of the longest path."""
        return int(self._tree.depth)

    def __repr__(self) -> str:
        size = f"{self.n_nodes} nodes, {self.n_rows} rows, depth {self.depth}"
        return f"<Hierarchy of {self.n_classes} classes: {size}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hierarchy):
            return NotImplemented
        return self is other or all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("child_ptr", "child", "row_ptr")
        )

    def __hash__(self) -> int:
        return hash((self.n_classes, self.n_nodes, self.n_rows, self.child[:64].tobytes()))

    def __copy__(self) -> Hierarchy:
        return self

    def __deepcopy__(self, memo: object) -> Hierarchy:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Hierarchy.from_arrays, (self.to_arrays(),)

    def to_arrays(self) -> dict[str, Array]:
        """Give the six arrays that define the tree, by name.

        Returns
        -------
        dict of str to ndarray
            The attributes from path_ptr to row_ptr, read-only.

        Examples
        --------
        >>> Hierarchy.huffman([3, 2, 1]).to_arrays()["path_ptr"]
        array([0, 1, 3, 5])
        """
        return {name: getattr(self, name) for name in _NAMES}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], *, copy: bool = True) -> Hierarchy:
        """Take the arrays of `to_arrays`, checking all of them.

        Parameters
        ----------
        arrays : dict of str to ndarray
            int64 and int32 as `Hierarchy` lists them.
        copy : bool, default True
            False keeps the arrays themselves, such as those of a mapped file: nobody may change
            them as long as the tree lives, for they are checked here and trusted afterwards.

        Returns
        -------
        Hierarchy

        Raises
        ------
        ValueError
            If one is missing or has another dtype, or they are not one tree and its paths.

        Examples
        --------
        >>> h = Hierarchy.balanced(5)
        >>> Hierarchy.from_arrays(h.to_arrays()) == h
        True
        """
        if not isinstance(arrays, Mapping):
            raise TypeError(f"arrays must be a dict of arrays, got {describe(arrays)}")
        for name in _NAMES:
            if name not in arrays:
                raise ValueError(
                    f"arrays must hold {name}, got {', '.join(map(str, arrays)) or 'none'}"
                )
        own, buffers = as_flag("copy", copy), []
        for name, dtype in zip(_NAMES, _DTYPES, strict=True):
            buffers.append(as_exact(name, arrays[name], np.dtype(dtype), copy=own))
        return cls._from_buffers(buffers)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tree to a file that `load` can memory-map.

        Parameters
        ----------
        path : str or path-like
            Replaced in one step, if it exists.

        Raises
        ------
        OSError
            If it cannot be written.

        Examples
        --------
        >>> h = Hierarchy.balanced(5)
        >>> h.save("tree.sops")
        >>> Hierarchy.load("tree.sops") == h
        True
        """
        save_arrays(path, self.to_arrays(), {"kind": "Hierarchy"})

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = True) -> Hierarchy:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path-like
        mmap : bool, default True
            Map the arrays instead of reading them: processes share them.

        Returns
        -------
        Hierarchy

        Raises
        ------
        ValueError
            If the file is damaged or holds something else.
        OSError
            If it cannot be read.

        Examples
        --------
        >>> Hierarchy.huffman([3, 2, 1]).save("tree.sops")
        >>> Hierarchy.load("tree.sops", mmap=False).n_classes
        3
        """
        arrays, metadata = load_arrays(path, mmap=mmap)
        if metadata.get("kind") != "Hierarchy":
            raise ValueError(f"path must hold a Hierarchy, got {os.fspath(path)!s}")
        try:
            return cls.from_arrays(arrays, copy=False)
        except ValueError as error:
            raise ValueError(
                f"path must hold a valid Hierarchy, got {os.fspath(path)!s}: {error}"
            ) from error

    # ---- on a tree

    def optimal_codes(self, counts: npt.ArrayLike) -> Hierarchy:
        """Deal the classes anew to the leaves: the shortest expected path that this shape allows.

        Parameters
        ----------
        counts : array_like of shape (C,)
            How often each class occurs; finite, non-negative.

        Returns
        -------
        Hierarchy
            Of the same shape; the most frequent class at the shallowest leaf, ties to the lower
            class.

        Raises
        ------
        ValueError
            If the counts are refused, or are not C.

        Examples
        --------
        >>> h = Hierarchy.huffman([9, 3, 1]).optimal_codes([1, 3, 9])
        >>> np.diff(h.path_ptr).tolist()
        [2, 2, 1]
        """
        return self._from_buffers(core.optimal_codes(self._tree, as_counts(counts)))

    def prune(
        self,
        counts: npt.ArrayLike,
        *,
        min_count: float | None = None,
        max_nodes: int | None = None,
        max_depth: int | None = None,
    ) -> Hierarchy:
        """Turn subtrees below a limit into one flat softmax node each; no class is lost.

        Parameters
        ----------
        counts : array_like of shape (C,)
            How often each class occurs; finite, non-negative.
        min_count : float, optional
            Flatten the subtrees whose classes occur less often in all.
        max_nodes : int, optional
            Keep at most this many inner nodes, the most visited ones.
        max_depth : int, optional
            No path longer than this.

        Returns
        -------
        Hierarchy
            With sizes and expected cost before and after in ``prune_report``.

        Raises
        ------
        ValueError
            Unless exactly one limit is given, in range.

        Examples
        --------
        >>> h = Hierarchy.huffman([8, 4, 2, 1, 1]).prune([8, 4, 2, 1, 1], max_depth=2)
        >>> h.depth, h.n_classes
        (2, 5)
        """
        limits = {"min_count": min_count, "max_nodes": max_nodes, "max_depth": max_depth}
        given = {name: value for name, value in limits.items() if value is not None}
        if len(given) != 1:
            raise ValueError(
                f"prune must get one of min_count, max_nodes and max_depth, got {len(given)}"
            )
        ((name, value),) = given.items()
        limit = as_float(name, value)
        if not np.isfinite(limit):
            raise ValueError(f"{name} must be finite, got {limit}")
        pruned = self._from_buffers(core.prune(self._tree, as_counts(counts), name, limit))
        object.__setattr__(pruned, "prune_report", prune_report(self, pruned, counts))
        return pruned

    def report(
        self, counts: npt.ArrayLike | None = None, *, dim: int | None = None
    ) -> HierarchyReport:
        """Report size and expected cost.

        Parameters
        ----------
        counts : array_like of shape (C,), optional
            Class frequencies. Default: all equal.
        dim : int, optional
            D, for multiply-adds and bytes.

        Returns
        -------
        HierarchyReport
            Printed, it is a table.

        Raises
        ------
        ValueError
            If the counts are refused, or dim < 1.

        Examples
        --------
        >>> Hierarchy.balanced(4).report(dim=16).expected_flops
        32.0
        """
        return report(self, counts, dim)
