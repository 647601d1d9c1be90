"""The inner half of the classifier: checks, class numbers, tree, weights, training, blocks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, issparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from cython_sparseops import Hierarchy
from cython_sparseops._arrays import is_one_of
from cython_sparseops._models.bag import OPTIMIZERS, BagModel, BagTrainer, Progress
from cython_sparseops._models.progress import shown

BLOCK = 4096  # rows predicted at a time
TREES = ("huffman", "two_level", "balanced")
Array = npt.NDArray[Any]


class BagTreeBase(BaseEstimator):  # type: ignore[misc]
    """The inner half of `HSoftmaxClassifier`."""

    hidden_dim: int
    hierarchy: str | Hierarchy
    optimizer: str
    lr: float | None
    lr_schedule: str
    epochs: int | None
    batch_size: int
    weight_decay: float
    dropout: float
    replacement: int | str
    max_norm: float | None
    random_state: int | np.random.RandomState | None
    num_threads: int | None
    verbose: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def _check_parameters(self) -> None:
        """Refuse what the trainer would not see; it checks the rest."""
        for name in ("hidden_dim", "batch_size"):
            _require_count(name, getattr(self, name))
        if self.epochs is not None:
            _require_count("epochs", self.epochs)
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
        dtype = [np.float32, np.float64] if issparse(X) else [np.float64, np.float32]
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=dtype, reset=reset)
        with warnings.catch_warnings():  # that there are many classes is no surprise here
            warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
            check_classification_targets(y)
        if sample_weight is None:
            return X, y, None
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        kept = weight > 0
        if not kept.any():
            raise ValueError("sample_weight must hold a positive weight, got all zeros")
        if not kept.all():  # exactly as if the rows of weight 0 were not there
            X, y, weight = X[kept], y[kept], weight[kept]
        return X, y, weight

    def _class_list(self, classes: Array) -> Array:
        if not isinstance(self.hierarchy, Hierarchy) or self.hierarchy.n_classes == len(classes):
            return classes
        n_classes = self.hierarchy.n_classes
        if classes.dtype.kind in "iu" and classes[0] >= 0 and classes[-1] < n_classes:
            return np.arange(n_classes, dtype=classes.dtype)
        raise ValueError(
            f"hierarchy must have one class for each of the {len(classes)} labels, "
            f"or labels be integers in [0, {n_classes}), got {n_classes} classes"
        )

    def _class_numbers(self, y: Array) -> npt.NDArray[np.int64]:
        numbers = np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1)
        unknown = np.flatnonzero(self.classes_[numbers] != y)
        if unknown.size:
            raise ValueError(
                "y must hold only classes of the first call (new classes cannot be added yet), "
                f"got {y[unknown[0]]!r} at index {unknown[0]}"
            )
        return numbers.astype(np.int64, copy=False)

    def _start(self, X: Any, labels: npt.NDArray[np.int64], weight: Array | None) -> None:
        """Build the tree and the weights; forget what was trained."""
        counts = np.bincount(labels, weights=weight, minlength=len(self.classes_))
        if isinstance(self.hierarchy, Hierarchy):
            self.hierarchy_ = self.hierarchy
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
        lr = _default_lr(self.optimizer, self.batch_size) if self.lr is None else self.lr
        if self._trainer is None:
            if not self.model_.W.flags.writeable:  # mapped from a file
                copies = {name: np.array(array) for name, array in self.model_.arrays().items()}
                self.model_ = BagModel.from_arrays(self.hierarchy_, copies, self.model_.mode)
            self._trainer = BagTrainer(
                self.model_,
                optimizer=self.optimizer,
                lr=lr,
                lr_schedule=lr_schedule,
                epochs=epochs,
                batch_size=self.batch_size,
                weight_decay=self.weight_decay,
                rng=self._shuffle_seed,
                dropout=self.dropout,
                replacement=self.replacement,
                max_norm=self.max_norm,
                num_threads=self.num_threads,
            )
        self._trainer.epochs, self._trainer.lr_schedule = epochs, lr_schedule
        before = len(self.history_)
        try:
            for progress in shown(self._trainer.fit(X, labels, weight), self.verbose, "training"):
                self.history_.append(progress)
        except ValueError as error:
            if len(self.history_) == before:
                raise
            raise ValueError(f"lr must be small enough to converge, got {lr}: {error}") from error

    def _check_rows(self, X: Any) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, accept_sparse="csr", dtype=self.model_.W.dtype, reset=False)

    def _model_input(self, X: Any) -> Any:
        """Give the model the kind of rows that it was made for."""
        dtype = self.model_.W.dtype
        if self.model_.E is not None:
            return X if issparse(X) and X.dtype == dtype else csr_array(X, dtype=dtype)
        return (X.toarray() if issparse(X) else X).astype(dtype, copy=False)

    def _hidden_blocks(self, X: Any) -> Iterator[tuple[slice, Array]]:
        for start in range(0, X.shape[0], BLOCK):
            rows = slice(start, min(start + BLOCK, X.shape[0]))
            yield rows, self.model_.hidden(self._model_input(X[rows]), num_threads=self.num_threads)


def _require_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def _default_lr(optimizer: str, batch_size: int) -> float:
    """Measured on WordNet. A step sums its rows' gradients; plain SGD does not rescale them."""
    if optimizer == "sgd":
        return min(0.5, 8 / batch_size)
    return 0.02 if optimizer == "adam" else 0.3
