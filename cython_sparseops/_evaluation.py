"""Measures of ranked answers over very many classes, from plain arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import (
    Array,
    as_array,
    as_counts,
    as_float,
    as_integer,
    as_integers,
    find_sorted,
    require_finite,
)
from ._sparse import SparseMatrix, is_sparse

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "CalibrationError",
    "FrequencyBucket",
    "expected_calibration_error",
    "ndcg_at_k",
    "precision_at_k",
    "propensities",
    "psndcg_at_k",
    "psp_at_k",
    "recall_at_k",
    "recall_by_frequency",
]


class CalibrationError(NamedTuple):
    """How far stated probabilities lie from what happened; see `expected_calibration_error`.

    Attributes
    ----------
    error : float
        Mean over all answers of ``|confidence - accuracy|`` of their bin.
    edges : ndarray of float64, shape (bins + 1,)
        Of the bins, from 0 to 1; a bin holds its upper edge.
    counts : ndarray of int64, shape (bins,)
        Answers per bin.
    confidence, accuracy : ndarray of float64, shape (bins,)
        Mean probability and share of hits per bin; NaN where a bin is empty.

    Examples
    --------
    >>> expected_calibration_error([0.9, 0.9], [True, False], bins=10).counts[8]
    np.int64(2)
    """

    error: float
    edges: Array
    counts: Array
    confidence: Array
    accuracy: Array

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw a reliability diagram.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Default: the current one.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            Without matplotlib.

        References
        ----------
        DeGroot and Fienberg, "The comparison and evaluation of forecasters", 1983.

        Examples
        --------
        >>> from matplotlib.figure import Figure
        >>> found = expected_calibration_error([0.2, 0.9], [False, True])
        >>> ax = found.plot(Figure().subplots())
        >>> ax.get_xlabel()
        'probability'
        """
        if ax is None:
            import matplotlib.pyplot as plt  # an extra: only those who draw need it

            ax = plt.gca()
        used = self.counts > 0
        width = np.diff(self.edges)[used]
        ax.bar(
            self.edges[:-1][used],
            self.accuracy[used],
            width,
            align="edge",
            alpha=0.5,
            edgecolor="C0",
            label="share of hits",
        )
        ax.plot(self.confidence[used], self.accuracy[used], "o", ms=4, color="C0")
        ax.plot([0, 1], [0, 1], "--", color="gray", label="calibrated")
        ax.set(xlabel="probability", ylabel="share of hits", xlim=(0, 1), ylim=(0, 1))
        ax.set_title(f"expected calibration error {self.error:.3f}")
        ax.legend(loc="upper left")
        return ax


class FrequencyBucket(NamedTuple):
    """One row of `recall_by_frequency`.

    Attributes
    ----------
    least, most : int
        Training counts of the classes in it.
    classes : int
        How many of them occur in the rows that were scored.
    labels : int
        True labels of those classes.
    recall : float
        Mean over those classes of the share of their labels that were found; NaN without classes.

    Examples
    --------
    >>> recall_by_frequency([0, 1], [[0], [0]], 1, counts=[9, 1], edges=[2])[0].recall
    0.0
    """

    least: int
    most: int
    classes: int
    labels: int
    recall: float


class _Ranking(NamedTuple):
    """Hits of the k best answers, and the true labels, row by row."""

    hit: npt.NDArray[np.bool_]  # (N, k)
    ranked: npt.NDArray[np.int64]  # (N, k)
    row: npt.NDArray[np.int64]  # of each true label, rising
    label: npt.NDArray[np.int64]
    per_row: npt.NDArray[np.int64]  # (N,) true labels


def _true_labels(y_true: npt.ArrayLike | SparseMatrix) -> tuple[int, Array, Array]:
    """Number of rows; row and label of every true label, sorted by row and label."""
    if is_sparse(y_true):
        if y_true.format != "csr":
            raise TypeError(f"y_true must be a CSR matrix or labels, got {y_true.format}")
        ptr, ids = (
            as_integers("y_true.indptr", y_true.indptr),
            as_array("y_true.indices", y_true.indices),
        )
        end, steps = int(ptr[-1]), np.diff(ptr)
        if ptr[0] != 0 or (steps < 0).any() or end > len(ids):
            raise ValueError("y_true.indptr must not decrease, from 0 to the entries, got another")
        label = as_integers("y_true.indices", ids)[:end]
        row = np.repeat(np.arange(len(steps)), steps)
        given = as_array("y_true.data", y_true.data)[:end] != 0
        row, label = row[given], label[given]
        order = np.lexsort((label, row))
        row, label = row[order], label[order]
        again = (np.diff(row) == 0) & (np.diff(label) == 0)
        kept = np.concatenate([np.ones(min(1, len(row)), bool), ~again])
        return len(steps), row[kept], label[kept]
    labels = as_array("y_true", y_true)
    if labels.ndim == 2:
        row, label = np.nonzero(labels)
        return len(labels), row, label
    labels = as_integers("y_true", labels)
    return len(labels), np.arange(len(labels)), labels


def _ranking(y_true: npt.ArrayLike | SparseMatrix, ranked: Any, k: int) -> _Ranking:
    n, row, label = _true_labels(y_true)
    best, k = as_integers("ranked", ranked, 2), as_integer("k", k, 1)
    if best.shape[0] != n:
        raise ValueError(f"ranked must have one row per row of y_true, {n}, got {best.shape[0]}")
    if k > best.shape[1]:
        raise ValueError(f"k must be at most the columns of ranked, {best.shape[1]}, got {k}")
    if label.size and label.min() < 0:
        raise ValueError(f"y_true must hold classes from 0 up, got {label.min()}")
    if best.size and best.min() < -1:
        raise ValueError(f"ranked must hold classes, or -1 for none, got {best.min()}")
    best = best[:, :k]
    in_order = np.sort(best, axis=1)
    twice = (in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)
    if twice.any():
        at = int(np.flatnonzero(twice.any(axis=1))[0])
        raise ValueError(f"ranked must hold a class once per row, got one twice in row {at}")
    per_row = np.bincount(row, minlength=n)
    if label.size == 0 or best.size == 0:
        return _Ranking(np.zeros(best.shape, bool), best, row, label, per_row)
    # (row, class) as one number would overflow for wide id spaces: classes become their places
    # among the labels that occur, which are few
    known = np.unique(label)
    place, real = find_sorted(known, best)
    keys = row * len(known) + np.searchsorted(known, label)
    wanted = np.arange(n)[:, None] * len(known) + place
    return _Ranking(real & find_sorted(keys, wanted)[1], best, row, label, per_row)


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")


def precision_at_k(y_true: npt.ArrayLike | SparseMatrix, ranked: npt.ArrayLike, k: int) -> float:
    """Return the share of the k best answers that are true labels (P@k).

    Parameters
    ----------
    y_true : array_like of int, shape (N,), or indicator matrix of shape (N, C)
        One class per row, or several as a CSR matrix or a dense array that is not 0 where a label
        is true.
    ranked : array_like of int, shape (N, K)
        Classes, best first, as `hsoftmax_search` returns them; -1 is no answer.
    k : int
        How many of them count, at most K.

    Returns
    -------
    float
        Mean over the rows of ``hits / k``; NaN without rows.

    Raises
    ------
    ValueError
        If shapes do not fit, k is not in [1, K], or a row of ranked holds a class twice.

    Notes
    -----
    With one label per row, P@1 is the accuracy, and P@k at most ``1 / k``: the share of rows whose
    label is among the k best is R@k.

    Examples
    --------
    >>> precision_at_k([2, 0], [[2, 1], [1, 2]], k=1)
    0.5
    """
    return _mean(_ranking(y_true, ranked, k).hit.mean(axis=1))


def recall_at_k(y_true: npt.ArrayLike | SparseMatrix, ranked: npt.ArrayLike, k: int) -> float:
    """Return the share of the true labels that are among the k best answers (R@k).

    Parameters
    ----------
    y_true : array_like of int, shape (N,), or indicator matrix of shape (N, C)
    ranked : array_like of int, shape (N, K)
    k : int
        As in `precision_at_k`.

    Returns
    -------
    float
        Mean over the rows of ``hits / true labels``, 0 for a row without labels; NaN without rows.

    Raises
    ------
    ValueError
        As in `precision_at_k`.

    Examples
    --------
    >>> recall_at_k([2, 0], [[2, 1], [1, 0]], k=2)
    1.0
    """
    found = _ranking(y_true, ranked, k)
    return _mean(found.hit.sum(axis=1) / np.maximum(found.per_row, 1))


def ndcg_at_k(y_true: npt.ArrayLike | SparseMatrix, ranked: npt.ArrayLike, k: int) -> float:
    """Return the normalized discounted cumulative gain of the k best answers (nDCG@k).

    Parameters
    ----------
    y_true : array_like of int, shape (N,), or indicator matrix of shape (N, C)
    ranked : array_like of int, shape (N, K)
    k : int
        As in `precision_at_k`.

    Returns
    -------
    float
        Mean over the rows of the gain, a hit at place i (from 1) counting ``1 / log2(i + 1)``,
        over the largest gain the row allows; 0 for a row without labels; NaN without rows.

    Raises
    ------
    ValueError
        As in `precision_at_k`.

    References
    ----------
    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002.

    Examples
    --------
    >>> round(ndcg_at_k([2, 0], [[2, 1], [1, 0]], k=2), 3)
    0.815
    """
    found = _ranking(y_true, ranked, k)
    discount = 1 / np.log2(np.arange(2, found.hit.shape[1] + 2))
    ideal = np.concatenate([[1.0], np.cumsum(discount)])  # of 0, 1, … labels; the first divides 0
    most = ideal[np.minimum(found.per_row, len(discount))]
    return _mean(found.hit @ discount / most)


def propensities(
    counts: npt.ArrayLike, n: int, *, A: float = 0.55, B: float = 1.5
) -> npt.NDArray[np.float64]:
    """Return how likely a true label of each class is to have been noted at all.

    Parameters
    ----------
    counts : array_like of shape (C,)
        How often each class occurs in training; finite, non-negative.
    n : int
        Training rows.
    A, B : float, default 0.55 and 1.5
        Of the data set: the paper gives 0.5 and 0.4 for Wikipedia, 0.6 and 2.6 for Amazon, and
        these defaults for others.

    Returns
    -------
    ndarray of float64, shape (C,)
        In (0, 1]: ``1 / (1 + (log n - 1) (B + 1)^A exp(-A log(counts + B)))``.

    Raises
    ------
    ValueError
        If counts are refused, n < 3 (log n must exceed 1), A is negative or B is not positive.

    References
    ----------
    Jain, Prabhu and Varma, "Extreme multi-label loss functions for recommendation, tagging,
    ranking and other missing label applications", 2016.

    Examples
    --------
    >>> propensities([1, 1000], n=10_000).round(2)
    array([0.11, 0.77])
    """
    weight, rows = as_counts(counts), as_integer("n", n, 3)
    require_finite("counts", weight, non_negative=True)
    a, b = as_float("A", A), as_float("B", B)
    if not 0 <= a < np.inf:
        raise ValueError(f"A must be finite and at least 0, got {a}")
    if not 0 < b < np.inf:
        raise ValueError(f"B must be finite and above 0, got {b}")
    scale = (np.log(rows) - 1) * (b + 1) ** a
    chance: npt.NDArray[np.float64] = 1 / (1 + scale * np.exp(-a * np.log(weight + b)))
    return chance


def _inverse_propensity(propensity: npt.ArrayLike, found: _Ranking) -> Array:
    p = as_counts(propensity, "propensity")
    refused = np.flatnonzero(~((p > 0) & (p <= 1)))
    if refused.size:
        at = int(refused[0])
        raise ValueError(f"propensity must be in (0, 1], got {p[at]} at index {at}")
    largest = max(found.label.max(initial=-1), found.ranked.max(initial=-1))
    if largest >= len(p):
        raise ValueError(
            f"propensity must have one entry per class, got {len(p)} and class {largest}"
        )
    return 1 / p


def _scored(
    y_true: npt.ArrayLike | SparseMatrix, ranked: Any, k: int, propensity: Any, discount: Any
) -> float:
    """Gain of the hits over the most that the true labels allow, each summed over all rows."""
    found = _ranking(y_true, ranked, k)
    inverse = _inverse_propensity(propensity, found)
    k = found.hit.shape[1]
    weight = discount(k)
    gain = np.where(found.hit, inverse[found.ranked], 0.0) @ weight
    # the best answer of a row: its labels of the largest weights, the k best
    value = inverse[found.label]
    order = np.lexsort((-value, found.row))
    first = np.concatenate([[0], np.cumsum(found.per_row)])[:-1]
    place = np.arange(len(order)) - np.repeat(first, found.per_row)
    best = place < k
    most = float((value[order][best] * weight[place[best]]).sum())
    return float(gain.sum()) / most if most > 0 else float("nan")


def psp_at_k(
    y_true: npt.ArrayLike | SparseMatrix, ranked: npt.ArrayLike, k: int, propensity: npt.ArrayLike
) -> float:
    """Return the propensity-scored precision of the k best answers (PSP@k).

    Parameters
    ----------
    y_true : array_like of int, shape (N,), or indicator matrix of shape (N, C)
    ranked : array_like of int, shape (N, K)
    k : int
        As in `precision_at_k`.
    propensity : array_like of shape (C,)
        Per class, in (0, 1], as `propensities` returns it.

    Returns
    -------
    float
        A hit counts 1 / propensity; the sum over all rows over the largest sum that their labels
        allow, the form in which tables of this field are printed. NaN without labels.

    Raises
    ------
    ValueError
        As in `precision_at_k`, or if propensity is refused or misses a class.

    References
    ----------
    Jain, Prabhu and Varma, "Extreme multi-label loss functions for recommendation, tagging,
    ranking and other missing label applications", 2016.

    Examples
    --------
    >>> p = propensities([1, 1000], n=10_000)
    >>> round(psp_at_k([0, 1], [[0], [0]], 1, p), 2)
    0.88
    """
    return _scored(y_true, ranked, k, propensity, np.ones)


def psndcg_at_k(
    y_true: npt.ArrayLike | SparseMatrix, ranked: npt.ArrayLike, k: int, propensity: npt.ArrayLike
) -> float:
    """Return the propensity-scored nDCG of the k best answers (PSnDCG@k).

    Parameters
    ----------
    y_true : array_like of int, shape (N,), or indicator matrix of shape (N, C)
    ranked : array_like of int, shape (N, K)
    k : int
    propensity : array_like of shape (C,)
        As in `psp_at_k`.

    Returns
    -------
    float
        As `psp_at_k`, a hit at place i (from 1) counting ``1 / log2(i + 1)`` of it.

    Raises
    ------
    ValueError
        As in `psp_at_k`.

    References
    ----------
    Jain, Prabhu and Varma, "Extreme multi-label loss functions for recommendation, tagging,
    ranking and other missing label applications", 2016.

    Examples
    --------
    >>> psndcg_at_k([0, 1], [[0, 1], [1, 0]], 2, [0.1, 0.9])
    1.0
    """
    return _scored(y_true, ranked, k, propensity, lambda k: 1 / np.log2(np.arange(2, k + 2)))


def recall_by_frequency(
    y_true: npt.ArrayLike | SparseMatrix,
    ranked: npt.ArrayLike,
    k: int,
    counts: npt.ArrayLike,
    *,
    edges: npt.ArrayLike = (1, 6, 21, 101, 1_001),
) -> list[FrequencyBucket]:
    """Return macro R@k by how often classes occur in training: what rare classes get.

    Parameters
    ----------
    y_true : array_like of int, shape (N,), or indicator matrix of shape (N, C)
    ranked : array_like of int, shape (N, K)
    k : int
        As in `precision_at_k`.
    counts : array_like of int, shape (C,)
        How often each class occurs in training.
    edges : array_like of int, default (1, 6, 21, 101, 1001)
        Rising; where a bucket ends and the next begins. The default puts classes never seen, seen
        1 to 5, 6 to 20, 21 to 100, 101 to 1,000 times and more often apart.

    Returns
    -------
    list of FrequencyBucket
        From the rarest up.

    Raises
    ------
    ValueError
        As in `precision_at_k`, or if counts miss a class or edges do not rise.

    Examples
    --------
    >>> rows = recall_by_frequency([0, 1, 1], [[0], [0], [1]], 1, counts=[50, 3])
    >>> [(row.least, row.most, row.recall) for row in rows if row.classes]
    [(1, 5, 0.5), (21, 100, 1.0)]
    """
    found = _ranking(y_true, ranked, k)
    tally, limits = as_integers("counts", counts), as_integers("edges", edges)
    if (np.diff(limits) <= 0).any():
        raise ValueError("edges must rise, got some that do not")
    if found.label.max(initial=-1) >= len(tally):
        raise ValueError(
            f"counts must have one entry per class, got {len(tally)} and class {found.label.max()}"
        )
    if tally.min(initial=0) < 0:
        raise ValueError(f"counts must be at least 0, got {tally.min()}")
    labels = np.bincount(found.label, minlength=len(tally))
    hits = np.bincount(found.ranked[found.hit], minlength=len(tally))
    seen = labels > 0
    bucket = np.searchsorted(limits, tally, side="right")
    most = int(tally.max(initial=0))
    result = []
    for i in range(len(limits) + 1):
        inside = seen & (bucket == i)
        least = int(limits[i - 1]) if i else 0
        last = int(limits[i]) - 1 if i < len(limits) else max(most, least)
        share = hits[inside] / labels[inside]
        result.append(
            FrequencyBucket(least, last, int(inside.sum()), int(labels[inside].sum()), _mean(share))
        )
    return result


def expected_calibration_error(
    p: npt.ArrayLike, hit: npt.ArrayLike, *, bins: int = 15
) -> CalibrationError:
    """Measure whether answers that claim probability p are right that often.

    Parameters
    ----------
    p : array_like of shape (N,)
        Probabilities of answers, such as those of the best class of each row.
    hit : array_like of bool, shape (N,)
        Whether each was right.
    bins : int, default 15
        Of equal width over [0, 1].

    Returns
    -------
    CalibrationError
        ``.error`` is the expected calibration error; ``.plot()`` draws the bins.

    Raises
    ------
    ValueError
        If a probability is outside [0, 1], lengths differ, or bins < 1.

    References
    ----------
    Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
    binning", 2015. Guo et al., "On calibration of modern neural networks", 2017.

    Examples
    --------
    >>> float(expected_calibration_error([0.8, 0.8, 0.8, 0.8, 0.8], [1, 1, 1, 1, 0]).error)
    0.0
    """
    stated, right = as_counts(p, "p"), as_array("hit", hit)
    n = as_integer("bins", bins, 1)
    if right.shape != stated.shape:
        raise ValueError(f"hit must have {len(stated)} entries, got shape {right.shape}")
    refused = np.flatnonzero(~((stated >= 0) & (stated <= 1)))
    if refused.size:
        at = int(refused[0])
        raise ValueError(f"p must be in [0, 1], got {stated[at]} at index {at}")
    edges = np.linspace(0, 1, n + 1)
    place = np.clip(np.searchsorted(edges, stated) - 1, 0, n - 1)
    counts = np.bincount(place, minlength=n)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, stated, minlength=n) / counts
        accuracy = np.bincount(place, right != 0, minlength=n) / counts
    used = counts > 0
    gap = np.abs(confidence[used] - accuracy[used]) * counts[used]
    error = float(gap.sum() / len(stated)) if len(stated) else float("nan")
    return CalibrationError(error, edges, counts, confidence, accuracy)
