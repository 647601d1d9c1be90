"""How much each class, and so each row, counts in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cython_sparseops._arrays import Array, as_float, describe, find_sorted, is_one_of

ClassWeight = Mapping[Any, float] | str | None


def check_class_weight(class_weight: object) -> None:
    """Refuse what is no class weight.

    Raises
    ------
    ValueError
        If it is neither None, "balanced" nor a mapping of labels to weights of 0 or more.
    """
    if class_weight is None or is_one_of(class_weight, ("balanced",)):
        return
    if not isinstance(class_weight, Mapping):
        raise ValueError(
            f"class_weight must be None, 'balanced' or a dict by label, got "
            f"{describe(class_weight)}"
        )
    for label, value in class_weight.items():
        weight = as_float("class_weight", value)
        if not 0 <= weight < np.inf:
            raise ValueError(
                f"class_weight must hold finite weights of 0 or more, got {weight} for {label!r}"
            )


def row_weights(
    class_weight: ClassWeight,
    classes: Array,
    labels: npt.NDArray[np.int64],
    sample_weight: Array | None,
) -> Array | None:
    """The weight of each row: that of its class times its own.

    Parameters
    ----------
    class_weight : mapping, "balanced" or None
        By label; of labels that it lacks, 1; then scaled to a mean of 1 over the classes, so that
        steps keep their size. Balanced: so that all classes with rows weigh the same, and all rows
        together what they did.
    classes : ndarray of shape (C,)
        Sorted labels.
    labels : ndarray of int64, shape (N,)
        Class numbers.
    sample_weight : ndarray of float64, shape (N,), or None

    Returns
    -------
    ndarray of float64, shape (N,), or None

    Examples
    --------
    >>> row_weights("balanced", np.array(["a", "b"]), np.array([0, 0, 0, 1]), None)
    array([0.66666667, 0.66666667, 0.66666667, 2.        ])
    """
    if class_weight is None:
        return sample_weight
    weight = np.ones(len(classes))
    if isinstance(class_weight, Mapping):
        for label, value in class_weight.items():
            at, known = find_sorted(classes, [label])
            if known[0]:
                weight[at[0]] = value
        mean = weight.mean()
        if mean <= 0:
            raise ValueError("class_weight must hold a positive weight, got all zeros")
        weight /= mean
    else:
        counts = np.bincount(labels, weights=sample_weight, minlength=len(classes))
        seen = counts > 0
        weight[seen] = counts.sum() / (seen.sum() * counts[seen])
    own = weight[labels]
    return own if sample_weight is None else own * sample_weight
