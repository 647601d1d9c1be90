"""fastText's model files (.bin, .ftz), read: every size is checked before anything is allocated."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from cython_sparseops._arrays import Array

_MAGIC = 793712314
_SUPERVISED, _HS, _WORD, _LABEL = 3, 1, 0, 1
_LOSSES = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
_MODELS = {1: "cbow", 2: "skipgram", 3: "supervised"}
_ENTRY = struct.Struct("<qb")  # count and type, behind the NUL that ends a word
_CHUNK = 1 << 20
_CENTROIDS = 256
_BLOCK = 1 << 16  # rows that are checked or restored at a time
_NOT_MADE = 10**15  # the count of a node that the Huffman algorithm has not made yet


class Settings(NamedTuple):
    """The numbers at the head of a file, in its order and by fastText's names."""

    dim: int
    ws: int
    epoch: int
    min_count: int
    neg: int
    word_ngrams: int
    loss: int
    model: int
    bucket: int
    minn: int
    maxn: int
    lr_update_rate: int


class FastTextFile(NamedTuple):
    """What a file holds."""

    settings: Settings
    words: list[bytes]
    labels: list[bytes]
    label_counts: list[int]
    kept: npt.NDArray[np.int32] | None  # (P,) the bucket of each column behind the words
    E: Array  # (len(words) + buckets or P, dim) float32
    output: Array  # (len(labels), dim) float32; the last row is not used


def read_fasttext(path: str | os.PathLike[str]) -> FastTextFile:
    """Read a supervised model with ``loss=hs``.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    FastTextFile

    Raises
    ------
    ValueError
        If it is another kind of model, or the file is damaged.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its writer
        raise ValueError(f"path must be a regular file, got {os.fsdecode(path)}")
    with open(path, "rb") as file:
        source = _Source(os.fsdecode(path), file, os.fstat(file.fileno()).st_size)
        settings = _read_settings(source)
        words, labels, label_counts, kept = _read_dictionary(source, settings)
        buckets = settings.bucket if kept is None else len(kept)
        is_quantized = source.flag("whether the input is quantized")
        E = _read_matrix(source, "input", len(words) + buckets, settings.dim, is_quantized)
        is_quantized &= source.flag("whether the output is quantized")
        output = _read_matrix(source, "output", len(labels), settings.dim, is_quantized)
        if source.left:
            source.refuse("end behind the output", f"{source.left} bytes more")
        return FastTextFile(settings, words, labels, label_counts, kept, E, output)


class _Source:
    """A file and the bytes that are left of it."""

    def __init__(self, path: str, file: IO[bytes], size: int) -> None:
        self._path, self._file, self.left = path, file, size

    def refuse(self, rule: str, found: object) -> NoReturn:
        raise ValueError(f"{self._path} must {rule}, got {found}")

    def need(self, n: int, what: str) -> None:
        if n > self.left:
            self.refuse(f"hold {n} bytes of {what}", f"{self.left}, as if cut off or damaged")

    def numbers(self, layout: str, what: str) -> tuple[Any, ...]:
        """Numbers of a layout of `struct`."""
        n = struct.calcsize(layout)
        self.need(n, what)
        found = self._file.read(n)
        if len(found) != n:  # the file became shorter
            self.refuse(f"hold {n} bytes of {what}", len(found))
        self.left -= n
        return struct.unpack(layout, found)

    def flag(self, what: str) -> bool:
        (value,) = self.numbers("<B", what)
        if value > 1:
            self.refuse(f"say {what} by 0 or 1", value)
        return bool(value)

    def array(self, dtype: str, n: int, what: str) -> Array:
        """A vector of a little-endian dtype."""
        kind = np.dtype(dtype)
        self.need(n * kind.itemsize, what)
        found = np.fromfile(self._file, kind, n)
        if len(found) != n:  # as above
            self.refuse(f"hold {n} numbers of {what}", len(found))
        self.left -= n * kind.itemsize
        return found.astype(kind.newbyteorder("="), copy=False)

    def entries(self, n: int) -> Iterator[tuple[bytes, int, int]]:
        """Words with their counts and types."""
        self.need(n * (1 + _ENTRY.size), "words and labels")
        start = self._file.tell()
        chunk, at, read = b"", 0, 0
        for _ in range(n):
            stop = chunk.find(b"\0", at)
            while stop < 0 or stop + 1 + _ENTRY.size > len(chunk):
                chunk, at = chunk[at:], 0
                more = self._file.read(max(_CHUNK, len(chunk)))
                if not more:
                    self.refuse(f"hold {n} words and labels", "fewer, as if cut off or damaged")
                chunk, read = chunk + more, read + len(more)
                stop = chunk.find(b"\0")
            word = chunk[at:stop]
            at = stop + 1 + _ENTRY.size
            yield word, *_ENTRY.unpack_from(chunk, stop + 1)
        used = read - (len(chunk) - at)
        self._file.seek(start + used)
        self.left -= used


def _read_settings(source: _Source) -> Settings:
    if source.left < 8:
        source.refuse("be a model of fastText", f"a file of {source.left} bytes")
    magic, version = source.numbers("<2i", "head")
    if magic != _MAGIC:
        source.refuse("be a model of fastText (.bin or .ftz)", "a file of another kind")
    if version not in (11, 12):
        source.refuse("be a fastText file of version 11 or 12", f"version {version}")
    settings = Settings(*source.numbers("<12i", "head"))
    source.numbers("<d", "head")
    if settings.model != _SUPERVISED:
        found = _MODELS.get(settings.model, settings.model)
        source.refuse("be a supervised model, trained with loss hs", f"model {found}")
    if settings.loss != _HS:
        found = _LOSSES.get(settings.loss, settings.loss)
        source.refuse("be trained with loss hs (hierarchical softmax)", f"loss {found}")
    least = {"dim": 1, "word_ngrams": 0, "bucket": 0, "minn": 0, "maxn": 0}
    for name, limit in least.items():
        value = getattr(settings, name)
        if value < limit:
            source.refuse(f"have a {name} of at least {limit}", value)
    # Files of version 11 say what supervised models of then did not do.
    return settings._replace(maxn=0) if version == 11 else settings


def _read_dictionary(
    source: _Source, settings: Settings
) -> tuple[list[bytes], list[bytes], list[int], npt.NDArray[np.int32] | None]:
    size, n_words, n_labels, _, pairs = source.numbers("<3i2q", "the dictionary")
    if n_words < 0 or n_labels < 1 or n_words + n_labels != size:
        source.refuse("have as many entries as words and labels", f"{size}, {n_words}, {n_labels}")
    words: list[bytes] = []
    labels: list[bytes] = []
    counts: list[int] = []
    for at, (word, count, kind) in enumerate(source.entries(size)):
        if kind != (_WORD if at < n_words else _LABEL):
            source.refuse("list words, then labels", f"type {kind} at entry {at}")
        if kind == _WORD:
            words.append(word)
            continue
        if not 1 <= count <= (counts[-1] if counts else _NOT_MADE - 1):
            source.refuse("list labels by falling counts", f"{count} at entry {at}")
        labels.append(word)
        counts.append(count)
    for name, column in (("words", words), ("labels", labels)):
        if len(set(column)) != len(column):
            source.refuse(f"have {name} that differ", "one of them twice")
    return words, labels, counts, _read_kept(source, settings, pairs)


def _read_kept(source: _Source, settings: Settings, n: int) -> npt.NDArray[np.int32] | None:
    """The buckets of a pruned dictionary, by column."""
    if n < -1:
        source.refuse("have at least -1 pruned buckets", n)
    if n < 0:
        return None
    pairs = source.array("<i4", 2 * n, "pruned buckets").reshape(n, 2)
    kept = np.full(n, -1, np.int32)
    bucket, column = pairs[:, 0], pairs[:, 1]
    if n and not (column.min() >= 0 and column.max() < n):
        source.refuse(f"have columns of buckets in [0, {n})", f"{column.min()} to {column.max()}")
    if n and not (bucket.min() >= 0 and bucket.max() < settings.bucket):
        rule = f"have buckets in [0, {settings.bucket})"
        source.refuse(rule, f"{bucket.min()} to {bucket.max()}")
    kept[column] = bucket
    if n and (kept.min() < 0 or len(np.unique(kept)) != n):
        source.refuse("have a column for each bucket that is kept", "one of them twice")
    return kept


def _read_matrix(source: _Source, name: str, rows: int, cols: int, is_quantized: bool) -> Array:
    """A matrix of float32."""
    with_norms = is_quantized and source.flag(f"whether the {name} has norms")
    shape = source.numbers("<2q", f"the {name}")
    if shape != (rows, cols):
        source.refuse(f"have an {name} of {rows} rows and {cols} columns", shape)
    if is_quantized:
        matrix = _read_quantized(source, name, rows, cols, with_norms)
    else:
        matrix = source.array("<f4", rows * cols, f"the {name}").reshape(rows, cols)
    for start in range(0, rows, _BLOCK):
        if not np.isfinite(matrix[start : start + _BLOCK]).all():
            source.refuse(f"have a finite {name}", f"another number after row {start}")
    return matrix


class _Quantizer(NamedTuple):
    """Parts of rows, each one of 256 centroids."""

    dim: int
    parts: int
    width: int  # of a part
    last: int  # of the last one
    centroids: Array  # part m starts at m · 256 · width, its centroids one after the other

    def part(self, m: int) -> tuple[int, Array]:
        """Where part m starts, and its centroids (256, width)."""
        width = self.last if m == self.parts - 1 else self.width
        start = m * _CENTROIDS * self.width
        return m * self.width, self.centroids[start : start + _CENTROIDS * width].reshape(-1, width)


def _read_quantizer(source: _Source, name: str, dim: int) -> _Quantizer:
    found, parts, width, last = source.numbers("<4i", f"the quantizer of the {name}")
    if found != dim or width < 1 or parts != -(-dim // width) or last != dim - (parts - 1) * width:
        rule = f"have a quantizer of the {name} for {dim} columns"
        source.refuse(rule, f"{parts} parts of {width} and {last} for {found}")
    centroids = source.array("<f4", _CENTROIDS * dim, f"the quantizer of the {name}")
    return _Quantizer(dim, parts, width, last, centroids)


def _read_quantized(source: _Source, name: str, rows: int, cols: int, with_norms: bool) -> Array:
    (n_codes,) = source.numbers("<i", f"the {name}")
    if n_codes < 0 or n_codes % rows if rows else n_codes:
        source.refuse(f"have codes for {rows} rows of the {name}", n_codes)
    codes = source.array("u1", n_codes, f"the {name}")
    quantizer = _read_quantizer(source, name, cols)
    if n_codes != rows * quantizer.parts:
        source.refuse(f"have {rows * quantizer.parts} codes of the {name}", n_codes)
    norms = None
    if with_norms:
        norm_codes = source.array("u1", rows, f"the norms of the {name}")
        norms = _read_quantizer(source, f"norms of the {name}", 1).centroids[norm_codes]
    matrix = np.empty((rows, cols), np.float32)
    by_row = codes.reshape(rows, quantizer.parts)
    with np.errstate(over="ignore", invalid="ignore"):  # found to be not finite by the caller
        for start in range(0, rows, _BLOCK):
            block = slice(start, min(start + _BLOCK, rows))
            for m in range(quantizer.parts):
                at, centroids = quantizer.part(m)
                matrix[block, at : at + centroids.shape[1]] = centroids[by_row[block, m]]
            if norms is not None:
                matrix[block] *= norms[block, None]
    return matrix


class HuffmanPaths(NamedTuple):
    """The paths of `Hierarchy.from_paths`."""

    ptr: npt.NDArray[np.int64]
    node: npt.NDArray[np.int64]
    child: npt.NDArray[np.int64]


def huffman_paths(counts: list[int]) -> HuffmanPaths:
    """fastText's own tree of labels with these falling counts; node i owns row i of the output.

    Parameters
    ----------
    counts : list of int
        At least 1, falling.

    Returns
    -------
    HuffmanPaths
    """
    n = len(counts)
    count = [*counts, *[_NOT_MADE] * (n - 1)]
    above = np.full(2 * n - 1, -1, np.int64)
    child = np.zeros(2 * n - 1, np.int64)
    leaf, node = n - 1, n
    for i in range(n, 2 * n - 1):
        total = 0
        for side in (0, 1):
            if leaf >= 0 and count[leaf] < count[node]:
                taken, leaf = leaf, leaf - 1
            else:
                taken, node = node, node + 1
            above[taken], child[taken] = i, side
            total += count[taken]
        count[i] = total
    steps: list[tuple[Array, Array, Array]] = []  # from the leaves upward
    at, classes = np.arange(n), np.arange(n)
    while True:
        is_below = above[at] >= 0
        at, classes = at[is_below], classes[is_below]
        if not len(at):
            break
        steps.append((classes, above[at] - n, child[at]))
        at = above[at]
    lengths = np.zeros(n, np.int64)
    for classes, _, _ in steps:
        lengths[classes] += 1
    ptr = np.concatenate([[0], np.cumsum(lengths)])
    nodes, children = np.empty(ptr[-1], np.int64), np.empty(ptr[-1], np.int64)
    for back, (classes, inner, sides) in enumerate(steps, 1):
        place = ptr[classes + 1] - back
        nodes[place], children[place] = inner, sides
    return HuffmanPaths(ptr, nodes, children)
