"""Slow, obvious oracles of the sparse operators, in NumPy alone; they import nothing compiled."""

import math

import numpy as np

NORMS = {
    "l1": lambda v: np.abs(v).sum(),
    "l2": lambda v: float(np.abs(v).max(initial=0)) and _l2(v),
    "max": lambda v: np.abs(v).max(initial=0),
}


def _l2(v):
    largest = np.abs(v).max()
    return largest * np.sqrt(((v / largest) ** 2).sum())


def scale_vector(v, ord="l2", norm=1.0, max_norm=False, threshold=0.0):
    """One vector scaled, in float64, and its norm before."""
    v = v.astype(float).copy()
    if threshold > 0:
        v[np.abs(v) <= threshold] = 0
    size = float(NORMS[ord](v))
    if size == 0 or (max_norm and size <= norm):
        return v, size
    with np.errstate(under="ignore"):
        return v / size * norm, size


def normalize(W, axis=0, **options):
    """Dense W with its columns (axis 0) or rows scaled, and the norms."""
    out = W.astype(float).copy()
    vectors = out.T if axis == 0 else out
    norms = np.zeros(len(vectors))
    for i, v in enumerate(vectors):
        vectors[i], norms[i] = scale_vector(v, **options)
    return out, norms


def normalize_gradient(W, grad, axis=0, norm=1.0, max_norm=False):
    x, g = W.astype(float), grad.astype(float).copy()
    for xs, gs in zip(x.T if axis == 0 else x, g.T if axis == 0 else g, strict=True):
        size = NORMS["l2"](xs)
        if size > 0 and not (max_norm and size <= norm):
            y = xs / size
            gs[:] = (gs - y * (y @ gs)) * norm / size
    return g


def philox(key, low, high):
    """The four words of a Philox4x32-10 block (Salmon et al., SC 2011), with Python's integers."""
    k = [key & 0xFFFFFFFF, key >> 32]
    c = [low & 0xFFFFFFFF, low >> 32, high & 0xFFFFFFFF, high >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [q >> 32 ^ c[1] ^ k[0], q & 0xFFFFFFFF, p >> 32 ^ c[3] ^ k[1], p & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return tuple(c)


def drops(seed, first, n, rate, purpose=4, part=0):
    """Which of n draws drop: 4 entries, 5 segments, 6 ids."""
    threshold = round(rate * 2**32)
    if 0 < rate < 1:
        threshold = min(max(threshold, 1), 2**32 - 1)
    high = (purpose << 56) | part
    return np.array(
        [philox(seed, i // 4, high)[i % 4] < threshold for i in range(first, first + n)], bool
    )


def likely_counts(n, p, error=1e-10):
    """Counts of n draws with probability p but for `error`, by Bernstein's inequality."""
    t = math.log(2 / error)
    width = t / 3 + math.sqrt(t * t / 9 + 2 * n * p * (1 - p) * t)
    return range(math.floor(n * p - width), math.ceil(n * p + width) + 1)
