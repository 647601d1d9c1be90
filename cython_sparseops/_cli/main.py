"""The command ``sparseops``: train, test, predict, tree, bench, info, demo."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

import cython_sparseops as cso
from cython_sparseops._cli import readers as data
from cython_sparseops._cli.output import OutputError, drop_output, say, write
from cython_sparseops._cli.streams import InputError, open_lines
from cython_sparseops._hierarchy_choose import candidate_trees
from cython_sparseops._models.bag import OPTIMIZERS, TREES
from cython_sparseops._table import facts, table

__all__ = ["main"]

NEEDS = "this needs scikit-learn: pip install 'cython-sparseops[demo]'"

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

TRAIN_EXAMPLES = """\
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
TEST_EXAMPLES = """\
examples:
  sparseops test reviews.sops held-out.txt
  sparseops test reviews.sops held-out.txt -k 10 --json

P@k is the share of the k likeliest classes that are the example's (first) label, at most 1 / k; R@k
is the share of examples whose label is among them: both as fastText counts them. nll is the mean
negative log-probability of the label, in nats. Labels unknown to the model count as misses and have
no nll.
"""
PREDICT_EXAMPLES = """\
examples:
  sparseops predict reviews.sops new.txt -k 3
  echo 'what a fine film' | sparseops predict reviews.sops -

One line of output for each line of input: labels and probabilities, likeliest first. Labels in the
input are ignored. With --json, one JSON object per line.
"""
TREE_EXAMPLES = """\
examples:
  sparseops tree counts.txt --dim 100
  sparseops tree train.txt.xz --json

A file of counts has one line per class and the count as its last word; anything else is read as
training examples. Flops are multiply-adds per example, forward; W is the size of the weights in
float32.
"""
BENCH_EXAMPLES = """\
examples:
  sparseops bench
  sparseops bench --classes 1000000 --dim 64 --threads 4
  sparseops bench train.txt.xz --json

Times the operators on random weights and a Huffman tree, on one thread and on all, about ten
seconds in all. Classes are those of the file (read as by `sparseops tree`), or Zipf distributed.
"""
INFO_EXAMPLES = """\
examples:
  sparseops info
  sparseops info reviews.sops
"""
DEMO_EXAMPLES = """\
examples:
  sparseops demo
  sparseops demo --output pictures --json

Trains on the bundled WordNet data (definition -> hypernym, 19,381 classes) with a Huffman tree and
with WordNet's own taxonomy as the tree; takes well under a minute. Writes sparseops-demo.png.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        0; 2 on bad input, with one line on stderr; 130 when interrupted. Wrong arguments raise
        SystemExit(2).

    Examples
    --------
    >>> main(["info"])  # doctest: +ELLIPSIS
    cython_sparseops ...
    0
    """
    try:
        try:
            arguments = _parser().parse_args(argv)
            command: Callable[[argparse.Namespace], int | None] = arguments.command
            return command(arguments) or 0
        finally:
            if sys.stdout is not None:
                write("", end="", flush=True)  # Python would, too late to be told of
    except BrokenPipeError:  # the reader of stdout has gone: nobody to tell
        drop_output()
        return 0
    except OutputError as error:
        drop_output()
        say(f"error: standard output: {error}")
        return 2
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except ImportError as error:
        say(f"error: {NEEDS} ({error})")
        return 2
    except OSError as error:
        say(f"error: {error.filename or 'input'}: {error.strerror or error}")
        return 2
    except (ValueError, MemoryError) as error:
        say(f"error: {' '.join(str(error).split()) or type(error).__name__}")
        return 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    summary = "Classifiers for very many classes: hierarchical softmax."
    parser = _Parser(prog="sparseops", description=summary)
    parser.add_argument("--version", action="version", version=f"sparseops {cso.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, command: Any, summary: str, examples: str) -> argparse.ArgumentParser:
        style = argparse.RawDescriptionHelpFormatter
        sub = commands.add_parser(
            name, help=summary, description=summary, epilog=examples, formatter_class=style
        )
        sub.set_defaults(command=command)
        sub.add_argument("--json", action="store_true", help="print JSON")
        return sub

    _add_train(add("train", _train, "train a classifier and save it", TRAIN_EXAMPLES))
    sub = add("test", _test, "measure a model on labeled examples", TEST_EXAMPLES)
    sub.add_argument("model")
    sub.add_argument("input", help="labeled examples, - for stdin")
    sub.add_argument("-k", type=_positive, default=5, help="for P@k and R@k (default %(default)s)")
    _add_threads(sub)
    sub = add("predict", _predict, "print the likeliest labels of each line", PREDICT_EXAMPLES)
    sub.add_argument("model")
    sub.add_argument("input", nargs="?", default="-", help="examples, - for stdin (the default)")
    sub.add_argument("-k", type=_positive, default=1, help="labels per line (default %(default)s)")
    _add_threads(sub)
    sub = add("tree", _tree, "compare the trees for given class counts", TREE_EXAMPLES)
    sub.add_argument("input", help="counts or training examples, - for counts from stdin")
    sub.add_argument("--dim", type=_positive, default=100, help="width of W (default %(default)s)")
    _add_format(sub, "counts")
    sub = add("bench", _bench, "time the operators on this machine", BENCH_EXAMPLES)
    sub.add_argument("input", nargs="?", help="counts or training examples (default: Zipf counts)")
    sub.add_argument("--classes", type=_positive, default=100_000, help="(default %(default)s)")
    sub.add_argument("--dim", type=_positive, default=128, help="width of W (default %(default)s)")
    sub.add_argument("--batch-size", type=_positive, default=1024, help="(default %(default)s)")
    sub.add_argument("--arity", type=_positive, default=2, help="of the tree (default %(default)s)")
    sub.add_argument("-k", type=_positive, default=5, help="of the search (default %(default)s)")
    sub.add_argument("--seconds", type=_positive, default=10, help="in all (default %(default)s)")
    _add_format(sub, "counts")
    _add_threads(sub)
    sub = add("info", _info, "describe a model file, or this installation", INFO_EXAMPLES)
    sub.add_argument("model", nargs="?")
    sub = add("demo", _demo, "train on the bundled WordNet data and show the result", DEMO_EXAMPLES)
    sub.add_argument("--output", default=".", metavar="DIR", help="of the picture (default: here)")
    sub.add_argument("--quick", action="store_true", help="a part of the data, in seconds")
    sub.add_argument("--quiet", action="store_true", help="no progress bar")
    sub.add_argument("--seed", type=_seed, default=0, help="(default %(default)s)")
    _add_threads(sub)
    return parser


def _add_train(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("input", help="labeled examples, - for stdin")
    sub.add_argument("-o", "--output", required=True, metavar="MODEL", help="the file to write")
    _add_format(sub)
    trees = "huffman (default), two_level, balanced, or a file"
    sub.add_argument("--hierarchy", default="huffman", metavar="TREE", help=trees)
    sub.add_argument("--max-children", type=_positive, help="split wider nodes of a tree file")
    sub.add_argument(
        "--dim", type=_positive, default=100, help="of the embeddings (default %(default)s)"
    )
    sub.add_argument("--epoch", type=_positive, help="passes (default 5; more if the data are few)")
    sub.add_argument("--lr", type=float, help="(default 0.3; adam 0.02; sgd 8 / batch size)")
    sub.add_argument("--batch-size", type=_positive, default=256, help="(default %(default)s)")
    sub.add_argument("--optimizer", choices=tuple(OPTIMIZERS), default="adagrad")
    sub.add_argument("--weight-decay", type=float, default=0.0, help="(default %(default)s)")
    sub.add_argument("--dropout", type=float, default=0.0, help="of features (default %(default)s)")
    sub.add_argument("--max-norm", type=float, help="longest row of the weights (default: any)")
    sub.add_argument(
        "--min-count", type=_positive, default=1, help="of a token (default %(default)s)"
    )
    sub.add_argument("--seed", type=_seed, default=0, help="(default %(default)s)")
    sub.add_argument("--quiet", action="store_true", help="no progress bar")
    _add_threads(sub)


def _add_threads(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--threads", type=_positive, help="never changes a result bit (default: all)")


def _add_format(sub: argparse.ArgumentParser, *more: str) -> None:
    sub.add_argument("--format", choices=("auto", "fasttext", "svmlight", *more), default="auto")
    prefix = data.LABEL_PREFIX
    sub.add_argument("--label", default=prefix, metavar="PREFIX", help="(default %(default)s)")


def _positive(word: str) -> int:
    if not (word.isascii() and word.isdigit() and 0 < int(word) < 2**31):
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {word!r}")
    return int(word)


def _seed(word: str) -> int:
    if not (word.isascii() and word.isdigit() and int(word) < 2**32):
        raise argparse.ArgumentTypeError(f"must be an integer in [0, 2**32), got {word!r}")
    return int(word)


def _show(values: dict[str, Any], as_json: bool) -> None:
    write(json.dumps(values) if as_json else facts(values))


def _train(arguments: argparse.Namespace) -> int:
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
    _show(result, arguments.json)
    if interrupted:
        done = f"{last.examples} of {last.total_examples} examples"
        say(f"interrupted after {done}; the model so far is saved")
    return 130 if interrupted else 0


def _classifier(arguments: argparse.Namespace, tree: Any) -> Any:
    from cython_sparseops.sklearn import HSoftmaxClassifier

    settings = {name: getattr(arguments, option) for name, option in SETTINGS.items()}
    return HSoftmaxClassifier(hierarchy=tree, verbose=0 if arguments.quiet else 1, **settings)


def _test(arguments: argparse.Namespace) -> None:
    from cython_sparseops._cli.model import CliModel, evaluate

    model = CliModel.load(arguments.model, arguments.threads)
    X, y, several = model.read_labeled(arguments.input)
    if several:
        say(f"warning: lines with several labels, only the first is looked for: {several}")
    found = evaluate(model.classifier, X, y, arguments.k)
    values = {
        "examples": found.examples,
        "unknown labels": found.unknown_labels,
        "P@1": found.r_at_1,
        "R@1": found.r_at_1,
        f"P@{found.k}": found.r_at_k / found.k,
        f"R@{found.k}": found.r_at_k,
        "nll": found.nll,
        "examples/s": round(found.examples_per_second),
    }
    _show(values, arguments.json)


def _predict(arguments: argparse.Namespace) -> None:
    from cython_sparseops._cli.model import CliModel

    model = CliModel.load(arguments.model, arguments.threads)
    for block in model.predictions(arguments.input, arguments.k):
        written = []
        for labels, probabilities in block:
            if arguments.json:
                written.append(json.dumps({"labels": labels, "probabilities": probabilities}))
                continue
            pairs = zip(labels, probabilities, strict=True)
            written.append(" ".join(f"{label} {probability:.6g}" for label, probability in pairs))
        write("\n".join(written), flush=True)  # whoever asked may wait for it


def _tree(arguments: argparse.Namespace) -> None:
    counts = _class_counts(arguments)
    trees = candidate_trees(counts)
    reports = {name: tree.report(counts, dim=arguments.dim) for name, tree in trees.items()}
    if arguments.json:
        write(json.dumps({name: report._asdict() for name, report in reports.items()}))
        return
    total, entropy = int(counts.sum()), reports["huffman"].entropy
    write(f"{len(counts):,} classes, {total:,} examples, entropy {entropy:.3f} bits\n")
    rows = [
        (
            name,
            report.n_nodes,
            report.n_rows,
            report.depth,
            f"{report.expected_path_length:.3f}",
            f"{report.expected_flops:,.0f}",
            f"{(report.weight_bytes or 0) / 2**20:,.1f} MiB",
        )
        for name, report in reports.items()
    ]
    write(table(["tree", "nodes", "rows", "depth", "path length", "flops", "W"], rows))


def _class_counts(arguments: argparse.Namespace) -> Any:
    with open_lines(arguments.input) as lines:
        return data.read_class_counts(lines, arguments.format, arguments.label)


def _bench(arguments: argparse.Namespace) -> None:
    from cython_sparseops._cli.bench import measure

    if arguments.input is None:
        counts: Any = arguments.classes / np.arange(1.0, arguments.classes + 1)
    else:
        counts = _class_counts(arguments)
    most = arguments.threads or cso.get_num_threads()
    h, timings = measure(
        counts,
        arguments.dim,
        arguments.batch_size,
        arguments.k,
        arity=arguments.arity,
        threads=tuple(sorted({1, most})),
        seconds=arguments.seconds,
    )
    if arguments.json:
        write(json.dumps([timing._asdict() for timing in timings]))
        return
    tree = "Huffman tree" if arguments.arity == 2 else f"Huffman tree of arity {arguments.arity}"
    write(
        f"{h.n_classes:,} classes, dim {arguments.dim}, batch {arguments.batch_size:,}, {tree}, "
        f"float32, {cso.runtime_info().active}\n"
    )
    rows = [(one.operator, one.threads, one.ms, round(one.per_second)) for one in timings]
    write(table(["operator", "threads", "ms", "per second"], rows))


def _info(arguments: argparse.Namespace) -> None:
    if arguments.model is None:
        info = cso.runtime_info()
        write(json.dumps(info._asdict()) if arguments.json else str(info))
        return
    arrays, metadata = cso.load_arrays(arguments.model)
    values: dict[str, Any] = {"file": arguments.model, "kind": metadata.get("kind")}
    if metadata.get("kind") == "HSoftmaxClassifier":
        from cython_sparseops._cli.model import describe

        values |= describe(arguments.model)
    else:
        values |= {name: f"{array.dtype} {array.shape}" for name, array in arrays.items()}
    _show(values | {"file bytes": os.path.getsize(arguments.model)}, arguments.json)


def _demo(arguments: argparse.Namespace) -> None:
    from cython_sparseops._cli.demo import run

    run(arguments)


if __name__ == "__main__":
    sys.exit(main())
