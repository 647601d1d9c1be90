"""Readers of the command line: fastText text, svmlight, counts, trees; also .xz, .gz and .bz2."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cython_sparseops import Hierarchy

LABEL_PREFIX = "__label__"
_SVMLIGHT = re.compile(r"[-+]?[\d.][\d.eE+-]*(,\S+)?(\s+qid:\d+)?(\s+\d+:\S+)*\s*(#.*)?$")
_OPENERS: dict[bytes, Any] = {
    b"\xfd7zXZ\x00": lzma.open,
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
}
_DAMAGED = (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile)
_NOT_SVMLIGHT = (ValueError, IndexError, OverflowError)


class InputError(ValueError):
    """A file that cannot be used, said in one line."""


class TextExamples(NamedTuple):
    """Labeled lines: the first label of each, without its prefix, and its tokens as one string."""

    labels: list[str]
    texts: list[str]
    several: int  # lines with more labels than the one used


@contextmanager
def open_bytes(path: str) -> Iterator[IO[bytes]]:
    """Open a file, or stdin for ``-``, decompressing what starts like .xz, .gz or .bz2.

    Parameters
    ----------
    path : str
        File name or ``-``.

    Yields
    ------
    binary file

    Raises
    ------
    InputError
        If the data end too early or are damaged, wherever in the block that is noticed.
    """
    raw = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115
    try:
        start = raw.peek(6) if isinstance(raw, io.BufferedReader) else b""
        opener = next((open_ for magic, open_ in _OPENERS.items() if start.startswith(magic)), None)
        if opener is None:
            yield raw
        else:
            with opener(raw) as stream:
                yield stream
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of bz2 it has none
            raise
        raise InputError(f"{path} must be an undamaged file, got {error}") from None
    finally:
        if path != "-":
            raw.close()


def read_lines(path: str) -> Iterator[str]:
    """Read the lines of a UTF-8 text file.

    Parameters
    ----------
    path : str
        File name, or ``-`` for stdin.

    Yields
    ------
    str
        A line with its end.

    Raises
    ------
    InputError
        If the file is damaged or not UTF-8.
    """
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, 1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                raise InputError(
                    f"{path} must be UTF-8, got byte {byte:#x} in line {number}"
                ) from None
            yield text.removeprefix("\ufeff") if number == 1 else text


def split_labels(line: str, prefix: str) -> tuple[list[str], str]:
    """Separate the labels of a line, without their prefix, from its other tokens.

    Examples
    --------
    >>> split_labels("__label__cat it  purrs", "__label__")
    (['cat'], 'it purrs')
    """
    tokens = line.split()
    labels = [token[len(prefix) :] for token in tokens if token.startswith(prefix)]
    return labels, " ".join(token for token in tokens if not token.startswith(prefix))


def read_text(path: str, prefix: str = LABEL_PREFIX) -> TextExamples:
    """Read lines of ``__label__x token token …``; of several labels the first counts.

    Blank lines are left out.

    Parameters
    ----------
    path : str
        File name, or ``-`` for stdin.
    prefix : str
        What labels begin with.

    Returns
    -------
    TextExamples

    Raises
    ------
    InputError
        If a line has no label, or no line has.
    """
    labels, texts, several = [], [], 0
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        found, text = split_labels(line, prefix)
        if not found:
            raise InputError(
                f"{path} must have a {prefix} label in every line, "
                f"got {line.strip()[:40]!r} in line {number}"
            )
        labels.append(found[0])
        texts.append(text)
        several += len(found) > 1
    if not labels:
        raise InputError(f"{path} must hold at least one example, got none")
    return TextExamples(labels, texts, several)


def read_svmlight(path: str) -> tuple[Any, npt.NDArray[Any]]:
    """Read svmlight lines; column i is index i of the file, so that both 0 and 1 may be first.

    Parameters
    ----------
    path : str
        File name, or ``-`` for stdin.

    Returns
    -------
    X : csr_matrix of float32, shape (N, largest index + 1)
    y : ndarray
        int64 if all labels are whole numbers.

    Raises
    ------
    InputError
        If the file is something else, a number is not finite, or an index is too large.
    """
    with open_bytes(path) as stream:
        lines = stream.read().split(b"\n")
    try:
        X, y = _parse_svmlight(lines)
    except _NOT_SVMLIGHT as error:
        number = _first_not_svmlight(lines)
        said = " ".join(str(error).split())
        raise InputError(f"{path} must be svmlight text, got {said} in line {number}") from None
    if not len(y):
        raise InputError(f"{path} must hold at least one example, got none")
    every = np.arange(len(y))
    rows_of_data = np.repeat(every, np.diff(X.indptr))
    for rule, values, rows, bad in (
        ("finite labels", y, every, ~np.isfinite(y)),
        ("finite numbers", X.data, rows_of_data, ~np.isfinite(X.data)),
        ("indices below 2**31 - 1", X.indices, rows_of_data, X.indices >= 2**31 - 1),
    ):
        if bad.any():
            at = int(bad.argmax())
            used = [n for n, line in enumerate(lines, 1) if line.split(b"#")[0].split()]
            raise InputError(f"{path} must have {rule}, got {values[at]} in line {used[rows[at]]}")
    whole = (y == np.floor(y)) & (np.abs(y) < 2**53)
    return X, y.astype(np.int64) if whole.all() else y


def _parse_svmlight(lines: Sequence[bytes]) -> tuple[Any, npt.NDArray[Any]]:
    from sklearn.datasets import load_svmlight_file

    text = io.BytesIO(b"\n".join(lines))
    X, y = load_svmlight_file(text, dtype=np.float32, zero_based=True)
    return X, y


def _first_not_svmlight(lines: Sequence[bytes]) -> int:
    """Return the number of the first line that cannot be parsed, by halving."""
    low, high = 0, len(lines)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            _parse_svmlight(lines[low:middle])
            low = middle
        except _NOT_SVMLIGHT:
            high = middle
    return low + 1


def detect_format(path: str, prefix: str = LABEL_PREFIX) -> str:
    """Tell fastText from svmlight by the first line that is not blank; stdin counts as fastText.

    Parameters
    ----------
    path : str
        File name, or ``-`` for stdin, which is not touched.
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
    if path == "-":
        return "fasttext"
    for number, line in enumerate(read_lines(path), 1):
        if split_labels(line, prefix)[0]:
            return "fasttext"
        if _SVMLIGHT.match(line.strip()):
            return "svmlight"
        if line.strip():
            raise InputError(
                f"{path} must have {prefix} labels or be svmlight, "
                f"got {line.strip()[:40]!r} in line {number}"
            )
    raise InputError(f"{path} must hold at least one example, got none")


def learn_vocabulary(texts: Sequence[str], min_count: int = 1) -> tuple[Any, list[str]]:
    """Count the tokens of each text, and choose those that occur often enough.

    Parameters
    ----------
    texts : sequence of str
        Tokens separated by white space, taken as they are.
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

    counter = CountVectorizer(analyzer=str.split, dtype=np.float32)
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

    return CountVectorizer(analyzer=str.split, dtype=np.float32, vocabulary=vocabulary)


def read_counts(path: str) -> npt.NDArray[np.int64]:
    """Read one count a line, the last word of it.

    Parameters
    ----------
    path : str
        File name, or ``-`` for stdin.

    Returns
    -------
    ndarray of shape (C,) of int64

    Raises
    ------
    InputError
        If a line does not end in a whole number that is not negative.
    """
    counts = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        word = line.split()[-1]
        if not (word.isascii() and word.isdigit() and len(word) < 19):
            raise InputError(
                f"{path} must have a count at the end of every line, "
                f"got {word[:40]!r} in line {number}"
            )
        counts.append(int(word))
    if not counts:
        raise InputError(f"{path} must hold at least one count, got none")
    return np.array(counts, dtype=np.int64)


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


def as_class_numbers(labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """Turn labels that are written as class numbers into numbers.

    Examples
    --------
    >>> as_class_numbers(["3", "0"]).tolist()
    [3, 0]
    """
    for index, label in enumerate(labels):
        if not (label.isascii() and label.isdigit() and len(label) < 19):
            raise InputError(
                f"labels must be class numbers of the tree, got {label!r} in example {index + 1}"
            )
    return np.array(labels, dtype=np.int64)
