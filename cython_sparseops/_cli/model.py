"""What the command line keeps in a model file: the classifier, and how its input is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from cython_sparseops import load_arrays
from cython_sparseops._arrays import Array
from cython_sparseops._cli import readers as data
from cython_sparseops._cli.corpus import open_corpus
from cython_sparseops._cli.fasttext_text import read_examples
from cython_sparseops._cli.labels import LabelLists, as_scipy
from cython_sparseops._cli.streams import InputError, Lines, byte_blocks, open_lines
from cython_sparseops._cli.svmlight import feature_blocks, read_svmlight
from cython_sparseops._models.file import KIND as BAG
from cython_sparseops._models.file import (
    Arrays,
    BagFile,
    load_classifier,
    pack_labels,
    prefixed,
    read_bag,
    read_model,
    save_classifier,
    under,
    unpack_labels,
)
from cython_sparseops._models.linear import KIND as LINEAR
from cython_sparseops._models.linear import LinearFile, load_linear, read_linear
from cython_sparseops._models.predictor import Predictor
from cython_sparseops._models.text import TextFeatures, features_of_file, weighed
from cython_sparseops._text import FastTextFeatures

# The estimators are imported where they are needed: answers do without, and scikit-learn takes
# seconds.
if TYPE_CHECKING:
    from cython_sparseops.sklearn import HSoftmaxClassifier, LabelTreeClassifier


class Source(NamedTuple):
    """How the input of a model is read, and what its training rows were.

    Attributes
    ----------
    format : {"fasttext", "svmlight"}
    prefix : str
        What labels of text begin with.
    text : TextFeatures, FastTextFeatures or None
        How a line of text becomes a row.
    idf : ndarray of float32, shape (F,), or None
        Weights of TF-IDF for rows of svmlight.
    names : ndarray of shape (C,), or None
        Labels of the columns of a model of several labels a row.
    counts : ndarray of int64, shape (C,), or None
        Training rows of each class; None in files of version 0.1.
    rows : int
        Training rows.
    is_fasttext : bool
        Trained by fastText's command: files are read, and answers printed, as fastText does.
    """

    format: str
    prefix: str
    text: TextFeatures | FastTextFeatures | None = None
    idf: Array | None = None
    names: Array | None = None
    counts: Array | None = None
    rows: int = 0
    is_fasttext: bool = False

    def to_file(self) -> tuple[Arrays, dict[str, Any]]:
        """Arrays and metadata."""
        arrays: Arrays = {}
        values: dict[str, Any] = {"format": self.format, "prefix": self.prefix, "rows": self.rows}
        if self.text is not None:
            arrays |= prefixed("text", self.text.to_arrays())
            values["text"] = self.text.settings()
        if self.is_fasttext:
            values["is_fasttext"] = True
        if self.idf is not None:
            arrays["idf"] = self.idf
        if self.names is not None:
            packed, values["name_dtype"] = pack_labels(self.names)
            arrays |= prefixed("names", packed)
        if self.counts is not None:
            arrays["counts"] = self.counts
        return arrays, {"input": values}

    @classmethod
    def of_file(cls, path: str, arrays: Arrays, metadata: dict[str, Any]) -> Self:
        """What `to_file` wrote."""
        values = metadata.get("input")
        if not isinstance(values, dict) or values.get("format") not in ("fasttext", "svmlight"):
            raise InputError(
                f"{path} must be a model of `sparseops train`, got one saved by other means"
            )
        names = None
        if "name_dtype" in values:
            names = unpack_labels(under("names", arrays), values["name_dtype"])
        rows = values.get("rows", 0)
        return cls(
            values["format"],
            str(values.get("prefix", data.LABEL_PREFIX)),
            features_of_file(arrays, metadata),
            arrays.get("idf"),
            names,
            arrays.get("counts"),
            rows if type(rows) is int else 0,
            values.get("is_fasttext") is True and values["format"] == "fasttext",
        )

    def require_fit(self, path: str, n_features: int, n_classes: int) -> None:
        """Refuse a file whose parts do not belong together."""
        words = n_features if self.text is None else self.text.n_features
        if words != n_features:
            raise InputError(f"{path} must hold {n_features} words, got {words}")
        for name, found, wanted in (
            ("idf", self.idf, n_features),
            ("names", self.names, n_classes),
            ("counts", self.counts, n_classes),
        ):
            if found is not None and found.shape != (wanted,):
                raise InputError(f"{path} must hold {wanted} {name}, got {found.shape}")


class _Read(NamedTuple):
    found: BagFile | LinearFile
    arrays: Arrays
    metadata: dict[str, Any]


def load_any(path: str) -> tuple[HSoftmaxClassifier | LabelTreeClassifier, Arrays, dict[str, Any]]:
    """A saved classifier of either kind, and all that stands in its file."""
    from cython_sparseops.sklearn import HSoftmaxClassifier, LabelTreeClassifier

    kind = load_arrays(path)[1].get("kind")
    if kind == LINEAR:
        found = load_linear(path)
        return LabelTreeClassifier._of_file(path, found), found.arrays, found.metadata
    return load_classifier(HSoftmaxClassifier, path)


class CliModel(NamedTuple):
    """A classifier, or what predicts alone, and how its input is read."""

    classifier: Any
    source: Source

    def save(self, path: str) -> None:
        """Write everything to one file that the `load` of the classifier reads too."""
        from cython_sparseops.sklearn import LabelTreeClassifier

        arrays, metadata = self.source.to_file()
        if isinstance(self.classifier, LabelTreeClassifier):
            self.classifier._save(path, arrays, metadata)
        else:
            save_classifier(self.classifier, path, arrays, metadata)

    @classmethod
    def load(cls, path: str, num_threads: int | None = None) -> Self:
        """Read a file of `save`."""
        classifier, arrays, metadata = load_any(path)
        classifier.num_threads = num_threads
        return cls._of_file(path, classifier, classifier.n_features_in_, arrays, metadata)

    @classmethod
    def load_predictor(cls, path: str, num_threads: int | None = None) -> Self:
        """Read a file of `save` for `predictions` alone, without scikit-learn and SciPy."""
        readers: dict[str, Callable[[Arrays, dict[str, Any]], _Read]] = {
            BAG: lambda arrays, metadata: _Read(read_bag(arrays, metadata), arrays, metadata),
            LINEAR: lambda arrays, metadata: _Read(read_linear(arrays, metadata), arrays, metadata),
        }
        found, arrays, metadata = read_model(readers, path, mmap=True)
        predictor = Predictor(found.model, found.classes, num_threads=num_threads)
        return cls._of_file(path, predictor, predictor.n_features, arrays, metadata)

    @classmethod
    def _of_file(
        cls, path: str, model: Any, n_features: int, arrays: Arrays, metadata: dict[str, Any]
    ) -> Self:
        try:
            source = Source.of_file(path, arrays, metadata)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} must be a whole model, got {error!r:.200}") from None
        own = cls(model, source)
        source.require_fit(path, n_features, len(own._known))
        return own

    @property
    def _known(self) -> Array:
        """The classes of the model: labels, or numbers of columns."""
        if isinstance(self.classifier, Predictor):
            return self.classifier.classes
        known: Array = self.classifier.classes_
        return known

    @property
    def _n_features(self) -> int:
        if isinstance(self.classifier, Predictor):
            return self.classifier.n_features
        return int(self.classifier.n_features_in_)

    @property
    def classes(self) -> Array:
        """The labels that the model answers with."""
        return self._known if self.source.names is None else self.source.names

    def read_labeled(self, path: str) -> tuple[Any, LabelLists]:
        """Read examples as for training: features, and labels of the kind of the classes."""
        if self.source.is_fasttext:
            with open_corpus(path) as corpus:
                return read_examples(corpus, self._fasttext)
        with open_lines(path) as lines:
            if self.source.format == "svmlight":
                X, labels = read_svmlight(lines, self._n_features)
                return as_scipy(self._weighed(X)), labels
            examples = data.read_text(lines, self.source.prefix)
        return as_scipy(self._features(examples.texts)), self._as_classes(examples.labels)

    def predictions(
        self, path: str, k: int, threshold: float = 0.0
    ) -> Iterator[list[tuple[list[str], list[float]]]]:
        """Predict the lines that came together: labels as in files, and their probabilities."""
        classes, k = self.classes, min(k, len(self.classes))
        for X in self._blocks(path):
            numbers, log_probs = self.best(X, k)
            rows = zip(classes[numbers], np.exp(log_probs), strict=True)
            yield [_above(threshold, map(self.written, row), p.tolist()) for row, p in rows]

    def best(self, X: Any, k: int) -> tuple[Array, Array]:
        """Numbers of the k likeliest classes of each row, and their log-probabilities."""
        if isinstance(self.classifier, Predictor):
            return self.classifier._best(X, k)
        found = self.classifier.top_k(as_scipy(X), k)
        return np.searchsorted(self.classifier.classes_, found.labels), found.log_probs

    def written(self, label: Any) -> str:
        """Write a label as in the model's input."""
        return f"{self.source.prefix}{label}" if self.source.format == "fasttext" else str(label)

    def _blocks(self, path: str) -> Iterator[Any]:
        """Features of the lines that came together: an answer never waits for the next line."""
        if self.source.is_fasttext:
            for block in byte_blocks(path):
                yield self._fasttext.examples(block).X
            return
        with open_lines(path) as lines:
            yield from self._line_blocks(lines)

    def _line_blocks(self, lines: Lines) -> Iterator[Any]:
        if self.source.format == "svmlight":
            yield from map(self._weighed, feature_blocks(lines, self._n_features))
            return
        prefix = self.source.prefix
        for block in lines.blocks():
            yield self._features([data.split_labels(text, prefix)[1] for _, text in block])

    @property
    def _fasttext(self) -> FastTextFeatures:
        features = self.source.text
        if not isinstance(features, FastTextFeatures):
            raise InputError("model must hold a dictionary of fastText's, got another")
        return features

    def _features(self, texts: Any) -> Any:
        assert self.source.text is not None  # a model of text has it: `load` has looked
        return self.source.text.transform(texts)

    def _weighed(self, X: Any) -> Any:
        return X if self.source.idf is None else weighed(X, self.source.idf)

    def _as_classes(self, labels: LabelLists) -> LabelLists:
        if self.classes.dtype.kind not in "iu":
            return labels
        numbers = [
            int(label) if label.isascii() and label.isdigit() and len(label) < 19 else -1
            for label in labels.flat.tolist()
        ]
        return labels._replace(flat=np.array(numbers, np.int64))


def _above(
    threshold: float, labels: Iterator[str], p: list[float]
) -> tuple[list[str], list[float]]:
    kept = [(label, one) for label, one in zip(labels, p, strict=True) if one >= threshold]
    return [label for label, _ in kept], [one for _, one in kept]


def describe(path: str) -> dict[str, Any]:
    """Describe a saved classifier, one fact per entry."""
    from cython_sparseops.sklearn import LabelTreeClassifier

    classifier, _, metadata = load_any(path)
    source = metadata.get("input") or {}
    values = {
        "input": source.get("format"),
        "classes": len(classifier.classes_),
        "features": int(classifier.n_features_in_),
    }
    if isinstance(source.get("text"), dict):
        values["text"] = ", ".join(f"{name} {value}" for name, value in source["text"].items())
    if isinstance(classifier, LabelTreeClassifier):
        values |= _describe_trees(classifier)
    else:
        values |= _describe_embedding(classifier, metadata["params"]["hierarchy"])
    return values | {"first labels": ", ".join(map(str, classifier.classes_[:5]))}


def _describe_trees(classifier: LabelTreeClassifier) -> dict[str, Any]:
    trees = classifier.model_.trees
    return {
        "labels per row": "several" if classifier.multilabel_ else "one",
        "trees": len(trees),
        "tree": classifier.hierarchy if isinstance(classifier.hierarchy, str) else "given",
        "rows of W": trees[0].hierarchy.n_rows,
        "depth": trees[0].hierarchy.depth,
        "loss": classifier.loss_,
        "C": classifier.C_,
        "weights": sum(tree.weights.nnz for tree in trees),
    }


def _describe_embedding(classifier: HSoftmaxClassifier, hierarchy: str | None) -> dict[str, Any]:
    tree, model = classifier.hierarchy_, classifier.model_
    values: dict[str, Any] = {
        "hidden dim": None if model.E is None else int(model.E.shape[1]),
        "dtype": model.storage,
        "tree": hierarchy or "given",
        "inner nodes": tree.n_nodes,
        "rows of W": tree.n_rows,
        "depth": tree.depth,
        "optimizer": classifier.optimizer,
        "seed": classifier.random_state,
    }
    if classifier.history_:
        last = classifier.history_[-1]
        values |= {"examples trained": last.examples, "nll": last.nll}
    return values
