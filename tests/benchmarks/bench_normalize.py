"""Normalise against its peers; `python tests/benchmarks/run.py --only normalize`."""

import sys

import numpy as np

import cython_sparseops as cso
from benchmarks.timing import race, thread_counts


def row(name, peer, ours, theirs, threads, goal):
    ours_ms, peer_ms = race({"ours": lambda _: ours(), "peer": lambda _: theirs()}).values()
    return {
        "name": name,
        "peer": peer,
        "ours_ms": ours_ms,
        "peer_ms": peer_ms,
        "ratio": peer_ms / ours_ms,
        "threads": threads,
        "goal": goal,
    }


def matrices(quick):
    """CSR with 30 random entries a row; its transpose as CSC, 30 a column; itself as CSC."""
    sp = __import__("scipy.sparse", fromlist=["csr_array"])
    rows, cols = (60_000, 6_000) if quick else (1_000_000, 100_000)
    rng = np.random.default_rng(0)
    parts = (
        rng.random(rows * 30, dtype=np.float32) + np.float32(0.1),
        rng.integers(0, cols, rows * 30, dtype=np.int32),
        np.arange(0, rows * 30 + 1, 30, dtype=np.int32),
    )
    csr = sp.csr_matrix(parts, shape=(rows, cols))
    return csr, sp.csc_matrix(parts, shape=(cols, rows)), csr.tocsc()


def sparse_rows(quick, threads):
    """The peers get copy=False too: scikit-learn works in place where it can."""
    from scipy.sparse import diags_array
    from sklearn.preprocessing import normalize

    csr, csc, tall = matrices(quick)
    copy = np.empty_like(csr.data)

    def scipy_columns():
        size = np.sqrt(np.asarray(csr.multiply(csr).sum(axis=0)).ravel())
        return csr @ diags_array(1 / np.where(size > 0, size, 1))

    def ours(W, axis):
        return lambda: cso.sparse_normalize(W, axis=axis, copy=False, num_threads=threads)

    def theirs(W, axis):
        return lambda: normalize(W, axis=axis, copy=False)

    def plain():
        np.copyto(copy, csr.data)

    work = [
        ("CSR columns, in place", "scikit-learn", ours(csr, 0), theirs(csr, 0), 12),
        ("CSR columns, in place", "SciPy product with diags", ours(csr, 0), scipy_columns, None),
        ("CSR rows, in place", "scikit-learn", ours(csr, 1), theirs(csr, 1), 6),
        ("CSC rows, 300 entries each", "scikit-learn", ours(csc, 1), theirs(csc, 1), 20),
        ("CSC rows, 30 entries each", "scikit-learn", ours(tall, 1), theirs(tall, 1), 20),
        ("CSC columns, in place", "scikit-learn", ours(csc, 0), theirs(csc, 0), None),
        ("CSR rows, in place", "plain copy of the values", ours(csr, 1), plain, 0.6),
    ]
    return [row(n, p, a, b, threads, goal) for n, p, a, b, goal in work]


def dense_rows(quick, threads):
    from sklearn.preprocessing import normalize

    X = np.random.default_rng(1).normal(size=(10_000 if quick else 200_000, 128)).astype(np.float32)
    other = np.empty_like(X)
    out = []
    for axis, name in ((1, "dense rows"), (0, "dense columns")):
        ours = lambda axis=axis: cso.sparse_normalize(X, axis=axis, copy=False, num_threads=threads)  # noqa: E731
        theirs = lambda axis=axis: normalize(X, axis=axis, copy=False)  # noqa: E731
        out.append(row(f"{name}, in place", "scikit-learn", ours, theirs, threads, None))
        copy = lambda: np.copyto(other, X)  # noqa: E731
        out.append(row(f"{name}, in place", "plain copy", ours, copy, threads, 0.6))
    return out


def table_rows(quick, threads):
    """A tenth of the rows of a table; all are too long because each call asks for less."""
    size, named = (100_000, 10_000) if quick else (1_000_000, 100_000)
    rng = np.random.default_rng(2)
    table = rng.standard_normal((size, 128), dtype=np.float32)
    rows = rng.integers(0, size, named)
    state = {"norm": 1.0}

    def shrink():  # every call scales every row: the norm halves
        state["norm"] *= 0.98
        return state["norm"]

    def ours():
        cso.sparse_normalize_rows(table, rows, norm=shrink(), num_threads=threads)

    def numpy_gather():
        distinct = np.unique(rows)
        part = table[distinct]
        sizes = np.sqrt(np.einsum("ij,ij->i", part, part))
        part *= np.minimum(1, shrink() / sizes)[:, None]
        table[distinct] = part

    def ours_nothing():
        cso.sparse_normalize_rows(table, rows, norm=1e6, num_threads=threads)

    long, short = "indexed rows, all too long", "indexed rows, none too long"
    work = [(long, "NumPy gather, scale, scatter", ours, numpy_gather, 6)]
    try:
        import torch

        torch.set_num_threads(threads)
        weight, index = torch.from_numpy(table), torch.from_numpy(rows)
        renorm = torch.embedding_renorm_
        peer = "torch.embedding_renorm_"
        work += [
            (long, peer, ours, lambda: renorm(weight, index, shrink(), 2.0), 25),
            (short, peer, ours_nothing, lambda: renorm(weight, index, 1e6, 2.0), 25),
        ]
    except ImportError:
        print("torch is not here: its rows are left out", file=sys.stderr)
    part = np.empty((named, 128), np.float32)
    gather = lambda: np.take(table, rows, 0, part)  # noqa: E731
    work.append((short, "plain gather of the rows", ours_nothing, gather, 0.6))
    return [row(n, p, a, b, threads, goal) for n, p, a, b, goal in work]


def main(quick):
    """One row a measurement: name, peer, ours_ms, peer_ms, ratio, threads, goal."""
    out = []
    for threads in thread_counts(quick):
        for part in (sparse_rows, dense_rows, table_rows):
            out += part(quick, threads)
    return out
