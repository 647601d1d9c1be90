"""What held-out rows decide: when a training stops, and how sure its model may be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cython_sparseops._arrays import Array, aligned_empty
from cython_sparseops._core import bag as core
from cython_sparseops._hsoftmax import hsoftmax
from cython_sparseops._models.bag import BLOCK, BagModel, Progress, Rows, writable_copy
from cython_sparseops._quantize import QuantizedWeights, quantize

LEAST_ROWS = 10_000  # with fewer, "auto" holds out none: each is dear, and tells little
MOST_HELD_OUT = 2_000  # rows: more tell little more, and are missing where classes have few
_PATIENCE = 2  # scores in a row that are no better than the best end the training
_WORSE = 0.01  # nats; in the second half one such score ends it, since the rate only falls
_LEAST_STEPS = 80  # between two scores, where a pass has fewer
_SCALE_STEP = 2 ** (1 / 8)  # of logits: finer gains nothing, and no rounding can tip the choice
_MOST_SCALE_STEPS = 16  # a factor of 4: rows without a miss among them would ask for any


class Validation(NamedTuple):
    """A score of held-out rows.

    Attributes
    ----------
    epoch : int
        Passes done.
    log_likelihood : float
        Mean of the rows, in nats, at the best scale of the logits: 0 at most, more is better.
    """

    epoch: int
    log_likelihood: float


class Fit(NamedTuple):
    """How well a model explains held-out rows, once its logits are scaled.

    Attributes
    ----------
    loss : float
        Mean weighted nll, in nats.
    steps : int
        The best scale of the logits, in steps of 2 ** (1 / 8).
    """

    loss: float
    steps: int

    @property
    def scale(self) -> float:
        return float(_SCALE_STEP**self.steps)


class HeldOut(NamedTuple):
    """Rows that training does not see."""

    X: Any
    labels: npt.NDArray[np.int64]
    weight: Array

    def fit(self, model: BagModel, steps: int = 0, num_threads: int | None = None) -> Fit:
        """The least loss over all scales of the logits; the same bits for any threads.

        Parameters
        ----------
        model : BagModel
        steps : int
            The scale to begin with. The loss is convex in it, so the least one is found from any.
        num_threads : int, optional
        """
        hidden = [
            model.hidden(self.X[start : start + BLOCK], num_threads=num_threads)
            for start in range(0, len(self.labels), BLOCK)
        ]
        found: dict[int, float] = {}

        def loss(at: int) -> float:
            if at not in found:
                inside = abs(at) <= _MOST_SCALE_STEPS
                found[at] = self._loss(model, hidden, at, num_threads) if inside else math.inf
            return found[at]

        for direction in (1, -1):
            while loss(steps + direction) < loss(steps):
                steps += direction
        return Fit(loss(steps), steps)

    def _loss(
        self, model: BagModel, hidden: list[Array], steps: int, num_threads: int | None
    ) -> float:
        scale = model.dtype.type(_SCALE_STEP**steps)
        total = 0.0
        for block, rows in enumerate(hidden):
            part = slice(block * BLOCK, block * BLOCK + len(rows))
            losses = hsoftmax(
                rows * scale,
                model.W,
                model.b * scale,
                self.labels[part],
                model.hierarchy,
                num_threads=num_threads,
            )
            total += math.fsum((losses * self.weight[part]).tolist())
        return total / math.fsum(self.weight.tolist())


def hold_out(
    X: Any,
    labels: npt.NDArray[np.int64],
    weight: Array | None,
    held: npt.NDArray[np.bool_],
) -> HeldOut:
    """The rows of a mask, weighed so that they stand for all.

    Rows are held out of large classes more often than of small ones, which are harder. The rows
    whose classes keep 1, 2 to 3, 4 to 7, ... rows for training count as much as these do.

    Parameters
    ----------
    X : matrix of shape (N, F)
    labels : ndarray of int64, shape (N,)
    weight : ndarray of shape (N,), or None
    held : ndarray of bool, shape (N,)
        As by `held_out_rows`.

    Returns
    -------
    HeldOut
    """
    size = np.bincount(labels[~held])
    trained, tested = (np.frexp(size[labels[mask]])[1] for mask in (~held, held))
    share = np.bincount(trained, minlength=64) / np.maximum(1, np.bincount(tested, minlength=64))
    balance = share[tested]
    own = balance if weight is None else balance * weight[held]
    return HeldOut(X[held], labels[held], own if own.sum() > 0 else balance)


def held_out_rows(
    labels: npt.NDArray[np.int64], fraction: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Choose a share of the rows at random, but never the last row of a class.

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
    fraction : float in (0, 1)
    seed : int
        With the labels, all that the choice depends on.

    Returns
    -------
    ndarray of bool, shape (N,)
        At most `MOST_HELD_OUT` are true; none, if every class has one row.

    Examples
    --------
    >>> held_out_rows(np.array([0, 0, 0, 1]), 0.25, seed=0).tolist()
    [False, True, False, False]
    """
    order = np.arange(len(labels))
    core.shuffled_order(seed, 0, order)  # passes of a training count from 1
    kept = np.zeros(len(labels), dtype=bool)
    kept[order[np.unique(labels[order], return_index=True)[1]]] = True
    spare = order[~kept[order]]
    found = np.zeros(len(labels), dtype=bool)
    found[spare[: min(math.ceil(fraction * len(labels)), MOST_HELD_OUT)]] = True
    return found


class EarlyStopping:
    """Follows a training by the loss of held-out rows, and keeps the weights of the best pass.

    It takes a score after every pass, or after as many as make 80 steps, and ends the training
    after two scores in a row that are no better than the best, or, with half of the passes done,
    after one that is 0.01 nats worse.

    Parameters
    ----------
    model : BagModel
        What is trained.
    held_out : HeldOut
    rows, steps : int
        Of a pass.
    num_threads : int, optional

    Attributes
    ----------
    scores : list of Validation
    best : BagModel
        The model with the best score: the trained one itself, or a copy of what it was. Its scale
        is not applied yet.
    """

    def __init__(
        self,
        model: BagModel,
        held_out: HeldOut,
        *,
        rows: int,
        steps: int,
        num_threads: int | None = None,
    ) -> None:
        self.best, self.scores = model, list[Validation]()
        self._model, self._held_out, self._num_threads = model, held_out, num_threads
        self._rows, self._every = rows, max(1, math.ceil(_LEAST_STEPS / steps))
        self._best_at, self._steps = 0, 0
        self._copy: BagModel | None = None
        self._copied: dict[str, Array] = {}
        self._best = Fit(math.inf, 0)

    def calibrated(self) -> BagModel:
        """The best model, its W and b scaled as held-out rows ask for."""
        best, scale = self.best, self.best.dtype.type(self._best.scale)
        if self._best.steps == 0:
            return best
        W = scaled(best.W, scale)
        return BagModel(best.hierarchy, best.E, W, best.b * scale, mode=best.mode)

    @property
    def best_epoch(self) -> int:
        """Passes of the best score."""
        return self.scores[self._best_at - 1].epoch

    def follow(self, training: Iterator[Progress]) -> Iterator[Progress]:
        """Yield the reports of a training until it gets no better; then take the best weights."""
        passes = 0
        for progress in training:
            yield progress
            passes, rest = divmod(progress.examples, self._rows)
            last = progress.examples == progress.total_examples
            if rest != 0 or not (last or passes % self._every == 0):
                continue
            late = 2 * progress.examples >= progress.total_examples
            if self._is_over(passes, last=last, late=late):
                break
        if passes and not self.scores:  # a callback has ended it before the first score
            self._is_over(passes, last=True, late=True)
        if self._copy is not None and self._best_at < len(self.scores):
            self.best = self._copy

    def _is_over(self, passes: int, *, last: bool, late: bool) -> bool:
        fit = self._held_out.fit(self._model, self._steps, self._num_threads)
        score = -fit.loss
        self.scores.append(Validation(passes, score))
        self._steps = fit.steps
        best = self.scores[self._best_at - 1].log_likelihood
        if len(self.scores) == 1 or score > best:
            self._best_at, self._best = len(self.scores), fit
            if not last:
                self._keep()
            return False
        patience = 1 if late and score < best - _WORSE else _PATIENCE
        return len(self.scores) - self._best_at >= patience

    def _keep(self) -> None:
        if self._copy is None:
            arrays = {name: writable_copy(a) for name, a in self._model.to_arrays().items()}
            tree, mode = self._model.hierarchy, self._model.mode
            self._copy, self._copied = BagModel.from_arrays(tree, arrays, mode=mode), arrays
            return
        for name, array in self._copied.items():
            np.copyto(array, self._model.to_arrays()[name])


def scaled(W: Rows, scale: Any) -> Rows:
    """Rows times a number; of 16 bits each product is rounded to nearest."""
    if isinstance(W, np.ndarray):
        out = aligned_empty(W.shape, W.dtype)
        np.multiply(W, scale, out=out)
        return out
    stored = W.to_arrays()["data"]
    bits = aligned_empty(stored.shape, stored.dtype)
    for start in range(0, len(bits), BLOCK):
        rows = slice(start, start + BLOCK)
        product = QuantizedWeights(stored[rows]).dequantize() * scale
        bits[rows] = quantize(product, W.dtype).to_arrays()["data"]
    return QuantizedWeights(bits)
