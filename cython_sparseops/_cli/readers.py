"""Readers of the command line: fastText text, class counts, trees, and what tells formats apart."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cython_sparseops import Hierarchy
from cython_sparseops._arrays import Array
from cython_sparseops._cli.labels import LabelLists
from cython_sparseops._cli.streams import InputError, Lines
from cython_sparseops._cli.svmlight import looks_like_svmlight, read_svmlight
from cython_sparseops._models.labels import as_labels
from cython_sparseops._models.text import tokens
from cython_sparseops._text import LabelReader, Strings

LABEL_PREFIX = "__label__"
BLOCK = 1 << 23  # bytes of text that are parted at a time
_DAMAGED = (EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile)


class TextExamples(NamedTuple):
    """Labeled lines: their labels, without the prefix, and the tokens of each as one string."""

    labels: LabelLists
    texts: list[str]


def split_labels(line: str, prefix: str) -> tuple[list[str], str]:
    """Separate the labels of a line, without their prefix, from its other tokens.

    Examples
    --------
    >>> split_labels("__label__cat it  purrs", "__label__")
    (['cat'], 'it purrs')
    """
    words = tokens(line)
    labels = [word[len(prefix) :] for word in words if word.startswith(prefix)]
    return labels, " ".join(word for word in words if not word.startswith(prefix))


class LabeledBlocks:
    """Lines of ``__label__x __label__y token token …``, in blocks: iterating gives the texts.

    Blank lines are left out. Each block has its labels parted by compiled code.

    Parameters
    ----------
    lines : Lines
        The file.
    prefix : str
        What labels begin with.
    num_threads : int, optional
        Never changes a bit of the result.
    """

    def __init__(self, lines: Lines, prefix: str, num_threads: int | None = None) -> None:
        self._lines, self._prefix = lines, prefix
        self._reader = LabelReader(prefix.encode(), num_threads=num_threads)
        self._labels, self._lengths = list[Array](), list[Array]()

    def __iter__(self) -> Iterator[Strings]:
        """Read all blocks.

        Raises
        ------
        InputError
            If a line has no label, or no line has.
        """
        number = 1
        for block in _larger(self._lines.byte_blocks()):
            self._lines.require_utf8(block, number)
            found = self._reader.read(block)
            bad = found.unlabeled
            if bad >= 0:
                text = split_labels(block.split(b"\n")[bad].decode(), self._prefix)[1]
                raise InputError(
                    f"{self._lines.path} must have a {self._prefix} label in every line, "
                    f"got {text[:40]!r} in line {number + bad}"
                )
            number += found.lines
            self._labels.append(found.labels)
            self._lengths.append(np.diff(found.ends))
            yield found.texts
        if not sum(map(len, self._labels)):
            raise InputError(f"{self._lines.path} must hold at least one example, got none")

    @property
    def labels(self) -> LabelLists:
        """The labels of the lines that were read."""
        names = [name.decode() for name in self._reader.names.to_list()]
        ends = np.cumsum(np.concatenate([np.zeros(1, np.int64), *self._lengths]))
        return LabelLists(as_labels(names)[np.concatenate(self._labels)], ends)


def _larger(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks of `BLOCK` bytes and more, but for the last."""
    waiting, size = list[bytes](), 0
    for block in blocks:
        waiting.append(block)
        size += len(block)
        if size >= BLOCK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def read_text(lines: Lines, prefix: str = LABEL_PREFIX) -> TextExamples:
    """Read all of `LabeledBlocks`.

    Parameters
    ----------
    lines : Lines
        The file.
    prefix : str
        What labels begin with.

    Returns
    -------
    TextExamples

    Raises
    ------
    InputError
        As `LabeledBlocks`.
    """
    blocks = LabeledBlocks(lines, prefix)
    texts = [text.decode() for block in blocks for text in block.to_list()]
    return TextExamples(blocks.labels, texts)


def detect_format(lines: Lines, prefix: str = LABEL_PREFIX) -> str:
    """Tell fastText from svmlight by the first line that is neither blank nor a comment.

    Parameters
    ----------
    lines : Lines
        The file; only peeked at.
    prefix : str
        What labels begin with.

    Returns
    -------
    {"fasttext", "svmlight"}

    Raises
    ------
    InputError
        If it is neither.
    """
    found, number, text = _guess_format(lines, prefix)
    if found is None and text:
        raise InputError(
            f"{lines.path} must have {prefix} labels or be svmlight, "
            f"got {text[:40]!r} in line {number}"
        )
    if found is None:
        raise InputError(f"{lines.path} must hold at least one example, got none")
    return found


def _guess_format(lines: Lines, prefix: str) -> tuple[str | None, int, str]:
    """The format, if it is one of the two, and the line that decided."""
    for number, line in lines.peek():
        labels, text = split_labels(line, prefix)
        if labels:
            return "fasttext", number, text
        if looks_like_svmlight(line):
            return "svmlight", number, text
        if text and not text.startswith("#"):
            return None, number, text
    return None, 0, ""


def read_class_counts(lines: Lines, format: str, prefix: str) -> npt.NDArray[np.int64]:
    """Read counts, or count the labels of training examples.

    Parameters
    ----------
    lines : Lines
        The file.
    format : {"auto", "counts", "fasttext", "svmlight"}
        How it is written; by default training examples if it looks like them.
    prefix : str
        What labels of text begin with.

    Returns
    -------
    (C,) ndarray of int64
        In the order of the file's counts, or of the sorted labels.
    """
    if format == "auto":
        format = _guess_format(lines, prefix)[0] or "counts"
        if format == "svmlight":  # a line of counts may look like a label without features
            pairs = any(":" in text for _, text in lines.peek())
            format = "svmlight" if pairs else "counts"
    if format == "counts":
        return read_counts(lines)
    if format == "svmlight":
        labels = read_svmlight(lines).labels
    else:
        labels = read_text(lines, prefix).labels
    counts = Counter(labels.flat.tolist())
    return np.array([counts[label] for label in sorted(counts)], np.int64)


def learn_vocabulary(texts: Sequence[str], min_count: int = 1) -> tuple[Any, list[str]]:
    """Count the tokens of each text, and choose those that occur often enough.

    Parameters
    ----------
    texts : sequence of str
        Tokens separated by ASCII white space, taken as they are.
    min_count : int
        Occurrences a token needs over all texts.

    Returns
    -------
    X : csr_matrix of float32, shape (N, F)
    vocabulary : list of str
        The F tokens, sorted.

    Raises
    ------
    InputError
        If no token is left.

    Examples
    --------
    >>> X, vocabulary = learn_vocabulary(["b a a", "c a"], min_count=2)
    >>> vocabulary, X.toarray().tolist()
    (['a'], [[2.0], [1.0]])
    """
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(analyzer=tokens, dtype=np.float32)
    try:
        X = counter.fit_transform(texts)
    except ValueError:
        raise InputError("training texts must hold at least one token, got none") from None
    kept = np.flatnonzero(np.bincount(X.indices, X.data, X.shape[1]) >= min_count)
    if not len(kept):
        raise InputError(f"min_count must leave at least one token, got {min_count}")
    return X[:, kept], counter.get_feature_names_out()[kept].tolist()


def token_counter(vocabulary: Sequence[str]) -> Any:
    """Build a CountVectorizer of the tokens in a vocabulary; others are not counted.

    Examples
    --------
    >>> token_counter(["a", "c"]).transform(["b a a", ""]).toarray().tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(analyzer=tokens, dtype=np.float32, vocabulary=vocabulary)


def read_counts(lines: Lines) -> npt.NDArray[np.int64]:
    """Read one count a line, the last word of it.

    Parameters
    ----------
    lines : Lines
        The file.

    Returns
    -------
    ndarray of shape (C,) of int64

    Raises
    ------
    InputError
        If a line does not end in a whole number that is not negative.
    """
    counts = []
    for number, line in lines:
        words = tokens(line)
        if not words:
            continue
        word = words[-1]
        if not (word.isascii() and word.isdigit() and len(word) < 19):
            raise InputError(
                f"{lines.path} must have a count at the end of every line, "
                f"got {word[:40]!r} in line {number}"
            )
        counts.append(int(word))
    if not counts:
        raise InputError(f"{lines.path} must hold at least one count, got none")
    return np.array(counts, dtype=np.int64)


def read_named_tree(path: str) -> Hierarchy | None:
    """Read a saved `Hierarchy`, if it has names for labels to be matched with.

    Parameters
    ----------
    path : str
        A file as for `read_tree`.

    Returns
    -------
    Hierarchy or None
    """
    if path.endswith(".npz"):
        return None
    hierarchy = Hierarchy.load(path)
    return None if hierarchy.class_names is None else hierarchy


def read_tree(
    path: str, class_numbers: npt.NDArray[np.int64], max_children: int | None = None
) -> Hierarchy:
    """Read a tree: an .npz file with an array ``parent``, or a saved `Hierarchy`.

    Parameters
    ----------
    path : str
        ``parent[i]`` is the parent of node i, -1 that of the root; the leaves, in order of their
        number, are the classes.
    class_numbers : ndarray of shape (N,) of int64
        The labels of the training examples; their counts shape the nodes that are split.
    max_children : int, optional
        Wider nodes are split.

    Returns
    -------
    Hierarchy

    Raises
    ------
    InputError
        If the file is not a tree, or a label is not a class of it.
    """
    if not path.endswith(".npz"):
        hierarchy = Hierarchy.load(path)
        _require_class_numbers(class_numbers, hierarchy.n_classes)
        return hierarchy
    try:
        with np.load(path, allow_pickle=False) as arrays:
            parents = arrays["parent"]
    except (KeyError, ValueError, *_DAMAGED) as error:
        raise InputError(
            f"{path} must be an .npz file with an array 'parent', got {error}"
        ) from None
    if parents.ndim != 1 or parents.dtype.kind not in "iu":
        raise InputError(
            f"parent must be a 1-d integer array, got {parents.ndim}-d {parents.dtype} in {path}"
        )
    n_classes = len(parents) - len(np.unique(parents[parents >= 0]))
    _require_class_numbers(class_numbers, n_classes)
    counts = np.bincount(class_numbers, minlength=n_classes)
    return Hierarchy.from_parents(parents, counts=counts, max_children=max_children)


def _require_class_numbers(numbers: npt.NDArray[np.int64], n_classes: int) -> None:
    wrong = np.flatnonzero((numbers < 0) | (numbers >= n_classes))
    if wrong.size:
        raise InputError(
            f"labels must be in [0, {n_classes}), got {numbers[wrong[0]]} in example {wrong[0] + 1}"
        )


def as_class_numbers(labels: Iterable[str]) -> npt.NDArray[np.int64]:
    """Turn labels that are written as class numbers into numbers.

    Examples
    --------
    >>> as_class_numbers(["3", "0"]).tolist()
    [3, 0]
    """
    labels = list(labels)
    for index, label in enumerate(labels):
        if not (label.isascii() and label.isdigit() and len(label) < 19):
            raise InputError(
                f"labels must be class numbers of the tree, got {label!r} in example {index + 1}"
            )
    return np.array(labels, dtype=np.int64)
