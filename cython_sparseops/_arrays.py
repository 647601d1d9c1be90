"""Array-likes to arrays: dtype, shape, contiguity, index width. The only `np.asarray` here."""

from __future__ import annotations

import copy
import math
import operator
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._core.ndarray import are_ready, is_ready
from ._core.quantize import Quantized

Array = npt.NDArray[Any]

FLOAT16 = np.dtype(np.float16)
FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
INT32 = np.dtype(np.int32)
INT64 = np.dtype(np.int64)
_ARRAY = np.ndarray
_READY = 0x101  # bits of flags.num: C-contiguous and aligned
KEY = {
    FLOAT32: "float",
    FLOAT64: "double",
    INT32: "int32_t",
    INT64: "int64_t",
}  # Cython's names of the fused types


def describe(value: object) -> str:
    """A short text of a refused value for an error message, on one line."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a huge integer, or a class whose repr fails
        text = f"a value of {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialised array that starts on a cache line: wide loads from it never straddle two."""
    nbytes = math.prod(shape) * dtype.itemsize
    try:
        block = np.empty(nbytes + 64, np.uint8)
        start = -block.ctypes.data % 64
        return block[start : start + nbytes].view(dtype).reshape(shape)
    except ValueError:  # NumPy's word for more than the address space
        raise MemoryError(f"an array of shape {shape} does not fit") from None


def as_array(name: str, value: object) -> Array:
    """`value` as an ndarray of a numeric dtype."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} must be an array, got {describe(value)}") from error
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must have a real dtype, got {array.dtype}")
    masked = sys.modules.get("numpy.ma")  # imported by whoever has a masked array, not by us
    if masked and isinstance(value, masked.MaskedArray) and masked.is_masked(value):
        raise ValueError(f"{name} must have no masked entries, got some")
    return array if array.flags.aligned else array.copy()


def as_real(name: str, value: object, ndim: int) -> Array:
    """`value` as C-contiguous float32 or float64; float16 becomes float32, integers float64."""
    array: Array = value if type(value) is _ARRAY else as_array(name, value)
    if array.dtype not in (FLOAT32, FLOAT64):
        array = as_array(name, array)
        if array.dtype.kind == "f" and array.dtype.itemsize > 8:
            raise TypeError(f"{name} must have dtype float32 or float64, got {array.dtype}")
        narrow = array.dtype.kind == "f" and array.dtype.itemsize <= 4
        array = array.astype(FLOAT32 if narrow else FLOAT64)
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension{'s' * (ndim > 1)}, got {array.ndim}")
    return array if array.flags.num & _READY == _READY else array.copy(order="C")


def cast(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array in this dtype; what is too large becomes infinity, which is refused later."""
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def as_inputs(X: object, W: object, b: object) -> tuple[Array, Array, Array | None]:
    """X (N, D), W (R, D) and b (R,) of one float dtype, the wider of theirs."""
    if are_ready(X, W, b):
        return X, W, b  # type: ignore[return-value]
    if is_quantized(W):
        raise TypeError(f"W must be a float array here, got {W.dtype} weights")  # type: ignore[attr-defined]
    x, w = as_real("X", X, 2), as_real("W", W, 2)
    bias = None if b is None else as_real("b", b, 1)
    if x.dtype == w.dtype and (bias is None or bias.dtype == x.dtype):
        return x, w, bias
    dtype = np.result_type(x, w) if bias is None else np.result_type(x, w, bias)
    return (
        x.astype(dtype, copy=False),
        w.astype(dtype, copy=False),
        None if bias is None else bias.astype(dtype, copy=False),
    )


def is_quantized(W: object) -> bool:
    """Whether these are `QuantizedWeights`."""
    return type(W) is not _ARRAY and isinstance(getattr(W, "compiled_rows", None), Quantized)


def as_scored_inputs(X: object, W: object, b: object) -> tuple[Array, Any, Array | None]:
    """As `as_inputs`; quantised weights become their compiled rows, with X and b in float32."""
    if not is_quantized(W):
        return as_inputs(X, W, b)
    x = cast(as_real("X", X, 2), FLOAT32)
    bias = None if b is None else cast(as_real("b", b, 1), FLOAT32)
    return x, W.compiled_rows, bias  # type: ignore[attr-defined]


def as_vector(name: str, value: object, dtype: np.dtype[Any], size: int) -> Array | None:
    """None, or a float vector of this length, cast to `dtype`."""
    if value is None:
        return None
    vector = as_real(name, value, 1)
    if vector.shape[0] != size:
        raise ValueError(f"{name} must have {size} entries, got {vector.shape[0]}")
    return cast(vector, dtype)


def as_weight(name: str, value: object, dtype: np.dtype[Any], size: int) -> Array | None:
    """None, or finite non-negative weights."""
    weight = as_vector(name, value, dtype, size)
    if weight is not None:
        refused = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
        if refused.size:
            at = int(refused[0])
            raise ValueError(
                f"{name} must be finite and non-negative, got {weight[at]} at index {at}"
            )
    return weight


def as_integers(name: str, value: object, ndim: int | None = 1) -> npt.NDArray[np.int64]:
    """`value` as a C-contiguous int64 array; floats are refused, not rounded."""
    if ndim == 1 and is_ready(value):
        return value  # type: ignore[return-value]
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
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(array, dtype=FLOAT64)


def as_integer(name: str, value: object, least: int | None = None) -> int:
    """A Python int, not below `least`."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
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
    """An uninitialised result whose last length is the argument `name`."""
    try:
        return np.empty(shape, dtype)
    except ValueError:  # as above
        raise ValueError(f"{name} must be small enough for an array, got {shape[-1]}") from None


def as_writable(name: str, value: object, ndim: int) -> Array:
    """An array that is to be changed in place: nothing is converted."""
    if not isinstance(value, np.ndarray):
        raise TypeError(
            f"{name} must be a NumPy array to be changed in place, got {type(value).__name__}"
        )
    if value.dtype != FLOAT32 and value.dtype != FLOAT64:
        raise TypeError(f"{name} must have dtype float32 or float64, got {value.dtype}")
    if value.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension{'s' * (ndim > 1)}, got {value.ndim}")
    if not value.flags.c_contiguous:
        raise ValueError(
            f"{name} must be C-contiguous to be changed in place, got strides {value.strides}"
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
    if rng is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(0, 1 << 63, dtype=np.int64))
    try:
        seed = operator.index(rng)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"rng must be None, an integer or a numpy.random.Generator, got {describe(rng)}"
        ) from None
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"rng must be in [0, 2**64), got {describe(seed)}")
    return seed


class Compressed(NamedTuple):
    """The parts of a CSR or CSC matrix."""

    indptr: Array
    indices: Array
    data: Array
    shape: tuple[int, int]
    format: str


def is_sparse(value: object) -> bool:
    """Whether `value` has the attributes of a compressed sparse matrix."""
    return all(hasattr(value, name) for name in ("indptr", "indices", "data", "shape", "format"))


def as_csr(name: str, value: Any, dtype: np.dtype[Any]) -> Compressed:
    """A CSR matrix's parts: indices of one width (int32 or int64), data of this dtype."""
    parts = as_compressed(name, value, formats=("csr",))
    return parts._replace(data=cast(as_real(f"{name}.data", parts.data, 1), dtype))


def as_compressed(
    name: str, value: Any, *, formats: tuple[str, ...] = ("csr", "csc"), in_place: bool = False
) -> Compressed:
    """A CSR or CSC matrix's parts: indices of one width, data in the dtype it has.

    Every attribute is looked at once: what was checked is what is used.
    """
    found = getattr(value, "format", type(value).__name__)
    if not is_sparse(value) or not is_one_of(found, formats):
        wanted = " or ".join(formats).upper().replace("OR", "or")
        raise TypeError(
            f"{name} must be a {wanted} matrix, "
            f"got {found if isinstance(found, str) else describe(found)}"
        )
    parts = {
        part: as_array(f"{name}.{part}", getattr(value, part)) for part in ("indptr", "indices")
    }
    for part, array in parts.items():
        if array.dtype.kind not in "iu" or array.ndim != 1:
            raise TypeError(
                f"{name}.{part} must be a vector of integers, "
                f"got {array.dtype} of {array.ndim} dimensions"
            )
    indptr, indices = parts["indptr"], parts["indices"]
    if in_place:
        data = as_writable_floats(f"{name}.data", value.data, any_order=False)
        if np.may_share_memory(data, indices) or np.may_share_memory(data, indptr):
            raise ValueError(f"{name}.data must not overlap the indices, got an array that does")
    else:
        data = as_array(f"{name}.data", value.data)
    shape = value.shape
    try:
        rows, cols = shape
    except (TypeError, ValueError):
        raise TypeError(f"{name}.shape must be two integers, got {describe(shape)}") from None
    rows, cols = as_integer(f"{name}.shape", rows, 0), as_integer(f"{name}.shape", cols, 0)
    segments = rows if found == "csr" else cols
    if indptr.shape[0] != segments + 1:
        raise ValueError(f"{name}.indptr must have {segments + 1} entries, got {indptr.shape[0]}")
    if data.ndim != 1 or indices.shape[0] != data.shape[0]:
        raise ValueError(f"{name}.indices must have {data.size} entries, got {indices.shape[0]}")
    width = INT32 if indptr.dtype == indices.dtype == INT32 else INT64
    return Compressed(
        np.ascontiguousarray(indptr, width),
        np.ascontiguousarray(indices, width),
        data,
        (rows, cols),
        found,
    )


def as_stored(name: str, parts: Compressed) -> Compressed:
    """The parts without the room behind the last entry, for those who walk them in Python."""
    end, steps = int(parts.indptr[-1]), np.diff(parts.indptr)
    if parts.indptr[0] != 0 or not 0 <= end <= len(parts.data) or (steps < 0).any():
        raise ValueError(
            f"{name}.indptr must not decrease, from 0 to at most {len(parts.data)}, got another"
        )
    return parts._replace(indices=parts.indices[:end], data=parts.data[:end])


def as_floats(name: str, array: Array) -> Array:
    """Contiguous in C or Fortran order, float16, float32 or float64; integers become float64."""
    if array.dtype.kind != "f":
        array = array.astype(FLOAT64)
    if array.dtype not in (FLOAT16, FLOAT32, FLOAT64):
        if array.dtype.itemsize > 8:
            raise TypeError(
                f"{name} must have dtype float16, float32 or float64, got {array.dtype}"
            )
        array = array.astype(array.dtype.newbyteorder("="))
    if array.flags.c_contiguous or array.flags.f_contiguous:
        return array
    return np.ascontiguousarray(array)


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether this is the dtype of `ml_dtypes.bfloat16`."""
    return dtype.name == "bfloat16" and dtype.itemsize == 2


def as_writable_floats(name: str, value: object, *, any_order: bool) -> Array:
    """An array of 16, 32 or 64-bit floats to be changed in place: nothing is converted."""
    if not isinstance(value, np.ndarray):
        raise TypeError(
            f"{name} must be a NumPy array to be changed in place, got {type(value).__name__}"
        )
    if value.dtype not in (FLOAT16, FLOAT32, FLOAT64) and not is_bfloat16(value.dtype):
        raise TypeError(
            f"{name} must have a dtype of 16, 32 or 64-bit floats to be changed in place, "
            f"got {value.dtype}"
        )
    if not (value.flags.c_contiguous or (any_order and value.flags.f_contiguous)):
        raise ValueError(
            f"{name} must be contiguous to be changed in place, got strides {value.strides}"
        )
    if not value.flags.writeable:
        raise ValueError(f"{name} must be writeable to be changed in place, got a read-only array")
    if not value.flags.aligned:
        raise ValueError(f"{name} must be aligned to be changed in place, got another")
    return value


def with_parts(matrix: Any, **parts: Array) -> Any:
    """A matrix like `matrix`, of the same type, with other arrays in it."""
    result = copy.copy(matrix)
    try:
        for part, array in parts.items():
            setattr(result, part, array)
    except AttributeError:
        return matrix._replace(**parts)
    return result
