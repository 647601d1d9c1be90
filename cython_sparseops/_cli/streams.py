"""Input of the command line, opened once: decompressed, cut into numbered lines, peeked at."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import IO, Any, NamedTuple

_OPENERS: dict[bytes, Any] = {
    b"\xfd7zXZ\x00": lzma.open,
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
}
_DAMAGED = (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile)
_CHUNK = 1 << 18  # bytes asked for at a time
_MARK = b"\xef\xbb\xbf"  # UTF-8's byte order mark


class InputError(ValueError):
    """A file that cannot be used, said in one line."""


class Line(NamedTuple):
    """A line of a file and its number, from 1."""

    number: int
    text: str


class Lines:
    """The lines of one input, each given once; `peek` looks ahead and loses nothing.

    Parameters
    ----------
    path : str
        Its name, for messages.
    stream : binary file
        What to read.
    encoding : {"utf-8", "latin-1"}
        latin-1 reads any bytes, a letter each, for those who want bytes.
    """

    def __init__(self, path: str, stream: IO[bytes], encoding: str = "utf-8") -> None:
        self.path, self._encoding = path, encoding
        self._waiting: deque[list[Line]] = deque()
        self._blocks = self._read(stream)

    def blocks(self) -> Iterator[list[Line]]:
        """Give the lines that came together, without waiting for more."""
        while self._waiting:
            yield self._waiting.popleft()
        yield from self._blocks

    def __iter__(self) -> Iterator[Line]:
        return chain.from_iterable(self.blocks())

    def peek(self) -> Iterator[Line]:
        """Look at the lines to come, from the first; they come again."""
        seen = 0
        while True:
            if seen == len(self._waiting):
                block = next(self._blocks, None)
                if block is None:
                    return
                self._waiting.append(block)
            yield from self._waiting[seen]
            seen += 1

    def _read(self, stream: Any) -> Iterator[list[Line]]:
        number, rest = 1, [b""]  # pieces of a line that has not ended
        try:
            while chunk := stream.read1(_CHUNK):
                whole, end, begun = chunk.rpartition(b"\n")
                if not end:
                    rest.append(begun)
                    continue
                lines = b"".join([*rest, whole]).split(b"\n")
                rest = [begun]
                yield self._decode(lines, number)
                number += len(lines)
        except (*_DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of bz2 it has none
                raise
            raise InputError(f"{self.path} must be an undamaged file, got {error}") from None
        last = b"".join(rest)
        if last:
            yield self._decode([last], number)

    def _decode(self, lines: list[bytes], number: int) -> list[Line]:
        if number == 1:
            lines[0] = lines[0].removeprefix(_MARK)
        found = []
        for at, line in enumerate(lines, number):
            try:
                found.append(Line(at, line.decode(self._encoding)))
            except UnicodeDecodeError as error:
                byte = line[error.start]
                raise InputError(
                    f"{self.path} must be UTF-8, got byte {byte:#x} in line {at}"
                ) from None
        return found


class _Rejoined(io.RawIOBase):
    """A stream whose first bytes were read already."""

    def __init__(self, start: bytes, rest: Any) -> None:
        self._start, self._rest = start, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._start[: len(buffer)] or self._rest.read1(len(buffer))
        self._start = self._start[len(part) :]
        buffer[: len(part)] = part
        return len(part)


def _decompressed(raw: Any) -> Any:
    """The stream, unpacked if it starts like .xz, .gz or .bz2; waits for no byte beyond that."""
    start = b""
    while any(magic.startswith(start) and magic != start for magic in _OPENERS):
        more = raw.read1(1)
        start += more
        if not more:
            break
    whole = io.BufferedReader(_Rejoined(start, raw), _CHUNK)
    opener = _OPENERS.get(start)
    return whole if opener is None else opener(whole)


@contextmanager
def open_lines(path: str, encoding: str = "utf-8") -> Iterator[Lines]:
    """Open a file, or stdin for ``-``, once.

    Parameters
    ----------
    path : str
        File name or ``-``; a pipe will do.
    encoding : {"utf-8", "latin-1"}
        As of `Lines`.

    Yields
    ------
    Lines
        Raises InputError where the data are damaged, end too early or are not UTF-8.
    """
    raw: Any = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115
    try:
        yield Lines(path, _decompressed(raw), encoding)
    finally:
        if path != "-":
            raw.close()
