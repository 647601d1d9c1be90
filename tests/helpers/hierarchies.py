"""Random hierarchies for hypothesis, and every builder at work."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

import cython_sparseops as cso


class Paths(NamedTuple):
    """Arguments of Hierarchy.from_paths."""

    path_ptr: np.ndarray
    path_node: np.ndarray
    path_child: np.ndarray
    logistic: np.ndarray  # (V,)

    def hierarchy(self):
        return cso.Hierarchy.from_paths(*self[:3], logistic=self.logistic)


def paths_of_splits(splits, flags, rng):
    """Grows a tree: each (i, k) gives the i-th leaf k children. Nodes and classes are renumbered by
    rng; of the nodes with two children those with a true flag are logistic."""
    leaves, widths = [[]], []
    for i, k in splits:
        path = leaves.pop(i % len(leaves))
        leaves += [[*path, (len(widths), j)] for j in range(k)]
        widths.append(k)
    number, order = rng.permutation(len(widths)), rng.permutation(len(leaves))
    steps = [(number[v], j) for c in order for v, j in leaves[c]]
    logistic = np.zeros(len(widths), dtype=bool)
    logistic[number] = [k == 2 and flags[v % len(flags)] for v, k in enumerate(widths)]
    return Paths(
        np.cumsum([0] + [len(leaves[c]) for c in order]),
        np.array([v for v, _ in steps], int),
        np.array([j for _, j in steps], int),
        logistic,
    )


@st.composite
def paths(draw, max_nodes=15, min_nodes=0):
    """Any tree, uneven, of logistic and softmax nodes; nodes and classes numbered at random."""
    split = st.tuples(st.integers(0, 1000), st.sampled_from([2, 2, 2, 3, 5, 17]))
    splits = draw(st.lists(split, min_size=min_nodes, max_size=max_nodes))
    flags = draw(st.lists(st.booleans(), min_size=1, max_size=5))
    return paths_of_splits(splits, flags, np.random.default_rng(draw(st.integers(0, 99))))


def counts_of(n_classes, seed=0):
    return np.random.default_rng(seed).zipf(1.3, n_classes).clip(max=10**6)


def parents_of(n_classes, seed=0):
    """A parent array of n_classes inner nodes, each with a leaf of its own; some are chains."""
    rng = np.random.default_rng(seed)
    inner = [-1] + [int(rng.integers(0, i)) for i in range(1, n_classes)]
    return np.array(inner + list(range(n_classes)))


# Every builder at work: name -> f(n_classes).
BUILDERS = {
    "huffman": lambda C: cso.Hierarchy.huffman(counts_of(C)),
    "huffman of arity 5": lambda C: cso.Hierarchy.huffman(counts_of(C), arity=5),
    "softmax huffman": lambda C: cso.Hierarchy.huffman(counts_of(C), logistic=False),
    "limited huffman": lambda C: cso.Hierarchy.huffman(counts_of(C), max_depth=C.bit_length()),
    "balanced": lambda C: cso.Hierarchy.balanced(C),
    "balanced of arity 3": lambda C: cso.Hierarchy.balanced(C, arity=3),
    "two_level": lambda C: cso.Hierarchy.two_level(counts_of(C)),
    "two_level by size": lambda C: cso.Hierarchy.two_level(C, by="size"),
    "from_parents": lambda C: cso.Hierarchy.from_parents(parents_of(C)),
    "from_parents, split": lambda C: cso.Hierarchy.from_parents(parents_of(C), max_children=3),
    "optimal_codes": lambda C: cso.Hierarchy.balanced(C).optimal_codes(counts_of(C)),
    "prune": lambda C: cso.Hierarchy.huffman(counts_of(C)).prune(counts_of(C), max_depth=3),
}
