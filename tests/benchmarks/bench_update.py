"""The fused training step, an example, against the loops of fastText and gensim.

All go over the same labels for 4 epochs and for 1; the time an example is the difference over the
examples that the longer run has more. fastText is run through its Python build on lines of one word
and one label, so that next to the walk down the tree there is hardly anything to do: in the
difference start-up and reading the dictionary cancel. What is left holds reading a line of text;
the same difference with dim 1 is taken off as an upper bound of it.
"""

from __future__ import annotations

import time

import numpy as np

import cython_sparseops as cso
from benchmarks.data import FastTextFile
from benchmarks.fasttext_peer import fasttext_model
from benchmarks.timing import (
    PAUSE,
    Median,
    batches,
    peer,
    row,
    set_threads,
    thread_counts,
    zipf_counts,
    zipf_labels,
)

DIM, SIZE = 128, 1024
FEW, MANY = 1, 4  # epochs
GOALS = {1: 2.5, 2: 4.0}


def main(quick):
    """Milliseconds of 1024 examples."""
    out = []
    for n_classes in (10_000, 100_000):
        rng = np.random.default_rng(0)
        labels = zipf_labels(rng, n_classes, 100_000 if quick else 300_000)
        calls = ours(n_classes, labels, rng)
        for threads in thread_counts():
            set_threads(threads)
            out += compare(n_classes, labels, calls, threads, quick)
    return out


def compare(n_classes, labels, calls, threads, quick):
    """Ours and the peers in turn, a few rounds of each."""
    theirs = {}
    if peer("fasttext") is not None:
        theirs |= fasttext_loop(peer("fasttext"), labels, threads)
    if peer("gensim") is not None and not quick:
        theirs |= gensim_loop(labels, threads)
    seconds = {name: [] for name in (*calls, *theirs)}
    for _ in range(2 if quick else 3):
        for name, call in (calls | theirs).items():
            time.sleep(PAUSE)
            seconds[name].append(call())
    times = {name: Median.of(all_of_it) for name, all_of_it in seconds.items()}
    ours_ms = {name: times[name] for name in calls}
    return rows(n_classes, threads, ours_ms, {name: times[name] for name in theirs})


def rows(n_classes, threads, times, against):
    name = f"update C={n_classes} N={SIZE}"
    more = {"classes": n_classes, "batch": SIZE, "work": "update"}
    sgd = times["SGD"]
    out = [
        row(f"{name} {kind}", who, times[kind], ms, threads, goal_of(who, threads), **more)
        for kind in ("SGD", "SGD, bfloat16")
        for who, ms in against.items()
    ]
    out += [
        row(f"{name} {kind}", "our SGD", ms, sgd, threads)
        for kind, ms in times.items()
        if ms != sgd
    ]
    return out


def goal_of(who, threads):
    return GOALS.get(threads) if who == "fastText hs loop, reading taken off" else None


def more_epochs(seconds, examples):
    """Seconds of 1024 examples, where seconds(n) is the time of n epochs."""
    return (seconds(MANY) - seconds(FEW)) / ((MANY - FEW) * examples) * SIZE


def ours(n_classes, labels, rng):
    """Each optimiser on weights of its own."""
    h = cso.Hierarchy.huffman(zipf_counts(n_classes))
    data = [x for x, _ in batches(rng, n_classes, SIZE, DIM)]
    steps = [labels[i : i + SIZE] for i in range(0, len(labels) - SIZE + 1, SIZE)]
    optimizers = {
        "SGD": (cso.SGD(1e-3), None),
        "SGD, bfloat16": (cso.SGD(1e-3), "bfloat16"),
        "Adagrad": (cso.Adagrad(1e-3), None),
        "Adagrad rowwise": (cso.Adagrad(1e-3, rowwise=True), None),
        "Adagrad rowwise, bfloat16": (cso.Adagrad(1e-3, rowwise=True), "bfloat16"),
    }

    def loop(optimizer, kind):
        W, b = cso.init_weights(h, DIM, rng=0)
        W = W if kind is None else cso.quantize(W, kind)

        def seconds(epochs):
            start = time.perf_counter()
            for _ in range(epochs):
                for i, y in enumerate(steps):
                    cso.hsoftmax_update(data[i % len(data)], W, b, y, h, optimizer)
            return time.perf_counter() - start

        return lambda: more_epochs(seconds, SIZE * len(steps))

    return {name: loop(*settings) for name, settings in optimizers.items()}


def fasttext_loop(fasttext, labels, threads):
    """Seconds of 1024 examples; the word of an example is the label of the one before."""
    from scipy.sparse import csr_matrix

    n = len(labels)
    shape = (n, int(labels.max()) + 1)
    X = csr_matrix((np.ones(n, np.float32), np.roll(labels, 1), np.arange(n + 1)), shape)
    file = FastTextFile(X, labels)

    def seconds(dim, epochs):
        options = {"dim": dim, "epoch": epochs, "thread": threads, "lr": 0.05}
        return fasttext_model(fasttext, file.path, **options)[0]

    def difference(dim):
        return more_epochs(lambda epochs: seconds(dim, epochs), n)

    last = {}

    def whole():
        last["whole"] = difference(DIM)
        return last["whole"]

    return {
        "fastText hs, with reading": whole,
        "fastText hs loop, reading taken off": lambda: last["whole"] - difference(1),
    }


def gensim_loop(labels, threads):
    """Skip-gram with window 1 over words drawn as the labels: two pairs a word, each one walk."""
    from gensim.models import Word2Vec

    length = 1000
    names = [f"w{label}" for label in labels]
    text = [names[i : i + length] for i in range(0, len(names), length)]
    model = Word2Vec(
        vector_size=DIM, window=1, sg=1, hs=1, negative=0, min_count=1, sample=0, workers=threads
    )
    model.build_vocab(text)
    pairs = sum(2 * (len(sentence) - 1) for sentence in text)

    def call():
        start = time.perf_counter()
        model.train(text, total_examples=len(text), epochs=1)
        return (time.perf_counter() - start) / pairs * SIZE

    return {"gensim hs=1 loop": call}
