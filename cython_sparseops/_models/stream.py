"""Training by blocks of rows that need not be in memory together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cython_sparseops._arrays import Array
from cython_sparseops._core import bag as core
from cython_sparseops._models.bag import BagTrainer, Progress
from cython_sparseops._sparse import Compressed

_EPOCHS = 32  # bits of a key that tell the epoch; the others tell the block


class Block(NamedTuple):
    """Rows, their classes, and their weights if they differ."""

    X: Compressed
    labels: npt.NDArray[np.int64]
    weight: Array | None


def train_blocks(
    trainer: BagTrainer, read: Callable[[int], Block], n_blocks: int, rows: int
) -> Iterator[Progress]:
    """Run the epochs of a trainer over blocks: they come in another order in each epoch, and so do
    the rows of each. One block trains as `BagTrainer.fit` does.

    Parameters
    ----------
    trainer : BagTrainer
    read : callable
        Gives block i in [0, n_blocks), the same each time: labels in range, columns of the model.
    n_blocks : int
    rows : int
        Of all blocks.

    Yields
    ------
    Progress

    Raises
    ------
    ValueError
        If the blocks of an epoch have other rows; if the loss is no longer finite.
    """
    total, done = rows * trainer.epochs, 0
    for epoch in range(trainer.epochs):
        trainer.epochs_done += 1
        blocks = np.arange(n_blocks)
        if trainer.shuffle:
            core.shuffled_order(trainer.seed, trainer.epochs_done, blocks)
        for number in blocks.tolist():
            X, labels, weight = read(number)
            if done + len(labels) > (epoch + 1) * rows:
                raise ValueError(f"blocks must hold {rows} rows, got more")
            order = np.arange(len(labels))
            if trainer.shuffle:
                key = trainer.epochs_done + (number << _EPOCHS)
                core.shuffled_order(trainer.seed, key, order)
            piece, at = trainer._piece(X, labels), 0
            while at < len(order):
                part = order[at : at + (piece if done else trainer.batch_size)]
                trainer._run(X, labels, weight, part, done, total)
                at, done = at + len(part), done + len(part)
                yield trainer.history[-1]
        if done != (epoch + 1) * rows:
            raise ValueError(f"blocks must hold {rows} rows, got {done - epoch * rows}")
