"""Supervised models of fastText with the hierarchical softmax, as arrays of ours."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cython_sparseops import _taxonomy as taxonomies
from cython_sparseops._arrays import Array, as_integer, as_integers, as_real, describe
from cython_sparseops._bag import embedding_bag
from cython_sparseops._hierarchy import Hierarchy, as_tree
from cython_sparseops._models.bag import BLOCK, BagModel
from cython_sparseops._models.fasttext_file import huffman_paths, read_fasttext
from cython_sparseops._models.labels import as_labels
from cython_sparseops._models.topk import TopK
from cython_sparseops._search import hsoftmax_search
from cython_sparseops._sparse import Compressed, as_scipy
from cython_sparseops._text import FastTextFeatures, Strings, as_texts

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from cython_sparseops.sklearn import HSoftmaxClassifier

__all__ = ["FastTextModel", "load_fasttext"]

_OFFSET = 1e-5  # that fastText adds inside each logarithm
_STEPS = 1 << 16  # of paths, scored at a time


class FastTextModel:
    """A model of fastText with exact probabilities, usually read from a file by `load_fasttext`.

    Parameters
    ----------
    hierarchy : Hierarchy
        fastText's Huffman tree; class i is ``labels[i]``.
    E : ndarray of float32, shape (F, D)
        A row for each word, then one for each bucket of n-grams.
    W : ndarray of float32, shape (R, D)
        Decision rows; there are no biases.
    labels : sequence of str, shape (C,)
        As they stand in the file, ``__label__`` and all; by falling count.
    words : sequence of str or bytes
        The dictionary.
    word_ngrams, min_chars, max_chars, buckets : int
        fastText's wordNgrams, minn, maxn and bucket.
    kept : array_like of int, optional
        The buckets that a pruned model has rows for. By default all.
    counts : array_like of int, shape (C,), optional
        How often each label occurred in training.

    Raises
    ------
    ValueError
        If the parts do not fit each other.

    Examples
    --------
    >>> E, W = np.array([[1, -2]], np.float32), np.array([[-1, 1]], np.float32)
    >>> model = FastTextModel(Hierarchy.balanced(2), E, W, ["cat", "dog"], ["purrs"])
    >>> model.top_k(["it purrs"]).labels.tolist()
    [['cat']]
    """

    def __init__(
        self,
        hierarchy: Hierarchy,
        E: Array,
        W: Array,
        labels: Sequence[str],
        words: Sequence[str | bytes],
        *,
        word_ngrams: int = 1,
        min_chars: int = 0,
        max_chars: int = 0,
        buckets: int = 0,
        kept: npt.ArrayLike | None = None,
        counts: npt.ArrayLike | None = None,
    ) -> None:
        as_tree(hierarchy)
        self.hierarchy, self.E, self.W = hierarchy, as_real("E", E, 2), as_real("W", W, 2)
        self.labels = as_labels(labels)
        if len(self.labels) != hierarchy.n_classes:
            raise ValueError(f"labels must number {hierarchy.n_classes}, got {len(self.labels)}")
        self.counts = None if counts is None else as_integers("counts", counts)
        if self.counts is not None and len(self.counts) != len(self.labels):
            raise ValueError(f"counts must number {len(self.labels)}, got {len(self.counts)}")
        self._features = FastTextFeatures(
            as_texts(words, "words"),
            Strings.of(label.encode("utf-8", "surrogateescape") for label in labels),
            None if kept is None else _as_buckets(kept),
            word_ngrams=word_ngrams,
            min_chars=min_chars,
            max_chars=max_chars,
            buckets=buckets,
        )
        shapes = (self._features.n_features, self.E.shape[1]), (hierarchy.n_rows, self.E.shape[1])
        if (self.E.shape, self.W.shape) != shapes:
            raise ValueError(
                f"E and W must have shapes {shapes[0]} and {shapes[1]}, got {self.E.shape} and "
                f"{self.W.shape}"
            )

    def transform(
        self, texts: Iterable[str | bytes], *, num_threads: int | None = None
    ) -> csr_matrix:
        """Count the words and n-grams of texts as fastText does.

        Parameters
        ----------
        texts : iterable of str or bytes
            Each is a whole line: it gets the token ``</s>``, and ends at its first newline.
        num_threads : int, optional
            Never changes a bit of the result.

        Returns
        -------
        CSR matrix of float32, shape (N, F)
            SciPy's where SciPy is installed.

        Raises
        ------
        TypeError
            If `texts` is one text, or holds something else.

        Examples
        --------
        >>> E, W = np.array([[1, -2]], np.float32), np.array([[-1, 1]], np.float32)
        >>> model = FastTextModel(Hierarchy.balanced(2), E, W, ["cat", "dog"], ["purrs"])
        >>> model.transform(["it purrs", "purrs and purrs"]).data.tolist()
        [1.0, 2.0]
        """
        return as_scipy(self._features.transform(texts, num_threads=num_threads))

    def top_k(
        self, texts: Iterable[str | bytes], k: int = 1, *, num_threads: int | None = None
    ) -> TopK:
        """Return the k likeliest labels of each text; exact.

        Parameters
        ----------
        texts : iterable of str or bytes
        k : int
            At most the number of labels.
        num_threads : int, optional
            Never changes a bit of the result.

        Returns
        -------
        TopK
            ``labels`` (N, k) and ``log_probs`` (N, k), best first.

        Raises
        ------
        ValueError
            If `k` is not in [1, C].
        TypeError
            As for `transform`.

        Examples
        --------
        >>> E, W = np.array([[1, -2]], np.float32), np.array([[-1, 1]], np.float32)
        >>> model = FastTextModel(Hierarchy.balanced(2), E, W, ["cat", "dog"], ["purrs"])
        >>> found = model.top_k(["it purrs"], k=2)
        >>> found.labels.tolist(), np.exp(found.log_probs).round(3).astype(str).tolist()
        ([['cat', 'dog']], [['0.953', '0.047']])
        """
        k = as_integer("k", k, 1)
        if k > len(self.labels):
            raise ValueError(f"k must be at most the number of labels, {len(self.labels)}, got {k}")
        X = self._features.transform(texts, num_threads=num_threads)
        found = np.empty((X.shape[0], k), np.int64)
        log_probs = np.empty((X.shape[0], k), self.W.dtype)
        for rows, hidden in self._hidden(X, num_threads):
            found[rows], log_probs[rows], _ = hsoftmax_search(
                hidden, self.W, None, self.hierarchy, k, num_threads=num_threads
            )
        return TopK(self.labels[found], log_probs)

    def offset_log_proba(
        self,
        texts: Iterable[str | bytes],
        labels: npt.ArrayLike,
        *,
        num_threads: int | None = None,
    ) -> Array:
        """Return the scores that fastText itself gives, to compare with: they are no probabilities.

        Parameters
        ----------
        texts : iterable of str or bytes
        labels : array_like of str, shape (N,) or (N, m)
            Labels for each text.
        num_threads : int, optional
            Never changes a bit of the result.

        Returns
        -------
        ndarray of float32, shape (N,) or (N, m)
            ``Σ log(p + 1e-5)`` over the nodes of the path; its exponential is what fastText's
            ``predict`` prints, and may be above 1.

        Raises
        ------
        ValueError
            If a label is unknown, or there are not as many rows as texts.
        TypeError
            As for `transform`.

        Examples
        --------
        >>> E, W = np.array([[1, -2]], np.float32), np.array([[-1, 1]], np.float32)
        >>> model = FastTextModel(Hierarchy.balanced(2), E, W, ["cat", "dog"], ["purrs"])
        >>> np.exp(model.offset_log_proba(["it purrs"], [["cat", "dog"]])).round(5)
        array([[0.95258, 0.04744]], dtype=float32)
        """
        X = self._features.transform(texts, num_threads=num_threads)
        classes = self._numbers(labels, X.shape[0])
        scores = np.empty(classes.shape, np.float32)
        for rows, hidden in self._hidden(X, num_threads):
            scores[rows] = self._offset_scores(hidden, classes[rows])
        return scores

    def to_classifier(self) -> HSoftmaxClassifier:
        """Make the estimator of it: for rows that `transform` made.

        Returns
        -------
        HSoftmaxClassifier
            Its ``classes_`` are the labels, sorted. It shares the weights, and copies them before
            it trains on.

        Raises
        ------
        ImportError
            If scikit-learn is not installed.

        Examples
        --------
        >>> E, W = np.array([[1, -2]], np.float32), np.array([[-1, 1]], np.float32)
        >>> model = FastTextModel(Hierarchy.balanced(2), E, W, ["cat", "dog"], ["purrs"])
        >>> model.to_classifier().predict(model.transform(["it purrs"])).tolist()
        ['cat']
        """
        from cython_sparseops.sklearn import HSoftmaxClassifier

        order = np.argsort(self.labels, kind="stable")
        h = self.hierarchy
        ptr, at = taxonomies.in_class_order(h.path_ptr, order)
        tree = Hierarchy.from_paths(ptr, h.path_node[at], h.path_child[at])
        b = np.zeros(len(self.W), self.W.dtype)
        return HSoftmaxClassifier._of_model(BagModel(tree, self.E, self.W, b), self.labels[order])

    def _hidden(self, X: Compressed, num_threads: int | None) -> Iterator[tuple[slice, Array]]:
        for start in range(0, X.shape[0], BLOCK):
            rows = slice(start, min(start + BLOCK, X.shape[0]))
            entries = slice(X.indptr[rows.start], X.indptr[rows.stop])
            part = Compressed(
                X.indptr[rows.start : rows.stop + 1] - X.indptr[rows.start],
                X.indices[entries],
                X.data[entries],
                (rows.stop - rows.start, X.shape[1]),
                "csr",
            )
            yield rows, embedding_bag(part, self.E, num_threads=num_threads)

    def _numbers(self, labels: npt.ArrayLike, n: int) -> npt.NDArray[np.int64]:
        given = np.array(labels, dtype=object)
        if given.ndim not in (1, 2) or len(given) != n:
            raise ValueError(f"labels must have a row for each of {n} texts, got {given.shape}")
        number = {label: at for at, label in enumerate(self.labels.tolist())}
        unknown = next((one for one in given.ravel().tolist() if one not in number), None)
        if unknown is not None:
            raise ValueError(f"labels must be labels of the model, got {describe(unknown)}")
        flat = np.array([number[one] for one in given.ravel().tolist()], np.int64)
        return flat.reshape(given.shape)

    def _offset_scores(self, hidden: Array, classes: Array) -> Array:
        h, flat = self.hierarchy, classes.ravel()
        lengths = np.diff(h.path_ptr)[flat]
        ends = np.cumsum(lengths)
        step = np.repeat(h.path_ptr[flat] - ends + lengths, lengths) + np.arange(lengths.sum())
        row = np.repeat(
            np.arange(len(hidden)).repeat(classes[0].size if len(classes) else 0), lengths
        )
        terms = np.empty(len(step))
        for start in range(0, len(step), _STEPS):
            part = slice(start, start + _STEPS)
            inputs, rows = hidden[row[part]], self.W[h.path_node[step[part]]]
            with np.errstate(over="ignore", under="ignore"):
                p = 1 / (1 + np.exp(-np.einsum("ij,ij->i", inputs, rows)))
            p = np.where(h.path_child[step[part]] == 1, p, (1 - p).astype(np.float32))
            terms[part] = np.log(p.astype(np.float64) + _OFFSET)
        sums = np.concatenate([[0], np.cumsum(terms)])
        scores: Array = sums[ends] - sums[ends - lengths]
        return scores.reshape(classes.shape).astype(np.float32)


def _as_buckets(kept: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """int32; what does not fit becomes a number that is no bucket either."""
    return np.clip(as_integers("kept", kept), -1, 2**31 - 1).astype(np.int32)


def load_fasttext(path: str | os.PathLike[str]) -> FastTextModel:
    """Read a supervised model of fastText that was trained with ``loss=hs``, .bin or .ftz.

    Words, n-grams of words and of characters, quantized weights and pruned dictionaries are read;
    fastText itself is not needed.

    Parameters
    ----------
    path : str or path-like
        The file. It may come from a stranger: every size in it is checked.

    Returns
    -------
    FastTextModel

    Raises
    ------
    ValueError
        If the model is of another kind or loss, or the file is damaged.

    Notes
    -----
    Probabilities here are exact. fastText adds 1e-5 inside each logarithm, so its own are larger,
    by at most about 1e-5 for each node on the path; `FastTextModel.offset_log_proba` gives those.

    References
    ----------
    Joulin et al., "Bag of tricks for efficient text classification", 2017; Joulin et al.,
    "FastText.zip: compressing text classification models", 2016.

    Examples
    --------
    A file of one word and two labels, as fastText writes it:

    >>> from struct import pack
    >>> head = pack("<14id", 793712314, 12, 2, 5, 5, 1, 5, 1, 1, 3, 0, 0, 0, 100, 0.0)
    >>> words = [(b"purrs", 3, 0), (b"__label__cat", 2, 1), (b"__label__dog", 1, 1)]
    >>> words = b"".join(word + pack("<xqb", *counts) for word, *counts in words)
    >>> E, W = np.array([[1, -2]], "<f4"), np.array([[-1, 1], [0, 0]], "<f4")
    >>> with open("model.bin", "wb") as file:
    ...     _ = file.write(head + pack("<3i2q", 3, 1, 2, 6, -1) + words)
    ...     _ = file.write(pack("<?2q", False, *E.shape) + E.tobytes())
    ...     _ = file.write(pack("<?2q", False, *W.shape) + W.tobytes())
    >>> model = load_fasttext("model.bin")
    >>> model.labels.tolist()
    ['__label__cat', '__label__dog']
    >>> model.transform(["it purrs"]).data
    array([1.], dtype=float32)
    >>> found = model.top_k(["it purrs"])
    >>> found.labels.tolist(), np.exp(found.log_probs).round(5)
    ([['__label__dog']], array([[0.95257]], dtype=float32))
    >>> np.exp(model.offset_log_proba(["it purrs"], ["__label__dog"])).round(5)
    array([0.95258], dtype=float32)
    """
    found = read_fasttext(path)
    tree = Hierarchy.from_paths(*huffman_paths(found.label_counts))
    for array in (found.E, found.output):  # shared with classifiers, which copy what is not theirs
        array.flags.writeable = False
    settings = found.settings
    try:
        return FastTextModel(
            tree,
            found.E,
            found.output[:-1],
            [label.decode("utf-8", "surrogateescape") for label in found.labels],
            found.words,
            word_ngrams=settings.word_ngrams,
            min_chars=settings.minn,
            max_chars=settings.maxn,
            buckets=settings.bucket,
            kept=found.kept,
            counts=found.label_counts,
        )
    except ValueError as error:
        raise ValueError(f"{os.fsdecode(path)} must be a valid model, got {error}") from None
