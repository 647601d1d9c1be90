"""The trees that a classifier with dense weights builds by name."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from cython_sparseops._arrays import Array
from cython_sparseops._cluster import class_centroids
from cython_sparseops._hierarchy import Hierarchy

TREES = ("auto", "cluster", "huffman", "two_level", "balanced")


def tree_of(
    kind: str,
    X: Any,
    labels: npt.NDArray[Any],
    counts: Array,
    seed: int,
    num_threads: int | None,
) -> Hierarchy:
    """The tree of a name in `TREES` over classes with these rows and counts."""
    if kind == "cluster" or (kind == "auto" and len(counts) > 2):
        vectors = class_centroids(X, labels, len(counts), num_threads=num_threads)
        return Hierarchy.cluster(vectors, counts=counts, rng=seed, num_threads=num_threads)
    if kind == "balanced":
        return Hierarchy.balanced(len(counts))
    return Hierarchy.two_level(counts) if kind == "two_level" else Hierarchy.huffman(counts)
