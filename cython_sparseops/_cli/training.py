"""Training examples of the command line: read, made rows, and told by how many labels they have."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from cython_sparseops._arrays import Array
from cython_sparseops._cli import readers as data
from cython_sparseops._cli.labels import LabelLists, as_scipy
from cython_sparseops._cli.model import Source
from cython_sparseops._cli.streams import InputError, open_lines
from cython_sparseops._cli.svmlight import read_svmlight
from cython_sparseops._models.text import Terms, TextFeatures, inverse_frequencies, weighed
from cython_sparseops._text import Strings

_PROSE = 0.5  # of the blank-separated tokens must hold a word, or texts are taken as they are
_LOOKED_AT = 1000  # lines


class TextOptions(NamedTuple):
    """How text becomes rows; None is left to what else was asked for."""

    tfidf: bool | None = None
    tokens: str | None = None
    lowercase: bool | None = None
    word_ngrams: int = 1
    char_ngrams: tuple[int, int] = (0, 0)
    min_count: int = 1

    def terms(self, texts: Strings, tfidf: bool) -> Terms:
        """scikit-learn's habits with TF-IDF, and fastText's with counts, unless told otherwise."""
        split = self.tokens or ("words" if tfidf and _is_prose(texts) else "blanks")
        lower = split == "words" if self.lowercase is None else self.lowercase
        return Terms(split, lower, self.word_ngrams, self.char_ngrams)


class TrainingData(NamedTuple):
    """Features, labels, and how such input is read."""

    X: Any
    labels: LabelLists
    source: Source


def read_training(
    path: str,
    format: str,
    prefix: str,
    options: TextOptions,
    *,
    tfidf: bool,
    numbers: bool,
    num_threads: int | None = None,
) -> TrainingData:
    """Read training examples.

    Parameters
    ----------
    path : str
        File name, or ``-`` for stdin.
    format : {"auto", "fasttext", "svmlight"}
        How it is written.
    prefix : str
        What labels of text begin with.
    options : TextOptions
        For text.
    tfidf : bool
        What they mean if they do not say.
    numbers : bool
        Whether labels are class numbers.
    num_threads : int, optional
        For text; never changes a bit of the result.

    Returns
    -------
    TrainingData
    """
    with open_lines(path) as lines:
        format = data.detect_format(lines, prefix) if format == "auto" else format
        if format == "svmlight":
            X, labels = read_svmlight(lines)
            source = Source(format, prefix)
            if options.tfidf:
                _require_counts(path, X)
                source = source._replace(idf=inverse_frequencies(X))
                X = as_scipy(weighed(X, inverse_frequencies(X)))
            return TrainingData(X, labels, source)
        tfidf = tfidf if options.tfidf is None else options.tfidf
        reader = data.LabeledBlocks(lines, prefix, num_threads)
        blocks = iter(reader)
        first = next(blocks, Strings.of([]))
        features, counted = TextFeatures.fit_blocks(
            itertools.chain([first], blocks),
            options.terms(first, tfidf),
            min_count=options.min_count,
            tfidf=tfidf,
            num_threads=num_threads,
        )
    labels = reader.labels
    if numbers:
        labels = labels._replace(flat=data.as_class_numbers(labels.flat.tolist()))
    return TrainingData(as_scipy(counted), labels, Source(format, prefix, features))


def read_validation(path: str, training: TrainingData, targets: Targets) -> tuple[Any, Any]:
    """Rows and labels of another file, as the training rows have them.

    Of several labels a line each gets a row where training has one label a line.
    """
    source = training.source
    with open_lines(path) as lines:
        if source.format == "svmlight":
            X, labels = read_svmlight(lines, training.X.shape[1])
            X = X if source.idf is None else as_scipy(weighed(X, source.idf))
        else:
            assert isinstance(source.text, TextFeatures)  # of text
            reader = data.LabeledBlocks(lines, source.prefix)
            X, labels = as_scipy(source.text.transform_blocks(reader)), reader.labels
    if targets.classes.dtype.kind in "iu" and labels.flat.dtype.kind not in "iu":
        labels = labels._replace(flat=data.as_class_numbers(labels.flat.tolist()))
    if targets.several:
        return X, as_scipy(labels.indicator(targets.classes))[:, : len(targets.classes)]
    return X[labels.rows], labels.flat


class Targets(NamedTuple):
    """Labels as a classifier takes them."""

    y: Any  # (N,), or an indicator matrix (N, C)
    classes: Array  # all labels, sorted
    counts: Array  # rows of each
    several: bool


def as_targets(labels: LabelLists) -> Targets:
    """One label a row as they are, several as an indicator matrix."""
    classes = np.unique(labels.flat)
    indicator = labels.indicator(classes)
    counts = np.bincount(indicator.indices, minlength=len(classes))
    if labels.is_single:
        return Targets(labels.flat, classes, counts, several=False)
    return Targets(as_scipy(indicator), classes, counts, several=True)


def repeated(X: Any, labels: LabelLists) -> tuple[Any, Array, Array]:
    """Every row once for each of its labels, which share a weight of 1: rows, labels, weights."""
    rows = labels.rows
    return X[rows], labels.flat, 1 / labels.lengths[rows]


def _is_prose(texts: Strings) -> bool:
    """Whether words of two letters and more are most of what stands between blanks."""
    n = len(texts.offsets) - 1
    raw, ends = texts.utf8, texts.offsets
    places = range(0, n, max(1, n // _LOOKED_AT))
    some = [raw[ends[i] : ends[i + 1]].tobytes().decode() for i in places]
    words, blanks = Terms("words"), Terms("blanks")
    n_words = sum(len(words.words(text)) for text in some)
    return n_words >= _PROSE * sum(len(blanks.words(text)) for text in some)


def _require_counts(path: str, X: Any) -> None:
    if X.data.size and X.data.min() <= 0:
        raise InputError(f"{path} must have positive values for --tfidf, got {X.data.min()}")
