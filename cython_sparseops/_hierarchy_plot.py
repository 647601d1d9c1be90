"""Pictures of class trees: the part of a tree that fits a page."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ._arrays import Array, as_integer, describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMED = 60  # places whose names fit a picture; more would cover each other


class Tree(Protocol):
    """What a picture asks of a hierarchy."""

    child_ptr: Array
    child: Array

    @property
    def depth(self) -> int: ...
    @property
    def n_classes(self) -> int: ...


class Place(NamedTuple):
    """A node or a class of the picture, with its children that are shown."""

    id: int  # >= 0 a node, < 0 the class ~id
    depth: int
    classes: int
    children: list[Place]
    hidden: int  # children that are not shown


def visible(h: Tree, max_nodes: object) -> Place:
    """The root with the largest subtrees below it, at most `max_nodes` places in all."""
    most = as_integer("max_nodes", max_nodes, 1)
    child_ptr, child = h.child_ptr, h.child
    if not len(child):
        return Place(~0, 0, 1, [], 0)
    sizes = _classes_below(child_ptr, child, h.depth)
    root = Place(_root(child_ptr, child), 0, h.n_classes, [], 0)
    hidden: dict[int, int] = {}
    waiting, left = [(-h.n_classes, root.id, root)], most - 1
    while waiting:  # the largest node next: a place is shown only if its parent is
        place = heapq.heappop(waiting)[2]
        ids = child[child_ptr[place.id] : child_ptr[place.id + 1]]
        below = np.where(ids >= 0, sizes[np.maximum(ids, 0)], 1)
        kept = np.sort(np.argsort(-below, kind="stable")[:left])
        left -= len(kept)
        hidden[place.id] = len(ids) - len(kept)
        for i in kept.tolist():
            one = Place(int(ids[i]), place.depth + 1, int(below[i]), [], 0)
            place.children.append(one)
            if one.id >= 0:
                heapq.heappush(waiting, (-one.classes, one.id, one))
    return _with_hidden(root, hidden)


def _with_hidden(root: Place, hidden: dict[int, int]) -> Place:
    """The same tree with the counts of what is not shown; without recursion, for deep chains."""
    done: dict[int, Place] = {}
    stack = [(root, False)]
    while stack:
        place, ready = stack.pop()
        if ready or not place.children:
            children = [done.pop(one.id) for one in place.children]
            done[place.id] = place._replace(children=children, hidden=hidden.get(place.id, 0))
            continue
        stack.append((place, True))
        stack += [(one, False) for one in place.children]
    return done[root.id]


def _root(child_ptr: Array, child: Array) -> int:
    below = np.zeros(len(child_ptr) - 1, bool)
    below[child[child >= 0]] = True
    return int(np.flatnonzero(~below)[0])


def _classes_below(child_ptr: Array, child: Array, depth: int) -> npt.NDArray[np.int64]:
    """Classes below every node: each class climbs one step a turn, all of them at once."""
    nodes = len(child_ptr) - 1
    owner = np.repeat(np.arange(nodes), np.diff(child_ptr))
    parent = np.full(nodes, -1)
    parent[child[child >= 0]] = owner[child >= 0]
    total = np.zeros(nodes, np.int64)
    at = owner[child < 0]
    for _ in range(depth):
        np.add.at(total, at, 1)
        at = parent[at]
        at = at[at >= 0]
    return total


def as_names(names: Sequence[str] | None, n_classes: int) -> list[str]:
    """A name for every class; their numbers, if none are given."""
    if names is None:
        return [str(c) for c in range(n_classes)]
    given = [str(name) for name in names]
    if len(given) != n_classes:
        raise ValueError(f"names must have one entry per class, {n_classes}, got {len(given)}")
    return given


def _all_places(root: Place) -> list[Place]:
    """Depth first, children in their order."""
    found, stack = [], [root]
    while stack:
        place = stack.pop()
        found.append(place)
        stack += reversed(place.children)
    return found


def _heights(places: list[Place]) -> dict[int, float]:
    """Leaves of the picture lie below each other, a node in the middle of its children."""
    height: dict[int, float] = {}
    free = 0
    for place in reversed(places):
        if place.children:
            height[place.id] = (height[place.children[0].id] + height[place.children[-1].id]) / 2
        else:
            height[place.id] = free
            free += 1
    return {id: free - 1 - y for id, y in height.items()}


def label_of(place: Place, names: list[str]) -> str:
    if place.id < 0:
        return names[~place.id]
    # a node without any child in the picture is cut off there: its classes say enough
    more = f", {place.hidden:,} children not shown" if place.hidden and place.children else ""
    return f"{place.classes:,} classes{more}"


def draw(h: Tree, max_nodes: object, names: Sequence[str] | None, ax: Axes | None) -> Axes:
    """Draw the tree on matplotlib axes, the root on the left."""
    called, root = as_names(names, h.n_classes), visible(h, max_nodes)
    if ax is None:
        import matplotlib.pyplot as plt  # an extra: only those who draw need it

        ax = plt.gca()
    elif not hasattr(ax, "plot"):
        raise TypeError(f"ax must be matplotlib axes, got {describe(ax)}")
    places = _all_places(root)
    height = _heights(places)
    for place in places:
        for one in place.children:
            share = one.classes / root.classes
            ax.plot(
                [place.depth, one.depth],
                [height[place.id], height[one.id]],
                color="C0",
                alpha=0.5,
                linewidth=0.5 + 6 * share**0.5,
                solid_capstyle="round",
            )
    if len(places) <= MOST_NAMED:
        plate = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
        for place in places:
            side = "left" if place.id < 0 else "center"
            text = label_of(place, called)
            ax.text(
                place.depth, height[place.id], text, ha=side, va="center", bbox=plate, fontsize=8
            )
    ax.invert_yaxis()
    ax.set_axis_off()
    return ax


def graphviz(h: Tree, max_nodes: object, names: Sequence[str] | None) -> str:
    """The tree in Graphviz's language."""
    called, root = as_names(names, h.n_classes), visible(h, max_nodes)
    lines = ["digraph hierarchy {", "  rankdir=LR;", "  node [shape=box, fontsize=10];"]
    for place in _all_places(root):
        text = label_of(place, called).replace("\\", "\\\\").replace('"', '\\"')
        text = " ".join(text.split())
        shape = "" if place.id >= 0 else ", shape=plaintext"
        lines.append(f'  {_key(place)} [label="{text}"{shape}];')
        lines += [f"  {_key(place)} -> {_key(one)};" for one in place.children]
    return "\n".join([*lines, "}", ""])


def _key(place: Place) -> str:
    return f"node{place.id}" if place.id >= 0 else f"class{~place.id}"
