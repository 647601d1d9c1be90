"""Calls of the sparse operators."""

import numpy as np

import cython_sparseops as cso
from hostile.calls import FINITE, RNG, THREADS, arg, make, options
from hostile.csr import compressed


def bag(g):
    n, f, dtype = g.size(), g.size(1, 9), g.one("f4", "f8")
    parts = (
        arg("X", "csr", compressed(g, n, f, dtype)),
        arg("E", "array", g.real(f, g.size(1, 20), dtype=dtype)),
    )
    opts = options(g, mode=("choice", ["mean", "sum"]), **THREADS)
    return make("embedding_bag", cso.embedding_bag, *parts, opts)


def matrix(g, dtype=None):
    """A sparse or dense matrix."""
    shape, dtype = (g.size(), g.size()), dtype or g.one("f4", "f8", "f2")
    if g.chance(0.5):
        return "csr", compressed(g, *shape, dtype, g.one("csr", "csc"))
    return "array", g.real(*shape, dtype=dtype)


def normalize(g):
    kind, W = matrix(g)
    opts = options(
        g, axis=("choice", [0, 1]), ord=("choice", ["l2", "l1", "max"]), norm=("float", [1.0, 0.0,
        3.5]), max_norm=("flag", [True, False]), threshold=("float", [0.0, 0.5]), copy=("flag",
        [True, False]), return_norms=("flag", [True, False]), **FINITE, **THREADS,
    )  # fmt: skip
    if kind == "csr" and opts[0].get("copy", True) and g.chance(0.2):
        opts[0]["prune"], opts[1]["prune"] = True, "flag"
    call = make("sparse_normalize", cso.sparse_normalize, arg("W", kind, W), opts)
    call.written = {"W"} if opts[0].get("copy") is False else set()
    return call


def normalize_rows(g):
    shape = (g.size(1, 8), *g.one((3,), (17,), (2, 3), ()))
    param = g.real(*shape, dtype=g.one("f4", "f8", "f2"))
    opts = options(
        g, norm=("float", [1.0, 0.0]), max_norm=("flag", [True, False]), **FINITE, **THREADS
    )
    parts = arg("param", "array", param), arg("rows", "array", g.ints(g.size(), 0, shape[0]))
    return make("sparse_normalize_rows", cso.sparse_normalize_rows, *parts, opts, written={"param"})


def normalize_gradient(g):
    kind, W = matrix(g, g.one("f4", "f8"))
    if kind == "csr":
        W.data, W.indices = W.data[: W.indptr[-1]], W.indices[: W.indptr[-1]]
    grad = g.real(*(W.data.shape if kind == "csr" else W.shape))
    opts = options(
        g,
        axis=("choice", [0, 1]),
        norm=("float", [1.0, 0.0]),
        max_norm=("flag", [True, False]),
        **FINITE,
        **THREADS,
    )
    parts = arg("W", kind, W), arg("grad", "array", grad), opts
    return make("sparse_normalize_gradient", cso.sparse_normalize_gradient, *parts)


def dropout(g):
    kind, x = matrix(g)
    some = {"per": ("choice", ["array", "column"])} if g.chance(0.5) else {}
    replacement = g.one(
        ("float", 0.5), ("choice", "mean"), ("choice", "median"), ("array", g.real())
    )
    if some:
        replacement = g.one(("choice", "mean"), ("choice", "median"))
    opts = options(
        g, start=("int", [0, 5, 1 << 40]), copy=("flag", [True, False]), **RNG, **FINITE,
        **THREADS, **some, return_mask=("choice", [False, True, "bool", "packed"]),
    )  # fmt: skip
    parts = (
        arg("x", kind, x),
        arg("rate", "float", g.one(0, 0.5, 1)),
        arg("replacement", *replacement),
    )
    call = make(
        "sparse_dropout_with_replacement", cso.sparse_dropout_with_replacement, *parts, opts
    )
    call.written = {"x"} if opts[0].get("copy") is False else set()
    return call


def dropout_segments(g):
    lengths = g.ints(g.size(), 0, 4, g.one("i4", "i8"))
    ids = g.ints(int(lengths.sum()), 0, 99, g.one("i4", "i8"))
    given = arg("lengths", "array", lengths)
    if g.chance(0.3):
        given[0]["lengths"], given[0]["offsets"] = (
            None,
            g.fenced(np.concatenate([[0], np.cumsum(lengths)])),
        )
        given[1]["offsets"] = "array"
    opts = options(g, per_item=("flag", [True, False]), start=("int", [0, 9]), **RNG, **THREADS)
    parts = (
        arg("ids", "array", ids),
        given,
        arg("rate", "float", 0.5),
        arg("replacement", "int", -1),
    )
    return make("sparse_dropout_segments", cso.sparse_dropout_segments, *parts, opts)


def dropout_gradient(g):
    kind, grad = matrix(g)
    shape = (int(grad.indptr[-1]),) if kind == "csr" else grad.shape
    mask = g.fenced(g.rng.random(shape) < 0.5)
    if g.chance(0.3):
        mask = np.packbits(mask.reshape(-1), bitorder="little")
    full = grad.shape
    cells = [(), 1, (1, 1), full, (1, full[1]), (full[0], 1)]
    opts = options(g, replacement_shape=(g.one("int", "object"), cells), **THREADS)
    parts = arg("grad", kind, grad), arg("mask", "array", mask), opts
    return make(
        "sparse_dropout_gradient", cso.sparse_dropout_gradient, *parts, names={"replacement"}
    )


SPECS = [
    bag, normalize, normalize_rows, normalize_gradient, dropout, dropout_segments, dropout_gradient,
]  # fmt: skip
