"""Dropout against what a user would otherwise take."""

import sys

import numpy as np

import cython_sparseops as cso
from benchmarks.bench_normalize import row
from benchmarks.timing import thread_counts


def numpy_peers(x, rate, copy):
    rng = np.random.default_rng(0)
    half = np.float32(0.5)

    def where():
        return np.where(rng.random(x.shape, dtype=np.float32) < rate, half, x)

    def plain():
        np.copyto(copy, x)

    return [
        ("NumPy where + random", where, 8),
        ("plain copy", plain, 0.6),
        ("plain copy, new array", x.copy, 0.6),
    ]


def torch_peers(x, rate, threads):
    try:
        import torch
    except ImportError:
        print("torch is not here: its rows are left out", file=sys.stderr)
        return []
    torch.set_num_threads(threads)
    t, half = torch.from_numpy(x), torch.tensor(0.5)

    def where():
        return torch.where(torch.empty_like(t).bernoulli_(rate).bool(), half, t)

    return [
        ("torch where + bernoulli", where, 20),
        ("torch dropout", lambda: torch.nn.functional.dropout(t, rate), None),
    ]


def main(quick):
    """One row a measurement: name, peer, ours_ms, peer_ms, ratio, threads, goal."""
    x = np.random.default_rng(0).random(500_000 if quick else 10_000_000, dtype=np.float32)
    own = x.copy()
    out = []
    for threads in thread_counts(quick):

        def new(threads=threads):
            return cso.sparse_dropout_with_replacement(x, 0.3, 0.5, rng=1, num_threads=threads)

        def in_place(threads=threads):
            cso.sparse_dropout_with_replacement(
                own, 0.3, 0.5, rng=1, copy=False, num_threads=threads
            )

        peers = torch_peers(x, 0.3, threads) + numpy_peers(x, 0.3, np.empty_like(x))
        for peer, function, goal in peers:
            if peer != "plain copy":
                out.append(row("element dropout, new array", peer, new, function, threads, goal))
            if peer != "plain copy, new array":
                name = "element dropout, in place"
                out.append(row(name, peer, in_place, function, threads, goal))
    return out
