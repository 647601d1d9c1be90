"""The figures of a model on labeled examples."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import numpy as np

from cython_sparseops import (
    FrequencyBucket,
    expected_calibration_error,
    hsoftmax,
    ndcg_at_k,
    precision_at_k,
    propensities,
    psp_at_k,
    recall_at_k,
    recall_by_frequency,
)
from cython_sparseops._arrays import Array, find_sorted
from cython_sparseops._cli.labels import LabelLists
from cython_sparseops._cli.model import CliModel
from cython_sparseops._models.bag import BLOCK
from cython_sparseops.sklearn import HSoftmaxClassifier, LabelTreeClassifier

Classifier = HSoftmaxClassifier | LabelTreeClassifier

_LEAST_ROWS = 3  # of training, for propensities


class Evaluation(NamedTuple):
    """Figures of a model; labels that it does not know are misses, and have no nll.

    ``at`` has P, R, nDCG and, where the counts of the classes are known, PSP at 1 and at k.
    """

    examples: int
    labels: int
    unknown_labels: int
    k: int
    at: dict[str, float]
    nll: float | None  # of one label a row
    ece: float | None
    buckets: list[FrequencyBucket]
    examples_per_second: float


def evaluate(model: CliModel, X: Any, labels: LabelLists, k: int) -> Evaluation:
    """Measure a model.

    Parameters
    ----------
    model : CliModel
    X : CSR matrix of shape (N, F)
        Features.
    labels : LabelLists
        True labels, of the same kind as the model's classes.
    k : int
        Figures are at 1 and at k.

    Returns
    -------
    Evaluation
        The examples per second are those of finding the k likeliest classes.
    """
    k = min(k, len(model.classes))
    start = time.perf_counter()
    ranked, log_probs = model.best(X, k)
    seconds = time.perf_counter() - start
    truth = labels.indicator(model.classes)
    known = find_sorted(model.classes, labels.flat)[1]
    counts = _counts(model, truth.shape[1])
    with np.errstate(under="ignore"):
        best = np.exp(log_probs[:, 0].astype(np.float64)).clip(0, 1)
    hit = truth_of(truth, ranked[:, 0])
    return Evaluation(
        examples=len(hit),
        labels=len(truth.indices),
        unknown_labels=int((~known).sum()),
        k=k,
        at=_at(truth, ranked, 1, counts, model) | _at(truth, ranked, k, counts, model),
        nll=_nll(model.classifier, X, labels, known) if labels.is_single else None,
        ece=expected_calibration_error(best, hit).error if len(hit) else None,
        buckets=[] if counts is None else recall_by_frequency(truth, ranked, k, counts),
        examples_per_second=len(hit) / max(seconds, 1e-9),
    )


def truth_of(truth: Any, answers: Array) -> Array:
    """Whether the answer of each row is one of its labels."""
    width = truth.shape[1]
    rows = np.repeat(np.arange(truth.shape[0]), np.diff(truth.indptr))
    keys = rows * width + truth.indices
    return find_sorted(keys, np.arange(truth.shape[0]) * width + answers)[1]


def _counts(model: CliModel, width: int) -> Array | None:
    """Training rows of the classes, none of labels that are no classes."""
    if model.source.counts is None:
        return None
    return np.concatenate([model.source.counts, np.zeros(width - len(model.classes), np.int64)])


def _at(
    truth: Any, ranked: Array, k: int, counts: Array | None, model: CliModel
) -> dict[str, float]:
    values = {
        f"P@{k}": precision_at_k(truth, ranked, k),
        f"R@{k}": recall_at_k(truth, ranked, k),
        f"nDCG@{k}": ndcg_at_k(truth, ranked, k),
    }
    if counts is not None and model.source.rows >= _LEAST_ROWS:
        chance = propensities(counts, model.source.rows)
        values[f"PSP@{k}"] = psp_at_k(truth, ranked, k, chance)
    return values


def _nll(classifier: Classifier, X: Any, labels: LabelLists, known: Array) -> float | None:
    """The mean negative log-probability of the labels that the model knows."""
    numbers = find_sorted(classifier.classes_, labels.flat)[0]
    rows = np.flatnonzero(known)
    total = 0.0
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK]
        total += float(np.sum(_losses(classifier, X[block], numbers[block]), dtype=np.float64))
    return total / len(rows) if len(rows) and math.isfinite(total) else None


def _losses(classifier: Classifier, X: Any, numbers: Array) -> Array:
    threads = classifier.num_threads
    if isinstance(classifier, LabelTreeClassifier):
        return -classifier.model_.log_proba(X, numbers[:, None], num_threads=threads)[:, 0]
    model = classifier.model_
    hidden = model.hidden(X, num_threads=threads)
    return hsoftmax(hidden, model.W, model.b, numbers, model.hierarchy, num_threads=threads)
