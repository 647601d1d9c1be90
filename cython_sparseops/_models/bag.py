"""A classifier of bags of features over a class tree, and its training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple
from typing import cast as cast_to

import numpy as np
import numpy.typing as npt

from cython_sparseops._arrays import (
    FLOAT32,
    HALVES,
    INDICES,
    REALS,
    Array,
    aligned_empty,
    as_flag,
    as_float,
    as_integer,
    as_labels,
    as_plain,
    as_real,
    as_real_dtype,
    as_seed,
    as_storage,
    as_weight,
    cast,
    describe,
    is_one_of,
    specialized,
)
from cython_sparseops._bag import as_mode, embedding_bag
from cython_sparseops._core import bag as core
from cython_sparseops._dropout import as_rate
from cython_sparseops._hierarchy import Hierarchy, as_tree
from cython_sparseops._hsoftmax import uniform
from cython_sparseops._quantize import QuantizedWeights, quantize
from cython_sparseops._runtime import resolve_threads
from cython_sparseops._scoring import as_half_rows
from cython_sparseops._sparse import Compressed, SparseMatrix, as_csr
from cython_sparseops._update import SGD, Adagrad, Adam

__all__ = ["BagModel", "BagTrainer", "Progress"]

_TRAIN = specialized(core.bag_train, INDICES, REALS)
_DENSE_TRAIN = specialized(core.dense_train, REALS)
Rows = Array | QuantizedWeights
BLOCK = 4096  # rows that a model reads or predicts at a time: a block fits in the caches
_PIECE = 1 << 24  # multiply-adds between two reports: some 50 ms of one core


class Progress(NamedTuple):
    """Where a run of `BagTrainer.fit` is.

    Attributes
    ----------
    epoch : int
        From 1.
    examples, total_examples : int
        Done so far, and of all epochs.
    nll : float
        Mean loss since the last one, in nats.
    lr : float
        Learning rate now.

    Examples
    --------
    >>> model = BagModel.create(Hierarchy.balanced(2), 1)
    >>> next(BagTrainer(model, epochs=1).fit([[1.0], [-1.0]], [1, 0])).examples
    2
    """

    epoch: int
    examples: int
    total_examples: int
    nll: float
    lr: float


class BagModel:
    """The arrays of a classifier: embeddings E (F, H) or None, decision rows W (R, D), biases b
    (R,), and the tree.

    Without E the dense input itself feeds the tree.

    Parameters
    ----------
    hierarchy : Hierarchy
    E : ndarray or QuantizedWeights of shape (F, H), or None
        Embeddings of features; D = H then.
    W : ndarray of shape (R, D), float32 or float64, or QuantizedWeights, bfloat16 or float16
    b : ndarray of shape (R,)
        E and b have the dtype of W; b is float32 where W has 16 bits.
    mode : {"mean", "sum"}
        As for `embedding_bag`.

    Raises
    ------
    ValueError, TypeError
        If the arrays do not fit each other or the tree.

    Examples
    --------
    >>> model = BagModel(Hierarchy.balanced(2), None, np.ones((1, 3)), np.zeros(1))
    >>> model.n_features
    3
    """

    def __init__(
        self, hierarchy: Hierarchy, E: Rows | None, W: Rows, b: Array, *, mode: str = "mean"
    ) -> None:
        as_tree(hierarchy)
        as_mode(mode)
        W, E = _as_rows("W", W), None if E is None else _as_rows("E", E)
        b = as_plain("b", b)
        if (
            W.shape[0] != hierarchy.n_rows
            or b.shape != (hierarchy.n_rows,)
            or (E is not None and E.shape[1] != W.shape[1])
        ):
            raise ValueError(
                f"W must have {hierarchy.n_rows} rows, as b entries, and the columns of E, got "
                f"{W.shape} and {b.shape}"
            )
        real = FLOAT32 if isinstance(W, QuantizedWeights) else W.dtype
        if real not in REALS or b.dtype != real or (E is not None and E.dtype != W.dtype):
            raise TypeError(f"W must be float32 or float64 and E and b alike, got {W.dtype}")
        self.hierarchy, self.E, self.W, self.b, self.mode = hierarchy, E, W, b, mode

    @property
    def dtype(self) -> np.dtype[Any]:
        """What the model computes in: float32, or float64 where W is."""
        return self.b.dtype

    @property
    def storage(self) -> str:
        """How E and W are stored: float32, float64, bfloat16 or float16."""
        return str(self.W.dtype)

    @classmethod
    def create(
        cls,
        hierarchy: Hierarchy,
        n_features: int,
        *,
        hidden_dim: int | None = None,
        mode: str = "mean",
        dtype: npt.DTypeLike = np.float32,
        rng: int | np.random.Generator | None = None,
    ) -> BagModel:
        """Build an untrained model: E uniform in ±1/H, W and b zero, so that the first step is the
        same for all classes.

        Parameters
        ----------
        hierarchy : Hierarchy
        n_features : int
            F.
        hidden_dim : int or None
            H; None: no embedding, the tree takes X itself.
        mode : {"mean", "sum"}
            As for `embedding_bag`.
        dtype : float32, float64, "bfloat16" or "float16"
            Of E and W. Of 16 bits sums and steps are float32, and the rows that a step changes are
            rounded at random, with the right mean.
        rng : None, int or numpy.random.Generator
            The seed of E.

        Returns
        -------
        BagModel

        Raises
        ------
        ValueError
            If n_features or hidden_dim < 1.

        Examples
        --------
        >>> model = BagModel.create(Hierarchy.balanced(10), 1000, hidden_dim=16, rng=0)
        >>> model.E.shape, model.W.shape
        ((1000, 16), (9, 16))
        """
        features, seed = as_integer("n_features", n_features, 1), as_seed(rng)
        width = features if hidden_dim is None else as_integer("hidden_dim", hidden_dim, 1)
        as_tree(hierarchy)
        kind = as_storage(dtype)
        real = FLOAT32 if kind in HALVES else as_real_dtype(kind)
        b = np.zeros(hierarchy.n_rows, real)
        E: Rows | None = None
        if kind in HALVES:
            if hidden_dim is not None:
                E = _uniform_halves((features, width), kind, seed, 1 / width)
            return cls(hierarchy, E, _zero_halves((hierarchy.n_rows, width), kind), b, mode=mode)
        if hidden_dim is not None:
            E = uniform((features, width), real, seed, 1 / width)
        W = aligned_empty((hierarchy.n_rows, width), real)
        W[:] = 0
        return cls(hierarchy, E, W, b, mode=mode)

    @property
    def n_features(self) -> int:
        """F, the columns of X."""
        return int((self.W.shape[1]) if self.E is None else self.E.shape[0])

    def hidden(self, X: npt.ArrayLike | SparseMatrix, *, num_threads: int | None = None) -> Array:
        """Return what the tree takes: the embedding bag of X, or X itself without E.

        Parameters
        ----------
        X : CSR matrix of shape (N, F), or array_like without E
        num_threads : int, optional

        Returns
        -------
        ndarray of shape (N, D)

        Raises
        ------
        ValueError, TypeError
            As for `embedding_bag`.

        Examples
        --------
        >>> BagModel.create(Hierarchy.balanced(2), 2).hidden([[1, 2]])
        array([[1., 2.]], dtype=float32)
        """
        if self.E is not None:
            return embedding_bag(
                cast_to(SparseMatrix, X), self.E, mode=self.mode, num_threads=num_threads
            )
        x = cast(as_real("X", X, 2), self.dtype)
        if x.shape[1] != self.W.shape[1]:
            raise ValueError(f"X must have {self.W.shape[1]} columns, got {x.shape[1]}")
        return x

    def to_arrays(self) -> dict[str, Array]:
        """Return the arrays by name, for saving.

        Returns
        -------
        dict of str to ndarray
            W, b, and E if there is one; of 16 bits ``W.data`` and ``E.data``, as of
            `QuantizedWeights`.

        Examples
        --------
        >>> list(BagModel.create(Hierarchy.balanced(2), 5, hidden_dim=3).to_arrays())
        ['E', 'W', 'b']
        """
        rows = {"W": self.W} if self.E is None else {"E": self.E, "W": self.W}
        arrays: dict[str, Array] = {}
        for name, held in rows.items():
            if isinstance(held, QuantizedWeights):
                arrays |= {f"{name}.{part}": array for part, array in held.to_arrays().items()}
            else:
                arrays[name] = held
        return {**arrays, "b": self.b}

    @classmethod
    def from_arrays(
        cls, hierarchy: Hierarchy, arrays: Mapping[str, Array], *, mode: str = "mean"
    ) -> BagModel:
        """Build a model of what `to_arrays` returned.

        Parameters
        ----------
        hierarchy : Hierarchy
        arrays : dict of str to ndarray
        mode : {"mean", "sum"}

        Returns
        -------
        BagModel

        Raises
        ------
        ValueError, TypeError
            If W or b is missing, or the arrays do not fit.

        Examples
        --------
        >>> model = BagModel.create(Hierarchy.balanced(2), 5)
        >>> BagModel.from_arrays(model.hierarchy, model.to_arrays()).n_features
        5
        """
        rows = {}
        for name in ("E", "W"):
            if f"{name}.data" in arrays:
                rows[name] = QuantizedWeights(arrays[f"{name}.data"], arrays.get(f"{name}.scale"))
        held: dict[str, Any] = {**arrays, **rows}
        for name in ("W", "b"):
            if name not in held:
                raise ValueError(
                    f"arrays must hold {name}, got {', '.join(sorted(arrays)) or 'none'}"
                )
        E, W = held.get("E"), held["W"]
        if len(W.shape) != 2 or (E is not None and len(E.shape) != 2):
            raise ValueError("W must have 2 dimensions, and E too")
        return cls(hierarchy, E, W, held["b"], mode=mode)


def plain_rows(rows: Rows) -> Array:
    """Rows as an array, those of 16 bits in float32."""
    return rows.dequantize() if isinstance(rows, QuantizedWeights) else rows


def _as_rows(name: str, value: Any) -> Rows:
    if not isinstance(value, QuantizedWeights):
        return as_plain(name, value)
    if value.dtype not in HALVES:
        raise TypeError(f"{name} must be float32, float64, bfloat16 or float16, got {value.dtype}")
    return value


def _empty_halves(shape: tuple[int, int], kind: str) -> Array:
    return aligned_empty(shape, np.dtype(np.int16 if kind == "bfloat16" else np.float16))


def _zero_halves(shape: tuple[int, int], kind: str) -> QuantizedWeights:
    bits = _empty_halves(shape, kind)
    bits[:] = 0
    return QuantizedWeights(bits)


def _uniform_halves(shape: tuple[int, int], kind: str, seed: int, bound: float) -> QuantizedWeights:
    """What `uniform` gives, rounded, without a float32 array of that size."""
    bits, generator = _empty_halves(shape, kind), np.random.Generator(np.random.Philox(seed))
    for start in range(0, shape[0], BLOCK):
        part = generator.random((min(BLOCK, shape[0] - start), shape[1]), np.float32)
        part -= 0.5
        part *= 2 * bound
        bits[start : start + BLOCK] = quantize(part, kind).to_arrays()["data"]
    return QuantizedWeights(bits)


OPTIMIZERS: dict[str, Callable[..., SGD | Adagrad | Adam]] = {
    "adagrad": Adagrad,
    "rowwise_adagrad": partial(Adagrad, rowwise=True),
    "sgd": SGD,
    "adam": Adam,
}


def default_lr(optimizer: str, batch_size: int) -> float:
    """Measured on WordNet. A step sums its rows' gradients; plain SGD does not rescale them."""
    if optimizer == "sgd":
        return min(0.5, 8 / batch_size)
    return 0.02 if optimizer == "adam" else 0.3


class BagTrainer:
    """Trains a `BagModel` by minibatches, in an order and with sums that depend on the seed alone.

    Parameters
    ----------
    model : BagModel
        Its arrays are changed in place.
    optimizer : {"adagrad", "rowwise_adagrad", "sgd", "adam"}
        As `Adagrad`, the second with ``rowwise=True``, `SGD` and `Adam`; one for W and b, one for
        E.
    lr : float
        Learning rate of the sum of the losses of a minibatch.
    lr_schedule : {"linear", "constant"}
        Linear: down to zero at the end of the last epoch.
    epochs, batch_size : int
        Passes over the examples, and examples per step.
    weight_decay : float
        As for `SGD`.
    rng : None, int or numpy.random.Generator
        Seed of the order of examples.
    shuffle : bool
        False keeps the order of X.
    dropout : float in [0, 1]
        Each feature of a bag is dropped with this probability, anew in every epoch; by the seed,
        the epoch and the place in X alone. Needs a model with E.
    replacement : "drop" or int, default "drop"
        Leave a dropped feature out, or put this feature in its place, a learned "unknown".
    max_norm : float, optional
        Rows of E and W that a step leaves longer are scaled down to this l2 norm.
    label_smoothing : float in [0, 1), default 0
        The target of every node on the path is ``(1 - e) onehot + e / children``; what `fit` tells
        as nll is the loss against that.
    bias : bool, default True
        False leaves b as it is: fastText has none.
    num_threads : int, optional
        Never changes a bit of the result.

    Attributes
    ----------
    rows_seen : int
        Rows of all calls of `fit`, those of several epochs once.
    history : list of Progress
        What `fit` has yielded. An interrupt never leaves it behind the weights.

    Raises
    ------
    ValueError
        If a setting is out of range.

    References
    ----------
    Joulin et al., "Bag of tricks for efficient text classification", 2017. Dropout and max-norm:
    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.
    Label smoothing: Szegedy et al., "Rethinking the inception architecture for computer vision",
    2016.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> X, y = csr_array(np.eye(4, dtype=np.float32)), [0, 1, 2, 3]
    >>> model = BagModel.create(Hierarchy.balanced(4), 4, hidden_dim=8, rng=0)
    >>> curve = list(BagTrainer(model, lr=0.5, epochs=100, rng=0).fit(X, y))
    >>> hsoftmax_search(model.hidden(X), model.W, model.b, model.hierarchy).classes[:, 0]
    array([0, 1, 2, 3])
    """

    def __init__(
        self,
        model: BagModel,
        *,
        optimizer: str = "adagrad",
        lr: float = 0.1,
        lr_schedule: str = "linear",
        epochs: int = 5,
        batch_size: int = 256,
        weight_decay: float = 0.0,
        rng: int | np.random.Generator | None = None,
        shuffle: bool = True,
        dropout: float = 0.0,
        replacement: int | str = "drop",
        max_norm: float | None = None,
        label_smoothing: float = 0.0,
        bias: bool = True,
        num_threads: int | None = None,
    ) -> None:
        if not is_one_of(optimizer, OPTIMIZERS):
            raise ValueError(
                f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {describe(optimizer)}"
            )
        if not is_one_of(lr_schedule, ("linear", "constant")):
            raise ValueError(
                f"lr_schedule must be 'linear' or 'constant', got {describe(lr_schedule)}"
            )
        self.model = model
        self.epochs, self.batch_size = (
            as_integer("epochs", epochs, 1),
            as_integer("batch_size", batch_size, 1),
        )
        self.lr_schedule, self.shuffle, self.num_threads = (
            lr_schedule,
            as_flag("shuffle", shuffle),
            num_threads,
        )
        self.seed = as_seed(rng)
        self.dropout, self.replacement = self._as_dropout(dropout, replacement)
        self.max_norm = 0.0 if max_norm is None else as_float("max_norm", max_norm)
        if max_norm is not None and not 0 < self.max_norm < np.inf:
            raise ValueError(f"max_norm must be positive and finite, got {self.max_norm}")
        self.label_smoothing = as_float("label_smoothing", label_smoothing)
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")
        self.bias = as_flag("bias", bias)
        self.epochs_done, self.rows_seen = 0, 0
        self.history: list[Progress] = []
        self._place: Array | None = None  # see _models/parts.py
        make = OPTIMIZERS[optimizer]
        self.W_optimizer = make(lr, weight_decay=weight_decay)
        self.E_optimizer = make(lr, weight_decay=weight_decay)
        self._prepare()

    def _prepare(self) -> None:
        """Make the state of the optimizers; copy what cannot be written, such as mapped arrays."""
        model = self.model
        for name in ("E", "W", "b"):
            held = getattr(model, name)
            if isinstance(held, QuantizedWeights):
                if not held._memory.flags.writeable:
                    setattr(model, name, copy.copy(held))
            elif held is not None and not held.flags.writeable:
                setattr(model, name, writable_copy(held))
        for optimizer in (self.W_optimizer, self.E_optimizer):
            for name, array in optimizer.state.items():
                if not array.flags.writeable:
                    optimizer.state[name] = writable_copy(array)
        half_rows = isinstance(model.W, QuantizedWeights)
        self.W_state, self.E_state = (
            None
            if rows is None
            else optimizer.prepare(rows.shape, model.dtype, half_rows=half_rows)
            for rows, optimizer in ((model.W, self.W_optimizer), (model.E, self.E_optimizer))
        )

    def _as_dropout(self, dropout: object, replacement: int | str) -> tuple[float, int]:
        rate = as_rate(dropout, "dropout")
        if rate and self.model.E is None:
            raise ValueError(f"dropout must be 0 for a model without E, got {rate}")
        if is_one_of(replacement, ("drop",)):
            return rate, -1
        if isinstance(replacement, str):
            raise ValueError(f"replacement must be 'drop' or a feature, got {replacement!r}")
        feature = as_integer("replacement", replacement, 0)
        if feature >= self.model.n_features:
            raise ValueError(f"replacement must be below {self.model.n_features}, got {feature}")
        return rate, feature

    def fit(
        self,
        X: npt.ArrayLike | SparseMatrix,
        labels: npt.ArrayLike,
        *,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Iterator[Progress]:
        """Run the epochs, yielding between steps, many times a second.

        Where it yields depends on the data alone, and so does what it tells: `history` keeps it.
        What cannot be written, such as the arrays of a mapped file, is copied first.

        Parameters
        ----------
        X : CSR matrix of shape (N, F), or array_like for a model without E
        labels : array_like of int, shape (N,)
            Classes in ``[0, C)``.
        sample_weight : array_like of shape (N,), optional
            Multiplies the loss of each row.

        Yields
        ------
        Progress

        Raises
        ------
        ValueError, TypeError
            On input that does not fit, before the first step; if the loss is no longer finite (the
            learning rate is too large), before the step that would have spread it.

        Examples
        --------
        >>> model = BagModel.create(Hierarchy.balanced(2), 1)
        >>> run = BagTrainer(model, lr=1.0, epochs=10).fit([[1.0], [-1.0]], [1, 0])
        >>> [progress.epoch for progress in run][-1]
        10
        """
        dtype = self.model.dtype
        data: Compressed | Array
        data = cast(as_real("X", X, 2), dtype) if self.model.E is None else as_csr("X", X, dtype)
        n, columns = data.shape
        if columns != self.model.n_features:
            raise ValueError(f"X must have {self.model.n_features} columns, got {columns}")
        if isinstance(data, np.ndarray) and not np.isfinite(data).all():
            raise ValueError("X must be finite, got nan or inf")
        y = as_labels(labels, n)
        weight = as_weight("sample_weight", sample_weight, dtype, n)
        self._prepare()
        self.rows_seen += n
        total, done = n * self.epochs, 0
        order = np.arange(n)
        piece = self._piece(data, y)
        for _ in range(self.epochs):
            self.epochs_done += 1
            if self.shuffle:
                core.shuffled_order(self.seed, self.epochs_done, order)
            at = 0
            while at < n:
                part = order[at : at + (piece if done else self.batch_size)]
                self._run(data, y, weight, part, done, total)
                at, done = at + len(part), done + len(part)
                yield self.history[-1]

    def set_batch_size(self, batch_size: int, lr: float) -> None:
        """Go on with other minibatches, and their learning rate.

        Parameters
        ----------
        batch_size : int
        lr : float

        Examples
        --------
        >>> trainer = BagTrainer(BagModel.create(Hierarchy.balanced(2), 1), optimizer="sgd")
        >>> trainer.set_batch_size(512, 0.02)
        >>> trainer.W_optimizer.lr
        0.02
        """
        self.batch_size = as_integer("batch_size", batch_size, 1)
        self.W_optimizer.lr = self.E_optimizer.lr = lr

    def _piece(self, data: Compressed | Array, y: Array) -> int:
        """Examples between two reports, whole batches: by what an example costs, not by a clock."""
        h, sample = self.model.hierarchy, y[:: max(1, len(y) // 1000)]
        classes = sample[(sample >= 0) & (sample < h.n_classes)]
        first, length = h.path_ptr[classes], h.path_ptr[classes + 1] - h.path_ptr[classes]
        steps = np.arange(length.sum()) + np.repeat(first - np.cumsum(length) + length, length)
        nodes = h.path_node[steps]
        touched = int((h.row_ptr[nodes + 1] - h.row_ptr[nodes]).sum())
        entries = 0 if isinstance(data, np.ndarray) else len(data.indices) / max(1, len(y))
        cost = self.model.W.shape[1] * (touched / max(1, len(classes)) + entries + 1)
        return max(1, int(_PIECE / cost / self.batch_size)) * self.batch_size

    def _factor(self, done: int, total: int) -> float:
        return 1.0 if self.lr_schedule == "constant" else 1 - done / total

    def _run(
        self,
        data: Compressed | Array,
        y: Array,
        weight: Array | None,
        order: Array,
        done: int,
        total: int,
    ) -> None:
        """Train on a part of the examples; what was done is counted by the compiled call itself, so
        that no interrupt comes in between."""
        model, after = self.model, done + len(order)
        lr = self.W_optimizer.lr * self._factor(after, total)
        schedule = core.Schedule(
            batch_size=self.batch_size,
            decay=0.0 if self.lr_schedule == "constant" else 1.0,
            done=done,
            total=total,
            check_input=done == 0,
            num_threads=resolve_threads(self.num_threads),
            dropout=self.dropout,
            replacement=self.replacement,
            seed=self.seed,
            epoch=self.epochs_done,
            place=self._place,
            label_smoothing=self.label_smoothing,
        )
        run: dict[str, Any] = {
            "labels": y,
            "weight": weight,
            "order": order,
            "W_optimizer": self._settings(self.W_optimizer, self.W_state),
            "schedule": schedule,
            "record": (self.history, Progress, self.epochs_done, after, lr),
        }
        tree, b = as_tree(model.hierarchy), model.b if self.bias else model.b[:0]
        W = _compiled_rows(model.W)
        if isinstance(data, np.ndarray):
            _DENSE_TRAIN[data.dtype](tree, data, W, b, **run)
            return
        run |= {
            "mean": model.mode == "mean",
            "E_optimizer": self._settings(self.E_optimizer, self.E_state),
        }
        train = _TRAIN[data.indptr.dtype, data.data.dtype]
        train(tree, data.indptr, data.indices, data.data, _compiled_rows(model.E), W, b, **run)

    def _settings(self, optimizer: SGD | Adagrad | Adam, state: object) -> core.Settings:
        settings = optimizer._settings()
        settings.max_norm, settings.state = self.max_norm, state
        return settings


def _compiled_rows(rows: Rows | None) -> Any:
    """What a compiled call steps: the array itself, or halves."""
    half = None if isinstance(rows, np.ndarray) else as_half_rows(rows)
    return rows if half is None else half[1]


def writable_copy(array: Array) -> Array:
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy
