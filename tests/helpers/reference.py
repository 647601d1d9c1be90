"""The slow oracle: every operator written once more, as plainly as possible, in float64 NumPy.

Nothing compiled is imported. A tree is read from its flat path arrays alone (`path_ptr, path_node,
path_child, row_ptr`), so that a mistake in the child arrays of a hierarchy cannot hide itself.
Letters for shapes: N rows in a batch, D features, C classes, V nodes, R decision rows.
"""

import heapq
import itertools

import numpy as np

# ---- trees ---------------------------------------------------------------------------------------


class Tree:
    """paths[c]: (node, child) pairs, root first; children[v][j]: >= 0 a node, < 0 the class ~it."""

    def __init__(self, paths, row_ptr, independent=False):
        self.paths = [[(int(v), int(j)) for v, j in path] for path in paths]
        self.row_ptr = [int(r) for r in row_ptr]
        self.independent = independent
        self.n_classes, self.n_nodes = len(self.paths), len(self.row_ptr) - 1
        self.n_rows = self.row_ptr[-1]
        found = [{} for _ in range(self.n_nodes)]
        for c, path in enumerate(self.paths):
            below = [v for v, _ in path[1:]] + [~c]
            for (v, j), child in zip(path, below, strict=bool(path)):
                assert found[v].setdefault(j, child) == child, f"node {v} has two children {j}"
        self.children = [[places[j] for j in range(len(places))] for places in found]
        self.root = self.paths[0][0][0] if self.n_nodes else None
        assert all(path[0][0] == self.root for path in self.paths if path)

    @classmethod
    def of(cls, h):
        """The tree of anything that has the flat arrays."""
        at, nodes, places = (list(map(int, x)) for x in (h.path_ptr, h.path_node, h.path_child))
        steps = list(zip(nodes, places, strict=True))
        paths = [steps[a:z] for a, z in itertools.pairwise(at)]
        return cls(paths, h.row_ptr, getattr(h, "is_independent", False))

    def rows(self, v):
        return np.arange(self.row_ptr[v], self.row_ptr[v + 1])

    def logistic(self, v):
        return self.row_ptr[v + 1] - self.row_ptr[v] == 1

    def depths(self):
        return np.array([len(path) for path in self.paths])

    def preorder(self):
        """The nodes depth first, children in their order."""
        order, open_nodes = [], [] if self.root is None else [self.root]
        while open_nodes:
            v = open_nodes.pop()
            order.append(v)
            open_nodes.extend(c for c in reversed(self.children[v]) if c >= 0)
        return order

    def classes_below(self, v):
        return [c for c, path in enumerate(self.paths) if any(node == v for node, _ in path)]


def expected_path_length(tree, counts):
    counts = np.asarray(counts, dtype=float)
    return float(counts @ tree.depths() / counts.sum())


def entropy(counts):
    """Bits of a draw from the counts: no binary tree has a shorter expected path."""
    p = np.asarray(counts, dtype=float) / np.sum(counts)
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def huffman_cost(counts, arity=2):
    """(sum of count times depth, least depth of an optimal tree), by a heap of (weight, height)."""
    dummies = (arity - 1 - (len(counts) - 1) % (arity - 1)) % (arity - 1)
    heap = [(c, 0) for c in counts] + [(0, 0)] * dummies
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        merged = [heapq.heappop(heap) for _ in range(arity)]
        weight = sum(w for w, _ in merged)
        cost += weight
        heapq.heappush(heap, (weight, 1 + max(height for _, height in merged)))
    return cost, heap[0][1]


def limited_huffman_cost(counts, arity, max_depth):
    """The cost of the best code of at most max_depth symbols a word: all lengths Kraft allows."""
    falling = sorted(counts, reverse=True)
    if len(falling) == 1:
        return 0
    lengths = itertools.combinations_with_replacement(range(1, max_depth + 1), len(falling))
    whole = arity**max_depth
    legal = (code for code in lengths if sum(whole // arity**n for n in code) <= whole)
    return min(sum(w * n for w, n in zip(falling, code, strict=True)) for code in legal)


# ---- hierarchical softmax ------------------------------------------------------------------------


def child_log_probs(tree, v, X, W, b):
    """log P(child j of node v | x): (N, k_v)."""
    rows = tree.rows(v)
    Z = np.asarray(X, dtype=float) @ np.asarray(W, dtype=float)[rows].T
    if b is not None:
        Z = Z + np.asarray(b, dtype=float)[rows]
    if tree.independent:
        return -np.logaddexp(0, -Z)
    if tree.logistic(v):
        return -np.logaddexp(0, np.hstack([Z, -Z]))
    Z = Z - Z.max(axis=1, keepdims=True)
    return Z - np.log(np.exp(Z).sum(axis=1, keepdims=True))


def edge_log_probs(tree, X, W, b):
    return [child_log_probs(tree, v, X, W, b) for v in range(tree.n_nodes)]


def class_and_node_log_probs(tree, X, W, b):
    """(N, C) and (N, V), from the root down."""
    edges = edge_log_probs(tree, X, W, b)
    classes, nodes = np.zeros((len(X), tree.n_classes)), np.zeros((len(X), tree.n_nodes))
    for v in tree.preorder():
        for j, child in enumerate(tree.children[v]):
            table, i = (nodes, child) if child >= 0 else (classes, ~child)
            table[:, i] = nodes[:, v] + edges[v][:, j]
    return classes, nodes


def log_proba(tree, X, W, b):
    return class_and_node_log_probs(tree, X, W, b)[0]


def node_log_proba(tree, X, W, b):
    return class_and_node_log_probs(tree, X, W, b)[1]


def gradient(
    tree,
    X,
    W,
    b,
    labels,
    grad_output=None,
    sample_weight=None,
    ignore_index=None,
    label_smoothing=0.0,
):
    """nll (N,), then of sum(g nll): dX (N, D), dW (R, D), db (R,), touched (R,), step by step."""
    X, W = np.asarray(X, dtype=float), np.asarray(W, dtype=float)
    ones = np.ones(len(X))
    weight = ones if sample_weight is None else np.asarray(sample_weight, dtype=float)
    upstream = ones if grad_output is None else np.asarray(grad_output, dtype=float)
    nll, dX, dW, db = np.zeros(len(X)), np.zeros(X.shape), np.zeros(W.shape), np.zeros(len(W))
    touched = np.zeros(len(W), dtype=bool)
    for s, label in enumerate(np.asarray(labels).tolist()):
        if ignore_index is not None and label == ignore_index:
            continue
        for v, j in tree.paths[label]:
            log_p = child_log_probs(tree, v, X[s : s + 1], W, b)[0]
            target = np.full(len(log_p), label_smoothing / len(log_p))
            target[j] += 1 - label_smoothing
            nll[s] -= weight[s] * (target @ log_p)
            delta = upstream[s] * weight[s] * (np.exp(log_p) - target)
            rows = tree.rows(v)
            if tree.logistic(v):
                delta = delta[1:]
            dX[s] += delta @ W[rows]
            dW[rows] += np.outer(delta, X[s])
            db[rows] += delta
            touched[rows] = True
    return nll, dX, dW, db, touched


def nll(tree, X, W, b, labels, **options):
    return gradient(tree, X, W, b, labels, **options)[0]


def residuals(tree, X, W, b, labels):
    """The logits along each row's path, one number a logistic step and k a softmax step."""
    X, W = np.asarray(X, dtype=float), np.asarray(W, dtype=float)
    b = np.zeros(len(W)) if b is None else np.asarray(b, dtype=float)
    steps = [(x, tree.rows(v)) for x, c in zip(X, labels, strict=True) for v, _ in tree.paths[c]]
    return np.concatenate([np.zeros(0)] + [W[rows] @ x + b[rows] for x, rows in steps])


# ---- search --------------------------------------------------------------------------------------


def places_looked_at(tree, edges, node_log_p, s, beam=None, edge_beam=None):
    """The classes and inner nodes that row s looks at: the children, likely enough for edge_beam,
    of nodes that are opened, which are the `beam` likeliest of a level; ties: the lower id."""
    if tree.root is None:
        return [0], []
    classes, nodes, level = [], [], [tree.root]
    while level:
        below = []
        for v in sorted(level, key=lambda v: (-node_log_p[s, v], v))[:beam]:
            for j, child in enumerate(tree.children[v]):
                if edge_beam is None or -edges[v][s, j] < edge_beam:
                    (below if child >= 0 else classes).append(child if child >= 0 else ~child)
        nodes += below
        level = below
    return classes, nodes


def climb(tree, class_log_p, node_log_p, s, result, min_prob):
    """The deepest node or class on the way to `result` whose probability is at least min_prob."""
    C = tree.n_classes
    if result < C:
        above, own = [v for v, _ in tree.paths[result]], class_log_p[s, result]
    else:
        path = next(path for path in tree.paths if any(v == result - C for v, _ in path))
        above, own = [v for v, _ in path], None
        above = above[: above.index(result - C) + 1]
    if own is not None and np.exp(float(own)) >= min_prob:
        return result, own
    for v in reversed(above):
        if np.exp(float(node_log_p[s, v])) >= min_prob:
            return C + v, node_log_p[s, v]
    raise AssertionError("the root has probability 1")


def search(
    tree, class_log_p, node_log_p, edges, k, beam=None, edge_beam=None, nodes=False, min_prob=None
):
    """Top-k by sorting: ids (N, k), log-probs (N, k), and the best class a beam left out (N,)."""
    N, C = class_log_p.shape
    ids = np.full((N, k), -1, dtype=np.int64)
    scores = np.full((N, k), -np.inf, dtype=class_log_p.dtype)
    left_out = np.full(N, -np.inf)
    for s in range(N):
        classes, inner = places_looked_at(tree, edges, node_log_p, s, beam, edge_beam)
        found = [(-class_log_p[s, c], c) for c in classes]
        if nodes:
            found += [(-node_log_p[s, v], C + v) for v in inner]
        best = [(i, -minus) for minus, i in sorted(found)[:k]]
        if min_prob is not None:
            climbed = (climb(tree, class_log_p, node_log_p, s, i, min_prob) for i, _ in best)
            best = sorted(dict.fromkeys(climbed), key=lambda found: (-found[1], found[0]))
        for place, (i, score) in enumerate(best):
            ids[s, place], scores[s, place] = i, score
        dropped = np.setdiff1d(np.arange(C), classes)
        left_out[s] = class_log_p[s, dropped].max() if len(dropped) else -np.inf
    return ids, scores, left_out


# ---- optimisers: one step on the touched rows, W and b in place ----------------------------------


class SGD:
    def __init__(self, lr, weight_decay=0.0):
        self.lr, self.weight_decay = lr, weight_decay

    def step(self, W, b, dW, db, touched):
        W[touched] -= self.lr * (dW + self.weight_decay * W)[touched]
        if b is not None:
            b[touched] -= self.lr * db[touched]


class Adagrad:
    def __init__(self, lr, eps=1e-10, rowwise=False, weight_decay=0.0):
        self.lr, self.eps, self.rowwise, self.weight_decay = lr, eps, rowwise, weight_decay
        self.sum_W = self.sum_b = 0.0

    def step(self, W, b, dW, db, touched):
        t = touched[:, None]
        dW = np.where(t, dW + self.weight_decay * W, 0)
        square = dW**2
        self.sum_W = self.sum_W + (square.mean(axis=1, keepdims=True) if self.rowwise else square)
        W -= np.where(t, self.lr * dW / (np.sqrt(self.sum_W) + self.eps), 0)
        if b is not None:
            db = np.where(touched, db, 0)
            self.sum_b = self.sum_b + db**2
            b -= np.where(touched, self.lr * db / (np.sqrt(self.sum_b) + self.eps), 0)


class Adam:
    def __init__(self, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.t, self.moments = 0, {}

    def step(self, W, b, dW, db, touched):
        self.t += 1
        self._part("W", W, dW + self.weight_decay * W, touched)
        if b is not None:
            self._part("b", b, db, touched)

    def _part(self, name, value, g, touched):
        m, v = self.moments.setdefault(name, (np.zeros(value.shape), np.zeros(value.shape)))
        (b1, b2), t = self.betas, touched
        m[t] = b1 * m[t] + (1 - b1) * g[t]
        v[t] = b2 * v[t] + (1 - b2) * g[t] ** 2
        mhat, vhat = m[t] / (1 - b1**self.t), v[t] / (1 - b2**self.t)
        value[t] -= self.lr * mhat / (np.sqrt(vhat) + self.eps)


def update(tree, X, W, b, labels, optimizer, **options):
    """Gradient at the old W and b, then one step in place: nll and dX."""
    loss, dX, dW, db, touched = gradient(tree, X, W, b, labels, **options)
    optimizer.step(W, b, dW, db, touched)
    return loss, dX
