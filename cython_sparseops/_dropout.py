"""Sparse dropout with replacement, of entries and of whole segments, and its gradient."""

from __future__ import annotations

from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar, Unpack, overload

import numpy as np
import numpy.typing as npt

from ._arrays import (
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INDICES,
    INT32,
    INT64,
    REALS,
    Array,
    as_array,
    as_flag,
    as_float,
    as_floats,
    as_integer,
    as_integers,
    as_seed,
    as_writable,
    cast,
    describe,
    is_bfloat16,
    is_one_of,
    require_finite,
    specialized,
)
from ._core import dropout as core
from ._runtime import resolve_threads
from ._sparse import (
    AnySparse,
    Compressed,
    SparseMatrix,
    as_compressed,
    as_stored,
    is_sparse,
    with_parts,
)

__all__ = [
    "Dropout",
    "DropoutGradient",
    "Segments",
    "sparse_dropout_gradient",
    "sparse_dropout_segments",
    "sparse_dropout_with_replacement",
]

_WORD = {size: np.dtype(f"uint{8 * size}") for size in (2, 4, 8)}
_DROPOUT = {size: core.dropout[f"uint{8 * size}_t"] for size in (2, 4, 8)}
_EXPONENT = {FLOAT16: 0x7C00, FLOAT32: 0x7F80_0000, FLOAT64: 0x7FF0_0000_0000_0000}
_GRADIENT = specialized(core.gradient, REALS)
_CENTERS = specialized(core.centers, REALS)
_SEGMENT_IDS = specialized(core.segment_ids, INDICES)


Matrix = TypeVar("Matrix")


class Dropout(NamedTuple, Generic[Matrix]):
    """What `sparse_dropout_with_replacement` returns with return_mask.

    Attributes
    ----------
    x : ndarray or matrix like the one given
    mask : ndarray of bool, or of uint8 if packed
        True, or a 1 bit, where an entry was replaced.

    Examples
    --------
    >>> sparse_dropout_with_replacement([1.0, 2.0], 1.0, 9.0, return_mask=True)
    Dropout(x=array([9., 9.]), mask=array([ True,  True]))
    """

    x: Matrix
    mask: Array


class DropoutGradient(NamedTuple, Generic[Matrix]):
    """What `sparse_dropout_gradient` returns.

    Attributes
    ----------
    x : ndarray or matrix like the upstream gradient
        Zero where replaced.
    replacement : ndarray of the shape of the replacement
        The sums of the upstream gradient where it was used.

    Examples
    --------
    >>> sparse_dropout_gradient([1.0, 2.0], [True, False]).replacement
    array(1.)
    """

    x: Matrix
    replacement: Array


def as_rate(rate: object, name: str = "rate") -> float:
    """A probability."""
    number = as_float(name, rate)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {number}")
    return number


def _as_values(name: str, value: Any, in_place: bool) -> Array:
    """Floats in C order, of their own dtype, flat indices being positions."""
    if in_place:
        return as_writable(name, value, any_float=True)
    array = as_floats(name, as_array(name, value, bfloat16=True))
    return array if array.flags.c_contiguous else array.copy(order="C")


def _exponent(dtype: np.dtype[Any]) -> int:
    return 0x7F80 if is_bfloat16(dtype) else _EXPONENT[dtype]


def _shared_in_row(shape: tuple[int, ...], of: tuple[int, ...]) -> int | None:
    """How many entries in a row share a cell, if entry i has cell ``i // that % cells``."""
    if len(shape) > len(of) or any(
        n not in (1, m) for n, m in zip(shape[::-1], of[::-1], strict=False)
    ):
        raise ValueError(f"replacement must broadcast to shape {of}, got shape {shape}")
    full = (1,) * (len(of) - len(shape)) + shape
    used = [axis for axis, n in enumerate(full) if n != 1]
    if not used:
        return 1
    if full[used[0] : used[-1] + 1] != of[used[0] : used[-1] + 1]:
        return None
    return max(int(np.prod(of[used[-1] + 1 :], dtype=np.int64)), 1)


class Cells(NamedTuple):
    """A replacement in the order of entries: entry i gets ``values[i // repeat % len(values)]``."""

    values: Array
    repeat: int

    @classmethod
    def of_array(cls, values: Array, shape: tuple[int, ...]) -> Cells:
        """Values that broadcast against an array of this shape."""
        repeat = _shared_in_row(values.shape, shape)
        if repeat is None:
            return cls(np.broadcast_to(values, shape).reshape(-1), 1)
        return cls(values.reshape(-1), repeat)

    @classmethod
    def of_stored(cls, values: Array, parts: Compressed) -> Cells:
        """Values that broadcast against a sparse matrix, at its stored entries."""
        repeat = _shared_in_row(values.shape, parts.shape)
        if values.size == 1:
            return cls(values.reshape(-1), repeat or 1)
        return cls(np.broadcast_to(values, parts.shape)[_stored_places(parts)].reshape(-1), 1)


def _stored_places(parts: Compressed, name: str = "x") -> tuple[Array, Array]:
    """Row and column of every stored entry."""
    major = np.repeat(np.arange(len(parts.indptr) - 1), np.diff(parts.indptr))
    minor = parts.indices[: len(major)]
    bound = parts.shape[1] if parts.format == "csr" else parts.shape[0]
    if len(minor) and not 0 <= minor.min() <= minor.max() < bound:
        raise ValueError(f"{name}.indices must be in [0, {bound}), got one outside")
    return (major, minor) if parts.format == "csr" else (minor, major)


def _centers(values: Array, offsets: Array, median: bool, threads: int) -> Array:
    real = values if values.dtype in _CENTERS else cast(values, FLOAT32)
    out = np.empty(len(offsets) - 1, real.dtype)
    _CENTERS[real.dtype](real, offsets, median, out, threads)
    return cast(out, values.dtype)


def _center_cells(
    flat: Array,
    shape: tuple[int, ...],
    parts: Compressed | None,
    median: bool,
    per: str,
    threads: int,
) -> Cells:
    """The mean or median of the non-zero values: one, or by column in the order of entries."""
    if per == "array":
        return Cells(_centers(flat, np.array([0, flat.size]), median, threads), 1)
    if parts is None:
        if not shape:
            raise ValueError("x must have a dimension for per='column', got none")
        rows = flat.size // max(shape[-1], 1)
        columns = flat.reshape(rows, shape[-1]).T.reshape(-1)
        values = _centers(columns, np.arange(shape[-1] + 1) * rows, median, threads)
    else:
        column = _stored_places(parts)[1]
        order = np.argsort(column, kind="stable")
        _, place, sizes = np.unique(column, return_inverse=True, return_counts=True)
        offsets = np.concatenate([[0], np.cumsum(sizes)])  # columns without entries need no room
        values = _centers(flat[order], offsets.astype(np.int64), median, threads)[place]
    return Cells(values, 1)


def _replacement_cells(
    replacement: Any,
    flat: Array,
    shape: tuple[int, ...],
    parts: Compressed | None,
    per: str,
    check: bool,
    threads: int,
) -> Cells:
    """The cells of what a caller gave as the replacement."""
    if not is_one_of(per, ("array", "column")):
        raise ValueError(f"per must be 'array' or 'column', got {describe(per)}")
    if isinstance(replacement, str):
        if replacement not in ("mean", "median"):
            raise ValueError(
                f"replacement must be a number, an array, 'mean' or 'median', "
                f"got {describe(replacement)}"
            )
        if check:
            require_finite("x", flat, place="stored value")
        cells = _center_cells(flat, shape, parts, replacement == "median", per, threads)
        return cells if cells.values.size else Cells(np.zeros(1, flat.dtype), 1)
    if per != "array":
        raise ValueError(
            "per must be 'array' unless replacement is 'mean' or 'median', got 'column'"
        )
    values = as_array("replacement", replacement, bfloat16=True)
    values = cast(values, flat.dtype).copy(order="C")  # it may be a part of x
    if check and not np.isfinite(values).all():
        raise ValueError(f"replacement must be finite as {flat.dtype}, got {describe(replacement)}")
    cells = Cells.of_array(values, shape) if parts is None else Cells.of_stored(values, parts)
    return cells if cells.values.size else Cells(np.zeros(1, flat.dtype), 1)  # of no entries


def _run_dropout(
    flat: Array,
    y: Array,
    drops: tuple[int, int, float, bool],
    cells: Cells,
    exponent: int,
    mask: str | None,
    threads: int,
) -> Array:
    """Run the operator on flat arrays of any items; returns the mask asked for."""
    bools = np.empty(flat.size if mask == "bool" else 0, np.bool_)
    packed = np.empty((flat.size + 7) // 8 if mask == "packed" else 0, np.uint8)
    word = _WORD[flat.dtype.itemsize]
    _DROPOUT[flat.dtype.itemsize](
        flat.view(word), *drops, cells.values.view(word), cells.repeat, exponent, y.view(word),
        packed, bools.view(np.uint8), threads,
    )  # fmt: skip
    return packed if mask == "packed" else bools


class _DropoutOptions(TypedDict, total=False):
    rng: int | np.random.Generator | None
    start: int
    copy: bool
    per: str
    check_finite: bool
    num_threads: int | None


@overload
def sparse_dropout_with_replacement(
    x: AnySparse,
    rate: float,
    replacement: npt.ArrayLike = 0.0,
    *,
    return_mask: Literal[False] = False,
    **options: Unpack[_DropoutOptions],
) -> AnySparse: ...


@overload
def sparse_dropout_with_replacement(
    x: AnySparse,
    rate: float,
    replacement: npt.ArrayLike = 0.0,
    *,
    return_mask: Literal[True, "bool", "packed"],
    **options: Unpack[_DropoutOptions],
) -> Dropout[AnySparse]: ...


@overload
def sparse_dropout_with_replacement(
    x: npt.ArrayLike,
    rate: float,
    replacement: npt.ArrayLike = 0.0,
    *,
    return_mask: Literal[False] = False,
    **options: Unpack[_DropoutOptions],
) -> Array: ...


@overload
def sparse_dropout_with_replacement(
    x: npt.ArrayLike,
    rate: float,
    replacement: npt.ArrayLike = 0.0,
    *,
    return_mask: Literal[True, "bool", "packed"],
    **options: Unpack[_DropoutOptions],
) -> Dropout[Array]: ...


def sparse_dropout_with_replacement(
    x: npt.ArrayLike | SparseMatrix,
    rate: float,
    replacement: npt.ArrayLike = 0.0,
    *,
    rng: int | np.random.Generator | None = None,
    start: int = 0,
    copy: bool = True,
    return_mask: bool | str = False,
    per: str = "array",
    check_finite: bool = True,
    num_threads: int | None = None,
) -> Any:
    """Replace each entry with probability `rate`.

    Parameters
    ----------
    x : array_like, or CSR or CSC matrix
        float16, bfloat16 (ml_dtypes), float32 or float64; integers become float64. Of a sparse
        matrix the stored values.
    rate : float in [0, 1]
        Resolution 2⁻³²; 0 and 1 are exact.
    replacement : float, array_like, "mean" or "median"
        An array is broadcast against x. "mean" and "median" are those of the non-zero values, 0 if
        there is none.
    rng : None, int or numpy.random.Generator
        The seed.
    start : int, default 0
        The index of the first entry: the parts of an array, each with its start, get the mask of
        the whole.
    copy : bool, default True
        False writes x itself (C-contiguous; the values of a sparse matrix) and returns it.
    return_mask : bool, "bool" or "packed", default False
        True or "bool": bools of the shape of x, (nnz,) if sparse. "packed": uint8 (n / 8,), the
        first entry in the lowest bit, for ``np.unpackbits(mask, count=n, bitorder="little")``.
    per : {"array", "column"}
        Over what "mean" and "median" are taken; the columns of an array are its last axis.
    check_finite : bool, default True
        Refuse NaN and infinity.
    num_threads : int, optional
        Never changes a bit of the result.

    Returns
    -------
    ndarray or matrix like x, or `Dropout`
        With return_mask also the mask, True where replaced. Nothing is rescaled.

    Raises
    ------
    ValueError
        If rate is outside [0, 1], replacement does not broadcast, x is not finite, or copy=False
        cannot write.
    TypeError
        If x has no real dtype or is sparse in another format.

    Notes
    -----
    ``y[i] = replacement if r[i] < rate · 2³² else x[i]``, where r[i] is word ``n % 4`` of the
    Philox4x32-10 block with key `rng` and counter ``(n // 4, 4 · 2⁵⁶)``, n = start + i in C order
    or the order of stored values. So a mask depends on seed and index alone.

    References
    ----------
    Srivastava et al., "Dropout", JMLR 2014. Salmon et al., "Parallel random numbers: as easy as 1,
    2, 3", SC 2011.

    Examples
    --------
    >>> import numpy as np
    >>> y, mask = sparse_dropout_with_replacement(np.ones(6), 0.5, -1.0, rng=7, return_mask=True)
    >>> bool(np.all(y == np.where(mask, -1.0, 1.0)))
    True
    """
    if isinstance(return_mask, str) and return_mask not in ("bool", "packed"):
        raise ValueError(
            f"return_mask must be True, False, 'bool' or 'packed', got {describe(return_mask)}"
        )
    if isinstance(return_mask, str):
        wanted: str | None = return_mask
    else:
        wanted = "bool" if as_flag("return_mask", return_mask) else None
    fresh, check = as_flag("copy", copy), as_flag("check_finite", check_finite)
    drop_rate, seed, first = as_rate(rate), as_seed(rng), as_integer("start", start, 0)
    threads = resolve_threads(num_threads)
    parts: Compressed | None = None
    if is_sparse(x):
        parts = as_stored("x", as_compressed("x", x, in_place=not fresh))
        values = parts.data if not fresh else _as_values("x.data", parts.data, False)
        shape = parts.shape
    else:
        values = _as_values("x", x, not fresh)
        shape = values.shape
    flat = values.reshape(-1)
    cells = _replacement_cells(replacement, flat, shape, parts, per, check, threads)
    y = np.empty_like(flat) if fresh else flat
    exponent = _exponent(flat.dtype) if check else 0
    mask = _run_dropout(flat, y, (seed, first, drop_rate, False), cells, exponent, wanted, threads)
    result = x
    if fresh and parts is not None:
        arrays = {"indptr": parts.indptr.copy(), "indices": parts.indices.copy()}
        result = with_parts(x, data=y, **arrays)
    elif fresh:
        result = y.reshape(shape)
    if wanted is None:
        return result
    return Dropout(result, mask.reshape(shape) if wanted == "bool" and parts is None else mask)


def _packed(mask: Any, n: int, shape: tuple[int, ...]) -> Array:
    bits = as_array("mask", mask)
    if bits.dtype == np.bool_:
        if bits.shape != shape:
            raise ValueError(f"mask must have shape {shape}, got {bits.shape}")
        return np.packbits(bits.reshape(-1), bitorder="little")
    if bits.dtype != np.uint8 or bits.shape != ((n + 7) // 8,):
        raise ValueError(
            f"mask must be bools of shape {shape} or uint8 of shape {((n + 7) // 8,)}, "
            f"got {bits.dtype} of shape {bits.shape}"
        )
    return bits.copy() if not bits.flags.c_contiguous else bits


def _sums_of_entries(
    entries: Array,
    cell_shape: tuple[int, ...],
    count: int,
    shape: tuple[int, ...],
    parts: Compressed | None,
) -> Array:
    """What the entries of each cell add up to, in double."""
    full = (1,) * (len(shape) - len(cell_shape)) + cell_shape
    if parts is None:
        axes = tuple(axis for axis, n in enumerate(full) if n == 1)
        sums = np.atleast_1d(entries.reshape(shape).sum(axis=axes, dtype=np.float64))
        return cast(sums, entries.dtype)
    row, column = _stored_places(parts, "grad")
    place = (row if full[0] != 1 else 0) * full[1] + (column if full[1] != 1 else 0)
    return cast(np.bincount(place, entries, count), entries.dtype)


@overload
def sparse_dropout_gradient(
    grad: AnySparse,
    mask: npt.ArrayLike,
    replacement_shape: int | tuple[int, ...] = (),
    *,
    num_threads: int | None = None,
) -> DropoutGradient[AnySparse]: ...


@overload
def sparse_dropout_gradient(
    grad: npt.ArrayLike,
    mask: npt.ArrayLike,
    replacement_shape: int | tuple[int, ...] = (),
    *,
    num_threads: int | None = None,
) -> DropoutGradient[Array]: ...


def sparse_dropout_gradient(
    grad: npt.ArrayLike | SparseMatrix,
    mask: npt.ArrayLike,
    replacement_shape: int | tuple[int, ...] = (),
    *,
    num_threads: int | None = None,
) -> DropoutGradient[Any]:
    """Gradient of `sparse_dropout_with_replacement` for x and for the replacement.

    Parameters
    ----------
    grad : array_like, or CSR or CSC matrix
        Upstream gradient, float32 or float64 (float16 becomes float32).
    mask : array_like of bool or uint8
        What dropout returned, as bools or packed.
    replacement_shape : int or tuple of int, default ()
        The shape of the replacement, broadcast against grad.
    num_threads : int, optional
        Never changes a bit of the result.

    Returns
    -------
    DropoutGradient
        x like grad, zero where replaced; replacement of replacement_shape: the sum of grad where it
        was used, in double.

    Raises
    ------
    ValueError
        If mask does not fit grad, or replacement_shape does not broadcast.
    TypeError
        If grad has no real dtype or is sparse in another format.

    Notes
    -----
    ``dx = grad · (1 - mask)``, ``d_replacement = Σ grad · mask`` over the entries that share it,
    in double, in an order that depends on the sizes alone.

    Examples
    --------
    >>> import numpy as np
    >>> sparse_dropout_gradient(np.array([1.0, 2.0, 3.0]), np.array([False, True, True]))
    DropoutGradient(x=array([1., 0., 0.]), replacement=array(5.))
    """
    parts = as_stored("grad", as_compressed("grad", grad)) if is_sparse(grad) else None
    values = _as_values("grad", grad if parts is None else parts.data, False)
    if values.dtype not in _GRADIENT:
        values = cast(values, FLOAT32)
    flat = values.reshape(-1)
    shape = values.shape if parts is None else parts.shape
    bits = _packed(mask, flat.size, values.shape)
    if not isinstance(replacement_shape, (tuple, list)):
        replacement_shape = (replacement_shape,)
    cell_shape = tuple(as_integer("replacement_shape", n, 0) for n in replacement_shape)
    repeat, count = _shared_in_row(cell_shape, shape), int(np.prod(cell_shape, dtype=np.int64))
    whole = repeat is not None and count != 0 and (parts is None or count == 1)
    dx = np.empty_like(flat)
    sums = np.zeros(count if whole else flat.size, flat.dtype)  # of cells, or entry by entry
    _GRADIENT[flat.dtype](
        flat,
        bits,
        dx,
        (repeat or 1) if whole else 1,
        sums if sums.size else np.zeros(1, flat.dtype),
        resolve_threads(num_threads),
    )
    if not whole:
        sums = _sums_of_entries(sums, cell_shape, count, shape, parts)
    total = sums.reshape(cell_shape)
    if parts is None:
        return DropoutGradient(dx.reshape(shape), total)
    fresh = {"indptr": parts.indptr.copy(), "indices": parts.indices.copy()}
    return DropoutGradient(with_parts(grad, data=dx, **fresh), total)


class Segments(NamedTuple):
    """What `sparse_dropout_segments` returns.

    Attributes
    ----------
    ids : ndarray of int32 or int64
        One segment after the other.
    lengths : ndarray of int32 or int64, shape (S,)
        How many ids each segment has.

    Examples
    --------
    >>> sparse_dropout_segments([4, 5, 6], [2, 1], 0.0, -1).offsets
    array([0, 2, 3])
    """

    ids: Array
    lengths: Array

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each segment starts, and the end: (S + 1,)."""
        return np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)]).astype(np.int64)


def sparse_dropout_segments(
    ids: npt.ArrayLike,
    lengths: npt.ArrayLike | None,
    rate: float,
    replacement: int,
    *,
    offsets: npt.ArrayLike | None = None,
    per_item: bool = False,
    rng: int | np.random.Generator | None = None,
    start: int = 0,
    num_threads: int | None = None,
) -> Segments:
    """Replace each segment of ids, as a whole, by one id with probability `rate`.

    Parameters
    ----------
    ids : array_like of int, shape (T,)
        The segments one after the other; int32 stays int32.
    lengths : array_like of int, shape (S,), or None
        How many ids each segment has; None if offsets are given.
    rate : float in [0, 1]
        The probability; 0 and 1 are exact.
    replacement : int
        Fits the dtype of ids.
    offsets : array_like of int, shape (S + 1,), optional
        Where each segment starts, and the end T, in place of lengths.
    per_item : bool, default False
        Replace each id on its own; lengths stay.
    rng : None, int or numpy.random.Generator
    start : int, default 0
        The index of the first segment (per_item: of the first id).
    num_threads : int, optional

    Returns
    -------
    Segments
        ids and lengths, a replaced segment having one id (an empty one too); `.offsets` of them.

    Raises
    ------
    ValueError
        If rate is outside [0, 1], lengths are negative or do not add up to T, or replacement does
        not fit.
    TypeError
        If ids, lengths or replacement are not integers.

    Notes
    -----
    Draws are those of `sparse_dropout_with_replacement` with counter ``(n // 4, 5 · 2⁵⁶)``,
    per_item ``(n // 4, 6 · 2⁵⁶)``.

    References
    ----------
    Caffe2's SparseDropoutWithReplacement.

    Examples
    --------
    >>> sparse_dropout_segments([4, 5, 6], [2, 0, 1], 1.0, -1)
    Segments(ids=array([-1, -1, -1]), lengths=array([1, 1, 1]))
    """
    given = ids if isinstance(ids, np.ndarray) else as_array("ids", ids)
    width: np.dtype[Any] = INT32 if given.dtype == INT32 else INT64
    items = as_integers("ids", given).astype(width, copy=False)
    if (lengths is None) == (offsets is None):
        raise ValueError("lengths must be None exactly if offsets are given")
    if offsets is not None:
        ends = as_integers("offsets", offsets)
        if not len(ends) or ends[0] != 0 or ends[-1] != len(items):
            raise ValueError(f"offsets must go from 0 to {len(items)}, got {describe(ends)}")
        falls = np.flatnonzero(ends[1:] < ends[:-1])
        if falls.size:
            at = int(falls[0]) + 1
            raise ValueError(f"offsets must not decrease, got {ends[at]} at index {at}")
        counts, narrow = np.diff(ends), False
    else:
        counts = as_integers("lengths", lengths)
        narrow = getattr(lengths, "dtype", None) == INT32
    number = as_integer("replacement", replacement)
    if not np.iinfo(width).min <= number <= np.iinfo(width).max:
        raise ValueError(f"replacement must fit in {width}, got {number}")
    drop_rate, seed, first = as_rate(rate), as_seed(rng), as_integer("start", start, 0)
    threads = resolve_threads(num_threads)
    new_counts = np.empty_like(counts)
    single = as_flag("per_item", per_item)
    whole_rate = 0.0 if single else drop_rate
    total = core.segment_lengths(counts, len(items), seed, first, whole_rate, new_counts)
    new_ids = np.empty(total, width)
    if single:
        value = np.array([number], width)
        _run_dropout(
            items, new_ids, (seed, first, drop_rate, True), Cells(value, 1), 0, None, threads
        )
    else:
        _SEGMENT_IDS[width](items, counts, seed, first, drop_rate, number, new_ids)
    return Segments(new_ids, new_counts.astype(INT32) if narrow else new_counts)
