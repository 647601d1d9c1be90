"""What a contestant of ``race.py`` is, and the forms that they exchange."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy import sparse

TOP, BEAM = 5, 10


class Task:
    """The folder that ``label_trees/tasks.py`` wrote; matrices are read when asked for."""

    def __init__(self, folder):
        self.folder = Path(folder)
        vars(self).update(json.loads((self.folder / "task.json").read_text()))

    def matrix(self, name):
        matrix = sparse.load_npz(self.folder / f"{name}.npz").tocsr()
        matrix.sort_indices()
        return matrix

    def rows(self, which):
        """Features as the task has them: CSR, or an array where they are dense."""
        X = self.matrix(f"X_{which}")
        return X.toarray() if self.dense else X

    def labels(self, which):
        """Of single labels the column of each row, otherwise the indicator matrix."""
        Y = self.matrix(f"Y_{which}")
        return Y.indices.astype(np.int64) if self.single else Y


class Contestant:
    """`prepare` is not timed, `train` is; `load` reads what `save` wrote in another process."""

    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()  # imported before memory is looked at
    settings = ""
    measuring = False  # while loading: one copy of the model is enough

    def __init__(self, task, threads, seed):
        self.task, self.threads, self.seed = task, threads, seed

    def prepare(self, work):
        self.X, self.y = self.task.rows("train"), self.task.labels("train")

    def queries(self):
        return self.task.rows("test")

    def nll(self, rows):
        """Mean of -log P(class) over `rows` queries or all; None where there is no such P."""
        return None

    def bytes(self):
        """Bytes of the model in memory as it counts them itself, where it does."""
        return None


def from_pairs(found):
    """(N, TOP) columns out of lists of (label, score); -1 where there are fewer."""
    out = np.full((len(found), TOP), -1, np.int64)
    for i, pairs in enumerate(found):
        ids = [label for label, _ in pairs[:TOP]]
        out[i, : len(ids)] = ids
    return out


def from_csr(P):
    """The same out of a matrix of scores."""
    out = np.full((P.shape[0], TOP), -1, np.int64)
    for i in range(P.shape[0]):
        a, b = P.indptr[i : i + 2]
        order = np.argsort(-P.data[a:b], kind="stable")[:TOP]
        out[i, : len(order)] = P.indices[a:b][order]
    return out


def write_xmc(path, X, Y):
    """The format of the XMC repository. Rows without features are left out: omikuji does not load
    a file that has one."""
    kept = np.flatnonzero(np.diff(X.indptr))
    X, Y = X[kept], Y[kept]
    with open(path, "w") as file:
        file.write(f"{X.shape[0]} {X.shape[1]} {Y.shape[1]}\n")
        for i in range(X.shape[0]):
            labels = ",".join(map(str, Y.indices[Y.indptr[i] : Y.indptr[i + 1]]))
            a, b = X.indptr[i : i + 2]
            pairs = zip(X.indices[a:b].tolist(), X.data[a:b].tolist(), strict=True)
            file.write(labels + " " + " ".join(f"{f}:{value:.7g}" for f, value in pairs) + "\n")


def as_words(X):
    """Rows as text, a feature as often as its count."""
    for i in range(X.shape[0]):
        a, b = X.indptr[i : i + 2]
        counts = X.data[a:b].astype(np.int64)
        yield " ".join(f"w{f}" for f in np.repeat(X.indices[a:b], counts).tolist())


def lines(path, X, Y):
    """fastText's training file."""
    with open(path, "w") as file:
        for i, text in enumerate(as_words(X)):
            labels = Y.indices[Y.indptr[i] : Y.indptr[i + 1]]
            file.write(" ".join(f"__label__{label}" for label in labels) + f" {text}\n")
