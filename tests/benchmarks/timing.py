"""How everything here is timed: the contestants take turns, the median of their turns counts."""

from __future__ import annotations

import functools
import gc
import importlib
import math
import os
import sys
import time

import numpy as np

import cython_sparseops as cso

REPEATS = 15  # run.py --quick takes fewer
THREADS = None  # run.py --threads: instead of one, and all
_TURN = 15e-3  # seconds: shorter calls are repeated until a turn lasts as long
PAUSE = 30e-3  # between turns: GCC's OpenMP threads spin for 300 000 pauses of up to 140 cycles


@functools.cache
def peer(name):
    """A peer's module; None, with the reason printed once, if it is not installed."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # a broken build of a peer must not end the run
        print(f"  skipped: {name} ({type(error).__name__}: {error})", file=sys.stderr)
        return None


def set_threads(threads):
    """Ours and those of torch, in step."""
    cso.set_num_threads(threads)
    torch = peer("torch")  # imported here, or its first call would still run on all cores
    if torch is not None:
        torch.set_num_threads(threads)


def thread_counts(quick=False):
    """One, and all; all alone if `quick`; or what THREADS says."""
    if THREADS:
        return THREADS
    everything = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    return ([1, 2] if everything >= 2 else [1])[-1 if quick else 0 :]


def batches(rng, n_classes, size, dim, count=8, dtype=np.float32):
    """`count` batches (X, labels) with Zipf(1) labels, class 0 the most frequent.

    Turns take them in rotation, so that nobody finds the rows of the same examples in the caches.
    """
    return [
        (rng.standard_normal((size, dim)).astype(dtype), zipf_labels(rng, n_classes, size))
        for _ in range(count)
    ]


def zipf_counts(n_classes):
    return 1e6 / np.arange(1, n_classes + 1)


def zipf_labels(rng, n_classes, size):
    steps = np.cumsum(zipf_counts(n_classes))
    drawn = np.searchsorted(steps, rng.random(size) * steps[-1], side="right")
    return np.minimum(drawn, n_classes - 1)


class Median(float):
    """Milliseconds: the median of the turns, and the fastest of them as `best`."""

    best: float

    @classmethod
    def of(cls, seconds):
        self = cls(float(np.median(seconds)) * 1e3)
        self.best = min(seconds) * 1e3
        return self

    def __mul__(self, factor):
        out = Median(float(self) * factor)
        out.best = self.best * factor
        return out


class Call:
    """A contestant: `f(i)` does the work of batch i."""

    def __init__(self, name, f):
        self.name, self.f, self.i, self.loops, self.samples = name, f, 0, 1, []

    def once(self):
        self.f(self.i)
        self.i += 1

    def warm_up(self, least=2, seconds=0.05):
        """At least twice, then so many loops that a turn lasts; the time of one call."""
        took, done, begin = math.inf, 0, time.perf_counter()
        while done < least or time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            self.once()
            took, done = min(took, time.perf_counter() - start), done + 1
            if took > 0.5:
                break
        self.loops = max(1, math.ceil(_TURN / took))
        return took

    def turn(self):
        if self.loops > 1 or (self.samples and self.samples[-1] < 0.02):
            self.once()  # brings its own data back into the caches
        start = time.perf_counter()
        for _ in range(self.loops):
            self.once()
        self.samples.append((time.perf_counter() - start) / self.loops)


def race(calls, *, repeats=None, budget=None):
    """Median milliseconds of each contestant.

    `calls`: {name: f(i)}. They take turns (A B A B ...), `repeats` of them after a warm-up. With a
    `budget` in seconds, one that would take more than its share gets fewer turns, at least three,
    spread over the run.
    """
    repeats = repeats or REPEATS
    runners = [Call(name, f) for name, f in calls.items()]
    turns = {}
    for one in runners:
        took = one.warm_up()
        share = repeats if budget is None else int(budget / len(runners) / (took * one.loops))
        turns[one.name] = max(3, min(repeats, share))
        time.sleep(PAUSE)
    gc.collect()
    gc.disable()
    try:
        for i in range(repeats):
            for one in runners:
                n = turns[one.name]
                if i * n // repeats != (i + 1) * n // repeats:
                    one.turn()
                    time.sleep(PAUSE)
    finally:
        gc.enable()
    return {one.name: Median.of(one.samples) for one in runners}


def row(name, against, ours_ms, peer_ms, threads, goal=None, **more):
    """A line of the table of results. The ratio is of the medians; `ratio_best` is of the fastest
    turns, which other programs on the machine disturb least."""
    ratio = peer_ms / ours_ms if peer_ms is not None and ours_ms else None
    if ratio is not None:
        note = f"  {name} | {against} | threads {threads} | {ours_ms:.4g} ms | x {ratio:.3g}"
        print(note, file=sys.stderr, flush=True)
    best = None
    if isinstance(ours_ms, Median) and isinstance(peer_ms, Median):
        best = peer_ms.best / ours_ms.best
    return {
        "name": name,
        "peer": against,
        "ours_ms": ours_ms,
        "peer_ms": peer_ms,
        "ratio": ratio,
        "ratio_best": best,
        "threads": threads,
        "goal": goal,
    } | more
