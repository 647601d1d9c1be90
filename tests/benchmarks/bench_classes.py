"""One training step against the number of classes: the picture on the README's first screen.

Ours and fastText's loop include the SGD step; torch's heads are timed without one, which errs to
their side. The plot shows fastest turns, which other programs on the machine disturb least.
"""

from __future__ import annotations

import gc
import time

import numpy as np

import cython_sparseops as cso
from benchmarks import bench_update
from benchmarks.timing import (
    PAUSE,
    Median,
    batches,
    peer,
    race,
    row,
    set_threads,
    zipf_counts,
    zipf_labels,
)

DIM, SIZE = 128, 1024
CLASSES = 1_000, 10_000, 100_000, 1_000_000
MOST_FULL = 100_000  # logits of a million classes and their gradients are 12 GB
THREADS = 1


def main(quick):
    """Milliseconds of 1,024 examples for each number of classes."""
    set_threads(THREADS)
    out = []
    for n_classes in CLASSES[: 3 if quick else None]:
        out += against_torch(n_classes, quick)
        out += against_fasttext(n_classes, quick)
        gc.collect()
    return out


def against_torch(n_classes, quick):
    """Ours, the full softmax and the adaptive softmax in turns."""
    h = cso.Hierarchy.huffman(zipf_counts(n_classes))
    W, b = cso.init_weights(h, DIM, rng=0)
    data = batches(np.random.default_rng(n_classes), n_classes, SIZE, DIM)
    optimizer = cso.SGD(1e-3)

    def step(i):
        x, y = data[i % len(data)]
        cso.hsoftmax_update(x, W, b, y, h, optimizer)

    calls = {"ours": step}
    if peer("torch") is not None:
        calls |= heads(n_classes, data, quick)
    times = race(calls, budget=10 if quick else 60)
    return rows(n_classes, times.pop("ours"), times)


def heads(n_classes, data, quick):
    """torch's two heads; the adaptive one with the cutoffs that win among themselves."""
    from benchmarks import torch_peers as peers
    from benchmarks.bench_hsoftmax import fastest

    calls = {}
    if n_classes <= MOST_FULL:
        calls["torch full softmax"] = peers.full_softmax(n_classes, DIM, data)
    cutoffs = peers.adaptive_cutoffs(n_classes, quick, SIZE)
    variants = {str(one): peers.adaptive_softmax(n_classes, DIM, data, one) for one in cutoffs}
    return calls | {"torch adaptive softmax": fastest(variants, 3)}


def against_fasttext(n_classes, quick):
    """Whole epochs of both in turns, as in bench_update; a million classes need more labels than
    an epoch of it has."""
    if peer("fasttext") is None or n_classes > 100_000:
        return []
    rng = np.random.default_rng(0)
    labels = zipf_labels(rng, n_classes, 100_000 if quick else 300_000)
    calls = {"ours": bench_update.ours(n_classes, labels, rng)["SGD"]}
    calls |= bench_update.fasttext_loop(peer("fasttext"), labels, THREADS)
    seconds = {name: [] for name in calls}
    for _ in range(2 if quick else 3):
        for name, call in calls.items():
            time.sleep(PAUSE)
            seconds[name].append(call())
    times = {name: Median.of(each) for name, each in seconds.items()}
    loop = "fastText hs loop, reading taken off"
    return rows(n_classes, times["ours"], {"fastText hs loop": times[loop]})


def rows(n_classes, ours, theirs):
    name = f"training step C={n_classes} N={SIZE}"
    return [
        row(
            name,
            who,
            ours,
            ms,
            THREADS,
            classes=n_classes,
            batch=SIZE,
            work="training step",
            ours_best=ours.best,
            peer_best=ms.best,
        )
        for who, ms in theirs.items()
    ]
