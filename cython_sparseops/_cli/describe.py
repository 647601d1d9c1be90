"""The commands that describe: ``sparseops tree``, ``bench``, ``info`` and ``demo``."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

import cython_sparseops as cso
from cython_sparseops._cli import readers as data
from cython_sparseops._cli.arguments import (
    Commands,
    add_format,
    add_threads,
    existing_model,
    positive,
    seed,
    show,
)
from cython_sparseops._cli.output import write
from cython_sparseops._cli.streams import open_lines
from cython_sparseops._hierarchy_choose import candidate_trees
from cython_sparseops._table import table

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
The data come with the repository and the source distribution; wheels leave them out.
"""


def add(commands: Commands) -> None:
    """Add the commands."""
    sub = commands.add("tree", _tree, "compare the trees for given class counts", TREE_EXAMPLES)
    sub.add_argument("input", help="counts or training examples, - for counts from stdin")
    sub.add_argument("--dim", type=positive, default=100, help="width of W (default %(default)s)")
    add_format(sub, "counts")
    sub = commands.add("bench", _bench, "time the operators on this machine", BENCH_EXAMPLES)
    sub.add_argument("input", nargs="?", help="counts or training examples (default: Zipf counts)")
    sub.add_argument("--classes", type=positive, default=100_000, help="(default %(default)s)")
    sub.add_argument("--dim", type=positive, default=128, help="width of W (default %(default)s)")
    sub.add_argument("--batch-size", type=positive, default=1024, help="(default %(default)s)")
    sub.add_argument("--arity", type=positive, default=2, help="of the tree (default %(default)s)")
    sub.add_argument("-k", type=positive, default=5, help="of the search (default %(default)s)")
    sub.add_argument("--seconds", type=positive, default=10, help="in all (default %(default)s)")
    add_format(sub, "counts")
    add_threads(sub)
    sub = commands.add("info", _info, "describe a model file, or this installation", INFO_EXAMPLES)
    sub.add_argument("model", nargs="?", type=existing_model, help="a model file")
    sub = commands.add(
        "demo", _demo, "train on the bundled WordNet data and show the result", DEMO_EXAMPLES
    )
    sub.add_argument("--output", default=".", metavar="DIR", help="of the picture (default: here)")
    sub.add_argument("--data", type=Path, metavar="DIR", help="of the data (default: the bundled)")
    sub.add_argument("--quick", action="store_true", help="a part of the data, in seconds")
    sub.add_argument("--quiet", action="store_true", help="no progress bar")
    sub.add_argument("--seed", type=seed, default=0, help="(default %(default)s)")
    add_threads(sub)


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
    if metadata.get("kind") in ("HSoftmaxClassifier", "LabelTreeClassifier"):
        from cython_sparseops._cli.model import describe

        values |= describe(arguments.model)
    else:
        values |= {name: f"{array.dtype} {array.shape}" for name, array in arrays.items()}
    show(values | {"file bytes": os.path.getsize(arguments.model)}, arguments.json)


def _demo(arguments: argparse.Namespace) -> None:
    from cython_sparseops._cli.demo import run

    run(arguments)
