"""One text at a time through a vectorizer: what its `transform` gives, without what that checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from cython_sparseops._arrays import INT64, Array, describe
from cython_sparseops._models.text import TextFeatures
from cython_sparseops._text import FastTextFeatures

_KNOWN = ("CountVectorizer", "TfidfVectorizer")  # of scikit-learn; a subclass may do other things


class TextRows(NamedTuple):
    """What makes a row of a text: (ids, weights), or a matrix."""

    row: Callable[[str], Any]
    columns: Mapping[str, int]  # by their names, if they have some
    n_features: int | None  # None: not known


def text_rows(vectorizer: Any) -> TextRows:
    """The rows of a vectorizer, by the shortest way that gives the same bytes.

    Raises
    ------
    TypeError
        If the object has no `transform`.
    """
    if isinstance(vectorizer, TextFeatures):
        return TextRows(vectorizer.row, vectorizer.columns, vectorizer.n_features)
    if isinstance(vectorizer, FastTextFeatures):
        return TextRows(lambda text: vectorizer.transform([text]), {}, vectorizer.n_features)
    kind = type(vectorizer)
    if kind.__module__.startswith("sklearn.") and kind.__name__ in _KNOWN:
        counted = CountedTerms(vectorizer)
        return TextRows(counted, counted.columns, len(counted.columns))
    if not callable(getattr(vectorizer, "transform", None)):
        raise TypeError(
            f"vectorizer must have a transform for lists of texts, got {describe(vectorizer)}"
        )
    return TextRows(lambda text: vectorizer.transform([text]), {}, None)


def _refuse_text(text: str) -> Any:
    raise ValueError(f"row must be numbers where there is no vectorizer, got {describe(text)}")


NO_TEXT = TextRows(_refuse_text, {}, None)


class CountedTerms:
    """A fitted `CountVectorizer` or `TfidfVectorizer` of scikit-learn, for one text, to the bit."""

    def __init__(self, vectorizer: Any) -> None:
        vectorizer.transform([""])  # refuses one that is not fitted; fills a given vocabulary
        self._analyze: Callable[[str], list[str]] = vectorizer.build_analyzer()
        self.columns: dict[str, int] = vectorizer.vocabulary_
        self._binary = bool(vectorizer.binary)
        self._dtype = np.dtype(vectorizer.dtype)
        self._is_weighed = hasattr(vectorizer, "sublinear_tf")
        if self._is_weighed:
            self._dtype = self._dtype if self._dtype.kind == "f" else np.dtype(np.float64)
            self._sublinear, self._norm = bool(vectorizer.sublinear_tf), vectorizer.norm
            self._idf: Array | None = vectorizer.idf_.copy() if vectorizer.use_idf else None

    def __call__(self, text: str) -> tuple[Array, Array]:
        get, counts = self.columns.get, dict[int, int]()
        for term in self._analyze(text):
            at = get(term)
            if at is not None:
                counts[at] = counts.get(at, 0) + 1
        columns = sorted(counts)
        ids = np.array(columns, INT64)
        weights = np.array([1 if self._binary else counts[at] for at in columns], self._dtype)
        return ids, self._weighed(ids, weights) if self._is_weighed else weights

    def _weighed(self, ids: Array, weights: Array) -> Array:
        """As TfidfTransformer: the same operations, in the same order."""
        if self._sublinear:
            weights = np.log(weights) + weights.dtype.type(1)
        if self._idf is not None:
            weights *= self._idf[ids]
        if self._norm is None or not len(ids):
            return weights
        parts = np.abs(weights) if self._norm == "l1" else weights * weights
        total = float(np.bincount(np.zeros(len(ids), np.intp), parts)[0])  # from left to right
        norm = total if self._norm == "l1" else math.sqrt(total)
        # The dtype said, since NumPy 1 divides float32 by a float64 scalar in float32.
        return np.divide(weights, norm, dtype=np.float64).astype(weights.dtype) if norm else weights
