"""The picture of ``sparseops demo``: training curves, and the top of the taxonomy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cython_sparseops._models.bag import Progress

LEVELS = (3, 3, 3, 2)  # children shown of the root, of its children, of theirs, …
LEAST = 0.002  # share of the examples that a node needs to be shown
COLORS = ("#8a5a00", "#00639b")


class Spot(NamedTuple):
    """A node of the picture."""

    node: int
    level: int
    y: float
    children: list[Spot]


def draw(
    path: str,
    curves: Mapping[str, Sequence[Progress]],
    parent: npt.NDArray[np.int64],
    names: Sequence[str],
    counts: npt.NDArray[np.int64],
) -> None:
    """Write the picture, without any display.

    Parameters
    ----------
    path : str
        The .png file.
    curves : mapping of str to sequence of Progress
        A training curve for each tree.
    parent : (nodes,) ndarray of int64
        The taxonomy; -1 is the parent of the root.
    names : sequence of str
        Of the nodes.
    counts : ndarray of shape (C,)
        Training examples of the classes, which are the first nodes.
    """
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(14, 6.5), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, width_ratios=[1, 2])
        _draw_curves(left, curves)
        _draw_tree(right, parent, names, node_counts(parent, counts))
        figure.savefig(path, dpi=110)


def node_counts(
    parent: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Add the counts of the classes up the tree.

    Examples
    --------
    >>> node_counts(np.array([3, 3, 4, 4, -1]), np.array([1, 2, 4])).tolist()
    [1, 2, 4, 3, 7]
    """
    total = np.zeros(len(parent), dtype=np.int64)
    total[: len(counts)] = counts
    carried, at = total[: len(counts)].copy(), np.arange(len(counts))
    while at.size:  # every class climbs one step a turn
        at = parent[at]
        carried, at = carried[at >= 0], at[at >= 0]
        np.add.at(total, at, carried)
    return total


def _draw_curves(axes: Any, curves: Mapping[str, Sequence[Progress]]) -> None:
    for (name, steps), color in zip(curves.items(), COLORS, strict=False):
        examples = np.array([step.examples for step in steps])
        losses = np.array([step.nll for step in steps])
        axes.plot(examples / 1000, losses, color=color, label=f"{name} tree", linewidth=1.6)
    axes.set_xlabel("training examples, thousands")
    axes.set_ylabel("mean nll since the last point, nats")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.set_title("Training")


def _draw_tree(
    axes: Any, parent: npt.NDArray[np.int64], names: Sequence[str], total: npt.NDArray[np.int64]
) -> None:
    root = int(np.flatnonzero(parent < 0)[0])
    inner = np.zeros(len(parent), dtype=bool)
    inner[parent[parent >= 0]] = True
    top, _ = _place(root, 0, 0.0, parent, np.where(inner, total, 0))
    whole = max(int(total[root]), 1)
    waiting = [top]
    while waiting:
        spot = waiting.pop()
        share = total[spot.node] / whole
        for child in spot.children:
            width = 0.6 + 9 * np.sqrt(total[child.node] / whole)
            along = np.linspace(0, 1, 40)
            bend = spot.y + (child.y - spot.y) * along**2 * (3 - 2 * along)
            axes.plot(spot.level + along, bend, color=COLORS[1], alpha=0.25, linewidth=width)
        label = f"{names[spot.node].replace('_', ' ').lower()}  {share:.1%}"
        plate = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
        axes.text(spot.level, spot.y, label, va="center", ha="center", bbox=plate, fontsize=8)
        waiting += spot.children
    axes.set_xlim(-0.3, len(LEVELS) + 0.5)
    axes.margins(y=0.04)
    axes.invert_yaxis()
    axes.set_axis_off()
    axes.set_title(
        "Top of the taxonomy: the most frequent inner nodes, with their share of examples"
    )


def _place(
    node: int, level: int, y: float, parent: npt.NDArray[np.int64], total: npt.NDArray[np.int64]
) -> tuple[Spot, float]:
    """Place a node beside its most frequent children; return it and where the next may start."""
    children: list[Spot] = []
    if level < len(LEVELS):
        ids = np.flatnonzero(parent == node)
        ids = ids[np.argsort(-total[ids], kind="stable")][: LEVELS[level]]
        for child in ids[total[ids] > LEAST * total.max()].tolist():
            spot, y = _place(child, level + 1, y, parent, total)
            children.append(spot)
    if not children:
        return Spot(node, level, y, []), y + 1
    middle = (children[0].y + children[-1].y) / 2
    return Spot(node, level, middle, children), y
