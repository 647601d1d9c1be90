"""Vectors of words that training begins with: fastText's text format."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from cython_sparseops._arrays import Array
from cython_sparseops._cli.streams import InputError, byte_blocks
from cython_sparseops._models.bag import BagModel
from cython_sparseops._text import FastTextFeatures, Strings, Vocabulary


class Vectors(NamedTuple):
    """Words and their vectors.

    Attributes
    ----------
    words : list of bytes
        They differ, and none is a label.
    rows : ndarray of float32, shape (words, dim)
    """

    words: list[bytes]
    rows: Array

    def write(self, features: FastTextFeatures, model: BagModel) -> None:
        """Put them into the rows of E that are these words."""
        place = {word: at for at, word in enumerate(features.words.to_list())}
        assert isinstance(model.E, np.ndarray)  # of text, in training
        model.E[[place[word] for word in self.words]] = self.rows


def read_vectors(path: str, dim: int, prefix: str) -> Vectors:
    """Read a file: its first line says how many words and how many numbers each, then a word and
    its numbers a line.

    Parameters
    ----------
    path : str
        File name.
    dim : int
        Numbers that each word must have.
    prefix : str
        Words that begin so are labels, and left out.

    Returns
    -------
    Vectors
        Of a word that comes twice the last.

    Raises
    ------
    InputError
        If the file is something else.
    """
    number, found, rows, label = 0, dict[bytes, int](), list[Array](), prefix.encode()
    for block in byte_blocks(path):
        for line in block.splitlines():
            number += 1
            word, _, rest = line.rstrip(b" \r").partition(b" ")
            if number == 1:
                _require_head(path, word, rest, dim)
                continue
            values = _numbers(rest)
            if values is None or len(values) != dim or not np.isfinite(values).all():
                raise InputError(
                    f"{path} must hold a word and {dim} numbers a line, "
                    f"got {line[:40].decode('utf-8', 'replace')!r} in line {number}"
                )
            if not word.startswith(label):
                found[word] = len(rows)
                rows.append(values)
    if not found:
        raise InputError(f"{path} must hold vectors of words, got none")
    return Vectors(list(found), np.stack([rows[at] for at in found.values()]))


def _numbers(text: bytes) -> Any:
    try:
        return np.array(text.split(), np.float32)
    except ValueError:
        return None


def _require_head(path: str, words: bytes, width: bytes, dim: int) -> None:
    if not (words.isdigit() and width.isdigit()):
        raise InputError(f"{path} must begin with two numbers, of words and of their vectors")
    if int(width[:9]) != dim:
        raise InputError(f"dim must be that of the vectors, {int(width[:9])}, got {dim}")


def with_words(vocabulary: Vocabulary, words: list[bytes]) -> Vocabulary:
    """A vocabulary with these words too, behind its own, as fastText has it."""
    features = vocabulary.features
    own = features.words.to_list()
    known = {*own}
    more = [word for word in words if word not in known]
    joined = Strings.of([*own, *more])
    arrays = features.to_arrays() | {"words": joined.utf8, "word_offsets": joined.offsets}
    counts = np.concatenate([vocabulary.word_counts, np.zeros(len(more), np.int64)])
    return vocabulary._replace(
        features=FastTextFeatures.from_arrays(arrays, features.settings()), word_counts=counts
    )
