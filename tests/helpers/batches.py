"""Random batches for hypothesis, their tolerances, all results on them and their digest."""

import hashlib
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

import cython_sparseops as cso
from helpers import reference
from helpers.hierarchies import paths


class Batch(NamedTuple):
    X: np.ndarray
    W: np.ndarray
    b: np.ndarray | None
    labels: np.ndarray
    h: object

    @property
    def tree(self):
        return reference.Tree.of(self.h)

    @property
    def scale(self):
        """The largest sum of |terms| of a logit: its rounding errors are in proportion to it."""
        if self.W.size == 0 or self.X.size == 0:
            return 1.0
        terms = np.abs(self.X).astype(float) @ np.abs(self.W).astype(float).T
        return float((terms + (0 if self.b is None else np.abs(self.b))).max()) + 1

    @property
    def tolerance(self):
        """Of a log-probability: 8 eps a logit on the path, in units of its terms."""
        return 8 * np.finfo(self.X.dtype).eps * max(self.h.depth, 1) * self.scale

    def gradient_tolerance(self, upstream=1.0):
        """Of dX, dW, db: that of a delta, times what it is multiplied by, over all summed."""
        largest = max((np.abs(a).max(initial=1.0) for a in (self.X, self.W)), default=1.0)
        widest = np.diff(self.h.row_ptr).max(initial=1)
        return self.tolerance * upstream * largest * max(len(self.X), widest)


def make_batch(h, N=7, D=5, dtype="float64", bias=True, index="int64", scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, D)).astype(dtype)
    W = (scale * rng.normal(size=(h.n_rows, D))).astype(dtype)
    b = rng.normal(size=h.n_rows).astype(dtype) if bias else None
    return Batch(X, W, b, rng.integers(0, h.n_classes, N).astype(index), h)


@st.composite
def batches(draw, max_nodes=15, min_rows=0, dtypes=("float32", "float64")):
    h = draw(paths(max_nodes)).hierarchy()
    return make_batch(
        h,
        N=draw(st.integers(min_rows, 9)),
        D=draw(st.sampled_from([1, 2, 3, 16, 37])),
        dtype=draw(st.sampled_from(dtypes)),
        bias=draw(st.booleans()),
        index=draw(st.sampled_from(["int32", "int64"])),
        scale=draw(st.sampled_from([0.1, 1.0, 8.0])),
        seed=draw(st.integers(0, 10**6)),
    )


def read_only(*arrays):
    out = [None if a is None else a.copy() for a in arrays]
    for a in out:
        if a is not None:
            a.flags.writeable = False
    return out


def all_results(X, W, b, labels, h, **options):
    """Every result of hierarchical softmax, as a list of arrays."""
    g = cso.hsoftmax_gradient(X, W, b, labels, h, **options)
    dense = cso.hsoftmax_gradient(X, W, b, labels, h, sparse=False, **options)
    return [
        *cso.hsoftmax(X, W, b, labels, h, return_residuals=True, **options),
        g.nll,
        g.X,
        g.rows,
        g.W,
        g.b,
        dense.X,
        dense.W,
        dense.b,
        cso.hsoftmax_log_proba(X, W, b, h, **options),
        cso.hsoftmax_log_proba(X, W, b, h, classes=labels, **options),
        cso.hsoftmax_node_log_proba(X, W, b, h, **options),
        cso.hsoftmax_sample(X, W, b, h, 3, rng=0, **options),
    ]


def digest(arrays):
    return hashlib.sha256(b"|".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()
