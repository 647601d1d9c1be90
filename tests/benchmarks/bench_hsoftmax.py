"""Loss and sparse gradient against torch: full softmax, adaptive softmax, gathered paths."""

from __future__ import annotations

import gc

import numpy as np

import cython_sparseops as cso
from benchmarks.timing import batches, peer, race, row, set_threads, thread_counts, zipf_counts

DIM = 128
CAFFE2_MS = 29.5  # recorded on another machine of this kind; cannot run in the same process


def main(quick):
    """Rows of all shapes; goals at those that have one."""
    torch = peer("torch")
    out = []
    shapes = {10_000: (1024,), 100_000: (1, 128, 1024)}
    if not quick:
        shapes = dict.fromkeys((10_000, 100_000, 1_000_000), (1, 128, 1024, 16384))
    for n_classes, sizes in shapes.items():
        rng = np.random.default_rng(n_classes)
        h = cso.Hierarchy.huffman(zipf_counts(n_classes))
        W, b = cso.init_weights(h, DIM, rng=0)
        for size in sizes:
            data = batches(rng, n_classes, size, DIM, 4 if size > 1024 else 8)
            calls = {"ours": ours(W, b, h, data)}
            if torch is not None:
                calls |= peers_of(n_classes, size, h, W, data, quick)
            before = {}
            for threads in thread_counts():
                set_threads(threads)
                out += measure(calls, n_classes, size, threads, quick, before)
            gc.collect()
        out += scaling(out, n_classes)
    return out + caffe2(quick)


def ours(W, b, h, data):
    def step(i):
        x, y = data[i % len(data)]
        return cso.hsoftmax_gradient(x, W, b, y, h)

    return step


def peers_of(n_classes, size, h, W, data, quick):
    """The peers that this shape allows."""
    from benchmarks import torch_peers as peers

    calls = {}
    costly = size * n_classes > (2e6 if quick else 1.1e8)
    if n_classes <= 100_000 and (not costly or (size, n_classes) == (1024, 100_000)):
        full = peers.full_softmax(n_classes, DIM, data)
        if full is not None:
            calls["torch full softmax"] = full
    if not costly or (size, n_classes) == (1024, 100_000):
        adaptive = {
            str(cutoffs): peers.adaptive_softmax(n_classes, DIM, data, cutoffs)
            for cutoffs in peers.adaptive_cutoffs(n_classes, quick, size)
        }
        calls["torch adaptive softmax"] = fastest(adaptive, 3 if quick else 5)
    return calls | {f"gather {way}": f for way, f in peers.path_gathers(h, W, data).items()}


def fastest(variants, repeats):
    """The peer at its best: the variant that wins a race among themselves."""
    set_threads(1)
    times = race(variants, repeats=repeats, budget=2 if repeats == 3 else 6)
    return variants[min(times, key=lambda name: times[name].best)]


def measure(calls, n_classes, size, threads, quick, before):
    """Rows of one shape. The path gather is the best of its ways; a peer that was faster on fewer
    threads, as kept in `before`, is shown as it was there."""
    times = race(calls, budget=4 if quick else 12)
    ways = [times.pop(name) for name in list(times) if name.startswith("gather ")]
    if ways:
        times["torch path gather"] = min(ways)
    for who in set(times) - {"ours"}:
        before[who] = times[who] = min(times[who], before.get(who, times[who]))
    name = f"nll+gradient C={n_classes} N={size}"
    more = {"classes": n_classes, "batch": size, "work": "nll+gradient"}
    return [
        row(name, who, times["ours"], ms, threads, goal(who, n_classes, size, threads), **more)
        for who, ms in times.items()
        if who != "ours" or len(times) == 1
    ]


def goal(who, n_classes, size, threads):
    """The ratio that was asked for, on all threads."""
    if n_classes != 100_000 or threads == 1:
        return None
    goals = {
        ("torch adaptive softmax", 1024): 120,
        ("torch full softmax", 1024): 2000,
        ("torch path gather", 1024): 6,
        ("torch path gather", 1): 30,
        ("torch path gather", 128): 3,
    }
    return goals.get((who, size))


def scaling(rows, n_classes):
    """Two threads against one, of ours."""
    times = {
        (r["batch"], r["threads"]): r["ours_ms"] for r in rows if r.get("classes") == n_classes
    }
    return [
        row(
            f"nll+gradient C={n_classes} N={size}",
            "itself on 1 thread",
            times[size, 2],
            times[size, 1],
            2,
            1.7 if size >= 4096 else None,
        )
        for size in sorted(
            {size for size, threads in times if {(size, 1), (size, 2)} <= times.keys()}
        )
    ]


def caffe2(quick):
    """Two-row softmax nodes, D = 256, as Caffe2's operator has them."""
    h = cso.Hierarchy.huffman(zipf_counts(100_000), logistic=False)
    W, b = cso.init_weights(h, 256, rng=0)
    data = batches(np.random.default_rng(0), 100_000, 1024, 256)
    out = []
    for threads in thread_counts():
        set_threads(threads)
        ms = race({"ours": ours(W, b, h, data)})["ours"]
        name = "nll+gradient C=100000 N=1024 D=256, two-row nodes"
        goal = 12 if threads == 2 else None
        out.append(row(name, "Caffe2 (recorded 29.5 ms)", ms, CAFFE2_MS, threads, goal))
    return out
