"""Text by fastText's rules: examples that end at a newline or at ``</s>``, and the dictionary."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from cython_sparseops._cli.labels import LabelLists, as_scipy
from cython_sparseops._cli.streams import InputError, open_lines
from cython_sparseops._models.labels import as_labels
from cython_sparseops._models.text import tokens
from cython_sparseops._sparse import Compressed
from cython_sparseops._text import FastTextFeatures, Strings

BYTES = "latin-1"  # an encoding in which every byte is a letter
END = "</s>"


class Examples(NamedTuple):
    """Lines as fastText takes them: bytes with their labels in them, and the labels."""

    texts: list[bytes]
    labels: LabelLists


def examples_of(line: str) -> list[bytes]:
    """The examples of a line that was read as `BYTES`.

    Examples
    --------
    >>> examples_of("__label__a one </s> two")
    [b'__label__a one', b'two']
    """
    parts: list[list[str]] = [[]]
    for token in tokens(line):
        if token == END:
            parts.append([])
        else:
            parts[-1].append(token)
    return [" ".join(part).encode(BYTES) for part in parts]


def read_examples(path: str, prefix: str) -> Examples:
    """Read a file; examples without a label have none.

    Parameters
    ----------
    path : str
        File name, or ``-`` for stdin.
    prefix : str
        What labels begin with.

    Returns
    -------
    Examples
        Labels are without their prefix; a byte that is no UTF-8 is half a surrogate in them.
    """
    first, texts = prefix.encode(), list[bytes]()
    labels, ends = list[str](), [0]
    with open_lines(path, BYTES) as lines:
        for _, line in lines:
            for text in examples_of(line):
                texts.append(text)
                found = [word for word in text.split(b" ") if word.startswith(first)]
                labels += [as_name(word[len(first) :]) for word in found]
                ends.append(len(labels))
    return Examples(texts, LabelLists(as_labels(labels), np.array(ends)))


def as_name(label: bytes) -> str:
    """A label as text."""
    return label.decode("utf-8", "surrogateescape")


class Dictionary(NamedTuple):
    """Words and labels by falling count, the first seen first among equals."""

    words: list[bytes]
    labels: list[bytes]  # with their prefix
    tokens: int


def count_words(texts: list[bytes], prefix: str, min_count: int, min_label: int) -> Dictionary:
    """Count the tokens of all examples, the end of each among them.

    Examples
    --------
    >>> count_words([b"__label__a x y", b"y"], "__label__", 1, 0).words
    [b'y', b'</s>', b'x']
    """
    counts: Counter[bytes] = Counter()
    end = END.encode()
    for text in texts:
        counts.update(text.split())
        counts[end] += 1
    first = prefix.encode()
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return Dictionary(
        [word for word, n in ordered if not word.startswith(first) and n >= min_count],
        [word for word, n in ordered if word.startswith(first) and n >= min_label],
        counts.total(),
    )


class Hashing(NamedTuple):
    """fastText's wordNgrams, minn, maxn and bucket."""

    word_ngrams: int = 1
    min_chars: int = 0
    max_chars: int = 0
    buckets: int = 2_000_000


def learn_features(
    texts: list[bytes], dictionary: Dictionary, hashing: Hashing, prefix: str
) -> tuple[FastTextFeatures, Any]:
    """The columns of a dictionary, and the rows of these examples.

    Buckets that no example fills get no column: fastText keeps a row of random numbers for each.
    """
    if hashing.word_ngrams == 1 and not hashing.max_chars:
        hashing = hashing._replace(buckets=0)
    words, labels = Strings.of(dictionary.words), Strings.of(dictionary.labels)

    def features(kept: Any) -> FastTextFeatures:
        return FastTextFeatures(
            words, labels, kept, label_prefix=prefix.encode(), **hashing._asdict()
        )

    whole = features(None)
    X = whole.transform(texts)
    if not hashing.buckets:
        return whole, as_scipy(X)
    own = len(dictionary.words)
    filled = np.unique(X.indices[X.indices >= own])
    column = np.where(X.indices < own, X.indices, own + np.searchsorted(filled, X.indices)).astype(
        X.indices.dtype
    )
    shape = (X.shape[0], own + len(filled))
    kept = (filled - own).astype(np.int32)
    return features(kept), as_scipy(Compressed(X.indptr, column, X.data, shape, "csr"))


def require_labels(path: str, examples: Examples) -> None:
    """Refuse a file in which nothing can be learned."""
    if not len(examples.labels.flat):
        raise InputError(f"{path} must hold at least one label, got none")
