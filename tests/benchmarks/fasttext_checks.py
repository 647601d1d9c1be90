"""The importer's table of checks: python tests/benchmarks/fasttext_checks.py [--seed 1]

Trains a model of each kind with fastText, loads it, and compares answers on 1,500 lines and more.
With --model and --lines it compares those of a model of your own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cython_sparseops as cso
from benchmarks.fasttext_peer import zeroed_memory
from helpers.texts import labeled_lines

LINES, LABELS = 1500, 60
# Options of training, and of quantization.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "words": ({}, None),
    "words, 2 labels": ({"labels": 2}, None),
    "word n-grams 3": ({"wordNgrams": 3, "bucket": 5000}, None),
    "character n-grams 2-5": ({"minn": 2, "maxn": 5, "bucket": 5000}, None),
    "both": ({"wordNgrams": 2, "minn": 1, "maxn": 3, "bucket": 5000}, None),
    "quantized": ({"wordNgrams": 2, "bucket": 2000}, {}),
    "quantized, norms": ({"minn": 3, "maxn": 4, "bucket": 2000, "dim": 33}, {"qnorm": True}),
    "pruned": (
        {"wordNgrams": 2, "minn": 2, "maxn": 3, "bucket": 3000},
        {"cutoff": 1000, "qnorm": True},
    ),
    "quantized output": ({"labels": 300}, {"qout": True, "qnorm": True}),
}


class Comparison(NamedTuple):
    """Figures of one model."""

    texts: int
    labels: int
    file_bytes: int
    top_1_differ: int  # beside ties
    ties: int  # texts whose two likeliest labels fastText scores alike
    exact: float  # largest |p - p'|, ours exact
    offset: float  # the same, ours in fastText's form
    load_seconds: float
    lines_per_second: float
    peer_lines_per_second: float


def trained(module: Any, kind: str, folder: Path, seed: int) -> tuple[Path, list[str]]:
    """A model file of this kind, and the lines that it was trained on."""
    options, quantization = KINDS[kind]
    settings = {"dim": 20, "epoch": 15, "lr": 0.5, "minCount": 1, "bucket": 0, "wordNgrams": 1}
    settings |= {"minn": 0, "maxn": 0, "thread": 1, "verbose": 0} | options
    n_labels = settings.pop("labels", LABELS)
    lines = labeled_lines(LINES, n_labels, seed)
    data = folder / "train.txt"
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / f"model.{'bin' if quantization is None else 'ftz'}"
    with zeroed_memory():
        model = module.train_supervised(input=str(data), loss="hs", **settings)
        if quantization is not None:
            model.quantize(input=str(data), retrain=False, **quantization)
        model.save_model(str(path))
    return path, lines


def compare(module: Any, path: Path, lines: list[str]) -> Comparison:
    """Answers of a file on these lines and some odd ones: fastText's and ours."""
    texts = [line.partition(" ")[2] for line in lines]
    texts += ["", "never seen before", "</s>", "__label__L1 and __label__none", "日\u00a0本 é\t!"]
    peer = module.load_model(str(path))
    k = min(5, len(peer.labels))
    start = time.perf_counter()
    model = cso.load_fasttext(path)
    loaded = time.perf_counter() - start
    model.top_k(texts[:1], k)  # the first call finds out what the machine can do
    start = time.perf_counter()
    found = model.top_k(texts, k, num_threads=1)
    ours = time.perf_counter() - start
    start = time.perf_counter()
    answers = [peer.f.predict(text + "\n", k, 0.0, "strict") for text in texts]
    theirs = time.perf_counter() - start
    tied = np.array([len(row) > 1 and row[0][0] - row[1][0] < 1e-6 for row in answers])
    # Labels below 1e-5 are left out there; the first of the row stands in for them.
    answers = [row + row[:1] * (k - len(row)) for row in answers]
    labels = np.array([[label for _, label in row] for row in answers])
    scores = np.array([[score for score, _ in row] for row in answers])
    known = {label: at for at, label in enumerate(model.labels.tolist())}
    classes = np.array([[known[label] for label in row] for row in labels.tolist()])
    hidden = cso.embedding_bag(model.transform(texts), model.E)
    logs = cso.hsoftmax_log_proba(hidden, model.W, None, model.hierarchy, classes=classes)
    offset = np.exp(model.offset_log_proba(texts, labels))
    differ = labels[:, 0] != found.labels[:, 0]
    return Comparison(
        texts=len(texts),
        labels=len(model.labels),
        file_bytes=path.stat().st_size,
        top_1_differ=int((differ & ~tied).sum()),
        ties=int(tied.sum()),
        exact=float(np.abs(np.exp(logs) - scores).max()),
        offset=float(np.abs(offset - scores).max()),
        load_seconds=loaded,
        lines_per_second=len(texts) / ours,
        peer_lines_per_second=len(texts) / theirs,
    )


def main() -> None:
    """Print a row for each kind."""
    import fasttext

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path, help="a .bin or .ftz file")
    parser.add_argument("--lines", type=Path, help="lines of label and text, for --model")
    arguments = parser.parse_args()
    heads = ["model", "labels", "file KB", "texts", "top 1 differs", "ties"]
    heads += ["largest difference of p, exact", "in fastText's form"]
    heads += ["lines per second", "fastText's"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    if arguments.model:
        lines = arguments.lines.read_text(encoding="utf-8").splitlines()
        print(row(arguments.model.name, compare(fasttext, arguments.model, lines)))
        return
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            found = compare(fasttext, *trained(fasttext, kind, Path(folder), arguments.seed))
        print(row(kind, found))


def row(name: str, found: Comparison) -> str:
    """A line of the table."""
    return (
        f"| {name} | {found.labels} | {found.file_bytes / 1000:.0f} | {found.texts:,} "
        f"| {found.top_1_differ} | {found.ties} | {found.exact:.1e} | {found.offset:.1e} "
        f"| {found.lines_per_second:,.0f} | {found.peer_lines_per_second:,.0f} |"
    )


if __name__ == "__main__":
    main()
