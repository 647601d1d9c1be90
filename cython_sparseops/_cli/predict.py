"""The command ``sparseops predict``."""

from __future__ import annotations

import argparse
import json

from cython_sparseops._cli.arguments import (
    Commands,
    add_threads,
    existing_model,
    fraction,
    positive,
)
from cython_sparseops._cli.fasttext import add_places, print_predictions
from cython_sparseops._cli.output import write

EXAMPLES = """\
examples:
  sparseops predict reviews.sops new.txt -k 3
  sparseops predict tags.sops new.txt -k 10 --threshold 0.5
  echo 'what a fine film' | sparseops predict reviews.sops -

One line of output for each line of input: labels and probabilities, likeliest first. Labels in the
input are ignored. With --json, one JSON object per line. With k told by its place, or a model of
`sparseops supervised` and no -k, labels alone, as `fasttext predict` prints them; predict-prob has
both.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    sub = commands.add("predict", run, "print the likeliest labels of each line", EXAMPLES)
    sub.add_argument("model", type=existing_model, help="a model file")
    sub.add_argument("input", nargs="?", default="-", help="examples, - for stdin (the default)")
    add_places(sub)
    sub.add_argument("-k", type=positive, help="labels per line (default 1)")
    sub.add_argument(
        "--threshold",
        type=fraction,
        default=0.0,
        metavar="P",
        help="leave out labels that are less likely (default: none)",
    )
    add_threads(sub)


def run(arguments: argparse.Namespace) -> None:
    """Answer lines as they come."""
    from cython_sparseops._cli.model import CliModel

    model = CliModel.load_predictor(arguments.model, arguments.threads)
    if arguments.labels or (model.source.is_fasttext and arguments.k is None):
        arguments.least = arguments.least or arguments.threshold
        print_predictions(arguments, probabilities=False)
        return
    for block in model.predictions(arguments.input, arguments.k or 1, arguments.threshold):
        written = []
        for labels, probabilities in block:
            if arguments.json:
                written.append(json.dumps({"labels": labels, "probabilities": probabilities}))
                continue
            pairs = zip(labels, probabilities, strict=True)
            written.append(" ".join(f"{label} {probability:.6g}" for label, probability in pairs))
        write("\n".join(written), flush=True)  # whoever asked may wait for it
