"""Quantised rows against float32 rows; `python tests/benchmarks/run.py --only quantize`.

Queries are many and all different: a small batch timed again and again would find its rows in the
caches whatever their size.
"""

import numpy as np

import cython_sparseops as cso
from benchmarks.bench_normalize import row
from benchmarks.timing import thread_counts

SIZES = ((100_000, 128), (100_000, 100), (1_000_000, 128))  # classes, D: whole vectors or not
KINDS = ("int8", "bfloat16", "float16")


def wordnet_rows(quick):
    """P@1 in percent instead of milliseconds; the ratio is the change in points, at worst -0.2."""
    from sklearn.feature_extraction.text import CountVectorizer

    from cython_sparseops._cli.demo import load_wordnet
    from cython_sparseops.sklearn import HSoftmaxClassifier

    data = load_wordnet(quick)
    words = CountVectorizer(dtype=np.float32)
    model = HSoftmaxClassifier(hidden_dim=100, random_state=0)
    model.fit(words.fit_transform(data.train), data.y_train)
    X, head = words.transform(data.test), model.model_
    known = np.isin(data.y_test, model.classes_)
    labels = np.searchsorted(model.classes_, data.y_test).clip(max=len(model.classes_) - 1)
    hidden = np.concatenate([hidden for _, hidden in model._hidden_blocks(X)])
    out = []
    for kind in KINDS:
        report = cso.quantize(head.W, kind).evaluate(
            hidden[known], labels[known], head.hierarchy, head.b, reference=head.W
        )
        out.append(
            {
                "name": f"WordNet P@1 %, {kind}",
                "peer": f"float32, nll {report.nll_change:+.1e}",
                "ours_ms": 100 * report.p_at_1,
                "peer_ms": 100 * report.p_at_1_reference,
                "ratio": 100 * report.p_at_1_change,
                "threads": 0,
                "goal": -0.2,
            }
        )
    return out


def main(quick):
    """One row a measurement: name, peer, ours_ms, peer_ms, ratio, threads, goal."""
    out = wordnet_rows(quick)
    rng = np.random.default_rng(0)
    for n_classes, dim in SIZES[:1] if quick else SIZES:
        size = f"{n_classes} classes, D={dim}"
        counts = 1e9 / np.arange(1, n_classes + 1)
        h = cso.Hierarchy.huffman(counts)
        W, b = cso.init_weights(h, dim, rng=0)
        W *= 8  # decisions about as sure as trained ones
        X = rng.standard_normal((4096 if quick else 16384, dim), np.float32) * np.float32(0.3)
        fewer = X[: len(X) // 4]
        probs = np.empty((8, n_classes), np.float32)
        for kind in KINDS:
            q = cso.quantize(W, kind)
            out.append(
                {
                    "name": f"MB, {kind}, {size}",
                    "peer": "float32",
                    "ours_ms": q.nbytes / 1e6,
                    "peer_ms": W.nbytes / 1e6,
                    "ratio": W.nbytes / q.nbytes,
                    "threads": 0,
                    "goal": 3.8 if kind == "int8" else 2,
                }
            )
            for threads in thread_counts(quick):

                def search(rows, x, k, h=h, b=b, threads=threads):
                    return lambda: cso.hsoftmax_search(x, rows, b, h, k, num_threads=threads)

                def log_proba(rows, h=h, b=b, x=X[:8], o=probs, threads=threads):
                    return lambda: cso.hsoftmax_log_proba(x, rows, b, h, out=o, num_threads=threads)

                for name, make in (
                    ("top 1", lambda rows, s=search, x=X: s(rows, x, 1)),
                    ("top 10", lambda rows, s=search, x=fewer: s(rows, x, 10)),
                    ("log_proba", log_proba),
                ):
                    text = f"{name}, {kind}, {size}"
                    out.append(row(text, "float32 rows", make(q), make(W), threads, 1))
    return out
