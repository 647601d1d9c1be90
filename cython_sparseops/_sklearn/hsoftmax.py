"""A scikit-learn classifier of dense weights over a tree of classes, with an embedding bag."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from cython_sparseops._arrays import Array, find_sorted, is_one_of
from cython_sparseops._arrays import cast as convert
from cython_sparseops._hierarchy import Hierarchy
from cython_sparseops._hsoftmax import hsoftmax_log_proba
from cython_sparseops._models.bag import (
    BLOCK,
    BagModel,
    BagTrainer,
    Progress,
    default_lr,
)
from cython_sparseops._models.class_weight import ClassWeight, row_weights
from cython_sparseops._models.file import load_classifier, save_classifier
from cython_sparseops._models.grow import find_siblings, grow_model, grow_trainer, grow_tree
from cython_sparseops._models.held_out import (
    LEAST_ROWS,
    EarlyStopping,
    HeldOut,
    Validation,
    held_out_rows,
    hold_out,
)
from cython_sparseops._models.labels import (
    class_list,
    class_numbers,
    label_array,
    more_classes,
    refuse_text,
    with_classes,
)
from cython_sparseops._models.parts import train_parts
from cython_sparseops._models.predictor import Predictor
from cython_sparseops._models.progress import shown
from cython_sparseops._models.topk import TopK
from cython_sparseops._models.trees import tree_of
from cython_sparseops._search import hsoftmax_search, search_bags
from cython_sparseops._sklearn.callbacks import (
    CallbackSupportMixin,
    Follow,
    fit_task,
    with_callbacks,
)
from cython_sparseops._sklearn.checks import as_count, check_settings, refuse_masked, weighty
from cython_sparseops._sklearn.schedule import batch_of, passes, unchanged_unless_trained
from cython_sparseops._sparse import SparseMatrix, as_csr

_SMOOTHING = 0.1  # scaled, a lower loss than 0 on four of five tasks, by 3 to 50 %
Rows = npt.ArrayLike | SparseMatrix
# Parameters of the classifier that its trainer takes as they are.
_TRAINER_SETTINGS = (
    "optimizer",
    "weight_decay",
    "dropout",
    "replacement",
    "max_norm",
    "num_threads",
)


class HSoftmaxClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Classifier over a tree of classes: training and prediction cost about log(classes) per row.

    Sparse `X` (bags of words, hashed features) is averaged into `hidden_dim` numbers by a learned
    embedding bag, then classified by the tree. Dense `X` goes to the tree as it is: with two
    classes that is logistic regression. Dense features should be of similar size
    (``StandardScaler``).

    Parameters
    ----------
    hidden_dim : int
        Width of the embedding bag in front of the tree; not used for dense `X`.
    hierarchy : {"auto", "cluster", "huffman", "two_level", "balanced"} or Hierarchy, default "auto"
        The tree. ``"cluster"`` puts classes whose training rows have similar means below the same
        node (`Hierarchy.cluster` of `class_centroids`): 16 children a node, some 128 classes below
        a last one. The next three are built from the class counts. ``"auto"`` is clustered from
        three classes on: on test rows of each of the six tasks measured, sparse and dense, it was
        better than Huffman's tree in accuracy and loss, for one to three times the time of training
        where rows are sparse; so take ``"huffman"`` where time matters more. Or a tree of your own.
        Labels are matched with its names (``Hierarchy.from_table``), and ``classes_`` is all of
        them: classes may have no rows, and rows may be labeled with an inner category, which then
        is a class of its own below that category. Of a tree without names class ``i`` is
        ``classes_[i]``; if integer labels use only some of the numbers below
        ``hierarchy.n_classes``, ``classes_`` is all of them.
    optimizer : {"adagrad", "rowwise_adagrad", "sgd", "adam"}
        The update rule. ``"rowwise_adagrad"`` keeps one value per row as its state, where
        ``"adagrad"`` keeps one per weight: half the memory, and less of it to move in each step.
    lr : float or None
        Learning rate of a batch's summed gradient; None takes 0.3 for both Adagrads, 0.02 for adam
        and 8 / `batch_size`, at most 0.5, for sgd.
    lr_schedule : {"linear", "constant"}
        Whether `lr` falls to 0 over a fit.
    epochs : int or None
        Passes over the data, at most; None takes 5, or as many as make 500 steps (of 256 rows, if
        `batch_size` is None).
    batch_size : int or None, default None
        Rows per step. None takes 256, and more where a pass has more than 20,480 rows: as many as
        leave it 80 steps, at most 1,024. In `partial_fit` the rows of earlier calls count too.
    weight_decay : float
        L2 penalty, applied to the rows that a step touches.
    dropout : float in [0, 1]
        Probability that a feature of a sparse row is dropped in a pass; 0 for dense `X`.
    replacement : {"drop"} or int
        Leave dropped features out, or put this column of `X` in their place.
    max_norm : float or None
        Rows of the embedding and of the tree that a step leaves longer are scaled down to it.
    dtype : {"float32", "float64", "bfloat16", "float16"} or None, default None
        How the embedding and the rows of the tree are stored; None takes that of `X`. In 16 bits
        they take half the memory of float32, in training, in files and in prediction: sums and
        steps are float32, and what a step changes is rounded at random, with the right mean, so
        that small steps add up.
    class_weight : dict, "balanced" or None, default None
        Multiplies the weights of the rows of a class. A dict has weights by label, 1 for those that
        it lacks; only their ratios count. Balanced: the same for all rows of a class together, as
        ``N / (C * count)``.
    label_smoothing : float in [0, 1) or None, default None
        The target of each node on the path to a row's class is ``(1 - e) onehot + e / children``.
        None takes 0.1 where rows are held out, which then tell how sure the model may be, and 0
        elsewhere. It gained about a point of accuracy on four of six tasks and cost none.
    early_stopping : bool or "auto", default "auto"
        Hold out rows, look at their loss after every pass (or after 80 steps, if that is more),
        stop after two looks without a gain, or one that is 0.01 nats worse in the second half of
        the passes, and keep the weights of the best pass. Otherwise the loss of new rows rises
        while that of the training rows falls: on WordNet from 5.1 to 5.7 nats. Auto: with 10,000
        rows or more, where those held out are not missed.
    validation_fraction : float in (0, 1), default 0.05
        The share held out, at most 2,000 rows; never the last row of a class. They are not
        trained.
    n_parts : int or None, default None
        Cut the tree into pieces of at most one of so many shares of the work, which train apart
        (`Hierarchy.split`); no rows are held out then. Of dense `X` that changes last bits at most,
        and nothing if a node has more than eight rows. Of sparse `X` the embedding is trained in
        the first pass and kept for the others, which does change the model: a loss of some points
        of accuracy.
    n_jobs : int or None, default None
        Workers of joblib that train the pieces. Never changes a result bit. None is 1, or what
        ``joblib.parallel_config`` says.
    random_state : int, RandomState or None
        Seeds the embedding, the order of rows, the clusters and the choice of held-out rows.
    num_threads : int or None
        Never changes a result bit.
    verbose : int
        0 is silent, 1 shows a progress bar on stderr. With scikit-learn 1.9 or newer
        ``set_callbacks`` takes its callbacks as well; each pass is a task named ``"epoch"``.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
        The labels, sorted.
    hierarchy_ : Hierarchy
        The tree.
    model_ : BagModel
        The weights.
    history_ : list of Progress
        The training curve; losses are those of the smoothed targets.
    validation_score_ : list of Validation or None
        Of each look at the held-out rows ``epoch``, passes done, and ``log_likelihood``, their mean
        in nats, more is better. None without early stopping.
    best_epoch_ : int or None
        The pass whose weights were kept.
    n_features_in_ : int
        Columns of `X`.

    Notes
    -----
    Without `dtype` float64 `X` gives a float64 model and float32 a float32 model; a sparse `X` of
    integers gives float32, a dense one float64. The same `random_state` gives the same bytes
    whatever `num_threads`. Held-out rows count so that small classes have the share that they have
    in training; at the end `W` and `b` are multiplied by the number that makes the loss of these
    rows least: smoothing makes a model less sure than it may be, too many passes more.
    Interrupting `fit` (Ctrl-C) leaves a usable model of the steps done so far, and what was there
    before if no step was; so does a refused `fit`.

    References
    ----------
    Morin and Bengio, "Hierarchical probabilistic neural network language model", 2005;
    Joulin et al., "Bag of tricks for efficient text classification", 2017. Label smoothing: Szegedy
    et al., "Rethinking the inception architecture for computer vision", 2016. The scale: Guo et
    al., "On calibration of modern neural networks", 2017.

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
        hierarchy: str | Hierarchy = "auto",
        optimizer: str = "adagrad",
        lr: float | None = None,
        lr_schedule: str = "linear",
        epochs: int | None = None,
        batch_size: int | None = None,
        weight_decay: float = 0.0,
        dropout: float = 0.0,
        replacement: int | str = "drop",
        max_norm: float | None = None,
        dtype: str | None = None,
        class_weight: ClassWeight = None,
        label_smoothing: float | None = None,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.05,
        n_parts: int | None = None,
        n_jobs: int | None = None,
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
        self.dtype = dtype
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_parts = n_parts
        self.n_jobs = n_jobs
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
        with unchanged_unless_trained(self):
            check_settings(self)
            rows, given, weight = weighty(*self._check_training(X, y, sample_weight, reset=True))
            self.classes_ = class_list(self.hierarchy, given, classes)
            labels = class_numbers(self.classes_, given)
            self._fit(rows, labels, weight)
        return self

    @with_callbacks  # type: ignore[untyped-decorator]
    def _fit(self, X: Any, labels: npt.NDArray[np.int64], sample_weight: Array | None) -> None:
        weight = row_weights(self.class_weight, self.classes_, labels, sample_weight)
        seeds = check_random_state(self.random_state).randint(2**31 - 1, size=3).tolist()
        stops = self.early_stopping
        if stops == "auto":
            stops = len(labels) >= LEAST_ROWS and self.n_parts is None
        held_out = None
        if stops:
            held = held_out_rows(labels, float(self.validation_fraction), seeds[1])
            if held.any():
                held_out, kept = hold_out(X, labels, weight, held), ~held
                X, labels = X[kept], labels[kept]
                weight = None if weight is None else weight[kept]
                sample_weight = None if sample_weight is None else sample_weight[kept]
        self._start(X, self._tree(X, labels, sample_weight, seeds[2]), seeds)
        if self.n_parts is not None:
            self._train_parts(X, labels, weight, seeds[1])
            return
        epochs = passes(self.epochs, self.batch_size, len(labels))
        with fit_task(self, epochs, X, self.classes_[labels], sample_weight) as follow:
            self._train(
                X,
                labels,
                weight,
                epochs=epochs,
                lr_schedule=self.lr_schedule,
                held_out=held_out,
                follow=follow,
            )

    def partial_fit(
        self,
        X: Rows,
        y: npt.ArrayLike,
        classes: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Self:
        """Train one more pass over the rows given, at a constant learning rate.

        The optimizer keeps its state from call to call, and from `fit`. A model that was loaded
        from a file, copied or pickled starts with a new state. No rows are held out.

        Labels may be new: each gets a leaf beside the class that the model takes most of its rows
        for. No other row of `W` changes by that. Give rows of known classes with them: what is
        trained on new classes alone soon answers nothing else.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, F)
            Training rows.
        y : array_like of shape (N,)
            Labels.
        classes : array_like of shape (C,), optional
            All labels that are to be known. By default those in `y`; in a later call those known
            must be among them.
        sample_weight : array_like of shape (N,), optional
            Weights of the rows.

        Returns
        -------
        HSoftmaxClassifier
            Itself.

        Raises
        ------
        ValueError
            If a label is new to a tree with names, or of another kind than those known, `classes`
            lacks known ones, or `class_weight` is "balanced".

        Examples
        --------
        >>> from cython_sparseops.sklearn import HSoftmaxClassifier
        >>> classifier = HSoftmaxClassifier().partial_fit([[0.0], [2.0]], ["ant", "cat"])
        >>> classifier.partial_fit([[1.0]], ["bee"]).classes_.tolist()
        ['ant', 'bee', 'cat']
        """
        with unchanged_unless_trained(self):
            check_settings(self)
            first = not hasattr(self, "model_")
            if is_one_of(self.class_weight, ("balanced",)):
                raise ValueError(
                    "class_weight must be a dict or None for partial_fit, which does not see all "
                    "rows, got 'balanced'"
                )
            rows, given, weight = self._check_training(X, y, sample_weight, reset=first)
            if first:
                self.classes_ = class_list(self.hierarchy, given, classes)
            rows, given, weight = weighty(rows, given, weight)
            if not first:
                self._grow(rows, given, classes)
            labels = class_numbers(self.classes_, given)
            weights = row_weights(self.class_weight, self.classes_, labels, weight)
            if first:
                seeds = check_random_state(self.random_state).randint(2**31 - 1, size=3).tolist()
                self._start(rows, self._tree(rows, labels, weight, seeds[2]), seeds)
            self._train(self._model_input(rows), labels, weights, epochs=1, lr_schedule="constant")
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
        out = np.empty((rows.shape[0], len(self.classes_)), dtype=model.dtype)
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
        k = as_count("k", k, f"in [1, {most}], the number of classes", most)
        rows, model = self._check_rows(X), self.model_
        if isinstance(model.E, np.ndarray):
            bags = as_csr("X", self._model_input(rows), model.E.dtype)
            found, log_probs = search_bags(
                bags, model.E, model.W, model.b, model.hierarchy, k, model.mode, self.num_threads
            )
            return TopK(self.classes_[found], log_probs)
        found = np.empty((rows.shape[0], k), dtype=np.int64)
        log_probs = np.empty((rows.shape[0], k), dtype=model.dtype)
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
        log_probs = np.empty(rows.shape[0], dtype=model.dtype)
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

    def predictor(self, vectorizer: object = None) -> Predictor:
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
    def _of_model(cls, model: BagModel, classes: Array, **settings: Any) -> Self:
        """A fitted classifier of weights that were trained elsewhere; classes are sorted."""
        classifier = cls(model.W.shape[1], **({"hierarchy": model.hierarchy} | settings))
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

    def _check_training(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool
    ) -> tuple[Any, Array, Any]:
        refuse_masked(X=X, sample_weight=sample_weight)
        refuse_text("X", X)
        y = label_array("y", y)
        dtype: Any = [np.float32, np.float64] if issparse(X) else [np.float64, np.float32]
        if self.dtype is not None:
            dtype = np.float64 if self.dtype == "float64" else np.float32
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=dtype, reset=reset)
        with warnings.catch_warnings():  # that there are many classes is no surprise here
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            check_classification_targets(y)
        if sample_weight is None:
            return X, y, None
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        return X, y, weight

    def _tree(
        self,
        X: Any,
        labels: npt.NDArray[np.int64],
        sample_weight: Array | None,
        seed: int,
    ) -> Hierarchy:
        """The tree that `hierarchy` asks for, over the classes of these rows."""
        counts = np.bincount(labels, weights=sample_weight, minlength=len(self.classes_))
        if isinstance(self.hierarchy, Hierarchy):
            return with_classes(self.hierarchy, self.classes_, counts)
        return tree_of(self.hierarchy, X, labels, counts, seed, self.num_threads)

    def _start(self, X: Any, tree: Hierarchy, seeds: list[int]) -> None:
        """Make the weights; forget what was trained."""
        self.hierarchy_ = tree
        self._shuffle_seed = seeds[1]
        self._trainer: BagTrainer | None = None
        self.history_: list[Progress] = []
        self.validation_score_: list[Validation] | None = None
        self.best_epoch_: int | None = None
        self.model_ = self._new_model(X, tree, seeds)

    def _new_model(self, X: Any, tree: Hierarchy, seeds: list[int]) -> BagModel:
        width = int(self.hidden_dim) if issparse(X) else None
        dtype = self.dtype or X.dtype
        return BagModel.create(tree, X.shape[1], hidden_dim=width, dtype=dtype, rng=seeds[0])

    def _new_trainer(
        self,
        model: BagModel,
        seed: int,
        *,
        batch_size: int,
        epochs: int,
        lr_schedule: str,
        has_held_out: bool,
    ) -> BagTrainer:
        smoothing = self.label_smoothing
        if smoothing is None:
            smoothing = _SMOOTHING if has_held_out else 0.0
        return BagTrainer(
            model,
            rng=seed,
            epochs=epochs,
            lr_schedule=lr_schedule,
            label_smoothing=smoothing,
            **self._settings(batch_size),
        )

    def _settings(self, batch_size: int) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in _TRAINER_SETTINGS}
        return plain | {"batch_size": batch_size, "lr": self._lr(batch_size)}

    def _lr(self, batch_size: int) -> float:
        return default_lr(self.optimizer, batch_size) if self.lr is None else self.lr

    def _train(
        self,
        X: Any,
        labels: npt.NDArray[np.int64],
        weight: Array | None,
        *,
        epochs: int,
        lr_schedule: str,
        held_out: HeldOut | None = None,
        follow: Follow = iter,
    ) -> None:
        seen = 0 if self._trainer is None else self._trainer.rows_seen
        batch = batch_of(self.batch_size, seen + len(labels))
        if self._trainer is None:
            self._trainer = self._new_trainer(
                self.model_,
                self._shuffle_seed,
                batch_size=batch,
                epochs=epochs,
                lr_schedule=lr_schedule,
                has_held_out=held_out is not None,
            )
        self._trainer.model = self.model_
        self._trainer.epochs, self._trainer.lr_schedule = epochs, lr_schedule
        self._trainer.history = self.history_
        if self.batch_size is None and batch != self._trainer.batch_size:  # of a longer stream
            self._trainer.set_batch_size(batch, self._lr(batch))
        before = len(self.history_)
        steps = follow(self._trainer.fit(X, labels, sample_weight=weight))
        stopping = None
        if held_out is not None:
            rows = len(labels)
            stopping = EarlyStopping(
                self.model_,
                held_out,
                rows=rows,
                steps=math.ceil(rows / batch),
                num_threads=self.num_threads,
            )
            steps = stopping.follow(steps)
        try:
            for _ in shown(steps, self.verbose, "training"):
                pass
        except ValueError as error:
            if len(self.history_) == before:
                raise
            raise ValueError(
                f"lr must be small enough to converge, got {self._lr(batch)}: {error}"
            ) from error
        if stopping is not None:
            self.model_ = stopping.calibrated()
            self.validation_score_, self.best_epoch_ = stopping.scores, stopping.best_epoch

    def _train_parts(
        self, X: Any, labels: npt.NDArray[np.int64], weight: Array | None, seed: int
    ) -> None:
        """Train the tree by pieces; E of sparse rows in one pass before, over the whole tree."""
        epochs, model = passes(self.epochs, self.batch_size, len(labels)), self.model_
        if model.E is not None:
            self._train(X, labels, weight, epochs=1, lr_schedule="constant")
            X, epochs = model.hidden(X, num_threads=self.num_threads), max(1, epochs - 1)
        settings = self._settings(batch_of(self.batch_size, len(labels)))
        settings |= {
            "dropout": 0.0,
            "replacement": "drop",
            "lr_schedule": self.lr_schedule,
            "epochs": epochs,
            "rng": seed,
        }
        settings["label_smoothing"] = self.label_smoothing or 0.0
        parts = as_count("n_parts", self.n_parts)
        self.history_ += train_parts(
            model, X, labels, weight, n_parts=parts, n_jobs=self.n_jobs, settings=settings
        )
        self._trainer = None  # whose state is that of the first pass

    # ---- new classes

    def _grow(self, X: Any, y: Array, classes: npt.ArrayLike | None) -> None:
        """Add the labels of y and `classes` that are new, beside classes that they resemble."""
        every = more_classes(self.classes_, y, classes)
        if len(every) == len(self.classes_):
            return
        if self.hierarchy_.class_names is not None:
            raise ValueError(
                "y must hold names of the hierarchy, got "
                f"{np.setdiff1d(every, self.classes_).tolist()[0]!r}"
            )
        numbers = find_sorted(every, self.classes_)[0]
        new = np.setdiff1d(np.arange(len(every)), numbers)
        labels = find_sorted(every, y)[0]
        rows = np.flatnonzero(np.isin(labels, new))
        hidden = self._hidden_blocks(X[rows]) if rows.size else ()
        siblings = find_siblings(self.model_, hidden, labels[rows], new, self.num_threads)
        grown = grow_tree(self.hierarchy_, numbers, siblings)
        model = grow_model(self.model_, grown)
        if self._trainer is not None:
            self._trainer = grow_trainer(self._trainer, model, grown)
        self.classes_, self.hierarchy_, self.model_ = every, grown.hierarchy, model

    def _check_rows(self, X: Any) -> Any:
        check_is_fitted(self)
        refuse_masked(X=X)
        refuse_text("X", X)
        return validate_data(self, X, accept_sparse="csr", dtype=self.model_.dtype, reset=False)

    def _model_input(self, X: Any) -> Any:
        """Return the model the kind of rows that it was made for."""
        dtype = self.model_.dtype
        if self.model_.E is not None:
            return X if issparse(X) and X.dtype == dtype else csr_array(X, dtype=dtype)
        return convert(X.toarray() if issparse(X) else X, dtype)

    def _hidden_blocks(self, X: Any) -> Iterator[tuple[slice, Array]]:
        for start in range(0, X.shape[0], BLOCK):
            rows = slice(start, min(start + BLOCK, X.shape[0]))
            yield rows, self.model_.hidden(self._model_input(X[rows]), num_threads=self.num_threads)
