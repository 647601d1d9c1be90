"""Array-likes to arrays: dtype, shape, contiguity, index width. The only `np.asarray` here."""

from __future__ import annotations

import itertools
import math
import operator
import sys
from collections.abc import Iterable
from typing import Any, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from ._core.linear import Rows
from ._core.ndarray import are_ready, is_ready, is_ready_in_place
from ._core.quantize import Quantized

Array = npt.NDArray[Any]

FLOAT16 = np.dtype(np.float16)
FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
INT32 = np.dtype(np.int32)
INT64 = np.dtype(np.int64)
REALS, INDICES = (FLOAT32, FLOAT64), (INT32, INT64)
HALVES = ("bfloat16", "float16")
BFLOAT16_BITS = np.dtype(np.int16)  # NumPy has no bfloat16 of its own
STORAGE = ("float32", "float64", *HALVES)  # of rows that are trained
_ARRAY = np.ndarray
_READY = 0x101  # bits of flags.num: C-contiguous and aligned
KEY = {
    FLOAT32: "float",
    FLOAT64: "double",
    INT32: "int32_t",
    INT64: "int64_t",
}  # Cython's names of the fused types


class Weights(Protocol):
    """Decision rows (R, D) that only scoring reads: its operators do not ask of which kind."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def dtype(self) -> str: ...

    @property
    def nbytes(self) -> int: ...

    @property
    def _compiled(self) -> Any: ...


def specialized(function: Any, *axes: Iterable[np.dtype[Any]]) -> dict[Any, Any]:
    """A compiled function for each dtype, or tuple of dtypes, of its fused types."""
    keys = itertools.product(*axes)
    return {
        key if len(key) > 1 else key[0]: function["|".join(KEY[d] for d in key)] for key in keys
    }


def describe(value: object) -> str:
    """A short text of a refused value for an error message, on one line."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a huge integer, or a class whose repr fails
        text = f"a value of {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialized array that starts on a cache line: wide loads from it never straddle two."""
    nbytes = math.prod(shape) * dtype.itemsize
    try:
        block = np.empty(nbytes + 64, np.uint8)
        start = -block.ctypes.data % 64
        return block[start : start + nbytes].view(dtype).reshape(shape)
    except ValueError:  # NumPy's word for more than the address space
        raise MemoryError(f"an array of shape {shape} does not fit") from None


def as_array(name: str, value: object, *, bfloat16: bool = False) -> Array:
    """`value` as an ndarray of a numeric dtype, with bfloat16 also that of ml_dtypes."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} must be an array, got {describe(value)}") from error
    if array.dtype.kind not in "fiub" and not (bfloat16 and is_bfloat16(array.dtype)):
        format = getattr(value, "format", None)
        if isinstance(format, str) and hasattr(value, "nnz"):
            raise TypeError(f"{name} must be a dense array, got a sparse matrix ({format})")
        raise TypeError(f"{name} must have a real dtype, got {array.dtype}")
    if type(value) is not _ARRAY:
        as_plain(name, value)
    return array if array.flags.aligned else array.copy()


def as_plain(name: str, value: object) -> Array:
    """The memory of an array of any subclass; entries that are masked are refused."""
    masked = sys.modules.get("numpy.ma")  # imported by whoever has a masked array, not by us
    if masked and isinstance(value, masked.MaskedArray) and masked.is_masked(value):
        raise ValueError(f"{name} must have no masked entries, got some")
    return np.asarray(value)


def as_real(name: str, value: object, ndim: int) -> Array:
    """`value` as C-contiguous float32 or float64; half floats become float32, integers float64."""
    array: Array = value if type(value) is _ARRAY else as_array(name, value, bfloat16=True)
    if array.dtype not in (FLOAT32, FLOAT64):
        array = as_array(name, array, bfloat16=True)
        if array.dtype.kind == "f" and array.dtype.itemsize > 8:
            raise TypeError(f"{name} must have dtype float32 or float64, got {array.dtype}")
        narrow = is_half(array.dtype) or (array.dtype.kind == "f" and array.dtype.itemsize <= 4)
        array = cast(array, FLOAT32 if narrow else FLOAT64)
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension{'s' * (ndim > 1)}, got {array.ndim}")
    return array if array.flags.num & _READY == _READY else array.copy(order="C")


def as_real_dtype(dtype: Any) -> np.dtype[Any]:
    """float32 or float64 from what names it."""
    try:
        real: np.dtype[Any] | None = None if dtype is None else np.dtype(dtype)
    except (TypeError, ValueError, AttributeError):
        real = None
    if real is None or real not in (FLOAT32, FLOAT64):
        found = describe(dtype) if real is None else real
        raise TypeError(f"dtype must be float32 or float64, got {found}")
    return real


def as_storage(dtype: Any) -> str:
    """One of `STORAGE`, from what names it."""
    if is_one_of(dtype, HALVES):
        return str(dtype)
    try:
        named = None if dtype is None else np.dtype(dtype)
    except (TypeError, ValueError, AttributeError):
        named = None
    if named is not None and named.name in STORAGE:
        return str(named.name)
    found = describe(dtype) if named is None else named
    raise TypeError(f"dtype must be one of {', '.join(STORAGE)}, got {found}")


def cast(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array in this dtype; what is too large becomes infinity, which is refused later.

    Whatever a caller has set by `np.seterr`, a conversion of ours is no error of theirs.
    """
    if array.dtype == dtype:
        return array
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def as_inputs(X: object, W: object, b: object) -> tuple[Array, Array, Array | None]:
    """X (N, D), W (R, D) and b (R,) of one float dtype, the wider of theirs."""
    if are_ready(X, W, b):
        return X, W, b  # type: ignore[return-value]
    if is_weights(W):
        raise TypeError(f"W must be a float array here, got {W.dtype} weights")
    x, w = as_real("X", X, 2), as_real("W", W, 2)
    bias = None if b is None else as_real("b", b, 1)
    if x.dtype == w.dtype and (bias is None or bias.dtype == x.dtype):
        return x, w, bias
    dtype = np.result_type(x, w) if bias is None else np.result_type(x, w, bias)
    return cast(x, dtype), cast(w, dtype), None if bias is None else cast(bias, dtype)


def is_weights(W: object) -> TypeGuard[Weights]:
    """Whether these are rows in a form of our own, not an array."""
    return type(W) is not _ARRAY and isinstance(getattr(W, "_compiled", None), (Quantized, Rows))


def require_finite(
    name: str, array: Array, *, non_negative: bool = False, place: str = "index"
) -> None:
    """Refuse the first value that is not finite, or is negative."""
    good = np.isfinite(array)
    if non_negative:
        good &= array >= 0
    if not good.all():
        at = int(np.flatnonzero(~good)[0])
        rule = "finite and non-negative" if non_negative else "finite"
        raise ValueError(f"{name} must be {rule}, got {array.flat[at]} at {place} {at}")


def as_vector(name: str, value: object, dtype: np.dtype[Any], size: int) -> Array:
    """A float vector of this length, cast to `dtype`."""
    vector = as_real(name, value, 1)
    if vector.shape[0] != size:
        raise ValueError(f"{name} must have {size} entries, got {vector.shape[0]}")
    return cast(vector, dtype)


def as_weight(name: str, value: object, dtype: np.dtype[Any], size: int) -> Array | None:
    """None, or finite non-negative weights."""
    if value is None:
        return None
    weight = as_vector(name, value, dtype, size)
    require_finite(name, weight, non_negative=True)
    return weight


def as_integers(name: str, value: object, ndim: int | None = 1) -> npt.NDArray[np.int64]:
    """`value` as a C-contiguous int64 array; floats are refused, not rounded."""
    array = as_array(name, value)
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(INT64)  # np.asarray([]) is float64
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must have an integer dtype, got {array.dtype}")
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension{'s' * (ndim > 1)}, got {array.ndim}")
    numbers = np.ascontiguousarray(array, dtype=INT64)  # may be the end of an endless view
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must fit in 64-bit signed integers, got {array.max()}")
    return numbers


def as_labels(labels: object, n: int) -> npt.NDArray[np.int64]:
    """One label for each of n rows of X; their values are checked by the operator."""
    y: npt.NDArray[np.int64] = labels if is_ready(labels) else as_integers("labels", labels)  # type: ignore[assignment]
    if len(y) != n:
        raise ValueError(f"labels must have one entry a row of X, {n}, got {len(y)}")
    return y


def as_ignored(ignore_index: object) -> int | None:
    """A label, or None."""
    return None if ignore_index is None else as_integer("ignore_index", ignore_index)


def as_exact(name: str, value: object, dtype: np.dtype[Any], *, copy: bool) -> Array:
    """A C-contiguous vector that must have this dtype already: arrays from a file or a pickle."""
    array = as_array(name, value)
    if array.ndim != 1 or array.dtype != dtype:
        raise ValueError(
            f"{name} must be a vector of {dtype}, got {array.dtype} of {array.ndim} dimensions"
        )
    return array.copy() if copy else np.ascontiguousarray(array)


def as_little_endian(name: str, value: object) -> Array:
    """A C-contiguous little-endian array of the same shape, for a file."""
    array = as_array(name, value)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)


def as_counts(counts: object, name: str = "counts") -> npt.NDArray[np.float64]:
    """Class counts as float64; the values are checked by the operator."""
    array = as_array(name, counts)
    if array.ndim != 1:
        raise ValueError(f"{name} must have 1 dimension, got {array.ndim}")
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(array, dtype=FLOAT64)


def as_integer(name: str, value: object, least: int | None = None) -> int:
    """A Python int, not below `least`; True is none."""
    try:
        number = operator.index(None if isinstance(value, bool) else value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {describe(value)}") from None
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}, got {describe(number)}")
    if number >= 1 << 63:
        raise ValueError(f"{name} must be below 2**63, got {describe(number)}")
    if number < -(1 << 63):
        raise ValueError(f"{name} must be at least -2**63, got {describe(number)}")
    return number


def as_float(name: str, value: object) -> float:
    """A Python float; text is refused, and so are arrays of one number."""
    if type(value) is float:
        return value
    try:
        if isinstance(value, (str, bytes, bytearray)) or getattr(value, "ndim", 0) > 0:
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a real number, got {describe(value)}") from None
    except OverflowError:
        raise ValueError(f"{name} must fit in a float, got {describe(value)}") from None


def as_flag(name: str, value: object) -> bool:
    """True or False; 1 and 0 will do."""
    if value is True or value is False:
        return value
    if isinstance(value, (int, np.integer, np.bool_)) and value in (0, 1):
        return bool(value)
    raise TypeError(f"{name} must be True or False, got {describe(value)}")


def is_one_of(value: object, words: Iterable[str]) -> bool:
    """Whether `value` is one of these words; anything else, an array too, is not."""
    return isinstance(value, str) and value in words


def reserve(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialized result whose last length is the argument `name`."""
    try:
        return np.empty(shape, dtype)
    except ValueError:  # as above
        raise ValueError(f"{name} must be small enough for an array, got {shape[-1]}") from None


def as_writable(
    name: str,
    value: object,
    ndim: int | None = None,
    *,
    any_float: bool = False,
    any_order: bool = False,
) -> Array:
    """An array that is to be changed in place: nothing is converted.

    float32 or float64 in C order; with any_float also 16-bit floats, with any_order also Fortran's.
    """
    if type(value) is _ARRAY and ndim is not None and is_ready_in_place(value, ndim):
        return value
    if not isinstance(value, np.ndarray):
        raise TypeError(
            f"{name} must be a NumPy array to be changed in place, got {type(value).__name__}"
        )
    if type(value) is not _ARRAY:
        value = as_plain(name, value)
    narrow = any_float and is_half(value.dtype)
    if value.dtype not in REALS and not narrow:
        wanted = (
            "a dtype of 16, 32 or 64-bit floats to be changed in place"
            if any_float
            else "dtype float32 or float64"
        )
        raise TypeError(f"{name} must have {wanted}, got {value.dtype}")
    if ndim is not None and value.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension{'s' * (ndim > 1)}, got {value.ndim}")
    if not (value.flags.c_contiguous or (any_order and value.flags.f_contiguous)):
        raise ValueError(
            f"{name} must be {'contiguous' if any_float else 'C-contiguous'} to be changed in "
            f"place, got strides {value.strides}"
        )
    if not value.flags.writeable:
        raise ValueError(f"{name} must be writeable to be changed in place, got a read-only array")
    if not value.flags.aligned:
        raise ValueError(f"{name} must be aligned to be changed in place, got another")
    return value


def as_out(out: object, shape: tuple[int, ...], dtype: np.dtype[Any], *others: object) -> Array:
    """A caller's output array, or a new one."""
    if out is None:
        return np.empty(shape, dtype)
    array = as_writable("out", out, len(shape))
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"out must have shape {shape} and dtype {dtype}, got {array.shape} and {array.dtype}"
        )
    if any(isinstance(o, np.ndarray) and np.may_share_memory(array, o) for o in others):
        raise ValueError("out must not overlap the inputs, got an array that does")
    return array


def as_seed(rng: object) -> int:
    """A 64-bit seed from None (fresh), an integer, or a numpy.random.Generator (one draw of it)."""
    if type(rng) is int and 0 <= rng < 1 << 64:
        return rng
    if rng is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(0, 1 << 63, dtype=np.int64))
    try:
        seed = operator.index(None if isinstance(rng, bool) else rng)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"rng must be None, an integer or a numpy.random.Generator, got {describe(rng)}"
        ) from None
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"rng must be in [0, 2**64), got {describe(seed)}")
    return seed


def as_floats(name: str, array: Array) -> Array:
    """Contiguous in C or Fortran order, floats of up to 64 bits; integers become float64."""
    half = is_half(array.dtype)
    if array.dtype.kind != "f" and not half:
        array = cast(array, FLOAT64)
    if array.dtype not in REALS and not half:
        if array.dtype.itemsize > 8:
            raise TypeError(
                f"{name} must have dtype float16, float32 or float64, got {array.dtype}"
            )
        array = array.astype(array.dtype.newbyteorder("="))
    if array.flags.c_contiguous or array.flags.f_contiguous:
        return array
    return np.ascontiguousarray(array)


def as_bytes(array: Array) -> Array:
    """The memory of a contiguous matrix, row by row."""
    rows, cols = array.shape
    return array.reshape(-1).view(np.uint8).reshape(rows, cols * array.dtype.itemsize)


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether this is the dtype of `ml_dtypes.bfloat16`."""
    return dtype.name == "bfloat16" and dtype.itemsize == 2


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether these are floats of 16 bits, which are computed in float32."""
    return dtype == FLOAT16 or is_bfloat16(dtype)


def find_sorted(known: Array, wanted: npt.ArrayLike) -> tuple[Array, Array]:
    """Index of each wanted value in a sorted array, and whether it is there."""
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return at, known[at] == wanted


def draw_labels(counts: Array, draws: Array) -> npt.NDArray[np.int64]:
    """Classes in proportion to their counts, one for each number in [0, 1)."""
    steps = np.cumsum(counts)
    if steps[-1] <= 0:
        steps = np.cumsum(np.ones(len(counts)))
    labels: Array = np.searchsorted(steps, draws * steps[-1], side="right")
    return np.minimum(labels, len(steps) - 1).astype(np.int64, copy=False)
