"""Rows or columns of sparse and dense matrices, and indexed rows of tables, scaled to a norm."""

from __future__ import annotations

from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar, Unpack, overload

import numpy as np
import numpy.typing as npt

from ._arrays import (
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INDICES,
    REALS,
    Array,
    as_array,
    as_flag,
    as_float,
    as_floats,
    as_integers,
    as_real,
    as_writable,
    cast,
    describe,
    is_bfloat16,
    is_half,
    is_one_of,
    reserve,
    specialized,
)
from ._core import normalize as core
from ._runtime import resolve_threads
from ._sparse import AnySparse, Compressed, SparseMatrix, as_compressed, is_sparse, with_parts
from ._sparse_weights import SparseWeights

__all__ = [
    "Normalized",
    "sparse_normalize",
    "sparse_normalize_gradient",
    "sparse_normalize_rows",
]

_CSR = specialized(core.csr, INDICES, REALS)
_DENSE = specialized(core.dense, REALS)
_ROWS = specialized(core.indexed_rows, REALS)
_CSR_GRADIENT = specialized(core.csr_gradient, INDICES, REALS)
_DENSE_GRADIENT = specialized(core.dense_gradient, REALS)
_LARGEST_BFLOAT16 = (2 - 2.0**-7) * 2.0**127
_ORD = {"l1": 0, "l2": 1, "max": 2}


Matrix = TypeVar("Matrix")


class Normalized(NamedTuple, Generic[Matrix]):
    """What `sparse_normalize` returns with return_norms.

    Attributes
    ----------
    W : matrix like the one given
    norms : ndarray of float64, shape (D,) of columns or (R,) of rows
        The norms before.

    Examples
    --------
    >>> sparse_normalize(np.array([[3.0, 4.0]]), axis=1, return_norms=True).norms
    array([5.])
    """

    W: Matrix
    norms: npt.NDArray[np.float64]


def _as_axis(axis: Any) -> int:
    if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool) or axis not in (0, 1):
        raise ValueError(f"axis must be 0 or 1, got {describe(axis)}")
    return int(axis)


def _working(data: Array, in_place: bool) -> tuple[Array, Array]:
    """Input and output of the arithmetic: floats of 16 bits are computed in float32."""
    x = cast(data, FLOAT32) if is_half(data.dtype) else data
    return x, x if in_place or x is not data else np.empty_like(x)


def _dense_view(array: Array, axis: int) -> tuple[Array, bool]:
    """The matrix as rows in memory, and whether its columns are meant."""
    if array.ndim != 2:
        raise ValueError(f"W must have 2 dimensions, got {array.ndim}")
    return (array, axis == 0) if array.flags.c_contiguous else (array.T, axis == 1)


def _normalize_dense(W: Any, axis: int, copy: bool, settings: tuple[Any, ...]) -> tuple[Any, Array]:
    given = (
        as_floats("W", as_array("W", W, bfloat16=True))
        if copy
        else as_writable("W", W, any_float=True, any_order=True)
    )
    view, columns = _dense_view(given, axis)
    x, out = _working(view, not copy)
    norms = np.empty(given.shape[1 - axis])
    _DENSE[x.dtype](x, columns, out, norms, *settings)
    if is_half(given.dtype):
        out = cast(out, given.dtype)  # a norm beyond float16 gives infinity, as in float32
        if not copy:
            view[...] = out
    if not copy:
        return W, norms
    return (out if view is given else out.T), norms


def _rounded(limit: float, dtype: Any) -> float:
    """The number compared with entries in the dtype of W, as NumPy does, never an infinity."""
    if not isinstance(dtype, np.dtype) or not np.isfinite(limit):
        return limit
    bfloat = is_bfloat16(dtype)
    if dtype not in (FLOAT16, FLOAT32) and not bfloat:
        return limit
    largest = _LARGEST_BFLOAT16 if bfloat else float(np.finfo(dtype).max)
    return float(dtype.type(min(limit, largest)))


def _across(parts: Compressed, axis: int) -> tuple[bool, int]:
    """Whether what is scaled lies across the stored segments, and how wide they are."""
    return (axis == 0) == (parts.format == "csr"), parts.shape[parts.format == "csr"]


def _narrowed(parts: Compressed, across: bool, width: int) -> tuple[Array, int]:
    """Indices and width as the core takes them: of hashed columns, only those that are there.

    It keeps numbers for every column, and there may be 2**62.
    """
    end = int(parts.indptr[-1])
    if not across or width <= 4 * len(parts.indices) + (1 << 16) or end < 0:
        return parts.indices, width
    there, place = np.unique(parts.indices[:end], return_inverse=True)
    if len(there) and not 0 <= there[0] <= there[-1] < width:
        raise ValueError(f"W.indices must be in [0, {width}), got one outside")
    indices = np.zeros_like(parts.indices)
    indices[:end] = place
    return indices, max(1, len(there))


def _pruned(parts: Compressed, out: Array, threshold: float) -> dict[str, Array]:
    """The arrays without the entries that counted as zero."""
    keep = ~(np.abs(parts.data) <= parts.data.dtype.type(threshold))  # NaN stays
    before = np.concatenate([[0], np.cumsum(keep)])
    indptr = before[parts.indptr].astype(parts.indptr.dtype)
    keep[parts.indptr[-1] :] = False
    return {"data": out[keep], "indices": parts.indices[keep], "indptr": indptr}


def _normalize_sparse(
    W: Any, axis: int, copy: bool, prune: bool, settings: tuple[Any, ...], with_norms: bool
) -> tuple[Any, Array]:
    parts = as_compressed("W", W, in_place=not copy)
    given = as_floats("W.data", parts.data) if copy else parts.data
    across, width = _across(parts, axis)
    x, out = _working(given, not copy)
    indices = parts.indices
    if not with_norms:
        indices, width = _narrowed(parts, across, width)
    norms = reserve("W.shape", (width if across else parts.shape[1 - axis],), FLOAT64)
    end = int(parts.indptr[-1])
    if out is not x and end < len(x):
        out[max(end, 0) :] = x[max(end, 0) :]
    impl = _CSR[parts.indptr.dtype, x.dtype]
    impl(parts.indptr, indices, x, width, across, out, norms, *settings)
    if is_half(given.dtype):
        out = cast(out, given.dtype)  # a norm beyond float16 gives infinity, as in float32
        if not copy:
            given[...] = out
    if not copy:
        return W, norms
    if prune:
        return with_parts(W, **_pruned(parts, out, settings[3])), norms
    fresh = {"indptr": parts.indptr.copy(), "indices": parts.indices.copy()}
    return with_parts(W, data=out, **fresh), norms


def _normalize_weights(
    W: SparseWeights, axis: int, prune: bool, settings: tuple[Any, ...]
) -> tuple[SparseWeights, Array]:
    """The weights as one row of a matrix, whose columns are the rows or columns of W."""
    kept = W.prune(settings[3]) if prune else W
    arrays = kept.to_arrays()
    ends = np.array([0, kept.nnz], np.int64)
    row = Compressed(ends, kept._lines(axis), arrays["weight"], (1, W.shape[1 - axis]), "csr")
    scaled, norms = _normalize_sparse(row, 0, True, False, settings, True)
    return SparseWeights.from_arrays({**arrays, "weight": scaled.data}), norms


class _NormalizeOptions(TypedDict, total=False):
    axis: int
    ord: str
    norm: float
    max_norm: bool
    threshold: float
    prune: bool
    copy: bool
    check_finite: bool
    num_threads: int | None


@overload
def sparse_normalize(
    W: AnySparse,
    *,
    return_norms: Literal[False] = False,
    **options: Unpack[_NormalizeOptions],
) -> AnySparse: ...


@overload
def sparse_normalize(
    W: AnySparse,
    *,
    return_norms: Literal[True],
    **options: Unpack[_NormalizeOptions],
) -> Normalized[AnySparse]: ...


@overload
def sparse_normalize(
    W: SparseWeights,
    *,
    return_norms: Literal[False] = False,
    **options: Unpack[_NormalizeOptions],
) -> SparseWeights: ...


@overload
def sparse_normalize(
    W: SparseWeights,
    *,
    return_norms: Literal[True],
    **options: Unpack[_NormalizeOptions],
) -> Normalized[SparseWeights]: ...


@overload
def sparse_normalize(
    W: npt.ArrayLike,
    *,
    return_norms: Literal[False] = False,
    **options: Unpack[_NormalizeOptions],
) -> Array: ...


@overload
def sparse_normalize(
    W: npt.ArrayLike,
    *,
    return_norms: Literal[True],
    **options: Unpack[_NormalizeOptions],
) -> Normalized[Array]: ...


def sparse_normalize(
    W: npt.ArrayLike | SparseMatrix | SparseWeights,
    *,
    axis: int = 0,
    ord: str = "l2",
    norm: float = 1.0,
    max_norm: bool = False,
    threshold: float = 0.0,
    prune: bool = False,
    copy: bool = True,
    return_norms: bool = False,
    check_finite: bool = True,
    num_threads: int | None = None,
) -> Any:
    """Scale the columns or the rows of a matrix to a norm, in its own format.

    Parameters
    ----------
    W : CSR or CSC matrix, SparseWeights, or array_like of shape (R, D)
        float16, bfloat16 (ml_dtypes), float32 or float64; int32 or int64 indices; dense
        in C or Fortran order. Integers become float64. Stored entries count one by one: duplicates
        are not added up. Biases and temperatures of SparseWeights stay.
    axis : {0, 1}
        0 scales columns, 1 rows.
    ord : {"l2", "l1", "max"}
    norm : float, default 1
        The norm to scale to.
    max_norm : bool, default False
        Scale only what exceeds `norm`.
    threshold : float, default 0
        If above 0, entries with ``|w| <= threshold`` do not enter the norm and become 0.
    prune : bool, default False
        Drop the entries with ``|w| <= threshold`` from the pattern; sparse and with copy=True only.
    copy : bool, default True
        False writes the values of W itself and returns W; not of SparseWeights.
    return_norms : bool, default False
    check_finite : bool, default True
        Refuse NaN and infinity before anything is written; False makes their column or row NaN, and
        its norm.
    num_threads : int, optional
        Never changes a bit of the result.

    Returns
    -------
    matrix of the type and format of W, or `Normalized`
        With return_norms, the norms (D,) of columns or (R,) of rows before scaling, float64.

    Raises
    ------
    ValueError
        If an option is out of range, W is malformed or not finite, or copy=False cannot write.
    TypeError
        If W has no real dtype or is sparse in another format.

    Notes
    -----
    ``w[i, j] · norm / sqrt(Σ_i w[i, j]²)`` for columns; all-zero columns stay zero. Sums are taken
    in double, and rescaled where they would leave its range, so that no norm overflows or
    underflows; 16-bit floats are computed in float32 and rounded once.

    References
    ----------
    Caffe2's SparseNormalize and Float16SparseNormalize are the row form, `sparse_normalize_rows`.

    Examples
    --------
    >>> import numpy as np
    >>> sparse_normalize(np.array([[3.0, 0.0], [4.0, 2.0]]))
    array([[0.6, 0. ],
           [0.8, 1. ]])
    """
    which = _as_axis(axis)
    if not is_one_of(ord, _ORD):
        raise ValueError(f"ord must be one of l1, l2, max, got {describe(ord)}")
    limit = as_float("threshold", threshold)
    dtype = getattr(getattr(W, "data", None) if is_sparse(W) else W, "dtype", None)
    limit = _rounded(limit, FLOAT32 if isinstance(W, SparseWeights) else dtype)
    settings = (
        _ORD[ord],
        as_float("norm", norm),
        as_flag("max_norm", max_norm),
        limit,
        as_flag("check_finite", check_finite),
        resolve_threads(num_threads),
    )
    fresh, drop = as_flag("copy", copy), as_flag("prune", prune)
    wanted = as_flag("return_norms", return_norms)
    if isinstance(W, SparseWeights):
        if not fresh:
            raise ValueError("copy must be True for SparseWeights, which never change, got False")
        weights, norms = _normalize_weights(W, which, drop, settings)
        return Normalized(weights, norms) if wanted else weights
    if drop and not (is_sparse(W) and fresh):
        raise ValueError("prune must be False in place and for a dense array, got True")
    if is_sparse(W):
        result, norms = _normalize_sparse(W, which, fresh, drop, settings, wanted)
    else:
        result, norms = _normalize_dense(W, which, fresh, settings)
    return Normalized(result, norms) if wanted else result


def sparse_normalize_rows(
    param: Array,
    rows: npt.ArrayLike,
    *,
    norm: float = 1.0,
    max_norm: bool = True,
    check_finite: bool = True,
    num_threads: int | None = None,
) -> npt.NDArray[np.float64]:
    """Scale the named rows of a table to an l2 norm, in place.

    Parameters
    ----------
    param : ndarray of shape (R, ...), float16, bfloat16 (ml_dtypes), float32 or float64
        C-contiguous. A row is everything behind the first axis. Changed in place.
    rows : array_like of int, any shape and integer dtype
        In ``[0, R)``; duplicates count once.
    norm : float, default 1
    max_norm : bool, default True
        Scale only rows that exceed `norm`.
    check_finite : bool, default True
        Refuse NaN and infinity in the named rows before anything is written; False makes such a
        row NaN, and its norm.
    num_threads : int, optional
        Never changes a bit of the result.

    Returns
    -------
    ndarray of float64, shape (U,)
        The norms before, of the U distinct rows in ascending order.

    Raises
    ------
    ValueError
        If a row is out of range, norm is negative or not finite, or param is not contiguous, not
        writeable or not finite.
    TypeError
        If param is not an array of floats, or rows are not integers.

    Notes
    -----
    ``row *= norm / |row|``. 16-bit rows are computed in float32 and rounded once; a zero row stays
    zero.

    References
    ----------
    Caffe2's SparseNormalize and Float16SparseNormalize. They turn a zero float16 row into NaN and
    lose rows whose squares overflow; this does neither.

    Examples
    --------
    >>> import numpy as np
    >>> table = np.array([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]])
    >>> sparse_normalize_rows(table, [2, 1, 2])
    array([ 0.5, 10. ])
    >>> table
    array([[3. , 4. ],
           [0.3, 0.4],
           [0.6, 0.8]])
    """
    table = as_writable("param", param, any_float=True)
    if table.ndim < 1:
        raise ValueError("param must have at least 1 dimension, got 0")
    named = as_integers("rows", rows, None).reshape(-1)
    width = int(np.prod(table.shape[1:], dtype=np.int64))
    flat = table.reshape(table.shape[0], width)
    distinct = np.empty_like(named)
    distinct = distinct[: core.distinct_rows(named, table.shape[0], distinct)]
    norms = np.empty(len(distinct))
    tail = (
        as_float("norm", norm),
        as_flag("max_norm", max_norm),
        as_flag("check_finite", check_finite),
    )
    threads = resolve_threads(num_threads)
    if table.dtype.itemsize == 2:
        bits = flat.view(np.uint16)
        bfloat = is_bfloat16(table.dtype)
        core.indexed_rows_16(bits, bfloat, distinct, norms, *tail, threads)
    else:
        _ROWS[table.dtype](flat, distinct, norms, *tail, threads)
    return norms


def _gradient_values(W: Any, grad: Any, parts: Compressed) -> Array:
    """The stored values of a gradient with the pattern of W."""
    if not is_sparse(grad):
        return as_real("grad", grad, 1)
    other = as_compressed("grad", grad)
    same = other.format == parts.format and other.shape == parts.shape
    pairs = ((other.indptr, parts.indptr), (other.indices, parts.indices))
    if not (same and all(a is b or np.array_equal(a, b) for a, b in pairs)):
        raise ValueError("grad must have the format and the pattern of W, got another")
    return as_real("grad.data", other.data, 1)


class _GradientOptions(TypedDict, total=False):
    axis: int
    norm: float
    max_norm: bool
    check_finite: bool
    num_threads: int | None


@overload
def sparse_normalize_gradient(
    W: AnySparse,
    grad: AnySparse | npt.ArrayLike,
    **options: Unpack[_GradientOptions],
) -> AnySparse: ...


@overload
def sparse_normalize_gradient(
    W: npt.ArrayLike, grad: npt.ArrayLike, **options: Unpack[_GradientOptions]
) -> Array: ...


def sparse_normalize_gradient(
    W: npt.ArrayLike | SparseMatrix,
    grad: npt.ArrayLike | SparseMatrix,
    *,
    axis: int = 0,
    norm: float = 1.0,
    max_norm: bool = False,
    check_finite: bool = True,
    num_threads: int | None = None,
) -> Any:
    """Gradient of `sparse_normalize` (l2) for its input.

    Parameters
    ----------
    W : CSR or CSC matrix, or array_like of shape (R, D)
        What was normalized, before.
    grad : as W
        Upstream gradient: dense for a dense W; for a sparse one a matrix of the same pattern, or
        its stored values (nnz,).
    axis, norm, max_norm, check_finite, num_threads
        As for `sparse_normalize`. There is no threshold: every entry counts.

    Returns
    -------
    matrix of the type and format of W
        The gradient of the stored entries.

    Raises
    ------
    ValueError, TypeError
        As for `sparse_normalize`; if grad does not have the shape or the pattern of W.

    Notes
    -----
    ``dx = (g - y (y · g)) · norm / |x|`` with ``y = x / |x|``; columns or rows that were not scaled
    pass g through. With check_finite=False, columns or rows of W that are not finite get NaN.

    Examples
    --------
    >>> import numpy as np
    >>> sparse_normalize_gradient(np.array([[3.0], [4.0]]), np.array([[1.0], [0.0]]))
    array([[ 0.128],
           [-0.096]])
    """
    which, threads = _as_axis(axis), resolve_threads(num_threads)
    tail = (
        as_float("norm", norm),
        as_flag("max_norm", max_norm),
        as_flag("check_finite", check_finite),
        threads,
    )
    if is_sparse(W):
        parts = as_compressed("W", W)
        x = as_real("W.data", parts.data, 1)
        g = cast(_gradient_values(W, grad, parts), x.dtype)
        dx = np.empty_like(x)
        across, width = _across(parts, which)
        indices, width = _narrowed(parts, across, width)
        impl = _CSR_GRADIENT[parts.indptr.dtype, x.dtype]
        impl(parts.indptr, indices, x, width, across, g, dx, *tail)
        fresh = {"indptr": parts.indptr.copy(), "indices": parts.indices.copy()}
        return with_parts(W, data=dx, **fresh)
    x, g = as_real("W", W, 2), as_real("grad", grad, 2)
    if g.shape != x.shape:
        raise ValueError(f"grad must have shape {x.shape}, got {g.shape}")
    dx = np.empty_like(x)
    flat = cast(g, x.dtype).reshape(-1)
    _DENSE_GRADIENT[x.dtype](x, which == 0, flat, dx.reshape(-1), *tail)
    return dx
