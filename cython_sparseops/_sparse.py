"""Compressed sparse matrices, in and out: any object with indptr, indices, data, shape, format."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, Protocol, TypeGuard, TypeVar

import numpy as np
import numpy.typing as npt

from ._arrays import (
    INT32,
    INT64,
    Array,
    as_array,
    as_integer,
    as_labels,
    as_real,
    as_writable,
    cast,
    describe,
    is_one_of,
)


class SparseMatrix(Protocol):
    """A CSR or CSC matrix, such as SciPy's."""

    @property
    def indptr(self) -> npt.ArrayLike: ...

    @property
    def indices(self) -> npt.ArrayLike: ...

    @property
    def data(self) -> npt.ArrayLike: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def format(self) -> str: ...


_PARTS = ("indptr", "indices", "data", "shape", "format")
AnySparse = TypeVar("AnySparse", bound=SparseMatrix)


class Compressed(NamedTuple):
    """The parts of a CSR or CSC matrix."""

    indptr: Array
    indices: Array
    data: Array
    shape: tuple[int, int]
    format: str


def is_sparse(value: object) -> TypeGuard[SparseMatrix]:
    """Whether `value` is a sparse matrix: compressed, or of a format to be refused by its name."""
    return all(hasattr(value, name) for name in _PARTS) or (
        isinstance(getattr(value, "format", None), str) and hasattr(value, "nnz")
    )


def as_csr(name: str, value: Any, dtype: np.dtype[Any] | None) -> Compressed:
    """A CSR matrix's parts: indices of one width (int32 or int64), data of this dtype.

    None keeps float32 and float64. A row that has one dimension, as iterating over SciPy's arrays
    gives, is a matrix of one row.
    """
    parts = as_compressed(name, value, formats=("csr",), one_row=True)
    data = as_real(f"{name}.data", parts.data, 1)
    return parts._replace(data=data if dtype is None else cast(data, dtype))


def like_csr(
    matrix: Any, indptr: Array, indices: Array, data: Array, shape: tuple[int, int]
) -> Any:
    """These arrays as a CSR matrix of the type of `matrix`, or their parts if it is not SciPy's."""
    kind = type(matrix)
    if kind.__module__.partition(".")[0] == "scipy":
        return kind((data, indices, indptr), shape=shape)
    return Compressed(indptr, indices, data, shape, "csr")


def as_scipy(parts: Compressed) -> Any:
    """A CSR matrix of SciPy, or the parts themselves where SciPy is missing."""
    try:
        from scipy.sparse import csr_matrix
    except ImportError:
        return parts
    return csr_matrix((parts.data, parts.indices, parts.indptr), shape=parts.shape)


_NO_PTR = np.empty(0, np.int64)


def as_class_lists(labels: Any, n: int, n_classes: int) -> tuple[Array, Array]:
    """Where each of n rows has its classes, and the classes; the first is empty for one a row.

    The values are checked by the operator.
    """
    if not is_sparse(labels):
        return _NO_PTR, as_labels(labels, n)
    parts = as_stored("labels", as_compressed("labels", labels, formats=("csr",)))
    if parts.shape != (n, n_classes):
        raise ValueError(f"labels must have shape ({n}, {n_classes}), got {parts.shape}")
    values = as_array("labels.data", parts.data)
    if not np.isin(values, (0, 1)).all():
        at = int(np.flatnonzero(~np.isin(values, (0, 1)))[0])
        raise ValueError(f"labels.data must be 0 or 1, got {values[at]} at index {at}")
    kept = values != 0
    ptr = np.concatenate([[0], np.cumsum(kept)])[parts.indptr].astype(INT64)
    return ptr, parts.indices[kept].astype(INT64)


def as_compressed(
    name: str,
    value: Any,
    *,
    formats: tuple[str, ...] = ("csr", "csc"),
    in_place: bool = False,
    one_row: bool = False,
) -> Compressed:
    """A CSR or CSC matrix's parts: indices of one width, data in the dtype it has.

    Every attribute is looked at once: what was checked is what is used.
    """
    found = getattr(value, "format", type(value).__name__)
    if not all(hasattr(value, part) for part in _PARTS) or not is_one_of(found, formats):
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
        data = as_writable(f"{name}.data", value.data, any_float=True)
        if np.may_share_memory(data, indices) or np.may_share_memory(data, indptr):
            raise ValueError(f"{name}.data must not overlap the indices, got an array that does")
    else:
        data = as_array(f"{name}.data", value.data, bfloat16=True)
    shape = value.shape
    try:
        rows, cols = (1, *shape) if one_row and len(shape) == 1 else shape
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


def summed(csr: Compressed) -> Compressed:
    """The same matrix with sorted indices, the values of repeated ones added up."""
    rows = np.repeat(np.arange(csr.shape[0]), np.diff(csr.indptr))
    order = np.lexsort((csr.indices, rows))
    rows, indices = rows[order], csr.indices[order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = (rows[1:] != rows[:-1]) | (indices[1:] != indices[:-1])
    data = np.zeros(int(fresh.sum()), csr.data.dtype)
    np.add.at(data, np.cumsum(fresh) - 1, csr.data[order])
    lengths = np.bincount(rows[fresh], minlength=csr.shape[0])
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(csr.indptr.dtype)
    return csr._replace(indptr=indptr, indices=indices[fresh], data=data)


def with_parts(matrix: Any, **parts: Array) -> Any:
    """A matrix like `matrix`, of the same type, with other arrays in it."""
    result = copy.copy(matrix)
    try:
        for part, array in parts.items():
            setattr(result, part, array)
    except AttributeError:
        return matrix._replace(**parts)
    return result
