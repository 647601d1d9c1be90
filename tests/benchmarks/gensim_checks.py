"""What load_gensim gives against gensim itself: python tests/benchmarks/gensim_checks.py

Trains Word2Vec models with hs=1, and compares log-probabilities with gensim's formula, worked out
by NumPy in float64, and sums of whole sentences with gensim's own `score`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cython_sparseops as cso
from helpers.texts import labeled_lines

WINDOW = 5


def formula(model: Any, x: Any) -> Any:
    """log p of every word by gensim's own paths: the sum of log σ(±syn1·x)."""
    logits = model.syn1.astype(float) @ x.astype(float)
    found = []
    for point, code in zip(*(model.wv.expandos[name] for name in ("point", "code")), strict=True):
        found.append(-np.log1p(np.exp(np.where(code == 1, 1, -1) * logits[point])).sum())
    return np.array(found)


def sentence_score(model: Any, line: list[str]) -> float:
    """The sum of log p of every pair of words within the window, exactly."""
    h, W, words = cso.load_gensim(model)
    number = {word: i for i, word in enumerate(words)}
    ids = [number[word] for word in line]
    pairs = [
        (ids[j], ids[i])
        for i in range(len(ids))
        for j in range(max(0, i - WINDOW), min(len(ids), i + WINDOW + 1))
        if i != j
    ]
    given, target = (np.array(side) for side in zip(*pairs, strict=True))
    return float(-cso.hsoftmax(model.wv.vectors[given], W, None, target, h).sum(dtype=float))


def main() -> None:
    """Print a row for each model."""
    from gensim.models import Word2Vec

    heads = ["model", "words", "largest difference of log p", "sum of p, off 1 by"]
    heads += ["a sentence, exact", "gensim's score"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    lines = [line.split(" ")[1:] for line in labeled_lines(1500, 60, 1)]
    for skip_gram, epochs in ((1, 5), (1, 40), (0, 5)):
        model = Word2Vec(
            lines, vector_size=50, window=WINDOW, hs=1, negative=0, sg=skip_gram, epochs=epochs,
            min_count=1, workers=1, seed=1,
        )  # fmt: skip
        h, W, words = cso.load_gensim(model)
        X = model.wv.vectors[:100]
        found = cso.hsoftmax_log_proba(X, W, None, h).astype(float)
        apart = max(np.abs(formula(model, x) - own).max() for x, own in zip(X, found, strict=True))
        off = np.abs(np.exp(found).sum(axis=1) - 1).max()
        scores = "- | -"
        if skip_gram:
            line = max(lines, key=len)
            own = float(model.score([line], total_sentences=1)[0])
            scores = f"{sentence_score(model, line):.3f} | {own:.3f}"
        name = f"{'skip-gram' if skip_gram else 'CBOW'}, {epochs} epochs"
        print(f"| {name} | {len(words)} | {apart:.1e} | {off:.1e} | {scores} |")


if __name__ == "__main__":
    main()
