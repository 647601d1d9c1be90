"""Vectors of words: what an embedding has learned of each."""

from __future__ import annotations

import numpy as np

from cython_sparseops._arrays import Array
from cython_sparseops._bag import embedding_bag
from cython_sparseops._cli.fasttext_text import END
from cython_sparseops._cli.labels import as_scipy
from cython_sparseops._cli.model import CliModel
from cython_sparseops._cli.streams import InputError
from cython_sparseops._text import FastTextFeatures


def word_vectors(model: CliModel, words: list[bytes]) -> Array:
    """The mean of the rows of each word and its character n-grams; zeros for a word without any."""
    E = getattr(model.classifier.model_, "E", None)
    if E is None or model.source.format != "fasttext":
        raise InputError("model must be an embedding of text, got one without word vectors")
    whole = model.source.text
    assert whole is not None  # of text
    if not isinstance(whole, FastTextFeatures):
        lines = [word.decode("utf-8", "replace") for word in words]
        return np.array(embedding_bag(as_scipy(whole.transform(lines)), E))
    single = FastTextFeatures.from_arrays(whole.to_arrays(), whole.settings() | {"word_ngrams": 1})
    X = as_scipy(single.transform(words)).tolil()
    end = as_scipy(single.transform([b""])).indices.tolist()  # of an empty line only its end
    for row, word in enumerate(words):
        if end and word != END.encode():
            X[row, end[0]] -= 1
    X = X.tocsr()
    X.eliminate_zeros()
    return np.array(embedding_bag(X, E))
