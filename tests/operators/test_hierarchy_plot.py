"""Pictures of trees: what is shown of a tree that does not fit."""

import numpy as np
import pytest

import cython_sparseops as cso

Hierarchy = cso.Hierarchy


def lines(text):
    return [line.strip() for line in text.splitlines()]


def test_a_small_tree_is_shown_whole_in_graphviz_language():
    h = Hierarchy.from_parents([4, 4, 5, 5, 6, 6, -1])
    text = h.to_graphviz(names=["an ant", 'a "bee"', "cow", "d\\e"])
    edges = [line for line in lines(text) if "->" in line]
    assert len(edges) == h.n_classes + h.n_nodes - 1
    assert 'class1 [label="a \\"bee\\"", shape=plaintext];' in lines(text)
    assert 'class3 [label="d\\\\e", shape=plaintext];' in lines(text)


@pytest.mark.parametrize("max_nodes", [1, 2, 7, 30])
def test_the_largest_subtrees_are_shown_and_no_more_places_than_asked(max_nodes):
    h = Hierarchy.huffman(1 / np.arange(1, 500))
    text = h.to_graphviz(max_nodes=max_nodes)
    named = [line for line in lines(text) if "[label=" in line]
    assert len(named) == max_nodes
    parents = {line.split(" -> ")[1] for line in lines(text) if " -> " in line}
    assert len(parents) == max_nodes - 1  # every place but the root hangs below one


def test_children_that_do_not_fit_are_counted():
    text = Hierarchy.balanced(40, arity=40).to_graphviz(max_nodes=11)
    assert 'node0 [label="40 classes, 30 children not shown"];' in lines(text)


def test_a_deep_chain_and_one_class_are_drawn():
    figure = pytest.importorskip("matplotlib.figure").Figure
    chain = Hierarchy.from_paths(
        np.r_[0, np.cumsum(np.r_[np.arange(1, 3_000), 2_999])],
        np.concatenate([*(np.arange(c + 1) for c in range(2_999)), np.arange(2_999)]),
        np.concatenate([*(np.r_[np.ones(c, int), 0] for c in range(2_999)), np.ones(2_999, int)]),
    )
    assert chain.depth == 2_999
    assert "2,998 classes" in chain.to_graphviz(max_nodes=10_000)
    ax = chain.plot(figure().subplots(), max_nodes=50)
    assert len(ax.lines) == 49
    assert len(Hierarchy.balanced(1).plot(figure().subplots()).texts) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_nodes": 0}, "max_nodes must be at least 1, got 0"),
        ({"names": ["a"]}, "names must have one entry per class, 3, got 1"),
    ],
)
def test_bad_options_are_refused(options, words):
    h = Hierarchy.balanced(3)
    for call in (h.to_graphviz, h.plot):
        with pytest.raises(ValueError, match=words):
            call(**options)
