"""How long HSoftmaxClassifier trains, in which minibatches, and what a failed training leaves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from operator import index
from typing import Any

_LEAST_EPOCHS = 5  # as fastText
_LEAST_STEPS = 500  # weights start at zero: few rows need that many steps to be told apart
_LEAST_BATCH, _MOST_BATCH = 256, 1024  # more rows share a node's rows, which are stepped less often
_STEPS_OF_PASS = 80  # where there are rows enough for larger batches


def batch_of(batch_size: int | None, rows: int) -> int:
    """Rows per step."""
    if batch_size is not None:
        return index(batch_size)
    return min(max(_LEAST_BATCH, rows // _STEPS_OF_PASS), _MOST_BATCH)


def passes(epochs: int | None, batch_size: int | None, rows: int) -> int:
    """Passes over the rows."""
    if epochs is not None:
        return index(epochs)
    batch = _LEAST_BATCH if batch_size is None else index(batch_size)
    return max(_LEAST_EPOCHS, math.ceil(_LEAST_STEPS / math.ceil(rows / batch)))


@contextmanager
def unchanged_unless_trained(classifier: Any) -> Iterator[None]:
    """A fit that is refused or interrupted before its first step leaves what was there."""
    before = classifier.__dict__.copy()
    history = before.get("history_", [])
    steps = len(history)
    try:
        yield
    except BaseException:
        now = getattr(classifier, "history_", history)
        if len(now) == (steps if now is history else 0):
            classifier.__dict__.clear()
            classifier.__dict__.update(before)
        raise
