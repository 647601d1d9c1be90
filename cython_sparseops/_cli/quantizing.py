"""Models in 8 bits a weight, with fewer columns: what fastText's quantize is asked for."""

from __future__ import annotations

import os
import tempfile
from typing import Any, NamedTuple

import numpy as np

from cython_sparseops import load_arrays, quantize, save_arrays
from cython_sparseops._cli.fasttext_text import END
from cython_sparseops._cli.model import CliModel
from cython_sparseops._cli.streams import InputError
from cython_sparseops._models.bag import BagModel, plain_rows
from cython_sparseops._models.file import prefixed
from cython_sparseops._text import FastTextFeatures, Strings


class Columns(NamedTuple):
    """The columns that are kept, and the features that make them."""

    rows: Any
    features: FastTextFeatures


def save_quantized(model: CliModel, path: str, cutoff: int) -> None:
    """Write a model whose E and W are int8 with a scale a row; they are restored when it is read.

    Parameters
    ----------
    model : CliModel
        An embedding of text; its arrays stay as they are.
    path : str
    cutoff : int
        Columns to keep, those of the longest rows of E and that of the end of a line; 0: all.

    Raises
    ------
    InputError
        If the model is something else.
    """
    features = model.source.text
    bag, is_fasttext = (
        getattr(model.classifier, "model_", None),
        isinstance(features, FastTextFeatures),
    )
    if not isinstance(bag, BagModel) or bag.E is None or not is_fasttext:
        raise InputError("model must be one of `sparseops supervised`, got another")
    E, source = plain_rows(bag.E), model.source
    if 0 < cutoff < len(E) and isinstance(features, FastTextFeatures):
        kept = _longest(E, features, cutoff)
        E, source = E[kept.rows], source._replace(text=kept.features)
    smaller = BagModel(bag.hierarchy, E, plain_rows(bag.W), bag.b, mode=bag.mode)
    classifier, before = model.classifier, model.classifier.n_features_in_
    classifier.model_, classifier.n_features_in_ = smaller, len(E)
    try:
        with tempfile.TemporaryDirectory() as folder:
            whole = os.path.join(folder, "whole")
            CliModel(classifier, source).save(whole)
            arrays, metadata = load_arrays(whole, mmap=False)
    finally:
        classifier.model_, classifier.n_features_in_ = bag, before
    for name in ("E", "W"):
        rows = arrays.pop(f"model.{name}")
        arrays |= prefixed(f"model.{name}", quantize(rows, "int8").to_arrays())
    save_arrays(path, arrays, metadata)


def _longest(E: Any, features: FastTextFeatures, cutoff: int) -> Columns:
    """The columns of the longest rows, in their order."""
    words = features.words.to_list()
    length = np.linalg.norm(E.astype(np.float64), axis=1)
    if END.encode() in words:
        length[words.index(END.encode())] = np.inf
    rows = np.sort(np.argsort(-length, kind="stable")[:cutoff])
    own = rows[rows < len(words)]
    buckets = rows[rows >= len(words)] - len(words)
    kept = None
    if features.settings()["buckets"]:
        kept = buckets if features.kept is None else features.kept[buckets]
        kept = np.array(kept, np.int32)
    own_words = Strings.of([words[i] for i in own])
    arrays = features.to_arrays() | {"words": own_words.utf8, "word_offsets": own_words.offsets}
    if kept is not None:
        arrays["kept"] = kept
    smaller = FastTextFeatures.from_arrays(arrays, features.settings())
    return Columns(rows, smaller)
