"""Checks of what scikit-learn lets through, and what its arrays mean here."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np

from cython_sparseops._arrays import HALVES, STORAGE, Array, as_float, as_plain, is_one_of
from cython_sparseops._hierarchy import Hierarchy
from cython_sparseops._models.bag import OPTIMIZERS
from cython_sparseops._models.class_weight import check_class_weight
from cython_sparseops._models.trees import TREES


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


def check_settings(classifier: Any) -> None:
    """Refuse settings of an HSoftmaxClassifier that its trainer would not see."""
    as_count("hidden_dim", classifier.hidden_dim)
    for name in ("batch_size", "epochs"):
        if getattr(classifier, name) is not None:
            as_count(name, getattr(classifier, name))
    if not is_one_of(classifier.optimizer, OPTIMIZERS):
        raise ValueError(
            f"optimizer must be one of {tuple(OPTIMIZERS)}, got {classifier.optimizer!r}"
        )
    if not isinstance(classifier.early_stopping, (bool, np.bool_)) and not is_one_of(
        classifier.early_stopping, ("auto",)
    ):
        raise ValueError(
            f"early_stopping must be True, False or 'auto', got {classifier.early_stopping!r}"
        )
    fraction = as_float("validation_fraction", classifier.validation_fraction)
    if not 0 < fraction < 1:
        raise ValueError(f"validation_fraction must be in (0, 1), got {fraction}")
    if classifier.dtype is not None and not is_one_of(classifier.dtype, STORAGE):
        raise ValueError(f"dtype must be one of {STORAGE} or None, got {classifier.dtype!r}")
    check_class_weight(classifier.class_weight)
    if classifier.n_parts is not None:
        as_count("n_parts", classifier.n_parts)
        if classifier.early_stopping not in (False, "auto"):
            raise ValueError("early_stopping must be False or 'auto' with n_parts, got True")
        if is_one_of(classifier.dtype, HALVES):
            raise ValueError(
                f"dtype must be None, 'float32' or 'float64' with n_parts, got {classifier.dtype!r}"
            )
    if not isinstance(classifier.hierarchy, Hierarchy) and not is_one_of(
        classifier.hierarchy, TREES
    ):
        raise ValueError(
            f"hierarchy must be one of {TREES} or a Hierarchy, got {classifier.hierarchy!r}"
        )
