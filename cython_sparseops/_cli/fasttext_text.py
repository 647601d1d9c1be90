"""Text by fastText's rules: examples that end at a newline or at ``</s>``, and the dictionary."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from cython_sparseops._arrays import Array
from cython_sparseops._cli.corpus import Corpus
from cython_sparseops._cli.labels import LabelLists, as_scipy
from cython_sparseops._models.labels import as_labels
from cython_sparseops._models.progress import shown_bytes
from cython_sparseops._models.stream import Block
from cython_sparseops._sparse import Compressed
from cython_sparseops._text import FastTextCounter, FastTextFeatures, Hashing, Vocabulary, stacked

END = "</s>"
_KEPT = 4  # a part of the machine's memory that rows may take, one in so many


def as_name(label: bytes) -> str:
    """A label as text; a byte that is no UTF-8 is half a surrogate in it."""
    return label.decode("utf-8", "surrogateescape")


def learn_vocabulary(
    corpus: Corpus,
    hashing: Hashing,
    prefix: str,
    *,
    min_count: int = 1,
    min_label: int = 0,
    num_threads: int | None = None,
    verbose: int = 0,
) -> Vocabulary:
    """Count the tokens of all examples, the end of each among them.

    Parameters
    ----------
    corpus : Corpus
    hashing : Hashing
    prefix : str
        What labels begin with.
    min_count, min_label : int
        Occurrences that a word and a label need.
    num_threads : int, optional
        Never changes a bit of the result.
    verbose : int
        0 shows no progress.

    Returns
    -------
    Vocabulary
    """
    counter = FastTextCounter(hashing, prefix.encode(), num_threads=num_threads)
    for block in shown_bytes(corpus, corpus.size, verbose, "reading"):
        counter.add(block)
    return counter.vocabulary(min_count, min_label)


class LabelNames:
    """The labels of a dictionary as classes: without their prefix, sorted.

    Parameters
    ----------
    features : FastTextFeatures

    Attributes
    ----------
    classes : ndarray of str, shape (C,)
    number : ndarray of int64
        The class of each label of the dictionary.
    """

    def __init__(self, features: FastTextFeatures) -> None:
        first = len(features.label_prefix)
        names = [as_name(label[first:]) for label in features.labels.to_list()]
        order = sorted(range(len(names)), key=names.__getitem__)
        self.classes: Array = as_labels([names[i] for i in order])
        self.number = np.empty(len(names), np.int64)
        self.number[order] = np.arange(len(names))


def row_reader(
    corpus: Corpus, features: FastTextFeatures, names: LabelNames, num_threads: int | None
) -> Callable[[int], Block]:
    """What gives the rows of each block of a text: one for each label of an example, which share a
    weight of 1. Rows are kept as long as a part of the machine's memory holds them."""
    kept: dict[int, Block] = {}
    room = [_memory() // _KEPT]

    def read(number: int) -> Block:
        if number in kept:
            return kept[number]
        block = _rows(corpus[number], features, names, num_threads)
        size = sum(a.nbytes for a in (*block.X[:3], block.labels, block.weight) if a is not None)
        if size <= room[0]:
            room[0] -= size
            kept[number] = block
        return block

    return read


def _rows(
    text: bytes, features: FastTextFeatures, names: LabelNames, num_threads: int | None
) -> Block:
    found = features.examples(text, labeled_only=True, num_threads=num_threads)
    labels = names.number[found.labels]
    lengths = np.diff(found.ends)
    if (lengths == 1).all():
        return Block(found.X, labels, None)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return Block(_repeated(found.X, rows), labels, (1 / lengths[rows]).astype(np.float32))


def _repeated(X: Any, rows: Array) -> Any:
    """These rows of a CSR matrix."""
    starts, lengths = X.indptr[rows], np.diff(X.indptr)[rows]
    indptr = np.zeros(len(rows) + 1, X.indptr.dtype)
    np.cumsum(lengths, out=indptr[1:])
    at = np.repeat(starts - indptr[:-1], lengths) + np.arange(indptr[-1])
    shape = (len(rows), X.shape[1])
    return X._replace(indptr=indptr, indices=X.indices[at], data=X.data[at], shape=shape)


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not known here
        return 1 << 32


def read_examples(
    corpus: Corpus, features: FastTextFeatures, num_threads: int | None = None
) -> tuple[Any, LabelLists]:
    """The rows of all examples and their labels; labels outside the dictionary are left out."""
    names, rows = LabelNames(features), list[Compressed]()
    labels, lengths = [np.empty(0, np.int64)], [np.zeros(1, np.int64)]
    for block in corpus:
        found = features.examples(block, num_threads=num_threads)
        rows.append(found.X)
        labels.append(names.number[found.labels])
        lengths.append(np.diff(found.ends))
    flat = names.classes[np.concatenate(labels)]
    ends = np.cumsum(np.concatenate(lengths))
    return as_scipy(stacked(rows, features.n_features)), LabelLists(flat, ends)
