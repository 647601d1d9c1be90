"""Accuracy on WordNet beside what a user would otherwise take; nothing is tuned on test rows."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.data import FastTextFile, texts, wordnet, wordnet_taxonomy
from benchmarks.fasttext_peer import fasttext_model
from benchmarks.timing import peer, row, set_threads, thread_counts
from cython_sparseops.sklearn import HSoftmaxClassifier

DIM, EPOCHS = 100, 5
TOP = 5


def main(quick):
    """Seconds of training, and the shares of test rows right at 1 and within 5."""
    threads = thread_counts()[-1]
    set_threads(threads)
    data = wordnet(quick)
    ours = {name: fitted(data, tree) for name, tree in trees(quick).items()}
    peers = {"nearest TF-IDF centroid": centroids(data)}
    if peer("fasttext") is not None:
        peers["fastText hs"] = fasttext(data, threads)
    return [
        row(
            f"fit on {data.name}, {tree}",
            who,
            mine[0] * 1e3,
            seconds * 1e3,
            threads,
            work="quality",
            p_at_1=mine[1],
            p_at_5=mine[2],
            peer_p_at_1=at_1,
            peer_p_at_5=at_5,
            note=f"P@1 {mine[1]:.3f} against {at_1:.3f}; P@5 {mine[2]:.3f} against {at_5:.3f}",
        )
        for tree, mine in ours.items()
        for who, (seconds, at_1, at_5) in peers.items()
    ]


def trees(quick):
    return {"Huffman": "huffman", "taxonomy": wordnet_taxonomy(quick)}


def hits(found, y):
    """Shares of rows whose class is the first, and among the first five."""
    right = found[:, :TOP] == y[:, None]
    return float(right[:, 0].mean()), float(right.any(axis=1).mean())


def fitted(data, tree):
    """Seconds, P@1, P@5 of the classifier."""
    model = HSoftmaxClassifier(hidden_dim=DIM, hierarchy=tree, epochs=EPOCHS, random_state=0)
    start = time.perf_counter()
    model.fit(data.X, data.y)
    seconds = time.perf_counter() - start
    return seconds, *hits(model.top_k(data.X_test, TOP).labels, data.y_test)


def fasttext(data, threads):
    """The same of fastText, with the learning rate that bench_train finds best."""
    with FastTextFile(data.X, data.y) as path:
        options = {"dim": DIM, "epoch": EPOCHS, "lr": 1.0, "thread": threads}
        seconds, model = fasttext_model(peer("fasttext"), path, **options)
    found = np.full((len(data.y_test), TOP), -1)
    for i, labels in enumerate(model.predict(texts(data.X_test), k=TOP)[0]):
        numbers = [int(label.removeprefix("__label__")) for label in labels]
        found[i, : len(numbers)] = numbers
    return seconds, *hits(found, data.y_test)


def centroids(data, block=1000):
    """The same of the class whose mean TF-IDF vector is nearest by cosine."""
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.preprocessing import normalize

    start = time.perf_counter()
    weight = TfidfTransformer(sublinear_tf=True).fit(data.X)
    n = len(data.y)
    member = csr_array((np.ones(n, np.float32), (data.y, np.arange(n))), (data.n_classes, n))
    means = normalize(member @ weight.transform(data.X)).T.tocsr()
    seconds = time.perf_counter() - start
    X = weight.transform(data.X_test)
    found = []
    for begin in range(0, X.shape[0], block):
        scores = -(X[begin : begin + block] @ means).toarray()
        best = np.argpartition(scores, TOP, axis=1)[:, :TOP]
        order = np.argsort(np.take_along_axis(scores, best, 1), axis=1, kind="stable")
        found.append(np.take_along_axis(best, order, 1))
    return seconds, *hits(np.concatenate(found), data.y_test)
