"""Names of a tree's nodes: taxonomies as tables of names, matched with labels by name."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import INT64, Array, as_exact, describe


class Taxonomy(NamedTuple):
    """The nodes that a tree was built from, by name."""

    parents: npt.NDArray[np.int64]  # (nodes,) of each node, -1 of the root
    names: tuple[str, ...]  # (nodes,)
    leaf: npt.NDArray[np.int64]  # (C,) the node of each class
    max_children: int  # 0: any number
    logistic: bool

    def shape(self) -> dict[str, Any]:
        """Arguments of `Hierarchy.from_parents`."""
        width = self.max_children or None
        return {"classes": self.leaf, "max_children": width, "logistic": self.logistic}


# ---- reading


def as_names(name: str, values: Iterable[object], *, missing: bool = False) -> list[str | None]:
    """A column of names; with `missing`, None, NaN and "" are None."""
    try:
        rows = list(values) if not isinstance(values, (str, bytes)) else None
    except Exception:  # whatever it is, it is no column
        rows = None
    if rows is None:
        raise TypeError(f"{name} must be a column of names, got {describe(values)}")
    column: list[str | None] = []
    for at, value in enumerate(rows):
        if isinstance(value, str) and (value or not missing):
            column.append(str(value))
        elif missing and _is_missing(value):
            column.append(None)
        else:
            raise TypeError(f"{name} must hold names (str), got {describe(value)} at index {at}")
    return column


def _is_missing(value: object) -> bool:
    """None, NaN, "" and what pandas has for them."""
    if isinstance(value, float):
        return value != value
    known = type(value).__name__ in ("NAType", "NaTType")
    return value is None or known or (isinstance(value, str) and not value)


def holds_names(values: object) -> bool:
    """Whether names were given where numbers are wanted."""
    if isinstance(values, np.ndarray):
        values = values.ravel().tolist()
    return isinstance(values, (list, tuple)) and isinstance(next(iter(values), None), str)


def as_node_names(names: Iterable[object], n: int) -> tuple[str, ...]:
    """The names of n nodes, all different."""
    column = as_names("names", names)
    if len(column) != n:
        raise ValueError(f"names must have one entry a node, {n}, got {len(column)}")
    seen: set[str | None] = set()
    for at, one in enumerate(column):
        if one in seen:
            raise ValueError(f"names must differ, got {one!r} again at index {at}")
        seen.add(one)
    return tuple(one for one in column if one is not None)


def read_table(
    child: Iterable[object], parent: Iterable[object]
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Parents and names of the nodes of two columns; rows without a parent hang below the root."""
    children, parents = as_names("child", child), as_names("parent", parent, missing=True)
    if len(children) != len(parents):
        raise ValueError(f"parent must have one entry a child, {len(children)}, got {len(parents)}")
    number: dict[str, int] = {}
    above: dict[int, int] = {}
    for at, (low, high) in enumerate(zip(children, parents, strict=True)):
        assert low is not None
        node = number.setdefault(low, len(number))
        over = -1 if high is None or high == low else number.setdefault(high, len(number))
        if above.setdefault(node, over) != over:
            names = list(number)
            first = names[above[node]] if above[node] >= 0 else None
            raise ValueError(
                f"parent must be one a child, got {first!r} and {high!r} for {low!r} at index {at}"
            )
    if not number:
        raise ValueError("child must hold at least one name, got none")
    names = list(number)
    tops = [node for node in range(len(names)) if above.get(node, -1) < 0]
    listed = [node for node in tops if node in above]
    if len(tops) > 1 and len(listed) < len(tops):
        some = ", ".join(repr(names[node]) for node in tops[:3])
        raise ValueError(
            f"parent must lead to one root, got {len(tops)}: {some} (list each as a child without "
            "a parent to join them)"
        )
    if len(tops) > 1:
        above |= dict.fromkeys(tops, len(names))
        names.append("")
    table = np.array([above.get(node, -1) for node in range(len(names))], np.int64)
    return table, tuple(names)


def leaves_by_name(parents: Array, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """The leaves in the order of their names."""
    inner = set(parents[parents >= 0].tolist())
    leaves = [node for node in range(len(names)) if node not in inner]
    return np.array(sorted(leaves, key=names.__getitem__), np.int64)


# ---- names of a built tree


def class_names(taxonomy: Taxonomy) -> tuple[str, ...]:
    """The name of each class."""
    return tuple(taxonomy.names[node] for node in taxonomy.leaf.tolist())


def node_names(taxonomy: Taxonomy, ptr: Array, path_node: Array, n_nodes: int) -> tuple[str, ...]:
    """The name of each inner node: of the lowest node with the same leaves, or of what it splits.

    Nodes of a built tree and of its taxonomy are the same if they have as many leaves and a leaf in
    common; chains of single children are one node, and `max_children` makes more of one.
    """
    parents = taxonomy.parents
    leaves = np.zeros(len(parents), np.int64)
    at = taxonomy.leaf
    while len(at):
        np.add.at(leaves, at, 1)
        at = parents[at]
        at = at[at >= 0]
    sizes = np.bincount(path_node, minlength=n_nodes)
    nodes, first = np.unique(path_node, return_index=True)
    of_class = np.searchsorted(ptr, first, side="right") - 1
    at = taxonomy.leaf[of_class]
    while (low := (leaves[at] < sizes[nodes]) & (parents[at] >= 0)).any():
        at = np.where(low, parents[at], at)
    return tuple(taxonomy.names[node] for node in at.tolist())


def with_own_leaves(taxonomy: Taxonomy, labels: Collection[str]) -> Taxonomy:
    """A leaf of the same name below each category that labels name: that, and nothing narrower."""
    inner = {name: node for node, name in enumerate(taxonomy.names)}
    own = sorted(labels)
    names = (*taxonomy.names, *own)
    parents = np.concatenate([taxonomy.parents, np.array([inner[one] for one in own], np.int64)])
    return taxonomy._replace(parents=parents, names=names, leaf=leaves_by_name(parents, names))


def only_classes(taxonomy: Taxonomy) -> Taxonomy:
    """The names of the classes alone, for a tree whose inner nodes are others."""
    names = (*class_names(taxonomy), "")
    n = len(taxonomy.leaf)
    parents = np.full(n + 1, n, np.int64)
    parents[n] = -1
    return taxonomy._replace(parents=parents, names=names, leaf=np.arange(n, dtype=np.int64))


def in_class_order(ptr: Array, order: Array) -> tuple[Array, Array]:
    """Path pointers of the tree whose class i is class ``order[i]``, and where its steps lie."""
    lengths = np.diff(ptr)[order]
    ordered = np.concatenate([[0], np.cumsum(lengths)])
    return ordered, np.repeat(ptr[order] - ordered[:-1], lengths) + np.arange(ordered[-1])


# ---- files


def to_arrays(taxonomy: Taxonomy) -> dict[str, Array]:
    """Plain arrays, by names that begin with ``names.``."""
    encoded = [name.encode("utf-8", "surrogatepass") for name in taxonomy.names]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return {
        "names.parents": taxonomy.parents,
        "names.leaf": taxonomy.leaf,
        "names.utf8": np.frombuffer(b"".join(encoded), np.uint8),
        "names.offsets": ends,
        "names.options": np.array([taxonomy.max_children, taxonomy.logistic], np.int64),
    }


def from_arrays(arrays: Mapping[str, Array], n_classes: int) -> Taxonomy | None:
    """What `to_arrays` gave, or None; whether it is a tree is checked by whoever builds it."""
    if "names.parents" not in arrays:
        return None
    parts = {}
    for part in ("parents", "leaf", "offsets", "options"):
        parts[part] = as_exact(f"names.{part}", arrays[f"names.{part}"], INT64, copy=True)
    text = as_exact("names.utf8", arrays["names.utf8"], np.dtype(np.uint8), copy=True)
    ends, n = parts["offsets"], len(parts["parents"])
    if len(ends) != n + 1 or ends[0] != 0 or ends[-1] != len(text) or (np.diff(ends) < 0).any():
        raise ValueError(f"names.offsets must be {n + 1}, from 0 to {len(text)}, got others")
    for part, size in (("leaf", n_classes), ("options", 2)):
        if len(parts[part]) != size:
            raise ValueError(f"names.{part} must have {size} entries, got {len(parts[part])}")
    raw = text.tobytes()
    try:
        names = tuple(
            raw[start:stop].decode("utf-8", "surrogatepass")
            for start, stop in itertools.pairwise(ends.tolist())
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"names.utf8 must hold UTF-8 text, got {error.reason}") from None
    width, logistic = parts["options"].tolist()
    return Taxonomy(parts["parents"], names, parts["leaf"], max(0, width), bool(logistic))
