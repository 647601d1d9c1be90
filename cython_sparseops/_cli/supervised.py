"""Training by fastText's settings: the step of its gradient descent, its features, its losses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from cython_sparseops import Hierarchy
from cython_sparseops._cli.corpus import Corpus
from cython_sparseops._cli.fasttext_text import LabelNames, learn_vocabulary, row_reader
from cython_sparseops._cli.labels import LabelLists
from cython_sparseops._cli.model import CliModel, Source
from cython_sparseops._cli.streams import InputError
from cython_sparseops._cli.word_vectors import read_vectors, with_words
from cython_sparseops._models.bag import BagModel, BagTrainer, Progress
from cython_sparseops._models.progress import shown
from cython_sparseops._models.stream import train_blocks
from cython_sparseops._text import Hashing, Vocabulary
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
    vectors: str | None = None  # a file
    prefix: str = "__label__"
    seed: int = 0
    threads: int | None = None
    verbose: int = 0


class Trained(NamedTuple):
    """A model, its dictionary, and whether Ctrl-C ended its training."""

    model: CliModel
    vocabulary: Vocabulary
    interrupted: bool = False


def train(corpus: Corpus, settings: Settings) -> Trained:
    """Train on the examples that have a label; those without only count words, as in fastText.

    Memory holds the model, and of the rows what there is room for: the rest is read again in each
    pass.
    """
    vectors = None
    if settings.vectors is not None:
        vectors = read_vectors(settings.vectors, settings.dim, settings.prefix)
    vocabulary = _vocabulary(corpus, settings)
    if vectors is not None:
        vocabulary = with_words(vocabulary, vectors.words)
    features = vocabulary.features
    names = LabelNames(features)
    counts = np.empty(len(names.classes), np.int64)
    counts[names.number] = vocabulary.label_counts
    tree = Hierarchy.huffman(counts) if settings.loss == "hs" else _flat(len(counts))
    model = BagModel.create(tree, features.n_features, hidden_dim=settings.dim, rng=settings.seed)
    if vectors is not None:
        vectors.write(features, model)
    values: dict[str, Any] = {
        "optimizer": "sgd",
        "lr": settings.lr,
        "epochs": settings.epoch,
        "batch_size": int(np.clip(_STEP / settings.lr, 1, _LARGEST)),
    }
    trainer = BagTrainer(
        model, rng=settings.seed, bias=False, num_threads=settings.threads, **values
    )
    rows = int(counts.sum())
    read = row_reader(corpus, features, names, settings.threads)
    steps = train_blocks(trainer, read, len(corpus), rows)
    interrupted = _run(shown(steps, settings.verbose, "training"), trainer, corpus)
    classifier = HSoftmaxClassifier._of_model(
        model,
        names.classes,
        early_stopping=False,  # as fastText: all passes, over all rows, for the labels as they are
        label_smoothing=0.0,
        random_state=settings.seed,
        verbose=settings.verbose,
        hierarchy="huffman" if settings.loss == "hs" else tree,
        **values,
    )
    classifier.history_ = trainer.history
    source = Source(
        "fasttext", settings.prefix, features, counts=counts, rows=rows, is_fasttext=True
    )
    return Trained(CliModel(classifier, source), vocabulary, interrupted)


def _vocabulary(corpus: Corpus, settings: Settings) -> Vocabulary:
    found = learn_vocabulary(
        corpus,
        settings.hashing,
        settings.prefix,
        min_count=settings.min_count,
        min_label=settings.min_label,
        num_threads=settings.threads,
        verbose=settings.verbose,
    )
    if not len(found.label_counts):
        times = f" {settings.min_label} times" if settings.min_label > 1 else ""
        raise InputError(f"{corpus.path} must hold at least one label{times}, got none")
    if not len(found.word_counts):
        raise InputError(f"{corpus.path} must hold a word {settings.min_count} times, got none")
    return found


def _run(steps: Iterator[Progress], trainer: BagTrainer, corpus: Corpus) -> bool:
    """Train, and say whether Ctrl-C ended it."""
    try:
        for _ in steps:
            pass
    except KeyboardInterrupt:
        if not trainer.history:
            raise
        return True
    except ValueError as error:
        if str(error).startswith("blocks"):
            raise InputError(f"{corpus.path} must not change while it is read") from None
        lr = trainer.W_optimizer.lr
        raise ValueError(f"lr must be small enough to converge, got {lr}: {error}") from error
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
    corpus: Corpus,
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
    best, best_settings, tried = train(corpus, settings), settings, list[Tuned]()
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
            found = train(corpus, new)
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
