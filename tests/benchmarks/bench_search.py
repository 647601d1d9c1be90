"""Exact top-k at 100 000 classes: a trained model, held-out queries.

How many nodes a search opens depends on how sure the model is; random weights would say nothing.
So ours, fastText and napkinXC are trained on the same examples, and each answers held-out queries
with its own model.
"""

from __future__ import annotations

import shutil
import tempfile
import time

import numpy as np

import cython_sparseops as cso
from benchmarks.data import FastTextFile, synthetic, texts
from benchmarks.fasttext_peer import fasttext_model
from benchmarks.timing import Median, peer, race, row, set_threads, thread_counts
from cython_sparseops.sklearn import HSoftmaxClassifier

C, DIM, SIZE = 100_000, 128, 1024
KS = (1, 5, 10, 100)


def main(quick):
    """Rows of all k, on one thread and on all."""
    data = synthetic(C, 100_000 if quick else 400_000)
    set_threads(thread_counts()[-1])
    tree = cso.Hierarchy.huffman(np.bincount(data.y, minlength=C))  # classes not seen as well
    epochs = 3 if quick else 5
    model = HSoftmaxClassifier(hidden_dim=DIM, hierarchy=tree, epochs=epochs, random_state=0)
    model.fit(data.X, data.y)
    h, bag = model.hierarchy_, model.model_
    parts = [data.X_test[i : i + SIZE] for i in range(0, 8 * SIZE, SIZE)]
    hidden = [bag.hidden(part) for part in parts]
    y = np.searchsorted(model.classes_, data.y_test[: 8 * SIZE])
    hit = np.mean(cso.hsoftmax_search(np.vstack(hidden), bag.W, bag.b, h).classes[:, 0] == y)
    torch, out = peer("torch"), []
    words = texts(data.X_test[: 8 * SIZE])
    others = {}
    if peer("fasttext") is not None:
        others["fastText hs predict"] = fasttext_predict(data, words, quick)
    if not quick and peer("napkinxc") is not None:
        others["napkinXC HSM predict"] = napkin_predict(data, parts)
    for threads in thread_counts():
        set_threads(threads)
        for k in (5, 100) if quick else KS:
            calls = {
                "ours": lambda i, k=k: cso.hsoftmax_search(hidden[i % 8], bag.W, bag.b, h, k),
            }
            if torch is not None:
                calls["torch full matmul + topk"] = full(torch, hidden, h.n_classes, k)
            if k == 5:
                calls["ours, embedding bag included"] = lambda i: model.top_k(parts[i % 8], 5)
            times = race(calls, budget=3 if quick else 30)
            out += rows(k, threads, times, hit)
            if k == 5:
                out += against(others, times["ours, embedding bag included"], threads, hit)
        out += sure(threads, quick)
    return out


def sure(threads, quick):
    """Random weights, with queries that the model answers at a loss of one nat on average."""
    from benchmarks.bench_arity import sure_queries
    from benchmarks.timing import batches, zipf_counts

    h = cso.Hierarchy.huffman(zipf_counts(C))
    W, b = cso.init_weights(h, DIM, rng=0)
    data = batches(np.random.default_rng(0), C, SIZE, DIM, 4)
    queries = [sure_queries(W, b, y, h) for _, y in data]
    torch, out = peer("torch"), []
    for k in (5, 100) if quick else KS:
        calls = {"ours": lambda i, k=k: cso.hsoftmax_search(queries[i % 4], W, b, h, k)}
        if torch is not None:
            calls["torch full matmul + topk"] = full(torch, queries, C, k)
        times = race(calls, budget=2 if quick else 30)
        name = f"exact top-{k} C={C} N={SIZE}, sure queries"
        out += [row(name, who, times["ours"], ms, threads) for who, ms in times.items()][1:]
    return out


def rows(k, threads, times, hit):
    goal = 100 if k == 5 and threads > 1 else None
    more = {"work": f"top-{k}", "classes": C, "batch": SIZE, "note": f"our P@1 {hit:.3f}"}
    name = f"exact top-{k} C={C} N={SIZE}"
    return [
        row(name, who, times["ours"], ms, threads, goal, **more)
        for who, ms in times.items()
        if who.startswith("torch")
    ]


def against(others, ours_ms, threads, hit):
    """Peers that bring their own bag of features: from features to labels on both sides."""
    name = f"top-5 from features C={C} N={SIZE}"
    goal = 25 if threads > 1 else None
    return [
        row(name, who, ours_ms, ms, threads, goal, note=f"P@1 {hit:.3f} against {theirs:.3f}")
        for who, (ms, theirs) in others.items()
    ]


def full(torch, hidden, n_classes, k):
    """Every score, then topk; the values of the weights do not matter to it."""
    weight = torch.randn(n_classes, DIM)
    data = [torch.from_numpy(x) for x in hidden]

    def step(i):
        with torch.inference_mode():
            return torch.topk(data[i % len(data)] @ weight.T, k)

    return step


def timed_predict(predict, n):
    """Milliseconds of SIZE queries: the median of five passes."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        found = predict()
        seconds.append(time.perf_counter() - start)
    return Median.of([one / n * SIZE for one in seconds]), found


def fasttext_predict(data, words, quick):
    """One call with a list of lines; it knows one thread."""
    fasttext = peer("fasttext")
    with FastTextFile(data.X, data.y) as path:
        epochs = 3 if quick else 5
        model = fasttext_model(fasttext, path, dim=DIM, epoch=epochs, thread=2)[1]
    ms, found = timed_predict(lambda: model.predict(words, k=5)[0], len(words))
    hit = np.mean([f"__label__{y}" == one[0] for one, y in zip(found, data.y_test, strict=False)])
    return ms, hit


def napkin_predict(data, parts):
    """A Huffman tree of linear models over the features, trained online for speed."""
    from napkinxc.models import HSM

    folder = tempfile.mkdtemp(prefix="sparseops-bench-")
    try:
        model = HSM(folder, tree_type="huffman", optimizer="adagrad", epochs=1, threads=2)
        n = min(len(data.y), 100_000)
        model.fit(data.X[:n], data.y[:n].tolist())
        queries = data.X_test[: SIZE * len(parts)]
        ms, found = timed_predict(lambda: model.predict(queries, top_k=5), queries.shape[0])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    hit = np.mean([one[:1] == [y] for one, y in zip(found, data.y_test.tolist(), strict=False)])
    return ms, hit
