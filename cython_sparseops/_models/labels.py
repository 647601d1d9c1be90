"""Labels as users have them, and the classes that they name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cython_sparseops import _taxonomy as taxonomies
from cython_sparseops._arrays import Array, as_plain, describe, find_sorted
from cython_sparseops._hierarchy import Hierarchy


def as_labels(strings: Sequence[str]) -> Array:
    """Make an array of strings: of fixed width, unless a few long ones would multiply its memory.

    Examples
    --------
    >>> as_labels(["ant", "bee"])
    array(['ant', 'bee'], dtype='<U3')
    >>> as_labels(["ant"] * 1000 + ["x" * 10_000]).dtype
    dtype('O')
    """
    lengths = [len(string) for string in strings]
    widened = max(lengths, default=0) * len(lengths)
    wasteful = widened > 16 * len(lengths) + 8 * sum(lengths)
    # NumPy drops trailing NULs of strings of fixed width.
    if wasteful or any(string.endswith("\0") for string in strings):
        return np.array(strings, dtype=object)
    return np.array(strings, dtype=str)


def label_array(name: str, labels: Any) -> Any:
    """Give back labels, those of NumPy's StringDType as other strings.

    Raises
    ------
    ValueError
        If a label is masked or missing, or a row has several.

    Examples
    --------
    >>> label_array("y", ["ant", "bee"])
    ['ant', 'bee']
    """
    several = _row_of_several(labels)
    if several is not None:
        raise ValueError(
            f"{name} must hold one label a row, got several in row {several} (repeat the row for "
            "each, or give an indicator matrix to sklearn.multiclass.OneVsRestClassifier)"
        )
    return _without_string_dtype(name, labels)


def _without_string_dtype(name: str, labels: Any) -> Any:
    if not isinstance(labels, np.ndarray):
        return labels
    array = as_plain(name, labels)
    if array.dtype.kind != "T":
        return array
    strings = array.ravel().tolist()
    missing = [at for at, label in enumerate(strings) if not isinstance(label, str)]
    if missing:
        raise ValueError(f"{name} must hold no missing labels, got one at index {missing[0]}")
    return as_labels(strings).reshape(array.shape)


def _row_of_several(labels: Any) -> int | None:
    """The first row with a collection of labels that are not one."""
    shape = getattr(labels, "shape", None)
    if isinstance(shape, tuple) and len(shape) == 2:
        return 0 if shape[1] > 1 else None
    if not isinstance(labels, (list, tuple, np.ndarray)):
        return None
    kinds = (list, tuple, set, frozenset, np.ndarray)
    rows = enumerate(labels) if getattr(labels, "dtype", None) in (None, object) else ()
    return next(
        (at for at, row in rows if isinstance(row, kinds) and np.size(list(row)) != 1), None
    )


def refuse_text(name: str, rows: Any) -> None:
    """Say what to do with raw text.

    Raises
    ------
    ValueError
        If the first row is text.

    Examples
    --------
    >>> refuse_text("X", [[0.0, 1.0]])
    """
    column = isinstance(rows, (list, tuple, np.ndarray)) or hasattr(rows, "iloc")
    column &= getattr(rows, "ndim", 1) == 1  # a frame gives the names of its columns
    first = rows if isinstance(rows, str) else next(iter(rows), None) if column else None
    if isinstance(first, str):
        raise ValueError(
            f"{name} must be numbers, got text, {describe(str(first))} (count its words first: "
            "make_pipeline(CountVectorizer(), classifier))"
        )


def unique_labels(name: str, labels: Any) -> Array:
    """Sort labels and drop repeated ones.

    Raises
    ------
    ValueError
        If there is none, one is NaN, or they are not one vector of numbers or of strings.

    Examples
    --------
    >>> unique_labels("classes", ["bee", "ant", "bee"])
    array(['ant', 'bee'], dtype='<U3')
    """
    try:
        array = as_plain(name, _without_string_dtype(name, labels))
        unique = np.unique(array)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be labels of one kind, got {error}") from None
    if array.ndim != 1:
        raise ValueError(f"{name} must have 1 dimension, got {array.ndim}")
    if not len(unique):
        raise ValueError(f"{name} must hold at least one label, got none")
    if unique.dtype.kind == "f" and not np.isfinite(unique).all():
        raise ValueError(f"{name} must be finite, got {unique[~np.isfinite(unique)][0]}")
    return as_labels(unique.tolist()) if unique.dtype.kind == "U" else unique


def class_numbers(classes: Array, y: Array) -> npt.NDArray[np.int64]:
    """The place of each label among the classes.

    Raises
    ------
    ValueError
        If a label is none of them.

    Examples
    --------
    >>> class_numbers(np.array(["ant", "bee"]), np.array(["bee", "bee"]))
    array([1, 1])
    """
    numbers, known = find_sorted(classes, y)
    unknown = np.flatnonzero(~known)
    if unknown.size:
        label = y[unknown[0]]
        label = label.item() if isinstance(label, np.generic) else label
        raise ValueError(f"y must hold only labels of classes, got {label!r} at index {unknown[0]}")
    return numbers.astype(np.int64, copy=False)


def merged_labels(name: str, known: Array, more: Array) -> Array:
    """All of two sorted arrays of labels, sorted.

    Raises
    ------
    ValueError
        If one holds numbers and the other strings.

    Examples
    --------
    >>> merged_labels("y", np.array(["ant", "cat"]), np.array(["bee", "cat"]))
    array(['ant', 'bee', 'cat'], dtype='<U3')
    """
    kinds = [labels.dtype.kind in "UO" for labels in (known, more)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"{name} must hold {'strings' if kinds[0] else 'numbers'}, as the labels before, got "
            f"{more.tolist()[0]!r}"
        )
    if "O" in (known.dtype.kind, more.dtype.kind):
        return unique_labels(name, np.concatenate([known.astype(object), more.astype(object)]))
    if find_sorted(known, more)[1].all():
        return known
    return unique_labels(name, np.concatenate([known, more]))


def more_classes(known: Array, y: Array, given: Any = None) -> Array:
    """The classes of a later call, sorted: those known, in y and given.

    Raises
    ------
    ValueError
        If some are numbers and others strings, or those given lack one that is known.

    Examples
    --------
    >>> more_classes(np.array([1, 3]), np.array([2, 3]))
    array([1, 2, 3])
    """
    wanted = unique_labels("y", y)
    if given is not None:
        listed = unique_labels("classes", given)
        lost = np.setdiff1d(known, listed)
        if lost.size:
            raise ValueError(
                f"classes must hold those of the calls before, got none of {lost.tolist()[0]!r}"
            )
        wanted = merged_labels("classes", listed, wanted)
    return merged_labels("y", known, wanted)


def named_classes(name: str, labels: Array, h: Hierarchy) -> Array:
    """The classes of a tree with names, and the inner categories among the labels, sorted.

    Raises
    ------
    ValueError
        If a label is no name of the tree.

    Examples
    --------
    >>> h = Hierarchy.from_table(["cat", "dog", "animal"], ["animal", "animal", None])
    >>> named_classes("y", np.array(["animal", "cat"]), h)
    array(['animal', 'cat', 'dog'], dtype='<U6')
    """
    found, taxonomy = set(h.class_names or ()), h._taxonomy
    known = found if taxonomy is None else {*taxonomy.names}
    for label in labels.tolist():
        if not isinstance(label, str) or label not in known or not label:
            raise ValueError(f"{name} must hold names of the hierarchy, got {label!r}")
    return as_labels(sorted(found.union(labels.tolist())))


def class_list(hierarchy: str | Hierarchy, y: Array, given: Any = None) -> Array:
    """The classes of a fit, sorted: those of a tree with names, or `given`, or those in y.

    Warns that the labels of a tree without names are matched by their order.

    Raises
    ------
    ValueError
        If the labels do not fit the tree.

    Examples
    --------
    >>> class_list("huffman", np.array([3, 1, 3]))
    array([1, 3])
    >>> class_list(Hierarchy.balanced(4), np.array([3, 1, 3]))
    array([0, 1, 2, 3])
    """
    classes = unique_labels("y", y) if given is None else unique_labels("classes", given)
    if not isinstance(hierarchy, Hierarchy):
        return classes
    n_classes, text = hierarchy.n_classes, classes.dtype.kind in "UO"
    if hierarchy.class_names is not None:
        return named_classes("y" if given is None else "classes", classes, hierarchy)
    if n_classes == len(classes):
        if text:
            warnings.warn(
                f"hierarchy has no names: its class i is taken to be the i-th label in sorted "
                f"order, 0 is {str(classes[0])!r} and {n_classes - 1} is {str(classes[-1])!r}; "
                "Hierarchy.from_table and from_parents(names=) match by name",
                UserWarning,
                stacklevel=4,
            )
        return classes
    if classes.dtype.kind in "iu" and classes[0] >= 0 and classes[-1] < n_classes:
        return np.arange(n_classes, dtype=classes.dtype)
    raise ValueError(
        f"hierarchy must have one class for each of the {len(classes)} labels, "
        f"or labels be integers in [0, {n_classes}), got {n_classes} classes"
        + (" (Hierarchy.from_table matches by name)" if text else "")
    )


def with_classes(h: Hierarchy, classes: Array, counts: Array) -> Hierarchy:
    """The tree whose class i is ``classes[i]``: by name, if it has names.

    A name of an inner node gets a leaf of its own below it, which stands for what is that and
    nothing narrower.
    """
    taxonomy = h._taxonomy
    if taxonomy is None:
        return h
    names: list[str] = classes.tolist()
    own = set(names) - set(taxonomies.class_names(taxonomy))
    tree = h
    if own:
        taxonomy = taxonomies.with_own_leaves(taxonomy, own)
        tree = Hierarchy.from_parents(taxonomy.parents, counts=counts, **taxonomy.shape())
        tree = tree.independent() if h.is_independent else tree
    found = taxonomies.class_names(taxonomy)
    if found == tuple(names):
        return tree._named(taxonomy) if own else tree
    number = {name: at for at, name in enumerate(found)}
    order = np.array([number[name] for name in names], np.int64)
    ptr, at = taxonomies.in_class_order(tree.path_ptr, order)
    single = np.diff(tree.row_ptr) == 1
    ordered = Hierarchy.from_paths(ptr, tree.path_node[at], tree.path_child[at], logistic=single)
    ordered = ordered.independent() if h.is_independent else ordered
    return ordered._named(taxonomy._replace(leaf=taxonomy.leaf[order]))
