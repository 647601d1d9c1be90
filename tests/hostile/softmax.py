"""Calls of the trees and of hierarchical softmax."""

import numpy as np

import cython_sparseops as cso
from hostile.calls import FINITE, RNG, THREADS, arg, make, options

Hierarchy = cso.Hierarchy


def tree(g):
    kind = g.rng.integers(6)
    n = g.one(1, 2, 3, 5, 8, 20)
    if kind == 0:
        return Hierarchy.balanced(n, arity=g.one(2, 3))
    if kind == 1:
        return Hierarchy.two_level(n, logistic=g.chance(0.5))
    if kind == 2:
        return Hierarchy.from_parents([3, 3, 4, 4, -1] if g.chance(0.5) else [5, 5, 6, 5, 6, 6, -1])
    return Hierarchy.huffman(g.rng.integers(0, 50, n), arity=g.one(2, 2, 4))


def rows(g, h, least=0):
    """X, W and b for a tree."""
    n, d, dtype = g.size(least, 6), g.one(1, 2, 3, 7, 16, 33), g.one("f4", "f8")
    b = g.real(h.n_rows, dtype=dtype) if g.chance(0.7) else None
    args = {"X": g.real(n, d, dtype=dtype), "W": g.real(h.n_rows, d, dtype=dtype), "b": b}
    return args, {"X": "array", "W": "array", "b": "array"}


def scored(g, h):
    """As `rows`, with quantised W now and then."""
    args, kinds = rows(g, h)
    if g.chance(0.3):
        args["W"] = cso.quantize(args["W"], g.one("int8", "bfloat16", "float16"))
    return args, kinds


# ---- trees


def huffman(g):
    n = g.size(1, 12)
    counts = arg("counts", "array", g.one(g.ints(n, 0, 90), np.abs(g.real(n))))
    opts = options(
        g,
        arity=("int", [2, 3, 8]),
        max_depth=("int", [None, 4, 9]),
        logistic=("flag", [True, False]),
    )
    return make("huffman", Hierarchy.huffman, counts, opts)


def balanced(g):
    opts = options(g, arity=("int", [2, 5]), logistic=("flag", [True, False]))
    return make("balanced", Hierarchy.balanced, arg("n_classes", "int", g.size(1, 40)), opts)


def two_level(g):
    n = g.size(1, 12)
    classes = g.one(("int", n), ("array", g.ints(n, 0, 90)))
    opts = options(g, n_groups=("int", [None, 1]), by=("choice", ["frequency", "size"]))
    first = arg("counts_or_n_classes", *classes)
    return make("two_level", Hierarchy.two_level, first, opts, names={"counts", "n_classes"})


def from_parents(g):
    n = g.size(2, 9)
    parents = [int(g.rng.integers(i + 1, n + 1)) for i in range(n)] + [-1]
    parents = arg("parents", "array", g.fenced(np.array(parents, g.one("i4", "i8"))))
    opts = options(g, max_children=("int", [None, 2, 3]), logistic=("flag", [True, False]))
    some = options(
        g, classes=("array", [None, g.ints(3, 0, 4)]), counts=("array", [None, g.ints(3, 0, 9)])
    )
    call = make("from_parents", Hierarchy.from_parents, parents, opts, some)
    call.spoilt += [name for name in some[0] if call.args[name] is not None]  # perhaps no leaves
    return call


def from_paths(g):
    h = tree(g)
    parts = [
        arg(k, "array", g.fenced(getattr(h, k))) for k in ("path_ptr", "path_node", "path_child")
    ]
    opts = options(g, logistic=("array", [None, False]))
    return make("from_paths", Hierarchy.from_paths, *parts, opts)


def from_arrays(g):
    arrays = {k: g.fenced(v) for k, v in tree(g).to_arrays().items()}
    if g.chance(0.6):
        name = g.one(*arrays)
        arrays[name] = g.bad_array(arrays[name])
    parts = arg("arrays", "object", arrays), options(g, copy=("flag", [True, False]))
    call = make("from_arrays", Hierarchy.from_arrays, *parts, names=set(arrays))
    call.spoilt.append("arrays")
    return call


def codes(g):
    h = tree(g)
    counts = arg("counts", "array", g.ints(h.n_classes, 0, 90))
    if g.chance(0.3):
        return make("optimal_codes", h.optimal_codes, counts)
    if g.chance(0.5):
        return make("report", h.report, counts, options(g, dim=("int", [None, 8])))
    limit = arg(*g.one(("min_count", "float", 3), ("max_nodes", "int", 2), ("max_depth", "int", 1)))
    return make("prune", h.prune, counts, limit, names={"prune"})


# ---- hierarchical softmax


def labelled(g, h, n):
    return arg("labels", "array", g.ints(n, 0, h.n_classes))


def hsoftmax(g):
    h = tree(g)
    x = scored(g, h)
    n = len(x[0]["X"])
    opts = options(
        g, sample_weight=("array", [None, np.abs(g.real(n))]), ignore_index=("int", [None, -100,
        0]), label_smoothing=("float", [0.0, 0.5]), return_residuals=("flag", [False, True]),
        **FINITE, **THREADS,
    )  # fmt: skip
    return make("hsoftmax", cso.hsoftmax, x, labelled(g, h, n), arg("h", "tree", h), opts)


def gradient(g):
    h = tree(g)
    x = rows(g, h)
    n = len(x[0]["X"])
    y = labelled(g, h, n)
    opts = options(
        g, grad_output=("array", [None, g.real(n)]), sparse=("flag", [True, False]),
        ignore_index=("int", [None, -1]), label_smoothing=("float", [0.0, 0.9]), **FINITE,
        **THREADS,
    )  # fmt: skip
    if g.chance(0.2) and not opts[0].get("ignore_index"):
        kept = cso.hsoftmax(**x[0], **y[0], h=h, return_residuals=True).residuals
        opts[0]["residuals"], opts[1]["residuals"] = g.fenced(kept), "array"
    return make("hsoftmax_gradient", cso.hsoftmax_gradient, x, y, arg("h", "tree", h), opts)


def update(g):
    h = tree(g)
    x = rows(g, h)
    n = len(x[0]["X"])
    optimizer = g.one(
        cso.SGD(0.1),
        cso.Adagrad(0.1, rowwise=g.chance(0.5)),
        cso.Adam(0.01),
        cso.SGD(0.1, weight_decay=0.1),
    )
    opts = options(
        g, sample_weight=("array", [None, np.abs(g.real(n))]), ignore_index=("int", [None, 0]),
        label_smoothing=("float", [0.0, 0.5]), **FINITE, **THREADS,
    )  # fmt: skip
    parts = (
        x,
        labelled(g, h, n),
        arg("h", "tree", h),
        arg("optimizer", "optimizer", optimizer),
        opts,
    )
    names = {"lr", "eps", "betas", "step", "weight_decay", "step_count"}
    call = make("hsoftmax_update", cso.hsoftmax_update, *parts, written={"W", "b"}, names=names)
    if g.chance(0.05):  # overlapping
        call.args["X"] = call.args["W"]
        call.written.add("X")
        call.spoilt.append("X")
    if g.chance(0.05):
        call.args["b"] = call.args["W"].reshape(-1)[: h.n_rows]
        call.spoilt.append("b")
    return call


def search(g):
    h = tree(g)
    opts = options(
        g, k=("int", [1, 3, 30]), beam=("int", [None, 1, 4]), edge_beam=("float", [None, 2.0]),
        nodes=("flag", [False, True]), min_prob=("float", [None, 0.5]), **FINITE, **THREADS,
    )  # fmt: skip
    return make("hsoftmax_search", cso.hsoftmax_search, scored(g, h), arg("h", "tree", h), opts)


def log_proba(g):
    h = tree(g)
    x = scored(g, h)
    n = len(x[0]["X"])
    dtype = x[0]["X"].dtype if isinstance(x[0]["W"], np.ndarray) else np.dtype("f4")
    opts = options(g, **FINITE, **THREADS)
    parts = [x, arg("h", "tree", h), opts]
    written = set()
    if g.chance(0.3):
        parts.append(arg("classes", "array", g.ints(g.one((n,), (n, 3)), 0, h.n_classes)))
    elif g.chance(0.5):
        out, written = g.fenced(np.zeros((n, h.n_classes), dtype)), {"out"}
        parts.append(arg("out", "array", out))
    call = make("hsoftmax_log_proba", cso.hsoftmax_log_proba, *parts, written=written)
    if written and h.n_rows and n == 1 and g.chance(0.3):  # more of one block
        block = g.fenced(np.zeros((n, h.n_rows + h.n_classes), dtype))
        call.args["b"], call.args["out"] = block[0, : h.n_rows], block[:, 1 : h.n_classes + 1]
        call.written.add("b")
        call.spoilt.append("out")
    elif written and g.chance(0.2):
        block = g.fenced(np.zeros((n, 2 * max(h.n_classes, x[0]["X"].shape[1])), dtype))
        call.args["X"] = block[:, : x[0]["X"].shape[1]]
        call.args["out"] = block[:, 1 : h.n_classes + 1]
        call.written.add("X")
        call.spoilt.append("out")
    return call


def node_log_proba(g):
    h = tree(g)
    parts = scored(g, h), arg("h", "tree", h), options(g, **FINITE, **THREADS)
    return make("hsoftmax_node_log_proba", cso.hsoftmax_node_log_proba, *parts)


def sample(g):
    h = tree(g)
    opts = options(g, size=("int", [0, 1, 5]), **RNG, **FINITE, **THREADS)
    return make("hsoftmax_sample", cso.hsoftmax_sample, scored(g, h), arg("h", "tree", h), opts)


def weights(g):
    h = tree(g)
    opts = options(g, dtype=("choice", ["f4", np.float64]), **RNG)
    parts = arg("h", "tree", h), arg("dim", "int", g.size(1, 9)), opts
    if g.chance(0.3):
        for some in parts[2]:
            some.pop("rng", None)
        some = options(g, optimizer=("optimizer", [None, cso.Adam(0.1), cso.Adagrad(0.1)]))
        return make("estimate_memory", cso.estimate_memory, *parts, some)
    return make("init_weights", cso.init_weights, *parts)


def optimizers(g):
    kind = g.one(cso.SGD, cso.Adagrad, cso.Adam)
    if g.chance(0.5):
        opts = {"weight_decay": ("float", [0.0, 0.1])}
        if kind is not cso.SGD:
            opts["eps"] = ("float", [1e-8, 0])
        if kind is cso.Adagrad:
            opts["rowwise"] = ("flag", [True, False])
        if kind is cso.Adam:
            opts["betas"] = (g.one("float", "object"), [(0.9, 0.99), [0, 0.5]])
        parts = arg("lr", "float", 0.1), options(g, **opts)
        return make(kind.__name__, kind, *parts)
    optimizer = kind(0.1)
    optimizer.prepare((3, 4), np.dtype("f4"))
    state = optimizer.state_dict()
    call = make("load_state_dict", kind(0.2).load_state_dict, arg("state", "object", state))
    if g.chance(0.6):
        name = g.one(*state, "other", "state.other", 3)
        state[name] = g.one(g.bad_float, g.bad_int, lambda: g.bad_array(np.zeros((3, 4))))()
        call.spoilt.append("state")
    call.names |= {"lr", "weight_decay", "eps", "betas", "rowwise", "step_count", "first", "second"}
    call.names |= {"b_first", "b_second"}
    return call


def quantize(g):
    opts = options(g, dtype=("choice", ["int8", "bfloat16", "float16"]), **THREADS)
    return make("quantize", cso.quantize, arg("W", "array", g.real(g.size(), g.size(1, 40))), opts)


def quantized(g):
    data = g.ints((g.size(), g.size(1, 9)), -128, 128, "i1")
    kind = g.rng.integers(3)
    if kind == 0:
        arrays = cso.quantize(g.real(3, 4), g.one("int8", "float16")).to_arrays()
        if g.chance(0.6):
            arrays[g.one("data", "scale")] = g.bad_array(data)
        call = make(
            "QuantizedWeights.from_arrays",
            cso.QuantizedWeights.from_arrays,
            arg("arrays", "object", arrays),
        )
        call.spoilt.append("arrays")
        call.names |= {"data", "scale"}
        return call
    if kind == 1:
        parts = arg("data", "array", data), arg("scale", "array", g.real(len(data), dtype="f4"))
        return make("QuantizedWeights", cso.QuantizedWeights, *parts)
    h = tree(g)
    x, kinds = rows(g, h, least=1)  # the means of no rows are nan
    x["reference"], kinds["reference"] = x.pop("W"), kinds.pop("W")
    function = cso.quantize(x["reference"]).evaluate
    y = labelled(g, h, len(x["X"]))
    return make(
        "evaluate", function, (x, kinds), y, arg("h", "tree", h), options(g, **THREADS), names={"W"}
    )


def choose(g):
    """Slow: a few milliseconds, and more where the time budget is spoilt."""
    n = g.size(1, 9)
    given = {"counts": g.ints(n, 0, 90), "dim": 3, "batch_size": 2, "time_budget": 1e-3}
    kinds = {"counts": "array", "dim": "int", "batch_size": "int", "time_budget": "float"}
    return make("choose", Hierarchy.choose, (given, kinds), options(g, **RNG, **THREADS))


def threads(g):
    call = make("set_num_threads", cso.set_num_threads, arg("n", "int", g.size(0, 3)))
    call.close = lambda: cso.set_num_threads(0)
    return call


SPECS = [
    huffman, balanced, two_level, from_parents, from_paths, from_arrays, codes, hsoftmax, gradient,
    update, search, log_proba, node_log_proba, sample, weights, optimizers, quantize, quantized,
    threads,
]  # fmt: skip
