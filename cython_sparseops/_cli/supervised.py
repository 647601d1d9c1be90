"""Training by fastText's settings: the step of its gradient descent, its features, its losses."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from cython_sparseops import Hierarchy
from cython_sparseops._cli.fasttext_text import (
    Dictionary,
    Examples,
    Hashing,
    as_name,
    count_words,
    learn_features,
    read_examples,
    require_labels,
)
from cython_sparseops._cli.labels import LabelLists
from cython_sparseops._cli.model import CliModel, Source
from cython_sparseops._cli.streams import InputError
from cython_sparseops._cli.training import repeated
from cython_sparseops.sklearn import HSoftmaxClassifier

_STEP = 8.0  # learning rate times batch: gradients of a batch are summed, and more of them diverge
_LARGEST = 256


class Settings(NamedTuple):
    """fastText's, by our names."""

    lr: float = 0.1
    epoch: int = 5
    dim: int = 100
    hashing: Hashing = Hashing()
    min_count: int = 1
    min_label: int = 0
    loss: str = "softmax"
    prefix: str = "__label__"
    seed: int = 0
    threads: int | None = None
    verbose: int = 0


class Trained(NamedTuple):
    """A model, its dictionary, and whether Ctrl-C ended its training."""

    model: CliModel
    dictionary: Dictionary
    interrupted: bool = False


def read_training(path: str, settings: Settings) -> Examples:
    """Read a training file."""
    examples = read_examples(path, settings.prefix)
    require_labels(path, examples)
    return examples


def train(path: str, examples: Examples, settings: Settings) -> Trained:
    """Train on the examples that have a label; those without only count words, as in fastText."""
    dictionary = count_words(
        examples.texts, settings.prefix, settings.min_count, settings.min_label
    )
    if not dictionary.words:
        raise InputError(f"{path} must hold a word {settings.min_count} times, got none")
    names = {as_name(label[len(settings.prefix.encode()) :]) for label in dictionary.labels}
    if not names:
        raise InputError(f"{path} must hold a label {settings.min_label} times, got none")
    labels = _known(examples.labels, names)
    kept = np.flatnonzero(labels.lengths)
    texts = [examples.texts[i] for i in kept]
    features, X = learn_features(texts, dictionary, settings.hashing, settings.prefix)
    labels = LabelLists(labels.flat, np.concatenate([[0], np.cumsum(labels.lengths[kept])]))
    classifier = HSoftmaxClassifier(
        settings.dim,
        hierarchy="huffman" if settings.loss == "hs" else _flat(len(names)),
        optimizer="sgd",
        lr=settings.lr,
        epochs=settings.epoch,
        batch_size=int(np.clip(_STEP / settings.lr, 1, _LARGEST)),
        early_stopping=False,  # as fastText: all passes, over all rows, for the labels as they are
        label_smoothing=0.0,
        random_state=settings.seed,
        num_threads=settings.threads,
        verbose=settings.verbose,
    )
    X_rows, y, weight = repeated(X, labels) if not labels.is_single else (X, labels.flat, None)
    interrupted = _fit(classifier, X_rows, _numbered(y, settings.loss), weight)
    classifier.classes_ = np.unique(labels.flat)
    counts = np.bincount(labels.indicator(classifier.classes_).indices, minlength=len(names))
    source = Source(
        "fasttext", settings.prefix, features, counts=counts, rows=len(kept), is_fasttext=True
    )
    return Trained(CliModel(classifier, source), dictionary, interrupted)


def _numbered(y: Any, loss: str) -> Any:
    """Labels of a tree that is given as class numbers: it has no names."""
    return y if loss == "hs" else np.unique(y, return_inverse=True)[1]


def _fit(classifier: Any, X: Any, y: Any, weight: Any) -> bool:
    try:
        classifier.fit(X, y, weight)
    except KeyboardInterrupt:
        if not getattr(classifier, "history_", None):
            raise
        return True
    return False


def _flat(n_classes: int) -> Hierarchy:
    """A plain softmax."""
    return Hierarchy.balanced(n_classes, arity=max(2, n_classes))


def _known(labels: LabelLists, names: set[str]) -> LabelLists:
    """The labels that are frequent enough to be classes."""
    known = np.array([label in names for label in labels.flat.tolist()], bool)
    ends = np.concatenate([[0], np.cumsum(known)])[labels.ends]
    return LabelLists(labels.flat[known], ends)


class Figures(NamedTuple):
    """What fastText's ``test`` prints: examples with a known label, precision, recall."""

    examples: int
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Their harmonic mean."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both > 0 else 0.0


class Answers(NamedTuple):
    """Predictions and truth, row by row; -1 is no prediction."""

    ranked: Any  # (N, k)
    truth: Any  # CSR (N, at least C) of the labels

    def hits(self) -> Any:
        """Whether each prediction is a label of its row."""
        keys = np.repeat(np.arange(self.truth.shape[0]), np.diff(self.truth.indptr))
        known = set((keys * self.truth.shape[1] + self.truth.indices).tolist())
        rows = np.arange(len(self.ranked))[:, None] * self.truth.shape[1]
        wanted = (rows + self.ranked).ravel().tolist()
        found = np.array([key in known for key in wanted], bool).reshape(self.ranked.shape)
        return found & (self.ranked >= 0)

    def figures(self) -> Figures:
        """Over all rows together, as fastText counts."""
        hits, given = int(self.hits().sum()), int((self.ranked >= 0).sum())
        labels = len(self.truth.indices)
        precision = hits / given if given else float("nan")
        return Figures(len(self.ranked), precision, hits / labels if labels else float("nan"))


def answers(model: CliModel, path: str, k: int, threshold: float) -> Answers:
    """What a model says of the examples that have a label it knows."""
    X, labels = model.read_labeled(path)
    labels = _known(labels, set(model.classes.tolist()))
    rows = np.flatnonzero(labels.lengths)
    if not len(rows):
        raise InputError(f"{path} must hold a label that the model knows, got none")
    truth = LabelLists(labels.flat, np.concatenate([[0], np.cumsum(labels.lengths[rows])]))
    ranked, log_probs = model.best(X[rows], min(k, len(model.classes)))
    ranked = np.where(np.exp(log_probs) >= threshold, ranked, -1)
    return Answers(ranked, truth.indicator(model.classes))


class Tuned(NamedTuple):
    """One setting that was tried."""

    changed: dict[str, Any]
    f1: float
    seconds: float


# What is tried, one option after the other, in this order; what is best stays.
_TRIALS: list[tuple[str, list[dict[str, Any]]]] = [
    ("wordNgrams", [{"wordNgrams": n} for n in (2, 3)]),
    ("lr", [{"lr": lr} for lr in (0.25, 0.5, 1.0)]),
    ("epoch", [{"epoch": n} for n in (10, 25, 50)]),
    ("minn", [{"minn": a, "maxn": b} for a, b in ((3, 6), (2, 5))]),
    ("dim", [{"dim": n} for n in (50, 200)]),
]
_DEARER = {"wordNgrams": 3.0, "minn": 8.0, "dim": 2.0}  # than the best so far, at most or so


def autotune(
    path: str,
    examples: Examples,
    settings: Settings,
    validation: str,
    seconds: float,
    k: int,
    given: set[str],
    tell: Callable[[str], None],
) -> tuple[Trained, Settings, list[Tuned]]:
    """Search for settings by the F1 on a validation file: in a fixed order, within the time.

    Options that were given stay. The order and what is kept depend on the figures alone; the clock
    decides how far the search comes.
    """
    start = time.perf_counter()
    best, best_settings, tried = train(path, examples, settings), settings, list[Tuned]()
    took = time.perf_counter() - start
    f1 = answers(best.model, validation, k, 0.0).figures().f1
    tried.append(Tuned({}, f1, took))
    tell(f"F1 {f1:.4f} as given")
    for option, changes in _TRIALS:
        if option in given or (option == "minn" and "maxn" in given):
            continue
        for change in changes:
            new = changed(best_settings, change)
            expected = took * _DEARER.get(option, 1.0) * new.epoch / best_settings.epoch
            if time.perf_counter() - start + expected > seconds or best.interrupted:
                continue
            begun = time.perf_counter()
            found = train(path, examples, new)
            spent = time.perf_counter() - begun
            score = answers(found.model, validation, k, 0.0).figures().f1
            tried.append(Tuned(change, score, spent))
            shown = " ".join(f"-{name} {value}" for name, value in change.items())
            tell(f"F1 {score:.4f} with {shown}")
            if score > f1:
                best, best_settings, f1, took = found, new, score, spent
    return best, best_settings, tried


def changed(settings: Settings, change: dict[str, Any]) -> Settings:
    """Settings with other values, by fastText's names.

    Examples
    --------
    >>> changed(Settings(), {"wordNgrams": 2, "lr": 0.5}).hashing.word_ngrams
    2
    """
    names = {"wordNgrams": "word_ngrams", "minn": "min_chars", "maxn": "max_chars"}
    hashing = {names[name]: value for name, value in change.items() if name in names}
    rest = {name: value for name, value in change.items() if name not in names}
    return settings._replace(hashing=settings.hashing._replace(**hashing), **rest)
