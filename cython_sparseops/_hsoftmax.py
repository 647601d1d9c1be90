"""Hierarchical softmax: loss, gradient, distributions, samples."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, overload

import numpy as np
import numpy.typing as npt

from ._arrays import (
    INT64,
    REALS,
    Array,
    Weights,
    aligned_empty,
    as_flag,
    as_float,
    as_ignored,
    as_integer,
    as_integers,
    as_labels,
    as_out,
    as_real,
    as_real_dtype,
    as_seed,
    as_vector,
    as_weight,
    cast,
    require_finite,
    reserve,
    specialized,
)
from ._core import hsoftmax as core
from ._hierarchy import Hierarchy, as_tree
from ._runtime import resolve_threads
from ._scoring import as_differentiable_inputs, as_scored_inputs, as_scoring
from ._sparse import SparseMatrix

__all__ = [
    "HSoftmaxGradient",
    "HSoftmaxLoss",
    "hsoftmax",
    "hsoftmax_gradient",
    "hsoftmax_log_proba",
    "hsoftmax_node_log_proba",
    "hsoftmax_sample",
    "init_weights",
]

_LOG_PROBA = specialized(core.log_proba, REALS)
_LOG_PROBA_OF = specialized(core.log_proba_of, REALS)
_NODE_LOG_PROBA = specialized(core.node_log_proba, REALS)
_SAMPLE = specialized(core.sample, REALS)


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


class _LossOptions(TypedDict, total=False):
    sample_weight: npt.ArrayLike | None
    ignore_index: int | None
    label_smoothing: float
    check_finite: bool
    num_threads: int | None


@overload
def hsoftmax(
    X: npt.ArrayLike | SparseMatrix,
    W: npt.ArrayLike | Weights,
    b: npt.ArrayLike | None,
    labels: npt.ArrayLike,
    h: Hierarchy,
    *,
    return_residuals: Literal[False] = False,
    **options: Unpack[_LossOptions],
) -> Array: ...


@overload
def hsoftmax(
    X: npt.ArrayLike | SparseMatrix,
    W: npt.ArrayLike | Weights,
    b: npt.ArrayLike | None,
    labels: npt.ArrayLike,
    h: Hierarchy,
    *,
    return_residuals: Literal[True],
    **options: Unpack[_LossOptions],
) -> HSoftmaxLoss: ...


def hsoftmax(
    X: npt.ArrayLike | SparseMatrix,
    W: npt.ArrayLike | Weights,
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
        Inputs; with `SparseWeights` a CSR matrix, such as SciPy's, taken as float32.
    W : array_like of shape (R, D), QuantizedWeights or SparseWeights
        Decision rows, ``h.n_rows`` of them. With quantized ones X and b are taken as float32.
    b : array_like of shape (R,), or None
        Biases. None with `SparseWeights`, which hold them.
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
    at_once: Array | None = core.hsoftmax_at_once(
        X,
        W,
        b,
        labels,
        h,
        sample_weight,
        ignore_index,
        label_smoothing,
        return_residuals,
        check_finite,
        num_threads,
    )
    if at_once is not None:
        return at_once
    x, w, bias = as_scored_inputs(X, W, b)
    n = len(x)
    wanted = as_flag("return_residuals", return_residuals)
    nll, kept = core.hsoftmax(
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
    W: npt.ArrayLike | Weights,
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
        As for `hsoftmax`; of quantized W, bfloat16 and float16, whose gradient is float32.
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
    at_once: HSoftmaxGradient | None = core.gradient_at_once(
        X,
        W,
        b,
        labels,
        h,
        grad_output,
        residuals,
        sparse,
        ignore_index,
        label_smoothing,
        check_finite,
        num_threads,
        HSoftmaxGradient,
    )
    if at_once is not None:
        return at_once
    x, w, bias = as_differentiable_inputs(X, W, b)
    n = len(x)
    check, touched = as_flag("check_finite", check_finite), as_flag("sparse", sparse)
    upstream = None
    if grad_output is not None:
        upstream = as_vector("grad_output", grad_output, x.dtype, n)
        if check:
            require_finite("grad_output", upstream)
    kept = None if residuals is None else cast(as_real("residuals", residuals, 1), x.dtype)
    arrays = core.gradient(
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


def hsoftmax_log_proba(
    X: npt.ArrayLike | SparseMatrix,
    W: npt.ArrayLike | Weights,
    b: npt.ArrayLike | None,
    h: Hierarchy,
    *,
    classes: npt.ArrayLike | None = None,
    out: Array | None = None,
    check_finite: bool = True,
    num_threads: int | None = None,
) -> Array:
    """Log-probability of every class, or of the classes asked for.

    Parameters
    ----------
    X, W, b, h, check_finite, num_threads
        As for `hsoftmax`.
    classes : array_like of int, shape (N,) or (N, m), optional
        Only these, a class or m classes for each row of X.
    out : ndarray of shape (N, C), optional
        Where to write all classes; not with `classes`. Without a meaning after a refused call.

    Returns
    -------
    ndarray of shape (N, C), or of the shape of `classes`
        In nats. ``exp`` of a full row sums to 1 within 1e-6 in float32 at a million classes.

    Raises
    ------
    ValueError, TypeError
        As for `hsoftmax`; if a class is out of range, or out does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> h = Hierarchy.balanced(3)
    >>> np.exp(hsoftmax_log_proba(np.ones((1, 2)), np.zeros((2, 2)), None, h))
    array([[0.25, 0.25, 0.5 ]])
    """
    tree, x, w, bias, check = as_scoring(X, W, b, h, check_finite)
    threads = resolve_threads(num_threads)
    if classes is None:
        result = as_out(out, (x.shape[0], h.n_classes), x.dtype, x, w, bias)
        _LOG_PROBA[x.dtype](tree, x, w, bias, check, result, threads)
        return result
    if out is not None:
        raise ValueError("out must be None where classes are given, got an array")
    asked = as_integers("classes", classes, None)
    if asked.ndim not in (1, 2) or asked.shape[0] != x.shape[0]:
        raise ValueError(
            f"classes must have shape ({x.shape[0]},) or ({x.shape[0]}, m), got {asked.shape}"
        )
    result = np.empty(asked.shape, x.dtype)
    wide = (x.shape[0], 1 if asked.ndim == 1 else asked.shape[1])
    _LOG_PROBA_OF[x.dtype](
        tree, x, w, bias, check, asked.reshape(wide), result.reshape(wide), threads
    )
    return result


def hsoftmax_node_log_proba(
    X: npt.ArrayLike | SparseMatrix,
    W: npt.ArrayLike | Weights,
    b: npt.ArrayLike | None,
    h: Hierarchy,
    *,
    check_finite: bool = True,
    num_threads: int | None = None,
) -> Array:
    """Log-probability of reaching every inner node.

    Parameters
    ----------
    X, W, b, h, check_finite, num_threads
        As for `hsoftmax`.

    Returns
    -------
    ndarray of shape (N, V)
        In nats; 0 at the root.

    Raises
    ------
    ValueError, TypeError
        As for `hsoftmax`.

    Examples
    --------
    >>> import numpy as np
    >>> h = Hierarchy.balanced(4)
    >>> np.exp(hsoftmax_node_log_proba(np.ones((1, 2)), np.zeros((3, 2)), None, h))
    array([[1. , 0.5, 0.5]])
    """
    scoring, threads = as_scoring(X, W, b, h, check_finite), resolve_threads(num_threads)
    x = scoring[1]
    result = np.empty((x.shape[0], h.n_nodes), x.dtype)
    _NODE_LOG_PROBA[x.dtype](*scoring, result, threads)
    return result


def hsoftmax_sample(
    X: npt.ArrayLike | SparseMatrix,
    W: npt.ArrayLike | Weights,
    b: npt.ArrayLike | None,
    h: Hierarchy,
    size: int = 1,
    *,
    rng: int | np.random.Generator | None = None,
    check_finite: bool = True,
    num_threads: int | None = None,
) -> npt.NDArray[np.int64]:
    """Draw classes from the distribution of each row by walking down the tree.

    Parameters
    ----------
    X, W, b, h, check_finite, num_threads
        As for `hsoftmax`.
    size : int, default 1
        Draws per row of X.
    rng : None, int or numpy.random.Generator
        Draw (i, j) depends on the seed and ``i * size + j`` alone.

    Returns
    -------
    ndarray of int64, shape (N, size)

    Raises
    ------
    ValueError, TypeError
        As for `hsoftmax`; if size is negative.

    Notes
    -----
    O(path) per draw. Draws are inverted from Philox numbers.

    References
    ----------
    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> import numpy as np
    >>> hsoftmax_sample(np.ones((1, 1)), np.array([[99.0]]), None, Hierarchy.balanced(2), 3, rng=0)
    array([[1, 1, 1]])
    """
    scoring, threads = as_scoring(X, W, b, h, check_finite), resolve_threads(num_threads)
    x, seed = scoring[1], as_seed(rng)
    result = reserve("size", (x.shape[0], as_integer("size", size, 0)), INT64)
    _SAMPLE[x.dtype](*scoring, seed, result, threads)
    return result


def init_weights(
    h: Hierarchy,
    dim: int,
    *,
    dtype: npt.DTypeLike = np.float32,
    rng: int | np.random.Generator | None = None,
) -> tuple[Array, Array]:
    """Return starting weights: W uniform in ±1/sqrt(dim), b zero.

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
