"""Digests of what every operator computes, to compare two builds of the package.

    python tests/repository/output_digests.py                     # this build's, as JSON
    python tests/repository/output_digests.py OLD/bin/python      # compared with another build's

Inputs are drawn from fixed seeds, over all trees, dtypes, layouts and kinds of weights. A digest
covers dtype, shape and bytes. Exit code 1 where both builds have a case and differ.
"""

import hashlib
import itertools
import json
import os
import subprocess
import sys

import numpy as np
from scipy.sparse import random_array

import cython_sparseops as cso
from cython_sparseops.sklearn import HSoftmaxClassifier

SEEDS = np.random.SeedSequence(20_260_101).spawn(8)
COUNTS = 100_000 // np.arange(1, 301)
PARENTS = [300 + c // 6 for c in range(300)] + [350 + g // 10 for g in range(50)] + [355] * 5 + [-1]


def digest(*results):
    state = hashlib.sha256()
    for result in results:
        array = np.ascontiguousarray(result)
        state.update(f"{array.dtype.str} {array.shape}".encode())
        state.update(array.tobytes())
    return state.hexdigest()[:16]


def trees():
    build = cso.Hierarchy
    yield "huffman", build.huffman(COUNTS)
    yield "huffman 8", build.huffman(COUNTS, arity=8)
    yield "huffman limited", build.huffman(COUNTS, max_depth=10)
    yield "huffman softmax", build.huffman(COUNTS, logistic=False)
    yield "balanced", build.balanced(300)
    yield "two levels", build.two_level(COUNTS)
    yield "flat", build.balanced(300, arity=300)
    yield "taxonomy", build.from_parents(PARENTS)
    yield "taxonomy, split", build.from_parents(PARENTS, max_children=4)
    yield "optimal codes", build.balanced(300).optimal_codes(COUNTS)
    yield "pruned", build.huffman(COUNTS).prune(COUNTS, max_nodes=40)
    yield "one class", build.balanced(1)


def hierarchy_cases():
    for name, h in trees():
        yield f"hierarchy, {name}", lambda h=h: digest(*h.to_arrays().values())


def batch(h, dtype, n):
    rng = np.random.default_rng(SEEDS[0])
    X = rng.standard_normal((n, 37)).astype(dtype)
    W, b = cso.init_weights(h, 37, dtype=dtype, rng=1)
    W += 0.3 * rng.standard_normal(W.shape).astype(dtype)
    b += 0.1 * rng.standard_normal(b.shape).astype(dtype)
    labels = rng.integers(0, h.n_classes, n)
    weight = rng.random(n).astype(dtype)
    return X, W, b, labels, weight


def loss_cases():
    for (name, h), dtype, n in itertools.product(trees(), (np.float32, np.float64), (1, 257)):
        X, W, b, labels, weight = batch(h, dtype, n)
        at = f"{name}, {np.dtype(dtype)}, {n} rows"

        def loss(h=h, X=X, W=W, b=b, labels=labels, weight=weight):
            return digest(
                cso.hsoftmax(X, W, b, labels, h, sample_weight=weight),
                *cso.hsoftmax(X, W, None, labels, h, return_residuals=True),
            )

        def gradient(h=h, X=X, W=W, b=b, labels=labels, weight=weight):
            sparse = cso.hsoftmax_gradient(X, W, b, labels, h, grad_output=weight)
            dense = cso.hsoftmax_gradient(X, W, b, labels, h, sparse=False)
            return digest(*sparse, dense.W, dense.b)

        def distributions(h=h, X=X, W=W, b=b):
            return digest(
                cso.hsoftmax_log_proba(X, W, b, h),
                cso.hsoftmax_log_proba(X, W, b, h, classes=np.zeros(len(X), int)),
                cso.hsoftmax_node_log_proba(X, W, b, h),
                cso.hsoftmax_sample(X, W, b, h, 5, rng=3),
            )

        def search(h=h, X=X, W=W, b=b):
            found = [cso.hsoftmax_search(X, W, b, h, k) for k in (1, 7)]
            found.append(cso.hsoftmax_search(X, W, b, h, 5, beam=3))
            found.append(cso.hsoftmax_search(X, W, b, h, 5, edge_beam=2.0))
            found.append(cso.hsoftmax_search(X, W, b, h, 5, nodes=True))
            return digest(*(part for one in found for part in one))

        yield f"hsoftmax, {at}", loss
        yield f"hsoftmax_gradient, {at}", gradient
        yield f"distributions, {at}", distributions
        yield f"hsoftmax_search, {at}", search


def update_cases():
    optimizers = {
        "sgd": lambda: cso.SGD(0.1, weight_decay=1e-3),
        "adagrad": lambda: cso.Adagrad(0.1),
        "rowwise adagrad": lambda: cso.Adagrad(0.1, rowwise=True, weight_decay=1e-3),
        "adam": lambda: cso.Adam(0.01),
    }
    for (name, h), (rule, make), dtype in itertools.product(
        trees(), optimizers.items(), (np.float32, np.float64)
    ):

        def step(h=h, make=make, dtype=dtype):
            X, W, b, labels, _ = batch(h, dtype, 200)
            optimizer = make()
            results = [cso.hsoftmax_update(X, W, b, labels, h, optimizer) for _ in range(3)]
            return digest(W, b, *(part for one in results for part in one))

        yield f"hsoftmax_update, {name}, {rule}, {np.dtype(dtype)}", step


def quantize_cases():
    for (name, h), kind in itertools.product(trees(), ("int8", "bfloat16", "float16")):

        def quantized(h=h, kind=kind):
            X, W, b, labels, _ = batch(h, np.float32, 100)
            q = cso.quantize(W, kind)
            found = cso.hsoftmax_search(X, q, b, h, 5)
            return digest(
                *(a for a in q.to_arrays().values() if isinstance(a, np.ndarray)),
                cso.hsoftmax(X, q, b, labels, h),
                cso.hsoftmax_log_proba(X, q, b, h),
                *found,
            )

        yield f"quantize, {name}, {kind}", quantized


def matrices():
    for dtype, layout in itertools.product((np.float32, np.float64), ("csr", "csc")):
        matrix = random_array((2_000, 300), density=0.05, format=layout, rng=4, dtype=dtype)
        matrix.data -= dtype(0.4)
        yield f"{layout}, {np.dtype(dtype)}", matrix


def parts(matrix):
    if isinstance(matrix, np.ndarray):
        return [matrix]
    return [matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data]


def normalize_cases():
    inputs = [*matrices()]
    inputs += [(f"dense, {m.dtype}", np.ascontiguousarray(m.toarray())) for _, m in inputs[::2]]
    for (name, x), axis in itertools.product(inputs, (0, 1)):

        def normalized(x=x, axis=axis):
            out = []
            for options in ({}, {"ord": "l1"}, {"ord": "max"}, {"max_norm": True, "norm": 2.0}):
                result, norms = cso.sparse_normalize(x, axis=axis, return_norms=True, **options)
                out += [*parts(result), norms]
            prune = not isinstance(x, np.ndarray)
            out += parts(cso.sparse_normalize(x, axis=axis, threshold=0.2, prune=prune))
            g = np.random.default_rng(SEEDS[1]).standard_normal(len(parts(x)[-1].ravel()))
            g = g.reshape(parts(x)[-1].shape).astype(x.dtype)
            gradient = cso.sparse_normalize_gradient(x, g, axis=axis)
            return digest(*out, *parts(gradient))

        yield f"sparse_normalize, {name}, axis {axis}", normalized

    def rows(dtype):
        table = np.random.default_rng(SEEDS[2]).standard_normal((500, 33)).astype(dtype)
        norms = cso.sparse_normalize_rows(table, [3, 400, 3, 77, 12], norm=0.5)
        return digest(table, norms)

    for dtype in (np.float16, np.float32, np.float64):
        yield f"sparse_normalize_rows, {np.dtype(dtype)}", lambda dtype=dtype: rows(dtype)


def dropout_cases():
    for name, x in matrices():

        def entries(x=x):
            g = np.random.default_rng(SEEDS[3]).standard_normal(len(x.data)).astype(x.dtype)
            out = []
            for replacement in (0.0, "mean", "median", np.array([0.5], x.dtype)):
                y, mask = cso.sparse_dropout_with_replacement(
                    x.data, 0.3, replacement, rng=5, return_mask=True
                )
                out += [y, mask, *cso.sparse_dropout_gradient(g, mask, (1,))]
            return digest(*out)

        yield f"sparse_dropout, {name}", entries

    def segments(per_item):
        ids = np.arange(1_000)
        lengths = np.random.default_rng(SEEDS[4]).multinomial(1_000, np.full(90, 1 / 90))
        return digest(*cso.sparse_dropout_segments(ids, lengths, 0.4, -7, per_item=per_item, rng=6))

    yield "sparse_dropout_segments", lambda: segments(False)
    yield "sparse_dropout_segments, items", lambda: segments(True)


def model_cases():
    rng = np.random.default_rng(SEEDS[5])
    X = random_array((3_000, 800), density=0.02, format="csr", rng=7, dtype=np.float32)
    y = np.minimum(rng.zipf(1.4, 3_000), 200)
    optimizers = ("adagrad", "rowwise_adagrad", "sgd", "adam")
    for optimizer, tree in itertools.product(optimizers, ("huffman", "two_level")):

        def fit(optimizer=optimizer, tree=tree):
            model = HSoftmaxClassifier(
                hidden_dim=16,
                hierarchy=tree,
                optimizer=optimizer,
                epochs=2,
                dropout=0.1,
                random_state=0,
            ).fit(X, y)
            top = model.top_k(X[:200], 5)
            weights = (model.model_.E, model.model_.W, model.model_.b)
            return digest(*weights, top.labels, top.log_probs)

        yield f"HSoftmaxClassifier, {optimizer}, {tree}", fit

    def fit_dense():
        dense = X[:, :60].toarray()
        model = HSoftmaxClassifier(epochs=2, random_state=0, max_norm=3.0).fit(dense, y)
        return digest(model.model_.W, model.model_.b, model.predict_proba(dense[:100]))

    yield "HSoftmaxClassifier, dense", fit_dense
    yield (
        "embedding_bag",
        lambda: digest(
            cso.embedding_bag(X, rng_matrix(X.shape[1])),
            cso.embedding_bag(X, rng_matrix(800), mode="sum"),
        ),
    )


def rng_matrix(rows):
    return np.random.default_rng(SEEDS[6]).standard_normal((rows, 24)).astype(np.float32)


ROOMS = (
    hierarchy_cases,
    loss_cases,
    update_cases,
    quantize_cases,
    normalize_cases,
    dropout_cases,
    model_cases,
)


def digests():
    return {name: case() for room in ROOMS for name, case in room()}


def main(other=None):
    ours = digests()
    if other is None:
        print(json.dumps(ours, indent=1))
        return 0
    done = subprocess.run(
        [other, "-P", __file__], check=True, text=True, stdout=subprocess.PIPE, env=dict(os.environ)
    )
    theirs = json.loads(done.stdout)
    both = sorted(ours.keys() & theirs.keys())
    differ = [name for name in both if ours[name] != theirs[name]]
    print(*(f"differs: {name}" for name in differ), sep="\n")
    print(f"{len(both)} cases compared, {len(differ)} differ")
    return bool(differ) or not both


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
