"""Class hierarchies: trees whose leaves are the classes, as flat arrays."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, SupportsIndex

import numpy as np
import numpy.typing as npt

from . import _hierarchy_plot, _hierarchy_split
from . import _taxonomy as taxonomies
from ._arrays import (
    FLOAT32,
    INDICES,
    Array,
    as_array,
    as_counts,
    as_exact,
    as_flag,
    as_float,
    as_integer,
    as_integers,
    as_real,
    as_seed,
    cast,
    describe,
    is_one_of,
    require_finite,
    specialized,
)
from ._core import hierarchy as core
from ._hierarchy_reports import HierarchyChoice, HierarchyReport, PruneReport, report_of
from ._runtime import resolve_threads
from ._sparse import SparseMatrix, as_csr, is_sparse
from ._storage import read_arrays, save_arrays
from ._taxonomy import Taxonomy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Hierarchy"]

_NAMES = ("path_ptr", "path_node", "path_child", "child_ptr", "child", "row_ptr")
_DTYPES = (np.int64, np.int32, np.int32, np.int64, np.int32, np.int64)


def _from_buffer(buffer: Any, dtype: Any) -> Array:
    """What C++ built, without a copy: the array keeps the tree that owns it alive."""
    return np.frombuffer(buffer, dtype) if len(memoryview(buffer)) else np.empty(0, dtype)


_CLUSTER = specialized(core.cluster, INDICES)
_NO_COUNTS = np.empty(0)
_NO_IDS = np.empty(0, np.int64)


def _limit(name: str, value: object, least: int | None = None) -> int:
    """An integer that C++ takes as int; those far beyond are all the same."""
    return max(-(1 << 30), min(as_integer(name, value, least), 1 << 30))


class Hierarchy:
    """A class tree. Build it by one of the class methods; it is immutable and its arrays are
    read-only.

    The leaves are the classes ``0 … C-1``. An inner node is *logistic* (two children, one row of W,
    ``P(child 1 | x) = σ(w·x + b)``) or *softmax* (k children, k consecutive rows). Builders number
    the nodes depth first and make nodes with two children logistic unless ``logistic=False``. In a
    tree that `independent` returned every child is its own yes or no.

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
    is_independent : bool
        Whether every child is its own yes or no, with a row of its own.
    prune_report : PruneReport or None
        On a tree that `prune` returned.
    class_names, node_names : tuple of str, or None
        Of a tree that was built with names.

    Examples
    --------
    >>> h = Hierarchy.huffman([8, 4, 2, 2])
    >>> h.n_classes, h.n_nodes, h.n_rows, h.depth
    (4, 3, 3, 3)
    >>> [h.path_ptr[c + 1] - h.path_ptr[c] for c in range(4)] == [1, 2, 3, 3]
    True
    """

    __slots__ = (*_NAMES, "_taxonomy", "_tree", "prune_report")

    path_ptr: npt.NDArray[np.int64]
    path_node: npt.NDArray[np.int32]
    path_child: npt.NDArray[np.int32]
    child_ptr: npt.NDArray[np.int64]
    child: npt.NDArray[np.int32]
    row_ptr: npt.NDArray[np.int64]
    _taxonomy: Taxonomy | None
    _tree: Any
    prune_report: PruneReport | None

    def __init__(self) -> None:
        raise TypeError(
            "Hierarchy must be built by one of its class methods, such as Hierarchy.huffman(counts)"
        )

    @classmethod
    def _from_buffers(cls, buffers: Any, independent: bool = False) -> Self:
        """The six arrays, already of their dtypes; checked by the compiled tree."""
        self = object.__new__(cls)
        for name, dtype, buffer in zip(_NAMES, _DTYPES, buffers, strict=True):
            array = (
                buffer if isinstance(buffer, np.ndarray) else _from_buffer(buffer, dtype)
            ).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        arrays = [getattr(self, name) for name in _NAMES]
        object.__setattr__(self, "_tree", core.Tree(arrays, independent))
        object.__setattr__(self, "prune_report", None)
        object.__setattr__(self, "_taxonomy", None)
        return self

    def _named(self, taxonomy: Taxonomy | None) -> Self:
        object.__setattr__(self, "_taxonomy", taxonomy)
        return self

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Hierarchy is immutable: {name} cannot be set")

    # ---- builders, all deterministic

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
            Children per node. With more than two, one node may have fewer.
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
            Groups of about equal count, from the most frequent class down, to which classes that
            do not occur are dealt evenly; or groups of equal size in class order.
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
    def cluster(
        cls,
        vectors: npt.ArrayLike | SparseMatrix,
        *,
        arity: int = 16,
        leaf: int = 128,
        counts: npt.ArrayLike | None = None,
        balance: str = "auto",
        rng: int | np.random.Generator | None = 0,
        num_threads: int | None = None,
    ) -> Self:
        """Build a tree in which classes with similar vectors share their path.

        Parameters
        ----------
        vectors : CSR matrix of shape (C, F), or array_like of shape (C, D)
            One vector a class, such as `class_centroids`; taken as float32. Only directions count.
            Classes whose vector is zero are dealt evenly.
        arity : int, default 16
            Children a node above the last; a power of two.
        leaf : int, default 128
            About so many classes hang below a last node: between 0.7 and 1.4 of it.
        counts : array_like of shape (C,), optional
            How often each class occurs, for the balance by mass.
        balance : {"auto", "classes", "mass"}
            Halves of equally many classes or of equal counts. Auto: by counts if they are given
            and one class holds more than a twentieth of them.
        rng : int, numpy.random.Generator or None, default 0
            Seed.
        num_threads : int, optional
            Never changes the tree.

        Returns
        -------
        Hierarchy

        Raises
        ------
        ValueError
            If the vectors are malformed or not finite, an option is out of range, or balance is
            "mass" without counts.

        Notes
        -----
        The classes are halved by balanced spherical 2-means until about `leaf` are left, and
        ``log2(arity)`` halvings make one layer of nodes. Time grows as
        ``log(C / leaf)`` times the stored values.

        References
        ----------
        Prabhu et al., "Parabel", 2018. Khandagale, Xiao and Babbar, "Bonsai", 2020. Yu et al.,
        "PECOS", 2022.

        Examples
        --------
        >>> vectors = np.repeat(np.eye(4), 8, axis=0)
        >>> h = Hierarchy.cluster(vectors, arity=4, leaf=8)
        >>> h.n_nodes, h.depth
        (5, 2)
        """
        if not is_one_of(balance, ("auto", "classes", "mass")):
            raise ValueError(
                f"balance must be 'auto', 'classes' or 'mass', got {describe(balance)}"
            )
        if counts is None and balance == "mass":
            raise ValueError("counts must be given for balance='mass', got None")
        tail = (
            _limit("arity", arity),
            as_integer("leaf", leaf),
            _NO_COUNTS if counts is None else as_counts(counts),
            balance,
            as_seed(rng),
            resolve_threads(num_threads),
        )
        if is_sparse(vectors):
            z = as_csr("vectors", vectors, FLOAT32)
            run = _CLUSTER[z.indptr.dtype]
            return cls._from_buffers(run(z.indptr, z.indices, z.data, z.shape[1], *tail))
        dense = as_real("vectors", vectors, 2)
        require_finite("vectors", dense)
        return cls._from_buffers(core.cluster_dense(cast(dense, FLOAT32), *tail))

    @classmethod
    def adaptive(cls, counts: npt.ArrayLike, *, cutoffs: Iterable[int] | None = None) -> Self:
        """Build the tree of an adaptive softmax: frequent classes at the root, the rest in tails.

        Parameters
        ----------
        counts : array_like of shape (C,)
            How often each class occurs; finite, non-negative.
        cutoffs : iterable of int, optional
            Rising, in [1, C - 1]: the first ``cutoffs[0]`` classes by falling count are children of
            the root, and so is one node for the classes up to each further cutoff, and up to C.
            Default: cutoffs where classes that cover 0.8, and 0.95, of the counts end.

        Returns
        -------
        Hierarchy
            Of softmax nodes: the rows of W that ``torch.nn.AdaptiveLogSoftmaxWithLoss`` has with
            ``div_value=1``. A tail of one class is the class itself.

        Raises
        ------
        ValueError
            If the counts are refused, or the cutoffs do not rise within [1, C - 1].

        References
        ----------
        Grave et al., "Efficient softmax approximation for GPUs", 2017.

        Examples
        --------
        >>> h = Hierarchy.adaptive([8, 4, 2, 1, 1, 1], cutoffs=[2, 4])
        >>> h.n_nodes, np.diff(h.path_ptr).tolist()
        (3, [1, 1, 2, 2, 2, 2])
        """
        given = as_counts(counts)
        require_finite("counts", given, non_negative=True)
        if len(given) == 0:
            raise ValueError("counts must not be empty")
        order = np.argsort(-given, kind="stable")
        n = len(order)
        if cutoffs is None:
            covered = np.cumsum(given[order])
            at = np.searchsorted(covered, np.multiply((0.8, 0.95), covered[-1])) + 1
            ends = sorted({int(c) for c in at if 1 <= c < n})
        else:
            ends = [as_integer("cutoffs", c) for c in cutoffs]
            if any(not 1 <= c < n for c in ends) or sorted(set(ends)) != ends:
                raise ValueError(f"cutoffs must rise within [1, {n - 1}], got {describe(ends)}")
        starts = [0, *ends]
        parents = np.zeros(n + len(ends) + 1, np.int64)  # classes, tails, the root
        parents[:n] = parents[n:-1] = len(parents) - 1
        parents[-1] = -1
        for tail, (start, end) in enumerate(itertools.pairwise([*starts, n][1:])):
            parents[order[start:end]] = n + tail
        return cls.from_parents(parents, classes=np.arange(n), logistic=False)

    @classmethod
    def from_parents(
        cls,
        parents: npt.ArrayLike,
        *,
        names: Iterable[str] | None = None,
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
        names : sequence of str, shape (nodes,), optional
            The name of every node; all differ. A classifier matches labels with them.
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
        try:
            above, single = as_integers("parents", parents), as_flag("logistic", logistic)
        except TypeError:
            if not taxonomies.holds_names(parents):
                raise
            raise TypeError(
                "parents must be numbers of nodes, got names "
                "(Hierarchy.from_table takes a column of names and one of their parents)"
            ) from None
        tree = cls._from_buffers(core.from_parents(above, ids, tally, width, single))
        if names is None:
            return tree
        given = taxonomies.as_node_names(names, len(above))
        if classes is None:
            inner = np.zeros(len(above), bool)
            inner[above[above >= 0]] = True
            ids = np.flatnonzero(~inner)
        return tree._named(Taxonomy(above.copy(), given, ids.copy(), width, single))

    @classmethod
    def from_table(
        cls,
        child: Iterable[str],
        parent: Iterable[str | None],
        *,
        counts: npt.ArrayLike | Mapping[str, float] | None = None,
        max_children: int | None = None,
        logistic: bool = True,
    ) -> Self:
        """Build a tree from two columns of names, such as those of a CSV file or a pandas frame.

        Parameters
        ----------
        child, parent : sequence of str
            A row says that its child lies below its parent; rows may stand in any order and be
            repeated. None, NaN, "" or the child itself for the parent of a root; several such rows
            are joined by a root without a name.
        counts : dict of str to number, or array_like of shape (C,), optional
            How often each class occurs, by name or in class order, for `max_children`.
        max_children : int, optional
            Split wider nodes into a Huffman subtree of this arity.
        logistic : bool, default True

        Returns
        -------
        Hierarchy
            Its classes are the names that are nobody's parent, sorted.

        Raises
        ------
        TypeError
            If a name is no str.
        ValueError
            If a child has two parents, or the rows are not one tree.

        Examples
        --------
        >>> h = Hierarchy.from_table(["cat", "dog", "oak", "animal"], ["animal", "animal", "", ""])
        >>> h.class_names, h.node_names
        (('cat', 'dog', 'oak'), ('', 'animal'))
        """
        parents, names = taxonomies.read_table(child, parent)
        leaves = taxonomies.leaves_by_name(parents, names)
        if isinstance(counts, Mapping):
            counts = [counts.get(names[leaf], 0.0) for leaf in leaves.tolist()]
        shape: dict[str, Any] = dict(counts=counts, max_children=max_children, logistic=logistic)
        return cls.from_parents(parents, names=names, classes=leaves, **shape)

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
    ) -> tuple[Hierarchy, HierarchyChoice]:
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
            Examples per step.
        time_budget : float, default 2.0
            Seconds of timing, about; building the trees comes on top.
        rng : None, int or numpy.random.Generator, default 0
            Draws labels and inputs. Fixed by default: two calls differ by the clock alone.
        num_threads : int, optional

        Returns
        -------
        Hierarchy
            The winner. The candidates depend on the counts alone; which of them wins, on the
            machine.
        HierarchyChoice
            Every candidate with milliseconds per batch, microseconds of a top-1 search, expected
            rows per example and bytes; printed, it is a table. See ``.winner`` and
            ``.plain_softmax_wins``.

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
        >>> h, report = Hierarchy.choose([50, 30, 10, 5, 3, 1, 1], dim=8, time_budget=0.05)
        >>> h.n_classes, [one.name for one in report.candidates][:2]
        (7, ['huffman', 'huffman, arity 4'])
        """
        from ._hierarchy_choose import choose  # which times operators, and they take a Hierarchy

        return choose(
            counts,
            dim,
            batch_size=batch_size,
            time_budget=time_budget,
            rng=rng,
            num_threads=num_threads,
        )

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

    @property
    def is_independent(self) -> bool:
        """Whether every child is its own yes or no, with a row of its own."""
        return bool(self._tree.independent)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The name of each class, of a tree with names."""
        return None if self._taxonomy is None else taxonomies.class_names(self._taxonomy)

    @property
    def node_names(self) -> tuple[str, ...] | None:
        """The name of each inner node, of a tree with names: what `max_children` splits has the
        name of the whole."""
        if self._taxonomy is None:
            return None
        return taxonomies.node_names(self._taxonomy, self.path_ptr, self.path_node, self.n_nodes)

    def __repr__(self) -> str:
        kind = "independent " if self.is_independent else ""
        size = f"{self.n_nodes} {kind}nodes, {self.n_rows} rows, depth {self.depth}"
        return f"<Hierarchy of {self.n_classes} classes: {size}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hierarchy):
            return NotImplemented
        return self is other or (
            self.is_independent == other.is_independent
            and all(
                np.array_equal(getattr(self, name), getattr(other, name))
                for name in ("child_ptr", "child", "row_ptr")
            )
        )

    def __hash__(self) -> int:
        return hash((self.n_classes, self.n_nodes, self.n_rows, self.child[:64].tobytes()))

    def __copy__(self) -> Hierarchy:
        return self

    def __deepcopy__(self, memo: object) -> Hierarchy:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Hierarchy.from_arrays, (self.to_arrays(),)

    def __getstate__(self) -> dict[str, Array]:
        return self.to_arrays()

    def __setstate__(self, arrays: dict[str, Array]) -> None:
        """What skops calls in place of `__reduce__`: it runs no function that a file names."""
        tree = Hierarchy.from_arrays(arrays)
        for name in self.__slots__:
            object.__setattr__(self, name, getattr(tree, name))

    def to_arrays(self) -> dict[str, Array]:
        """Return the six arrays that define the tree, by name, and those of its names.

        Returns
        -------
        dict of str to ndarray
            The attributes from path_ptr to row_ptr, read-only; of a tree of independent nodes also
            `independent`, the uint8 number 1, and of one with names arrays that begin with
            ``names.``.

        Examples
        --------
        >>> Hierarchy.huffman([3, 2, 1]).to_arrays()["path_ptr"]
        array([0, 1, 3, 5])
        """
        arrays = {name: getattr(self, name) for name in _NAMES}
        if self.is_independent:
            arrays["independent"] = np.ones(1, np.uint8)
        return arrays if self._taxonomy is None else arrays | taxonomies.to_arrays(self._taxonomy)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], *, copy: bool = True) -> Hierarchy:
        """Build a tree of what `to_arrays` returned, checking all of them.

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
        independent = "independent" in arrays
        if independent:
            flag = as_exact("independent", arrays["independent"], np.dtype(np.uint8), copy=True)
            if flag.tolist() != [1]:
                raise ValueError(f"independent must hold the number 1 alone, got {flag.tolist()}")
        tree = cls._from_buffers(buffers, independent)
        taxonomy = taxonomies.from_arrays(arrays, tree.n_classes)
        if taxonomy is not None:  # one tree, whose leaves are the classes
            core.from_parents(taxonomy.parents, taxonomy.leaf, _NO_COUNTS, 0, True)
        return tree._named(taxonomy)

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
        # A tree has only one set of paths: from_arrays compares them with it, in half the time.
        arrays, metadata = read_arrays(path, mmap=mmap, unread=("path_node", "path_child"))
        if metadata.get("kind") != "Hierarchy":
            raise ValueError(f"path must hold a Hierarchy, got {os.fspath(path)!s}")
        try:
            return cls.from_arrays(arrays, copy=False)
        except ValueError as error:
            raise ValueError(
                f"path must hold a valid Hierarchy, got {os.fspath(path)!s}: {error}"
            ) from error

    # ---- on a tree

    def independent(self) -> Self:
        """Build the same tree with independent nodes: every child its own yes or no.

        Returns
        -------
        Hierarchy
            With one row of W a child: ``P(child | x) = σ(w·x + b)``. What `optimal_codes` and
            `prune` make of it is such a tree too.

        Notes
        -----
        A probabilistic label tree, for rows of several labels: the probability of a class is the
        product over its path, and they do not sum to 1. `hsoftmax`, the distributions and
        `hsoftmax_search` take such trees, `linear_train` trains their rows; samples, gradients and
        updates refuse them.

        References
        ----------
        Jasinska et al., "Extreme F-measure maximization using sparse probability estimates", 2016.

        Examples
        --------
        >>> h = Hierarchy.balanced(4).independent()
        >>> h.n_rows, h.is_independent
        (6, True)
        """
        arrays = [getattr(self, name) for name in _NAMES]
        arrays[_NAMES.index("row_ptr")] = self.child_ptr
        return self._from_buffers(arrays, True)._named(self._taxonomy)

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
        buffers = core.optimal_codes(self._tree, as_counts(counts))
        tree = self._from_buffers(buffers, self.is_independent)
        named = self._taxonomy
        return tree._named(None if named is None else taxonomies.only_classes(named))

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
        buffers = core.prune(self._tree, as_counts(counts), name, limit)
        pruned = self._from_buffers(buffers, self.is_independent)
        pruned._named(self._taxonomy)
        before, after = self.report(counts), pruned.report(counts)
        told = PruneReport(
            before.n_nodes,
            after.n_nodes,
            before.expected_path_length,
            after.expected_path_length,
            before.expected_rows,
            after.expected_rows,
        )
        object.__setattr__(pruned, "prune_report", told)
        return pruned

    def split(
        self, n_parts: int, *, counts: npt.ArrayLike | None = None
    ) -> _hierarchy_split.SplitPlan:
        """Cut the tree into connected pieces that train apart, balanced by expected work.

        Parameters
        ----------
        n_parts : int
            No piece of several nodes has more than ``1 / n_parts`` of the work. Four times as many
            as workers keep these busy.
        counts : array_like of shape (C,), optional
            How often each class occurs; finite, non-negative. Default: all equal.

        Returns
        -------
        SplitPlan
            The pieces, the heaviest first; which examples pass each; and `merge`, the way back.

        Raises
        ------
        ValueError
            If n_parts < 1, or the counts are refused or are not C.

        Notes
        -----
        The work of a node is the mass of the classes below it times its rows. Rows of a node depend
        on no other node, given the examples that pass it: pieces can be trained in any order, by
        any process, and merged. The root sees all examples, so no cut is faster than
        ``total work / work of the root``.

        Examples
        --------
        >>> plan = Hierarchy.huffman([5, 4, 3, 2, 1]).split(2)
        >>> [piece.hierarchy.n_classes for piece in plan.pieces]
        [2, 3, 2]
        """
        return _hierarchy_split.split(self, n_parts, counts)

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
        return report_of(self, counts, dim)

    # ---- pictures

    def plot(
        self, ax: Axes | None = None, *, max_nodes: int = 200, names: Sequence[str] | None = None
    ) -> Axes:
        """Draw the tree, or the part with the most classes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Default: the current one.
        max_nodes : int, default 200
            Nodes and classes shown; the largest subtrees first. Up to 60 are named.
        names : sequence of str, optional
            One per class. Default: their numbers.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ValueError
            If max_nodes < 1, or names are not C.
        ImportError
            Without matplotlib.

        Examples
        --------
        >>> from matplotlib.figure import Figure
        >>> ax = Hierarchy.huffman([5, 3, 1]).plot(Figure().subplots(), names=["ant", "bee", "cow"])
        >>> sorted(text.get_text() for text in ax.texts)[-3:]
        ['ant', 'bee', 'cow']
        """
        return _hierarchy_plot.draw(self, max_nodes, names, ax)

    def to_graphviz(self, *, max_nodes: int = 200, names: Sequence[str] | None = None) -> str:
        """Describe the tree, or the part with the most classes, in Graphviz's language.

        Parameters
        ----------
        max_nodes : int, default 200
        names : sequence of str, optional
            As in `plot`.

        Returns
        -------
        str
            A ``digraph``, for the command ``dot`` or the package ``graphviz``.

        Raises
        ------
        ValueError
            As in `plot`.

        Examples
        --------
        >>> print(Hierarchy.balanced(2).to_graphviz(names=["no", "yes"]))
        digraph hierarchy {
          rankdir=LR;
          node [shape=box, fontsize=10];
          node0 [label="2 classes"];
          node0 -> class0;
          node0 -> class1;
          class0 [label="no", shape=plaintext];
          class1 [label="yes", shape=plaintext];
        }
        <BLANKLINE>
        """
        return _hierarchy_plot.graphviz(self, max_nodes, names)


def as_tree(h: object) -> Any:
    """The compiled tree of a Hierarchy."""
    if isinstance(h, Hierarchy) and (tree := getattr(h, "_tree", None)) is not None:
        return tree
    raise TypeError(f"h must be a Hierarchy, got {describe(h)}")
