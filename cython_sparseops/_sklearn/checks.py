"""Checks of what scikit-learn lets through, and what its arrays mean here."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from cython_sparseops._arrays import Array, as_plain


def as_count(name: str, value: Any, rule: str = "a positive integer", most: int = 2**63 - 1) -> int:
    """A Python int, so that no width of NumPy's spreads into what is computed with it."""
    try:
        number = index(None if isinstance(value, bool) else value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if not 1 <= number <= most:
        raise ValueError(f"{name} must be {rule}, got {value!r}")
    return number


def weighty(X: Any, y: Array, weight: Array | None) -> tuple[Any, Array, Any]:
    """Leave out the rows of weight 0, exactly as if they were not there."""
    if weight is None or (weight > 0).all():
        return X, y, weight
    kept = weight > 0
    if not kept.any():
        raise ValueError("sample_weight must hold a positive weight, got all zeros")
    return X[kept], y[kept], weight[kept]


def refuse_masked(**arrays: Any) -> None:
    """scikit-learn drops masks without a word."""
    for name, array in arrays.items():
        if isinstance(array, np.ndarray):
            as_plain(name, array)
