"""Text as rows of features, by fastText's rules: its tokens, its dictionary, its hashed n-grams."""

from __future__ import annotations

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
        indptr, indices, data = self._compiled.rows(*lines, resolve_threads(num_threads))
        if len(indices) <= np.iinfo(np.int32).max:
            indptr = indptr.astype(INT32)
        else:
            indices = indices.astype(INT64)
        return Compressed(indptr, indices, data, (len(indptr) - 1, self.n_features), "csr")

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
