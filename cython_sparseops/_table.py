"""Tables of plain text for the command line."""

from __future__ import annotations

from collections.abc import Sequence


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out rows under headers: the first column to the left, the others to the right.

    Parameters
    ----------
    headers : sequence of str
        Titles of the columns.
    rows : sequence of sequences
        Cells; floats get four digits, whole numbers thousands separators, None a dash.

    Returns
    -------
    str
        Lines without a final newline.

    Examples
    --------
    >>> print(table(["tree", "nodes"], [["huffman", 1999], ["flat", 1]]))
    tree     nodes
    -------  -----
    huffman  1,999
    flat         1
    """
    cells = [list(headers), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def facts(values: dict[str, object]) -> str:
    """Lay out one fact per line.

    Parameters
    ----------
    values : dict
        Name and value of each fact.

    Returns
    -------
    str

    Examples
    --------
    >>> print(facts({"classes": 3, "P@1": 0.5}))
    classes  3
    P@1      0.5000
    """
    width = max(map(len, values), default=0)
    return "\n".join(f"{name.ljust(width)}  {_cell(value)}" for name, value in values.items())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return (
        f"{value:,.0f}"
        if abs(value) >= 1000
        else f"{value:.4f}"
        if abs(value) < 10
        else f"{value:.1f}"
    )
