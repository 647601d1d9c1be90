"""Lines of labeled text with some sense in them, in fastText's form."""

import numpy as np

LETTERS = "abcdefghijklmnoprstuvwzäéß日本語кит"


def word(rng):
    return "".join(rng.choice([*LETTERS], size=int(rng.integers(1, 9))))


def labeled_lines(n, n_labels, seed, *, n_words=600, prefix="__label__"):
    """Each line has a label, words that are frequent with it, and words of no meaning."""
    rng = np.random.default_rng(seed)
    words = [word(rng) for _ in range(n_words)]
    weight = 1 / np.arange(1, n_labels + 1)
    lines = []
    drawn = rng.choice(n_labels, size=max(0, n - n_labels), p=weight / weight.sum())
    for label in [*range(n_labels), *drawn]:  # none is missing
        own = (label * 7 + rng.integers(0, 5, size=int(rng.integers(1, 6)))) % n_words
        other = rng.integers(0, n_words, size=int(rng.integers(0, 12)))
        text = " ".join(words[i] for i in rng.permutation(np.concatenate([own, other])))
        lines.append(f"{prefix}L{label} {text}")
    return lines
