"""Random trees and batches for hypothesis, and the tolerance that goes with a batch."""

import hashlib
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

import cython_sparseops as cso
import reference


class Paths(NamedTuple):
    """Arguments of Hierarchy.from_paths."""

    path_ptr: np.ndarray
    path_node: np.ndarray
    path_child: np.ndarray
    logistic: np.ndarray  # (V,)

    def hierarchy(self):
        return cso.Hierarchy.from_paths(*self[:3], logistic=self.logistic)


def paths_of_splits(splits, flags, rng):
    """Grows a tree: each (i, k) gives the i-th leaf k children. Nodes and classes are renumbered by
    rng; of the nodes with two children those with a true flag are logistic."""
    leaves, widths = [[]], []
    for i, k in splits:
        path = leaves.pop(i % len(leaves))
        leaves += [[*path, (len(widths), j)] for j in range(k)]
        widths.append(k)
    number, order = rng.permutation(len(widths)), rng.permutation(len(leaves))
    steps = [(number[v], j) for c in order for v, j in leaves[c]]
    logistic = np.zeros(len(widths), dtype=bool)
    logistic[number] = [k == 2 and flags[v % len(flags)] for v, k in enumerate(widths)]
    return Paths(
        np.cumsum([0] + [len(leaves[c]) for c in order]),
        np.array([v for v, _ in steps], int),
        np.array([j for _, j in steps], int),
        logistic,
    )


@st.composite
def paths(draw, max_nodes=15, min_nodes=0):
    """Any tree, uneven, of logistic and softmax nodes; nodes and classes numbered at random."""
    split = st.tuples(st.integers(0, 1000), st.sampled_from([2, 2, 2, 3, 5, 17]))
    splits = draw(st.lists(split, min_size=min_nodes, max_size=max_nodes))
    flags = draw(st.lists(st.booleans(), min_size=1, max_size=5))
    return paths_of_splits(splits, flags, np.random.default_rng(draw(st.integers(0, 99))))


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


def counts_of(n_classes, seed=0):
    return np.random.default_rng(seed).zipf(1.3, n_classes).clip(max=10**6)


def parents_of(n_classes, seed=0):
    """A parent array of n_classes inner nodes, each with a leaf of its own; some are chains."""
    rng = np.random.default_rng(seed)
    inner = [-1] + [int(rng.integers(0, i)) for i in range(1, n_classes)]
    return np.array(inner + list(range(n_classes)))


# Every builder at work: name -> f(n_classes).
BUILDERS = {
    "huffman": lambda C: cso.Hierarchy.huffman(counts_of(C)),
    "huffman of arity 5": lambda C: cso.Hierarchy.huffman(counts_of(C), arity=5),
    "softmax huffman": lambda C: cso.Hierarchy.huffman(counts_of(C), logistic=False),
    "limited huffman": lambda C: cso.Hierarchy.huffman(counts_of(C), max_depth=C.bit_length()),
    "balanced": lambda C: cso.Hierarchy.balanced(C),
    "balanced of arity 3": lambda C: cso.Hierarchy.balanced(C, arity=3),
    "two_level": lambda C: cso.Hierarchy.two_level(counts_of(C)),
    "two_level by size": lambda C: cso.Hierarchy.two_level(C, by="size"),
    "from_parents": lambda C: cso.Hierarchy.from_parents(parents_of(C)),
    "from_parents, split": lambda C: cso.Hierarchy.from_parents(parents_of(C), max_children=3),
    "optimal_codes": lambda C: cso.Hierarchy.balanced(C).optimal_codes(counts_of(C)),
    "prune": lambda C: cso.Hierarchy.huffman(counts_of(C)).prune(counts_of(C), max_depth=3),
}
