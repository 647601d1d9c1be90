"""Rows with many labels: the files of the extreme classification repository, and Annif's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cython_sparseops._arrays import Array
from cython_sparseops._cli.labels import LabelLists
from cython_sparseops._cli.streams import InputError, open_lines
from cython_sparseops._cli.svmlight import read_xmc_rows
from cython_sparseops._models.labels import as_labels
from cython_sparseops._sparse import Compressed, as_scipy

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_MOST = 2**31 - 1  # columns
_URI = r"(?:<[^<>\s]+>|[A-Za-z][\w+.-]*://[^<>\s]+)"  # some files have no angle brackets
_BRACKETS = re.compile(r"<[^<>]+>")
_SUBJECT = re.compile(_URI)
_SUBJECTS = re.compile(rf"\s*(?:{_URI}(?:\s+|$))*")


class XmcData(NamedTuple):
    """What `read_xmc` returns.

    Attributes
    ----------
    X : CSR matrix of float32, shape (N, F)
    Y : CSR matrix of float32, shape (N, C)
        A 1 for each label of a row.

    Examples
    --------
    >>> XmcData(np.ones((1, 2)), np.ones((1, 3))).Y.shape
    (1, 3)
    """

    X: csr_matrix
    Y: csr_matrix


def read_xmc(path: str | os.PathLike[str]) -> XmcData:
    """Read a file of the extreme classification repository.

    The first line says ``N D L``; then a row a line, ``label,label id:value id:value …``, numbers
    from 0. A row may be without labels, or without features.

    Parameters
    ----------
    path : str or path-like
        Plain, .gz, .bz2 or .xz.

    Returns
    -------
    XmcData
        SciPy's matrices where SciPy is installed. For
        ``LabelTreeClassifier.fit(X, Y)``. Without a line ``N D L`` the matrices are as wide as the
        largest number needs, and every row must have a label.

    Raises
    ------
    ValueError
        If the file is something else, a number is beyond what the first line says, or a value is
        not finite; the line is named.

    References
    ----------
    Bhatia et al., "The extreme classification repository: multi-label datasets and code", 2016.

    Examples
    --------
    >>> with open("train.txt", "w") as file:
    ...     _ = file.write("3 4 5\\n0,4 1:0.5 3:2\\n 0:1\\n2 \\n")
    >>> X, Y = read_xmc("train.txt")
    >>> X.shape, Y.shape, Y.indices.tolist()
    ((3, 4), (3, 5), [0, 4, 2])
    """
    name = os.fsdecode(path)
    with open_lines(name) as lines:
        X, labels, header = read_xmc_rows(lines)
    rows, columns, classes = header or (X.shape[0], X.shape[1], int(labels.flat.max(initial=0)) + 1)
    if not rows:
        raise InputError(f"{name} must hold at least one example, got none")
    wide = max(columns, classes)
    if wide > _MOST:
        raise InputError(f"{name} must have fewer than 2**31 columns and labels, got {wide}")
    for what, ids, limit in (("features", X.indices, columns), ("labels", labels.flat, classes)):
        if len(ids) and not (ids.min() >= 0 and ids.max() < limit):
            worst = int(ids.min() if ids.min() < 0 else ids.max())
            raise InputError(f"{name} must have {what} in [0, {limit}), got {worst}")
    ones = np.ones(len(labels.flat), np.float32)
    Y = Compressed(labels.ends, labels.flat, ones, (rows, classes), "csr")
    indicator = _canonical(Y)
    indicator.data[:] = 1
    X = X._replace(shape=(rows, columns))
    return XmcData(as_scipy(_canonical(X)), as_scipy(indicator))


def _canonical(parts: Compressed) -> Compressed:
    """Columns that rise in each row, repeated ones summed."""
    rows, columns = parts.shape
    row = np.repeat(np.arange(rows), np.diff(parts.indptr))
    key = row * columns + parts.indices
    order = np.argsort(key, kind="stable")
    kept, first = np.unique(key[order], return_index=True)
    data = parts.data[order]
    data = np.add.reduceat(data, first) if len(first) else data
    row, column = np.divmod(kept, max(1, columns))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))])
    width = np.int32 if len(column) <= _MOST else np.int64
    return Compressed(indptr.astype(width), column.astype(width), data, parts.shape, "csr")


class AnnifCorpus(NamedTuple):
    """What `read_annif` returns.

    Attributes
    ----------
    texts : list of str, length N
    Y : CSR matrix of float32, shape (N, C)
        A 1 for each subject of a text.
    subjects : ndarray of str, shape (C,)
        The URI of each column, sorted.

    Examples
    --------
    >>> AnnifCorpus(["a text"], np.ones((1, 1)), np.array(["http://example.org/cat"])).texts
    ['a text']
    """

    texts: list[str]
    Y: csr_matrix
    subjects: Array


def read_annif(
    path: str | os.PathLike[str], *, subjects: Iterable[str] | None = None
) -> AnnifCorpus:
    """Read a corpus in one of Annif's formats: a line ``text<TAB><uri> <uri> …`` for each short
    text, or a folder of long ones.

    Parameters
    ----------
    path : str or path-like
        A file, plain, .gz, .bz2 or .xz; or a folder of texts ``name.txt``, in the order of their
        names, each with its subjects in ``name.tsv`` (a line ``<uri><TAB>label`` for each) or
        ``name.key`` (a label a line), or with none.
    subjects : sequence of str, optional
        The columns of `Y`, such as those of the training corpus; other subjects are left out. By
        default those of the file.

    Returns
    -------
    AnnifCorpus
        `Y` is SciPy's where SciPy is installed.

    Raises
    ------
    ValueError
        If a line has no tab, or anything but URIs in angle brackets behind it; the line is named.

    Notes
    -----
    Blank lines are left out. A text may have no subject. Where a folder's file of subjects has
    URIs, they are the subjects, otherwise its labels are.

    References
    ----------
    Suominen, "Annif: DIY automated subject indexing using multiple algorithms", 2019.

    Examples
    --------
    >>> with open("corpus.tsv", "w") as file:
    ...     _ = file.write("A cat purrs\\t<http://e.org/cat> <http://e.org/pet>\\nNothing\\t\\n")
    >>> corpus = read_annif("corpus.tsv")
    >>> corpus.texts, corpus.subjects.tolist(), corpus.Y.indptr.tolist()
    (['A cat purrs', 'Nothing'], ['http://e.org/cat', 'http://e.org/pet'], [0, 2, 2])
    """
    name = os.fsdecode(path)
    texts, found, ends = _of_folder(name) if os.path.isdir(name) else _of_file(name)
    if not texts:
        raise InputError(f"{name} must hold at least one text, got none")
    given = sorted(set(found if subjects is None else subjects))
    classes = as_labels(given)
    lists = LabelLists(as_labels(found), np.array(ends))
    if not given or not found:
        nothing, shape = np.zeros(len(ends), np.int32), (len(texts), len(given))
        none = Compressed(nothing, nothing[:0], np.ones(0, np.float32), shape, "csr")
        return AnnifCorpus(texts, as_scipy(none), classes)
    Y = lists.indicator(classes)
    kept = Y.indices < len(classes)
    parts = Compressed(
        np.concatenate([[0], np.cumsum(kept)])[Y.indptr].astype(np.int32),
        Y.indices[kept].astype(np.int32),
        Y.data[kept],
        (len(texts), len(classes)),
        "csr",
    )
    return AnnifCorpus(texts, as_scipy(parts), classes)


def _of_file(name: str) -> tuple[list[str], list[str], list[int]]:
    """Texts, the subjects of all, and where those of each end."""
    texts, found, ends = list[str](), list[str](), [0]
    with open_lines(name) as lines:
        for number, line in lines:
            text, tab, uris = line.rstrip("\r").rpartition("\t")
            if not line.strip():
                continue
            if not tab or not _SUBJECTS.fullmatch(uris):
                raise InputError(
                    f"{name} must have lines text<TAB><uri> <uri>…, got {line[:60]!r} in line "
                    f"{number}"
                )
            texts.append(text)
            found += [uri.strip("<>") for uri in _SUBJECT.findall(uris)]
            ends.append(len(found))
    return texts, found, ends


def _of_folder(name: str) -> tuple[list[str], list[str], list[int]]:
    texts, found, ends = list[str](), list[str](), [0]
    for file in sorted(os.listdir(name)):
        stem, suffix = os.path.splitext(os.path.join(name, file))
        if suffix != ".txt":
            continue
        with open_lines(stem + suffix) as lines:
            texts.append("\n".join(text for _, text in lines))
        own = next((stem + end for end in (".tsv", ".key") if os.path.exists(stem + end)), None)
        found += [] if own is None else _subjects_of(own)
        ends.append(len(found))
    return texts, found, ends


def _subjects_of(name: str) -> list[str]:
    """The URIs of a file of subjects, or its labels."""
    uris, labels = list[str](), list[str]()
    with open_lines(name) as lines:
        for _, line in lines:
            values = [value.strip() for value in line.split("\t")]
            own = [value[1:-1] for value in values if _BRACKETS.fullmatch(value)]
            uris += own
            if not own:
                labels += [value for value in values if value][:1]
    return uris or labels
