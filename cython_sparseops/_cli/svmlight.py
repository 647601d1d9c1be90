"""svmlight rows, as tools and the extreme-classification collections write them."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from cython_sparseops._cli.labels import LabelLists, as_scipy
from cython_sparseops._cli.streams import InputError, Line, Lines
from cython_sparseops._sparse import Compressed, summed

_MOST = 2**31 - 1  # columns
_EXACT = 2**53  # whole floats below are exact
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_LABELS = rf"(?:{_NUMBER}|[-+]?(?:nan|inf))(?:,{_NUMBER})*"
_ROW = re.compile(
    rf"\s*(?:({_LABELS})(?!\S))?(?:\s*qid:\d+(?!\S))?((?:\s*\d+:[-+.0-9a-z]+(?!\S))*)\s*",
    re.ASCII | re.IGNORECASE,
)
_HEADER = re.compile(r"\s*(\d{1,18})\s+(\d{1,18})\s+(\d{1,18})\s*", re.ASCII)


class Row(NamedTuple):
    """What one line says, as text: labels with commas between, and ``id:value`` pairs."""

    number: int
    labels: str | None
    pairs: str


class SvmlightExamples(NamedTuple):
    """Rows in CSR form, and their labels."""

    X: Any
    labels: LabelLists


def looks_like_svmlight(text: str) -> bool:
    """Whether a line is a row of numbers, or the header ``N D L``; comments and blanks are neither.

    Examples
    --------
    >>> [looks_like_svmlight(text) for text in ("3,17 5:0.2", " 9:1", "60 4 3", "# note", "a b")]
    [True, True, True, False, False]
    """
    text = text.partition("#")[0]
    return bool(text.strip() and (_ROW.fullmatch(text) or _HEADER.fullmatch(text)))


def read_svmlight(lines: Lines, n_columns: int | None = None) -> SvmlightExamples:
    """Read labelled rows; column i is index i of the file, so that both 0 and 1 may be first.

    Comments, a first line ``N D L``, ``qid:``, several labels a row, and indices in any order are
    taken; the values of a repeated index are added up. Below a line ``N D L`` a row may be without
    labels.

    Parameters
    ----------
    lines : Lines
        The file.
    n_columns : int, optional
        Columns of the result, features beyond are left out. Default: the largest index + 1.

    Returns
    -------
    SvmlightExamples

    Raises
    ------
    InputError
        If the file is something else, a row has no label and the file no header, a label is no
        whole number of 64 bits, a value is not finite, or an index is too large.
    """
    matrix, labels, _ = _read(lines, n_columns)
    if not len(labels.flat):
        raise InputError(f"{lines.path} must hold at least one labeled example, got none")
    return SvmlightExamples(as_scipy(summed(matrix.parts())), labels)


class XmcRows(NamedTuple):
    """What a file of the extreme classification repository holds, and its line ``N D L``."""

    X: Compressed
    labels: LabelLists
    header: tuple[int, int, int] | None


def read_xmc_rows(lines: Lines) -> XmcRows:
    """Read rows as `read_svmlight`; no row needs labels where there is a line ``N D L``.

    Parameters
    ----------
    lines : Lines
        The file.

    Returns
    -------
    XmcRows

    Raises
    ------
    InputError
        As for `read_svmlight`.
    """
    matrix, labels, header = _read(lines, None)
    return XmcRows(matrix.parts(), labels, header)


def _read(
    lines: Lines, n_columns: int | None
) -> tuple[_Matrix, LabelLists, tuple[int, int, int] | None]:
    source, matrix = _Rows(lines.path), _Matrix(lines.path, n_columns)
    labels, ends = array("q"), array("q", [0])
    for row in source.rows(lines, ended=True):
        if row.labels is None and source.header is None:
            found = row.pairs.strip()[:40]
            raise source.error("have a label in every line", repr(found), row.number)
        labels.extend(
            _as_label(source, word, row.number) for word in (row.labels or "").split(",") if word
        )
        ends.append(len(labels))
        matrix.add(row)
    return matrix, LabelLists(np.array(labels), np.array(ends)), source.header


def feature_blocks(lines: Lines, n_columns: int) -> Iterator[Compressed]:
    """Read rows as they come; labels may be missing and are not looked at.

    Parameters
    ----------
    lines : Lines
        The file.
    n_columns : int
        Columns of the result; features beyond are left out.

    Yields
    ------
    Compressed of float32, shape (rows that came together, n_columns)

    Raises
    ------
    InputError
        If a line is something else, or a value is not finite.
    """
    source = _Rows(lines.path)
    for block in lines.blocks():
        matrix = _Matrix(lines.path, n_columns)
        for row in source.rows(block):
            matrix.add(row)
        if len(matrix):
            yield summed(matrix.parts())
    list(source.rows((), ended=True))


def _as_label(source: _Rows, text: str, number: int) -> int:
    try:
        label = int(text)
    except ValueError:
        value = float(text)
        if not np.isfinite(value):
            raise source.error("have finite labels", text, number) from None
        if value != int(value) or abs(value) >= _EXACT:
            raise source.error("have whole numbers as labels", text[:40], number) from None
        label = int(value)
    if not -(2**63) <= label < 2**63:
        raise source.error("have labels of 64 bits", text[:40], number)
    return label


class _Rows:
    """The rows of a file and its header, if it has one."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._begun, self._count = False, 0
        self.header: tuple[int, int, int] | None = None  # rows, columns, labels

    @property
    def _expected(self) -> int | None:
        return None if self.header is None else self.header[0]

    def error(self, rule: str, found: str, number: int) -> InputError:
        return InputError(f"{self._path} must {rule}, got {found} in line {number}")

    def rows(self, lines: Iterable[Line], *, ended: bool = False) -> Iterator[Row]:
        """Parse lines; `ended` says that no more will come."""
        for number, line in lines:
            text = line.partition("#")[0]
            if not text.strip() and not self._is_row(line):
                continue
            if not self._begun:
                self._begun = True
                header = _HEADER.fullmatch(text)
                if header:
                    self.header = (int(header[1]), int(header[2]), int(header[3]))
                    continue
            match = _ROW.fullmatch(text)
            if match is None:
                raise self.error("be svmlight text", repr(text.strip()[:40]), number)
            self._count += 1
            yield Row(number, match[1], match[2])
        if ended and self._expected not in (None, self._count):
            raise InputError(
                f"{self._path} must have the {self._expected} rows that its header (N D L) "
                f"says, got {self._count}"
            )

    def _is_row(self, line: str) -> bool:
        """Under a header a blank line is a row without features, as long as rows are missing."""
        return self._expected is not None and self._count < self._expected and "#" not in line


class _Matrix:
    """A CSR matrix in the making."""

    def __init__(self, path: str, n_columns: int | None) -> None:
        self._path, self._n_columns = path, n_columns
        self._ids, self._values, self._ends = array("q"), array("d"), array("q", [0])
        self._numbers = array("q")  # of the lines

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, row: Row) -> None:
        words = row.pairs.replace(":", " ").split()
        ids, start = words[::2], len(self._ids)
        try:
            self._ids.extend(map(int, ids))
        except (OverflowError, ValueError):  # beyond 64 bits, or thousands of digits
            del self._ids[start:]
            self._ids.extend(int(word) if len(word) < 19 else _MOST for word in ids)
        try:
            self._values.extend(map(float, words[1::2]))
        except ValueError:
            raise InputError(
                f"{self._path} must be svmlight text, got {row.pairs.strip()[:40]!r} "
                f"in line {row.number}"
            ) from None
        if self._n_columns is None and max(self._ids[start:], default=0) >= _MOST:
            found = max(ids, key=int)[:40]
            rule = "indices below 2**31 - 1"
            raise InputError(f"{self._path} must have {rule}, got {found} in line {row.number}")
        self._ends.append(len(self._ids))
        self._numbers.append(row.number)

    def parts(self) -> Compressed:
        """Entries as they stood in the file: in any order, repeated ones again."""
        ids, ends = np.array(self._ids, np.int64), np.array(self._ends)
        with np.errstate(over="ignore", under="ignore"):
            values = np.array(self._values).astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            line = self._numbers[int(np.searchsorted(ends, bad[0], side="right")) - 1]
            found = values[bad[0]]
            raise InputError(f"{self._path} must have finite numbers, got {found} in line {line}")
        columns = self._n_columns
        if columns is None:
            columns = int(ids.max(initial=0)) + 1
        else:
            kept = ids < columns
            ends = np.concatenate([[0], np.cumsum(kept)])[ends]
            ids, values = ids[kept], values[kept]
        return Compressed(ends, ids, values, (len(self), columns), "csr")
