"""What the command line keeps in a model file: the classifier, and how its input is read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from cython_sparseops import hsoftmax
from cython_sparseops._arrays import Array, find_sorted
from cython_sparseops._cli import readers as data
from cython_sparseops._cli.streams import InputError, Lines, open_lines
from cython_sparseops._cli.svmlight import feature_blocks, read_svmlight
from cython_sparseops._models.bag import BLOCK
from cython_sparseops._models.file import (
    load_classifier,
    pack_strings,
    prefixed,
    save_classifier,
    under,
    unpack_strings,
)
from cython_sparseops._models.labels import as_labels
from cython_sparseops.sklearn import HSoftmaxClassifier, LabelTreeClassifier, TopK

Classifier = HSoftmaxClassifier | LabelTreeClassifier


class TrainingData(NamedTuple):
    """Features and labels as the classifier takes them, and the vocabulary of text."""

    X: Any
    y: npt.NDArray[Any]
    format: str
    vocabulary: list[str]
    several: int


def read_training(
    path: str, format: str, prefix: str, min_count: int, *, numbers: bool
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
    min_count : int
        Occurrences a token of text needs.
    numbers : bool
        Whether labels are class numbers.

    Returns
    -------
    TrainingData
    """
    with open_lines(path) as lines:
        format = data.detect_format(lines, prefix) if format == "auto" else format
        if format == "svmlight":
            X, labels, several = read_svmlight(lines)
            return TrainingData(X, labels, format, [], several)
        examples = data.read_text(lines, prefix)
    X, vocabulary = data.learn_vocabulary(examples.texts, min_count)
    y = data.as_class_numbers(examples.labels) if numbers else as_labels(examples.labels)
    return TrainingData(X, y, format, vocabulary, examples.several)


class Evaluation(NamedTuple):
    """Figures of a model on labeled examples; unknown labels count as misses and have no nll."""

    examples: int
    unknown_labels: int
    r_at_1: float  # share of rows whose label is the likeliest class: precision too, of one label
    r_at_k: float  # share of rows whose label is among the k likeliest
    k: int
    nll: float | None
    examples_per_second: float


def _losses(classifier: Classifier, X: Any, numbers: Array) -> Array:
    """The nll of each row's class."""
    threads = classifier.num_threads
    if isinstance(classifier, LabelTreeClassifier):
        return -classifier.model_.log_proba(X, numbers[:, None], num_threads=threads)[:, 0]
    model = classifier.model_
    hidden = model.hidden(X, num_threads=threads)
    return hsoftmax(hidden, model.W, model.b, numbers, model.hierarchy, num_threads=threads)


def evaluate(classifier: Classifier, X: Any, y: npt.NDArray[Any], k: int) -> Evaluation:
    """Measure a classifier.

    Parameters
    ----------
    classifier : HSoftmaxClassifier or LabelTreeClassifier
        A fitted one.
    X : CSR matrix of shape (N, F)
        Features.
    y : ndarray of shape (N,)
        Labels, of the same kind as the classifier's.
    k : int
        R@k is the share of examples whose label is among the k likeliest.

    Returns
    -------
    Evaluation
        The examples per second are those of finding the k likeliest classes.
    """
    k = min(k, len(classifier.classes_))
    start = time.perf_counter()
    found = classifier.top_k(X, k).labels
    seconds = time.perf_counter() - start
    hits = found == y[:, None]
    numbers, is_known = find_sorted(classifier.classes_, y)
    known = np.flatnonzero(is_known)
    nll = 0.0
    for first in range(0, len(known), BLOCK):
        rows = known[first : first + BLOCK]
        nll += float(np.sum(_losses(classifier, X[rows], numbers[rows]), dtype=np.float64))
    return Evaluation(
        examples=len(y),
        unknown_labels=len(y) - len(known),
        r_at_1=float(hits[:, 0].mean()),
        r_at_k=float(hits.any(axis=1).mean()),
        k=k,
        nll=nll / len(known) if len(known) else None,
        examples_per_second=len(y) / max(seconds, 1e-9),
    )


class CliModel(NamedTuple):
    """A classifier, the format of its input, and for text the vocabulary and the label prefix."""

    classifier: HSoftmaxClassifier
    format: str
    vocabulary: list[str]
    prefix: str

    def save(self, path: str) -> None:
        """Write everything to one file that `HSoftmaxClassifier.load` reads too."""
        arrays = prefixed("vocabulary", pack_strings(self.vocabulary))
        save_classifier(
            self.classifier, path, arrays, {"input": {"format": self.format, "prefix": self.prefix}}
        )

    @classmethod
    def load(cls, path: str, num_threads: int | None = None) -> Self:
        """Read a file of `save`."""
        classifier, arrays, metadata = load_classifier(HSoftmaxClassifier, path)
        classifier.num_threads = num_threads
        source = metadata.get("input")
        if not isinstance(source, dict) or source.get("format") not in ("fasttext", "svmlight"):
            raise InputError(
                f"{path} must be a model of `sparseops train`, got one saved by other means"
            )
        vocabulary = unpack_strings(under("vocabulary", arrays))
        if source["format"] == "fasttext" and len(vocabulary) != classifier.n_features_in_:
            raise InputError(
                f"{path} must hold {classifier.n_features_in_} words, got {len(vocabulary)}"
            )
        return cls(
            classifier, source["format"], vocabulary, str(source.get("prefix", data.LABEL_PREFIX))
        )

    def read_labeled(self, path: str) -> tuple[Any, npt.NDArray[Any], int]:
        """Read examples as for training: X, y, and how many had several labels."""
        with open_lines(path) as lines:
            if self.format == "svmlight":
                return read_svmlight(lines, self.classifier.n_features_in_)
            examples = data.read_text(lines, self.prefix)
        X = data.token_counter(self.vocabulary).transform(examples.texts)
        return X, self._as_labels(examples.labels), examples.several

    def predictions(self, path: str, k: int) -> Iterator[list[tuple[list[str], list[float]]]]:
        """Predict the lines that came together: labels as in files, and their probabilities."""
        with open_lines(path) as lines:
            for X in self._blocks(lines):
                labels, log_probs = self._top_k(X, k)
                yield [
                    ([self.written(label) for label in row], logs.tolist())
                    for row, logs in zip(labels, np.exp(log_probs), strict=True)
                ]

    def written(self, label: Any) -> str:
        """Write a label as in the model's input."""
        return f"{self.prefix}{label}" if self.format == "fasttext" else str(label)

    def _top_k(self, X: Any, k: int) -> TopK:
        return self.classifier.top_k(X, min(k, len(self.classifier.classes_)))

    def _blocks(self, lines: Lines) -> Iterator[Any]:
        """Features of the lines that came together: an answer never waits for the next line."""
        if self.format == "svmlight":
            yield from feature_blocks(lines, self.classifier.n_features_in_)
            return
        counter = data.token_counter(self.vocabulary)
        for block in lines.blocks():
            yield counter.transform([data.split_labels(text, self.prefix)[1] for _, text in block])

    def _as_labels(self, labels: Sequence[str]) -> npt.NDArray[Any]:
        if self.classifier.classes_.dtype.kind not in "iu":
            return as_labels(labels)
        return np.array(
            [
                int(label) if label.isascii() and label.isdigit() and len(label) < 19 else -1
                for label in labels
            ]
        )


def describe(path: str) -> dict[str, Any]:
    """Describe a saved classifier, one fact per entry."""
    classifier, _, metadata = load_classifier(HSoftmaxClassifier, path)
    tree, model, params = classifier.hierarchy_, classifier.model_, metadata["params"]
    source = metadata.get("input") or {}
    values = {
        "input": source.get("format"),
        "classes": tree.n_classes,
        "features": int(classifier.n_features_in_),
        "hidden dim": None if model.E is None else int(model.E.shape[1]),
        "dtype": str(model.W.dtype),
        "tree": params["hierarchy"] or "given",
        "inner nodes": tree.n_nodes,
        "rows of W": tree.n_rows,
        "depth": tree.depth,
        "optimizer": classifier.optimizer,
        "seed": classifier.random_state,
        "first labels": ", ".join(map(str, classifier.classes_[:5])),
    }
    if classifier.history_:
        last = classifier.history_[-1]
        values |= {"examples trained": last.examples, "nll": last.nll}
    return values
