"""Sparse decision rows of a tree, for scoring sparse examples."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._arrays import (
    FLOAT32,
    INT32,
    INT64,
    Array,
    as_array,
    as_exact,
    as_flag,
    as_float,
    as_integers,
    describe,
)
from ._core import linear as core
from ._storage import load_arrays, save_arrays

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["SparseWeights"]

_UINT16 = np.dtype(np.uint16)
_DTYPES: dict[str, np.dtype[Any]] = {
    "row_ptr": INT64,
    "feature_ptr": INT64,
    "feature": INT32,
    "entry_ptr": INT64,
    "slot": _UINT16,
    "weight": FLOAT32,
    "bias": FLOAT32,
    "temperature": FLOAT32,
}
_KIND = "SparseWeights"
_UINT8 = np.dtype(np.uint8)
_FLOAT16 = np.dtype(np.float16)
_MOST = 255  # of `step` and `size`


def _packed(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays in the compact form of `SparseWeights.to_arrays`."""
    out = {name: arrays[name] for name in ("row_ptr", "feature_ptr", "bias", "temperature")}
    first = arrays["feature_ptr"][:-1][np.diff(arrays["feature_ptr"]) > 0]
    step = np.diff(arrays["feature"], prepend=INT32.type(-1))
    step[first] = arrays["feature"][first] + 1
    for name, rest, values in (
        ("step", "far", step),
        ("size", "many", np.diff(arrays["entry_ptr"]).astype(INT32)),
    ):
        out[name] = np.minimum(values, _MOST).astype(_UINT8)
        out[rest] = values[values >= _MOST]
    narrow = int(np.diff(arrays["row_ptr"]).max(initial=0)) <= 256
    out["slot"] = arrays["slot"].astype(_UINT8) if narrow else arrays["slot"]
    with np.errstate(over="ignore"):
        half = arrays["weight"].astype(_FLOAT16)
    exact = bool((half.astype(FLOAT32) == arrays["weight"]).all())
    out["weight"] = half if exact else arrays["weight"]
    return out


def _unpacked(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """What `_packed` was made of; ValueError if it was not made so."""
    for name in ("size", "far", "many", "feature_ptr", "slot", "weight"):
        if name not in arrays:
            raise ValueError(f"arrays must hold {name} beside step, got {', '.join(arrays)}")
    out = dict(arrays)
    whole = {}
    for name, rest in (("step", "far"), ("size", "many")):
        values = as_exact(name, out.pop(name), _UINT8, copy=False).astype(INT32)
        more = as_exact(rest, out.pop(rest), INT32, copy=False)
        large = values == _MOST
        if int(large.sum()) != len(more):
            raise ValueError(f"{rest} must have {int(large.sum())} entries, got {len(more)}")
        values[large] = more
        whole[name] = values
    step, size = whole["step"].astype(INT64), whole["size"]
    if len(step) != len(size) or (len(size) and int(min(size.min(), step.min())) < 0):
        raise ValueError("step and size must be as many, and not negative, got others")
    feature_ptr = as_exact("feature_ptr", out["feature_ptr"], INT64, copy=False)
    rises = len(feature_ptr) > 0 and not np.any(np.diff(feature_ptr) < 0)
    if not rises or feature_ptr[0] != 0 or feature_ptr[-1] != len(step):
        raise ValueError(f"feature_ptr must rise from 0 to {len(step)}, got another")
    before = np.concatenate([np.zeros(1, INT64), np.cumsum(step)])
    feature = before[1:] - 1 - np.repeat(before[feature_ptr[:-1]], np.diff(feature_ptr))
    if len(feature) and int(feature.max()) >= 1 << 31:
        raise ValueError(f"step must lead to features below 2**31, got {int(feature.max())}")
    out["feature"] = feature.astype(INT32)
    out["entry_ptr"] = np.concatenate([np.zeros(1, INT64), np.cumsum(size, dtype=INT64)])
    for name, small, dtype in (("slot", _UINT8, _UINT16), ("weight", _FLOAT16, FLOAT32)):
        array = as_array(name, out[name])
        out[name] = array.astype(dtype) if array.dtype == small else array
    return out


class SparseWeights:
    """Decision rows (R, D) of a tree with few weights each: what `linear_train` makes.

    Node by node they hold the features that any of its rows uses, and for each feature the rows and
    their weights: 6 bytes a weight. The logit of a row at x is
    ``temperature[depth of its node] * (w·x + bias)``. They take the place of W, with a CSR matrix
    as X and None as b, in `hsoftmax`, `hsoftmax_log_proba`, `hsoftmax_node_log_proba`,
    `hsoftmax_search` and `hsoftmax_sample`. Immutable; pickles and copies.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from cython_sparseops import Hierarchy, linear_train
    >>> X = csr_array(np.eye(4, dtype=np.float32))
    >>> W = linear_train(X, [0, 1, 2, 3], Hierarchy.balanced(4, arity=4))
    >>> W.shape, W.temperatures
    ((4, 4), array([8.], dtype=float32))
    >>> W.prune(10.0).nnz
    0
    """

    __slots__ = ("_arrays", "_compiled", "_features")

    _arrays: dict[str, Array]
    _compiled: Any
    _features: int

    def __init__(self) -> None:
        raise TypeError("SparseWeights must be made by linear_train or SparseWeights.from_arrays")

    @classmethod
    def _from_parts(cls, parts: Any, features: int) -> SparseWeights:
        """The arrays in their order and dtypes; checked by the compiled rows."""
        self = object.__new__(cls)
        self._arrays = {}
        for name, array in zip(_DTYPES, parts, strict=True):
            view = array.view()
            view.flags.writeable = False
            self._arrays[name] = view
        self._features = features
        self._compiled = core.Rows(*self._arrays.values(), features)
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """(R, D)."""
        return len(self._arrays["bias"]), self._features

    @property
    def dtype(self) -> str:
        """``"sparse"``: the weights are float32."""
        return "sparse"

    @property
    def nnz(self) -> int:
        """How many weights are stored, biases not counted."""
        return len(self._arrays["weight"])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self._arrays.values())

    @property
    def temperatures(self) -> npt.NDArray[np.float32]:
        """What multiplies the scores at each depth of the tree, the root first; read-only."""
        return self._arrays["temperature"]

    @property
    def bias(self) -> npt.NDArray[np.float32]:
        """The bias of every row, (R,); read-only."""
        return self._arrays["bias"]

    def __repr__(self) -> str:
        return f"SparseWeights(shape={self.shape}, nnz={self.nnz}, nbytes={self.nbytes})"

    def __reduce__(self) -> tuple[Any, ...]:
        return SparseWeights.from_arrays, (self.to_arrays(),)

    def __getstate__(self) -> dict[str, Array]:
        return self.to_arrays()

    def __setstate__(self, arrays: dict[str, Array]) -> None:
        """What skops calls in place of `__reduce__`: it runs no function that a file names."""
        weights = SparseWeights.from_arrays(arrays)
        for name in self.__slots__:
            setattr(self, name, getattr(weights, name))

    def prune(self, threshold: float, *, dtype: str = "float32") -> SparseWeights:
        """Drop the weights of ``|w| <= threshold``; the biases stay.

        Parameters
        ----------
        threshold : float
        dtype : {"float32", "float16"}, default "float32"
            ``"float16"`` rounds the weights to the nearest numbers of 16 bits: a loss of 0.05 % of
            each at most, after which a compact file needs 2 bytes instead of 4 for it. In memory
            they stay float32, and all that is computed is exact for the weights as they are then.

        Returns
        -------
        SparseWeights

        Raises
        ------
        ValueError
            If the threshold is negative or not finite, the dtype is another, or a weight is too
            large for it.

        Examples
        --------
        >>> from scipy.sparse import csr_array
        >>> from cython_sparseops import Hierarchy, linear_train
        >>> X = csr_array(np.eye(4, dtype=np.float32))
        >>> W = linear_train(X, [0, 1, 2, 3], Hierarchy.balanced(4, arity=4))
        >>> W.prune(0.2).nnz <= W.nnz
        True
        """
        limit = as_float("threshold", threshold)
        if not limit <= float(np.finfo(np.float32).max):
            raise ValueError(f"threshold must be finite and non-negative, got {limit}")
        if dtype not in ("float32", "float16"):
            raise ValueError(f"dtype must be float32 or float16, got {dtype!r}")
        parts = list(core.prune(self._compiled, limit))
        if dtype == "float16":
            with np.errstate(over="ignore"):
                half = parts[5].astype(np.float16)
            if not np.isfinite(half).all():
                raise ValueError(
                    f"dtype must hold every weight, got float16 for {np.abs(parts[5]).max()}"
                )
            parts[5] = half.astype(np.float32)
        return SparseWeights._from_parts(parts, self._features)

    def to_scipy(self) -> csr_array:
        """Give the weights as a SciPy CSR array, without biases and temperatures.

        Returns
        -------
        scipy.sparse.csr_array of float32, shape (R, D)

        Examples
        --------
        >>> from scipy.sparse import csr_array
        >>> from cython_sparseops import Hierarchy, linear_train
        >>> X = csr_array(np.eye(4, dtype=np.float32))
        >>> linear_train(X, [0, 1, 2, 3], Hierarchy.balanced(4, arity=4)).to_scipy().shape
        (4, 4)
        """
        from scipy.sparse import csr_array  # an optional dependency

        weight = self._arrays["weight"]
        return csr_array((weight, (self._lines(1), self._lines(0))), shape=self.shape)

    def _lines(self, axis: int) -> Array:
        """The column (axis 0) or row (axis 1) of every weight."""
        a = self._arrays
        sizes = np.diff(a["entry_ptr"])
        if axis == 0:
            return np.repeat(a["feature"], sizes).astype(np.int64)
        first_row = np.repeat(a["row_ptr"][:-1], np.diff(a["feature_ptr"]))  # of a feature's node
        return np.repeat(first_row, sizes) + a["slot"]

    def to_arrays(self, *, compact: bool = False) -> dict[str, Array]:
        """Give the arrays to save.

        Parameters
        ----------
        compact : bool, default False
            The same weights in fewer bytes, which must be unpacked before they can be used.

        Returns
        -------
        dict of str to ndarray
            ``row_ptr``, ``feature_ptr``, ``entry_ptr`` (int64), ``feature`` (int32), ``slot``
            (uint16), ``weight``, ``bias``, ``temperature`` (float32), read-only, and ``shape``
            (int64). Compact: ``step`` and ``size`` (uint8), ``far`` and ``many`` (int32) instead of
            ``feature`` and ``entry_ptr``; ``slot`` as uint8 where no node has more than 256 rows,
            ``weight`` as float16 where that loses nothing.

        Notes
        -----
        Node v owns the rows ``row_ptr[v]:row_ptr[v+1]`` and uses the features
        ``feature[feature_ptr[v]:feature_ptr[v+1]]``; feature number f of that list has the entries
        ``entry_ptr[f]:entry_ptr[f+1]`` of `slot`, which row of the node, and `weight`.

        `step` is how far a feature lies from the one before it in its node, the first from -1, and
        `size` how many weights it has. What is 255 or more is 255 there, and the next number of
        `far` and of `many`.

        Examples
        --------
        >>> from scipy.sparse import csr_array
        >>> from cython_sparseops import Hierarchy, linear_train
        >>> X = csr_array(np.eye(4, dtype=np.float32))
        >>> W = linear_train(X, [0, 1, 2, 3], Hierarchy.balanced(4, arity=4))
        >>> W.to_arrays()["row_ptr"]
        array([0, 4])
        """
        shape = np.array(self.shape, INT64)
        if as_flag("compact", compact):
            return {**_packed(self._arrays), "shape": shape}
        return {**self._arrays, "shape": shape}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> SparseWeights:
        """Make weights of what `to_arrays` gave, checking everything; mapped arrays stay so.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            Nobody may change them as long as the weights live.

        Returns
        -------
        SparseWeights

        Raises
        ------
        ValueError
            If an array is missing, has another dtype, or the arrays do not fit each other.

        Examples
        --------
        >>> from scipy.sparse import csr_array
        >>> from cython_sparseops import Hierarchy, linear_train
        >>> X = csr_array(np.eye(4, dtype=np.float32))
        >>> W = linear_train(X, [0, 1, 2, 3], Hierarchy.balanced(4, arity=4))
        >>> SparseWeights.from_arrays(W.to_arrays()).nnz == W.nnz
        True
        """
        if not isinstance(arrays, Mapping):
            raise TypeError(f"arrays must be a dict of arrays, got {describe(arrays)}")
        if "step" in arrays:
            arrays = _unpacked(arrays)
        for name in (*_DTYPES, "shape"):
            if name not in arrays:
                raise ValueError(
                    f"arrays must hold {name}, got {', '.join(map(str, arrays)) or 'none'}"
                )
        shape = as_integers("shape", arrays["shape"])
        if len(shape) != 2 or not 0 <= shape[1] < 1 << 31:
            raise ValueError(
                f"shape must be two lengths below 2**31, got {describe(shape.tolist())}"
            )
        parts = [as_exact(name, arrays[name], dtype, copy=False) for name, dtype in _DTYPES.items()]
        if shape[0] != len(parts[6]):
            raise ValueError(f"shape must begin with {len(parts[6])} rows, got {shape[0]}")
        return cls._from_parts(parts, int(shape[1]))

    def save(self, path: str | os.PathLike[str], *, compact: bool = False) -> None:
        """Write the weights to a file that `load` can memory-map.

        Parameters
        ----------
        path : str or path-like
            Replaced in one step, if it exists.
        compact : bool, default False
            A smaller file of the same weights, about half as large. It is unpacked when it is
            loaded, so that processes share nothing.

        Raises
        ------
        OSError
            If it cannot be written.

        Examples
        --------
        >>> from scipy.sparse import csr_array
        >>> from cython_sparseops import Hierarchy, linear_train
        >>> X = csr_array(np.eye(4, dtype=np.float32))
        >>> linear_train(X, [0, 1, 2, 3], Hierarchy.balanced(4, arity=4)).save("weights.sops")
        """
        save_arrays(path, self.to_arrays(compact=compact), {"kind": _KIND})

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = True) -> SparseWeights:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path-like
        mmap : bool, default True
            Map the arrays instead of reading them: processes share them.

        Returns
        -------
        SparseWeights

        Raises
        ------
        ValueError
            If the file is damaged or holds something else.
        OSError
            If it cannot be read.

        Examples
        --------
        >>> from scipy.sparse import csr_array
        >>> from cython_sparseops import Hierarchy, linear_train
        >>> X = csr_array(np.eye(4, dtype=np.float32))
        >>> linear_train(X, [0, 1, 2, 3], Hierarchy.balanced(4, arity=4)).save("weights.sops")
        >>> SparseWeights.load("weights.sops").shape
        (4, 4)
        """
        arrays, metadata = load_arrays(path, mmap=mmap)
        if metadata.get("kind") != _KIND:
            raise ValueError(f"path must hold SparseWeights, got {os.fspath(path)!s}")
        try:
            return cls.from_arrays(arrays)
        except ValueError as error:
            raise ValueError(
                f"path must hold valid SparseWeights, got {os.fspath(path)!s}: {error}"
            ) from error
