"""Random matrices in every format, for the tests of the sparse operators."""

import numpy as np
import pytest

from helpers.compressed import Compressed, compress

EPS = {"float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
FORMATS = ["csr", "csc", "C", "F"]
each_format = pytest.mark.parametrize("format", FORMATS)
each_axis = pytest.mark.parametrize("axis", [0, 1])


def random_matrix(rows, cols, dtype="float32", seed=0, density=0.4):
    rng = np.random.default_rng(seed)
    D = rng.normal(size=(rows, cols)) * (rng.random((rows, cols)) < density)
    return D.astype(dtype)


def make(D, format, index=np.int32):
    """D as CSR, as CSC, or dense in C or Fortran order."""
    return compress(D, format, index) if format in ("csr", "csc") else np.array(D, order=format)


def places(W):
    """Row and column of every stored entry."""
    major = np.repeat(np.arange(len(W.indptr) - 1), np.diff(W.indptr))
    return (major, W.indices) if W.format == "csr" else (W.indices, major)


def dense(W):
    if isinstance(W, np.ndarray):
        return W
    out = np.zeros(W.shape, W.data.dtype)
    out[places(W)] = W.data
    return out


def values(W):
    return W if isinstance(W, np.ndarray) else W.data


def wide_matrix(rows=70, index=np.int32, dtype=np.float32):
    """More columns than their sums have room for in a second cache, some stored twice."""
    rng = np.random.default_rng(4)
    indices = np.sort(rng.integers(0, 20_011, (rows, 40)), axis=1).reshape(-1)
    indices[41] = indices[40]
    return Compressed(
        np.arange(0, 40 * rows + 1, 40).astype(index),
        indices.astype(index),
        rng.normal(size=40 * rows).astype(dtype),
        (rows, 20_011),
    )
