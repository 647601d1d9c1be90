"""Data sets of the end-to-end benchmarks: WordNet's definitions and a synthetic bag of features."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.timing import zipf_counts

# Wheels leave it out.
DATA = Path(__file__).resolve().parents[2] / "cython_sparseops" / "data" / "wordnet"


class Bags(NamedTuple):
    """Bags of features (CSR) with labels, for training and for testing."""

    name: str
    X: Any
    y: np.ndarray
    X_test: Any
    y_test: np.ndarray
    n_classes: int


@functools.cache
def synthetic(n_classes, n_train, n_test=10_000, per_row=24, n_features=60_000, seed=0):
    """Every class has 12 features of its own; an example holds some of them, and noise words with
    Zipf frequencies. Labels are Zipf(1) over the classes, in random order."""
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(seed)
    own = rng.integers(0, n_features, (n_classes, 12))
    identity = rng.permutation(n_classes)
    steps = np.cumsum(zipf_counts(n_classes))
    noise = np.cumsum(1 / np.arange(10, n_features + 10))

    def draw(n):
        rank = np.searchsorted(steps, rng.random(n) * steps[-1], side="right")
        y = identity[np.minimum(rank, n_classes - 1)]
        words = np.searchsorted(noise, rng.random((n, per_row)) * noise[-1], side="right")
        words = np.minimum(words, n_features - 1)
        half = per_row // 2
        words[:, :half] = own[y[:, None], rng.integers(0, 12, (n, half))]
        indptr = np.arange(n + 1) * per_row
        data = np.ones(n * per_row, np.float32)
        X = csr_matrix((data, words.ravel(), indptr), (n, n_features))
        X.sum_duplicates()
        return X, y

    X, y = draw(n_train)
    X_test, y_test = draw(n_test)
    return Bags(f"synthetic {n_classes} classes", X, y, X_test, y_test, n_classes)


@functools.cache
def wordnet(quick=False):
    """Definitions of words, and the synset above them as the class: those of the demo."""
    from cython_sparseops._cli.demo import load_wordnet
    from cython_sparseops._cli.readers import learn_vocabulary, token_counter

    data = load_wordnet(quick, DATA)
    X, vocabulary = learn_vocabulary(data.train)
    X_test = token_counter(vocabulary).transform(data.test)
    classes = len(data.classes)
    return Bags("WordNet", X.astype(np.float32), data.y_train, X_test, data.y_test, classes)


def wordnet_taxonomy(quick=False):
    """WordNet's own tree over its classes."""
    import cython_sparseops as cso
    from cython_sparseops._cli.demo import load_wordnet

    data = load_wordnet(quick, DATA)
    counts = np.bincount(data.y_train, minlength=len(data.classes))
    return cso.Hierarchy.from_parents(data.parent, counts=counts)


def wordnet_names(counts):
    """Names of the classes as rows of TF-IDF, by the counts of all training rows."""
    from sklearn.feature_extraction.text import TfidfTransformer

    from cython_sparseops._cli.demo import load_wordnet, name_texts
    from cython_sparseops._cli.readers import learn_vocabulary, token_counter

    data = load_wordnet()
    counter = token_counter(learn_vocabulary(data.train)[1])
    weigh = TfidfTransformer(sublinear_tf=True).fit(counts)
    return weigh.transform(counter.transform(name_texts(data.classes))).astype(np.float32)


def texts(X):
    """The rows as words, a feature as often as its count."""
    rows = np.split(np.repeat(X.indices, X.data.astype(np.int64)), row_ends(X))
    return [" ".join(f"w{word}" for word in row) for row in rows]


def row_ends(X):
    """Where the repeated features of each row but the last end."""
    before = np.concatenate([[0], np.cumsum(X.data.astype(np.int64))])
    return before[X.indptr[1:-1]]


class FastTextFile:
    """The training set in fastText's format, in a temporary folder of its own."""

    def __init__(self, X, y):
        self.folder = tempfile.TemporaryDirectory(prefix="sparseops-bench-")
        self.path = str(Path(self.folder.name) / "train.txt")
        with open(self.path, "w") as file:
            for label, text in zip(y, texts(X), strict=True):
                file.write(f"__label__{label} {text}\n")

    def __enter__(self):
        return self.path

    def __exit__(self, *error):
        self.folder.cleanup()
