"""Models in fastText's file format, written by the book, and their answers, worked out slowly.

The oracle follows the description of the format token by token and byte by byte, in plain Python.
"""

import math
import struct
from typing import NamedTuple

import numpy as np

SEPARATORS = " \n\r\t\v\f\0"
END = "</s>"
TEXTS = [
    "a cat purrs",
    "",
    "   ",
    "a\u00a0cat\tpurrs\r\n and what follows",
    "__label__x the dog __label__unknown barks",
    "über straße 日本 日 ☃",
    "the dog </s> barks on",
    "x\0y\vz\fcat cat cat",
    "the quick brown fox " * 30,
    "</s>",
    "é <a> \x1c \u2028b",
    b"not \xff\xfe utf-8 \x80\x80 caf\xe9",
]


class Model(NamedTuple):
    """What a file says. kept: the bucket of each column behind the words; None: all of them."""

    words: list[str]
    labels: list[tuple[str, int]]
    E: np.ndarray
    output: np.ndarray
    word_ngrams: int = 1
    minn: int = 0
    maxn: int = 0
    bucket: int = 0
    kept: list[int] | None = None
    input_form: bytes | None = None  # a quantized matrix, ready to be written
    output_form: bytes | None = None
    loss: int = 1
    kind: int = 3
    version: int = 12


def dense(matrix):
    return struct.pack("<2q", *matrix.shape) + matrix.astype("<f4").tobytes()


def quantized(shape, rng, *, width, norms):
    """Random codes and centroids: what is written, and the matrix that they stand for."""
    rows, cols = shape
    parts = -(-cols // width)
    last = cols - (parts - 1) * width
    codes = rng.integers(0, 256, (rows, parts)).astype(np.uint8)
    centroids = rng.normal(size=256 * cols).astype("<f4")
    text = struct.pack("<?2qi", norms, rows, cols, codes.size) + codes.tobytes()
    text += struct.pack("<4i", cols, parts, width, last) + centroids.tobytes()
    matrix = np.zeros(shape, np.float32)
    for i in range(rows):
        for m in range(parts):
            size = last if m == parts - 1 else width
            start = m * 256 * width + int(codes[i, m]) * size
            matrix[i, m * width : m * width + size] = centroids[start : start + size]
    if norms:
        norm_codes = rng.integers(0, 256, rows).astype(np.uint8)
        values = rng.uniform(0.5, 2, 256).astype("<f4")
        text += norm_codes.tobytes() + struct.pack("<4i", 1, 1, 1, 1) + values.tobytes()
        matrix *= values[norm_codes][:, None]
    return text, matrix


def file_bytes(model):
    """The whole file."""
    dim = model.E.shape[1]
    numbers = (dim, 5, 5, 1, 5, model.word_ngrams, model.loss, model.kind, model.bucket)
    parts = [struct.pack("<2i", 793712314, model.version)]
    parts.append(struct.pack("<12id", *numbers, model.minn, model.maxn, 100, 1e-4))
    sizes = (len(model.words) + len(model.labels), len(model.words), len(model.labels))
    n_kept = -1 if model.kept is None else len(model.kept)
    parts.append(struct.pack("<3i2q", *sizes, 12345, n_kept))
    for at, word in enumerate(model.words):
        parts.append(word.encode() + struct.pack("<xqb", 1000 - at, 0))
    for label, count in model.labels:
        parts.append(label.encode() + struct.pack("<xqb", count, 1))
    for column, bucket in enumerate(model.kept or []):
        parts.append(struct.pack("<2i", bucket, column))
    parts.append(struct.pack("<?", model.input_form is not None))
    parts.append(model.input_form or dense(model.E))
    parts.append(struct.pack("<?", model.output_form is not None))
    parts.append(model.output_form or dense(model.output))
    return b"".join(parts)


def random_model(seed, *, n_labels=7, dim=6, pruned=None, width=None, norms=False, **settings):
    """A model of a few words; pruned: how many buckets are kept; width: of quantized parts."""
    rng = np.random.default_rng(seed)
    words = [END, "a", "cat", "the", "dog", "barks", "über", "日本", "purrs", "x", "fox"]
    counts = sorted(rng.integers(1, 50, n_labels).tolist(), reverse=True)
    labels = [(f"__label__{chr(122 - i % 26)}{i}", count) for i, count in enumerate(counts)]
    bucket = settings.get("bucket", 0)
    kept = None if pruned is None else rng.permutation(bucket)[:pruned].tolist()
    rows = len(words) + (bucket if kept is None else len(kept))
    forms = {}
    if width is None:
        E = rng.normal(size=(rows, dim)).astype(np.float32)
        output = rng.normal(size=(n_labels, dim)).astype(np.float32)
    else:
        forms["input_form"], E = quantized((rows, dim), rng, width=width, norms=norms)
        forms["output_form"], output = quantized((n_labels, dim), rng, width=2, norms=norms)
    return Model(words, labels, E, output, kept=kept, **settings, **forms)


# ---- the oracle


def hashed(data):
    h = 2166136261
    for byte in data:
        signed = byte - 256 if byte > 127 else byte
        h = ((h ^ (signed & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
    return h


def tokens_of(text):
    """The tokens of a line, as bytes, with the end that every line has."""
    data = text if isinstance(text, bytes) else text.encode()
    found, word = [], b""
    for byte in [*data, ord("\n")]:
        if chr(byte) not in SEPARATORS:
            word += bytes([byte])
            continue
        if word:
            found.append(word)
            word = b""
            if found[-1] == END.encode():
                return found
        if byte == ord("\n"):
            return [*found, END.encode()]
    raise AssertionError


def characters(word):
    found = []
    for byte in word:
        if byte & 0xC0 == 0x80 and found:
            found[-1] += bytes([byte])
        else:
            found.append(bytes([byte]))
    return found


def char_hashes(model, token):
    """n-grams start where a character starts; bytes that continue none before are skipped."""
    chars = characters(b"<" + token + b">")
    for i in range(len(chars)):
        for n in range(max(1, model.minn), model.maxn + 1):
            if i + n > len(chars) or (n == 1 and i in (0, len(chars) - 1)):
                continue
            yield hashed(b"".join(chars[i : i + n]))


def columns(model, text):
    """The columns of a text, repeated ones again."""
    word_id = {word.encode(): at for at, word in enumerate(model.words)}
    labels = {label.encode() for label, _ in model.labels}
    found, hashes, buckets = [], [], []
    for token in tokens_of(text):
        unknown = token not in word_id
        if token in labels or (unknown and token.startswith(b"__label__")):
            continue
        if not unknown:
            found.append(word_id[token])
        if model.maxn > 0 and token != END.encode():
            buckets += [h % model.bucket for h in char_hashes(model, token)]
        h = hashed(token)
        hashes.append(h - 2**32 if h >= 2**31 else h)
    for i in range(len(hashes)):
        h = hashes[i] % 2**64
        for j in range(i + 1, min(len(hashes), i + model.word_ngrams)):
            h = (h * 116049371 + hashes[j]) % 2**64
            buckets.append(h % model.bucket)
    for bucket in buckets:
        if model.kept is None:
            found.append(len(model.words) + bucket)
        elif bucket in model.kept:
            found.append(len(model.words) + model.kept.index(bucket))
    return found


def paths(counts):
    """(node, child) pairs of each class, root first, by merging the two rarest again and again."""
    n = len(counts)
    count, above = [*counts, *[10**15] * (n - 1)], {}
    leaf, node = n - 1, n
    for i in range(n, 2 * n - 1):
        taken = []
        for _ in range(2):
            if leaf >= 0 and count[leaf] < count[node]:
                taken.append(leaf)
                leaf -= 1
            else:
                taken.append(node)
                node += 1
        count[i] = count[taken[0]] + count[taken[1]]
        above |= {one: (i, side) for side, one in enumerate(taken)}
    found = []
    for at in range(n):
        path = []
        while at in above:
            at, side = above[at]
            path.append((at - n, side))
        found.append(path[::-1])
    return found


def log_probs(model, text, offset=0.0):
    """Σ log(p + offset) of each label."""
    ids = columns(model, text)
    hidden = np.zeros(model.E.shape[1])
    for column in ids:
        hidden += model.E[column].astype(float) / len(ids)
    result = {}
    for (label, _), path in zip(model.labels, paths([c for _, c in model.labels]), strict=True):
        total = 0.0
        for node, side in path:
            p = 1 / (1 + math.exp(-float(model.output[node].astype(float) @ hidden)))
            total += math.log((p if side else 1 - p) + offset)
        result[label] = total
    return result
