"""One choice for who knows nothing: which tree and which head, by held-out rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, issparse
from sklearn.utils import check_random_state

from cython_sparseops._arrays import Array, as_float, as_integer, describe, find_sorted
from cython_sparseops._cluster import class_centroids
from cython_sparseops._evaluation import ndcg_at_k, precision_at_k, recall_at_k
from cython_sparseops._hierarchy import Hierarchy
from cython_sparseops._hsoftmax import hsoftmax
from cython_sparseops._models.progress import note
from cython_sparseops._models.trees import TREES as EMBEDDING_TREES
from cython_sparseops._sklearn.hsoftmax import HSoftmaxClassifier
from cython_sparseops._sklearn.label_tree import LabelTreeClassifier
from cython_sparseops._sparse import SparseMatrix
from cython_sparseops._table import table

Rows = npt.ArrayLike | SparseMatrix
Classifier = HSoftmaxClassifier | LabelTreeClassifier
K = 5
LEAST_HELD_OUT = 20  # rows: fewer say nothing
TREES = 3  # of the candidate of several trees
BESIDE = ("guided", "cluster")  # those of them beside a tree that was given
CHEAP = 2e8  # multiply-adds: what the yardstick may cost
SLOW = 4e8  # multiply-adds a second of an embedding's training that any machine reaches
CLUSTERED = 3  # times the work of a Huffman tree
YARDSTICK = "nearest centroid"


class TriedClassifier(NamedTuple):
    """One row of a `ChoiceReport`.

    Attributes
    ----------
    name : str
        Head, trees and what differs from the defaults.
    p_at_1, p_at_5, r_at_5, ndcg_at_5 : float
        Of the held-out rows; NaN if it was not tried.
    nll : float
        Mean negative log-probability of the held-out rows' labels, in nats; NaN for several labels
        a row.
    seconds : float
        Of training, on the rows that are not held out.
    bytes : int
        Of the weights.
    note : str
        Why it was left out; empty if it was tried.

    Examples
    --------
    >>> from cython_sparseops.sklearn import choose
    >>> _, report = choose(np.eye(4).repeat(50, 0), np.arange(4).repeat(50), random_state=0)
    >>> report.candidates[0].name
    'linear, 1 tree'
    """

    name: str
    p_at_1: float = math.nan
    p_at_5: float = math.nan
    r_at_5: float = math.nan
    ndcg_at_5: float = math.nan
    nll: float = math.nan
    seconds: float = math.nan
    bytes: int = 0
    note: str = ""


class ChoiceReport(NamedTuple):
    """What `choose` tried; prints as a table.

    Attributes
    ----------
    chosen : str
        Name of the candidate that was trained on all rows.
    candidates : list of TriedClassifier
        In the order in which they were tried, and those left out.
    held_out : int
        Rows that decided.
    seconds : float
        Of everything, the training on all rows included.

    Examples
    --------
    >>> from cython_sparseops.sklearn import choose
    >>> _, report = choose(np.eye(4).repeat(50, 0), np.arange(4).repeat(50), random_state=0)
    >>> report.held_out
    20
    """

    chosen: str
    candidates: list[TriedClassifier]
    held_out: int
    seconds: float

    def __str__(self) -> str:
        head = ["tried", "P@1", "P@5", "R@5", "nDCG@5", "nll", "seconds", "weights"]
        rows = [
            (
                f"{one.name} *" if one.name == self.chosen else one.name,
                *(_shown(value) for value in one[1:7]),
                one.note or (f"{one.bytes / 2**20:,.1f} MiB" if one.bytes else None),
            )
            for one in self.candidates
        ]
        last = f"* chosen by nDCG@5 of {self.held_out:,} held-out rows"
        last = last if self.held_out else "* too few rows to hold any out"
        return f"{table(head, rows)}\n{last}; {self.seconds:.1f} s in all"


def choose(
    X: Rows,
    y: Rows,
    *,
    time_budget: float = 60.0,
    validation_fraction: float = 0.1,
    validation: tuple[Rows, Rows] | None = None,
    hierarchy: str | Hierarchy | None = None,
    random_state: int | np.random.RandomState | None = None,
    num_threads: int | None = None,
    verbose: int = 0,
) -> tuple[Classifier, ChoiceReport]:
    """Try heads and trees on held-out rows, and train the best on all rows.

    Tried are, in this order: one tree of sparse linear weights; other costs of errors and the
    logistic loss for it; three trees of the best of these; embeddings on clusters and on a Huffman
    tree.
    The highest nDCG@5 on the held-out rows wins, the one tried first among equals. With several
    labels per row all candidates are linear.

    Parameters
    ----------
    X : array_like or sparse matrix of shape (N, F)
        Training rows, best of unit norm, such as TF-IDF.
    y : array_like of shape (N,), or indicator matrix of shape (N, C)
        One label per row, or several.
    time_budget : float, default 60
        Seconds for everything, the training on all rows included. A candidate that is not expected
        to fit is left out, and the report says so; the first one is always tried.
    validation_fraction : float, default 0.1
        Share of the rows that is held out, in (0, 0.5]; with fewer than 20 such rows 20 are, and
        with fewer than 40 rows in all none: the first candidate is trained then.
    validation : (X, y), optional
        Rows to judge by instead; no training row is held out then.
    hierarchy : str or Hierarchy, optional
        The tree of every candidate, such as a taxonomy; the candidate of three trees has it beside
        a clustered one and one that is clustered by its guidance.
    random_state : int, RandomState or None
        Seeds the choice of rows and every candidate.
    num_threads : int or None
        Never changes a result bit of a classifier.
    verbose : int, default 0
        1 tells on stderr what is tried.

    Returns
    -------
    classifier : LabelTreeClassifier or HSoftmaxClassifier
        Fitted on all rows.
    report : ChoiceReport

    Raises
    ------
    ValueError
        For an array or a setting that breaks its rule.

    Notes
    -----
    Which candidates are tried depends on the clock. The rest follows from the seed: with a budget
    that suffices for all, the same classifier is chosen every time.

    Examples
    --------
    >>> from cython_sparseops.sklearn import choose
    >>> X, y = np.eye(4).repeat(50, 0), np.array(["a", "b", "c", "d"]).repeat(50)
    >>> classifier, report = choose(X, y, random_state=0)
    >>> classifier.predict(np.eye(4)).tolist(), report.chosen
    (['a', 'b', 'c', 'd'], 'linear, 1 tree')
    """
    budget, share = as_float("time_budget", time_budget), validation_fraction
    if not 0 < budget < math.inf:
        raise ValueError(f"time_budget must be positive and finite, got {budget}")
    share = as_float("validation_fraction", share)
    if not 0 < share <= 0.5:
        raise ValueError(f"validation_fraction must be in (0, 0.5], got {share}")
    as_integer("verbose", verbose, 0)
    rows = _as_rows("X", X, y)
    judges = None if validation is None else _as_rows("validation", *validation)
    if judges is not None and (
        judges.X.shape[1] != rows.X.shape[1] or np.shape(judges.y)[1:] != np.shape(rows.y)[1:]
    ):
        raise ValueError("validation must have the columns of X and y, got others")
    return _Choice(
        rows, judges, budget, share, hierarchy, random_state, num_threads, verbose
    ).made()


class _Labeled(NamedTuple):
    X: Any
    y: Any

    def take(self, rows: Array) -> _Labeled:
        return _Labeled(self.X[rows], self.y[rows])


def _as_rows(name: str, X: Any, y: Any) -> _Labeled:
    X = X if hasattr(X, "shape") else np.array(X)
    y = y if hasattr(y, "shape") else np.array(y)
    if len(X.shape) != 2 or not len(y.shape) or X.shape[0] != y.shape[0]:
        raise ValueError(f"{name} must have one row per entry of y, got {describe(X)}")
    if len(y.shape) == 2 and y.shape[1] == 1 and not issparse(y):
        y = np.ravel(y)
    return _Labeled(X.tocsr() if issparse(X) else X, y.tocsr() if issparse(y) else y)


class _Candidate(NamedTuple):
    """A classifier to be tried, and what its training takes in units of the first one's time."""

    name: str
    make: Callable[[], Classifier]
    cost: float


class _Choice:
    def __init__(
        self,
        rows: _Labeled,
        judges: _Labeled | None,
        budget: float,
        share: float,
        hierarchy: str | Hierarchy | None,
        random_state: Any,
        num_threads: int | None,
        verbose: int,
    ) -> None:
        self.start, self.budget = time.perf_counter(), budget
        random = check_random_state(random_state)
        self.seed = int(random.randint(2**31 - 1))
        self.all, self.several = rows, len(rows.y.shape) == 2
        self.hierarchy = None if hierarchy in (None, "auto") else hierarchy
        self.threads, self.verbose = num_threads, verbose
        self.tried: list[TriedClassifier] = []
        self.fitted: Classifier | None = None  # on all rows, the best so far
        n = rows.X.shape[0]
        if judges is not None:
            self.kept, self.held, self.judged = rows, judges, True
        else:
            held_out = max(LEAST_HELD_OUT, round(share * n))
            order = random.permutation(n)
            self.held = rows.take(np.sort(order[:held_out]))
            self.kept = rows.take(np.sort(order[held_out:]))
            self.judged = n >= 2 * LEAST_HELD_OUT
        self.scale = 0.0 if judges is not None else n / max(1, self.kept.X.shape[0])

    def made(self) -> tuple[Classifier, ChoiceReport]:
        """Try, choose, train."""
        makers: dict[str, Callable[[], Classifier]] = {}
        for candidate in self._candidates():
            makers[candidate.name] = candidate.make
            if not self.judged:
                self.tried.append(TriedClassifier(candidate.name))
                break
            self._try(candidate)
        best = self._best()
        if self.judged:
            self._yardstick()
        classifier = self.fitted
        if classifier is None:
            self._tell(f"training {best.name} on all rows")
            classifier = makers[best.name]().fit(self.all.X, self.all.y)
        seconds = time.perf_counter() - self.start
        held_out = self.held.X.shape[0] if self.judged else 0
        return classifier, ChoiceReport(best.name, self.tried, held_out, seconds)

    def _candidates(self) -> Iterator[_Candidate]:
        """In order; what comes later may depend on what was found."""
        settings: dict[str, dict[str, Any]] = {
            "linear, 1 tree": {"loss": "squared_hinge", "C": 1.0},
            "linear, 1 tree, C=0.3": {"loss": "squared_hinge", "C": 0.3},
            "linear, 1 tree, C=3": {"loss": "squared_hinge", "C": 3.0},
            "linear, 1 tree, logistic loss, C=10": {"loss": "logistic", "C": 10.0},
        }
        for name, cost in zip(settings, (1.0, 1.5, 1.5, 3.0), strict=True):
            yield _Candidate(name, self._linear(**settings[name]), cost)
        found = [one for one in self.tried if not one.note]
        best = max(found, key=lambda one: one.ndcg_at_5) if found else None
        own = isinstance(self.hierarchy, Hierarchy)
        if best is not None and (own or self.hierarchy in (None, "cluster")):
            name = best.name.replace("1 tree", f"{TREES} trees")
            several = {"hierarchy": [self.hierarchy, *BESIDE]} if own else {"n_trees": TREES}
            make = self._linear(**several, **settings[best.name])
            yield _Candidate(name, make, TREES * best.seconds / max(found[0].seconds, 1e-9))
        if not self.several and self._suits_an_embedding():
            yield from self._embeddings(found[0].seconds if found else 1.0)

    def _linear(self, **settings: Any) -> Callable[[], Classifier]:
        if self.hierarchy is not None:
            settings.setdefault("hierarchy", self.hierarchy)
        return lambda: LabelTreeClassifier(
            random_state=self.seed, num_threads=self.threads, **settings
        )

    def _suits_an_embedding(self) -> bool:
        tree = self.hierarchy
        return tree is None or isinstance(tree, Hierarchy) or tree in EMBEDDING_TREES

    def _embeddings(self, unit: float) -> Iterator[_Candidate]:
        """Those of both trees, or of the tree that was given."""
        trees = (self.hierarchy,) if self.hierarchy is not None else ("cluster", "huffman")
        X = self.kept.X
        n, entries = X.shape[0], X.nnz if issparse(X) else X.size
        steps = 5 * max(n, 25_600)  # epochs of so many rows
        work = steps * 100 * (entries / max(1, n) + 2 * math.log2(n + 2))
        for tree in trees:
            rows = 1 if tree == "huffman" else CLUSTERED
            yield _Candidate(
                "embedding" if isinstance(tree, Hierarchy) else f"embedding, {tree}",
                self._embedding(tree),
                rows * work / SLOW / max(unit, 1e-9),
            )

    def _embedding(self, tree: str | Hierarchy) -> Callable[[], Classifier]:
        return lambda: HSoftmaxClassifier(
            hierarchy=tree, random_state=self.seed, num_threads=self.threads
        )

    def _try(self, candidate: _Candidate) -> None:
        left = self.budget - (time.perf_counter() - self.start)
        if self.tried:
            unit, best = self.tried[0].seconds, self._best()
            expected = candidate.cost * unit
            if expected + self.scale * max(expected, best.seconds) > left:
                self.tried.append(TriedClassifier(candidate.name, note="left out: no time"))
                return
        self._tell(f"trying {candidate.name}")
        start = time.perf_counter()
        classifier = candidate.make().fit(*self.kept)
        seconds = time.perf_counter() - start
        self.tried.append(self._judged(candidate.name, classifier, seconds))
        if self.kept is self.all and self._best().name == candidate.name:
            self.fitted = classifier

    def _judged(self, name: str, classifier: Classifier, seconds: float) -> TriedClassifier:
        X, classes = self.held.X, classifier.classes_
        k = min(K, len(classes))
        found = classifier.top_k(X, k)
        ranked = np.searchsorted(classes, found.labels)
        if self.several:
            truth, nll = csr_array(self.held.y), math.nan
        else:
            number, known = find_sorted(classes, self.held.y)
            truth = np.where(known, number, len(classes))
            nll = _nll(classifier, X[known], number[known]) if known.any() else math.nan
        return TriedClassifier(
            name, *_figures(truth, ranked, k), nll, seconds, _weight_bytes(classifier)
        )

    def _best(self) -> TriedClassifier:
        tried = [one for one in self.tried if not one.note and one.name != YARDSTICK]
        if not self.judged:
            return tried[0]
        return max(tried, key=lambda one: one.ndcg_at_5)

    def _yardstick(self) -> None:
        """What the nearest centroid does, where that is cheap: a model must beat it."""
        if self.several or not issparse(self.kept.X):
            return
        start = time.perf_counter()
        classes, number = np.unique(self.kept.y, return_inverse=True)
        centroids = class_centroids(
            self.kept.X.astype(np.float32), number, len(classes), num_threads=self.threads
        )
        seconds = time.perf_counter() - start
        X = csr_array(self.held.X.astype(np.float32))
        columns = csr_array(
            (centroids.data, centroids.indices, centroids.indptr), shape=centroids.shape
        ).T.tocsr()
        work = float(np.diff(columns.indptr)[X.indices].sum())
        if work > CHEAP or X.shape[0] * len(classes) > CHEAP:
            return
        scores = (X @ columns).toarray()
        ranked = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        place, known = find_sorted(classes, self.held.y)
        truth = np.where(known, place, len(classes))
        figures = _figures(truth, ranked, ranked.shape[1])
        row = TriedClassifier(YARDSTICK, *figures, math.nan, seconds, centroids.data.nbytes)
        self.tried.append(row)

    def _tell(self, message: str) -> None:
        if self.verbose:
            note(message)


def _figures(truth: Any, ranked: Array, k: int) -> tuple[float, float, float, float]:
    return (
        precision_at_k(truth, ranked, 1),
        precision_at_k(truth, ranked, k),
        recall_at_k(truth, ranked, k),
        ndcg_at_k(truth, ranked, k),
    )


def _nll(classifier: Classifier, X: Any, numbers: Array) -> float:
    if isinstance(classifier, LabelTreeClassifier):
        rows = csr_array(X).astype(np.float32)
        found = classifier.model_.log_proba(
            rows, numbers[:, None], num_threads=classifier.num_threads
        )
        return -float(found.mean(dtype=np.float64))
    model = classifier.model_
    hidden = model.hidden(X, num_threads=classifier.num_threads)
    losses = hsoftmax(
        hidden, model.W, model.b, numbers, model.hierarchy, num_threads=classifier.num_threads
    )
    return float(losses.mean(dtype=np.float64))


def _weight_bytes(classifier: Classifier) -> int:
    if isinstance(classifier, LabelTreeClassifier):
        return int(classifier.model_.nbytes)
    return sum(array.nbytes for array in classifier.model_.to_arrays().values())


def _shown(value: float) -> float | None:
    return None if math.isnan(value) else value
