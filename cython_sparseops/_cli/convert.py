"""The command ``sparseops convert``."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from cython_sparseops import FastTextModel, load_fasttext
from cython_sparseops._cli.arguments import Commands, show
from cython_sparseops._cli.readers import LABEL_PREFIX
from cython_sparseops._cli.streams import InputError
from cython_sparseops._models.labels import as_labels

if TYPE_CHECKING:
    from cython_sparseops._cli.model import CliModel

EXAMPLES = """\
examples:
  sparseops convert model.bin -o model.sops
  sparseops convert model.ftz -o model.sops
  sparseops predict model.sops new.txt -k 3

Reads supervised models of fastText that were trained with -loss hs. The new file holds the weights
and how fastText reads a line, so `predict` and `test` answer as fastText does, but with exact
probabilities: fastText's own are larger by up to 1e-5 for each node on the path.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    sub = commands.add("convert", run, "make a model file of a model of fastText", EXAMPLES)
    sub.add_argument("input", metavar="FASTTEXT", help="a .bin or .ftz file")
    sub.add_argument("-o", "--output", required=True, metavar="MODEL", help="the file to write")
    sub.add_argument(
        "--label",
        default=LABEL_PREFIX,
        metavar="PREFIX",
        help="what labels begin with, which the file does not say (default %(default)s)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Read, write, tell."""
    source = load_fasttext(arguments.input)
    model = converted(source, arguments.input, arguments.label)
    model.save(arguments.output)
    values: dict[str, Any] = {
        "model": arguments.output,
        "classes": len(source.labels),
        "features": len(source.E),
        "hidden dim": source.E.shape[1],
        "depth": source.hierarchy.depth,
        "examples trained": model.source.rows,
        "file bytes": os.path.getsize(arguments.output),
    }
    show(values, arguments.json)


def converted(source: FastTextModel, path: str, prefix: str) -> CliModel:
    """The model as the command line keeps it: labels without their prefix.

    Raises
    ------
    InputError
        If a label does not begin with the prefix.
    """
    from cython_sparseops._cli.model import CliModel, Source

    other = next((label for label in source.labels.tolist() if not label.startswith(prefix)), None)
    if other is not None:
        raise InputError(
            f"{path} must have labels that begin with {prefix}, got {other!r:.60} (--label names "
            "another prefix)"
        )
    classifier = source.to_classifier()
    order = np.argsort(source.labels, kind="stable")
    labels = [label.removeprefix(prefix) for label in classifier.classes_.tolist()]
    classifier.classes_ = as_labels(labels)  # still sorted: all lose the same
    counts = None if source.counts is None else source.counts[order]
    features = source._features.with_prefix(prefix)
    rows = 0 if counts is None else int(counts.sum())
    return CliModel(classifier, Source("fasttext", prefix, features, None, None, counts, rows))
