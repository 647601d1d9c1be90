"""Calls of training on sparse rows and of the weights that come out."""

import numpy as np

import cython_sparseops as cso
from hostile.calls import FINITE, THREADS, arg, make, options
from hostile.csr import compressed
from hostile.softmax import tree


def rows(g):
    """A tree, X in float32, and a class for each row."""
    h = tree(g)
    X = compressed(g, g.size(1, 6), g.one(1, 2, 7, 20), dtype="f4")
    return h, X, g.ints(X.shape[0], 0, h.n_classes)


def weights(g, h, features):
    """Weights of this tree, any."""
    places = [np.sort(g.rng.permutation(features)[: g.size(0, features)]) for _ in range(h.n_nodes)]
    sizes, slots = [], []
    for v, used in enumerate(places):
        n = int(h.row_ptr[v + 1] - h.row_ptr[v])
        for _ in used:
            own = np.sort(g.rng.permutation(n)[: g.size(0, n)])
            sizes.append(len(own))
            slots.extend(own)
    arrays = {
        "row_ptr": h.row_ptr,
        "feature_ptr": np.cumsum([0, *map(len, places)], dtype=np.int64),
        "feature": np.concatenate([*places, np.empty(0)]).astype(np.int32),
        "entry_ptr": np.cumsum([0, *sizes], dtype=np.int64),
        "slot": np.array(slots, np.uint16),
        "weight": g.real(len(slots), dtype="f4"),
        "bias": g.real(h.n_rows, dtype="f4"),
        "temperature": np.ones(h.depth, np.float32),
        "shape": np.array([h.n_rows, features]),
    }
    return cso.SparseWeights.from_arrays({name: np.array(array) for name, array in arrays.items()})


def train(g):
    h, X, labels = rows(g)
    start = weights(g, h, X.shape[1]) if g.chance(0.4) else None
    opts = options(
        g, loss=("choice", ["squared_hinge", "softmax", "logistic"]), C=("float", [0.5, 3.0]),
        threshold=("float", [0.0, 0.1]), tol=("float", [0.1, 1.0]), max_iter=("int", [1, 4]),
        sample_weight=("array", [np.ones(X.shape[0])]), validation=("float", [0.0, 0.3]),
        rng=("rng", [0, 7]), **THREADS,
    )  # fmt: skip
    parts = arg("X", "csr", X), arg("labels", "array", labels), arg("h", "tree", h)
    return make("linear_train", cso.linear_train, *parts, arg("start", "object", start), opts)


def from_arrays(g):
    arrays = weights(g, tree(g), g.one(1, 3, 9)).to_arrays()
    if g.chance(0.7):
        name = g.one(*arrays)
        arrays = {**arrays, name: g.bad_array(np.array(arrays[name]))}
    call = make(
        "SparseWeights.from_arrays", cso.SparseWeights.from_arrays, arg("arrays", "object", arrays),
        names=set(arrays),
    )  # fmt: skip
    call.spoilt.append("arrays")
    return call


def scored(g):
    """Any operator that takes sparse rows of W."""
    h = tree(g)
    X = compressed(g, g.size(0, 6), g.one(1, 2, 7, 20), dtype="f4")
    parts = [
        arg("X", "csr", X),
        arg("W", "object", weights(g, h, X.shape[1])),
        arg("b", "constant", None),
    ]
    if g.chance(0.4):
        more = options(g, k=("int", [1, 3, 30]), beam=("int", [None, 1, 4]), **FINITE, **THREADS)
        return make("hsoftmax_search", cso.hsoftmax_search, *parts, arg("h", "tree", h), more)
    if g.chance(0.5):
        labels = arg("labels", "array", g.ints(X.shape[0], 0, h.n_classes))
        some = options(g, **FINITE, **THREADS)
        return make("hsoftmax", cso.hsoftmax, *parts, labels, arg("h", "tree", h), some)
    some = options(g, **FINITE, **THREADS)
    function = g.one(cso.hsoftmax_log_proba, cso.hsoftmax_node_log_proba)
    return make(function.__name__, function, *parts, arg("h", "tree", h), some)


def changed(g):
    W = weights(g, tree(g), g.one(1, 3, 9))
    if g.chance(0.5):
        return make("SparseWeights.prune", W.prune, arg("threshold", "float", 0.5))
    some = options(
        g, ord=("choice", ["l2", "l1", "max"]), norm=("float", [1.0, 0.0]),
        max_norm=("flag", [True, False]), prune=("flag", [True, False]), **THREADS,
    )  # fmt: skip
    parts = arg("W", "object", W), arg("axis", "int", g.one(0, 1)), some
    return make("sparse_normalize", cso.sparse_normalize, *parts)


SPECS = [train, from_arrays, scored, changed]
