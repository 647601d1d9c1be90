"""Decision rows in a quarter or half of the memory, for scoring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import (
    BFLOAT16_BITS,
    FLOAT32,
    Array,
    Weights,
    aligned_empty,
    as_array,
    as_bytes,
    as_integers,
    as_real,
    cast,
    describe,
    is_bfloat16,
    is_one_of,
    require_finite,
)
from ._core import quantize as core
from ._hierarchy import Hierarchy
from ._hsoftmax import hsoftmax
from ._runtime import resolve_threads
from ._search import hsoftmax_search

__all__ = ["QuantizeReport", "QuantizedWeights", "quantize"]

# How each kind is stored.
_STORED: dict[str, np.dtype[Any]] = {
    "int8": np.dtype(np.int8),
    "bfloat16": BFLOAT16_BITS,
    "float16": np.dtype(np.float16),
}
_BLOCK = 4096  # rows that are checked at a time
_EXPONENT = 0x7F80  # bits of bfloat16: all set in NaN and infinity
_KIND = {dtype: kind for kind, dtype in _STORED.items()}


class QuantizeReport(NamedTuple):
    """What `QuantizedWeights.evaluate` returns; means over the rows given, NaN without rows.

    Attributes
    ----------
    nll_change : float
        How much the mean loss rises, in nats.
    p_at_1_change : float
        How much P@1, a fraction, rises.
    nll, nll_reference : float
        Mean loss with quantized weights and with the reference, in nats.
    p_at_1, p_at_1_reference : float
        Share of rows whose label is the likeliest class.

    Examples
    --------
    >>> W, h = np.array([[3.0]]), Hierarchy.balanced(2)
    >>> quantize(W).evaluate([[1.0], [-1.0]], [1, 0], h, reference=W).p_at_1
    1.0
    """

    nll_change: float
    p_at_1_change: float
    nll: float
    nll_reference: float
    p_at_1: float
    p_at_1_reference: float


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _blocks(array: Array) -> Iterator[Array]:
    """Rows by the thousands: what is computed of them stays small."""
    return (array[start : start + _BLOCK] for start in range(0, len(array), _BLOCK))


class QuantizedWeights:
    """Decision rows (R, D) as int8 with a scale per row, bfloat16 or float16, from `quantize`.

    They take the place of W in `hsoftmax`, `hsoftmax_log_proba`, `hsoftmax_node_log_proba`,
    `hsoftmax_sample` and `hsoftmax_search`, where X and b are then taken as float32; those of
    bfloat16 and float16 also in `hsoftmax_gradient` and `hsoftmax_update`. The update changes them
    where they lie; nothing else does. Pickles and copies.

    Parameters
    ----------
    data : ndarray of shape (R, D), int8, bfloat16 (ml_dtypes, or its bits in int16) or float16
    scale : array_like of shape (R,), or None
        Of each row, for int8 alone.

    Raises
    ------
    ValueError
        If the arrays do not fit each other, or are not finite.

    Examples
    --------
    >>> w = QuantizedWeights(np.array([[1, -2]], np.int8), [0.5])
    >>> w.dtype, w.shape, w.nbytes
    ('int8', (1, 2), 6)
    >>> w.dequantize()
    array([[ 0.5, -1. ]], dtype=float32)
    """

    __slots__ = ("_compiled", "_data", "_memory", "_scale")

    def __init__(self, data: Array, scale: Array | None = None) -> None:
        stored = as_array("data", data, bfloat16=True)
        if is_bfloat16(stored.dtype):
            stored = stored.view(np.int16)
        if stored.ndim != 2 or stored.dtype not in _KIND:
            raise ValueError(
                "data must be a matrix of int8, int16 (bits of bfloat16) or float16, "
                f"got {stored.dtype} of {stored.ndim} dimensions"
            )
        kind = _KIND[stored.dtype]
        stored = np.ascontiguousarray(stored)
        if (scale is None) == (kind == "int8"):
            wants = "an array for int8" if kind == "int8" else f"None for {kind}"
            raise ValueError(f"scale must be {wants}, got {describe(scale)}")
        if scale is not None:
            scale = cast(as_real("scale", scale, 1), FLOAT32)
            if scale.shape[0] != stored.shape[0]:
                raise ValueError(f"scale must have {stored.shape[0]} entries, got {scale.shape[0]}")
            require_finite("scale", scale)
        elif kind == "float16":
            require_finite("data", stored)
        elif any(((part & _EXPONENT) == _EXPONENT).any() for part in _blocks(stored)):
            raise ValueError("data must be finite, got bits of nan or inf")
        self._data, self._scale = _read_only(stored), None if scale is None else _read_only(scale)
        self._memory = stored  # what `hsoftmax_update` changes, if it may
        self._compiled = core.Quantized(
            kind, as_bytes(self._data), self._data.shape[1], self._scale
        )

    @property
    def dtype(self) -> str:
        """``"int8"``, ``"bfloat16"`` or ``"float16"``."""
        return _KIND[self._data.dtype]

    @property
    def shape(self) -> tuple[int, int]:
        """(R, D)."""
        return self._data.shape

    @property
    def nbytes(self) -> int:
        """Bytes of the rows and their scales."""
        return self._data.nbytes + (0 if self._scale is None else self._scale.nbytes)

    def __repr__(self) -> str:
        return f"QuantizedWeights({self.dtype}, shape={self.shape}, nbytes={self.nbytes})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Not `_data`: pickles of protocol 5, Python 3.14's default, keep whether it may be changed.
        return QuantizedWeights, (self._memory, self._scale)

    def __copy__(self) -> QuantizedWeights:
        return QuantizedWeights(self._data.copy(), self._scale)

    def dequantize(self, *, num_threads: int | None = None) -> npt.NDArray[np.float32]:
        """Return the float32 matrix that the stored rows stand for, exactly.

        Parameters
        ----------
        num_threads : int, optional

        Returns
        -------
        ndarray of float32, shape (R, D)

        Examples
        --------
        >>> quantize([[1.0, -127.0]], "int8").dequantize()
        array([[   1., -127.]], dtype=float32)
        """
        out = aligned_empty(self.shape, FLOAT32)
        core.dequantize(self._compiled, out, resolve_threads(num_threads))
        return out

    def to_arrays(self) -> dict[str, Array]:
        """Return the arrays to save: data, and scale for int8; bfloat16 as its bits in int16.

        Returns
        -------
        dict of str to ndarray
            Read-only views, as `save_arrays` takes them.

        Examples
        --------
        >>> {name: a.dtype.name for name, a in quantize([[1.0, 2.0]], "int8").to_arrays().items()}
        {'data': 'int8', 'scale': 'float32'}
        """
        return {"data": self._data} | ({} if self._scale is None else {"scale": self._scale})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> QuantizedWeights:
        """Build weights of what `to_arrays` returned, without a copy: memory-mapped arrays stay so.

        Parameters
        ----------
        arrays : mapping of str to ndarray

        Returns
        -------
        QuantizedWeights

        Raises
        ------
        ValueError
            If the arrays do not fit each other, or are not finite.

        Examples
        --------
        >>> w = quantize([[1.0, 2.0]], "bfloat16")
        >>> QuantizedWeights.from_arrays(w.to_arrays()).dequantize()
        array([[1., 2.]], dtype=float32)
        """
        if not isinstance(arrays, Mapping) or "data" not in arrays:
            raise ValueError(f"arrays must have data, got {describe(arrays)}")
        return cls(arrays["data"], arrays.get("scale"))

    def evaluate(
        self,
        X: npt.ArrayLike,
        labels: npt.ArrayLike,
        h: Hierarchy,
        *,
        b: npt.ArrayLike | None = None,
        reference: npt.ArrayLike | Weights,
        num_threads: int | None = None,
    ) -> QuantizeReport:
        """Measure what quantizing costs on your rows.

        Parameters
        ----------
        X : array_like of shape (N, D)
            Inputs.
        labels : array_like of int, shape (N,)
            Classes in ``[0, C)``.
        h : Hierarchy
            The tree of the rows.
        b : array_like of shape (R,), optional
            Biases.
        reference : array_like of shape (R, D), or QuantizedWeights
            What to compare with: the W that was quantized.
        num_threads : int, optional

        Returns
        -------
        QuantizeReport

        Raises
        ------
        ValueError, TypeError
            As for `hsoftmax`.

        Examples
        --------
        >>> W = np.array([[3.0], [0.01], [1.0]])
        >>> h, X = Hierarchy.balanced(4), np.ones((2, 1))
        >>> quantize(W, "int8").evaluate(X, [3, 3], h, reference=W).p_at_1_change
        0.0
        """
        wanted = as_integers("labels", labels)
        nll, right = [], []
        for weights in (self, reference):
            loss = hsoftmax(X, weights, b, wanted, h, num_threads=num_threads)
            top = hsoftmax_search(X, weights, b, h, num_threads=num_threads).classes
            rows = len(wanted) or np.nan
            nll.append(float(np.sum(loss, dtype=np.float64) / rows))
            right.append(float(np.sum(top[:, 0] == wanted) / rows))
        return QuantizeReport(nll[0] - nll[1], right[0] - right[1], *nll, *right)


def quantize(
    W: npt.ArrayLike, dtype: str = "int8", *, num_threads: int | None = None
) -> QuantizedWeights:
    """Round decision rows to int8, bfloat16 or float16.

    Parameters
    ----------
    W : array_like of shape (R, D)
        Finite; taken as float32. Of bfloat16 (ml_dtypes), kind bfloat16 keeps every bit.
    dtype : {"int8", "bfloat16", "float16"}
        int8: a scale per row, the largest ``|w|`` / 127, but at least 1e-30 / 127; a quarter of
        float32's memory. The others take half; float16 keeps 11 bits of numbers up to 65504,
        bfloat16 8 bits of any size.
    num_threads : int, optional

    Returns
    -------
    QuantizedWeights

    Raises
    ------
    ValueError
        If W is not finite, too large for float16, or the dtype is another.
    TypeError
        If W has no real dtype.

    Notes
    -----
    Rounded to nearest, ties to even. Products with half precision rows are the bytes of the float32
    product with `QuantizedWeights.dequantize`. For int8 each row of X is rounded to 16-bit steps of
    its largest ``|x|`` (fewer from D = 513 on, so that sums fit in int32), products are summed in
    int32, exactly, and scaled once: the same logits on every instruction set.

    References
    ----------
    Jacob et al., "Quantization and training of neural networks for efficient
    integer-arithmetic-only inference", 2018.

    Examples
    --------
    >>> W = np.random.default_rng(0).standard_normal((3, 128), np.float32)
    >>> quantize(W, "int8")
    QuantizedWeights(int8, shape=(3, 128), nbytes=396)
    >>> h, X = Hierarchy.balanced(4), np.ones((1, 128), np.float32)
    >>> hsoftmax_search(X, quantize(W, "int8"), None, h).classes
    array([[1]])
    """
    if not is_one_of(dtype, _STORED):
        raise ValueError(f"dtype must be one of {', '.join(_STORED)}, got {describe(dtype)}")
    w = cast(as_real("W", W, 2), FLOAT32)
    data = aligned_empty(w.shape, _STORED[dtype])
    scale = np.empty(len(w), FLOAT32) if dtype == "int8" else None
    core.quantize(w, dtype, as_bytes(data), scale, resolve_threads(num_threads))
    return QuantizedWeights(data, scale)
