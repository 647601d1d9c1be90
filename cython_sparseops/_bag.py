"""Embedding bag: sums and means of the embeddings of a row's features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ._arrays import (
    FLOAT32,
    HALVES,
    INDICES,
    REALS,
    STORAGE,
    Array,
    Weights,
    as_real,
    describe,
    is_one_of,
    is_weights,
    specialized,
)
from ._core import bag as core
from ._runtime import resolve_threads
from ._sparse import SparseMatrix, as_csr

__all__ = ["embedding_bag"]

Rows = Array | Weights
_EMBED = specialized(core.embedding_bag, INDICES, REALS)
_EMBED_HALVES = specialized(core.embed_halves, INDICES)


def as_mode(mode: str) -> bool:
    if not is_one_of(mode, ("mean", "sum")):
        raise ValueError(f"mode must be 'mean' or 'sum', got {describe(mode)}")
    return mode == "mean"


def embedding_bag(
    X: SparseMatrix,
    E: npt.ArrayLike | Weights,
    *,
    mode: str = "mean",
    num_threads: int | None = None,
) -> Array:
    """Sum or average the embeddings of each row's features.

    Parameters
    ----------
    X : CSR matrix of shape (N, F)
        Feature weights; int32 or int64 indices.
    E : array_like of shape (F, H), float32 or float64, or QuantizedWeights
        Embeddings; quantized ones of bfloat16 or float16, whose sums are float32.
    mode : {"mean", "sum"}
        ``Σ_j x_ij E_j``, for the mean divided by ``Σ_j |x_ij|``.
    num_threads : int, optional
        Never changes a bit of the result.

    Returns
    -------
    ndarray of shape (N, H)
        Zeros for an empty row.

    Raises
    ------
    ValueError, TypeError
        If X is not CSR, its indices are out of range, it is not finite, or shapes do not match.

    References
    ----------
    Joulin et al., "Bag of tricks for efficient text classification", 2017.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> embedding_bag(csr_array([[0.0, 1.0, 3.0]]), np.array([[9.0], [4.0], [8.0]]))
    array([[7.]])
    """
    weights: Rows
    if is_weights(E):
        if E.dtype not in HALVES:
            raise TypeError(f"E must be {', '.join(STORAGE)}, got {E.dtype} weights")
        csr, weights = as_csr("X", X, FLOAT32), E
    else:
        weights = as_real("E", E, 2)
        csr = as_csr("X", X, weights.dtype)
    if csr.shape[1] != weights.shape[0]:
        raise ValueError(f"X must have {weights.shape[0]} columns, got {csr.shape[1]}")
    return embed(*csr[:3], weights, as_mode(mode), num_threads)


def embed(
    indptr: Array,
    indices: Array,
    data: Array,
    E: Rows,
    mean: bool,
    num_threads: int | None,
) -> Array:
    """`embedding_bag` of arrays that are ready: indices of one width, data of the dtype of sums."""
    threads, shape = resolve_threads(num_threads), (len(indptr) - 1, E.shape[1])
    if is_weights(E):
        out = np.empty(shape, FLOAT32)
        _EMBED_HALVES[indptr.dtype](indptr, indices, data, E._compiled, mean, out, threads)
    else:
        out = np.empty(shape, E.dtype)
        _EMBED[indptr.dtype, E.dtype](indptr, indices, data, E, mean, out, threads)
    return out
