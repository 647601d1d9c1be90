"""``sparseops demo``: WordNet definitions to hypernyms, by embeddings and by linear weights."""

from __future__ import annotations

import argparse
import json
import lzma
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import vstack
from sklearn.feature_extraction.text import TfidfTransformer

from cython_sparseops import Hierarchy
from cython_sparseops._cli.labels import LabelLists
from cython_sparseops._cli.measure import Evaluation, evaluate
from cython_sparseops._cli.model import CliModel, Source
from cython_sparseops._cli.output import say, write
from cython_sparseops._cli.readers import (
    LABEL_PREFIX,
    as_class_numbers,
    learn_vocabulary,
    split_labels,
    token_counter,
)
from cython_sparseops._cli.streams import InputError
from cython_sparseops._table import table
from cython_sparseops.sklearn import HSoftmaxClassifier, LabelTreeClassifier

Classifier = HSoftmaxClassifier | LabelTreeClassifier

DATA = Path(__file__).parents[1] / "data" / "wordnet"  # not in wheels
PICTURE = "sparseops-demo.png"
QUICK = 6000  # training examples of --quick
EXAMPLES = 5
BEST = "averaged, names as rows"


class WordNet(NamedTuple):
    """The bundled data: texts, class numbers, names, and the taxonomy as parents of nodes."""

    train: list[str]
    y_train: npt.NDArray[np.int64]
    test: list[str]
    y_test: npt.NDArray[np.int64]
    classes: list[str]
    parent: npt.NDArray[np.int64]
    inner: list[str]  # names of the nodes after the classes


class Trained(NamedTuple):
    """One classifier and what it took."""

    classifier: Classifier
    seconds: float
    examples_per_second: float
    peak_mib: float | None
    test: Evaluation


def load_wordnet(quick: bool = False, folder: Path = DATA) -> WordNet:
    """Read the bundled data.

    Parameters
    ----------
    quick : bool
        Every so many examples only.
    folder : Path
        Where they are.

    Returns
    -------
    WordNet

    Raises
    ------
    InputError
        If they are not there.
    """
    if not (folder / "train.txt.xz").exists():
        raise InputError(
            f"data must be a folder with the demo's files, got {folder}: wheels have none, the "
            "repository and the source distribution do, in cython_sparseops/data/wordnet"
        )

    def lines(name: str) -> list[str]:
        return lzma.decompress((folder / name).read_bytes()).decode("utf-8").splitlines()

    def examples(name: str) -> tuple[list[str], npt.NDArray[np.int64]]:
        parts = [split_labels(line, "__label__") for line in lines(name)]
        parts = parts[:: max(1, len(parts) // QUICK) * 4] if quick else parts
        return [text for _, text in parts], as_class_numbers(labels[0] for labels, _ in parts)

    train, y_train = examples("train.txt.xz")
    test, y_test = examples("test.txt.xz")
    with (folder / "tree.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        parent = arrays["parent"].astype(np.int64)
    return WordNet(
        train, y_train, test, y_test, lines("classes.txt.xz"), parent, lines("tree_nodes.txt.xz")
    )


def run(arguments: argparse.Namespace) -> None:
    """Train an embedding and linear weights on trees of each kind, print the tables, draw.

    Parameters
    ----------
    arguments : Namespace
        ``data``, ``output``, ``quick``, ``quiet``, ``seed``, ``threads``, ``json``.
    """
    from cython_sparseops._cli.demo_plot import (
        draw,  # matplotlib must be there before the work starts
    )

    if not os.path.isdir(arguments.output):
        raise InputError(f"output must be a folder that exists, got {arguments.output}")
    start = time.perf_counter()
    data = load_wordnet(arguments.quick, arguments.data or DATA)
    X, vocabulary = learn_vocabulary(data.train)
    X_test = token_counter(vocabulary).transform(data.test)
    counts = np.bincount(data.y_train, minlength=len(data.classes))
    trees = {
        "Huffman": Hierarchy.huffman(counts),
        "taxonomy": Hierarchy.from_parents(data.parent, counts=counts),
    }
    test = X_test, data.y_test
    trained = {
        name: _train(name, _embedding(tree, arguments), (X, data.y_train), test, arguments)
        for name, tree in trees.items()
    }
    curves = {name: one.classifier.history_ for name, one in trained.items()}
    tf_idf = TfidfTransformer(sublinear_tf=True).fit(X)
    train, test = (tf_idf.transform(X), data.y_train), (tf_idf.transform(X_test), data.y_test)
    names = tf_idf.transform(token_counter(vocabulary).transform(name_texts(data.classes)))
    named = vstack([train[0], names]), np.append(data.y_train, np.arange(len(data.classes)))
    shapes: dict[str, str | list[str | Hierarchy]] = {
        "clustered, linear": "cluster",
        "taxonomy, linear": [trees["taxonomy"]],
        BEST: [trees["taxonomy"], "guided", "cluster"],
    }
    for name, shape in shapes.items():
        classifier = LabelTreeClassifier(
            hierarchy=shape, random_state=arguments.seed, num_threads=arguments.threads
        )
        rows = named if name == BEST else train
        trained[name] = _train(name, classifier, rows, test, arguments)
    predictions = _predictions(trained[BEST].classifier, data, test[0])
    picture = os.path.join(arguments.output, PICTURE)
    draw(picture, curves, data.parent, _node_names(data), counts)
    seconds = time.perf_counter() - start
    if arguments.json:
        write(json.dumps(_as_json(data, trained, predictions, picture, seconds)))
        return
    write(f"{len(data.train):,} definitions for training, {len(data.test):,} for testing, ", end="")
    write(f"{len(data.classes):,} classes, {len(vocabulary):,} words\n")
    _print_tables(trained, predictions)
    write(f"\nTraining curves and the top of the tree: {picture}\n{seconds:.1f} s in all")


def name_texts(classes: list[str]) -> list[str]:
    """A text of each class's name, such as ``bird_genus.n01507175``, in the form of a definition:
    what is called like its hypernym is often a kind of it."""
    texts = []
    for name in classes:
        words, synset = name.rsplit(".", 1)
        parts = words.split("_")
        texts.append(" ".join([f"pos_{synset[0]}", *(f"w_{part}" for part in parts), *parts]))
    return texts


def _embedding(tree: Hierarchy, arguments: argparse.Namespace) -> HSoftmaxClassifier:
    return HSoftmaxClassifier(
        hidden_dim=32 if arguments.quick else 100,
        hierarchy=tree,
        epochs=5,
        random_state=arguments.seed,
        num_threads=arguments.threads,
        verbose=0 if arguments.quiet else 1,
    )


def _train(
    name: str, classifier: Classifier, train: Any, test: Any, arguments: argparse.Namespace
) -> Trained:
    if not arguments.quiet:
        say(f"{name} tree")
    _reset_peak_memory()
    start = time.perf_counter()
    classifier.fit(*train)
    seconds, peak = time.perf_counter() - start, _peak_memory()
    passes = classifier.epochs if isinstance(classifier, HSoftmaxClassifier) else 1
    speed = (passes or 1) * len(train[1]) / seconds
    model = CliModel(classifier, Source("fasttext", LABEL_PREFIX))
    found = evaluate(model, test[0], LabelLists.of_one(test[1]), 5)
    return Trained(classifier, seconds, speed, peak, found)


def _predictions(classifier: Classifier, data: WordNet, X_test: Any) -> list[dict[str, Any]]:
    """Predict a few test definitions of middling length, evenly spaced."""
    parts = [_parts(text) for text in data.test]
    good = [i for i, (words, rest) in enumerate(parts) if words and 6 <= len(rest.split()) <= 16]
    rows = good[len(good) // 10 :: max(1, len(good) // EXAMPLES)][:EXAMPLES]
    found = classifier.top_k(X_test[rows], 5)
    return [
        {
            "words": parts[row][0],
            "definition": parts[row][1],
            "truth": data.classes[data.y_test[row]],
            "hypernyms": [data.classes[label] for label in labels],
            "probabilities": np.exp(logs.astype(np.float64)).tolist(),
        }
        for row, labels, logs in zip(rows, found.labels, found.log_probs, strict=True)
    ]


def _parts(text: str) -> tuple[str, str]:
    """Separate a synset's own words from its definition."""
    tokens = text.split()
    words = [token[2:] for token in tokens if token.startswith("w_")]
    rest = [token for token in tokens if not token.startswith(("w_", "pos_"))]
    return " ".join(words), " ".join(rest)


def _node_names(data: WordNet) -> list[str]:
    """Name every node the last part of its name, without the number of its synset."""
    return [name.split("/")[-1].split(".")[0] for name in (*data.classes, *data.inner)]


def _print_tables(trained: dict[str, Trained], predictions: list[dict[str, Any]]) -> None:
    headers = ["tree", "P@1", "R@5", "nll", "training ex/s", "seconds", "peak memory"]
    rows = [
        (
            name,
            one.test.at["R@1"],
            one.test.at["R@5"],
            one.test.nll,
            one.examples_per_second,
            one.seconds,
            None if one.peak_mib is None else f"{one.peak_mib:,.0f} MiB",
        )
        for name, one in trained.items()
    ]
    write(table(headers, rows))
    write("\nFive test definitions and their likeliest hypernyms by the last of them (* is right):")
    for one in predictions:
        write(f"\n{one['words']}: {one['definition']}")
        for name, probability in zip(one["hypernyms"], one["probabilities"], strict=True):
            write(f"  {probability:6.1%}  {name}{' *' if name == one['truth'] else ''}")
        if one["truth"] not in one["hypernyms"]:
            write(f"          (right: {one['truth']})")


def _as_json(
    data: WordNet,
    trained: dict[str, Trained],
    predictions: list[dict[str, Any]],
    picture: str,
    seconds: float,
) -> dict[str, Any]:
    return {
        "training_examples": len(data.train),
        "test_examples": len(data.test),
        "classes": len(data.classes),
        "trees": {
            name: {
                "p_at_1": one.test.at["R@1"],
                "r_at_5": one.test.at["R@5"],
                "nll": one.test.nll,
                "examples_per_second": one.examples_per_second,
                "seconds": one.seconds,
                "peak_memory_mib": one.peak_mib,
            }
            for name, one in trained.items()
        },
        "predictions": predictions,
        "picture": picture,
        "seconds": seconds,
    }


def _reset_peak_memory() -> None:
    """Start the measuring of peak memory anew, where the system can (Linux)."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def _peak_memory() -> float | None:
    """Peak resident memory of this process in MiB, None where the system does not tell."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**20 if sys.platform == "darwin" else 1024)
