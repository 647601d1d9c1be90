"""Training of a tree over dense rows by its pieces, each by itself, in whatever process.

Rows of a node depend on no other node, given the rows of X that pass it. A piece goes over the
minibatches of the whole task, in the same order, and takes from each the rows that pass it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cython_sparseops._arrays import Array
from cython_sparseops._hierarchy import Hierarchy
from cython_sparseops._jobs import in_jobs
from cython_sparseops._models.bag import BagModel, BagTrainer, Progress, plain_rows


class TrainedPiece(NamedTuple):
    """The rows of a piece, and what each epoch told: learning rate, and loss per row of X."""

    W: Array
    b: Array
    epochs: list[tuple[float, float]]


def train_parts(
    model: BagModel,
    X: Array,
    labels: npt.NDArray[np.int64],
    weight: Array | None,
    *,
    n_parts: int,
    n_jobs: int | None,
    settings: Mapping[str, Any],
) -> list[Progress]:
    """Train W and b of a model by the pieces of its tree; one entry of history an epoch.

    The model has float rows. X holds what feeds the tree: what `model.hidden` gives, where there is
    an E, which stays.

    The settings are those of `BagTrainer`, the seed as ``rng``. `n_parts` may change last bits (see
    `Hierarchy.split`), `n_jobs` and the backend never do.
    """
    counts = np.bincount(labels, minlength=model.hierarchy.n_classes).astype(float)
    plan = model.hierarchy.split(n_parts, counts=counts)
    place = plan._class_place[labels]
    W = plain_rows(model.W)
    trained = in_jobs(
        train_piece,
        [
            (piece.hierarchy, W[piece.rows], model.b[piece.rows], X, place, bounds, weight,
             dict(settings))
            for piece, bounds in zip(plan.pieces, plan._places, strict=True)
        ],
        n_jobs,
    )  # fmt: skip
    if not trained:  # a tree of one class
        return []
    model.W, model.b = (
        plan.merge([one.W for one in trained]),
        plan.merge([one.b for one in trained]),
    )
    epochs, total = len(trained[0].epochs), len(labels) * len(trained[0].epochs)
    return [
        Progress(
            e + 1,
            (e + 1) * len(labels),
            total,
            float(sum(one.epochs[e][1] for one in trained)),
            trained[0].epochs[e][0],
        )
        for e in range(epochs)
    ]


def train_piece(
    hierarchy: Hierarchy,
    W: Array,
    b: Array,
    X: Array,
    place: npt.NDArray[np.int64],
    bounds: npt.NDArray[np.int64],
    weight: Array | None,
    settings: Mapping[str, Any],
) -> TrainedPiece:
    """Train one piece on the rows of X whose class has a place within its bounds."""
    passes = (place >= bounds[0]) & (place < bounds[-1])
    exits = np.searchsorted(bounds, np.where(passes, place, bounds[0]), side="right") - 1
    model = BagModel(hierarchy, None, np.array(W), np.array(b))
    trainer = BagTrainer(model, **settings)
    trainer._place = np.where(passes, place, -1)
    epochs: list[tuple[float, float]] = []
    before = 0
    for at in trainer.fit(X, exits, sample_weight=weight):
        lr, loss = epochs.pop() if at.epoch == len(epochs) else (at.lr, 0.0)
        lr, loss = at.lr, loss + at.nll * (at.examples - before) / len(place)
        epochs.append((lr, loss))
        before = at.examples
    return TrainedPiece(plain_rows(model.W), model.b, epochs)
