"""Optimizers on the rows that a batch touches; hierarchical softmax fused with them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import (
    BFLOAT16_BITS,
    FLOAT32,
    HALVES,
    Array,
    Weights,
    as_array,
    as_bytes,
    as_flag,
    as_float,
    as_ignored,
    as_integer,
    as_labels,
    as_real,
    as_seed,
    as_storage,
    as_vector,
    as_weight,
    as_writable,
    cast,
    describe,
    require_finite,
)
from ._core import update as core
from ._core.ndarray import are_ready, is_ready_in_place, overlap
from ._core.quantize import HalfRows
from ._hierarchy import Hierarchy, as_tree
from ._runtime import resolve_threads
from ._scoring import as_half_rows

__all__ = ["SGD", "Adagrad", "Adam", "HSoftmaxUpdate", "estimate_memory", "hsoftmax_update"]


class HSoftmaxUpdate(NamedTuple):
    """What `hsoftmax_update` returns, both at the weights before the step.

    Attributes
    ----------
    nll : ndarray of shape (N,)
        Losses, in nats.
    X : ndarray of shape (N, D)
        The gradient of the inputs.

    Examples
    --------
    >>> W, h = np.zeros((1, 2)), Hierarchy.balanced(2)
    >>> hsoftmax_update(np.ones((1, 2)), W, None, [1], h, SGD(1.0)).X
    array([[0., 0.]])
    >>> W
    array([[0.5, 0.5]])
    """

    nll: Array
    X: Array


def _number(name: str, value: object, *, positive: bool = False) -> float:
    number = as_float(name, value)
    if not 0 <= number < math.inf or (positive and number == 0):
        raise ValueError(
            f"{name} must be finite and {'positive' if positive else 'non-negative'}, got {number}"
        )
    return number


def _as_betas(betas: Any) -> tuple[float, float]:
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise TypeError(f"betas must be two numbers, got {describe(betas)}")
    beta1, beta2 = (_number("betas", beta) for beta in betas)
    if not (beta1 < 1 and beta2 < 1):
        raise ValueError(f"betas must be in [0, 1), got {betas}")
    return beta1, beta2


def _foreign_state(
    shapes: dict[str, tuple[int, ...]], dtypes: dict[str, np.dtype[Any]]
) -> ValueError:
    wanted = ", ".join(f"{name} {shape} of {dtypes[name]}" for name, shape in shapes.items())
    return ValueError(
        f"optimizer must have state of this W, {wanted or 'none'}, got that of another"
    )


class _Optimizer:
    """Settings and the state of the rows of one W; the state is made at the first step."""

    _state_names: tuple[str, ...] = ()

    def __init__(self, lr: float, weight_decay: float) -> None:
        self.lr = _number("lr", lr, positive=True)
        self.weight_decay = _number("weight_decay", weight_decay)
        self.step_count = 0
        self.state: dict[str, Array] = {}

    def _settings(self) -> core.Settings:
        """What a compiled call takes, without the state."""
        raise NotImplementedError

    def _make(
        self, method: str, eps: float = 0.0, betas: tuple[float, float] = (0.0, 0.0)
    ) -> core.Settings:
        """The attributes may have been set to anything since: a schedule sets lr."""
        step = as_integer("step_count", as_integer("step_count", self.step_count, 0) + 1)
        lr, decay = _number("lr", self.lr), _number("weight_decay", self.weight_decay)
        return core.Settings(method, self, step, lr, decay, eps, *betas)

    def _shapes(self, rows: int, dim: int) -> dict[str, tuple[int, ...]]:
        return {}

    def _half_names(self) -> tuple[str, ...]:
        """State that is bfloat16, its bits in int16, where rows have 16 bits."""
        return ()

    def state_bytes(self, rows: int, dim: int, itemsize: int, *, half_rows: bool = False) -> int:
        """Return the bytes of the state for W of shape (rows, dim).

        Parameters
        ----------
        rows, dim : int
            R and D.
        itemsize : int
            Bytes per value: 4 for float32, 8 for float64.
        half_rows : bool
            Whether rows have 16 bits.

        Returns
        -------
        int

        Examples
        --------
        >>> Adam(0.1).state_bytes(1000, 64, 4)
        520000
        """
        halves = self._half_names() if half_rows else ()
        return sum(
            int(np.prod(shape)) * (2 if name in halves else itemsize)
            for name, shape in self._shapes(rows, dim).items()
        )

    def prepare(
        self, shape: tuple[int, int], dtype: np.dtype[Any], *, half_rows: bool = False
    ) -> tuple[Array | HalfRows | None, Array | None, Array | None, Array | None]:
        """Return the state for W of this shape, made of zeros if there is none.

        Parameters
        ----------
        shape : (int, int)
            (R, D).
        dtype : float32 or float64
            That of W, float32 where it has 16 bits.
        half_rows : bool
            Whether W has 16 bits.

        Returns
        -------
        tuple of four ndarrays or None
            First and second moments of rows, first and second of biases; what this optimizer does
            not have is None, and what is bfloat16 is compiled.

        Raises
        ------
        ValueError
            If there is state of another shape or dtype.

        Examples
        --------
        >>> [None if s is None else s.shape for s in Adagrad(0.1).prepare((3, 2), np.dtype("f4"))]
        [(3, 2), None, (3,), None]
        """
        shapes = self._shapes(*shape)
        halves = self._half_names() if half_rows else ()
        dtypes = {name: BFLOAT16_BITS if name in halves else dtype for name in shapes}
        if shapes and not self.state:
            self.state = {name: np.zeros(s, dtypes[name]) for name, s in shapes.items()}
        state = self.state
        if not shapes and not state:
            return None, None, None, None
        if state.keys() != shapes.keys():
            raise _foreign_state(shapes, dtypes)
        for name, held in state.items():
            if isinstance(held, np.ndarray) and not held.flags.writeable:
                raise ValueError(
                    "optimizer must have state of this W that is writeable, got read-only arrays "
                    "(load_state_dict(state_dict()) copies them)"
                )
            if name in halves:
                fits = isinstance(held, np.ndarray) and held.flags.carray
            else:
                fits = is_ready_in_place(held, len(shapes[name]))
            if not fits or held.dtype != dtypes[name] or held.shape != shapes[name]:
                raise _foreign_state(shapes, dtypes)
        first: Any = state.get("first")
        if halves:
            first = HalfRows("bfloat16", as_bytes(first), first.shape[1])
        return first, state.get("second"), state.get("b_first"), state.get("b_second")

    def state_dict(self) -> dict[str, object]:
        """Return a copy of the settings and the state.

        Returns
        -------
        dict
            Scalars by the names of the settings, arrays by ``state.`` and their names.

        Examples
        --------
        >>> SGD(0.1).state_dict()
        {'lr': 0.1, 'weight_decay': 0.0, 'step_count': 0}
        """
        values = {name: value for name, value in vars(self).items() if name != "state"}
        return {**values, **{f"state.{name}": array.copy() for name, array in self.state.items()}}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Load what `state_dict` returned.

        Parameters
        ----------
        state : dict

        Raises
        ------
        ValueError
            If a setting is missing or is not one of this optimizer.

        Examples
        --------
        >>> optimizer = SGD(0.1)
        >>> optimizer.load_state_dict(SGD(0.5).state_dict())
        >>> optimizer
        SGD(lr=0.5, weight_decay=0.0)
        """
        if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
            raise TypeError(f"state must be what state_dict returned, got {describe(state)}")
        settings: dict[str, Any] = {
            name: value for name, value in state.items() if not name.startswith("state.")
        }
        expected = set(vars(self)) - {"state"}
        if settings.keys() != expected:
            raise ValueError(
                f"state must have the entries {', '.join(sorted(expected))}, "
                f"got {', '.join(sorted(settings))}"
            )
        arrays = {
            name.removeprefix("state."): as_array(name, value).copy(order="C")
            for name, value in state.items()
            if name.startswith("state.")
        }
        unknown = set(arrays) - set(self._state_names)
        if unknown:
            raise ValueError(
                f"state must hold arrays of {type(self).__name__}, got {', '.join(sorted(unknown))}"
            )
        step_count = as_integer("step_count", settings.pop("step_count"), 0)
        checked = vars(type(self)(**settings))  # the constructor's checks
        for name in settings:
            setattr(self, name, checked[name])
        self.step_count, self.state = step_count, arrays

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if name not in ("state", "step_count")
        )
        return f"{type(self).__name__}({settings})"


class SGD(_Optimizer):
    """Gradient descent: ``w -= lr (g + weight_decay w)`` on touched rows.

    Parameters
    ----------
    lr : float
        Learning rate, positive.
    weight_decay : float, default 0
        On rows of W when a step touches them; not on biases.

    Raises
    ------
    ValueError
        If a number is negative or not finite, or lr is 0.

    Examples
    --------
    >>> SGD(0.1)
    SGD(lr=0.1, weight_decay=0.0)
    """

    def __init__(self, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay)

    def _settings(self) -> Any:
        return self._make("sgd")


class Adagrad(_Optimizer):
    """Adagrad: ``s += g²``, ``w -= lr g / (sqrt(s) + eps)``, with ``g`` including ``weight_decay
    w``.

    Parameters
    ----------
    lr : float
        Learning rate, positive.
    eps : float, default 1e-10
        Keeps the step finite. Below the root of the smallest normal number (2⁻⁶³ in float32, 2⁻⁵¹¹
        in float64) it counts as that: a gradient of 0 moves nothing.
    rowwise : bool, default False
        One s per row of W, the mean of g² over the row: the state is R numbers instead of R × D.
    weight_decay : float, default 0
        As for `SGD`.

    Raises
    ------
    ValueError
        As for `SGD`.

    Notes
    -----
    On rows of 16 bits s is bfloat16, in ``state["first"]`` as its bits in int16; with `rowwise` it
    stays float32. Each sum is rounded at random to one of its two neighbors, with the right mean,
    so small squares add up. What is drawn has a variance of at most ``ulp × g²`` a step: that of s
    is below ``s² / 128``, so s is off by 9 % and a step by 4.5 % (one standard deviation), however
    many steps are made.

    References
    ----------
    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", 2011.

    Examples
    --------
    >>> Adagrad(0.1, rowwise=True).state_bytes(1000, 64, 4)
    8000
    """

    _state_names = ("first", "b_first")

    def __init__(
        self, lr: float, eps: float = 1e-10, rowwise: bool = False, weight_decay: float = 0.0
    ) -> None:
        super().__init__(lr, weight_decay)
        self.eps = _number("eps", eps)
        self.rowwise = as_flag("rowwise", rowwise)

    def _settings(self) -> Any:
        method = "rowwise_adagrad" if self.rowwise else "adagrad"
        return self._make(method, _number("eps", self.eps))

    def _shapes(self, rows: int, dim: int) -> dict[str, tuple[int, ...]]:
        return {"first": (rows, 1 if self.rowwise else dim), "b_first": (rows,)}

    def _half_names(self) -> tuple[str, ...]:
        return () if self.rowwise else ("first",)


class Adam(_Optimizer):
    """Lazy Adam: moments and step on touched rows only, bias-corrected by the number of calls.

    Parameters
    ----------
    lr : float
        Learning rate, positive.
    betas : (float, float), default (0.9, 0.999)
        Decay of the moving means of g and g², in [0, 1).
    eps : float, default 1e-8
        Keeps the step finite; as for `Adagrad`, no smaller than the root of the smallest normal
        number.
    weight_decay : float, default 0
        Added to the gradient (not decoupled), as ``torch.optim.Adam`` does.

    Raises
    ------
    ValueError
        As for `SGD`; if a beta is not in [0, 1).

    Notes
    -----
    ``m += (1 - β₁)(g - m)``, ``v += (1 - β₂)(g² - v)``, ``w -= lr m̂ / (sqrt(v̂) + eps)``.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", 2015.

    Examples
    --------
    >>> Adam(1e-3).betas
    (0.9, 0.999)
    """

    _state_names = ("first", "second", "b_first", "b_second")

    def __init__(
        self,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay)
        self.betas = _as_betas(betas)
        self.eps = _number("eps", eps)

    def _settings(self) -> Any:
        return self._make("adam", _number("eps", self.eps), _as_betas(self.betas))

    def _shapes(self, rows: int, dim: int) -> dict[str, tuple[int, ...]]:
        return {
            "first": (rows, dim),
            "second": (rows, dim),
            "b_first": (rows,),
            "b_second": (rows,),
        }


def as_optimizer(optimizer: object) -> _Optimizer:
    """One of the optimizers."""
    if not isinstance(optimizer, _Optimizer):
        raise TypeError(f"optimizer must be SGD, Adagrad or Adam, got {describe(optimizer)}")
    return optimizer


def hsoftmax_update(
    X: npt.ArrayLike,
    W: Array | Weights,
    b: Array | None,
    labels: npt.ArrayLike,
    h: Hierarchy,
    optimizer: SGD | Adagrad | Adam,
    *,
    sample_weight: npt.ArrayLike | None = None,
    grad_output: npt.ArrayLike | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    rng: int | np.random.Generator | None = 0,
    check_finite: bool = True,
    num_threads: int | None = None,
) -> HSoftmaxUpdate:
    """One optimizer step on the touched rows of W and b, in place.

    Equal to `hsoftmax_gradient` of the sum of the weighted losses and the optimizer's step on its
    rows, without the gradient of W ever being stored.

    Parameters
    ----------
    X : array_like of shape (N, D)
        Cast to W's dtype, to float32 where W has 16 bits.
    W : ndarray of shape (R, D), or QuantizedWeights
        C-contiguous and writeable; changed. float32, float64, or 16 bits, which halve its memory
        and what a step moves: an array of float16 or bfloat16 (of ml_dtypes), or what `quantize`
        returns for these two.
    b : ndarray of shape (R,) of the same dtype, float32 where W has 16 bits, or None
        Changed.
    labels, h, sample_weight, ignore_index, label_smoothing, num_threads
        As for `hsoftmax`.
    optimizer : SGD, Adagrad or Adam
        Holds the state of the rows of this W; made at the first step.
    grad_output : array_like of shape (N,), optional
        Upstream gradient of each loss, of any sign, where a larger model calls this in its backward
        pass; not with `sample_weight`, which scales the losses that are returned too.
    rng : None, int or numpy.random.Generator, default 0
        By what rows of 16 bits are rounded; without effect on others. An integer gives the same
        bytes on every run: each call draws by it and the optimizer's ``step_count``.
    check_finite : bool, default True
        Refuse NaN and infinity before anything is written.

    Returns
    -------
    HSoftmaxUpdate
        nll (N,) and the gradient of X (N, D), at the old W.

    Raises
    ------
    ValueError, TypeError
        As for `hsoftmax`; if W or b cannot be changed in place; if the optimizer belongs to another
        W; if sample_weight, grad_output or X is so large that gradients or their squares may leave
        the dtype of W (in float32, from some 1e16). Nothing is written then.

    Notes
    -----
    Rows of 16 bits: sums, steps and the optimizer's state are float32, but for Adagrad's sums of
    squares of elements, which are bfloat16. Each touched row is widened,
    stepped (with decay), and rounded once to one of its two neighbors of 16 bits, by chance, with
    the mean at the row itself: steps far below half an ulp add up, where rounding to nearest would
    drop them, and so are Adagrad's sums. Element (i, j) draws by (rng, step_count, i, j); numbers
    that 16 bits hold stay as they are; beyond the largest finite one, 65,504 or 3.39e38, comes that
    one. In float16 what is below 2⁻¹⁴ has steps of 2⁻²⁴, and the mean is off by less than 2⁻¹⁴ of
    one.

    W, b and the optimizer belong to one call at a time. Threads that share them need a lock of
    their own: without it steps get lost, and the result is no longer the same on every run.

    References
    ----------
    Gupta, Agrawal, Gopalakrishnan and Narayanan, "Deep learning with limited numerical precision",
    2015.

    Examples
    --------
    >>> import numpy as np
    >>> from cython_sparseops import init_weights
    >>> h = Hierarchy.balanced(4)
    >>> W, b = init_weights(h, 2, rng=0)
    >>> step = lambda: hsoftmax_update(np.ones((1, 2), "f"), W, b, [2], h, SGD(0.5)).nll[0]
    >>> bool(step() > step())
    True
    """
    half = None if is_ready_in_place(W, 2) else as_half_rows(W)
    w: Array = as_writable("W", W, 2) if half is None else half[0]
    rows, dtype = (w, w.dtype) if half is None else (half[1], FLOAT32)
    bias = None if b is None else as_writable("b", b, 1)
    if bias is not None and bias.dtype != dtype:
        of_w = f"the dtype of W, {dtype}" if half is None else "float32 where W has 16 bits"
        raise TypeError(f"b must have {of_w}, got {bias.dtype}")
    if bias is not None and overlap(w, bias):
        raise ValueError("b must not overlap W, got two views of one memory")
    as_optimizer(optimizer)
    x: Array = X if are_ready(X, w, bias) else cast(as_real("X", X, 2), dtype)  # type: ignore[assignment]
    n = x.shape[0]
    weight = as_weight("sample_weight", sample_weight, dtype, n)
    if grad_output is not None:
        if weight is not None:
            raise ValueError("grad_output must be None where sample_weight is given, got both")
        weight = as_vector("grad_output", grad_output, dtype, n)
    if overlap(x, w) or (bias is not None and overlap(x, bias)):
        x = x.copy()
    if weight is not None:
        weight = weight.copy()  # it may be a part of W or b
    tree, y, ignored = as_tree(h), as_labels(labels, n), as_ignored(ignore_index)
    smoothing = as_float("label_smoothing", label_smoothing)
    check, threads = as_flag("check_finite", check_finite), resolve_threads(num_threads)
    if grad_output is not None and weight is not None and check:
        require_finite("grad_output", weight)
    settings = optimizer._settings()
    if w.shape != (h.n_rows, x.shape[1]):
        raise ValueError(f"W must have shape ({h.n_rows}, {x.shape[1]}), got {w.shape}")
    seed, fresh = as_seed(rng), not optimizer.state
    settings.state = optimizer.prepare(w.shape, dtype, half_rows=half is not None)
    try:
        scale = grad_output is None
        nll, dX = core.update(
            tree,
            x,
            rows,
            bias,
            y,
            ignored,
            weight,
            scale,
            smoothing,
            settings,
            seed,
            check,
            threads,
        )
    except BaseException:
        if fresh and optimizer.step_count != settings.step:  # refused: not bound to this W
            optimizer.state = {}
        raise
    return HSoftmaxUpdate(nll, dX)


def step_rows(
    optimizer: _Optimizer,
    rows: Array | None,
    dW: Array,
    db: Array | None,
    W: Array,
    b: Array | None,
    state: tuple[Array | None, ...] | None = None,
) -> None:
    """One step on these rows of W and b by dW and db, without rows on all; ready arrays alone.

    The state is that of the optimizer, or (first, second, b_first, b_second).
    """
    settings = optimizer._settings()
    settings.state = optimizer.prepare(W.shape, W.dtype) if state is None else state
    core.step_rows(rows, dW, db, W, b, settings, resolve_threads(None))


def estimate_memory(
    h: Hierarchy, dim: int, *, dtype: npt.DTypeLike = np.float32, optimizer: object = None
) -> int:
    """Estimate the bytes of a head that is trained: tree, W, b and the optimizer's state.

    They are what stays between steps, once every row was touched. A step needs the logits and rows
    of its batch besides, a sparse gradient one row of D for each row of W that the batch touches.

    Parameters
    ----------
    h : Hierarchy
    dim : int
        D.
    dtype : float32, float64, "bfloat16" or "float16"
        Of W. Of 16 bits b and the state are float32, but for Adagrad's sums of elements, which are
        bfloat16.
    optimizer : SGD, Adagrad or Adam, optional
        Default: no state.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If dim < 1.

    Examples
    --------
    >>> estimate_memory(Hierarchy.balanced(1000), 64) > 999 * 64 * 4
    True
    """
    as_tree(h)
    width, kind = as_integer("dim", dim, 1), as_storage(dtype)
    item = 8 if kind == "float64" else 4
    tree = sum(array.nbytes for array in h.to_arrays().values()) + 4 * (2 * h.n_nodes + h.n_classes)
    state = 0
    if optimizer is not None:
        half_rows = kind in HALVES
        state = as_optimizer(optimizer).state_bytes(h.n_rows, width, item, half_rows=half_rows)
    return tree + h.n_rows * (width * (2 if kind in HALVES else item) + item) + state
