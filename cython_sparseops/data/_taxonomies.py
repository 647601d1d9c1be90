"""Taxonomies from files: tables of two columns, and SKOS."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from cython_sparseops import Hierarchy
from cython_sparseops._arrays import is_one_of
from cython_sparseops._cli.streams import InputError, open_lines

_HEADS = (("child", "parent"), ("narrower", "broader"))
_SKOS = "http://www.w3.org/2004/02/skos/core#"
_TYPE = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type"
_TERM = r"(?:<([^<>\s]*)>|(_:\S+))"
_TRIPLE = re.compile(
    rf'\s*{_TERM}\s*<([^<>\s]*)>\s*(?:{_TERM}|"(?:[^"\\]|\\.)*"\S*)\s*\.\s*(?:#.*)?'
)
_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})|\\U([0-9A-Fa-f]{8})")


def read_taxonomy(
    path: str | os.PathLike[str],
    *,
    child: str | None = None,
    parent: str | None = None,
    max_children: int | None = None,
) -> Hierarchy:
    """Read a tree of names from a table of children and parents (CSV or TSV).

    Parameters
    ----------
    path : str or path-like
        Plain, .gz, .bz2 or .xz; commas, semicolons or tabs between the columns. A row without a
        parent is a root.
    child, parent : str, optional
        Names of the columns in the first line. By default ``child`` and ``parent``, or ``narrower``
        and ``broader``; a file of two columns without such a first line is all rows.
    max_children : int, optional
        As for `Hierarchy.from_table`.

    Returns
    -------
    Hierarchy
        Its classes are the names that are nobody's parent, sorted.

    Raises
    ------
    ValueError
        If a column is missing, a row is short, a child has two parents, or the rows are no tree.

    Examples
    --------
    >>> with open("animals.csv", "w") as file:
    ...     _ = file.write("child,parent\\ncat,animal\\ndog,animal\\nanimal,\\n")
    >>> h = read_taxonomy("animals.csv")
    >>> h.class_names, h.node_names
    (('cat', 'dog'), ('animal',))
    """
    if (child is None) != (parent is None):
        raise ValueError("child and parent must both be given, or none, got one")
    name = os.fsdecode(path)
    with open_lines(name) as lines:
        texts = [line.text.rstrip("\r") for line in lines]
    rows = [(at, row) for at, row in _table(name, texts) if any(cell.strip() for cell in row)]
    if not rows:
        raise InputError(f"{name} must hold at least one row, got none")
    head = [cell.strip().lower() for cell in rows[0][1]]
    wanted = [(child, parent)] if child is not None and parent is not None else [*_HEADS]
    places = None
    for low, high in wanted:
        names = (low.lower(), high.lower())
        if set(names) <= set(head):
            places = head.index(names[0]), head.index(names[1])
            rows = rows[1:]
            break
    if places is None:
        if child is not None or len(head) != 2:
            columns = " and ".join(repr(one) for one in wanted[0])
            raise InputError(f"{name} must have columns {columns} in its first line, got {head}")
        places = 0, 1
    children, parents = list[str](), list[str | None]()
    for number, row in rows:
        cells = [row[at].strip() if at < len(row) else "" for at in places]
        if not cells[0]:
            raise InputError(f"{name} must have a child in every row, got none in line {number}")
        children.append(cells[0])
        parents.append(cells[1] or None)
    return _built(name, children, parents, max_children)


def _table(name: str, texts: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Rows and their lines."""
    first = next((text for text in texts if text.strip()), "")
    between = max("\t;,", key=lambda mark: (first.count(mark) > 0, mark == "\t"))
    reader = csv.reader((text + "\n" for text in texts), delimiter=between, strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{name} must be a table, got {error} in line {reader.line_num}") from None


def read_skos(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    several: str = "refuse",
    max_children: int | None = None,
) -> Hierarchy:
    """Read the concepts of a SKOS vocabulary as a tree, by ``broader`` and ``narrower``.

    Parameters
    ----------
    path : str or path-like
        N-Triples (.nt) are read here; RDF/XML, Turtle and others by rdflib.
    format : str, optional
        One of rdflib's names, such as ``"turtle"``, ``"xml"`` or ``"nt"``; by default by suffix.
    several : {"refuse", "first"}
        What to do with a concept that has several broader ones, as a tree cannot have: refuse the
        file, or keep the first in alphabetical order.
    max_children : int, optional
        As for `Hierarchy.from_table`.

    Returns
    -------
    Hierarchy
        Names are URIs. Concepts without a broader one are below the root.

    Raises
    ------
    ImportError
        If the format needs rdflib and that is not installed.
    ValueError
        If the file is damaged, holds no concept, or its concepts are no tree.

    References
    ----------
    Miles and Bechhofer, "SKOS simple knowledge organization system reference", W3C, 2009.

    Examples
    --------
    >>> broader = "<http://www.w3.org/2004/02/skos/core#broader>"
    >>> with open("animals.nt", "w") as file:
    ...     _ = file.write(f"<e:cat> {broader} <e:animal> .\\n<e:dog> {broader} <e:animal> .\\n")
    >>> read_skos("animals.nt").class_names
    ('e:cat', 'e:dog')
    """
    if not is_one_of(several, ("refuse", "first")):
        raise ValueError(f"several must be 'refuse' or 'first', got {several!r:.40}")
    name = os.fsdecode(path)
    is_plain = format in ("nt", "ntriples") or (format is None and _suffix(name) == ".nt")
    triples = _own_triples(name) if is_plain else _rdflib_triples(name, format)
    above: dict[str, set[str]] = {}
    for subject, predicate, target in triples:
        if predicate in (_SKOS + "broader", _SKOS + "topConceptOf"):
            is_top = predicate != _SKOS + "broader"
            above.setdefault(subject, set()).update([] if is_top else [target])
            if not is_top:
                above.setdefault(target, set())
        elif predicate == _SKOS + "narrower":
            above.setdefault(target, set()).add(subject)
            above.setdefault(subject, set())
        elif predicate == _SKOS + "hasTopConcept" or (predicate, target) == (
            _TYPE,
            _SKOS + "Concept",
        ):
            above.setdefault(target if predicate != _TYPE else subject, set())
    if not above:
        raise InputError(f"{name} must hold SKOS concepts, got none")
    children, parents = list[str](), list[str | None]()
    for concept in sorted(above):
        broader = sorted(above[concept] - {concept})
        if len(broader) > 1 and several == "refuse":
            raise InputError(
                f"{name} must have one broader concept a concept, got {broader[0]} and "
                f"{broader[1]} for {concept} (several='first' keeps the first)"
            )
        children.append(concept)
        parents.append(broader[0] if broader else None)
    return _built(name, children, parents, max_children)


def _built(
    name: str,
    children: Iterable[str],
    parents: Iterable[str | None],
    max_children: int | None,
) -> Hierarchy:
    try:
        return Hierarchy.from_table(children, parents, max_children=max_children)
    except ValueError as error:
        raise InputError(f"{name} must hold a tree ({error})") from None


def _suffix(name: str) -> str:
    while os.path.splitext(name)[1] in (".gz", ".bz2", ".xz"):
        name = os.path.splitext(name)[0]
    return os.path.splitext(name)[1]


def _own_triples(name: str) -> Iterator[tuple[str, str, str]]:
    """Subject, predicate and object of N-Triples; literals are left out."""
    with open_lines(name) as lines:
        for number, line in lines:
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            found = _TRIPLE.fullmatch(text)
            if found is None:
                raise InputError(f"{name} must be N-Triples, got {text[:60]!r} in line {number}")
            target = found[4] if found[4] is not None else found[5]
            if target is not None:
                subject = found[1] if found[1] is not None else found[2]
                yield _plain(subject), _plain(found[3]), _plain(target)


def _plain(uri: str) -> str:
    """A URI without escapes."""
    if "\\" not in uri:
        return uri
    try:
        return _ESCAPE.sub(lambda found: chr(int(found[1] or found[2], 16)), uri)
    except (ValueError, OverflowError):
        return uri


def _rdflib_triples(name: str, format: str | None) -> Iterator[tuple[str, str, str]]:
    try:
        import rdflib
    except ImportError as error:
        raise ImportError(
            f"read_skos needs rdflib for this format: pip install rdflib, or give N-Triples "
            f"({error})"
        ) from error
    graph: Any = rdflib.Graph()
    try:
        graph.parse(name, format=format)
    except OSError:
        raise
    except Exception as error:  # each parser has errors of its own
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{name} must be RDF that rdflib reads, got {said}") from None
    for subject, predicate, target in graph:
        if not isinstance(target, rdflib.Literal):
            yield str(subject), str(predicate), str(target)
