"""Distributions of a hierarchical softmax: all classes, given classes, inner nodes, samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ._arrays import (
    FLOAT32,
    FLOAT64,
    INT64,
    KEY,
    Array,
    as_flag,
    as_integer,
    as_integers,
    as_out,
    as_scored_inputs,
    as_seed,
    reserve,
)
from ._core import hsoftmax as core
from ._hierarchy import Hierarchy
from ._hsoftmax import as_tree
from ._runtime import resolve_threads

if TYPE_CHECKING:
    from ._quantize import QuantizedWeights

__all__ = ["hsoftmax_log_proba", "hsoftmax_node_log_proba", "hsoftmax_sample"]

_LOG_PROBA = {dtype: core.log_proba[KEY[dtype]] for dtype in (FLOAT32, FLOAT64)}
_LOG_PROBA_OF = {dtype: core.log_proba_of[KEY[dtype]] for dtype in (FLOAT32, FLOAT64)}
_NODE_LOG_PROBA = {dtype: core.node_log_proba[KEY[dtype]] for dtype in (FLOAT32, FLOAT64)}
_SAMPLE = {dtype: core.sample[KEY[dtype]] for dtype in (FLOAT32, FLOAT64)}


def hsoftmax_log_proba(
    X: npt.ArrayLike,
    W: npt.ArrayLike | QuantizedWeights,
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
    x, w, bias = as_scored_inputs(X, W, b)
    tree = as_tree(h)
    threads = resolve_threads(num_threads)
    if classes is None:
        result = as_out(out, (x.shape[0], h.n_classes), x.dtype, x, w, bias)
        _LOG_PROBA[x.dtype](
            tree, x, w, bias, as_flag("check_finite", check_finite), result, threads
        )
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
        tree,
        x,
        w,
        bias,
        as_flag("check_finite", check_finite),
        asked.reshape(wide),
        result.reshape(wide),
        threads,
    )
    return result


def hsoftmax_node_log_proba(
    X: npt.ArrayLike,
    W: npt.ArrayLike | QuantizedWeights,
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
    x, w, bias = as_scored_inputs(X, W, b)
    tree = as_tree(h)
    result = np.empty((x.shape[0], h.n_nodes), x.dtype)
    _NODE_LOG_PROBA[x.dtype](
        tree,
        x,
        w,
        bias,
        as_flag("check_finite", check_finite),
        result,
        resolve_threads(num_threads),
    )
    return result


def hsoftmax_sample(
    X: npt.ArrayLike,
    W: npt.ArrayLike | QuantizedWeights,
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
        Draws a row of X.
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
    O(path) a draw. Draws are inverted from Philox numbers.

    References
    ----------
    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> import numpy as np
    >>> hsoftmax_sample(np.ones((1, 1)), np.array([[99.0]]), None, Hierarchy.balanced(2), 3, rng=0)
    array([[1, 1, 1]])
    """
    x, w, bias = as_scored_inputs(X, W, b)
    tree = as_tree(h)
    check, seed, threads = (
        as_flag("check_finite", check_finite),
        as_seed(rng),
        resolve_threads(num_threads),
    )
    result = reserve("size", (x.shape[0], as_integer("size", size, 0)), INT64)
    _SAMPLE[x.dtype](tree, x, w, bias, check, seed, result, threads)
    return result
