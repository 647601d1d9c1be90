"""A small language model of WordNet's glosses, with this package's heads and torch's adaptive one.

    python tests/examples/language_model.py --steps 1000

Four words predict the next one. The first head trains for so many steps; the others train for as
many, and then on until they have taken the same time. Time is that of the processor, one thread,
training alone; each head has a process of its own, whose peak of memory is told.
"""

import argparse
import lzma
import resource
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

import cython_sparseops as cso
from cython_sparseops.torch import HSoftmax, RowAdagrad

DATA = Path(__file__).resolve().parents[2] / "cython_sparseops/data/wordnet"  # not in wheels
CONTEXT, DIM, BATCH = 4, 128, 512
LABELS = ("__label__", "pos_", "w_")  # what the file holds besides the words of a gloss
HEADS = ("adaptive", "huffman", "cluster", "recluster")


class Text(NamedTuple):
    """Words as numbers, the commonest first."""

    train: np.ndarray
    held_out: np.ndarray  # without the words that training never saw
    counts: np.ndarray


def read_words(name: str) -> list[str]:
    """The glosses of a file in one row, each after a word that marks its start."""
    words: list[str] = []
    path = DATA / f"{name}.txt.xz"
    with path.open("rb") as raw, lzma.open(raw, "rt", encoding="utf-8") as lines:
        for line in lines:
            words += ["<s>", *(word for word in line.split() if not word.startswith(LABELS))]
    return words


def read_text() -> Text:
    train, held_out = read_words("train"), read_words("test")
    common = Counter(train).most_common()
    number = {word: i for i, (word, _) in enumerate(common)}
    known = [number[word] for word in held_out if word in number]
    counts = np.array([count for _, count in common], float)
    return Text(np.array([number[word] for word in train]), np.array(known), counts)


def neighbors(text: Text, columns: int = 2000) -> sp.csr_array:
    """How much more often than by chance a word stands beside each of the commonest ones.

    Positive pointwise mutual information (Levy and Goldberg, 2014), of the words before and after.
    """
    words, wide = text.train, 2 * columns + 2
    beside = np.concatenate([words[:-1], words[1:]])
    side = np.repeat([columns + 1, 0], len(words) - 1)
    word = np.concatenate([words[1:], words[:-1]])
    pairs, times = np.unique(word * wide + np.minimum(beside, columns) + side, return_counts=True)
    row, column = np.divmod(pairs, wide)
    of_row, of_column = np.bincount(row, times), np.bincount(column, times)
    value = np.log(times * times.sum() / (of_row[row] * of_column[column]))
    kept = value > 0
    shape = (len(text.counts), wide)
    return sp.csr_array((value[kept].astype(np.float32), (row[kept], column[kept])), shape)


class Model(nn.Module):
    """Embeddings of the words before, one layer, and the head."""

    def __init__(self, head: nn.Module, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, DIM, sparse=True)
        nn.init.normal_(self.embedding.weight, std=0.3)
        self.layer, self.head = nn.Linear(CONTEXT * DIM, DIM), head

    def forward(self, words: np.ndarray, places: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        before = torch.from_numpy(words[places[:, None] - np.arange(CONTEXT, 0, -1)])
        hidden = torch.tanh(self.layer(self.embedding(before).flatten(1)))
        return self.head(hidden, torch.from_numpy(words[places]))


def perplexity(model: Model, words: np.ndarray) -> float:
    model.eval()
    places, total = np.arange(CONTEXT, len(words)), 0.0
    with torch.no_grad():
        for part in np.array_split(places, len(places) // 2000 + 1):
            total += model(words, part)[0].double().sum().item()
    model.train()
    return float(np.exp(-total / len(places)))


def make_head(name: str, text: Text, lr: float) -> nn.Module:
    classes = len(text.counts)
    if name == "adaptive":
        return nn.AdaptiveLogSoftmaxWithLoss(DIM, classes, [2000, 10_000])
    tree = cso.Hierarchy.huffman(text.counts)
    if name == "cluster":
        tree = cso.Hierarchy.cluster(neighbors(text), arity=64, leaf=64, counts=text.counts)
    return HSoftmax(tree, DIM, optimizer=cso.Adagrad(lr))


class Report(NamedTuple):
    seconds: float  # of the processor, for the steps alone
    at_steps: float  # perplexity
    at_time: float
    steps: int  # once the time was over
    memory: float  # MiB


def train(name: str, steps: int, budget: float, lr: float) -> Report:
    """Train for so many steps, and on until the processor has taken `budget` seconds."""
    torch.set_num_threads(1)
    cso.set_num_threads(1)
    torch.manual_seed(0)
    text, rng = read_text(), np.random.default_rng(0)
    model = Model(make_head(name, text, lr), len(text.counts))
    own = [p for p in model.head.parameters() if p.requires_grad]
    encoder = [*model.embedding.parameters(), *model.layer.parameters()]
    groups = [{"params": encoder, "lr": 0.1}, *([{"params": own, "lr": lr}] if own else [])]
    optimizer = RowAdagrad(groups)
    done, taken, seconds, at_steps = 0, 0.0, 0.0, 0.0
    while done < steps or taken < budget:
        start = time.process_time()
        if name == "recluster" and done == steps // 4:
            leaf = max(8, len(text.counts) // 256)
            model.head.recluster(arity=256, leaf=leaf)
        places = rng.integers(CONTEXT, len(text.train), BATCH)
        optimizer.zero_grad()
        model(text.train, places)[1].backward()
        optimizer.step()
        taken += time.process_time() - start
        done += 1
        if done == steps:
            seconds, at_steps = taken, perplexity(model, text.held_out)
    at_time = at_steps if done == steps else perplexity(model, text.held_out)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Report(seconds, at_steps, at_time, done, memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--head", choices=HEADS, action="append", help="repeatable; default: all")
    parser.add_argument("--lr", type=float, default=0.03, help="of the head")
    args = parser.parse_args()

    heads, budget = args.head or HEADS, 0.0
    print(
        f"{'head':10} {'ms/step':>8} {'equal steps':>12} {'equal time':>11} {'steps':>6} {'MiB':>6}"
    )
    for name in heads:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found = pool.submit(train, name, args.steps, budget, args.lr).result()
        budget = budget or found.seconds
        print(
            f"{name:10} {1000 * found.seconds / args.steps:8.1f} {found.at_steps:12.1f} "
            f"{found.at_time:11.1f} {found.steps:6} {found.memory:6.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
