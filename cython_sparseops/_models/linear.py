"""Sparse linear heads over one tree or several: training, probabilities, exact top-k, a file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cython_sparseops._arrays import Array, describe
from cython_sparseops._cluster import class_centroids
from cython_sparseops._hierarchy import Hierarchy
from cython_sparseops._hsoftmax import hsoftmax_log_proba
from cython_sparseops._jobs import count_jobs, idle_threads, in_jobs
from cython_sparseops._linear import linear_train
from cython_sparseops._models.file import (
    Arrays,
    pack_labels,
    pack_strings,
    prefixed,
    read_model,
    under,
    unpack_labels,
    unpack_strings,
)
from cython_sparseops._normalize import sparse_normalize
from cython_sparseops._search import hsoftmax_search, log_mean_exp, search_mean
from cython_sparseops._sparse_weights import SparseWeights

KIND = "LabelTreeClassifier"
GUIDED = "guided"  # by a tree of the user's own
TREES = ("cluster", GUIDED, "huffman", "balanced", "two_level", "adaptive")
LOSSES = ("squared_hinge", "softmax", "logistic")
ARITY = 16  # of trees that are not clustered: binary ones lose accuracy and time with a linear head


TreeShape = str | Hierarchy  # a name in TREES, or the tree itself


class LinearTree(NamedTuple):
    """One tree and its weights."""

    hierarchy: Hierarchy
    weights: SparseWeights


def build_tree(
    kind: str,
    X: Any,
    labels: Any,
    counts: Array,
    seed: int,
    num_threads: int | None,
    guide: Hierarchy | None = None,
) -> Hierarchy:
    """The tree of a name in `TREES` over classes with these counts; `guide` is for guided ones."""
    if kind in ("cluster", GUIDED):
        vectors = class_centroids(X, labels, len(counts), num_threads=num_threads)
        if kind == GUIDED and guide is not None:
            vectors = _beside(vectors, path_vectors(guide))
        return Hierarchy.cluster(vectors, counts=counts, rng=seed, num_threads=num_threads)
    if kind == "huffman":
        return Hierarchy.huffman(counts, arity=ARITY)
    if kind == "balanced":
        return Hierarchy.balanced(len(counts), arity=ARITY)
    return Hierarchy.two_level(counts) if kind == "two_level" else Hierarchy.adaptive(counts)


def path_vectors(h: Hierarchy) -> Any:
    """CSR (C, nodes): the path to each class at unit length, nodes of few classes weighing most.

    Classes that part late have a large cosine, as words that few texts have make two texts alike.
    """
    from scipy.sparse import csr_array  # an optional dependency

    below = np.bincount(h.path_node, minlength=h.n_nodes).tolist()
    weight = [math.log(h.n_classes / max(n, 1)) for n in below]  # NumPy's varies with the machine
    values = np.array(weight, np.float32)[h.path_node]
    paths = csr_array((values, h.path_node, h.path_ptr), (h.n_classes, h.n_nodes))
    paths.sort_indices()
    return sparse_normalize(paths, axis=1)


def _beside(left: Any, right: Any) -> Any:
    from scipy.sparse import hstack

    return hstack([left, right], format="csr")


class TreeTask(NamedTuple):
    """What the trees of a model have in common."""

    X: Any
    labels: Any
    counts: Array
    independent: bool
    num_threads: int | None
    settings: Mapping[str, Any]
    guide: Hierarchy | None = None


def train_trees(
    task: TreeTask,
    shapes: Sequence[tuple[TreeShape, int, Hierarchy | None]],
    n_jobs: int | None,
) -> list[LinearTree]:
    """A tree of each shape and seed, trained; over joblib, whose workers never change a byte.

    The third of each is the tree itself, where it has been built before.

    Each worker gets as many whole trees as the others. Of the trees that are left over the workers
    get shares; what one process has to do for these it does by the threads of all.
    """
    jobs = count_jobs(n_jobs)
    whole = len(shapes) - len(shapes) % jobs
    trees = in_jobs(_train_tree, [(task, *shape) for shape in shapes[:whole]], n_jobs)
    rest = shapes[whole:]
    alone = task._replace(num_threads=idle_threads(task.num_threads, jobs))
    made = in_jobs(tree_of, [(task if len(rest) > 1 else alone, *shape) for shape in rest], n_jobs)
    return trees + [
        _train_rows(task, h, shape, seed, n_jobs)
        for h, (shape, seed, _) in zip(made, rest, strict=True)
    ]


def tree_of(
    task: TreeTask, shape: TreeShape, seed: int, made: Hierarchy | None = None
) -> Hierarchy:
    """The tree of a shape, unless it is made."""
    if made is not None:
        return made
    tree = shape
    if isinstance(tree, str):
        rows = task.X, task.labels, task.counts
        tree = build_tree(tree, *rows, seed, task.num_threads, task.guide)
    return tree.independent() if task.independent else tree


def _train_rows(
    task: TreeTask, h: Hierarchy, shape: TreeShape, seed: int, n_jobs: int | None
) -> LinearTree:
    weights = linear_train(
        task.X,
        task.labels,
        h,
        clustered=knows_rows(shape),
        rng=seed,
        n_jobs=n_jobs,
        num_threads=task.num_threads,
        **task.settings,
    )
    return LinearTree(h, weights)


def _train_tree(task: TreeTask, shape: TreeShape, seed: int, made: Hierarchy | None) -> LinearTree:
    return _train_rows(task, tree_of(task, shape, seed, made), shape, seed, 1)


def knows_rows(shape: TreeShape) -> bool:
    """Whether the tree was made of the rows above all, so that held-out ones look too easy."""
    return isinstance(shape, str) and shape == "cluster"


def continue_tree(
    tree: LinearTree,
    X: Any,
    labels: Any,
    seed: int,
    num_threads: int | None,
    settings: Mapping[str, Any],
) -> LinearTree:
    """The tree with the rows of its nodes trained on, by rows that it has not seen."""
    h, start = tree
    weights = linear_train(X, labels, h, start=start, rng=seed, num_threads=num_threads, **settings)
    return LinearTree(h, weights)


def as_shapes(hierarchy: TreeShape | Sequence[TreeShape]) -> list[TreeShape]:
    """One or several of them, as a list that is not empty.

    Examples
    --------
    >>> as_shapes("cluster"), as_shapes(["cluster", "huffman"])
    (['cluster'], ['cluster', 'huffman'])
    """
    shapes: list[TreeShape]
    shapes = list(hierarchy) if isinstance(hierarchy, list | tuple) else [hierarchy]  # type: ignore[list-item]
    if not shapes:
        raise ValueError("hierarchy must hold at least one tree, got an empty list")
    own = any(isinstance(shape, Hierarchy) for shape in shapes)
    if not own and GUIDED in [shape for shape in shapes if isinstance(shape, str)]:
        raise ValueError(
            f"hierarchy must be a list that holds a Hierarchy where it names {GUIDED!r}, "
            f"got {describe(hierarchy)}"
        )
    return shapes


class LinearModel:
    """Trees whose probabilities are averaged."""

    def __init__(self, trees: list[LinearTree]) -> None:
        self.trees = trees

    @property
    def n_classes(self) -> int:
        return self.trees[0].hierarchy.n_classes

    @property
    def n_features(self) -> int:
        return self.trees[0].weights.shape[1]

    @property
    def nnz(self) -> int:
        return sum(tree.weights.nnz for tree in self.trees)

    @property
    def nbytes(self) -> int:
        return sum(tree.weights.nbytes for tree in self.trees)

    def named_shapes(self, names: Any) -> Any:
        """What a file calls ``hierarchy``, with the trees themselves where it has no name."""
        if names is None:
            return self.trees[0].hierarchy
        if not isinstance(names, list):
            return names
        if not names or len(self.trees) % len(names):
            raise ValueError(f"hierarchy must name {len(self.trees)} trees, got {len(names)}")
        each = len(self.trees) // len(names)
        return [
            self.trees[i * each].hierarchy if name is None else name for i, name in enumerate(names)
        ]

    def log_proba(self, X: Any, classes: Any = None, *, num_threads: int | None = None) -> Array:
        """Log-probabilities (N, C), or (N, m) of given classes: exact."""
        return log_mean_exp(
            [
                hsoftmax_log_proba(X, W, None, h, classes=classes, num_threads=num_threads)
                for h, W in self.trees
            ],
            num_threads=num_threads,
        )

    def top_k(
        self, X: Any, k: int, *, beam: int | None = None, num_threads: int | None = None
    ) -> tuple[npt.NDArray[np.int64], Array]:
        """The k likeliest classes and their log-probabilities: `hsoftmax_search`, `search_mean`."""
        if len(self.trees) == 1:
            h, W = self.trees[0]
            found = hsoftmax_search(X, W, None, h, k, beam=beam, num_threads=num_threads)
            return found.classes, found.log_probs
        return search_mean(self.trees, X, k, beam=beam, num_threads=num_threads)

    def explain(self, X: Any, classes: Array) -> Any:
        """What each feature adds to the scores on the path to one class per row: CSR (N, D)."""
        from scipy.sparse import csr_array  # an optional dependency

        wanted, place = np.unique(classes, return_inverse=True)
        total = csr_array((len(wanted), X.shape[1]), dtype=np.float32)
        for h, W in self.trees:
            total = total + _path_selector(h, W.temperatures, wanted) @ W.to_scipy()
        total = total.tocsr() / np.float32(len(self.trees))
        result = csr_array(X).multiply(total[place]).tocsr()
        result.eliminate_zeros()
        return csr_array(result)

    def to_arrays(self, *, compact: bool = False) -> Arrays:
        """Every array of every tree, by name; of the weights in either form."""
        arrays: Arrays = {}
        for i, (h, W) in enumerate(self.trees):
            arrays |= prefixed(f"hierarchy{i}", h.to_arrays())
            arrays |= prefixed(f"weights{i}", W.to_arrays(compact=compact))
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], n_trees: int) -> LinearModel:
        """The model of `to_arrays`, every part checked."""
        trees = []
        for i in range(n_trees):
            h = Hierarchy.from_arrays(under(f"hierarchy{i}", arrays), copy=False)
            W = SparseWeights.from_arrays(under(f"weights{i}", arrays))
            if W.shape[0] != h.n_rows:
                raise ValueError(f"weights must have {h.n_rows} rows, got {W.shape[0]}")
            trees.append(LinearTree(h, W))
        sizes = {(tree.hierarchy.n_classes, tree.weights.shape[1]) for tree in trees}
        if len(sizes) != 1:
            raise ValueError("trees must be one or more of the same classes and features")
        return cls(trees)


def _path_selector(h: Hierarchy, temperatures: Array, classes: Array) -> Any:
    """CSR (classes, R): how the rows of W add up to the scores on the paths to these classes."""
    from scipy.sparse import csr_array

    lengths = h.path_ptr[classes + 1] - h.path_ptr[classes]
    start = np.cumsum(lengths) - lengths
    depth = np.arange(lengths.sum()) - np.repeat(start, lengths)
    step = np.repeat(h.path_ptr[classes], lengths) + depth
    node, child = h.path_node[step], h.path_child[step]
    one_row = h.row_ptr[node + 1] - h.row_ptr[node] == 1
    sign = np.where(one_row & (child == 0), -1, 1)  # a logistic node scores its second child
    rows = h.row_ptr[node] + np.where(one_row, 0, child)
    scale = (temperatures[depth] if len(temperatures) else 1) * sign
    ptr = np.concatenate([[0], np.cumsum(lengths)])
    return csr_array((scale.astype(np.float32), rows, ptr), shape=(len(classes), h.n_rows))


def pack_linear(
    model: LinearModel,
    classes: Array,
    params: Mapping[str, Any],
    feature_names: Any = None,
    *,
    compact: bool = False,
) -> tuple[Arrays, dict[str, Any]]:
    """What a file holds of a model, its labels and the settings that made it."""
    labels, label_dtype = pack_labels(classes)
    names = {} if feature_names is None else prefixed("feature_names", pack_strings(feature_names))
    metadata = {
        "kind": KIND,
        "n_trees": len(model.trees),
        "label_dtype": label_dtype,
        "params": dict(params),
    }
    arrays = model.to_arrays(compact=compact)
    return {**prefixed("classes", labels), **names, **arrays}, metadata


class LinearFile(NamedTuple):
    """What `load_linear` read."""

    model: LinearModel
    classes: Array
    params: dict[str, Any]
    feature_names: Array | None
    metadata: dict[str, Any]
    arrays: Arrays


def load_linear(path: str | os.PathLike[str], *, mmap: bool = True) -> LinearFile:
    """Read what `pack_linear` made; ValueError if the file is damaged or holds something else."""
    return read_model({KIND: read_linear}, path, mmap=mmap)


def read_linear(arrays: Arrays, metadata: dict[str, Any]) -> LinearFile:
    """The trees, labels and settings, checked to fit together."""
    n_trees = metadata["n_trees"]
    if type(n_trees) is not int or not 1 <= n_trees <= len(arrays):
        raise ValueError(f"n_trees must be at least 1, got {n_trees!r:.60}")
    model = LinearModel.from_arrays(arrays, n_trees)
    classes = unpack_labels(under("classes", arrays), metadata["label_dtype"])
    if len(classes) != model.n_classes:
        raise ValueError(f"classes must number {model.n_classes}, got {len(classes)}")
    packed = under("feature_names", arrays)
    names = np.array(unpack_strings(packed), dtype=object) if packed else None
    if names is not None and len(names) != model.n_features:
        raise ValueError(f"feature_names must number {model.n_features}, got {len(names)}")
    return LinearFile(model, classes, dict(metadata["params"]), names, metadata, arrays)
