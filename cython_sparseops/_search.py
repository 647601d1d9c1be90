"""Top-k classes of a hierarchical softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import (
    Array,
    Weights,
    as_flag,
    as_float,
    as_integer,
    as_real,
)
from ._bag import as_mode
from ._core import search as core
from ._hierarchy import Hierarchy, as_tree
from ._runtime import resolve_threads
from ._scoring import as_examples, as_scoring
from ._sparse import Compressed, SparseMatrix
from ._sparse_weights import SparseWeights

__all__ = ["SearchResult", "hsoftmax_search"]


class SearchResult(NamedTuple):
    """What `hsoftmax_search` returns.

    Attributes
    ----------
    classes : ndarray of int64, shape (N, k)
        Best first; -1 where there is none.
    log_probs : ndarray of shape (N, k)
        In nats; -inf where there is none.
    bound : ndarray of shape (N,)
        No class that was not looked at has a larger log-probability; -inf if all were.

    Examples
    --------
    >>> top = hsoftmax_search(np.ones((1, 1)), np.array([[1.0]]), None, Hierarchy.balanced(2), 3)
    >>> top.classes, top.bound
    (array([[ 1,  0, -1]]), array([-inf]))
    """

    classes: npt.NDArray[np.int64]
    log_probs: Array
    bound: Array


def hsoftmax_search(
    X: npt.ArrayLike | SparseMatrix,
    W: npt.ArrayLike | Weights,
    b: npt.ArrayLike | None,
    h: Hierarchy,
    k: int = 1,
    *,
    beam: int | None = None,
    edge_beam: float | None = None,
    nodes: bool = False,
    min_prob: float | None = None,
    check_finite: bool = True,
    num_threads: int | None = None,
) -> SearchResult:
    """Find the k likeliest classes of each row, exactly unless a beam is given.

    Parameters
    ----------
    X, W, b, h, check_finite, num_threads
        As for `hsoftmax`.
    k : int, default 1
        Results a row; more than C is legal.
    beam : int, optional
        Keep at most this many open nodes a level: faster, not always exact.
    edge_beam : float, optional
        Follow a child only if ``-log P(child | parent) < edge_beam`` (nats).
    nodes : bool, default False
        Inner nodes but the root compete as results too; node v is reported as ``C + v``.
    min_prob : float in (0, 1], optional
        A result that is less likely climbs to the deepest node above it that is as likely, the root
        (``C`` + its id) if need be; repeats are dropped.

    Returns
    -------
    SearchResult
        classes (N, k) int64, log_probs (N, k) in nats, best first, ties to the lower id; places
        that cannot be filled hold -1 and -inf. bound (N,): no class that was not looked at is
        likelier; a beam's result is exact wherever the last log_prob is above it.

    Raises
    ------
    ValueError, TypeError
        As for `hsoftmax`; if k < 1, beam < 1, edge_beam < 0, or min_prob is not in (0, 1].

    Notes
    -----
    Best-first search with the bound "a child is never likelier than its parent". The result equals
    sorting `hsoftmax_log_proba`, ties and bits included.

    References
    ----------
    Best-first search: Hart, Nilsson and Raphael, "A formal basis for the heuristic determination of
    minimum cost paths", 1968. Caffe2's HSoftmaxSearch has `edge_beam` and `nodes`.

    Examples
    --------
    >>> import numpy as np
    >>> h = Hierarchy.balanced(4)
    >>> hsoftmax_search(np.ones((1, 1)), np.array([[3.0], [0.0], [1.0]]), None, h, 2).classes
    array([[3, 2]])
    """
    at_once: SearchResult | None = core.search_at_once(
        X, W, b, h, k, beam, edge_beam, nodes, min_prob, check_finite, num_threads, SearchResult
    )
    if at_once is not None:
        return at_once
    tree, x, w, bias, check = as_scoring(X, W, b, h, check_finite)
    count = as_integer("k", k, 1)
    width = None if beam is None else as_integer("beam", beam, 1)
    edge = None if edge_beam is None else as_float("edge_beam", edge_beam)
    least = None if min_prob is None else as_float("min_prob", min_prob)
    inner, threads = as_flag("nodes", nodes), resolve_threads(num_threads)
    return SearchResult._make(
        core.search(tree, x, w, bias, count, width, edge, inner, least, check, threads)
    )


def search_bags(
    X: Compressed,
    E: Array,
    W: npt.ArrayLike | Weights,
    b: npt.ArrayLike | None,
    h: Hierarchy,
    k: int,
    mode: str,
    num_threads: int | None = None,
) -> tuple[npt.NDArray[np.int64], Array]:
    """`hsoftmax_search` of the embedding bags of X, whose data are in the dtype of E.

    Bags are made block by block, so that those of all rows never exist at one time.
    """
    if X.shape[1] != len(E):
        raise ValueError(f"X must have {len(E)} columns, got {X.shape[1]}")
    features = as_real("E", E, 2)
    tree, _, w, bias, _ = as_scoring(features[:0], W, b, h, True)
    classes, log_probs = core.bag_search(
        tree,
        X.indptr,
        X.indices,
        X.data,
        features,
        as_mode(mode),
        w,
        bias,
        as_integer("k", k, 1),
        resolve_threads(num_threads),
    )
    return classes, log_probs


def row_search(
    trees: Sequence[tuple[Hierarchy, Any]],
    labels: Array,
    kind: type[tuple[Any, ...]],
    *,
    bags: tuple[Array, Array, str] | None = None,
    num_threads: int | None = None,
) -> Callable[..., Any]:
    """A compiled function (ids, weights, k) of one row: a `kind` of labels and log-probabilities.

    It returns None where these are no vectors of integers and of the dtype of the model, of one
    length, and an integer in [1, C]. With `bags`, embeddings, biases and mode, there is one tree,
    of an array; otherwise all have `SparseWeights`.
    """
    threads = resolve_threads(num_threads)
    if bags is not None:
        E, b, mode = bags
        (h, W), *_ = trees
        tree, _, w, bias, _ = as_scoring(E[:0], W, b, h, True)
        one: Callable[..., Any] = core.RowSearch(
            [tree], [w], bias, E, as_mode(mode), len(E), labels, kind, threads
        )
        return one
    compiled, weights = [as_tree(h) for h, _ in trees], [W._compiled for _, W in trees]
    features = trees[0][1].shape[1]
    several: Callable[..., Any] = core.RowSearch(
        compiled, weights, None, None, False, features, labels, kind, threads
    )
    return several


def search_mean(
    trees: Sequence[tuple[Hierarchy, SparseWeights]],
    X: SparseMatrix,
    k: int,
    *,
    beam: int | None = None,
    num_threads: int | None = None,
) -> tuple[npt.NDArray[np.int64], Array]:
    """The k classes (N, k) whose probability, the mean over trees, is largest, and its logarithm.

    Equal to sorting the `log_mean_exp` of every tree's `hsoftmax_log_proba`, ties and bits
    included. With a beam: the best among the ``max(2k, 8)`` best of each tree's own search with it,
    their means exact.
    """
    classes, log_probs = core.search_mean(
        [as_tree(h) for h, _ in trees],
        as_examples(X),
        [W._compiled for _, W in trees],
        as_integer("k", k, 1),
        None if beam is None else as_integer("beam", beam, 1),
        resolve_threads(num_threads),
    )
    return classes, log_probs


def log_mean_exp(log_p: Sequence[Array], *, num_threads: int | None = None) -> Array:
    """The logarithm of the average probability, of float32 arrays of one shape."""
    if len(log_p) == 1:
        return log_p[0]
    rows = np.stack([one.ravel() for one in log_p])
    mean = np.empty(log_p[0].shape, np.float32)
    core.log_mean_exp(rows, mean.ravel(), resolve_threads(num_threads))
    return mean
