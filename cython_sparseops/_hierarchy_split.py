"""Pieces of a class tree that train apart: the cut, what a piece sees, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import Array, as_array, as_counts, as_integer, as_integers, describe
from ._core import hierarchy as core

__all__ = ["Piece", "SplitPlan"]


class Piece(NamedTuple):
    """A connected part of a tree, as a tree of its own.

    Attributes
    ----------
    hierarchy : Hierarchy
        Nodes, and the children of each, in the order of the whole tree. Its classes are the exits
        of the piece: classes of the whole tree, or nodes at which other pieces begin.
    nodes : ndarray of int64, shape (V_piece,)
        Their numbers in the whole tree, rising.
    rows : ndarray of int64, shape (R_piece,)
        The rows of W that the piece owns, rising.
    exits : ndarray of int64, shape (C_piece,)
        What each class of the piece is in the whole tree: >= 0 a class, < 0 the node ``~exit``.
    work : float
        Its share of the work of the whole tree, in [0, 1].

    Examples
    --------
    >>> piece = Hierarchy.balanced(8).split(2).pieces[1]
    >>> piece.nodes.tolist(), piece.exits.tolist()
    ([1, 2, 3], [0, 1, 2, 3])
    """

    hierarchy: Any
    nodes: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    exits: npt.NDArray[np.int64]
    work: float


class SplitPlan:
    """How a tree is cut into pieces, the heaviest first; `Hierarchy.split` makes it.

    Attributes
    ----------
    pieces : tuple of Piece

    Examples
    --------
    Train the pieces of a tree apart, here one after the other:

    >>> rng = np.random.default_rng(0)
    >>> X, labels = rng.standard_normal((64, 8), np.float32), rng.integers(40, size=64)
    >>> h = Hierarchy.balanced(40, arity=16)
    >>> W = np.zeros((h.n_rows, 8), np.float32)
    >>> plan = h.split(2)
    >>> parts = []
    >>> for i, piece in enumerate(plan.pieces):
    ...     own, exits = plan.examples(i, labels)
    ...     part = W[piece.rows]
    ...     _ = hsoftmax_update(X[own], part, None, exits, piece.hierarchy, SGD(0.1))
    ...     parts.append(part)
    >>> whole = plan.merge(parts)
    >>> _ = hsoftmax_update(X, W, None, labels, h, SGD(0.1))
    >>> bool((whole == W).all())
    True
    """

    pieces: tuple[Piece, ...]
    _places: list[Array]  # of each piece: the first place below each exit, and the end
    _class_place: Array
    _n_rows: int

    def __init__(self) -> None:
        raise TypeError("a SplitPlan is made by Hierarchy.split")

    def __repr__(self) -> str:
        shares = [piece.work for piece in self.pieces]
        return f"<SplitPlan: {len(shares)} pieces, the largest {max(shares, default=0):.0%}>"

    def examples(
        self, piece: int, labels: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the examples that pass a piece, and where each of them leaves it.

        Parameters
        ----------
        piece : int
            Its place in ``pieces``.
        labels : array_like of int, shape (N,)
            Classes of the whole tree.

        Returns
        -------
        own : ndarray of int64, shape (n,)
            Places in `labels`, in the order in which the whole tree sums their gradients.
        exits : ndarray of int64, shape (n,)
            Classes of the piece.

        Raises
        ------
        ValueError
            If a label is no class of the tree, or there is no such piece.

        Examples
        --------
        >>> plan = Hierarchy.balanced(4).split(2)
        >>> plan.examples(0, [3, 0, 2])[0].tolist()
        [1, 2, 0]
        """
        if not 0 <= piece < len(self.pieces):
            raise ValueError(f"piece must be in [0, {len(self.pieces)}), got {piece}")
        numbers = as_integers("labels", labels)
        total = len(self._class_place)
        wrong = np.flatnonzero((numbers < 0) | (numbers >= total))
        if wrong.size:
            raise ValueError(
                f"labels must be in [0, {total}), got {numbers[wrong[0]]} at index {wrong[0]}"
            )
        place, bounds = self._class_place[numbers], self._places[piece]
        own = np.flatnonzero((place >= bounds[0]) & (place < bounds[-1]))
        own = own[np.argsort(place[own], kind="stable")]
        return own, np.searchsorted(bounds, place[own], side="right") - 1

    def merge(self, parts: Sequence[npt.ArrayLike]) -> Array:
        """Put the rows of all pieces back in the order of the whole tree.

        Parameters
        ----------
        parts : sequence of array_like
            For each piece its rows of W, shape (R_piece, D), or of b, shape (R_piece,).

        Returns
        -------
        ndarray of shape (R, D) or (R,)

        Raises
        ------
        ValueError
            If a part is missing, or has another shape or dtype than its piece asks for.

        Examples
        --------
        >>> plan = Hierarchy.balanced(4).split(2)
        >>> b = np.arange(3.0)
        >>> plan.merge([b[piece.rows] for piece in plan.pieces]).tolist()
        [0.0, 1.0, 2.0]
        """
        if len(parts) != len(self.pieces):
            raise ValueError(f"parts must be {len(self.pieces)}, one a piece, got {len(parts)}")
        given = [as_array(f"parts[{i}]", part) for i, part in enumerate(parts)]
        if not given:
            return np.empty(0)
        for i, (part, piece) in enumerate(zip(given, self.pieces, strict=True)):
            wanted = (len(piece.rows), *given[0].shape[1:])
            if part.shape != wanted or part.dtype != given[0].dtype:
                raise ValueError(
                    f"parts[{i}] must be {given[0].dtype} of shape {wanted}, got {describe(part)}"
                )
        merged = np.empty((self._n_rows, *given[0].shape[1:]), given[0].dtype)
        for part, piece in zip(given, self.pieces, strict=True):
            merged[piece.rows] = part
        return merged


def split(h: Any, n_parts: int, counts: npt.ArrayLike | None) -> SplitPlan:
    """The plan of `Hierarchy.split`."""
    given = np.empty(0) if counts is None else as_counts(counts)
    parts = min(as_integer("n_parts", n_parts, 1), 1 << 62)
    made, class_place = core.split(h._tree, given, parts)
    total = sum(work for *_, work in made)
    pieces = []
    for buffers, nodes, rows, exits, _, work in made:
        tree = type(h)._from_buffers(buffers, h.is_independent)
        pieces.append(Piece(tree, nodes, rows, exits, work / total if total > 0 else 0.0))
    plan = SplitPlan.__new__(SplitPlan)
    plan.pieces = tuple(pieces)
    plan._places = [part[4] for part in made]
    plan._class_place, plan._n_rows = class_place, h.n_rows
    return plan
