"""The command ``sparseops train``."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any, NamedTuple

import numpy as np

from cython_sparseops import Hierarchy
from cython_sparseops._arrays import HALVES
from cython_sparseops._cli import readers as data
from cython_sparseops._cli.arguments import (
    Commands,
    add_format,
    add_threads,
    character_ngrams,
    fraction,
    positive,
    positive_real,
    seed,
    show,
)
from cython_sparseops._cli.output import say, write
from cython_sparseops._cli.streams import InputError
from cython_sparseops._models.bag import OPTIMIZERS
from cython_sparseops._models.labels import class_list, with_classes
from cython_sparseops._models.linear import GUIDED, LOSSES
from cython_sparseops._models.linear import TREES as LINEAR_TREES
from cython_sparseops._models.text import TOKENS
from cython_sparseops._models.trees import TREES as EMBEDDING_TREES

HEADS = ("auto", "linear", "embedding")
# A guided tree needs another beside it.
TREES = tuple(t for t in dict.fromkeys((*EMBEDDING_TREES, *LINEAR_TREES)) if t != GUIDED)
# What the options of a head are called by its classifier.
EMBEDDING = {
    "dim": "hidden_dim",
    "optimizer": "optimizer",
    "lr": "lr",
    "epoch": "epochs",
    "batch_size": "batch_size",
    "weight_decay": "weight_decay",
    "dropout": "dropout",
    "max_norm": "max_norm",
    "dtype": "dtype",
}
LINEAR = {"trees": "n_trees", "loss": "loss", "C": "C", "threshold": "threshold"}

EXAMPLES = """\
examples:
  sparseops train reviews.txt -o reviews.sops
  sparseops train reviews.txt -o reviews.sops --time-budget 600 --word-ngrams 2
  sparseops train reviews.txt -o reviews.sops --autotune-validation held-out.txt
  sparseops train tags.svm -o tags.sops --head linear --trees 3
  sparseops train train.svm.gz -o model.sops --hierarchy two_level --epoch 10
  sparseops train train.txt.xz -o model.sops --hierarchy tree.npz --dim 200 --dropout 0.3

input: fastText text, `__label__x token token ...` per line, or svmlight, `3 1:0.5 7:2`; .xz, .gz
and .bz2 are read as they are, `-` is stdin. Both may have several labels a line (`__label__x
__label__y token`, `3,17 1:0.5`), and svmlight a first line `N D L`; all labels are trained. Once a
line has several, labels are judged one by one, and probabilities do not sum to 1.

--head auto tries linear weights and an embedding on held-out lines, within --time-budget, prints
what it tried, and trains the winner on all lines. An option of one head decides for it.

Linear weights and auto take TF-IDF of lowercase words of two letters and more, as scikit-learn
does, unless most tokens are no such words; an embedding takes counts of what white space separates,
as fastText does. The options of text change either.

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
    sub.add_argument("--head", choices=HEADS, default="auto", help="(default %(default)s)")
    trees = f"a file, or {', '.join(TREES)} (default: cluster)"
    sub.add_argument("--hierarchy", metavar="TREE", help=trees)
    sub.add_argument("--max-children", type=positive, help="split wider nodes of a tree file")
    sub.add_argument("--seed", type=seed, default=0, help="(default %(default)s)")
    sub.add_argument("--quiet", action="store_true", help="no progress on stderr")
    add_threads(sub)
    _add_choice(sub.add_argument_group("--head auto"))
    _add_text(sub.add_argument_group("text"))
    _add_linear(sub.add_argument_group("--head linear"))
    _add_embedding(sub.add_argument_group("--head embedding"))


def _add_choice(group: Any) -> None:
    group.add_argument(
        "--time-budget",
        type=positive_real,
        default=60.0,
        metavar="SECONDS",
        help="for all that is tried and the training of the winner (default %(default)s)",
    )
    group.add_argument(
        "--validation", type=fraction, default=0.1, help="share held out (default %(default)s)"
    )
    group.add_argument(
        "--autotune-validation", metavar="FILE", help="labeled examples to judge by instead"
    )
    group.add_argument(
        "--autotune-duration", type=positive_real, metavar="SECONDS", help="as --time-budget"
    )


def _add_text(group: Any) -> None:
    group.add_argument(
        "--tfidf",
        action=argparse.BooleanOptionalAction,
        help="sublinear TF-IDF of unit length, or counts; of svmlight its values are the counts",
    )
    group.add_argument("--tokens", choices=TOKENS, help="between blanks, or words (default: above)")
    group.add_argument(
        "--lowercase",
        action=argparse.BooleanOptionalAction,
        help="or letters as they are (default: lowercase with --tokens words)",
    )
    group.add_argument(
        "--word-ngrams", type=positive, default=1, metavar="N", help="(default %(default)s)"
    )
    group.add_argument(
        "--char-ngrams",
        type=character_ngrams,
        default=(0, 0),
        metavar="MIN:MAX",
        help="runs of characters inside words, as scikit-learn's char_wb (default: none)",
    )
    group.add_argument(
        "--min-count", type=positive, default=1, help="of a token or run (default %(default)s)"
    )


def _add_linear(group: Any) -> None:
    group.add_argument("--trees", type=positive, help="to average (default 1)")
    group.add_argument("--loss", choices=LOSSES, help="(default: by a trial)")
    group.add_argument("--C", type=float, help="cost of errors (default: by a trial)")
    group.add_argument("--threshold", type=float, help="drop smaller weights (default 0.1)")


def _add_embedding(group: Any) -> None:
    group.add_argument("--dim", type=positive, help="of the embeddings (default 100)")
    group.add_argument("--epoch", type=positive, help="passes (default 5; more if data are few)")
    group.add_argument("--lr", type=float, help="(default 0.3; adam 0.02; sgd 8 / batch size)")
    group.add_argument("--batch-size", type=positive, help="(default 256 to 1024, by rows)")
    group.add_argument("--optimizer", choices=tuple(OPTIMIZERS), help="(default adagrad)")
    group.add_argument("--weight-decay", type=float, help="(default 0)")
    group.add_argument("--dropout", type=float, help="of features (default 0)")
    group.add_argument("--max-norm", type=float, help="longest row of weights (default: any)")
    group.add_argument("--dtype", choices=("float32", *HALVES), help="of weights (default float32)")


class Trained(NamedTuple):
    """A fitted classifier, what was tried for it, and whether the training was interrupted."""

    classifier: Any
    report: Any
    interrupted: bool = False


def run(arguments: argparse.Namespace) -> int:
    """Read, train, save."""
    from cython_sparseops._cli.model import CliModel
    from cython_sparseops._cli.training import TextOptions, as_targets, read_training

    _require_output(arguments.output)
    head, given = _head(arguments), arguments.hierarchy not in (None, *TREES)
    if given and not os.path.isfile(arguments.hierarchy):
        raise InputError(f"hierarchy must be one of {TREES} or a file, got {arguments.hierarchy!r}")
    named = data.read_named_tree(arguments.hierarchy) if given else None
    given &= named is None
    options = TextOptions(**{name: getattr(arguments, name) for name in TextOptions._fields})
    training = read_training(
        arguments.input,
        arguments.format,
        arguments.label,
        options,
        tfidf=head != "embedding",
        numbers=given,
        num_threads=arguments.threads,
    )
    tree: Any = named or arguments.hierarchy
    if given:
        tree = data.read_tree(arguments.hierarchy, training.labels.flat, arguments.max_children)
    start = time.perf_counter()
    targets = as_targets(training.labels)
    if targets.several and head != "embedding":
        targets, tree = _on_tree(targets, tree, training.labels)
    elif targets.several:
        say("lines have several labels, which share the weight of their line; see --head linear")
    trained = _trained(head, arguments, tree, training, targets)
    classifier = trained.classifier
    names = targets.classes if getattr(classifier, "multilabel_", False) else None
    classes = classifier.classes_ if names is None else names
    seen = training.labels.indicator(classes).indices
    counts = np.bincount(seen, minlength=len(classes))
    source = training.source._replace(names=names, counts=counts, rows=training.X.shape[0])
    CliModel(classifier, source).save(arguments.output)
    _tell(arguments, training, trained, time.perf_counter() - start)
    return 130 if trained.interrupted else 0


def _require_output(path: str) -> None:
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise InputError(f"output must be in a folder that exists, got {path}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"output must be a file, got {path}")


def _head(arguments: argparse.Namespace) -> str:
    """The head that was asked for, by name or by an option that only it has."""
    given = {
        head: [option for option in options if getattr(arguments, option) is not None]
        for head, options in (("linear", LINEAR), ("embedding", EMBEDDING))
    }
    for head, options in given.items():
        if options and arguments.head not in ("auto", head):
            option = options[0].replace("_", "-")
            raise InputError(f"--{option} must go with --head {head}, got {arguments.head}")
    chosen = next((head for head, options in given.items() if options), arguments.head)
    if chosen != "auto" and arguments.autotune_validation is not None:
        raise InputError(f"--autotune-validation must go with --head auto, got {chosen}")
    if all(given.values()):
        both = " and ".join(f"--{each[0].replace('_', '-')}" for each in given.values())
        raise InputError(f"options must be of one head, got {both}")
    return str(chosen)


def _on_tree(targets: Any, tree: Any, labels: Any) -> tuple[Any, Any]:
    """Targets whose columns are the classes of a tree that was given, and that tree without names:
    those of the columns are in the targets."""
    from cython_sparseops._cli.labels import as_scipy

    if tree is None or isinstance(tree, str):
        return targets, tree
    classes = np.arange(tree.n_classes)
    if tree.class_names is not None:
        classes = class_list(tree, labels.flat)
        seen = labels.indicator(classes).indices
        tree = with_classes(tree, classes, np.bincount(seen, minlength=len(classes)))
        single = np.diff(tree.row_ptr) == 1
        paths = tree.path_ptr, tree.path_node, tree.path_child
        nameless = Hierarchy.from_paths(*paths, logistic=single)
        tree = nameless.independent() if tree.is_independent else nameless
    y = as_scipy(labels.indicator(classes))
    counts = np.bincount(y.indices, minlength=len(classes))
    return targets._replace(y=y, classes=classes, counts=counts), tree


def _trained(
    head: str, arguments: argparse.Namespace, tree: Any, training: Any, targets: Any
) -> Trained:
    from cython_sparseops._cli.training import read_validation
    from cython_sparseops.sklearn import LabelTreeClassifier, choose

    shared = {"random_state": arguments.seed, "num_threads": arguments.threads}
    verbose = 0 if arguments.quiet else 1
    if head == "embedding":
        return _embedding(arguments, tree, training, shared | {"verbose": verbose})
    if head == "linear":
        settings = _given(arguments, LINEAR) | ({} if tree is None else {"hierarchy": tree})
        classifier = LabelTreeClassifier(**settings, **shared, verbose=verbose)
        return Trained(classifier.fit(training.X, targets.y), None)
    judges, validation = arguments.autotune_validation, None
    if judges is not None:
        validation = read_validation(judges, training, targets)
    return Trained(
        *choose(
            training.X,
            targets.y,
            time_budget=arguments.autotune_duration or arguments.time_budget,
            validation_fraction=arguments.validation,
            validation=validation,
            hierarchy=tree,
            verbose=verbose,
            **shared,
        )
    )


def _embedding(
    arguments: argparse.Namespace, tree: Any, training: Any, settings: dict[str, Any]
) -> Trained:
    """Several labels of a row share its weight. Ctrl-C keeps what is learned so far."""
    from cython_sparseops._cli.training import repeated
    from cython_sparseops.sklearn import HSoftmaxClassifier

    if tree is not None:
        settings["hierarchy"] = tree
    classifier = HSoftmaxClassifier(**_given(arguments, EMBEDDING), **settings)
    X, y, weight = training.X, training.labels.flat, None
    if not training.labels.is_single:
        X, y, weight = repeated(X, training.labels)
    try:
        classifier.fit(X, y, weight)
    except KeyboardInterrupt:
        if not getattr(classifier, "history_", None):
            raise
        return Trained(classifier, None, interrupted=True)
    return Trained(classifier, None)


def _given(arguments: argparse.Namespace, options: dict[str, str]) -> dict[str, Any]:
    values = {name: getattr(arguments, option) for option, name in options.items()}
    return {name: value for name, value in values.items() if value is not None}


def _tell(arguments: argparse.Namespace, training: Any, trained: Trained, seconds: float) -> None:
    classifier, history = trained.classifier, getattr(trained.classifier, "history_", None)
    last = history[-1] if history else None
    result: dict[str, Any] = {
        "model": arguments.output,
        "head": "embedding" if last else "linear",
        "examples": training.X.shape[0],
        "labels": len(training.labels.flat),
        "classes": len(classifier.classes_),
        "features": int(classifier.n_features_in_),
    }
    if last:
        result |= {"epochs": last.epoch, "nll": last.nll}
    else:
        result |= {"trees": int(classifier.n_trees), "weights": int(classifier.model_.nnz)}
    done = last.examples if last else training.X.shape[0]
    result |= {
        "seconds": round(seconds, 3),
        "examples/s": round(done / max(seconds, 1e-9)),
        "file bytes": os.path.getsize(arguments.output),
    }
    if trained.report is not None and arguments.json:
        result |= {
            "chosen": trained.report.chosen,
            "tried": [_plain(one._asdict()) for one in trained.report.candidates],
        }
    elif trained.report is not None:
        write(f"{trained.report}\n")
    show(result, arguments.json)
    if trained.interrupted and last:
        done_so_far = f"{last.examples} of {last.total_examples} examples"
        say(f"interrupted after {done_so_far}; the model so far is saved")


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """NaN, which JSON has not, as None."""
    return {name: None if value != value else value for name, value in values.items()}
