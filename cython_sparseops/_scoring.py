"""X, W and b of the operators that only score: W of any kind, and the X that goes with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._arrays import (
    FLOAT32,
    INT64,
    Array,
    as_array,
    as_bytes,
    as_flag,
    as_inputs,
    as_real,
    as_writable,
    cast,
    describe,
    is_bfloat16,
    is_half,
    is_weights,
)
from ._core.hsoftmax import SparseExamples
from ._core.linear import Rows
from ._core.ndarray import are_ready
from ._core.quantize import HalfRows, Quantized
from ._hierarchy import Hierarchy, as_tree
from ._sparse import Compressed, as_csr, is_sparse


def as_scored_inputs(X: Any, W: object, b: object) -> tuple[Any, Any, Array | None]:
    """As `as_inputs`; `Weights` become their compiled rows, with X and b in float32.

    An array of bfloat16 is such weights, of its own memory where that is contiguous. With sparse
    rows X becomes compiled CSR rows, and b must be None.
    """
    if are_ready(X, W, b):
        return X, W, b  # type: ignore[return-value]
    compiled = W._compiled if is_weights(W) else _bfloat16_rows(W)
    if compiled is None:
        _require_dense(X)
        return as_inputs(X, W, b)
    if isinstance(compiled, Rows):
        if b is not None:
            raise ValueError(
                f"b must be None with SparseWeights, which hold the biases, got {describe(b)}"
            )
        return as_examples(X), compiled, None
    _require_dense(X)
    x = cast(as_real("X", X, 2), FLOAT32)
    bias = None if b is None else cast(as_real("b", b, 1), FLOAT32)
    return x, compiled, bias


def _bfloat16_rows(W: object) -> Quantized | None:
    """The compiled rows of an array of bfloat16; None for another."""
    dtype = getattr(W, "dtype", None)
    if not (isinstance(dtype, np.dtype) and is_bfloat16(dtype)):
        return None
    w = as_array("W", W, bfloat16=True)
    if w.ndim != 2:
        raise ValueError(f"W must have 2 dimensions, got {w.ndim}")
    return Quantized("bfloat16", as_bytes(np.ascontiguousarray(w)), w.shape[1], None)


def as_differentiable_inputs(X: Any, W: object, b: object) -> tuple[Any, Any, Array | None]:
    """As `as_scored_inputs`, of weights that have a gradient: floats, of 16 bits too."""
    if is_weights(W) and W.dtype not in ("bfloat16", "float16"):
        return as_inputs(X, W, b)  # refuses them
    return as_scored_inputs(X, W, b)


def as_half_rows(W: object) -> tuple[Array, HalfRows] | None:
    """Rows of 16 bits that are to be changed in place: their memory, and they compiled.

    None for arrays of another dtype.
    """
    if is_weights(W):
        memory = getattr(W, "_memory", None)
        if W.dtype not in ("bfloat16", "float16") or not isinstance(memory, np.ndarray):
            raise TypeError(
                "W must be a float array or weights of bfloat16 or float16 to be changed, "
                f"got {W.dtype} weights"
            )
        if not memory.flags.writeable:
            raise ValueError(
                "W must be writeable to be changed in place, got read-only weights "
                "(copy.copy(W) has memory of its own)"
            )
        return memory, HalfRows(W.dtype, as_bytes(memory), memory.shape[1])
    if not (isinstance(W, np.ndarray) and is_half(W.dtype)):
        return None
    array = as_writable("W", W, 2, any_float=True)
    kind = "bfloat16" if is_bfloat16(array.dtype) else "float16"
    return array, HalfRows(kind, as_bytes(array), array.shape[1])


def as_examples(X: Any) -> SparseExamples:
    """The compiled rows of a sparse or dense X in float32; those that are made stay as they are."""
    if isinstance(X, SparseExamples):
        return X
    parts = as_csr("X", X, FLOAT32) if is_sparse(X) else _csr_of_dense(X)
    return SparseExamples(*parts[:3], parts.shape)


def _require_dense(X: Any) -> None:
    if type(X) is not np.ndarray and is_sparse(X):
        raise TypeError(
            f"X must be a dense array, got a sparse matrix ({X.format!s:.20}): "
            "W must be SparseWeights for one, or X.toarray() is dense"
        )


def _csr_of_dense(X: object) -> Compressed:
    x = cast(as_real("X", X, 2), FLOAT32)
    rows, cols = np.nonzero(x)  # NaN is not 0
    indptr = np.searchsorted(rows, np.arange(len(x) + 1))
    return Compressed(indptr.astype(INT64), cols.astype(INT64), x[rows, cols], x.shape, "csr")


def as_scoring(
    X: object, W: object, b: object, h: Hierarchy, check_finite: object
) -> tuple[Any, Any, Any, Array | None, bool]:
    """The first arguments of every compiled function that scores X: tree, X, W, b, check."""
    x, w, bias = as_scored_inputs(X, W, b)
    return as_tree(h), x, w, bias, as_flag("check_finite", check_finite)
