"""A scikit-learn classifier of dense weights over a tree of classes, with an embedding bag."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from operator import index
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from cython_sparseops._arrays import Array, as_plain, find_sorted, is_one_of
from cython_sparseops._arrays import cast as convert
from cython_sparseops._hierarchy import Hierarchy
from cython_sparseops._hsoftmax import hsoftmax_log_proba
from cython_sparseops._models.bag import BLOCK, OPTIMIZERS, TREES, BagModel, BagTrainer, Progress
from cython_sparseops._models.file import load_classifier, save_classifier
from cython_sparseops._models.labels import (
    class_list,
    label_array,
    refuse_text,
    unique_labels,
    with_classes,
)
from cython_sparseops._models.predictor import Predictor
from cython_sparseops._models.progress import shown
from cython_sparseops._models.topk import TopK
from cython_sparseops._search import hsoftmax_search
from cython_sparseops._sparse import SparseMatrix

_LEAST_EPOCHS = 5  # as fastText
_LEAST_STEPS = 500  # weights start at zero: few rows need that many steps to be told apart
Rows = npt.ArrayLike | SparseMatrix
# Parameters of the classifier that its trainer takes as they are.
_TRAINER_SETTINGS = (
    "optimizer",
    "batch_size",
    "weight_decay",
    "dropout",
    "replacement",
    "max_norm",
    "num_threads",
)


class HSoftmaxClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifier over a tree of classes: training and prediction cost about log(classes) per row.

    Sparse `X` (bags of words, hashed features) is averaged into `hidden_dim` numbers by a learned
    embedding bag, then classified by the tree. Dense `X` goes to the tree as it is: with two
    classes that is logistic regression. Dense features should be of similar size
    (``StandardScaler``).

    Parameters
    ----------
    hidden_dim : int
        Width of the embedding bag in front of the tree; not used for dense `X`.
    hierarchy : {"huffman", "two_level", "balanced"} or Hierarchy
        The tree, built from the class counts, or a tree of your own. Labels are matched with its
        names (``Hierarchy.from_table``), and ``classes_`` is all of them: classes may have no rows,
        and rows may be labeled with an inner category, which then is a class of its own below that
        category. Of a tree without names class ``i`` is ``classes_[i]``; if integer labels use only
        some of the numbers below ``hierarchy.n_classes``, ``classes_`` is all of them.
    optimizer : {"adagrad", "rowwise_adagrad", "sgd", "adam"}
        The update rule. ``"rowwise_adagrad"`` keeps one value per row as its state, where
        ``"adagrad"`` keeps one per weight: half the memory, and less of it to move in each step.
    lr : float or None
        Learning rate of a batch's summed gradient; None takes 0.3 for both Adagrads, 0.02 for adam
        and 8 / `batch_size`, at most 0.5, for sgd.
    lr_schedule : {"linear", "constant"}
        Whether `lr` falls to 0 over a fit.
    epochs : int or None
        Passes over the data; None takes 5, or as many as make 500 steps.
    batch_size : int
        Rows per step.
    weight_decay : float
        L2 penalty, applied to the rows that a step touches.
    dropout : float in [0, 1]
        Probability that a feature of a sparse row is dropped in a pass; 0 for dense `X`.
    replacement : {"drop"} or int
        Leave dropped features out, or put this column of `X` in their place.
    max_norm : float or None
        Rows of the embedding and of the tree that a step leaves longer are scaled down to it.
    random_state : int, RandomState or None
        Seeds the embedding and the order of rows.
    num_threads : int or None
        Never changes a result bit.
    verbose : int
        0 is silent, 1 shows a progress bar on stderr.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        The labels, sorted.
    hierarchy_ : Hierarchy
        The tree.
    model_ : BagModel
        The weights.
    history_ : list of Progress
        The training curve.
    n_features_in_ : int
        Columns of `X`.

    Notes
    -----
    float64 `X` gives a float64 model and float32 a float32 model; a sparse `X` of integers gives
    float32, a dense one float64. The same `random_state` gives the same bytes whatever
    `num_threads`. Interrupting `fit` (Ctrl-C) leaves a usable model of the steps done so far, and
    what was there before if no step was; so does a refused `fit`.

    References
    ----------
    Morin and Bengio, "Hierarchical probabilistic neural network language model", 2005;
    Joulin et al., "Bag of tricks for efficient text classification", 2017.

    Examples
    --------
    >>> from cython_sparseops.sklearn import HSoftmaxClassifier
    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> bag = CountVectorizer()
    >>> X = bag.fit_transform(["a cat purrs", "the dog barks", "a cat sleeps", "my dog runs"])
    >>> y = ["cat", "dog", "cat", "dog"]
    >>> classifier = HSoftmaxClassifier(hidden_dim=8, random_state=0).fit(X, y)
    >>> classifier.predict(bag.transform(["the cat", "a dog"])).tolist()
    ['cat', 'dog']
    """

    def __init__(
        self,
        hidden_dim: int = 100,
        *,
        hierarchy: str | Hierarchy = "huffman",
        optimizer: str = "adagrad",
        lr: float | None = None,
        lr_schedule: str = "linear",
        epochs: int | None = None,
        batch_size: int = 256,
        weight_decay: float = 0.0,
        dropout: float = 0.0,
        replacement: int | str = "drop",
        max_norm: float | None = None,
        random_state: int | np.random.RandomState | None = None,
        num_threads: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.hidden_dim = hidden_dim
        self.hierarchy = hierarchy
        self.optimizer = optimizer
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.replacement = replacement
        self.max_norm = max_norm
        self.random_state = random_state
        self.num_threads = num_threads
        self.verbose = verbose

    def fit(
        self,
        X: Rows,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
        *,
        classes: npt.ArrayLike | None = None,
    ) -> Self:
        """Train from nothing.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, F)
            Training rows.
        y : array_like of shape (N,)
            Labels: numbers or strings.
        sample_weight : array_like of shape (N,), optional
            A row of weight 2 counts as two rows, one of weight 0 as none.
        classes : (C,) array-like, optional
            All labels, where `y` may lack some, such as in a fold. By default those in `y`.

        Returns
        -------
        HSoftmaxClassifier
            Itself.

        Raises
        ------
        ValueError
            For a parameter or an array that breaks its rule.

        Examples
        --------
        >>> from cython_sparseops.sklearn import HSoftmaxClassifier
        >>> HSoftmaxClassifier().fit([[0.0], [1.0]], [0, 1]).predict([[2.0]]).tolist()
        [1]
        """
        with self._unchanged_unless_trained():
            self._check_parameters()
            rows, given, weight = _kept(*self._check_training(X, y, sample_weight, reset=True))
            self.classes_ = class_list(self.hierarchy, given, classes)
            labels = self._class_numbers(given)
            self._start(rows, labels, weight)
            steps = math.ceil(len(labels) / index(self.batch_size))
            least = max(_LEAST_EPOCHS, math.ceil(_LEAST_STEPS / steps))
            epochs = least if self.epochs is None else index(self.epochs)
            self._train(rows, labels, weight, epochs=epochs, lr_schedule=self.lr_schedule)
        return self

    def partial_fit(
        self,
        X: Rows,
        y: npt.ArrayLike,
        classes: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Self:
        """Train one more pass over the rows given, at a constant learning rate.

        The optimizer keeps its state from call to call, and from `fit`. A model that was loaded
        from a file, copied or pickled starts with a new state.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, F)
            Training rows.
        y : array_like of shape (N,)
            Labels.
        classes : array_like of shape (C,), optional
            All labels that will ever come; for the first call. By default the labels in its `y`.
        sample_weight : array_like of shape (N,), optional
            Weights of the rows.

        Returns
        -------
        HSoftmaxClassifier
            Itself.

        Raises
        ------
        ValueError
            If a later call brings a new class or other `classes`.

        Examples
        --------
        >>> from cython_sparseops.sklearn import HSoftmaxClassifier
        >>> classifier = HSoftmaxClassifier().partial_fit([[0.0], [1.0]], [0, 1], classes=[0, 1, 2])
        >>> classifier.partial_fit([[2.0]], [2]).classes_.tolist()
        [0, 1, 2]
        """
        with self._unchanged_unless_trained():
            self._check_parameters()
            first = not hasattr(self, "model_")
            rows, given, weight = self._check_training(X, y, sample_weight, reset=first)
            if first:
                self.classes_ = class_list(self.hierarchy, given, classes)
            elif classes is not None:
                known = unique_labels("classes", classes)
                if not np.array_equal(known, self.classes_):
                    raise ValueError(
                        f"classes must be the same in every call, got {len(known)} others "
                        f"after {len(self.classes_)}"
                    )
            rows, given, weight = _kept(rows, given, weight)
            labels = self._class_numbers(given)
            if first:
                self._start(rows, labels, weight)
            self._train(self._model_input(rows), labels, weight, epochs=1, lr_schedule="constant")
        return self

    def predict(self, X: Rows) -> Array:
        """Return the likeliest class of each row; exact, without scoring all classes.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, F)
            Rows, sparse or dense whatever the model was fitted on.

        Returns
        -------
        ndarray of shape (N,)
            Labels.

        Examples
        --------
        >>> from cython_sparseops.sklearn import HSoftmaxClassifier
        >>> HSoftmaxClassifier().fit([[0.0], [1.0]], ["no", "yes"]).predict([[-1.0]]).tolist()
        ['no']
        """
        return self.top_k(X, 1).labels[:, 0]

    def score(self, X: Rows, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> float:
        """Return the share of rows whose label is the likeliest class.

        Parameters
        ----------
        X : (N, n_features) array-like or sparse matrix
            Rows.
        y : (N,) array-like
            Labels.
        sample_weight : (N,) array-like, optional
            Weights of the rows.

        Returns
        -------
        float

        Examples
        --------
        >>> from cython_sparseops.sklearn import HSoftmaxClassifier
        >>> HSoftmaxClassifier().fit([[0.0], [1.0]], ["a", "b"]).score([[2.0]], ["b"])
        1.0
        """
        return float(super().score(X, label_array("y", y), sample_weight))

    def predict_proba(self, X: Rows) -> Array:
        """Return the probability of every class; rows sum to 1.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, F)
            Rows. The result holds N × C numbers: use `top_k` when there are many classes.

        Returns
        -------
        ndarray of shape (N, C)
            Probabilities, columns in the order of ``classes_``.

        Examples
        --------
        >>> from cython_sparseops.sklearn import HSoftmaxClassifier
        >>> HSoftmaxClassifier().fit([[0.0], [1.0]], [0, 1]).predict_proba([[0.5]]).shape
        (1, 2)
        """
        proba = self.predict_log_proba(X)
        with np.errstate(under="ignore"):  # of the caller's: 0 is what exp of -1,000 is
            return np.exp(proba, out=proba)

    def predict_log_proba(self, X: Rows) -> Array:
        """Return the log-probability of every class.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, F)
            Rows. The result holds N × C numbers.

        Returns
        -------
        ndarray of shape (N, C)
            Natural logarithms, columns in the order of ``classes_``.

        Examples
        --------
        >>> from cython_sparseops.sklearn import HSoftmaxClassifier
        >>> HSoftmaxClassifier().fit([[0.0], [1.0]], [0, 1]).predict_log_proba([[0.5]]).shape
        (1, 2)
        """
        check_is_fitted(self)
        rows, model = self._check_rows(X), self.model_
        out = np.empty((rows.shape[0], len(self.classes_)), dtype=model.W.dtype)
        for block, hidden in self._hidden_blocks(rows):
            hsoftmax_log_proba(
                hidden,
                model.W,
                model.b,
                model.hierarchy,
                out=out[block],
                num_threads=self.num_threads,
            )
        return out

    def top_k(self, X: Rows, k: int = 5) -> TopK:
        """Return the `k` likeliest classes of each row with their log-probabilities; exact.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, F)
            Rows.
        k : int
            At most the number of classes.

        Returns
        -------
        TopK
            ``labels`` (N, k) and ``log_probs`` (N, k), best first.

        Raises
        ------
        ValueError
            If `k` is not in [1, C].

        Examples
        --------
        >>> from cython_sparseops.sklearn import HSoftmaxClassifier
        >>> HSoftmaxClassifier().fit([[0.0], [1.0]], [0, 1]).top_k([[3.0]], k=2).labels.tolist()
        [[1, 0]]
        """
        check_is_fitted(self)
        most = len(self.classes_)
        k = _as_count("k", k, f"in [1, {most}], the number of classes", most)
        rows, model = self._check_rows(X), self.model_
        found = np.empty((rows.shape[0], k), dtype=np.int64)
        log_probs = np.empty((rows.shape[0], k), dtype=model.W.dtype)
        for block, hidden in self._hidden_blocks(rows):
            found[block], log_probs[block], _ = hsoftmax_search(
                hidden, model.W, model.b, model.hierarchy, k, num_threads=self.num_threads
            )
        return TopK(self.classes_[found], log_probs)

    def predict_nodes(self, X: Rows, min_prob: float = 0.5) -> TopK:
        """Return the narrowest category of each row that is as likely as asked for, by its name.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, F)
            Rows.
        min_prob : float in (0, 1]
            Least probability of the answer. The likeliest class that reaches it, or the deepest
            node above the likeliest class that does; the root always does.

        Returns
        -------
        TopK
            ``labels`` (N,), names of classes and of inner nodes, and ``log_probs`` (N,).

        Raises
        ------
        ValueError
            If the tree has no names.

        Examples
        --------
        >>> from cython_sparseops.sklearn import HSoftmaxClassifier
        >>> h = Hierarchy.from_table(["cat", "dog", "animal"], ["animal", "animal", None])
        >>> classifier = HSoftmaxClassifier(hierarchy=h).fit([[-1.0], [1.0]], ["cat", "dog"])
        >>> classifier.predict_nodes([[9.0], [0.0]], 0.9).labels.tolist()
        ['dog', 'animal']
        """
        check_is_fitted(self)
        inner = self.hierarchy_.node_names
        if inner is None:
            raise ValueError(
                "hierarchy must have names (Hierarchy.from_table, from_parents(names=)), got none"
            )
        rows, model = self._check_rows(X), self.model_
        found = np.empty(rows.shape[0], dtype=np.int64)
        log_probs = np.empty(rows.shape[0], dtype=model.W.dtype)
        for block, hidden in self._hidden_blocks(rows):
            best = hsoftmax_search(
                hidden,
                model.W,
                model.b,
                model.hierarchy,
                min_prob=min_prob,
                num_threads=self.num_threads,
            )
            found[block], log_probs[block] = best.classes[:, 0], best.log_probs[:, 0]
        names = np.array([*self.classes_.tolist(), *inner], dtype=object)
        return TopK(names[found], log_probs)

    def predictor(self, vectorizer: Any = None) -> Predictor:
        """Return a light object that answers single rows, as `top_k` does, to the last bit.

        Parameters
        ----------
        vectorizer : object, optional
            A fitted vectorizer, for rows that are text.

        Returns
        -------
        Predictor
            A copy of the weights: training this classifier further does not change it.

        Examples
        --------
        >>> from cython_sparseops.sklearn import HSoftmaxClassifier
        >>> classifier = HSoftmaxClassifier().fit([[0.0], [1.0]], ["no", "yes"])
        >>> classifier.predictor().top_k([2.0], k=1).labels
        ['yes']
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        return Predictor(self.model_, self.classes_, vectorizer=vectorizer, feature_names=names)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a checksummed file that `load` can map into memory.

        Parameters
        ----------
        path : str or path-like
            Replaced in one step, if it exists. The optimizer's state is not stored, nor are
            `num_threads` and `verbose`: the same training is the same file.

        Raises
        ------
        ValueError
            If the labels are neither numbers nor strings.

        Examples
        --------
        >>> from cython_sparseops.sklearn import HSoftmaxClassifier
        >>> HSoftmaxClassifier().fit([[0.0], [1.0]], [0, 1]).save("model.sops")
        >>> HSoftmaxClassifier.load("model.sops").predict([[3.0]]).tolist()
        [1]
        """
        check_is_fitted(self)
        save_classifier(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = True) -> Self:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : str or path-like
            The file. It may come from a stranger: it is checked, and nothing in it is executed.
        mmap : bool
            Map the weights instead of reading them: processes share them.

        Returns
        -------
        HSoftmaxClassifier
            Predicts exactly as the model that was saved.

        Raises
        ------
        ValueError
            If the file is damaged, or holds something else.

        Examples
        --------
        >>> from cython_sparseops.sklearn import HSoftmaxClassifier
        >>> HSoftmaxClassifier(lr=0.5).fit([[0.0], [1.0]], [0, 1]).save("model.sops")
        >>> HSoftmaxClassifier.load("model.sops").lr
        0.5
        """
        return cast(Self, load_classifier(cls, path, mmap=mmap).classifier)

    @classmethod
    def _of_model(cls, model: BagModel, classes: Array) -> Self:
        """A fitted classifier of weights that were trained elsewhere; classes are sorted."""
        classifier = cls(model.W.shape[1], hierarchy=model.hierarchy)
        classifier.classes_, classifier.model_ = classes, model
        classifier.hierarchy_, classifier.n_features_in_ = model.hierarchy, model.n_features
        classifier.history_, classifier._trainer, classifier._shuffle_seed = [], None, 0
        return classifier

    # ---- checks, class numbers, tree, weights, training, blocks

    def __getstate__(self) -> Any:
        """Copies and pickles leave out the trainer: it holds the weights again, and their state."""
        state = super().__getstate__()
        return {**state, "_trainer": None} if "_trainer" in state else state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _check_parameters(self) -> None:
        """Refuse what the trainer would not see; it checks the rest."""
        for name in ("hidden_dim", "batch_size"):
            _as_count(name, getattr(self, name))
        if self.epochs is not None:
            _as_count("epochs", self.epochs)
        if not is_one_of(self.optimizer, OPTIMIZERS):
            raise ValueError(
                f"optimizer must be one of {tuple(OPTIMIZERS)}, got {self.optimizer!r}"
            )
        if not isinstance(self.hierarchy, Hierarchy) and self.hierarchy not in TREES:
            raise ValueError(
                f"hierarchy must be one of {TREES} or a Hierarchy, got {self.hierarchy!r}"
            )

    @contextmanager
    def _unchanged_unless_trained(self) -> Iterator[None]:
        """A fit that is refused or interrupted before its first step leaves what was there."""
        before = self.__dict__.copy()
        history = before.get("history_", [])
        steps = len(history)
        try:
            yield
        except BaseException:
            now = getattr(self, "history_", history)
            if len(now) == (steps if now is history else 0):
                self.__dict__.clear()
                self.__dict__.update(before)
            raise

    def _check_training(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool
    ) -> tuple[Any, Array, Any]:
        _refuse_masked(X=X, sample_weight=sample_weight)
        refuse_text("X", X)
        y = label_array("y", y)
        dtype = [np.float32, np.float64] if issparse(X) else [np.float64, np.float32]
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=dtype, reset=reset)
        with warnings.catch_warnings():  # that there are many classes is no surprise here
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            check_classification_targets(y)
        if sample_weight is None:
            return X, y, None
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        return X, y, weight

    def _class_numbers(self, y: Array) -> npt.NDArray[np.int64]:
        numbers, known = find_sorted(self.classes_, y)
        unknown = np.flatnonzero(~known)
        if unknown.size:
            label = y[unknown[0]]
            label = label.item() if isinstance(label, np.generic) else label
            raise ValueError(
                "y must hold only labels of classes or of the first call (new classes cannot be "
                f"added yet), got {label!r} at index {unknown[0]}"
            )
        return numbers.astype(np.int64, copy=False)

    def _start(self, X: Any, labels: npt.NDArray[np.int64], weight: Array | None) -> None:
        """Build the tree and the weights; forget what was trained."""
        counts = np.bincount(labels, weights=weight, minlength=len(self.classes_))
        if isinstance(self.hierarchy, Hierarchy):
            self.hierarchy_ = with_classes(self.hierarchy, self.classes_, counts)
        elif self.hierarchy == "balanced":
            self.hierarchy_ = Hierarchy.balanced(len(counts))
        else:
            build = Hierarchy.huffman if self.hierarchy == "huffman" else Hierarchy.two_level
            self.hierarchy_ = build(counts)
        seeds = check_random_state(self.random_state).randint(2**31 - 1, size=2)
        self._shuffle_seed = int(seeds[1])
        self._trainer: BagTrainer | None = None
        self.history_: list[Progress] = []
        self.model_ = BagModel.create(
            self.hierarchy_,
            X.shape[1],
            hidden_dim=int(self.hidden_dim) if issparse(X) else None,
            dtype=X.dtype,
            rng=int(seeds[0]),
        )

    def _train(
        self,
        X: Any,
        labels: npt.NDArray[np.int64],
        weight: Array | None,
        *,
        epochs: int,
        lr_schedule: str,
    ) -> None:
        lr = _default_lr(self.optimizer, index(self.batch_size)) if self.lr is None else self.lr
        if self._trainer is None:
            settings = {name: getattr(self, name) for name in _TRAINER_SETTINGS}
            self._trainer = BagTrainer(
                self.model_,
                lr=lr,
                lr_schedule=lr_schedule,
                epochs=epochs,
                rng=self._shuffle_seed,
                **settings,
            )
        self._trainer.epochs, self._trainer.lr_schedule = epochs, lr_schedule
        self._trainer.history = self.history_
        before = len(self.history_)
        try:
            training = self._trainer.fit(X, labels, sample_weight=weight)
            for _ in shown(training, self.verbose, "training"):
                pass
        except ValueError as error:
            if len(self.history_) == before:
                raise
            raise ValueError(f"lr must be small enough to converge, got {lr}: {error}") from error

    def _check_rows(self, X: Any) -> Any:
        check_is_fitted(self)
        _refuse_masked(X=X)
        refuse_text("X", X)
        return validate_data(self, X, accept_sparse="csr", dtype=self.model_.W.dtype, reset=False)

    def _model_input(self, X: Any) -> Any:
        """Return the model the kind of rows that it was made for."""
        dtype = self.model_.W.dtype
        if self.model_.E is not None:
            return X if issparse(X) and X.dtype == dtype else csr_array(X, dtype=dtype)
        return convert(X.toarray() if issparse(X) else X, dtype)

    def _hidden_blocks(self, X: Any) -> Iterator[tuple[slice, Array]]:
        for start in range(0, X.shape[0], BLOCK):
            rows = slice(start, min(start + BLOCK, X.shape[0]))
            yield rows, self.model_.hidden(self._model_input(X[rows]), num_threads=self.num_threads)


def _as_count(
    name: str, value: Any, rule: str = "a positive integer", most: int = 2**63 - 1
) -> int:
    """A Python int, so that no width of NumPy's spreads into what is computed with it."""
    try:
        number = index(None if isinstance(value, bool) else value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if not 1 <= number <= most:
        raise ValueError(f"{name} must be {rule}, got {value!r}")
    return number


def _kept(X: Any, y: Array, weight: Array | None) -> tuple[Any, Array, Any]:
    """Leave out the rows of weight 0, exactly as if they were not there."""
    if weight is None or (weight > 0).all():
        return X, y, weight
    kept = weight > 0
    if not kept.any():
        raise ValueError("sample_weight must hold a positive weight, got all zeros")
    return X[kept], y[kept], weight[kept]


def _refuse_masked(**arrays: Any) -> None:
    """scikit-learn drops masks without a word."""
    for name, array in arrays.items():
        if isinstance(array, np.ndarray):
            as_plain(name, array)


def _default_lr(optimizer: str, batch_size: int) -> float:
    """Measured on WordNet. A step sums its rows' gradients; plain SGD does not rescale them."""
    if optimizer == "sgd":
        return min(0.5, 8 / batch_size)
    return 0.02 if optimizer == "adam" else 0.3
