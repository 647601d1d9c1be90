"""Training end to end against fastText's hierarchical softmax: equal epochs and width."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.data import FastTextFile, synthetic, texts, wordnet
from benchmarks.fasttext_peer import fasttext_model
from benchmarks.timing import peer, row, set_threads, thread_counts
from cython_sparseops.sklearn import HSoftmaxClassifier

DIM, EPOCHS = 100, 5
RATES = (0.2, 0.5, 1.0)  # fastText's best of these, by P@1
OPTIMIZERS = ("adagrad", "rowwise_adagrad")  # the default, and the one with less to move


def main(quick):
    """WordNet and a synthetic set of 20 000 classes, one thread and all."""
    sets = [wordnet(), synthetic(20_000, 40_000 if quick else 200_000, 5_000)]
    return [one for data in sets for one in compare(data, quick)]


def compare(data, quick):
    """Rows of one data set."""
    fasttext, out = peer("fasttext"), []
    words = texts(data.X_test) if fasttext is not None else []
    with FastTextFile(data.X, data.y) as path:
        rate = 1.0
        if fasttext is not None and not quick:
            rate = max(RATES, key=lambda lr: theirs(fasttext, path, words, data, 2, lr)[1])
        for threads in reversed(thread_counts()):
            set_threads(threads)
            our_runs, their_runs = {optimizer: [] for optimizer in OPTIMIZERS}, []
            for _ in range(1 if quick else 3):
                for optimizer, runs in our_runs.items():
                    runs.append(ours(data, optimizer))
                if fasttext is not None:
                    their_runs.append(theirs(fasttext, path, words, data, threads, rate))
            for optimizer, runs in our_runs.items():
                out += rows(data, optimizer, threads, runs, their_runs, rate)
    return out


def rows(data, optimizer, threads, our_runs, their_runs, rate):
    ours_s, ours_hit = np.median(our_runs, axis=0)
    name = f"training {data.name}, {EPOCHS} epochs, dim {DIM}, {optimizer}"
    speed = EPOCHS * len(data.y) / ours_s
    note = f"P@1 {ours_hit:.3f}; {speed:,.0f} examples/s"
    if not their_runs:
        return [row(name, "none installed", ours_s * 1e3, None, threads, note=note)]
    whole_s, hit, first_s = np.median(their_runs, axis=0)
    alone_s = (whole_s - first_s) * EPOCHS / (EPOCHS - 1)
    note = f"P@1 {ours_hit:.3f} against {hit:.3f} (lr {rate}); {speed:,.0f} examples/s"
    more = {"note": note, "p_at_1": ours_hit, "peer_p_at_1": hit}
    return [
        row(name, "fastText hs, epochs alone", ours_s * 1e3, alone_s * 1e3, threads, 2, **more),
        row(name, "fastText hs, whole call", ours_s * 1e3, whole_s * 1e3, threads, **more),
    ]


def ours(data, optimizer):
    """Seconds of fit, the tree included, and P@1."""
    model = HSoftmaxClassifier(hidden_dim=DIM, optimizer=optimizer, epochs=EPOCHS, random_state=0)
    start = time.perf_counter()
    model.fit(data.X, data.y)
    seconds = time.perf_counter() - start
    return seconds, float(np.mean(model.predict(data.X_test) == data.y_test))


def theirs(fasttext, path, words, data, threads, rate):
    """Seconds of the call, P@1, and seconds of a call with one epoch."""
    options = {"dim": DIM, "lr": rate, "thread": threads}
    first, _ = fasttext_model(fasttext, path, epoch=1, **options)
    seconds, model = fasttext_model(fasttext, path, epoch=EPOCHS, **options)
    found = model.predict(words, k=1)[0]
    hits = [
        bool(one) and one[0] == f"__label__{y}" for one, y in zip(found, data.y_test, strict=True)
    ]
    return seconds, float(np.mean(hits)), first
