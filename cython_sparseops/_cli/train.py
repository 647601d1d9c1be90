"""The command ``sparseops train``."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

from cython_sparseops._cli import readers as data
from cython_sparseops._cli.arguments import Commands, add_format, add_threads, positive, seed, show
from cython_sparseops._cli.output import say
from cython_sparseops._cli.streams import InputError
from cython_sparseops._models.bag import OPTIMIZERS, TREES

# What `sparseops train` hands to the classifier: its parameter, our option.
SETTINGS = {
    "hidden_dim": "dim",
    "optimizer": "optimizer",
    "lr": "lr",
    "epochs": "epoch",
    "batch_size": "batch_size",
    "weight_decay": "weight_decay",
    "dropout": "dropout",
    "max_norm": "max_norm",
    "random_state": "seed",
    "num_threads": "threads",
}

EXAMPLES = """\
examples:
  sparseops train reviews.txt -o reviews.sops
  sparseops train train.svm.gz -o model.sops --hierarchy two_level --epoch 10
  sparseops train train.txt.xz -o model.sops --hierarchy tree.npz --dim 200

input: fastText text, `__label__x token token ...` per line, or svmlight, `3 1:0.5 7:2`; .xz, .gz
and .bz2 are read as they are, `-` is stdin. Tokens are separated by white space and taken as they
are. A line with several labels trains the first of them; stderr tells how many lines had several.

--hierarchy FILE is an .npz file with an array `parent` (parent[i] is the parent of node i, -1 that
of the root), or a Hierarchy saved by the library. Labels are then class numbers: class i is the
i-th leaf; labels of a Hierarchy with names (Hierarchy.from_table) are its names.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    sub = commands.add("train", run, "train a classifier and save it", EXAMPLES)
    sub.add_argument("input", help="labeled examples, - for stdin")
    sub.add_argument("-o", "--output", required=True, metavar="MODEL", help="the file to write")
    add_format(sub)
    trees = "huffman (default), two_level, balanced, or a file"
    sub.add_argument("--hierarchy", default="huffman", metavar="TREE", help=trees)
    sub.add_argument("--max-children", type=positive, help="split wider nodes of a tree file")
    sub.add_argument(
        "--dim", type=positive, default=100, help="of the embeddings (default %(default)s)"
    )
    sub.add_argument("--epoch", type=positive, help="passes (default 5; more if the data are few)")
    sub.add_argument("--lr", type=float, help="(default 0.3; adam 0.02; sgd 8 / batch size)")
    sub.add_argument("--batch-size", type=positive, default=256, help="(default %(default)s)")
    sub.add_argument("--optimizer", choices=tuple(OPTIMIZERS), default="adagrad")
    sub.add_argument("--weight-decay", type=float, default=0.0, help="(default %(default)s)")
    sub.add_argument("--dropout", type=float, default=0.0, help="of features (default %(default)s)")
    sub.add_argument("--max-norm", type=float, help="longest row of the weights (default: any)")
    sub.add_argument(
        "--min-count", type=positive, default=1, help="of a token (default %(default)s)"
    )
    sub.add_argument("--seed", type=seed, default=0, help="(default %(default)s)")
    sub.add_argument("--quiet", action="store_true", help="no progress bar")
    add_threads(sub)


def run(arguments: argparse.Namespace) -> int:
    """Read, train, save."""
    from cython_sparseops._cli.model import CliModel, read_training

    folder = os.path.dirname(os.path.abspath(arguments.output))
    if not os.path.isdir(folder):
        raise InputError(f"output must be in a folder that exists, got {arguments.output}")
    if os.path.exists(arguments.output) and not os.path.isfile(arguments.output):
        raise InputError(f"output must be a file, got {arguments.output}")
    tree, given = arguments.hierarchy, arguments.hierarchy not in TREES
    if given and not os.path.isfile(tree):
        raise InputError(f"hierarchy must be one of {TREES} or a file, got {tree!r}")
    named = data.read_named_tree(tree) if given else None
    given &= named is None
    training = read_training(
        arguments.input, arguments.format, arguments.label, arguments.min_count, numbers=given
    )
    if training.several:
        say(f"warning: lines with several labels, only the first is trained: {training.several}")
    if given:
        tree = data.read_tree(tree, training.y, arguments.max_children)
    classifier, interrupted = _classifier(arguments, named or tree), False
    start = time.perf_counter()
    try:
        classifier.fit(training.X, training.y)
    except KeyboardInterrupt:
        if not getattr(classifier, "history_", None):
            raise
        interrupted = True
    seconds = time.perf_counter() - start
    model = CliModel(classifier, training.format, training.vocabulary, arguments.label)
    model.save(arguments.output)
    last = classifier.history_[-1]
    result = {
        "model": arguments.output,
        "examples": len(training.y),
        "classes": len(classifier.classes_),
        "features": int(classifier.n_features_in_),
        "epochs": last.epoch,
        "nll": last.nll,
        "seconds": round(seconds, 3),
        "examples/s": round(last.examples / seconds),
        "file bytes": os.path.getsize(arguments.output),
    }
    show(result, arguments.json)
    if interrupted:
        done = f"{last.examples} of {last.total_examples} examples"
        say(f"interrupted after {done}; the model so far is saved")
    return 130 if interrupted else 0


def _classifier(arguments: argparse.Namespace, tree: Any) -> Any:
    from cython_sparseops.sklearn import HSoftmaxClassifier

    settings = {name: getattr(arguments, option) for name, option in SETTINGS.items()}
    return HSoftmaxClassifier(hierarchy=tree, verbose=0 if arguments.quiet else 1, **settings)
