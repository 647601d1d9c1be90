"""How text becomes rows: tokens, n-grams and TF-IDF, learned once and stored with the model."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from cython_sparseops._arrays import Array, describe, is_one_of
from cython_sparseops._models.file import Arrays, pack_strings, under, unpack_strings
from cython_sparseops._sparse import Compressed
from cython_sparseops._text import TOKENS as FASTTEXT
from cython_sparseops._text import FastTextFeatures

TOKENS = ("blanks", "words")
BLOCK = 4096  # lines that are counted at a time
_BLANKS = re.compile(r"[^\s\0]+", re.ASCII)
_WORDS = re.compile(r"\b\w\w+\b")  # scikit-learn's
_LONGEST = 64  # n-grams of so many tokens or characters at most


def tokens(text: str) -> list[str]:
    """Split at ASCII white space and NUL alone, as fastText does: other spaces are letters.

    Examples
    --------
    >>> tokens(" New\\u00a0York  big\\tapple ")
    ['New\\xa0York', 'big', 'apple']
    """
    return _BLANKS.findall(text)


class Terms(NamedTuple):
    """What of a line is counted.

    Attributes
    ----------
    tokens : {"blanks", "words"}
        Whatever ASCII white space separates, or scikit-learn's words of two letters and more.
    lowercase : bool
    word_ngrams : int
        Runs of 1 to so many tokens; 0 counts no tokens.
    char_ngrams : (int, int)
        Shortest and longest run of characters inside words, a blank before and behind each word;
        (0, 0) counts none.
    """

    tokens: str = "blanks"
    lowercase: bool = False
    word_ngrams: int = 1
    char_ngrams: tuple[int, int] = (0, 0)

    def checked(self) -> Self:
        """Itself.

        Raises
        ------
        ValueError
            If a setting is out of range.
        """
        if not is_one_of(self.tokens, TOKENS):
            raise ValueError(f"tokens must be one of {TOKENS}, got {describe(self.tokens)}")
        if type(self.lowercase) is not bool:
            raise ValueError(f"lowercase must be True or False, got {describe(self.lowercase)}")
        if type(self.word_ngrams) is not int or not 0 <= self.word_ngrams <= _LONGEST:
            raise ValueError(
                f"word_ngrams must be in [0, {_LONGEST}], got {describe(self.word_ngrams)}"
            )
        least, most = self.char_ngrams
        if type(least) is not int or type(most) is not int or not 0 <= least <= most <= _LONGEST:
            raise ValueError(
                f"char_ngrams must rise, in [0, {_LONGEST}], got {least!r:.40} and {most!r:.40}"
            )
        if bool(least) != bool(most) or not (self.word_ngrams or most):
            raise ValueError("char_ngrams must be at least 1, or word_ngrams, got neither")
        return self

    def words(self, line: str) -> list[str]:
        """The tokens of a line and their runs, as often as they occur."""
        found = (_WORDS if self.tokens == "words" else _BLANKS).findall(line)
        if self.word_ngrams == 1:
            return found
        return [
            " ".join(found[i : i + n])
            for n in range(1, self.word_ngrams + 1)
            for i in range(len(found) - n + 1)
        ]

    def chars(self, line: str) -> list[str]:
        """The runs of characters of a line, as scikit-learn's ``char_wb`` counts them."""
        least, most = self.char_ngrams
        found: list[str] = []
        for word in line.split() if self.tokens == "words" else _BLANKS.findall(line):
            padded = f" {word} "
            for n in range(least, most + 1):
                found.extend([padded[i : i + n] for i in range(max(1, len(padded) - n + 1))])
                if n >= len(padded):  # a word that is shorter counts once
                    break
        return found


class TextFeatures:
    """The columns of a model of text: a vocabulary, and the weights of TF-IDF if it has them.

    The columns are words (and their n-grams) in order, then character n-grams in order. Counts and
    TF-IDF (sublinear, smooth, of l2 norm 1) are those of scikit-learn in float32: a
    ``FeatureUnion`` of ``CountVectorizer`` of words and of ``char_wb``, and a ``TfidfTransformer``.

    Parameters
    ----------
    terms : Terms
        What of a line is counted.
    words, chars : sequence of str
        The vocabulary.
    idf : ndarray of float32, shape (F,), optional
        Inverse document frequencies; without them rows are counts.

    References
    ----------
    Salton and Buckley, "Term-weighting approaches in automatic text retrieval", 1988.

    Examples
    --------
    >>> features, X = TextFeatures.fit(["a cat", "a dog", "a b c"], Terms(word_ngrams=2))
    >>> features.vocabulary
    ['a', 'a b', 'a cat', 'a dog', 'b', 'b c', 'c', 'cat', 'dog']
    >>> features.transform(["cat a a x"]).data
    array([2., 1.], dtype=float32)
    """

    def __init__(
        self,
        terms: Terms,
        words: Sequence[str],
        chars: Sequence[str] = (),
        idf: Array | None = None,
    ) -> None:
        self.terms = terms.checked()
        self.vocabulary = [*words, *chars]
        if idf is not None and idf.shape != (len(self.vocabulary),):
            raise ValueError(f"idf must have {len(self.vocabulary)} entries, got {idf.shape}")
        self.idf = idf
        self.n_words = len(words)
        self._word_column = {term: at for at, term in enumerate(words)}
        self._char_column = {term: at for at, term in enumerate(chars, len(words))}

    @classmethod
    def fit(
        cls,
        lines: Iterable[str],
        terms: Terms | None = None,
        *,
        min_count: int = 1,
        tfidf: bool = False,
    ) -> tuple[Self, Compressed]:
        """Learn the vocabulary, and the weights if `tfidf`.

        Parameters
        ----------
        lines : iterable of str
        terms : Terms, optional
        min_count : int, default 1
            Occurrences, over all lines, that a term needs.
        tfidf : bool, default False

        Returns
        -------
        features : TextFeatures
        X : Compressed of float32, shape (lines, F)
            What `transform` would make of the lines.

        Raises
        ------
        ValueError
            If no term is left, or a setting is out of range.
        """
        terms = (Terms() if terms is None else terms).checked()
        columns: tuple[dict[str, int], dict[str, int]] = ({}, {})
        counted = _count(lines, terms, columns)
        if not any(columns):
            raise ValueError("texts must hold at least one token, got none")
        (words, chars), X = _sorted_columns(columns, counted, min_count)
        if not words and not chars:
            raise ValueError(f"min_count must leave at least one token, got {min_count}")
        features = cls(terms, words, chars)
        if tfidf:
            features.idf = inverse_frequencies(X)
            X = weighed(X, features.idf)
        return features, X

    def transform(self, lines: Iterable[str]) -> Compressed:
        """Make rows of lines; terms outside the vocabulary are left out.

        Parameters
        ----------
        lines : iterable of str

        Returns
        -------
        Compressed of float32, shape (lines, F)
            CSR; indices are sorted.
        """
        ends, ids = [0], list[int]()
        for line in lines:
            ids += self._columns_of(line)
            ends.append(len(ids))
        X = _counts(ids, ends, len(self.vocabulary))
        return X if self.idf is None else weighed(X, self.idf)

    def _columns_of(self, line: str) -> list[int]:
        """The column of every term of a line, as often as it occurs."""
        text = line.lower() if self.terms.lowercase else line
        found: list[int] = []
        if self.terms.word_ngrams:
            words = map(self._word_column.get, self.terms.words(text))
            found += [at for at in words if at is not None]
        if self.terms.char_ngrams[1]:
            chars = map(self._char_column.get, self.terms.chars(text))
            found += [at for at in chars if at is not None]
        return found

    def row(self, line: str) -> tuple[Array, Array]:
        """One line: the columns, int64, and the weights, float32, that `transform` gives it.

        Examples
        --------
        >>> features, X = TextFeatures.fit(["a cat", "a dog"])
        >>> features.row("cat a a x")
        (array([0, 1]), array([2., 1.], dtype=float32))
        """
        counts: dict[int, int] = {}
        for at in self._columns_of(line):
            counts[at] = counts.get(at, 0) + 1
        columns = sorted(counts)
        ids = np.array(columns, np.int64)
        times = np.array([counts[at] for at in columns], np.float32)
        if self.idf is None or not columns:
            return ids, times
        weights = (np.log(times) + np.float32(1)) * self.idf[ids]
        square = np.bincount(np.zeros(len(ids), np.intp), weights * weights)  # as in `weighed`
        return ids, (weights / np.sqrt(square)).astype(np.float32)

    @property
    def columns(self) -> Mapping[str, int]:
        """The columns by their names; a word comes before the characters that spell it."""
        if not self._char_column:
            return self._word_column
        return ChainMap(self._word_column, self._char_column)

    @property
    def n_features(self) -> int:
        """F, the columns."""
        return len(self.vocabulary)

    def settings(self) -> dict[str, Any]:
        """What `from_arrays` needs beside the arrays, as JSON holds it."""
        values: dict[str, Any] = self.terms._asdict()
        return values | {"char_ngrams": list(self.terms.char_ngrams), "n_words": self.n_words}

    def to_arrays(self) -> Arrays:
        """The vocabulary as one blob and offsets, and idf if there is one."""
        weights = {} if self.idf is None else {"idf": self.idf}
        return pack_strings(self.vocabulary) | weights

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], settings: Mapping[str, Any]) -> Self:
        """The features of `to_arrays` and `settings`, every part checked.

        Raises
        ------
        ValueError, KeyError, TypeError
            If something is missing or does not fit.
        """
        least, most = settings["char_ngrams"]
        terms = Terms(
            settings["tokens"], settings["lowercase"], settings["word_ngrams"], (least, most)
        )
        vocabulary, n_words = unpack_strings(arrays), settings["n_words"]
        if type(n_words) is not int or not 0 <= n_words <= len(vocabulary):
            raise ValueError(f"n_words must be in [0, {len(vocabulary)}], got {n_words!r:.40}")
        idf = arrays.get("idf")
        if idf is not None and (idf.dtype != np.float32 or not np.isfinite(idf).all()):
            raise ValueError(f"idf must be finite float32, got {idf.dtype}")
        return cls(terms, vocabulary[:n_words], vocabulary[n_words:], idf)

    @classmethod
    def of_file(cls, arrays: Mapping[str, Array], metadata: Mapping[str, Any]) -> Self | None:
        """What a file of `sparseops train` says of its text; None if it holds nothing of it.

        The arrays lie under ``text``, the settings in ``metadata["input"]["text"]``. Files of
        version 0.1 have a bare ``vocabulary`` of blank-separated tokens, counted.

        Raises
        ------
        ValueError, KeyError, TypeError
            As `from_arrays`.
        """
        source = metadata.get("input")
        if not isinstance(source, dict) or source.get("format") != "fasttext":
            return None
        if "text" in source:
            return cls.from_arrays(under("text", arrays), source["text"])
        return cls(Terms(), unpack_strings(under("vocabulary", arrays)))


def features_of_file(
    arrays: Mapping[str, Array], metadata: Mapping[str, Any]
) -> TextFeatures | FastTextFeatures | None:
    """What a file says of its text, by its own rules or by fastText's; None if nothing.

    Raises
    ------
    ValueError, KeyError, TypeError
        As `TextFeatures.from_arrays`.
    """
    source = metadata.get("input")
    settings = source.get("text") if isinstance(source, dict) else None
    if isinstance(settings, dict) and settings.get("tokens") == FASTTEXT:
        return FastTextFeatures.from_arrays(under("text", arrays), settings)
    return TextFeatures.of_file(arrays, metadata)


def inverse_frequencies(X: Any) -> Array:
    """Smooth inverse document frequencies of the columns of a CSR matrix: float32, shape (F,).

    Examples
    --------
    >>> X = Compressed(np.array([0, 1]), np.array([0]), np.ones(1), (1, 2), "csr")
    >>> inverse_frequencies(X)
    array([1.       , 1.6931472], dtype=float32)
    """
    indices = X.indices[: X.indptr[-1]]
    found = np.bincount(indices, minlength=X.shape[1]).astype(np.float32)
    idf: Array = np.log(np.float32(X.shape[0] + 1) / (found + np.float32(1))) + np.float32(1)
    return idf


def weighed(X: Any, idf: Array) -> Compressed:
    """TF-IDF of counts, sublinear, rows of l2 norm 1.

    Examples
    --------
    >>> X = Compressed(np.array([0, 2]), np.array([0, 1]), np.ones(2, np.float32), (1, 2), "csr")
    >>> weighed(X, np.array([3, 4], np.float32)).data
    array([0.6, 0.8], dtype=float32)
    """
    lengths = np.diff(X.indptr)
    data = (np.log(X.data) + np.float32(1)) * idf[X.indices]
    row = np.repeat(np.arange(X.shape[0]), lengths)
    norms = np.sqrt(np.bincount(row, data * data, X.shape[0]))
    norms[norms == 0] = 1
    data = (data / norms[row]).astype(np.float32)
    return Compressed(X.indptr, X.indices, data, X.shape, "csr")


def _counts(ids: Sequence[int], ends: Sequence[int], n_columns: int) -> Compressed:
    """How often each column occurs between two ends."""
    ends_at = np.array(ends, np.int64)
    rows = len(ends_at) - 1
    key = np.repeat(np.arange(rows), np.diff(ends_at)) * n_columns + np.array(ids, np.int64)
    key, times = np.unique(key, return_counts=True)
    row, column = np.divmod(key, max(1, n_columns))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))])
    return Compressed(indptr, column, times.astype(np.float32), (rows, n_columns), "csr")


class _Counted(NamedTuple):
    """Entries of a matrix whose columns are numbered as they came, words and chars apart."""

    rows: Array
    columns: Array  # chars from -1 downward
    times: Array
    n_rows: int


def _count(
    lines: Iterable[str], terms: Terms, columns: tuple[dict[str, int], dict[str, int]]
) -> _Counted:
    words, chars = columns
    parts: list[tuple[Array, Array, Array]] = []
    ends, ids, first = [0], list[int](), 0

    def close() -> None:
        key = np.array(ids, np.int64)
        low = int(key.min(initial=0))
        found = _counts((key - low).tolist(), ends, int(key.max(initial=0)) - low + 1)
        row = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr)) + first
        parts.append((row, found.indices + low, found.data))

    for line in lines:
        text = line.lower() if terms.lowercase else line
        if terms.word_ngrams:
            ids += [words.setdefault(term, len(words)) for term in terms.words(text)]
        if terms.char_ngrams[1]:
            ids += [~chars.setdefault(term, len(chars)) for term in terms.chars(text)]
        ends.append(len(ids))
        if len(ends) > BLOCK:
            close()
            first += len(ends) - 1
            ends, ids = [0], []
    close()
    row, column, times = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return _Counted(row, column, times, first + len(ends) - 1)


def _sorted_columns(
    columns: tuple[dict[str, int], dict[str, int]], counted: _Counted, min_count: int
) -> tuple[list[list[str]], Compressed]:
    """The terms that occur often enough, in order, and the matrix of their counts."""
    kept: list[list[str]] = []
    place = [np.full(len(known), -1, np.int64) for known in columns]
    total = 0
    for known, own, sign in zip(columns, place, (1, -1), strict=True):
        mine = (counted.columns >= 0) == (sign > 0)
        at = counted.columns[mine] if sign > 0 else ~counted.columns[mine]
        often = np.bincount(at, counted.times[mine], len(known)) >= min_count
        kept.append(sorted(term for term, i in known.items() if often[i]))
        for term in kept[-1]:
            own[known[term]] = total
            total += 1
    both = np.concatenate([place[1][::-1], place[0]])  # chars ~i lies i + 1 before the words
    column = both[counted.columns + len(place[1])]
    used = column >= 0
    row, column, times = counted.rows[used], column[used], counted.times[used]
    order = np.lexsort((column, row))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=counted.n_rows))])
    shape = (counted.n_rows, total)
    return kept, Compressed(indptr, column[order], times[order], shape, "csr")
