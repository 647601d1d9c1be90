"""Centroids of the classes: what trees are clustered from."""

from __future__ import annotations

from typing import Any, TypedDict, Unpack, overload

import numpy as np
import numpy.typing as npt

from ._arrays import (
    INDICES,
    REALS,
    Array,
    as_flag,
    as_integer,
    as_real,
    require_finite,
    specialized,
)
from ._core import cluster as core
from ._runtime import resolve_threads
from ._sparse import AnySparse, SparseMatrix, as_class_lists, as_csr, is_sparse, like_csr

__all__ = ["class_centroids"]

_SPARSE = specialized(core.centroids, INDICES, REALS)
_DENSE = specialized(core.dense_centroids, REALS)


class _Options(TypedDict, total=False):
    normalize: bool
    num_threads: int | None


@overload
def class_centroids(
    X: AnySparse, labels: npt.ArrayLike | SparseMatrix, n_classes: int, **options: Unpack[_Options]
) -> AnySparse: ...


@overload
def class_centroids(
    X: npt.ArrayLike,
    labels: npt.ArrayLike | SparseMatrix,
    n_classes: int,
    **options: Unpack[_Options],
) -> Array: ...


def class_centroids(
    X: npt.ArrayLike | SparseMatrix,
    labels: npt.ArrayLike | SparseMatrix,
    n_classes: int,
    *,
    normalize: bool = True,
    num_threads: int | None = None,
) -> Any:
    """Sum the rows of each class, and scale the sums to unit norm.

    Parameters
    ----------
    X : CSR matrix of shape (N, F), or array_like of shape (N, D)
        float32 or float64; integers become float64. Finite.
    labels : array_like of int, shape (N,), or CSR matrix of shape (N, C)
        The class of each row, or an indicator matrix of 0 and 1: a row with several classes counts
        for each of them.
    n_classes : int
        C.
    normalize : bool, default True
        False returns the sums.
    num_threads : int, optional
        Never changes a bit of the result.

    Returns
    -------
    CSR matrix of the type of X, shape (C, F), or ndarray of shape (C, D)
        In the dtype of X. A class without rows is a row of zeros.

    Raises
    ------
    ValueError
        If X is malformed or not finite, a label is out of range, or a sum leaves the dtype's range.
    TypeError
        If X has no real dtype or is sparse in another format.

    Notes
    -----
    Sums are taken in float64, in the order of the rows.

    Examples
    --------
    >>> class_centroids([[3.0, 0.0], [0.0, 4.0], [1.0, 1.0]], [0, 0, 2], 3)
    array([[0.6       , 0.8       ],
           [0.        , 0.        ],
           [0.70710678, 0.70710678]])
    """
    classes = as_integer("n_classes", n_classes, 1)
    unit, threads = as_flag("normalize", normalize), resolve_threads(num_threads)
    if is_sparse(X):
        x = as_csr("X", X, None)
        ptr, label = as_class_lists(labels, x.shape[0], classes)
        run = _SPARSE[x.indptr.dtype, x.data.dtype]
        indptr, indices, data = run(
            x.indptr, x.indices, x.data, x.shape[1], ptr, label, classes, unit, threads
        )
        return like_csr(X, indptr, indices, data, (classes, x.shape[1]))
    dense = as_real("X", X, 2)
    require_finite("X", dense)
    ptr, label = as_class_lists(labels, dense.shape[0], classes)
    out = np.empty((classes, dense.shape[1]), dense.dtype)
    _DENSE[dense.dtype](dense, ptr, label, unit, out, threads)
    return out
