"""The pictures of the guide, from the bundled data: ``python docs/_ext/pictures.py``.

Trains the demo's two classifiers, about ten seconds on two cores.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import cython_sparseops as cso
from cython_sparseops._cli import demo_plot
from cython_sparseops._cli.demo import load_wordnet
from cython_sparseops._cli.readers import learn_vocabulary, token_counter
from cython_sparseops.sklearn import HSoftmaxClassifier

FOLDER = Path(__file__).resolve().parents[1] / "_static"
RED, BLUE, GRAY = "#c0392b", "#2f7fb8", "#888888"
ANIMALS = {"dog": 28, "cat": 22, "horse": 15, "cow": 12, "owl": 9, "newt": 6, "yak": 5, "emu": 3}


def main():
    """Draw them all."""
    tree(FOLDER / "tree.svg")
    shop(FOLDER / "plot.svg")
    data = load_wordnet()
    counts = np.bincount(data.y_train, minlength=len(data.classes))
    taxonomy(data, counts, FOLDER / "taxonomy.svg")
    trees = {
        "Huffman": cso.Hierarchy.huffman(counts),
        "WordNet's taxonomy": cso.Hierarchy.from_parents(data.parent, counts=counts),
    }
    X, vocabulary = learn_vocabulary(data.train)
    X_test = token_counter(vocabulary).transform(data.test)
    models = {
        name: HSoftmaxClassifier(hierarchy=h, random_state=0).fit(X, data.y_train)
        for name, h in trees.items()
    }
    training(models, FOLDER / "training.svg")
    calibration(models, X_test, data.y_test, FOLDER / "calibration.svg")


def tree(path):
    """A Huffman tree of eight classes, with the path to one of them."""
    names, counts = list(ANIMALS), np.array(list(ANIMALS.values()))
    h = cso.Hierarchy.huffman(counts)
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    axes = figure.subplots()
    spots, order = {}, []
    place(h, 0, 0, spots, order)
    goal = names.index("horse")
    steps = slice(h.path_ptr[goal], h.path_ptr[goal + 1])
    on_path = set(zip(h.path_node[steps].tolist(), h.path_child[steps].tolist(), strict=True))
    for node in range(h.n_nodes):
        children = h.child[h.child_ptr[node] : h.child_ptr[node + 1]]
        for which, child in enumerate(children.tolist()):
            chosen = (node, which) in on_path
            (x0, y0), (x1, y1) = (
                spots[node, True],
                spots[(child, True) if child >= 0 else (~child, False)],
            )
            axes.plot([x0, x1], [y0, y1], color=RED if chosen else GRAY, lw=2.5 if chosen else 1)
    for (number, inner), (x, y) in spots.items():
        if inner:
            taken = number in {node for node, _ in on_path}
            axes.plot(x, y, "o", ms=15, mfc="white", mec=RED if taken else GRAY, mew=1.6)
            axes.annotate(f"$w_{number}$", (x, y), ha="center", va="center", fontsize=8)
        else:
            color = RED if number == goal else "black"
            text = f"{names[number]}\n{counts[number]}%"
            axes.annotate(text, (x, y - 0.12), ha="center", va="top", fontsize=9, color=color)
    axes.set(xlim=(-0.6, len(order) - 0.4), ylim=(min(y for _, y in spots.values()) - 0.9, 0.4))
    axes.set_axis_off()
    save(figure, path)


def shop(path):
    """What Hierarchy.plot makes of the tutorial's products."""
    names = ["Headphones", "Speakers", "Lenses", "Tripods", "Knives", "Pans", "Hoses", "Mowers"]
    names += ["Helmets", "Lights", "Shoes", "Watches"]
    groups = [12, 12, 13, 13, 14, 14, 15, 15, 16, 16, 17, 17]
    parents = [*groups, 18, 18, 19, 19, 20, 20, 21, 21, 21, -1]
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    cso.Hierarchy.from_parents(parents).plot(figure.subplots(), names=names)
    save(figure, path)


def place(h, node, depth, spots, order):
    """Leaves side by side, an inner node over the middle of its children."""
    xs = []
    for child in h.child[h.child_ptr[node] : h.child_ptr[node + 1]].tolist():
        if child < 0:
            order.append(~child)
            spots[~child, False] = (len(order) - 1, -(depth + 1))
            xs.append(len(order) - 1)
        else:
            xs.append(place(h, child, depth + 1, spots, order))
    spots[node, True] = (sum(xs) / len(xs), -depth)
    return spots[node, True][0]


def taxonomy(data, counts, path):
    """The most frequent nodes at the top of WordNet's tree."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    names = [name.split("/")[-1].split(".")[0] for name in (*data.classes, *data.inner)]
    demo_plot._draw_tree(axes, data.parent, names, demo_plot.node_counts(data.parent, counts))
    axes.set_title("")
    save(figure, path)


def training(models, path):
    """The loss during five epochs of WordNet."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    for (name, model), color in zip(models.items(), (BLUE, RED), strict=True):
        examples = np.array([step.examples for step in model.history_]) / 1e3
        axes.plot(examples, [step.nll for step in model.history_], color=color, label=name)
    axes.set(xlabel="training examples, thousands", ylabel="mean nll, nats", ylim=(0, 10))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    save(figure, path)


def calibration(models, X, y, path):
    """Stated probability of the best class against how often it is right, on test rows."""
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    for axes, (name, model) in zip(figure.subplots(1, 2, sharey=True), models.items(), strict=True):
        top = model.top_k(X, k=1)
        p = np.exp(top.log_probs[:, 0].astype(np.float64))
        found = cso.expected_calibration_error(np.minimum(p, 1), top.labels[:, 0] == y)
        found.plot(axes)
        axes.label_outer()
        axes.set_title(f"{name}: calibration error {found.error:.2f}", fontsize=10)
    save(figure, path)


def save(figure, path):
    """The same bytes from the same numbers: no date, no random names inside."""
    with matplotlib.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, metadata={"Date": None})
    print(path)


if __name__ == "__main__":
    main()
