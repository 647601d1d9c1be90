"""A text that is read more than once, in blocks of whole lines, and need not fit into memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from cython_sparseops._cli.streams import InputError, copy_bytes, is_packed

BLOCK = 1 << 25  # bytes of text at a time
_MARK = b"\xef\xbb\xbf"  # UTF-8's byte order mark


class Corpus:
    """A text in blocks, which depend on its bytes alone.

    Parameters
    ----------
    path : str
        Its name, for messages.
    file : binary file
        It can be read from any place.
    block : int
        Bytes at a time; more where a line is longer.
    """

    def __init__(self, path: str, file: IO[bytes], block: int = BLOCK) -> None:
        self.path, self._file, self._block = path, file, block
        self._ends: list[int] | None = None
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self._start = len(_MARK) if file.read(len(_MARK)) == _MARK else 0

    def __len__(self) -> int:
        if self._ends is None:
            for _ in self:
                pass
        assert self._ends is not None  # known once all was read
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[bytes]:
        """Read all blocks, the first time to find where they end."""
        if self._ends is not None:
            yield from map(self.__getitem__, range(len(self)))
            return
        ends, pieces = [self._start], list[bytes]()
        self._file.seek(self._start)
        while chunk := self._file.read(self._block):
            end = chunk.rfind(b"\n") + 1
            pieces.append(chunk[:end] if end else chunk)
            if end:
                block, pieces = b"".join(pieces), [chunk[end:]]
                ends.append(ends[-1] + len(block))
                yield block
                self._file.seek(ends[-1] + len(pieces[0]))
        rest = b"".join(pieces)
        if rest:
            ends.append(ends[-1] + len(rest))
            yield rest
        self._ends = ends

    def __getitem__(self, number: int) -> bytes:
        """Read a block again."""
        assert self._ends is not None  # of what was read before
        start, end = self._ends[number], self._ends[number + 1]
        self._file.seek(start)
        block = self._file.read(end - start)
        if len(block) != end - start:
            raise InputError(f"{self.path} must not change while it is read, got a shorter file")
        return block


@contextmanager
def open_corpus(path: str, block: int = BLOCK) -> Iterator[Corpus]:
    """Open a file, or stdin for ``-``; what is packed or comes by a pipe goes to a temporary file.

    Parameters
    ----------
    path : str
        File name or ``-``.
    block : int
        As of `Corpus`.

    Yields
    ------
    Corpus
    """
    if path != "-" and stat.S_ISREG(os.stat(path).st_mode) and not is_packed(path):
        with open(path, "rb") as file:
            yield Corpus(path, file, block)
        return
    import tempfile  # lazily: predictions do without

    with tempfile.TemporaryFile() as copy:
        copy_bytes(path, copy)
        yield Corpus(path, copy, block)
