"""Input of the command line, opened once: decompressed, cut into numbered lines, peeked at."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
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


@contextmanager
def _undamaged(path: str) -> Iterator[None]:
    try:
        yield
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of bz2 it has none
            raise
        raise InputError(f"{path} must be an undamaged file, got {error}") from None


def whole_lines(path: str, stream: Any) -> Iterator[bytes]:
    """Cut a stream at the ends of lines, without waiting for more; its byte order mark is gone."""
    rest, is_first = list[bytes](), True  # pieces of a line that has not ended
    with _undamaged(path):
        while chunk := stream.read1(_CHUNK):
            end = chunk.rfind(b"\n") + 1
            if not end:
                rest.append(chunk)
                continue
            block, rest = b"".join([*rest, chunk[:end]]), [chunk[end:]]
            yield block.removeprefix(_MARK) if is_first else block
            is_first = False
    last = b"".join(rest)
    last = last.removeprefix(_MARK) if is_first else last
    if last:
        yield last


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
    """

    def __init__(self, path: str, stream: IO[bytes]) -> None:
        self.path = path
        self._waiting: deque[bytes] = deque()
        self._coming = whole_lines(path, stream)
        self._number = 1  # of the line to come

    def byte_blocks(self) -> Iterator[bytes]:
        """Give the lines that came together as they are, without waiting for more."""
        while self._waiting:
            yield self._waiting.popleft()
        yield from self._coming

    def blocks(self) -> Iterator[list[Line]]:
        """Give the lines that came together, without waiting for more."""
        for block in self.byte_blocks():
            lines = self._decode(block, self._number)
            self._number += len(lines)
            yield lines

    def __iter__(self) -> Iterator[Line]:
        return chain.from_iterable(self.blocks())

    def peek(self) -> Iterator[Line]:
        """Look at the lines to come, from the first; they come again."""
        seen, number = 0, self._number
        while True:
            if seen == len(self._waiting):
                block = next(self._coming, None)
                if block is None:
                    return
                self._waiting.append(block)
            lines = self._decode(self._waiting[seen], number)
            yield from lines
            seen, number = seen + 1, number + len(lines)

    def require_utf8(self, block: bytes, number: int) -> None:
        """Refuse a block of lines, of which the first has this number, that is not UTF-8."""
        if block.isascii():
            return
        try:
            block.decode()
        except UnicodeDecodeError as error:
            at, byte = number + block.count(b"\n", 0, error.start), block[error.start]
            raise InputError(
                f"{self.path} must be UTF-8, got byte {byte:#x} in line {at}"
            ) from None

    def _decode(self, block: bytes, number: int) -> list[Line]:
        self.require_utf8(block, number)
        lines = block.decode().removesuffix("\n").split("\n")
        return [Line(at, line) for at, line in enumerate(lines, number)]


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
def _opened(path: str) -> Iterator[Any]:
    raw: Any = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115
    try:
        yield _decompressed(raw)
    finally:
        if path != "-":
            raw.close()


def byte_blocks(path: str) -> Iterator[bytes]:
    """Give the lines of a file, or of stdin for ``-``, that came together, as they are.

    Parameters
    ----------
    path : str
        File name or ``-``; a pipe will do.

    Yields
    ------
    bytes
        Whole lines; the last may lack its newline.
    """
    with _opened(path) as stream:
        yield from whole_lines(path, stream)


@contextmanager
def open_lines(path: str) -> Iterator[Lines]:
    """Open a file, or stdin for ``-``, once.

    Parameters
    ----------
    path : str
        File name or ``-``; a pipe will do.

    Yields
    ------
    Lines
        Raises InputError where the data are damaged, end too early or are not UTF-8.
    """
    with _opened(path) as stream:
        yield Lines(path, stream)


def is_packed(path: str) -> bool:
    """Whether a file starts like .xz, .gz or .bz2."""
    with open(path, "rb") as file:
        start = file.read(max(map(len, _OPENERS)))
    return start.startswith(tuple(_OPENERS))


def copy_bytes(path: str, target: IO[bytes]) -> None:
    """Copy a file, or stdin for ``-``, unpacked.

    Parameters
    ----------
    path : str
        File name or ``-``; a pipe will do.
    target : binary file

    Raises
    ------
    InputError
        If the data are damaged or end too early.
    """
    with _opened(path) as source, _undamaged(path):
        shutil.copyfileobj(source, target, 1 << 20)
