"""Which tree is the fastest, for loss and gradient and for top-k; when the plain softmax wins.

The `peer` of every row is the binary Huffman tree: a ratio above 1 says that the other tree is
slower.
"""

from __future__ import annotations

import gc

import numpy as np

import cython_sparseops as cso
from benchmarks.timing import batches, race, row, set_threads, thread_counts, zipf_counts

DIM = 128
QUERIES = 256


def trees(n_classes):
    """The candidates by name; the plain softmax where it is not hopeless."""
    counts, Hierarchy = zipf_counts(n_classes), cso.Hierarchy
    out = {f"arity {a}": Hierarchy.huffman(counts, arity=a) for a in (2, 4, 8, 16, 32)}
    out["two-level"] = Hierarchy.two_level(counts)
    if n_classes <= 10_000:
        out["plain softmax"] = Hierarchy.from_parents([n_classes] * n_classes + [-1])
    return out


def main(quick):
    """Loss + gradient of several batches, and exact top-k."""
    out = []
    small = (4, 64) if quick else (2, 4, 8, 16, 32, 64, 256, 1000)
    for n_classes in (*small, 10_000, 100_000, *(() if quick else (1_000_000,))):
        rng = np.random.default_rng(0)
        candidates = trees(n_classes)
        weights = {name: cso.init_weights(h, DIM, rng=0) for name, h in candidates.items()}
        set_threads(thread_counts()[-1])
        for size in (256,) if quick else (128, 1024, 16384):
            out += gradient(rng, n_classes, size, candidates, weights, quick)
        if n_classes >= 64:
            for k in (10,) if quick else (1, 5, 10, 100):
                out += search(rng, n_classes, k, candidates, weights, quick)
        gc.collect()
    return out


def gradient(rng, n_classes, size, candidates, weights, quick):
    data = batches(rng, n_classes, size, DIM, 3)

    def step(name, h):
        W, b = weights[name]
        return lambda i: cso.hsoftmax_gradient(*pick(data, i, W, b), h)

    calls = {
        name: step(name, h)
        for name, h in candidates.items()
        if name != "plain softmax" or size * n_classes < 2e7
    }
    times = race(calls, budget=2 if quick else 20)
    return rows("nll+gradient", n_classes, size, times)


def pick(data, i, W, b):
    x, y = data[i % len(data)]
    return x, W, b, y


def search(rng, n_classes, k, candidates, weights, quick):
    """Queries that every tree answers with about the same certainty (one nat on average)."""
    _, labels = batches(rng, n_classes, QUERIES, DIM, 1)[0]
    calls = {}
    for name, h in candidates.items():
        W, b = weights[name]
        queries = sure_queries(W, b, labels, h)

        def call(i, queries=queries, W=W, b=b, h=h):
            return cso.hsoftmax_search(queries, W, b, h, k)

        calls[name] = call
    times = race(calls, budget=2 if quick else 20)
    return rows(f"top-{k}", n_classes, QUERIES, times)


def sure_queries(W, b, labels, h):
    """Inputs moved towards their labels: down the gradient until the mean loss is one nat."""
    start = np.zeros((len(labels), W.shape[1]), W.dtype)
    way = cso.hsoftmax_gradient(start, W, b, labels, h).X
    low, high = 0.0, 1.0
    while cso.hsoftmax(-high * way, W, b, labels, h).mean() > 1 and high < 1e5:
        low, high = high, 2 * high
    for _ in range(8):
        middle = (low + high) / 2
        loss = cso.hsoftmax(-middle * way, W, b, labels, h).mean()
        low, high = (middle, high) if loss > 1 else (low, middle)
    return -high * way


def rows(work, n_classes, size, times):
    binary = times["arity 2"]
    threads = cso.get_num_threads()
    name = f"{work} C={n_classes} N={size}"
    best = min(times, key=times.get)
    return [
        row(
            f"{name}, binary Huffman",
            who,
            binary,
            ms,
            threads,
            work=f"tree: {work}",
            classes=n_classes,
            batch=size,
            note="fastest" if who == best else "",
        )
        for who, ms in times.items()
    ]
