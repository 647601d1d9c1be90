"""fastText's own commands and spellings: supervised, predict-prob, test-label, quantize, …"""

from __future__ import annotations

import argparse
import math
import os
import sys
from typing import Any

import numpy as np

from cython_sparseops._cli.arguments import (
    Commands,
    existing_model,
    fraction,
    positive,
    positive_real,
    seed,
    show,
    whole,
)
from cython_sparseops._cli.output import say, write
from cython_sparseops._cli.streams import InputError

LOSSES = {
    "hs": "hs",
    "softmax": "softmax",
    "ns": "negative sampling has no probabilities; hs is as fast and has them",
    "ova": "sparseops train judges every label by itself where lines have several",
    "one-vs-all": "sparseops train judges every label by itself where lines have several",
}
IGNORED = ("lrUpdateRate", "ws", "neg", "t", "saveOutput", "verbose")
SUPERVISED_EXAMPLES = """\
examples:
  sparseops supervised -input train.txt -output model -loss hs -lr 0.5 -epoch 25 -wordNgrams 2
  sparseops test model.bin test.txt
  sparseops supervised -input train.txt -output model -autotune-validation valid.txt

Trains as `fasttext supervised` does and writes OUTPUT.bin, a file of this library: commands take it
with or without the .bin. Text is read by fastText's rules; the guide lists what differs ("Coming
from another library").
"""
PREDICT_PROB_EXAMPLES = """\
examples:
  sparseops predict-prob model.bin test.txt
  sparseops predict-prob model.bin - 3 0.1

Labels and probabilities of each line, as `fasttext predict-prob` prints them.
"""
TEST_LABEL_EXAMPLES = """\
examples:
  sparseops test-label model.bin test.txt
  sparseops test-label model.bin test.txt 3 0.1

F1, precision and recall of every label, the most frequent first, as `fasttext test-label` prints
them.
"""
QUANTIZE_EXAMPLES = """\
examples:
  sparseops quantize -output model
  sparseops quantize -output model -input test.txt -cutoff 100000

Reads OUTPUT.bin and writes OUTPUT.ftz: 8 bits a weight and, with -cutoff, only so many words and
n-grams, those of the longest vectors. With -input, stderr tells P@1 before and after.
"""
VECTORS_EXAMPLES = """\
examples:
  echo 'film actor' | sparseops print-word-vectors model.bin

The vector of each word of stdin: the mean of its row and those of its character n-grams.
"""


def add(commands: Commands) -> None:
    """Add the commands."""
    _add_supervised(commands)
    sub = commands.add(
        "predict-prob", _predict_prob, "fastText's predict-prob", PREDICT_PROB_EXAMPLES
    )
    sub.add_argument("model", type=existing_model, help="a model file")
    sub.add_argument("input", help="examples, - for stdin")
    add_places(sub)
    sub = commands.add("test-label", _test_label, "fastText's test-label", TEST_LABEL_EXAMPLES)
    sub.add_argument("model", type=existing_model, help="a model file")
    sub.add_argument("input", help="labeled examples, - for stdin")
    add_places(sub)
    sub = commands.add("quantize", _quantize, "fastText's quantize", QUANTIZE_EXAMPLES)
    sub.add_argument("-output", required=True, help="of supervised: OUTPUT.bin becomes OUTPUT.ftz")
    sub.add_argument("-input", help="labeled examples to measure on (default: none)")
    sub.add_argument("-cutoff", type=whole, default=0, help="columns to keep (default: all)")
    for name in ("qnorm", "qout", "retrain"):
        sub.add_argument(f"-{name}", nargs="?", const=True, help="taken, and without effect")
    sub.add_argument("-dsub", type=positive, help="taken, and without effect")
    sub = commands.add(
        "print-word-vectors", _print_word_vectors, "fastText's print-word-vectors", VECTORS_EXAMPLES
    )
    sub.add_argument("model", type=existing_model, help="a model file")


def add_places(sub: argparse.ArgumentParser) -> None:
    """Add fastText's k and threshold, which are told by their place."""
    sub.add_argument("labels", nargs="?", metavar="k", type=positive, help="labels (default 1)")
    sub.add_argument("least", nargs="?", metavar="th", type=fraction, help="(default 0)")


def _add_supervised(commands: Commands) -> None:
    sub = commands.add(
        "supervised", _supervised, "train as fastText's supervised does", SUPERVISED_EXAMPLES
    )
    sub.add_argument("-input", required=True, help="training text, - for stdin")
    sub.add_argument("-output", required=True, help="OUTPUT.bin is written")
    sub.add_argument("-lr", type=positive_real, help="learning rate (default 0.1)")
    sub.add_argument("-epoch", type=positive, help="passes (default 5)")
    sub.add_argument("-dim", type=positive, help="of the vectors (default 100)")
    sub.add_argument("-wordNgrams", type=positive, help="longest run of words (default 1)")
    sub.add_argument("-minn", type=whole, help="shortest run of characters (default 0)")
    sub.add_argument("-maxn", type=whole, help="longest run of characters (default 0: none)")
    sub.add_argument("-bucket", type=positive, help="of the n-grams (default 2000000)")
    sub.add_argument("-minCount", type=positive, default=1, help="of words (default %(default)s)")
    sub.add_argument("-minCountLabel", type=whole, default=0, help="(default %(default)s)")
    sub.add_argument("-loss", choices=tuple(LOSSES), default="softmax", help="hs, or softmax")
    sub.add_argument("-label", default="__label__", help="prefix (default %(default)s)")
    sub.add_argument("-thread", type=positive, help="never changes a result bit (default: all)")
    sub.add_argument("-seed", type=seed, default=0, help="(default %(default)s)")
    sub.add_argument(
        "-pretrainedVectors", metavar="FILE", help="vectors of words to begin with, as text"
    )
    for name in IGNORED:
        sub.add_argument(f"-{name}", nargs="?", const="1", help="taken, and without effect")
    tune = sub.add_argument_group("search for the options that are not given")
    tune.add_argument("-autotune-validation", metavar="FILE", help="whose F1 decides")
    tune.add_argument(
        "-autotune-duration", type=positive_real, default=300.0, metavar="S", help="(default 300)"
    )
    tune.add_argument("-autotune-predictions", type=positive, default=1, help="(default 1)")
    tune.add_argument("-autotune-modelsize", metavar="SIZE", help="refused: see quantize -cutoff")


def _settings(arguments: argparse.Namespace) -> Any:
    from cython_sparseops._cli.supervised import Settings, changed

    reason = LOSSES[arguments.loss]
    if reason != arguments.loss:
        raise InputError(f"loss must be hs or softmax, got {arguments.loss} ({reason})")
    if arguments.autotune_modelsize is not None:
        raise InputError(
            "autotune-modelsize must be left out (sparseops quantize -cutoff makes a trained model "
            f"smaller), got {arguments.autotune_modelsize}"
        )
    settings = Settings(
        vectors=arguments.pretrainedVectors,
        min_count=arguments.minCount,
        min_label=arguments.minCountLabel,
        loss=arguments.loss,
        prefix=arguments.label,
        seed=arguments.seed,
        threads=arguments.thread,
        verbose=0 if arguments.verbose in ("0", "1") else 1,
    )
    settings = changed(settings, _given(arguments))
    if arguments.bucket is not None:
        settings = settings._replace(hashing=settings.hashing._replace(buckets=arguments.bucket))
    if settings.hashing.min_chars > max(0, settings.hashing.max_chars):
        raise InputError(f"maxn must be at least minn, got {settings.hashing.max_chars}")
    if not arguments.label:
        raise InputError("label must hold at least one letter, got none")
    return settings


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("lr", "epoch", "dim", "wordNgrams", "minn", "maxn")
    found = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _supervised(arguments: argparse.Namespace) -> int:
    from cython_sparseops._cli.corpus import open_corpus
    from cython_sparseops._cli.supervised import autotune, train

    path = f"{arguments.output}.bin"
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise InputError(f"output must be in a folder that exists, got {arguments.output}")
    settings = _settings(arguments)
    if arguments.autotune_validation and not os.path.isfile(arguments.autotune_validation):
        raise InputError(f"autotune-validation must be a file, got {arguments.autotune_validation}")
    result: dict[str, Any] = {"model": path}
    with open_corpus(arguments.input) as corpus:
        if arguments.autotune_validation is None:
            trained = train(corpus, settings)
        else:
            trained, settings, tried = autotune(
                corpus,
                settings._replace(verbose=0),
                arguments.autotune_validation,
                arguments.autotune_duration,
                arguments.autotune_predictions,
                {*_given(arguments)},
                say if settings.verbose else lambda _: None,
            )
            result["tried"] = [one._asdict() for one in tried]
            result["settings"] = _options(settings)
    if settings.verbose:
        found = trained.vocabulary
        say(f"words {len(found.word_counts):,}, tokens {found.tokens:,}")
        say(f"labels {len(found.label_counts):,}")
    trained.model.save(path)
    if arguments.json:
        last = trained.model.classifier.history_[-1]
        show(result | {"nll": last.nll, "file bytes": os.path.getsize(path)}, as_json=True)
    elif arguments.autotune_validation is not None:
        write(" ".join(f"-{name} {value}" for name, value in _options(settings).items()))
    if trained.interrupted:
        say("interrupted; the model so far is saved")
    return 130 if trained.interrupted else 0


def _options(settings: Any) -> dict[str, Any]:
    hashing = settings.hashing
    return {
        "lr": settings.lr,
        "epoch": settings.epoch,
        "dim": settings.dim,
        "wordNgrams": hashing.word_ngrams,
        "minn": hashing.min_chars,
        "maxn": hashing.max_chars,
    }


def _predict_prob(arguments: argparse.Namespace) -> None:
    print_predictions(arguments, probabilities=True)


def print_predictions(arguments: argparse.Namespace, *, probabilities: bool) -> None:
    """A line of labels for each example, as fastText prints them."""
    from cython_sparseops._cli.model import CliModel

    model = CliModel.load_predictor(arguments.model)
    k, least = arguments.labels or 1, arguments.least or 0.0
    for block in model.predictions(arguments.input, k, least):
        lines = []
        for labels, values in block:
            if arguments.json:
                lines.append(_as_json(labels, values if probabilities else None))
            elif probabilities:
                pairs = zip(labels, values, strict=True)
                lines.append(" ".join(f"{label} {value:.6g}" for label, value in pairs))
            else:
                lines.append(" ".join(labels))
        if lines:
            write("\n".join(lines), flush=True)


def _as_json(labels: list[str], values: list[float] | None) -> str:
    import json

    more = {} if values is None else {"probabilities": values}
    return json.dumps({"labels": labels} | more)


def print_figures(model: Any, arguments: argparse.Namespace) -> None:
    """N, P@k and R@k as fastText prints and counts them."""
    from cython_sparseops._cli.supervised import answers

    k, least = arguments.labels or 1, arguments.least or 0.0
    found = answers(model, arguments.input, k, least).figures()
    if arguments.json:
        named = {"N": found.examples, f"P@{k}": found.precision, f"R@{k}": found.recall}
        show({name: _number(value) for name, value in named.items()}, as_json=True)
        return
    write(f"N\t{found.examples}\nP@{k}\t{found.precision:.3g}\nR@{k}\t{found.recall:.3g}")


def _test_label(arguments: argparse.Namespace) -> None:
    from cython_sparseops._cli.model import CliModel
    from cython_sparseops._cli.supervised import answers

    model = CliModel.load(arguments.model)
    k, least = arguments.labels or 1, arguments.least or 0.0
    found = answers(model, arguments.input, k, least)
    n = len(model.classes)
    given = np.bincount(found.ranked[found.ranked >= 0], minlength=n)
    hits = np.bincount(found.ranked[found.hits()], minlength=n)
    labels = np.bincount(found.truth.indices, minlength=n)
    counts = model.source.counts if model.source.counts is not None else labels
    with np.errstate(invalid="ignore"):
        columns = (2 * hits / (given + labels), hits / given, hits / labels)
    order = np.argsort(-counts, kind="stable").tolist()
    if arguments.json:
        rows = [
            {"label": model.written(model.classes[i])}
            | dict(
                zip(("f1", "precision", "recall"), (_number(c[i]) for c in columns), strict=True)
            )
            for i in order
        ]
        show({"labels": rows}, as_json=True)
        return
    for i in order:
        f1, precision, recall = (_shown(column[i]) for column in columns)
        label = model.written(model.classes[i])
        write(f"F1-Score : {f1}  Precision : {precision}  Recall : {recall}   {label}")
    total = found.figures()
    write(f"N\t{total.examples}\nP@{k}\t{total.precision:.3f}\nR@{k}\t{total.recall:.3f}")


def _shown(value: float) -> str:
    return "--------" if math.isnan(value) else f"{value:.6f}"


def _number(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)


def _quantize(arguments: argparse.Namespace) -> None:
    from cython_sparseops._cli.model import CliModel
    from cython_sparseops._cli.quantizing import save_quantized
    from cython_sparseops._cli.supervised import answers

    source, target = existing_model(f"{arguments.output}.bin"), f"{arguments.output}.ftz"
    model = CliModel.load(source)
    save_quantized(model, target, arguments.cutoff)
    smaller = CliModel.load(target)
    result: dict[str, Any] = {
        "model": target,
        "file bytes": os.path.getsize(target),
        "before": os.path.getsize(source),
    }
    if arguments.input is not None:
        for name, one in (("P@1", smaller), ("P@1 before", model)):
            result[name] = answers(one, arguments.input, 1, 0.0).figures().precision
    if arguments.json:
        show(result, as_json=True)
        return
    say(f"{target}: {result['file bytes']:,} bytes, {result['before']:,} before")
    if arguments.input is not None:
        say(f"P@1 {result['P@1']:.4f}, {result['P@1 before']:.4f} before")


def _print_word_vectors(arguments: argparse.Namespace) -> None:
    from cython_sparseops._cli.model import CliModel
    from cython_sparseops._cli.vectors import word_vectors
    from cython_sparseops._models.text import tokens

    model = CliModel.load(arguments.model)
    for line in sys.stdin.buffer:
        words = tokens(line.decode("latin-1"))
        encoded = [word.encode("latin-1") for word in words]
        for word, vector in zip(encoded, word_vectors(model, encoded), strict=True):
            name, values = word.decode("utf-8", "replace"), vector.tolist()
            if arguments.json:
                show({"word": name, "vector": values}, as_json=True)
            else:
                write(" ".join([name, *(f"{value:.5g}" for value in values)]) + " ")
