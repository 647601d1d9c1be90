"""Hierarchical softmax: loss, gradient, distributions, samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import (
    FLOAT32,
    FLOAT64,
    KEY,
    Array,
    aligned_empty,
    as_flag,
    as_float,
    as_inputs,
    as_integer,
    as_integers,
    as_real,
    as_scored_inputs,
    as_seed,
    as_vector,
    as_weight,
    cast,
    describe,
)
from ._core import hsoftmax as core
from ._hierarchy import Hierarchy
from ._runtime import resolve_threads

if TYPE_CHECKING:
    from ._quantize import QuantizedWeights

__all__ = [
    "HSoftmaxGradient",
    "HSoftmaxLoss",
    "estimate_memory",
    "hsoftmax",
    "hsoftmax_gradient",
    "init_weights",
]

_LOSS = {dtype: core.hsoftmax[KEY[dtype]] for dtype in (FLOAT32, FLOAT64)}
_GRADIENT = {dtype: core.gradient[KEY[dtype]] for dtype in (FLOAT32, FLOAT64)}


class HSoftmaxLoss(NamedTuple):
    """What `hsoftmax` returns with return_residuals.

    Attributes
    ----------
    nll : ndarray of shape (N,)
        Losses, in nats.
    residuals : ndarray of shape (logits,)
        The logits of every step, for `hsoftmax_gradient`.

    Examples
    --------
    >>> X, W, h = np.ones((1, 2)), np.zeros((3, 2)), Hierarchy.balanced(4)
    >>> loss = hsoftmax(X, W, None, [2], h, return_residuals=True)
    >>> loss.residuals
    array([0., 0.])
    """

    nll: Array
    residuals: Array


class HSoftmaxGradient(NamedTuple):
    """What `hsoftmax_gradient` returns; T rows of W were touched.

    Attributes
    ----------
    nll : ndarray of shape (N,)
        Losses, in nats.
    X : ndarray of shape (N, D)
    rows : ndarray of int64, shape (T,), or None
        The touched rows, ascending; None if the gradient is dense.
    W : ndarray of shape (T, D), dense (R, D)
    b : ndarray of shape (T,), dense (R,)

    Examples
    --------
    >>> X, W, h = np.ones((1, 2)), np.zeros((3, 2)), Hierarchy.balanced(4)
    >>> g = hsoftmax_gradient(X, W, None, [2], h)
    >>> W[g.rows] -= 0.1 * g.W
    >>> g.rows
    array([0, 2])
    """

    nll: Array
    X: Array
    rows: npt.NDArray[np.int64] | None
    W: Array
    b: Array


def as_tree(h: object) -> Any:
    """The compiled tree of a Hierarchy."""
    if isinstance(h, Hierarchy) and (tree := getattr(h, "_tree", None)) is not None:
        return tree
    raise TypeError(f"h must be a Hierarchy, got {describe(h)}")


def as_labels(labels: object, n: int) -> npt.NDArray[np.int64]:
    """One label for each of n rows of X; their values are checked by the operator."""
    y = as_integers("labels", labels)
    if len(y) != n:
        raise ValueError(f"labels must have one entry a row of X, {n}, got {len(y)}")
    return y


def as_ignored(ignore_index: object) -> int | None:
    """A label, or None."""
    return None if ignore_index is None else as_integer("ignore_index", ignore_index)


def hsoftmax(
    X: npt.ArrayLike,
    W: npt.ArrayLike | QuantizedWeights,
    b: npt.ArrayLike | None,
    labels: npt.ArrayLike,
    h: Hierarchy,
    *,
    sample_weight: npt.ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    return_residuals: bool = False,
    check_finite: bool = True,
    num_threads: int | None = None,
) -> Array | HSoftmaxLoss:
    """Negative log-likelihood of the labels under the tree.

    Parameters
    ----------
    X : array_like of shape (N, D), float32 or float64
        Inputs.
    W : array_like of shape (R, D), or QuantizedWeights
        Decision rows, ``h.n_rows`` of them. With quantised ones X and b are taken as float32.
    b : array_like of shape (R,), or None
        Biases.
    labels : array_like of int, shape (N,)
        Classes in ``[0, C)``.
    h : Hierarchy
        The tree of the C classes, with R rows.
    sample_weight : array_like of shape (N,), optional
        Multiplies the loss of each row; finite.
    ignore_index : int, optional
        Rows with this label have loss 0.
    label_smoothing : float, default 0
        e in [0, 1): the target at a node is ``(1 - e) onehot + e / children``.
    return_residuals : bool, default False
        Return the logits too, for `hsoftmax_gradient` on the same input.
    check_finite : bool, default True
        Refuse NaN and infinity; False lets them through to the result.
    num_threads : int, optional
        Never changes a bit of the result.

    Returns
    -------
    nll : ndarray of shape (N,)
        In nats, of X's dtype; or `HSoftmaxLoss` with return_residuals.

    Raises
    ------
    ValueError
        If a label is out of range, shapes do not match, or X, W or b are not finite.
    TypeError
        If an array has no real dtype, or labels are not integers.

    Notes
    -----
    ``nll_s = Σ -log P(child | x_s, node)`` over the path to the label, exact: no clamp, no table,
    no cut-off. The path sum is accumulated in double.

    References
    ----------
    Goodman, "Classes for fast maximum entropy training", 2001. Morin and Bengio, "Hierarchical
    probabilistic neural network language model", 2005.

    Examples
    --------
    >>> import numpy as np
    >>> h = Hierarchy.balanced(4)
    >>> hsoftmax(np.ones((2, 3)), np.zeros((3, 3)), None, [0, 3], h) / np.log(2)
    array([2., 2.])
    """
    x, w, bias = as_scored_inputs(X, W, b)
    n = len(x)
    wanted = as_flag("return_residuals", return_residuals)
    nll, kept = _LOSS[x.dtype](
        as_tree(h),
        x,
        w,
        bias,
        as_labels(labels, n),
        as_ignored(ignore_index),
        as_weight("sample_weight", sample_weight, x.dtype, n),
        as_float("label_smoothing", label_smoothing),
        as_flag("check_finite", check_finite),
        wanted,
        resolve_threads(num_threads),
    )
    return HSoftmaxLoss(nll, kept) if wanted else nll


def hsoftmax_gradient(
    X: npt.ArrayLike,
    W: npt.ArrayLike,
    b: npt.ArrayLike | None,
    labels: npt.ArrayLike,
    h: Hierarchy,
    *,
    grad_output: npt.ArrayLike | None = None,
    residuals: npt.ArrayLike | None = None,
    sparse: bool = True,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    check_finite: bool = True,
    num_threads: int | None = None,
) -> HSoftmaxGradient:
    """Loss and gradient of ``Σ grad_output · nll``.

    Parameters
    ----------
    X, W, b, labels, h, ignore_index, label_smoothing, check_finite, num_threads
        As for `hsoftmax`.
    grad_output : array_like of shape (N,), optional
        Upstream gradient of each loss. Default: ones.
    residuals : array_like, optional
        What `hsoftmax` returned for the same X, W, b and labels: saves the dot products; the bytes
        are the same.
    sparse : bool, default True
        Return the touched rows of W and b only; otherwise all R.

    Returns
    -------
    HSoftmaxGradient
        nll (N,), X (N, D), rows (T,) sorted int64, W (T, D), b (T,); dense: rows is None, W (R, D),
        b (R,). A softmax node counts as touched with all its rows.

    Raises
    ------
    ValueError, TypeError
        As for `hsoftmax`.

    Notes
    -----
    For a step with target j: δ = g (σ(z) - j) or g (softmax(z) - onehot(j)); dX += Wᵀ δ, dW += δ
    xᵀ, db += δ. Sums run in an order fixed by the labels and the tree.

    References
    ----------
    Morin and Bengio, "Hierarchical probabilistic neural network language model", 2005.

    Examples
    --------
    >>> import numpy as np
    >>> h = Hierarchy.huffman([5, 2, 1, 1])
    >>> g = hsoftmax_gradient(np.ones((1, 2)), np.zeros((3, 2)), np.zeros(3), [0], h)
    >>> g.rows, g.b
    (array([0]), array([0.5]))
    """
    x, w, bias = as_inputs(X, W, b)
    n = len(x)
    upstream = as_vector("grad_output", grad_output, x.dtype, n)
    check, touched = as_flag("check_finite", check_finite), as_flag("sparse", sparse)
    if upstream is not None and check and not np.isfinite(upstream).all():
        at = int(np.flatnonzero(~np.isfinite(upstream))[0])
        raise ValueError(f"grad_output must be finite, got {upstream[at]} at index {at}")
    kept = None if residuals is None else cast(as_real("residuals", residuals, 1), x.dtype)
    arrays = _GRADIENT[x.dtype](
        as_tree(h),
        x,
        w,
        bias,
        as_labels(labels, n),
        as_ignored(ignore_index),
        upstream,
        as_float("label_smoothing", label_smoothing),
        kept,
        check,
        touched,
        resolve_threads(num_threads),
    )
    gradient = HSoftmaxGradient._make(arrays)
    if kept is not None and check and not np.isfinite(gradient.X).all():  # no logit told of it
        raise ValueError("W must be finite, as it was for the residuals, got nan or inf")
    return gradient


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


def init_weights(
    h: Hierarchy,
    dim: int,
    *,
    dtype: npt.DTypeLike = np.float32,
    rng: int | np.random.Generator | None = None,
) -> tuple[Array, Array]:
    """Make starting weights: W uniform in ±1/sqrt(dim), b zero.

    Parameters
    ----------
    h : Hierarchy
    dim : int
        D, at least 1.
    dtype : float32 or float64
    rng : None, int or numpy.random.Generator
        The seed.

    Returns
    -------
    W : ndarray of shape (R, D)
    b : ndarray of shape (R,)

    Raises
    ------
    ValueError
        If dim < 1.
    TypeError
        If dtype is another.

    Examples
    --------
    >>> W, b = init_weights(Hierarchy.balanced(5), 8, rng=0)
    >>> W.shape, b.shape, W.dtype
    ((4, 8), (4,), dtype('float32'))
    """
    as_tree(h)
    real, width, seed = as_real_dtype(dtype), as_integer("dim", dim, 1), as_seed(rng)
    W = uniform((h.n_rows, width), real, seed, 1 / math.sqrt(width))
    return W, np.zeros(h.n_rows, real)


def uniform(shape: tuple[int, int], dtype: np.dtype[Any], seed: int, bound: float) -> Array:
    """An array on a cache line with numbers uniform in ±bound."""
    generator = np.random.Generator(np.random.Philox(seed))
    out = aligned_empty(shape, dtype)
    rows = max(1, (1 << 15) // max(1, shape[1]))
    for start in range(0, shape[0], rows):  # what is drawn is still in the cache when it is scaled
        part = out[start : start + rows]
        generator.random(out=part, dtype=dtype)
        part -= 0.5
        part *= 2 * bound
    return out


def estimate_memory(
    h: Hierarchy, dim: int, *, dtype: npt.DTypeLike = np.float32, optimizer: object = None
) -> int:
    """Estimate the bytes of a head that is trained: tree, W, b and the optimiser's state.

    They are what stays between steps, once every row was touched. A step needs the logits and rows
    of its batch besides, a sparse gradient one row of D for each row of W that the batch touches.

    Parameters
    ----------
    h : Hierarchy
    dim : int
        D.
    dtype : float32 or float64
    optimizer : SGD, Adagrad or Adam, optional
        Default: no state.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If dim < 1.

    Examples
    --------
    >>> estimate_memory(Hierarchy.balanced(1000), 64) > 999 * 64 * 4
    True
    """
    from ._update import as_optimizer  # which imports this module

    as_tree(h)
    width, item = as_integer("dim", dim, 1), as_real_dtype(dtype).itemsize
    tree = sum(array.nbytes for array in h.to_arrays().values()) + 4 * (h.n_nodes + h.n_classes)
    state = 0
    if optimizer is not None:
        state = as_optimizer(optimizer).state_bytes(h.n_rows, width, item)
    return tree + h.n_rows * (width + 1) * item + state
