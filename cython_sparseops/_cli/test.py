"""The command ``sparseops test``."""

from __future__ import annotations

import argparse

from cython_sparseops._cli.arguments import Commands, add_threads, positive, show
from cython_sparseops._cli.output import say

EXAMPLES = """\
examples:
  sparseops test reviews.sops held-out.txt
  sparseops test reviews.sops held-out.txt -k 10 --json

P@k is the share of the k likeliest classes that are the example's (first) label, at most 1 / k; R@k
is the share of examples whose label is among them: both as fastText counts them. nll is the mean
negative log-probability of the label, in nats. Labels unknown to the model count as misses and have
no nll.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    sub = commands.add("test", run, "measure a model on labeled examples", EXAMPLES)
    sub.add_argument("model")
    sub.add_argument("input", help="labeled examples, - for stdin")
    sub.add_argument("-k", type=positive, default=5, help="for P@k and R@k (default %(default)s)")
    add_threads(sub)


def run(arguments: argparse.Namespace) -> None:
    """Read, search, print."""
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
    show(values, arguments.json)
