"""A trained classifier as a server needs it: one row or a few, NumPy alone, nothing to change."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn, Self
from typing import cast as cast_to

import numpy as np

from cython_sparseops._arrays import (
    FLOAT32,
    INT64,
    Array,
    aligned_empty,
    as_integer,
    as_integers,
    as_real,
    cast,
    describe,
)
from cython_sparseops._models.bag import BagModel
from cython_sparseops._models.file import KIND as BAG
from cython_sparseops._models.file import (
    Arrays,
    BagFile,
    read_bag,
    read_model,
    under,
    unpack_labels,
)
from cython_sparseops._models.linear import KIND as LINEAR
from cython_sparseops._models.linear import LinearFile, LinearModel, read_linear
from cython_sparseops._models.text import features_of_file
from cython_sparseops._models.vectorizer import NO_TEXT, text_rows
from cython_sparseops._quantize import QuantizedWeights
from cython_sparseops._search import hsoftmax_search, row_search, search_bags
from cython_sparseops._sparse import Compressed, SparseMatrix, as_csr, as_stored, is_sparse

__all__ = ["Prediction", "Predictor"]

Metadata = dict[str, Any]
Row = str | Mapping[Any, float] | tuple[Any, Any] | SparseMatrix | Array


class Prediction(NamedTuple):
    """The likeliest classes of one row, best first.

    Attributes
    ----------
    labels : list
        As the classifier was fitted on them.
    log_probs : list of float
        In nats.

    Examples
    --------
    >>> Prediction(["cat", "dog"], [-0.5, -1.0]).probabilities
    [0.6065306597126334, 0.36787944117144233]
    """

    labels: list[Any]
    log_probs: list[float]

    @property
    def probabilities(self) -> list[float]:
        """The same as probabilities, from 0 to 1."""
        return [math.exp(log_prob) for log_prob in self.log_probs]


class _Entries(NamedTuple):
    """The columns of one row that are not zero, int64, and their weights in the model's dtype."""

    ids: Array
    weights: Array


class Predictor:
    """A fitted classifier for single rows: answers as `top_k` of the classifier, to the last bit.

    It has none of scikit-learn's checks and imports neither that nor SciPy. Made by ``predictor()``
    of `cython_sparseops.sklearn.HSoftmaxClassifier` and `LabelTreeClassifier`, or read from their
    files. It cannot be changed, and what is trained later does not change it. Any number of threads
    may call one predictor at the same time.

    Parameters
    ----------
    model : BagModel or LinearModel
        The weights. Those that can be written are copied.
    classes : ndarray of shape (C,)
        Labels.
    vectorizer : object, optional
        Makes a row of a text: a fitted vectorizer of scikit-learn, or anything whose
        ``transform([text])`` gives a CSR matrix of one row.
    feature_names : sequence of str, optional
        Names of the columns, for rows that are dicts. By default the vocabulary of `vectorizer`.
    num_threads : int or None, default 1
        Of each call. Never changes a bit of the result.

    Notes
    -----
    A row is one of

    - a text, with a vectorizer or a file of ``sparseops train``;
    - a dict of feature weights: keys are names, unknown ones are left out, or column numbers;
    - a tuple of column numbers and weights;
    - a CSR matrix of one row;
    - a vector of all F features.

    Examples
    --------
    >>> from cython_sparseops.sklearn import LabelTreeClassifier
    >>> model = LabelTreeClassifier(random_state=0).fit(np.eye(3), ["ant", "bee", "cat"])
    >>> predictor = model.predictor()
    >>> predictor.top_k({1: 1.0}, k=2).labels[0], predictor.top_k(([2], [1.0]), k=1).labels
    ('bee', ['cat'])
    """

    __slots__ = ("__weakref__", "_given", "_head", "_labels", "_names", "_one", "_text")
    _given: tuple[Any, ...]
    _head: _BagHead | _LinearHead
    _labels: Array
    _names: Mapping[str, int]
    _one: Callable[..., Any] | None
    _text: Callable[[str], Any]

    def __init__(
        self,
        model: BagModel | LinearModel,
        classes: Array,
        *,
        vectorizer: object = None,
        feature_names: Iterable[str] | None = None,
        num_threads: int | None = 1,
    ) -> None:
        threads = None if num_threads is None else as_integer("num_threads", num_threads, 1)
        head = (
            _BagHead(model, threads) if isinstance(model, BagModel) else _LinearHead(model, threads)
        )
        if len(classes) != head.n_classes:
            raise ValueError(f"classes must number {head.n_classes}, got {len(classes)}")
        text = NO_TEXT if vectorizer is None else text_rows(vectorizer)
        names, n_named = text.columns, text.n_features
        if feature_names is not None:
            names = {name: at for at, name in enumerate(feature_names)}
            n_named = len(names)
        if n_named not in (None, head.n_features):
            raise ValueError(
                f"vectorizer must have the {head.n_features} features of the model, got {n_named}"
            )
        given = (model, classes, vectorizer, feature_names, num_threads)
        values = (given, head, classes, names, head.one_row(classes), text.row)
        for name, value in zip(self.__slots__[1:], values, strict=True):
            object.__setattr__(self, name, value)
        # What compiled rows remember of a tree is filled here, where no other thread can see it.
        self.top_k((np.zeros(0, INT64), np.zeros(0)), 1)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        vectorizer: object = None,
        mmap: bool = True,
        num_threads: int | None = 1,
    ) -> Self:
        """Read a file that a classifier or ``sparseops train`` saved.

        Parameters
        ----------
        path : str or path-like
            The file. It may come from a stranger: it is checked, and nothing in it is executed.
        vectorizer : object, optional
            As for the class. By default what the file says of text, if it does.
        mmap : bool, default True
            Map the weights instead of reading them: processes share them.
        num_threads : int or None, default 1
            As for the class.

        Returns
        -------
        Predictor

        Raises
        ------
        ValueError
            If the file is damaged, or holds something else.

        Examples
        --------
        >>> from cython_sparseops.sklearn import HSoftmaxClassifier
        >>> HSoftmaxClassifier().fit([[0.0], [1.0]], ["no", "yes"]).save("model.sops")
        >>> Predictor.load("model.sops").top_k([3.0], k=1).labels
        ['yes']
        """

        def made(
            read: Callable[[Arrays, Metadata], BagFile | LinearFile],
        ) -> Callable[[Arrays, Metadata], Predictor]:
            def rebuild(arrays: Arrays, metadata: Metadata) -> Predictor:
                found, text = read(arrays, metadata), vectorizer
                if text is None:
                    text = features_of_file(arrays, metadata)
                names = found.feature_names if text is None else None
                return cls(
                    found.model,
                    _column_names(arrays, metadata, found.classes),
                    vectorizer=text,
                    feature_names=names,
                    num_threads=num_threads,
                )

            return rebuild

        readers = {BAG: made(read_bag), LINEAR: made(read_linear)}
        return cast_to(Self, read_model(readers, path, mmap=mmap))

    @property
    def classes(self) -> Array:
        """The labels, in the order of the model's classes; not to be changed."""
        return self._labels

    @property
    def n_features(self) -> int:
        """F, the columns of a row."""
        return self._head.n_features

    def top_k(self, row: Row, k: int = 5) -> Prediction:
        """Return the k likeliest classes of one row, exactly.

        Parameters
        ----------
        row : str, dict, tuple, CSR matrix of one row, or array_like of shape (F,)
            As above.
        k : int, default 5
            At most the number of classes.

        Returns
        -------
        Prediction
            ``labels`` and ``log_probs``, lists of k, best first; ``probabilities``.

        Raises
        ------
        ValueError, TypeError
            If k is not in [1, C], or the row is of no such form, has columns that the model has
            not, or is not finite.

        Examples
        --------
        >>> from cython_sparseops.sklearn import HSoftmaxClassifier
        >>> predictor = HSoftmaxClassifier().fit([[0.0], [1.0]], ["no", "yes"]).predictor()
        >>> predictor.top_k({0: 2.5}, k=2).labels
        ['yes', 'no']
        """
        one: Any = self._one
        if one is None:
            return self.top_k_rows((row,), k)[0]
        if type(row) is tuple and len(row) == 2:
            found: Prediction | None = one(row[0], row[1], k)
            if found is not None:
                return found
        converted: Prediction = one(*self._entries(row), self._as_k(k))
        return converted

    def top_k_rows(self, rows: SparseMatrix | Iterable[Row], k: int = 5) -> list[Prediction]:
        """Return the k likeliest classes of each row: one call costs less than one for each.

        Parameters
        ----------
        rows : iterable of rows as `top_k` takes them, CSR matrix, or array_like of shape (N, F)
        k : int, default 5
            At most the number of classes.

        Returns
        -------
        list of Prediction
            One for each row.

        Raises
        ------
        ValueError, TypeError
            As `top_k`.

        Examples
        --------
        >>> from cython_sparseops.sklearn import HSoftmaxClassifier
        >>> predictor = HSoftmaxClassifier().fit([[0.0], [1.0]], ["no", "yes"]).predictor()
        >>> [found.labels for found in predictor.top_k_rows([[-2.0], [2.0]], k=1)]
        [['no'], ['yes']]
        """
        if isinstance(rows, (str, Mapping)):
            raise TypeError(f"rows must be several, got one, {describe(rows)}")
        if is_sparse(rows):
            indptr, ids, weights = self._parts("rows", rows)
        else:
            each = [self._entries(row) for row in cast_to(Iterable[Row], rows)]
            indptr = np.cumsum([0, *(len(one.ids) for one in each)], dtype=INT64)
            ids = np.concatenate([np.zeros(0, INT64), *(one.ids for one in each)])
            weights = np.concatenate(
                [np.zeros(0, self._head.dtype), *(one.weights for one in each)]
            )
        found, log_probs = self._head.search(indptr, ids, weights, self._as_k(k))
        labels = self._labels[found].tolist()
        return [Prediction(*one) for one in zip(labels, log_probs.tolist(), strict=True)]

    def _best(self, X: Compressed, k: int) -> tuple[Array, Array]:
        """Numbers of the k likeliest classes of each row, (N, k), and their log-probabilities."""
        return self._head.search(*self._parts("X", X), self._as_k(k))

    def __repr__(self) -> str:
        return f"Predictor({len(self._labels):,} classes, {self.n_features:,} features)"

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, self._given

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a predictor cannot be changed, got a value for {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a predictor cannot be changed, got {name!r} to delete")

    def _as_k(self, k: int) -> int:
        most = len(self._labels)
        number = as_integer("k", k)
        if not 1 <= number <= most:
            raise ValueError(f"k must be in [1, {most}], the number of classes, got {number}")
        return number

    def _entries(self, row: Any) -> _Entries:
        if isinstance(row, str):
            row = self._text(row)
        if type(row) is tuple:
            return self._of_arrays(row)
        if isinstance(row, Mapping):
            return self._of_mapping(row)
        if not is_sparse(row):
            return self._of_vector(row)
        indptr, ids, weights = self._parts("row", row)
        if len(indptr) != 2:
            raise ValueError(f"row must be one row, got {len(indptr) - 1}")
        return _Entries(ids, weights)

    def _of_arrays(self, row: tuple[Any, ...]) -> _Entries:
        if len(row) != 2:
            raise ValueError(f"row must be a tuple of ids and weights, got {len(row)} entries")
        ids = as_integers("ids", row[0])
        weights = cast(as_real("weights", row[1], 1), self._head.dtype)
        if len(ids) != len(weights):
            raise ValueError(f"weights must number {len(ids)}, as ids, got {len(weights)}")
        return _Entries(ids, weights)

    def _of_mapping(self, row: Mapping[Any, float]) -> _Entries:
        """Sorted, so that the order of a dict changes no bit."""
        entries: list[tuple[int, float]] = []
        for key, weight in row.items():
            if not isinstance(key, str):
                entries.append((operator.index(key), weight))
            elif not self._names:
                raise ValueError(
                    f"row must have column numbers as keys, the model has no names, got {key!r:.60}"
                )
            elif (at := self._names.get(key)) is not None:
                entries.append((at, weight))
        entries.sort()
        ids = np.array([at for at, _ in entries], INT64)
        weights = as_real("row", [weight for _, weight in entries], 1)
        return _Entries(ids, cast(weights, self._head.dtype))

    def _of_vector(self, row: Any) -> _Entries:
        vector = cast(as_real("row", row, 1), self._head.dtype)
        if len(vector) != self.n_features:
            raise ValueError(f"row must have {self.n_features} features, got {len(vector)}")
        ids = np.flatnonzero(vector)  # NaN is not 0
        return _Entries(ids, vector[ids])

    def _parts(self, name: str, rows: Any) -> tuple[Array, Array, Array]:
        parts = as_stored(name, as_csr(name, rows, self._head.dtype))
        if parts.shape[1] != self.n_features:
            raise ValueError(f"{name} must have {self.n_features} columns, got {parts.shape[1]}")
        indptr, ids = as_integers("indptr", parts.indptr), as_integers("indices", parts.indices)
        return indptr, ids, parts.data


class _BagHead:
    """Embeddings and decision rows that nobody else can change."""

    def __init__(self, model: BagModel, num_threads: int | None) -> None:
        self.model = BagModel(
            model.hierarchy,
            None if model.E is None else _frozen(model.E),
            _frozen(model.W),
            _frozen(model.b),
            mode=model.mode,
        )
        self.n_classes, self.n_features = model.hierarchy.n_classes, model.n_features
        self.dtype, self.num_threads = model.dtype, num_threads

    def search(self, indptr: Array, ids: Array, weights: Array, k: int) -> tuple[Array, Array]:
        model, threads = self.model, self.num_threads
        E, W, b, h = model.E, model.W, model.b, model.hierarchy
        if E is None:
            hidden = self._dense(indptr, ids, weights)
            found = hsoftmax_search(hidden, W, b, h, k, num_threads=threads)
            return found.classes, found.log_probs
        rows = Compressed(indptr, ids, weights, (len(indptr) - 1, self.n_features), "csr")
        if isinstance(E, QuantizedWeights):
            hidden = model.hidden(rows, num_threads=threads)
            found = hsoftmax_search(hidden, W, b, h, k, num_threads=threads)
            return found.classes, found.log_probs
        return search_bags(rows, E, W, b, h, k, model.mode, threads)

    def one_row(self, labels: Array) -> Callable[..., Any] | None:
        model = self.model
        if model.E is None or isinstance(model.E, QuantizedWeights):
            return None
        bags = model.E, model.b, model.mode
        trees = ((model.hierarchy, model.W),)
        return row_search(trees, labels, Prediction, bags=bags, num_threads=self.num_threads)

    def _dense(self, indptr: Array, ids: Array, weights: Array) -> Array:
        wrong = np.flatnonzero((ids < 0) | (ids >= self.n_features))
        if wrong.size:
            raise ValueError(f"ids must be in [0, {self.n_features}), got {ids[wrong[0]]}")
        n = len(indptr) - 1
        X = np.zeros((n, self.n_features), self.dtype)
        np.add.at(X, (np.repeat(np.arange(n), np.diff(indptr)), ids), weights)
        return X


class _LinearHead:
    """Sparse weights, which nothing can change."""

    def __init__(self, model: LinearModel, num_threads: int | None) -> None:
        self.model = LinearModel(list(model.trees))
        self.n_classes, self.n_features = model.n_classes, model.n_features
        self.dtype, self.num_threads = FLOAT32, num_threads

    def search(self, indptr: Array, ids: Array, weights: Array, k: int) -> tuple[Array, Array]:
        rows = Compressed(indptr, ids, weights, (len(indptr) - 1, self.n_features), "csr")
        return self.model.top_k(rows, k, num_threads=self.num_threads)

    def one_row(self, labels: Array) -> Callable[..., Any] | None:
        return row_search(self.model.trees, labels, Prediction, num_threads=self.num_threads)


def _column_names(arrays: Arrays, metadata: Metadata, classes: Array) -> Array:
    """The labels of a model of several a row, if its file holds their names, or its classes."""
    source = metadata.get("input")
    if not isinstance(source, dict) or "name_dtype" not in source:
        return classes
    return unpack_labels(under("names", arrays), source["name_dtype"])


def _frozen(array: Any) -> Any:
    if isinstance(array, QuantizedWeights):
        return QuantizedWeights(_frozen(array._memory))
    if not array.flags.writeable:
        return array
    own = aligned_empty(array.shape, array.dtype)
    own[...] = array
    own.flags.writeable = False
    return own


def _remade(
    model: Any, classes: Array, vectorizer: Any, feature_names: Any, num_threads: int | None
) -> Predictor:
    return Predictor(
        model,
        classes,
        vectorizer=vectorizer,
        feature_names=feature_names,
        num_threads=num_threads,
    )
