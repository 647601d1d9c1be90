"""Text as rows of features, by fastText's rules: its tokens, its dictionary, its hashed n-grams."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from ._arrays import INT32, INT64, Array, as_exact, as_integer, describe
from ._core import text as core
from ._runtime import resolve_threads
from ._sparse import Compressed

UINT8 = np.dtype(np.uint8)
TOKENS = "fasttext"  # what the settings of a file call these rules


class Strings(NamedTuple):
    """Strings of bytes in one array: string i is ``utf8[offsets[i]:offsets[i + 1]]``."""

    utf8: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]  # one more than strings

    @classmethod
    def of(cls, strings: Iterable[bytes]) -> Self:
        """Join strings."""
        parts = list(strings)
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        return cls(np.frombuffer(b"".join(parts), np.uint8), offsets)

    def to_list(self) -> list[bytes]:
        """The strings, one by one."""
        raw, bounds = self.utf8.tobytes(), self.offsets.tolist()
        return [raw[start:stop] for start, stop in itertools.pairwise(bounds)]


def as_texts(texts: Iterable[str | bytes], name: str = "texts") -> Strings:
    """Texts as UTF-8; bytes are taken as they are, and so are half surrogates."""
    if isinstance(texts, (str, bytes)):
        raise TypeError(f"{name} must be a list of texts, got one text, {describe(texts)}")
    try:
        given = list(texts)
    except TypeError:
        raise TypeError(f"{name} must be a list of texts, got {describe(texts)}") from None
    encoded = []
    for at, text in enumerate(given):
        if isinstance(text, str):
            encoded.append(text.encode("utf-8", "surrogatepass"))
        elif isinstance(text, bytes):
            encoded.append(text)
        else:
            raise TypeError(f"{name} must be str or bytes, got {describe(text)} at index {at}")
    return Strings.of(encoded)


def counted(columns: int, indptr: Array, indices: Array, data: Array) -> Compressed:
    """A CSR matrix of these parts, with indices of 32 bits where they suffice."""
    if len(indices) <= np.iinfo(np.int32).max:
        indptr = indptr.astype(INT32)
    else:
        indices = indices.astype(INT64)
    return Compressed(indptr, indices, data, (len(indptr) - 1, columns), "csr")


def stacked(parts: list[Compressed], columns: int) -> Compressed:
    """Matrices of these columns, one above the other."""
    ends = np.cumsum(np.concatenate([np.zeros(1, INT64), *(np.diff(X.indptr) for X in parts)]))
    indices = np.concatenate([np.empty(0, INT32), *(X.indices for X in parts)])
    data = np.concatenate([np.empty(0, np.float32), *(X.data for X in parts)])
    return counted(columns, ends, indices, data)


class Hashing(NamedTuple):
    """fastText's wordNgrams, minn, maxn and bucket."""

    word_ngrams: int = 1
    min_chars: int = 0
    max_chars: int = 0
    buckets: int = 2_000_000

    @property
    def hashes(self) -> bool:
        """Whether there are n-grams."""
        return self.word_ngrams > 1 or self.max_chars > 0


class Examples(NamedTuple):
    """Rows and the numbers of their labels: those of row i are ``labels[ends[i]:ends[i + 1]]``."""

    X: Compressed
    labels: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int64]


class FastTextFeatures:
    """The columns of a fastText model: its words, then the buckets of its n-grams.

    Parameters
    ----------
    words, labels : Strings
        The dictionary. Labels in a text are left out.
    kept : ndarray of int32, shape (P,), or None
        Column ``len(words) + j`` is bucket ``kept[j]``; None: every bucket j has its column.
    word_ngrams, min_chars, max_chars, buckets : int
        fastText's wordNgrams, minn, maxn and bucket.
    label_prefix : bytes
        Unknown tokens that begin so are left out too.

    Raises
    ------
    ValueError
        If a setting is out of range, or a word stands twice in the dictionary.
    """

    def __init__(
        self,
        words: Strings,
        labels: Strings,
        kept: Array | None,
        *,
        word_ngrams: int,
        min_chars: int,
        max_chars: int,
        buckets: int,
        label_prefix: bytes = b"__label__",
    ) -> None:
        given = dict(
            word_ngrams=word_ngrams, min_chars=min_chars, max_chars=max_chars, buckets=buckets
        )
        self._numbers = {name: as_integer(name, value, 0) for name, value in given.items()}
        for name, value in self._numbers.items():
            if value > np.iinfo(np.int32).max:
                raise ValueError(f"{name} must be below 2**31, got {value}")
        self.words, self.labels, self.kept = words, labels, kept
        self.label_prefix = label_prefix
        self._compiled = core.Dictionary(
            *words,
            *labels,
            np.empty(0, np.int32) if kept is None else kept,
            **self._numbers,
            pruned=kept is not None,
            ends_line=True,
            label_prefix=label_prefix,
        )

    @property
    def n_features(self) -> int:
        """F, the columns."""
        return int(self._compiled.cols)

    def transform(
        self, texts: Iterable[str | bytes], *, num_threads: int | None = None
    ) -> Compressed:
        """Count the features of each text, read as one line up to its first newline.

        Parameters
        ----------
        texts : iterable of str or bytes
        num_threads : int, optional
            Never changes a bit of the result.

        Returns
        -------
        Compressed of float32, shape (N, F)
        """
        lines = as_texts(texts)
        return counted(self.n_features, *self._compiled.rows(*lines, resolve_threads(num_threads)))

    def examples(
        self, lines: bytes, *, labeled_only: bool = False, num_threads: int | None = None
    ) -> Examples:
        """Count the features of a block of whole lines, each of one example or several.

        Parameters
        ----------
        lines : bytes
            Examples end at newlines and at tokens ``</s>``.
        labeled_only : bool
            Leave out examples without a label of the dictionary.
        num_threads : int, optional
            Never changes a bit of the result.

        Returns
        -------
        Examples
        """
        threads = resolve_threads(num_threads)
        *rows, ends, labels = self._compiled.examples(lines, labeled_only, threads)
        return Examples(counted(self.n_features, *rows), labels, ends)

    def with_prefix(self, prefix: str) -> Self:
        """The same, for labels that begin otherwise."""
        arrays = self.to_arrays() | {"label_prefix": np.frombuffer(prefix.encode(), np.uint8)}
        return type(self).from_arrays(arrays, self.settings())

    def settings(self) -> dict[str, Any]:
        """What `from_arrays` needs beside the arrays, as JSON holds it."""
        return {"tokens": TOKENS, **self._numbers}

    def to_arrays(self) -> dict[str, Array]:
        """Plain arrays, for a file."""
        arrays: dict[str, Array] = {
            "words": self.words.utf8,
            "word_offsets": self.words.offsets,
            "labels": self.labels.utf8,
            "label_offsets": self.labels.offsets,
            "label_prefix": np.frombuffer(self.label_prefix, np.uint8),
        }
        return arrays if self.kept is None else arrays | {"kept": self.kept}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], settings: Mapping[str, Any]) -> Self:
        """What `to_arrays` and `settings` gave; whether it fits together is checked.

        Raises
        ------
        ValueError, KeyError, TypeError
            If something is missing or does not fit.
        """

        def vector(name: str, dtype: np.dtype[Any]) -> Any:
            return as_exact(name, arrays[name], dtype, copy=False)

        return cls(
            Strings(vector("words", UINT8), vector("word_offsets", INT64)),
            Strings(vector("labels", UINT8), vector("label_offsets", INT64)),
            vector("kept", INT32) if "kept" in arrays else None,
            word_ngrams=settings["word_ngrams"],
            min_chars=settings["min_chars"],
            max_chars=settings["max_chars"],
            buckets=settings["buckets"],
            label_prefix=vector("label_prefix", UINT8).tobytes(),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_arrays, (self.to_arrays(), self.settings())


class Vocabulary(NamedTuple):
    """The columns that a text was found to need, and how often its words and labels occur."""

    features: FastTextFeatures
    word_counts: npt.NDArray[np.int64]
    label_counts: npt.NDArray[np.int64]
    tokens: int  # of the whole text


class FastTextCounter:
    """Counts the tokens of a text that comes in blocks, for a dictionary of it.

    Parameters
    ----------
    hashing : Hashing
    label_prefix : bytes
        What labels begin with.
    num_threads : int, optional
        Never changes a bit of the result.
    """

    def __init__(
        self,
        hashing: Hashing,
        label_prefix: bytes = b"__label__",
        *,
        num_threads: int | None = None,
    ) -> None:
        self._hashing = hashing if hashing.hashes else hashing._replace(buckets=0)
        self._prefix, self._threads = label_prefix, resolve_threads(num_threads)
        self._compiled = core.Counter(**self._hashing._asdict(), label_prefix=label_prefix)

    def add(self, lines: bytes) -> None:
        """Count a block of whole lines."""
        self._compiled.add(lines, self._threads)

    def vocabulary(self, min_count: int = 1, min_label: int = 0) -> Vocabulary:
        """Words and labels by falling count, the first seen first among equals.

        Buckets that no example with a label fills get no column: fastText keeps a row of random
        numbers for each.
        """
        utf8, offsets, counts, n_words = self._compiled.vocabulary(
            min_count, min_label, self._threads
        )
        end = offsets[n_words]
        features = FastTextFeatures(
            Strings(utf8[:end], offsets[: n_words + 1]),
            Strings(utf8[end:], offsets[n_words:] - end),
            self._compiled.filled_buckets() if self._hashing.hashes else None,
            label_prefix=self._prefix,
            **self._hashing._asdict(),
        )
        return Vocabulary(features, counts[:n_words], counts[n_words:], self._compiled.tokens)


class Parted(NamedTuple):
    """Texts without their labels, and the numbers of their labels."""

    texts: Strings
    ends: npt.NDArray[np.int64]  # the labels of text i are labels[ends[i]:ends[i + 1]]
    labels: npt.NDArray[np.int32]
    lines: int  # that were read, blank ones too
    unlabeled: int  # the first line with tokens and no label, or -1


class LabelReader:
    """Parts labels from lines of text, and numbers the labels as they come.

    Parameters
    ----------
    prefix : bytes
        What labels begin with.
    num_threads : int, optional
        Never changes a bit of the result.
    """

    def __init__(self, prefix: bytes, *, num_threads: int | None = None) -> None:
        self._compiled, self._threads = core.Labels(prefix), resolve_threads(num_threads)

    def read(self, lines: bytes) -> Parted:
        """Read a block of whole lines."""
        utf8, offsets, *rest = self._compiled.read(lines, self._threads)
        return Parted(Strings(utf8, offsets), *rest)

    @property
    def names(self) -> Strings:
        """The labels so far, in the order of their numbers."""
        return Strings(*self._compiled.names())
