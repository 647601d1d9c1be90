"""The classifier's model file: everything as plain arrays, so that nothing is ever unpickled."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from cython_sparseops._arrays import Array
from cython_sparseops._hierarchy import Hierarchy
from cython_sparseops._models.bag import BagModel, Progress
from cython_sparseops._models.held_out import Validation
from cython_sparseops._models.labels import as_labels
from cython_sparseops._quantize import QuantizedWeights
from cython_sparseops._storage import load_arrays, save_arrays

KIND = "HSoftmaxClassifier"
# Parameters that are no part of a model: the same training is the same file wherever it runs, and
# a file orders nothing of whoever loads it.
_OF_THE_MACHINE = {"n_jobs": None, "num_threads": None, "verbose": 0}
Arrays = dict[str, Array]
Model = TypeVar("Model")


def pack_strings(strings: Iterable[str]) -> Arrays:
    """Store strings as UTF-8 bytes and offsets.

    Parameters
    ----------
    strings : iterable of str
        The strings; empty ones are legal.

    Returns
    -------
    dict of ndarray
        ``utf8`` (uint8) and ``offsets`` (int64, one more than strings).

    Examples
    --------
    >>> pack_strings(["ab", "ç"])["offsets"].tolist()
    [0, 2, 4]
    """
    encoded = [string.encode("utf-8", "surrogatepass") for string in strings]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(piece) for piece in encoded], out=offsets[1:])
    return {"utf8": np.frombuffer(b"".join(encoded), dtype=np.uint8), "offsets": offsets}


def unpack_strings(arrays: Mapping[str, Array]) -> list[str]:
    """Return the strings of `pack_strings`, checking every offset.

    Parameters
    ----------
    arrays : mapping of ndarray
        ``utf8`` and ``offsets``.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If the offsets do not cover the bytes in order, or the bytes are not UTF-8.

    Examples
    --------
    >>> unpack_strings(pack_strings(["ab", "", "ç"]))
    ['ab', '', 'ç']
    """
    utf8, offsets = checked_strings(arrays)
    raw, bounds = utf8.tobytes(), offsets.tolist()
    if raw.isascii():  # far faster in one piece
        text = raw.decode("ascii")
        return [text[start:stop] for start, stop in itertools.pairwise(bounds)]
    return [
        raw[start:stop].decode("utf-8", "surrogatepass")
        for start, stop in itertools.pairwise(bounds)
    ]


def checked_strings(arrays: Mapping[str, Array]) -> tuple[Array, Array]:
    """The ``utf8`` and ``offsets`` of `pack_strings`, checked.

    Raises
    ------
    ValueError
        As `unpack_strings`.

    Examples
    --------
    >>> checked_strings(pack_strings(["ab", "c"]))[1].tolist()
    [0, 2, 3]
    """
    utf8, offsets = arrays["utf8"], arrays["offsets"]
    if utf8.dtype != np.uint8 or utf8.ndim != 1:
        raise ValueError(f"utf8 must be a 1-d uint8 array, got {utf8.ndim}-d {utf8.dtype}")
    if offsets.dtype != np.int64 or offsets.ndim != 1 or not offsets.size:
        raise ValueError(f"offsets must be a 1-d int64 array, got {offsets.ndim}-d {offsets.dtype}")
    if offsets[0] != 0 or offsets[-1] != utf8.size or np.any(np.diff(offsets) < 0):
        raise ValueError(
            f"offsets must be non-decreasing from 0 to {utf8.size}, "
            f"got {int(offsets[0])} to {int(offsets[-1])}"
        )
    raw = utf8.tobytes()
    if not raw.isascii():
        try:
            raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise ValueError(f"utf8 must hold UTF-8 text, got {error.reason}") from None
        starts = utf8[offsets[offsets < utf8.size]]
        if np.any(starts & 0xC0 == 0x80):
            raise ValueError("utf8 must hold UTF-8 text, got a string that ends inside a character")
    return utf8, offsets


def prefixed(prefix: str, arrays: Mapping[str, Array]) -> Arrays:
    """Return `arrays` with ``prefix.`` in front of every name.

    Examples
    --------
    >>> list(prefixed("model", {"W": np.zeros(1)}))
    ['model.W']
    """
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def under(prefix: str, arrays: Mapping[str, Array]) -> Arrays:
    """Return the arrays that `prefixed` stored under `prefix`, by their own names.

    Examples
    --------
    >>> list(under("model", {"model.W": np.zeros(1), "classes": np.zeros(2)}))
    ['W']
    """
    start = prefix + "."
    return {name[len(start) :]: a for name, a in arrays.items() if name.startswith(start)}


def pack_labels(labels: Array) -> tuple[Arrays, str]:
    """Store class labels without pickling.

    Parameters
    ----------
    labels : ndarray of shape (C,)
        Numbers, booleans, or strings (NumPy strings or Python ``str`` objects).

    Returns
    -------
    (dict of ndarray, str)
        The arrays, and the dtype to give back.

    Raises
    ------
    ValueError
        For labels of any other kind.

    Examples
    --------
    >>> pack_labels(np.array([False, True]))
    ({'values': array([0, 1], dtype=uint8)}, '|b1')
    """
    kind = labels.dtype.kind
    if kind in "iufb":
        return {"values": np.frombuffer(labels.tobytes(), np.uint8)}, labels.dtype.str
    if kind in "UT" or (kind == "O" and all(isinstance(label, str) for label in labels)):
        return pack_strings(labels.tolist()), "object" if kind == "O" else "str"
    raise ValueError(f"classes must be numbers or strings to be saved, got dtype {labels.dtype}")


def unpack_labels(arrays: Mapping[str, Array], dtype: str) -> Array:
    """Return the labels of `pack_labels`.

    Examples
    --------
    >>> unpack_labels(*pack_labels(np.array(["ant", "bee"])))
    array(['ant', 'bee'], dtype='<U3')
    """
    if dtype in ("str", "object"):
        strings = unpack_strings(arrays)
        labels = as_labels(strings) if dtype == "str" else np.array(strings, dtype=object)
    elif np.dtype(dtype).kind in "iufb":
        labels = np.frombuffer(arrays["values"].tobytes(), np.uint8 if dtype == "|b1" else dtype)
        labels = labels.astype(dtype)
    else:
        raise ValueError(f"classes must be numbers or strings, got dtype {dtype}")
    if not np.all(labels[:-1] < labels[1:]):
        raise ValueError("classes must be sorted and differ, got others")
    return labels


class ClassifierFile(NamedTuple):
    """A classifier read from a file, and what else stood in it."""

    classifier: Any
    arrays: Arrays
    metadata: dict[str, Any]


def save_classifier(
    classifier: Any,
    path: str | os.PathLike[str],
    extra_arrays: Mapping[str, Array] | None = None,
    extra_metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a fitted `HSoftmaxClassifier`, and anything else under names of its own.

    Parameters
    ----------
    classifier : HSoftmaxClassifier
        A fitted one.
    path : str or path-like
        Replaced in one step, if it exists.
    extra_arrays, extra_metadata : mapping, optional
        Stored beside it.

    Examples
    --------
    See `HSoftmaxClassifier.save`.
    """
    arrays, metadata = pack_classifier(classifier)
    save_arrays(path, {**(extra_arrays or {}), **arrays}, {**(extra_metadata or {}), **metadata})


def pack_classifier(classifier: Any) -> tuple[Arrays, dict[str, Any]]:
    """What a file holds of a fitted `HSoftmaxClassifier`; `rebuild_classifier` reads it."""
    labels, label_dtype = pack_labels(classifier.classes_)
    params = classifier.get_params(deep=False)
    given = not isinstance(params["hierarchy"], str)
    pairs = _plain_pairs(params["class_weight"])
    scores = getattr(classifier, "validation_score_", None)  # of a model of another origin: none
    plain = {name: _plain(value) for name, value in params.items() if name != "hierarchy"}
    plain |= _OF_THE_MACHINE
    names = getattr(classifier, "feature_names_in_", None)
    arrays = {
        **prefixed("classes", labels),
        **prefixed("hierarchy", classifier.hierarchy_.to_arrays()),
        **prefixed("model", classifier.model_.to_arrays()),
        **(prefixed("feature_names", pack_strings(names)) if names is not None else {}),
        "history": np.array(classifier.history_, dtype=np.float64).reshape(
            -1, len(Progress._fields)
        ),
        **({} if scores is None else {"validation": np.array(scores, dtype=np.float64)}),
    }
    metadata = {
        "kind": KIND,
        "params": {**plain, **pairs, "hierarchy": None if given else params["hierarchy"]},
        "label_dtype": label_dtype,
        "mode": classifier.model_.mode,
        "n_features": int(classifier.n_features_in_),
        "shuffle_seed": int(classifier._shuffle_seed),
    }
    return arrays, metadata


def load_classifier(cls: Any, path: str | os.PathLike[str], *, mmap: bool = True) -> ClassifierFile:
    """Read what `save_classifier` wrote, checking that the parts fit together.

    Parameters
    ----------
    cls : type
        `HSoftmaxClassifier` or a subclass.
    path : str or path-like
        The file.
    mmap : bool
        Map the weights instead of reading them.

    Returns
    -------
    ClassifierFile

    Raises
    ------
    ValueError
        If the file is damaged, or holds something else.

    Examples
    --------
    See `HSoftmaxClassifier.save`.
    """
    rebuild = {KIND: lambda a, m: ClassifierFile(rebuild_classifier(cls, a, m), a, m)}
    return read_model(rebuild, path, mmap=mmap)


def read_model(
    rebuild: Mapping[str, Callable[[Arrays, dict[str, Any]], Model]],
    path: str | os.PathLike[str],
    *,
    mmap: bool,
) -> Model:
    """Read a file of one of these kinds; what its `rebuild` finds wrong is a ValueError."""
    arrays, metadata = load_arrays(path, mmap=mmap)
    kind = metadata.get("kind")
    if not isinstance(kind, str) or kind not in rebuild:
        raise ValueError(
            f"path must hold a saved {' or '.join(rebuild)}, got {kind!r:.60} in {path}"
        )
    try:
        return rebuild[kind](arrays, metadata)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"path must hold a complete {kind}, got {error!r:.200} in {path}"
        ) from None
    except ValueError as error:
        raise ValueError(f"path must hold a valid {kind}, got {path}: {error!s:.200}") from None


class BagFile(NamedTuple):
    """What a file holds of a classifier that predicts."""

    model: BagModel
    classes: Array
    feature_names: Array | None


def read_bag(arrays: Arrays, metadata: dict[str, Any]) -> BagFile:
    """The weights, labels and names of columns, checked to fit together."""
    hierarchy = Hierarchy.from_arrays(under("hierarchy", arrays), copy=False)
    classes = unpack_labels(under("classes", arrays), metadata["label_dtype"])
    if len(classes) != hierarchy.n_classes:
        raise ValueError(f"classes must number {hierarchy.n_classes}, got {len(classes)}")
    model = BagModel.from_arrays(hierarchy, restored(under("model", arrays)), mode=metadata["mode"])
    if model.n_features != int(metadata["n_features"]):
        raise ValueError(
            f"n_features must be {model.n_features}, as the weights', got {metadata['n_features']}"
        )
    packed = under("feature_names", arrays)
    names = np.array(unpack_strings(packed), dtype=object) if packed else None
    return BagFile(model, classes, names)


def rebuild_classifier(cls: Any, arrays: Arrays, metadata: dict[str, Any]) -> Any:
    """The classifier of `pack_classifier`, its parts checked to fit together."""
    model, classes, names = read_bag(arrays, metadata)
    params = dict(metadata["params"])
    if params["hierarchy"] is None:
        params["hierarchy"] = model.hierarchy
    if isinstance(params.get("class_weight"), list):
        params["class_weight"] = {label: weight for label, weight in params["class_weight"]}
    classifier = cls(**{**params, **_OF_THE_MACHINE})
    classifier.hierarchy_, classifier.model_, classifier.classes_ = model.hierarchy, model, classes
    classifier.n_features_in_ = model.n_features
    if names is not None:
        classifier.feature_names_in_ = names
    classifier.history_ = [
        Progress(int(epoch), int(examples), int(total), float(nll), float(lr))
        for epoch, examples, total, nll, lr in arrays["history"].tolist()
    ]
    classifier.validation_score_, classifier.best_epoch_ = None, None
    if "validation" in arrays:
        scores = [Validation(int(epoch), score) for epoch, score in arrays["validation"].tolist()]
        classifier.validation_score_ = scores
        classifier.best_epoch_ = max(scores, key=lambda one: one.log_likelihood).epoch
    classifier._shuffle_seed, classifier._trainer = int(metadata["shuffle_seed"]), None
    return classifier


def restored(arrays: Arrays) -> Arrays:
    """The arrays of a model, those that were stored as int8 `QuantizedWeights` in float32.

    Examples
    --------
    >>> rows = {"W.data": np.ones((1, 2), np.int8), "W.scale": np.ones(1, np.float32)}
    >>> restored(rows)["W"]
    array([[1., 1.]], dtype=float32)
    """
    whole = dict(arrays)
    for name in ("E", "W"):
        if f"{name}.scale" in arrays:
            whole[name] = QuantizedWeights.from_arrays(under(name, arrays)).dequantize()
            del whole[f"{name}.data"], whole[f"{name}.scale"]
    return whole


def _plain_pairs(class_weight: Any) -> dict[str, Any]:
    """Class weights as pairs: they keep the type of a label, which JSON's keys do not."""
    if not isinstance(class_weight, Mapping):
        return {}
    pairs = [[_plain(label), _plain(weight)] for label, weight in class_weight.items()]
    return {"class_weight": pairs}


def _plain(value: Any) -> Any:
    """Return a parameter as JSON can hold it; a random generator cannot be, and becomes None."""
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or isinstance(value, (bool, int, float, str)) else None
