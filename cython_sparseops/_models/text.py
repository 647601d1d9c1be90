"""How text becomes rows: tokens, n-grams and TF-IDF, learned once and stored with the model."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, NamedTuple, Self

import numpy as np

from cython_sparseops._arrays import Array, describe, is_one_of
from cython_sparseops._core import text as core
from cython_sparseops._models.file import Arrays, checked_strings, under
from cython_sparseops._runtime import resolve_threads
from cython_sparseops._sparse import Compressed
from cython_sparseops._text import TOKENS as FASTTEXT
from cython_sparseops._text import FastTextFeatures, Strings, counted, stacked

TOKENS = ("blanks", "words")
BLOCK = 4096  # lines that are counted at a time
_BLANKS = re.compile(r"[^\s\0]+", re.ASCII)
_WORDS = re.compile(r"\b\w\w+\b")  # scikit-learn's
_SIGMA = "Σ".encode()  # its lower case depends on what stands beside it
_PLANES = 0x40000  # characters beyond are no letters
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
        words: Sequence[str] | Strings,
        chars: Sequence[str] | Strings = (),
        idf: Array | None = None,
    ) -> None:
        self.terms = terms.checked()
        self._words, self._chars = _packed(words), _packed(chars)
        self.n_words = len(self._words.offsets) - 1
        self.n_features = self.n_words + len(self._chars.offsets) - 1
        if idf is not None and idf.shape != (self.n_features,):
            raise ValueError(f"idf must have {self.n_features} entries, got {idf.shape}")
        self.idf = idf
        least, most = self.terms.char_ngrams
        self._compiled = core.TermColumns(
            *self._words,
            *self._chars,
            words_only=self.terms.tokens == "words",
            lowercase=self.terms.lowercase,
            word_ngrams=self.terms.word_ngrams,
            min_chars=least,
            max_chars=most,
        )

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
        blocks = map(_packed, _batched(lines))
        return cls.fit_blocks(blocks, terms, min_count=min_count, tfidf=tfidf)

    @classmethod
    def fit_blocks(
        cls,
        blocks: Iterable[Strings],
        terms: Terms | None = None,
        *,
        min_count: int = 1,
        tfidf: bool = False,
        num_threads: int | None = None,
    ) -> tuple[Self, Compressed]:
        """Learn from lines that come in blocks, as `fit`.

        Parameters
        ----------
        blocks : iterable of Strings
        terms, min_count, tfidf
            As for `fit`.
        num_threads : int, optional
            Never changes a bit of the result.

        Returns
        -------
        features : TextFeatures
        X : Compressed of float32, shape (lines, F)

        Raises
        ------
        ValueError
            As `fit`.
        """
        terms = (Terms() if terms is None else terms).checked()
        threads = resolve_threads(num_threads)
        least, most = terms.char_ngrams
        counter = core.Terms(
            words=terms.tokens == "words",
            lowercase=terms.lowercase,
            word_ngrams=terms.word_ngrams,
            min_chars=least,
            max_chars=most,
        )
        for block in blocks:
            lines, letters = _prepared(block, terms)
            counter.add(*lines, letters, threads)
        if counter.is_empty():
            raise ValueError("texts must hold at least one token, got none")
        utf8, offsets, n_words, *rows = counter.finish(min_count, threads)
        if len(offsets) == 1:
            raise ValueError(f"min_count must leave at least one token, got {min_count}")
        end = offsets[n_words]
        features = cls(
            terms,
            Strings(utf8[:end], offsets[: n_words + 1]),
            Strings(utf8[end:], offsets[n_words:] - end),
        )
        X = counted(features.n_features, *rows)
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
        return self.transform_blocks(map(_packed, _batched(lines)))

    def transform_blocks(self, blocks: Iterable[Strings]) -> Compressed:
        """Make rows of lines that come in blocks, as `transform`."""
        parts = [self._counts(block, None) for block in blocks]
        X = parts[0] if len(parts) == 1 else stacked(parts, self.n_features)
        return X if self.idf is None else weighed(X, self.idf)

    def _counts(self, lines: Strings, num_threads: int | None) -> Compressed:
        threads = resolve_threads(num_threads)
        prepared, letters = _prepared(lines, self.terms)
        return counted(self.n_features, *self._compiled.rows(*prepared, letters, threads))

    def row(self, line: str) -> tuple[Array, Array]:
        """One line: the columns, int64, and the weights, float32, that `transform` gives it.

        Examples
        --------
        >>> features, X = TextFeatures.fit(["a cat", "a dog"])
        >>> features.row("cat a a x")
        (array([0, 1]), array([2., 1.], dtype=float32))
        """
        X = self._counts(_packed([line]), 1)
        ids, times = X.indices.astype(np.int64), X.data
        if self.idf is None or not len(ids):
            return ids, times
        weights = (np.log(times) + np.float32(1)) * self.idf[ids]
        square = np.bincount(np.zeros(len(ids), np.intp), weights * weights)  # as in `weighed`
        return ids, (weights / np.sqrt(square)).astype(np.float32)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_arrays, (self.to_arrays(), self.settings())

    @cached_property
    def vocabulary(self) -> list[str]:
        """The terms of the columns."""
        return [*_unpacked(self._words), *_unpacked(self._chars)]

    @cached_property
    def columns(self) -> Mapping[str, int]:
        """The columns by their names; a word comes before the characters that spell it."""
        places = range(self.n_features - 1, -1, -1)
        return dict(zip(reversed(self.vocabulary), places, strict=True))

    def settings(self) -> dict[str, Any]:
        """What `from_arrays` needs beside the arrays, as JSON holds it."""
        values: dict[str, Any] = self.terms._asdict()
        return values | {"char_ngrams": list(self.terms.char_ngrams), "n_words": self.n_words}

    def to_arrays(self) -> Arrays:
        """The vocabulary as one blob and offsets, and idf if there is one."""
        weights = {} if self.idf is None else {"idf": self.idf}
        utf8 = np.concatenate([self._words.utf8, self._chars.utf8])
        ends = self._chars.offsets[1:] + self._words.offsets[-1]
        return {"utf8": utf8, "offsets": np.concatenate([self._words.offsets, ends])} | weights

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
        strings, n_words = Strings(*checked_strings(arrays)), settings["n_words"]
        most_words = len(strings.offsets) - 1
        if type(n_words) is not int or not 0 <= n_words <= most_words:
            raise ValueError(f"n_words must be in [0, {most_words}], got {n_words!r:.40}")
        idf = arrays.get("idf")
        if idf is not None and (idf.dtype != np.float32 or not np.isfinite(idf).all()):
            raise ValueError(f"idf must be finite float32, got {idf.dtype}")
        end = strings.offsets[n_words]
        words = Strings(strings.utf8[:end], strings.offsets[: n_words + 1])
        chars = Strings(strings.utf8[end:], strings.offsets[n_words:] - end)
        return cls(terms, words, chars, idf)

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
        return cls(Terms(), Strings(*checked_strings(under("vocabulary", arrays))))


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


def _packed(strings: Sequence[str] | Strings) -> Strings:
    if isinstance(strings, Strings):
        return strings
    return Strings.of(string.encode("utf-8", "surrogatepass") for string in strings)


def _unpacked(strings: Strings) -> list[str]:
    return [string.decode("utf-8", "surrogatepass") for string in strings.to_list()]


def _batched(lines: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(lines)
    while block := list(itertools.islice(rest, BLOCK)):
        yield block


def _prepared(lines: Strings, terms: Terms) -> tuple[Strings, core.Letters | None]:
    """Lines as compiled code takes them, and the letters beyond ASCII if they matter."""
    if not (terms.lowercase or terms.tokens == "words"):
        return lines, None
    raw = lines.utf8.tobytes()
    if raw.isascii():
        return lines, None
    if terms.lowercase and _SIGMA in raw:
        lines = Strings.of(
            one.decode("utf-8", "surrogatepass").lower().encode("utf-8", "surrogatepass")
            if _SIGMA in one
            else one
            for one in lines.to_list()
        )
    return lines, _letters()


@cache
def _letters() -> core.Letters:
    """What Python calls letters, and their lower case."""
    characters = [chr(c) for c in range(_PLANES)]
    letters = np.packbits([c.isalnum() for c in characters], bitorder="little")
    upper = [at for at, c in enumerate(characters) if at >= 128 and c.lower() != c]
    lower = _packed([chr(at).lower() for at in upper])
    bits = letters.view("<u8").astype(np.uint64)
    return core.Letters(bits, np.array(upper, np.int32), *lower)
