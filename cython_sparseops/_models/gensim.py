"""The hierarchical softmax inside gensim's Word2Vec, as a tree and rows of ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from cython_sparseops._arrays import Array, as_integers, as_real, describe
from cython_sparseops._hierarchy import Hierarchy

__all__ = ["GensimModel", "load_gensim"]


class GensimModel(NamedTuple):
    """What `load_gensim` returns.

    Attributes
    ----------
    hierarchy : Hierarchy
        gensim's Huffman tree; class i is ``words[i]``.
    W : ndarray of shape (C - 1, D)
        A decision row for each node. There are no biases.
    words : list of str, length C
        In gensim's order, which is that of ``model.wv.vectors`` too.

    Examples
    --------
    >>> GensimModel(Hierarchy.balanced(2), np.ones((1, 3)), ["a", "the"]).words
    ['a', 'the']
    """

    hierarchy: Hierarchy
    W: Array
    words: list[str]


def load_gensim(path_or_model: str | os.PathLike[str] | object) -> GensimModel:
    """Take the tree and the decision rows out of a gensim model that was trained with ``hs=1``.

    Parameters
    ----------
    path_or_model : str, path-like, or gensim.models.Word2Vec
        A model in memory, or the file that its ``save`` wrote. The file is a pickle, which gensim
        itself opens: take it from nobody whom you do not trust.

    Returns
    -------
    GensimModel
        For `hsoftmax`, `hsoftmax_log_proba` and `hsoftmax_search`, with ``b=None``. X is the
        vector of a context word, ``model.wv.vectors[i]``, or with CBOW the mean (or sum) of those
        of the context.

    Raises
    ------
    ImportError
        If a path is given and gensim is not installed.
    TypeError
        If it is neither a path nor a model.
    ValueError
        If the model was trained without ``hs=1``, or its parts do not fit each other.

    Notes
    -----
    Log-probabilities are exact. gensim's own ``score`` looks them up in a table of 1,000 steps and
    leaves out logits beyond 6: its sums are 1 to 2 % off.

    References
    ----------
    Mikolov et al., "Efficient estimation of word representations in vector space", 2013.

    Examples
    --------
    >>> from types import SimpleNamespace as Model
    >>> paths = {"point": [[1], [1, 0], [1, 0]], "code": [[0], [1, 0], [1, 1]]}
    >>> wv = Model(index_to_key=["the", "cat", "purrs"], expandos=paths)
    >>> h, W, words = load_gensim(Model(wv=wv, hs=1, syn1=np.ones((3, 2), np.float32)))
    >>> X = np.zeros((1, 2), np.float32)
    >>> dict(zip(words, np.exp(hsoftmax_log_proba(X, W, None, h))[0].tolist()))
    {'the': 0.5, 'cat': 0.25, 'purrs': 0.25}
    """
    model: Any = path_or_model
    if isinstance(path_or_model, (str, os.PathLike)):
        model = _opened(os.fspath(path_or_model))
    wv = getattr(model, "wv", None)
    words = getattr(wv, "index_to_key", None)
    if words is None:
        raise TypeError(
            f"path_or_model must be a path or a Word2Vec model, got {describe(path_or_model)}"
        )
    words = [*words]
    if not getattr(model, "hs", 1) or getattr(model, "syn1", None) is None:
        raise ValueError("path_or_model must be trained with hs=1, got a model without")
    points, codes = _paths(wv, words)
    lengths = [len(point) for point in points]
    if lengths != [len(code) for code in codes] or len(lengths) != len(words):
        raise ValueError(
            f"path_or_model must have a point for each code of {len(words)} words, got others"
        )
    nodes, code = (np.concatenate([np.zeros(0, np.int64), *all]) for all in (points, codes))
    ptr = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    tree = Hierarchy.from_paths(ptr, as_integers("point", nodes), 1 - as_integers("code", code))
    W = as_real("syn1", model.syn1, 2)
    if len(W) < tree.n_rows:
        raise ValueError(f"syn1 must have a row for each of {tree.n_rows} nodes, got {len(W)}")
    return GensimModel(tree, W[: tree.n_rows], words)


def _opened(path: str) -> Any:
    try:
        from gensim.models import Word2Vec
    except ImportError as error:
        raise ImportError(
            f"load_gensim needs gensim to open a file: pip install gensim, or give it a model that "
            f"is loaded already ({error})"
        ) from error
    return Word2Vec.load(path)


def _paths(wv: Any, words: Sequence[str]) -> tuple[list[Array], list[Array]]:
    """Points and codes of the words, root first."""
    stored = getattr(wv, "expandos", {})
    columns = []
    for name in ("point", "code"):
        try:
            column = stored[name] if name in stored else [wv.get_vecattr(w, name) for w in words]
        except (AttributeError, KeyError):
            raise ValueError(
                f"path_or_model must be trained with hs=1, got a model without a {name} a word"
            ) from None
        columns.append([as_integers(name, np.array(one, np.int64)) for one in column])
    return columns[0], columns[1]
