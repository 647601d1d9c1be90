"""The labels of examples: a list for every row, and what classes they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cython_sparseops._arrays import Array, find_sorted
from cython_sparseops._sparse import Compressed


class LabelLists(NamedTuple):
    """The labels of every row, one list after the other.

    Attributes
    ----------
    flat : ndarray of str or int64
    ends : ndarray of int64, shape (N + 1,)
        The labels of row i are ``flat[ends[i]:ends[i + 1]]``.
    """

    flat: Array
    ends: npt.NDArray[np.int64]

    @classmethod
    def of_one(cls, labels: Array) -> LabelLists:
        """One label a row.

        Examples
        --------
        >>> LabelLists.of_one(np.array([5, 3])).is_single
        True
        """
        return cls(labels, np.arange(len(labels) + 1))

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """How many labels each row has."""
        return np.diff(self.ends)

    @property
    def is_single(self) -> bool:
        """Whether every row has one label."""
        return bool((self.lengths == 1).all())

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The row of every label."""
        return np.repeat(np.arange(len(self.ends) - 1), self.lengths)

    def indicator(self, classes: Array) -> Compressed:
        """A matrix of float32 with a 1 for every label of a row, CSR.

        Labels that are no classes get columns of their own behind those of the classes.

        Examples
        --------
        >>> lists = LabelLists(np.array(["b", "x", "a", "b"]), np.array([0, 2, 4]))
        >>> lists.indicator(np.array(["a", "b"])).indices.tolist()
        [1, 2, 0, 1]
        """
        number, is_known = find_sorted(classes, self.flat)
        others, place = np.unique(self.flat[~is_known], return_inverse=True)
        column = number.astype(np.int64)
        column[~is_known] = len(classes) + place
        width = max(1, len(classes) + len(others))
        row, column = np.divmod(np.unique(self.rows * width + column), width)
        n = len(self.ends) - 1
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))])
        return Compressed(indptr, column, np.ones(len(column), np.float32), (n, width), "csr")


def as_scipy(matrix: Any) -> Any:
    """These parts as SciPy's CSR matrix, which the classifiers and slicing want."""
    from scipy.sparse import csr_matrix

    if not isinstance(matrix, Compressed):
        return matrix
    return csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
