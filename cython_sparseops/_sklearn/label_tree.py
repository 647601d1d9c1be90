"""A scikit-learn classifier of sparse linear models over label trees."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from cython_sparseops._arrays import Array, as_float, as_integer, describe, find_sorted, is_one_of
from cython_sparseops._hierarchy import Hierarchy
from cython_sparseops._models.file import Arrays
from cython_sparseops._models.labels import (
    class_list,
    label_array,
    refuse_text,
    unique_labels,
    with_classes,
)
from cython_sparseops._models.linear import (
    LOSSES,
    TREES,
    LinearFile,
    LinearModel,
    TreeShape,
    TreeTask,
    as_shapes,
    continue_tree,
    knows_rows,
    load_linear,
    pack_linear,
    train_trees,
    tree_of,
)
from cython_sparseops._models.pilot import NOISY, USUAL, chosen_loss
from cython_sparseops._models.predictor import Predictor
from cython_sparseops._models.topk import TopK
from cython_sparseops._sklearn.callbacks import (
    CallbackSupportMixin,
    each_as_task,
    has_callbacks,
    with_callbacks,
)
from cython_sparseops._sparse import SparseMatrix
from cython_sparseops._storage import save_arrays

Rows = npt.ArrayLike | SparseMatrix
AUTO = "auto"
FIRST_LABELS = 8  # per row that `predict` looks at, doubled while all are likelier than not


class LabelTreeClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Sparse linear classifiers at the nodes of a label tree, for very many classes.

    Classes that resemble each other share a path of a 16-ary tree, and every child of a node is a
    linear classifier over the features that occur there. Training costs about the logarithm of the
    classes; probabilities are exact, and so are the best k. It suits sparse text (TF-IDF), where
    it is more accurate than an embedding. Scale rows to unit norm: the defaults are made for that.

    Parameters
    ----------
    n_trees : int, default 1
        Trees of different seeds whose probabilities are averaged: three gained one to two points of
        accuracy on real tasks, for three times the cost of training. Only clustered trees differ.
    hierarchy : str, Hierarchy, or list of them
        The tree: "cluster", balanced k-means over the centroids of the classes; one of the shapes
        "huffman", "balanced", "two_level" and "adaptive"; or a tree of your own, whose class ``i``
        is ``classes_[i]`` and which was not made of X. All trees of a list are averaged, `n_trees`
        of each. There "guided" is k-means over the centroids and the paths of the list's first
        tree of your own together: ``[taxonomy, "guided", "cluster"]``.
    loss : {"auto", "squared_hinge", "softmax", "logistic"}
        Squared hinge suits most tasks; logistic is better where labels are noisy or features
        dense. "auto" decides between these two, with one label per row and without `C`; otherwise
        it is squared hinge.
    C : float, optional
        Cost of errors. By default, with one label per row and squared hinge: 0.3, 1 or 3, decided
        together with the loss by the negative log-probability of held-out rows of a few branches of
        the tree, in a fifth to a third of the time of one tree. Without branches of 2,000 rows, and
        with several labels per row, it is 1; of softmax and logistic loss 10.
    threshold : float, default 0.1
        Weights of at most this size are dropped. On WordNet 0.2 makes the model a quarter smaller
        and costs 0.3 points of accuracy.
    class_weight : dict, "balanced" or None
        Multiplies C for the rows of a class. With several labels per row: a dict of column numbers.
    random_state : int, RandomState or None
        Seeds trees, order of rows and held-out rows.
    n_jobs : int or None
        Workers of joblib that train trees, or shares of a tree, at the same time. The same bytes
        for any number, and for any backend.
    num_threads : int or None
        Threads of each. Never changes a result bit.
    verbose : int, default 0
        1 shows progress on stderr. With scikit-learn 1.9 or newer ``set_callbacks`` takes its
        callbacks as well; each tree is a task named ``"tree"``, and they train one after another.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        The labels, sorted; with several labels per row the column numbers.
    model_ : LinearModel
        The trees and their weights.
    loss_, C_ : str, float
        What was trained with.
    multilabel_ : bool
        Whether y was an indicator matrix.
    n_features_in_ : int
        Columns of X.

    Notes
    -----
    One label per row: probabilities of the classes sum to 1; a temperature per depth, fitted on
    1 in 20 training rows that are kept aside, makes them honest. Several labels: each has a
    probability of its own (a probabilistic label tree), and they do not sum to 1. Averages of
    several trees are exact for any class, and so is their top k.

    References
    ----------
    Prabhu et al., "Parabel: partitioned label trees for extreme classification", 2018; Jasinska et
    al., "Extreme F-measure maximization using sparse probability estimates", 2016; Yu et al.,
    "PECOS: prediction for enormous and correlated output spaces", 2022.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from cython_sparseops.sklearn import LabelTreeClassifier
    >>> words = TfidfVectorizer()
    >>> X = words.fit_transform(["a cat purrs", "the dog barks", "a cat sleeps", "my dog runs"])
    >>> model = LabelTreeClassifier(random_state=0).fit(X, ["cat", "dog", "cat", "dog"])
    >>> model.predict(words.transform(["the cat", "a dog barks"])).tolist()
    ['cat', 'dog']
    """

    def __init__(
        self,
        *,
        n_trees: int = 1,
        hierarchy: TreeShape | Sequence[TreeShape] = "cluster",
        loss: str = AUTO,
        C: float | None = None,
        threshold: float = 0.1,
        class_weight: dict[Any, float] | str | None = None,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        num_threads: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_trees = n_trees
        self.hierarchy = hierarchy
        self.loss = loss
        self.C = C
        self.threshold = threshold
        self.class_weight = class_weight
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.num_threads = num_threads
        self.verbose = verbose

    def fit(self, X: Rows, y: Rows, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Train from nothing.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, n_features)
            Training rows; taken as float32.
        y : array_like of shape (N,), or indicator matrix of shape (N, C)
            One label per row, numbers or strings; or several, as a sparse or dense matrix of 0 and
            1.
        sample_weight : array_like of shape (N,), optional
            Multiplies C; a row of weight 0 is as if it were not there.

        Returns
        -------
        LabelTreeClassifier
            Itself.

        Raises
        ------
        ValueError
            For a parameter or an array that breaks its rule; then a model fitted before stays.

        Examples
        --------
        >>> from cython_sparseops.sklearn import LabelTreeClassifier
        >>> model = LabelTreeClassifier(random_state=0).fit(np.eye(3), [2, 0, 1])
        >>> model.predict(np.eye(3)).tolist()
        [2, 0, 1]
        """
        with self._unchanged_unless_trained():
            return self._fit(X, y, sample_weight)

    def partial_fit(
        self,
        X: Rows,
        y: Rows,
        classes: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Self:
        """Train on with rows that the model has not seen; the first call is a `fit`.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, n_features)
            New rows.
        y : array_like of shape (N,), or indicator matrix of shape (N, C)
            Their labels, of the kind that the first call had.
        classes : array_like of shape (C,), optional
            All labels that will ever come; for the first call. By default the labels in its `y`.
            Of an indicator matrix the numbers of its columns.
        sample_weight : array_like of shape (N,), optional
            As in `fit`.

        Returns
        -------
        LabelTreeClassifier
            Itself.

        Raises
        ------
        ValueError
            If a later call brings a new class or other `classes`, or as `fit`; then the model
            stays as it was.

        Notes
        -----
        The first call builds the trees and fits the temperatures; later ones keep both. They train
        the nodes that the new rows pass, each to stay near the weights that it has while it fits
        the new rows at cost C; other nodes keep their bytes. Earlier rows are not looked at, and
        rows given twice count twice. So a `fit` on all rows is better: on WordNet, halves of the
        rows in two calls reached P@1 .417, where the first half alone gave .376 and a
        `fit` on all rows .437. Each call copies the weights once: give batches of thousands
        of rows, and draw those of the first call from all classes, for they make the trees.

        References
        ----------
        Crammer et al., "Online passive-aggressive algorithms", 2006.

        Examples
        --------
        >>> from cython_sparseops.sklearn import LabelTreeClassifier
        >>> model = LabelTreeClassifier(random_state=0)
        >>> model = model.partial_fit([[0.0, 1.0], [1.0, 0.0]], ["a", "b"], classes=["a", "b", "c"])
        >>> model.partial_fit([[1.0, 1.0]], ["c"]).predict([[1.0, 1.0]]).tolist()
        ['c']
        """
        with self._unchanged_unless_trained():
            if not self.__sklearn_is_fitted__():
                return self._fit(X, y, sample_weight, classes)
            return self._train_on(X, y, classes, sample_weight)

    @contextmanager
    def _unchanged_unless_trained(self) -> Iterator[None]:
        """Whatever is raised, the model stays as it was."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _fit(self, X: Any, y: Any, sample_weight: Any, given: Any = None) -> Self:
        self._check_parameters()
        X, y = self._check_training(X, y)
        shapes = as_shapes(self.hierarchy)
        if self.multilabel_:
            classes = np.arange(y.shape[1])
            _require_same_classes(given, classes)
        else:
            own = [shape for shape in shapes if isinstance(shape, Hierarchy)]
            classes = class_list((own or shapes)[0], y, given)
        labels = y if self.multilabel_ else _class_numbers(classes, y)
        X, labels, sample_weight = self._weighted(X, labels, sample_weight)
        seen = labels.indices if self.multilabel_ else labels
        counts = np.bincount(seen, minlength=len(classes)).astype(float)
        if not self.multilabel_:
            shapes = [
                with_classes(shape, classes, counts) if isinstance(shape, Hierarchy) else shape
                for shape in shapes
            ]
        for shape in shapes:
            if isinstance(shape, Hierarchy) and shape.n_classes != len(classes):
                raise ValueError(
                    f"hierarchy must have the {len(classes)} classes of y, got {shape.n_classes}"
                )
        self.classes_ = classes
        settings = self._settings(labels, sample_weight)
        shapes = [shape for shape in shapes for _ in range(int(self.n_trees))]
        seeds = self._seeds(len(shapes)).tolist()
        guide = next((shape for shape in shapes if isinstance(shape, Hierarchy)), None)
        task = TreeTask(X, labels, counts, self.multilabel_, self.num_threads, settings, guide)
        first, self.loss_, self.C_ = self._decided(task, shapes[0], seeds[0])
        task = task._replace(settings={**settings, "loss": self.loss_, "C": self.C_})
        made = [first] + [None] * (len(shapes) - 1)
        self._train(task, list(zip(shapes, seeds, made, strict=True)), sample_weight)
        return self

    @with_callbacks  # type: ignore[untyped-decorator]
    def _train(
        self, task: TreeTask, shapes: list[tuple[TreeShape, int, Hierarchy | None]], weight: Any
    ) -> None:
        if not has_callbacks(self):
            self.model_ = LinearModel(train_trees(task, shapes, self.n_jobs))
            return
        y, trees = task.labels if self.multilabel_ else self.classes_[task.labels], []
        for shape in each_as_task(self, "tree", shapes, task.X, y, weight):
            trees += train_trees(task, [shape], self.n_jobs)
            self.model_ = LinearModel(trees.copy())

    def _decided(
        self, task: TreeTask, shape: TreeShape, seed: int
    ) -> tuple[Hierarchy | None, str, float]:
        """The first tree, if it was needed for that, the loss and C."""
        loss = USUAL[0] if self.loss == AUTO else self.loss
        if self.C is not None:
            return None, loss, float(self.C)
        if self.multilabel_ or loss != USUAL[0]:
            return None, loss, USUAL[1] if loss == USUAL[0] else NOISY[1]
        tree = tree_of(task, shape, seed)
        found = chosen_loss(
            task.X,
            task.labels,
            tree,
            task.settings,
            losses=LOSSES if self.loss == AUTO else (loss,),
            clustered=knows_rows(shape),
            seed=seed,
            num_threads=self.num_threads,
        )
        return tree, *found

    def _train_on(self, X: Any, y: Any, given: Any, sample_weight: Any) -> Self:
        self._check_parameters()
        several = self.multilabel_
        X, y = self._check_training(X, y, reset=False)
        if self.multilabel_ != several or (several and y.shape[1] != len(self.classes_)):
            wanted = f"an indicator matrix of {len(self.classes_)} columns" if several else "labels"
            raise ValueError(
                f"y must be {wanted}, as in the first call, got "
                + (f"an indicator matrix of {y.shape[1]} columns" if self.multilabel_ else "labels")
            )
        _require_same_classes(given, self.classes_)
        labels = y if several else _class_numbers(self.classes_, y)
        X, labels, sample_weight = self._weighted(X, labels, sample_weight)
        settings = self._settings(labels, sample_weight) | {"loss": self.loss_, "C": self.C_}
        trees = self.model_.trees
        self.model_ = LinearModel(
            [
                continue_tree(tree, X, labels, int(seed), self.num_threads, settings)
                for tree, seed in zip(trees, self._seeds(len(trees)), strict=True)
            ]
        )
        return self

    def _settings(self, labels: Any, sample_weight: Any) -> dict[str, Any]:
        """What `linear_train` is told beside the loss and C."""
        return {
            "threshold": float(self.threshold),
            "sample_weight": sample_weight,
            "class_weight": self._class_weights(labels),
            "verbose": int(self.verbose),
        }

    def _seeds(self, n: int) -> Array:
        seeds: Array = check_random_state(self.random_state).randint(2**31 - 1, size=n)
        return seeds

    def _weighted(self, X: Any, labels: Any, sample_weight: Any) -> tuple[Any, Any, Any]:
        """Rows, labels and weights, exactly as if the rows of weight 0 were not there."""
        if sample_weight is None:
            return X, labels, None
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        kept = weight > 0
        if not kept.any():
            raise ValueError("sample_weight must hold a positive weight, got all zeros")
        return (X, labels, weight) if kept.all() else (X[kept], labels[kept], weight[kept])

    def predict(self, X: Rows) -> Array | csr_array:
        """Return the likeliest class of each row; or all labels that are likelier than not.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, n_features)

        Returns
        -------
        ndarray of shape (N,), or indicator matrix of shape (N, C)
            Labels; if y was an indicator matrix, one of int64 with a 1 where the probability is
            0.5 or more, a csr_array if y was sparse.

        Examples
        --------
        >>> from cython_sparseops.sklearn import LabelTreeClassifier
        >>> model = LabelTreeClassifier(random_state=0).fit([[0.0], [1.0]], ["no", "yes"])
        >>> model.predict([[-1.0]]).tolist()
        ['no']
        """
        checked = self._check_rows(X)
        if not self.multilabel_:
            return self.classes_[
                self.model_.top_k(checked, 1, num_threads=self.num_threads)[0][:, 0]
            ]
        n, total = checked.shape[0], len(self.classes_)
        likely: list[Array] = [np.empty(0, np.int64)] * n
        rows, k = np.arange(n), min(total, FIRST_LABELS)
        while rows.size:
            found, log_probs = self.model_.top_k(checked[rows], k, num_threads=self.num_threads)
            kept = (log_probs >= np.log(np.float32(0.5))) & (found >= 0)
            for i, row in enumerate(rows.tolist()):
                likely[row] = np.sort(found[i, kept[i]])
            rows, k = rows[kept.all(axis=1)] if k < total else rows[:0], min(total, 2 * k)
        indptr = np.concatenate([[0], np.cumsum([len(labels) for labels in likely])])
        indices = np.concatenate([*likely, np.empty(0, np.int64)])
        found = csr_array((np.ones(len(indices), np.int64), indices, indptr), shape=(n, total))
        return found if self._sparse_labels else found.toarray()

    def predict_proba(self, X: Rows, classes: npt.ArrayLike | None = None) -> Array:
        """Return probabilities of all classes, or of given ones.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, n_features)
        classes : array_like of shape (m,), optional
            Labels. Without them the result holds N × C numbers: use `top_k` when there are many.

        Returns
        -------
        ndarray of float64, shape (N, C) or (N, m)
            Columns in the order of ``classes_``, or of classes.

        Raises
        ------
        ValueError
            If a class is unknown.

        Examples
        --------
        >>> from cython_sparseops.sklearn import LabelTreeClassifier
        >>> model = LabelTreeClassifier(random_state=0).fit([[0.0], [1.0]], ["no", "yes"])
        >>> model.predict_proba([[0.5], [1.0]], classes=["yes"]).shape
        (2, 1)
        """
        with np.errstate(under="ignore"):  # of the caller's: 0 is what exp of -1,000 is
            return np.exp(self.predict_log_proba(X, classes), dtype=np.float64)

    def predict_log_proba(self, X: Rows, classes: npt.ArrayLike | None = None) -> Array:
        """Return log-probabilities of all classes, or of given ones.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, n_features)
        classes : array_like of shape (m,), optional
            As in `predict_proba`.

        Returns
        -------
        ndarray of float32, shape (N, C) or (N, m)
            In nats.

        Examples
        --------
        >>> from cython_sparseops.sklearn import LabelTreeClassifier
        >>> model = LabelTreeClassifier(random_state=0).fit([[0.0], [1.0]], ["no", "yes"])
        >>> model.predict_log_proba([[0.5]]).shape
        (1, 2)
        """
        checked = self._check_rows(X)
        if classes is None:
            return self.model_.log_proba(checked, num_threads=self.num_threads)
        numbers = self._numbers_of("classes", classes)
        wanted = np.ascontiguousarray(np.broadcast_to(numbers, (checked.shape[0], len(numbers))))
        return self.model_.log_proba(checked, wanted, num_threads=self.num_threads)

    def top_k(self, X: Rows, k: int = 5, *, beam: int | None = None) -> TopK:
        """Return the `k` likeliest classes of each row with their log-probabilities.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, n_features)
        k : int, default 5
            At most the number of classes.
        beam : int, optional
            At most so many nodes are opened on each level: faster for many rows, and rarely
            another answer from 10 on. Default: exact, of several trees too.

        Returns
        -------
        TopK
            ``labels`` (N, k) and ``log_probs`` (N, k), best first. If y was an indicator matrix,
            labels are its column numbers. A beam that finds fewer than k classes raises.

        Raises
        ------
        ValueError
            If `k` is not in [1, C], or a beam of this width finds fewer than k classes.

        Examples
        --------
        >>> from cython_sparseops.sklearn import LabelTreeClassifier
        >>> model = LabelTreeClassifier(random_state=0).fit([[0.0], [1.0]], ["no", "yes"])
        >>> model.top_k([[2.0]], k=2).labels.tolist()
        [['yes', 'no']]
        """
        checked = self._check_rows(X)
        wanted = as_integer("k", k)
        if not 1 <= wanted <= len(self.classes_):
            raise ValueError(
                f"k must be in [1, {len(self.classes_)}], the number of classes, got {wanted}"
            )
        found, log_probs = self.model_.top_k(
            checked, wanted, beam=beam, num_threads=self.num_threads
        )
        if beam is not None and (found < 0).any():
            raise ValueError(f"beam must be wide enough to find {wanted} classes, got {beam}")
        return TopK(self.classes_[found], log_probs)

    def explain(self, X: Rows, classes: npt.ArrayLike) -> csr_array:
        """Return what each feature of each row adds to the score of one class: why this class.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, n_features)
        classes : array_like of shape (N,)
            A label per row, such as the predicted one.

        Returns
        -------
        csr_array of float32, shape (N, n_features)
            Value times weight, times the temperature of the node, summed over the path to the
            class and averaged over trees. Biases, and what siblings score, are not in it.

        Raises
        ------
        ValueError
            If a class is unknown, or their number is not N.

        Examples
        --------
        >>> from cython_sparseops.sklearn import LabelTreeClassifier
        >>> model = LabelTreeClassifier(random_state=0).fit(np.eye(3), ["a", "b", "c"])
        >>> model.explain(np.eye(3), ["a", "b", "c"]).toarray().argmax(axis=1).tolist()
        [0, 1, 2]
        """
        checked = self._check_rows(X)
        numbers = self._numbers_of("classes", classes)
        if len(numbers) != checked.shape[0]:
            raise ValueError(
                f"classes must number the rows of X, {checked.shape[0]}, got {len(numbers)}"
            )
        return self.model_.explain(checked, numbers)

    def predictor(self, vectorizer: object = None) -> Predictor:
        """Return a light object that answers single rows, as `top_k` does, to the last bit.

        Parameters
        ----------
        vectorizer : object, optional
            A fitted vectorizer, for rows that are text.

        Returns
        -------
        Predictor

        Examples
        --------
        >>> from cython_sparseops.sklearn import LabelTreeClassifier
        >>> model = LabelTreeClassifier(random_state=0).fit([[0.0], [1.0]], ["no", "yes"])
        >>> model.predictor().top_k([2.0], k=1).labels
        ['yes']
        """
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        return Predictor(self.model_, self.classes_, vectorizer=vectorizer, feature_names=names)

    def save(self, path: str | os.PathLike[str], *, compact: bool = False) -> None:
        """Write the model to a checksummed file that `load` can map into memory.

        Parameters
        ----------
        path : str or path-like
            Replaced in one step, if it exists.
        compact : bool, default False
            A smaller file of the same model, about half as large. Its weights are unpacked when it
            is loaded, so that processes do not share them.

        Raises
        ------
        ValueError
            If the labels are neither numbers nor strings.

        Examples
        --------
        >>> from cython_sparseops.sklearn import LabelTreeClassifier
        >>> LabelTreeClassifier(random_state=0).fit([[0.0], [1.0]], [0, 1]).save("model.sops")
        >>> LabelTreeClassifier.load("model.sops").predict([[3.0]]).tolist()
        [1]
        """
        self._save(path, compact=compact)

    def _save(
        self,
        path: str | os.PathLike[str],
        extra_arrays: Mapping[str, Array] | None = None,
        extra_metadata: Mapping[str, Any] | None = None,
        *,
        compact: bool = False,
    ) -> None:
        """Write the model, and anything else by names of its own."""
        arrays, metadata = self._packed(compact=compact)
        save_arrays(
            path, {**(extra_arrays or {}), **arrays}, {**(extra_metadata or {}), **metadata}
        )

    def _packed(self, *, compact: bool = False) -> tuple[Arrays, dict[str, Any]]:
        """What a file holds of the model; `_of_file` reads it."""
        check_is_fitted(self)
        params = self.get_params(deep=False)
        shapes = [s if isinstance(s, str) else None for s in as_shapes(self.hierarchy)]
        for name in ("class_weight", "random_state", "hierarchy", "n_jobs", "num_threads"):
            if not isinstance(params[name], str | int) or isinstance(params[name], bool):
                params[name] = None  # another type than JSON's: the file holds the trees themselves
        if isinstance(self.hierarchy, list | tuple):
            params["hierarchy"] = shapes
        elif params["hierarchy"] is None:
            del params["hierarchy"]
        plain = {n: v.item() if isinstance(v, np.generic) else v for n, v in params.items()}
        names = getattr(self, "feature_names_in_", None)
        arrays, metadata = pack_linear(self.model_, self.classes_, plain, names, compact=compact)
        several = {"multilabel": bool(self.multilabel_), "sparse": bool(self._sparse_labels)}
        return arrays, {**metadata, **several, "loss": self.loss_, "C": self.C_}

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = True) -> Self:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : str or path-like
            It may come from a stranger: it is checked, and nothing in it is executed.
        mmap : bool, default True
            Map the weights instead of reading them: processes share them.

        Returns
        -------
        LabelTreeClassifier
            Predicts exactly as the model that was saved.

        Raises
        ------
        ValueError
            If the file is damaged, or holds something else.

        Examples
        --------
        >>> from cython_sparseops.sklearn import LabelTreeClassifier
        >>> LabelTreeClassifier(C=2.0).fit([[0.0], [1.0]], [0, 1]).save("model.sops")
        >>> LabelTreeClassifier.load("model.sops").C
        2.0
        """
        return cls._of_file(path, load_linear(path, mmap=mmap))

    @classmethod
    def _of_file(cls, path: str | os.PathLike[str], found: LinearFile) -> Self:
        """The classifier that a file describes."""
        own = cls()
        known = set(own.get_params(deep=False))
        given = {name: value for name, value in found.params.items() if name in known}
        given["num_threads"] = given["n_jobs"] = None  # of the machine that saved it
        try:
            given["hierarchy"] = found.model.named_shapes(given.get("hierarchy"))
            own.set_params(**given)
            own._check_parameters()
            own.loss_, own.C_ = _trained_with(found.metadata, own)
        except (TypeError, ValueError) as error:
            raise ValueError(f"path must hold valid settings, got {path}: {error}") from None
        own.classes_, own.model_ = found.classes, found.model
        own.multilabel_ = found.metadata.get("multilabel") is True
        own._sparse_labels = found.metadata.get("sparse") is True
        own.n_features_in_ = found.model.n_features
        if found.feature_names is not None:
            own.feature_names_in_ = found.feature_names
        return own

    # ---- checks

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_label = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _check_parameters(self) -> None:
        as_integer("n_trees", self.n_trees, 1)
        as_integer("verbose", self.verbose, 0)
        if not is_one_of(self.loss, (AUTO, *LOSSES)):
            raise ValueError(f"loss must be one of {(AUTO, *LOSSES)}, got {describe(self.loss)}")
        for shape in as_shapes(self.hierarchy):
            if not isinstance(shape, Hierarchy) and not is_one_of(shape, TREES):
                raise ValueError(
                    f"hierarchy must be one of {TREES}, a Hierarchy or a list of them, "
                    f"got {describe(shape)}"
                )
        for name in ("C", "threshold"):
            value = getattr(self, name)
            if name == "C" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
                raise TypeError(f"{name} must be a real number, got {describe(value)}")

    def _check_training(self, X: Any, y: Any, *, reset: bool = True) -> tuple[Any, Any]:
        refuse_text("X", X)
        several = issparse(y) or _dimensions(y) == 2
        if not several:
            y = label_array("y", y)
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=np.float32,
            multi_output=several,
            reset=reset,
        )
        if not issparse(X):
            X = csr_array(X)
        with warnings.catch_warnings():  # that there are many classes is no surprise here
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            check_classification_targets(y)
            self.multilabel_ = type_of_target(y) == "multilabel-indicator"
            self._sparse_labels = issparse(y)
        if self.multilabel_:
            y = csr_array(check_array(y, accept_sparse="csr", dtype=np.int8))
            y.sum_duplicates()
            y.eliminate_zeros()
        elif several and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        elif several:
            raise ValueError(
                "y must hold one label per row, or be an indicator matrix of 0 and 1, "
                f"got shape {y.shape}"
            )
        return X, y

    def _class_weights(self, labels: Any) -> Array | None:
        if self.class_weight is None:
            return None
        if self.multilabel_ and not isinstance(self.class_weight, dict):
            raise ValueError("class_weight must be a dict of columns with several labels per row")
        if isinstance(self.class_weight, dict):
            weight = np.ones(len(self.classes_))
            keys = np.array(list(self.class_weight))
            numbers, known = find_sorted(self.classes_, keys)
            weight[numbers[known]] = np.array(list(self.class_weight.values()), float)[known]
            return weight
        seen = np.unique(labels)
        weight = np.ones(len(self.classes_))
        weight[seen] = compute_class_weight(self.class_weight, classes=seen, y=labels)
        return weight

    def _numbers_of(self, name: str, labels: npt.ArrayLike) -> npt.NDArray[np.int64]:
        given = check_array(labels, ensure_2d=False, dtype=None, ensure_min_samples=0)
        if given.ndim != 1:
            raise ValueError(f"{name} must have 1 dimension, got {given.ndim}")
        numbers, known = find_sorted(self.classes_, given)
        unknown = np.flatnonzero(~known)
        if unknown.size:
            raise ValueError(
                f"{name} must hold labels of fit, got {given[unknown].tolist()[0]!r} "
                f"at index {unknown[0]}"
            )
        return numbers.astype(np.int64, copy=False)

    def _check_rows(self, X: Any) -> Any:
        check_is_fitted(self)
        refuse_text("X", X)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float32, reset=False)
        return X if issparse(X) else csr_array(X)


def _trained_with(metadata: Mapping[str, Any], model: LabelTreeClassifier) -> tuple[str, float]:
    """The loss and C that a file tells."""
    loss = metadata.get("loss", USUAL[0] if model.loss == AUTO else model.loss)
    C = as_float("C", metadata.get("C", USUAL[1] if model.C is None else model.C))
    if not is_one_of(loss, LOSSES) or not 1e-6 <= C <= 1e6:
        raise ValueError(f"loss and C must be valid, got {loss!r:.60} and {C}")
    return loss, C


def _require_same_classes(given: Any, classes: Array) -> None:
    if given is None:
        return
    known = unique_labels("classes", given)
    if not np.array_equal(known, classes):
        raise ValueError(
            f"classes must be the same in every call, and the columns of an indicator matrix, "
            f"got {len(known)} others than the {len(classes)}"
        )


def _class_numbers(classes: Array, y: Array) -> npt.NDArray[np.int64]:
    numbers, known = find_sorted(classes, y)
    if not known.all():
        new = np.unique(y[~known]).tolist()
        shown = ", ".join(map(repr, new[:5])) + (", …" if len(new) > 5 else "")
        raise ValueError(
            f"y must hold classes of the first call, got {len(new)} new: {shown} "
            "(name all in classes= of the first call, or fit again on all rows)"
        )
    return numbers.astype(np.int64, copy=False)


def _dimensions(y: Any) -> int:
    """Of labels in any form that scikit-learn takes."""
    shape = getattr(y, "shape", None)
    if shape is None:
        plain = check_array(
            y, ensure_2d=False, dtype=None, ensure_all_finite=False, ensure_min_samples=0
        )
        shape = plain.shape
    return len(shape)
