"""The command ``sparseops test``."""

from __future__ import annotations

import argparse
from typing import Any

from cython_sparseops._cli.arguments import (
    Commands,
    add_threads,
    existing_model,
    positive,
    show,
)
from cython_sparseops._cli.fasttext import add_places, print_figures
from cython_sparseops._cli.output import write
from cython_sparseops._evaluation import FrequencyBucket
from cython_sparseops._table import table

EXAMPLES = """\
examples:
  sparseops test reviews.sops held-out.txt
  sparseops test reviews.sops held-out.txt -k 10 --json

Figures at 1 and at k: P, the share of the k likeliest classes that are labels of the line; R, the
mean share of a line's labels that are among them; nDCG, which counts a hit by its place; PSP, which
counts a label the more, the rarer it is (Jain et al. 2016, A .55, B 1.5). With one label a line,
P@k is at most 1 / k, and both are as fastText counts them. nll is the mean negative log-probability
of the label, in nats, where every line has one. ECE is the expected calibration error of the
likeliest class. The table is R@k by how often a class occurs in training, averaged over classes.
Labels unknown to the model count as misses and have no nll.

With k told by its place, or a model of `sparseops supervised` and no -k: N, P@k and R@k as
`fasttext test` counts and prints them, over the lines with a label that the model knows.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    sub = commands.add("test", run, "measure a model on labeled examples", EXAMPLES)
    sub.add_argument("model", type=existing_model, help="a model file")
    sub.add_argument("input", help="labeled examples, - for stdin")
    add_places(sub)
    sub.add_argument("-k", type=positive, help="(default 5)")
    add_threads(sub)


def run(arguments: argparse.Namespace) -> None:
    """Read, search, print."""
    from cython_sparseops._cli.measure import evaluate
    from cython_sparseops._cli.model import CliModel

    model = CliModel.load(arguments.model, arguments.threads)
    if arguments.labels or (model.source.is_fasttext and arguments.k is None):
        print_figures(model, arguments)
        return
    found = evaluate(model, *model.read_labeled(arguments.input), arguments.k or 5)
    values = {
        "examples": found.examples,
        "labels": found.labels,
        "unknown labels": found.unknown_labels,
        **found.at,
        "nll": found.nll,
        "ECE": found.ece,
        "examples/s": round(found.examples_per_second),
    }
    name = f"R@{found.k} by frequency"
    if arguments.json:
        buckets = [row._replace(recall=_plain(row.recall))._asdict() for row in found.buckets]
        show(values | {name: buckets}, as_json=True)
        return
    show(values, as_json=False)
    if found.buckets:
        rows = [
            (_span(row), row.classes, row.labels, row.recall)
            for row in found.buckets
            if row.classes
        ]
        write("\n" + table(["times in training", "classes", "labels", f"R@{found.k}"], rows))


def _span(row: FrequencyBucket) -> str:
    return f"{row.least:,}" if row.least == row.most else f"{row.least:,} to {row.most:,}"


def _plain(value: float) -> Any:
    """NaN, which JSON has not, as None."""
    return None if value != value else value
