"""The builders of `Hierarchy`: its class methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, SupportsIndex

import numpy as np
import numpy.typing as npt

from ._arrays import (
    as_array,
    as_counts,
    as_flag,
    as_integer,
    as_integers,
    describe,
    is_one_of,
)
from ._core import hierarchy as core

if TYPE_CHECKING:
    from ._hierarchy_choose import HierarchyChoice

_NO_COUNTS = np.empty(0)
_NO_IDS = np.empty(0, np.int64)


def _limit(name: str, value: object, least: int | None = None) -> int:
    """An integer that C++ takes as int; those far beyond are all the same."""
    return max(-(1 << 30), min(as_integer(name, value, least), 1 << 30))


class HierarchyBuilders:
    """Class methods that build a tree; all deterministic."""

    __slots__ = ()

    @classmethod
    def _from_buffers(cls, buffers: Any) -> Self:
        raise NotImplementedError

    @classmethod
    def huffman(
        cls,
        counts: npt.ArrayLike,
        *,
        arity: int = 2,
        max_depth: int | None = None,
        logistic: bool = True,
    ) -> Self:
        """Build the optimal prefix code for these counts: the tree of the shortest expected path.

        Parameters
        ----------
        counts : array_like of shape (C,)
            How often each class occurs; finite, non-negative, zeros allowed.
        arity : int, default 2
            Children a node. With more than two, one node may have fewer.
        max_depth : int, optional
            Longest path allowed (package-merge).
        logistic : bool, default True
            One row for nodes with two children.

        Returns
        -------
        Hierarchy
            Of the smallest depth among the optimal trees. Ties: the lower class is the shallower.

        Raises
        ------
        ValueError
            If counts are empty, negative or not finite, arity < 2, or ``arity**max_depth < C``.

        References
        ----------
        Huffman, "A method for the construction of minimum-redundancy codes", 1952. Larmore and
        Hirschberg, "A fast algorithm for optimal length-limited Huffman codes", 1990. Morin and
        Bengio, "Hierarchical probabilistic neural network language model", 2005.

        Examples
        --------
        >>> from cython_sparseops import Hierarchy
        >>> Hierarchy.huffman([5, 1, 1, 1]).depth
        3
        >>> Hierarchy.huffman([5, 1, 1, 1], max_depth=2).depth
        2
        """
        limit = None if max_depth is None else _limit("max_depth", max_depth)
        order = _limit("arity", arity)
        if limit is not None and limit < 0:
            raise ValueError(f"max_depth must be at least 0, got {limit}")
        return cls._from_buffers(
            core.huffman(as_counts(counts), order, limit, as_flag("logistic", logistic))
        )

    @classmethod
    def balanced(cls, n_classes: int, *, arity: int = 2, logistic: bool = True) -> Self:
        """Build a complete tree, classes in order from left to right.

        Parameters
        ----------
        n_classes : int
        arity : int, default 2
        logistic : bool, default True

        Returns
        -------
        Hierarchy

        Raises
        ------
        ValueError
            If n_classes < 1 or arity < 2.

        Examples
        --------
        >>> from cython_sparseops import Hierarchy
        >>> Hierarchy.balanced(8).depth, Hierarchy.balanced(8, arity=8).n_nodes
        (3, 1)
        """
        order = _limit("arity", arity)
        return cls._from_buffers(
            core.balanced(as_integer("n_classes", n_classes), order, as_flag("logistic", logistic))
        )

    @classmethod
    def two_level(
        cls,
        counts_or_n_classes: npt.ArrayLike | int,
        *,
        n_groups: int | None = None,
        by: str = "frequency",
        logistic: bool = True,
    ) -> Self:
        """Build a softmax over groups of classes, each group a softmax over its classes.

        Parameters
        ----------
        counts_or_n_classes : array_like of shape (C,), or int
            Class counts, or just how many classes there are (then groups are of equal size).
        n_groups : int, optional
            Default ``ceil(sqrt(C))``. A group of one class is the class itself.
        by : {"frequency", "size"}
            Groups of about equal count, from the most frequent class down, or of equal size in
            class order.
        logistic : bool, default True

        Returns
        -------
        Hierarchy

        Raises
        ------
        ValueError
            If by is another word, n_groups is not in [1, C], or the counts are refused.

        References
        ----------
        Goodman, "Classes for fast maximum entropy training", 2001.

        Examples
        --------
        >>> from cython_sparseops import Hierarchy
        >>> Hierarchy.two_level(100).n_nodes
        11
        """
        if not is_one_of(by, ("frequency", "size")):
            raise ValueError(f"by must be 'frequency' or 'size', got {describe(by)}")
        counts = _NO_COUNTS
        if isinstance(counts_or_n_classes, SupportsIndex) and np.ndim(counts_or_n_classes) == 0:
            n = as_integer("counts_or_n_classes", counts_or_n_classes, 1)
        else:
            given = as_counts(counts_or_n_classes, "counts_or_n_classes")
            n = len(given)
            if n == 0:
                raise ValueError("counts must not be empty")
            counts = given if by == "frequency" else _NO_COUNTS
        groups = int(np.ceil(np.sqrt(n))) if n_groups is None else as_integer("n_groups", n_groups)
        return cls._from_buffers(core.two_level(n, counts, groups, as_flag("logistic", logistic)))

    @classmethod
    def from_parents(
        cls,
        parents: npt.ArrayLike,
        *,
        classes: npt.ArrayLike | None = None,
        counts: npt.ArrayLike | None = None,
        max_children: int | None = None,
        logistic: bool = True,
    ) -> Self:
        """Build a tree from the parent of every node: a taxonomy of your own.

        Parameters
        ----------
        parents : array_like of int, shape (nodes,)
            ``parents[i]`` is the parent of node i, -1 for the root. Leaves may lie at any depth;
            chains of nodes with a single child are collapsed.
        classes : array_like of int, shape (C,), optional
            The leaves in class order. Default: by node id.
        counts : array_like of shape (C,), optional
            Class counts, for `max_children`. Default: all equal.
        max_children : int, optional
            Split wider nodes into a Huffman subtree of this arity.
        logistic : bool, default True

        Returns
        -------
        Hierarchy

        Raises
        ------
        ValueError
            If the array is not one tree, or classes does not list each leaf once.

        Examples
        --------
        >>> from cython_sparseops import Hierarchy
        >>> h = Hierarchy.from_parents([3, 3, 4, 4, -1])
        >>> h.n_classes, h.n_nodes, h.depth
        (3, 2, 2)
        """
        ids = _NO_IDS if classes is None else as_integers("classes", classes)
        if classes is not None and len(ids) == 0:
            raise ValueError("classes must list all leaves, got none")
        tally = _NO_COUNTS if counts is None else as_counts(counts)
        if counts is not None and len(tally) == 0:
            raise ValueError("counts must not be empty")
        width = 0 if max_children is None else _limit("max_children", max_children, 2)
        return cls._from_buffers(
            core.from_parents(
                as_integers("parents", parents), ids, tally, width, as_flag("logistic", logistic)
            )
        )

    @classmethod
    def from_paths(
        cls,
        path_ptr: npt.ArrayLike,
        path_node: npt.ArrayLike,
        path_child: npt.ArrayLike,
        *,
        logistic: bool | npt.ArrayLike | None = None,
    ) -> Self:
        """Build the tree that has these paths, keeping the node numbers.

        Parameters
        ----------
        path_ptr : array_like of int, shape (C+1,)
        path_node, path_child : array_like of int
            As the attributes of the same names. Node ids are ``0 … V-1``, rows of W follow their
            order.
        logistic : bool or array_like of bool, shape (V,), optional
            Which nodes are logistic. Default: those with two children.

        Returns
        -------
        Hierarchy

        Raises
        ------
        ValueError
            If the paths are not one tree: a child that leads to two places, a gap, a node with one
            child.

        Examples
        --------
        >>> from cython_sparseops import Hierarchy
        >>> h = Hierarchy.huffman([3, 2, 1])
        >>> Hierarchy.from_paths(h.path_ptr, h.path_node, h.path_child) == h
        True
        """
        ptr, node, child = (
            as_integers("path_ptr", path_ptr),
            as_integers("path_node", path_node),
            as_integers("path_child", path_child),
        )
        flags = np.empty(0, np.uint8)
        if logistic is not None:
            given = as_array("logistic", logistic)
            nodes = int(node.max()) + 1 if node.size and 0 <= node.max() < len(ptr) else 0
            if given.ndim == 0:
                # one flag for all: logistic where it can be, or nowhere
                sizes = np.zeros(nodes, np.int64)
                if nodes and node.min() >= 0 and node.size == child.size:
                    np.maximum.at(sizes, node, child + 1)
                given = (sizes == 2) & as_flag("logistic", logistic)
            if given.ndim != 1:
                raise ValueError(f"logistic must have 1 dimension, got {given.ndim}")
            flags = given.astype(bool).astype(np.uint8)
        return cls._from_buffers(core.from_paths(ptr, node, child, flags))

    @classmethod
    def choose(
        cls,
        counts: npt.ArrayLike,
        dim: int,
        *,
        batch_size: int = 256,
        time_budget: float = 2.0,
        rng: int | np.random.Generator | None = 0,
        num_threads: int | None = None,
    ) -> tuple[Self, HierarchyChoice]:
        """Build the tree that trains fastest on this machine: measured, not guessed.

        Huffman trees of arity 2, 4, 8 and 16, a two-level tree, a balanced one and the plain
        softmax (one node over all classes) are timed in turn on random inputs, with labels drawn
        from the counts. The answer is the one whose loss and gradient of a batch take the least
        time; among those within 3 %, the first in this list.

        Parameters
        ----------
        counts : array_like of shape (C,)
            How often each class occurs.
        dim : int
            D.
        batch_size : int, default 256
            Examples a step.
        time_budget : float, default 2.0
            Seconds of timing, about; building the trees comes on top.
        rng : None, int or numpy.random.Generator, default 0
            Draws labels and inputs.
        num_threads : int, optional

        Returns
        -------
        Hierarchy
            The winner. The candidates depend on the counts alone; which of them wins, on the
            machine.
        HierarchyChoice
            Every candidate with milliseconds a batch, microseconds of a top-1 search, expected rows
            an example and bytes; printed, it is a table. ``.winner``, ``.plain_softmax_wins``.

        Raises
        ------
        ValueError
            If the counts are refused, dim or batch_size < 1, or time_budget is not positive.

        Notes
        -----
        A plain softmax that would not fit the time budget is timed on fewer classes and scaled,
        which the report says. Searches are timed on inputs that every tree answers with about the
        same certainty, for an unsure model takes longer.

        Examples
        --------
        >>> from cython_sparseops import Hierarchy
        >>> h, report = Hierarchy.choose([50, 30, 10, 5, 3, 1, 1], dim=8, time_budget=0.05)
        >>> h.n_classes, [one.name for one in report.candidates][:2]
        (7, ['huffman', 'huffman, arity 4'])
        """
        from ._hierarchy_choose import choose

        return choose(
            cls,
            counts,
            dim,
            batch_size=batch_size,
            time_budget=time_budget,
            rng=rng,
            num_threads=num_threads,
        )
