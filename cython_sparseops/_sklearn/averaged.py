"""Several classifiers as one: the mean of their probabilities."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cython_sparseops._arrays import Array, describe
from cython_sparseops._hsoftmax import hsoftmax_log_proba
from cython_sparseops._models.file import KIND as EMBEDDING
from cython_sparseops._models.file import (
    Arrays,
    pack_classifier,
    prefixed,
    read_model,
    rebuild_classifier,
    under,
)
from cython_sparseops._models.linear import KIND as LINEAR
from cython_sparseops._models.linear import read_linear
from cython_sparseops._models.topk import TopK
from cython_sparseops._search import hsoftmax_search
from cython_sparseops._sklearn.checks import as_count
from cython_sparseops._sklearn.hsoftmax import HSoftmaxClassifier
from cython_sparseops._sklearn.label_tree import LabelTreeClassifier
from cython_sparseops._sparse import SparseMatrix
from cython_sparseops._storage import save_arrays

Rows = npt.ArrayLike | SparseMatrix
Member = HSoftmaxClassifier | LabelTreeClassifier
KIND = "AveragedClassifier"
LEAST_CANDIDATES = 16  # of each member


class AveragedClassifier:
    """The mean of the probabilities of trained classifiers, which make different mistakes.

    Three seeds of one classifier, or an embedding beside sparse linear weights: the members
    share their classes and the columns of `X`, nothing else. Probabilities sum to 1 as theirs do.

    Parameters
    ----------
    classifiers : sequence of HSoftmaxClassifier and LabelTreeClassifier
        Fitted, with the same ``classes_`` and one label a row.

    Attributes
    ----------
    classifiers : tuple
        The members.
    classes_ : ndarray of shape (C,)
        The labels, sorted.

    Raises
    ------
    ValueError
        If there is none, or the classes differ, or a member has several labels a row.
    TypeError
        If a member is of another kind.

    References
    ----------
    Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty estimation
    using deep ensembles", 2017.

    Examples
    --------
    >>> from cython_sparseops.sklearn import AveragedClassifier, HSoftmaxClassifier
    >>> X, y = [[0.0], [1.0], [2.0]], ["a", "b", "c"]
    >>> members = [HSoftmaxClassifier(random_state=seed).fit(X, y) for seed in range(3)]
    >>> AveragedClassifier(members).predict([[3.0]]).tolist()
    ['c']
    """

    def __init__(self, classifiers: Sequence[Member]) -> None:
        members = tuple(classifiers)
        if not members:
            raise ValueError("classifiers must hold at least one, got none")
        for at, member in enumerate(members):
            if not isinstance(member, (HSoftmaxClassifier, LabelTreeClassifier)):
                raise TypeError(
                    "classifiers must be HSoftmaxClassifier or LabelTreeClassifier, got "
                    f"{describe(member)} at index {at}"
                )
            if getattr(member, "multilabel_", False):
                raise ValueError(f"classifiers must have one label a row, got several at {at}")
            if not np.array_equal(member.classes_, members[0].classes_):
                raise ValueError(
                    f"classifiers must have the same classes, got others at index {at}"
                )
        self.classifiers, self.classes_ = members, members[0].classes_

    def predict(self, X: Rows) -> Array:
        """Return the likeliest class of each row.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, F)

        Returns
        -------
        ndarray of shape (N,)

        Examples
        --------
        >>> from cython_sparseops.sklearn import AveragedClassifier, HSoftmaxClassifier
        >>> one = HSoftmaxClassifier().fit([[0.0], [1.0]], ["no", "yes"])
        >>> AveragedClassifier([one, one]).predict([[-1.0]]).tolist()
        ['no']
        """
        return self.top_k(X, 1).labels[:, 0]

    def predict_proba(self, X: Rows) -> Array:
        """Return the probability of every class.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, F)

        Returns
        -------
        ndarray of float64, shape (N, C)

        Examples
        --------
        >>> from cython_sparseops.sklearn import AveragedClassifier, HSoftmaxClassifier
        >>> one = HSoftmaxClassifier().fit([[0.0], [1.0]], ["no", "yes"])
        >>> AveragedClassifier([one, one]).predict_proba([[-1.0]]).shape
        (1, 2)
        """
        with np.errstate(under="ignore"):
            return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Rows) -> Array:
        """Return the log-probability of every class.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, F)

        Returns
        -------
        ndarray of float64, shape (N, C)

        Examples
        --------
        >>> from cython_sparseops.sklearn import AveragedClassifier, HSoftmaxClassifier
        >>> one = HSoftmaxClassifier().fit([[0.0], [1.0]], ["no", "yes"])
        >>> AveragedClassifier([one, one]).predict_log_proba([[-1.0]]).shape
        (1, 2)
        """
        return _mean([member.predict_log_proba(X) for member in self.classifiers])

    def top_k(self, X: Rows, k: int = 5) -> TopK:
        """Return the `k` likeliest classes of each row with their log-probabilities; exact.

        The best classes of each member are candidates, scored by all. What is no candidate of any
        is at most as likely as the mean of their last ones; rows where that could matter are
        searched again with four times as many.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, F)
        k : int, default 5

        Returns
        -------
        TopK
            ``labels`` (N, k) and ``log_probs`` (N, k) of float64, best first.

        Raises
        ------
        ValueError
            If `k` is not in [1, C].

        Examples
        --------
        >>> from cython_sparseops.sklearn import AveragedClassifier, HSoftmaxClassifier
        >>> one = HSoftmaxClassifier().fit([[0.0], [1.0]], ["no", "yes"])
        >>> AveragedClassifier([one, one]).top_k([[-1.0]], k=2).labels.tolist()
        [['no', 'yes']]
        """
        most = len(self.classes_)
        k = as_count("k", k, f"in [1, {most}], the number of classes", most)
        checked = [member._check_rows(X) for member in self.classifiers]
        n = checked[0].shape[0]
        found, log_probs = np.empty((n, k), np.int64), np.empty((n, k))
        rows, width = np.arange(n), min(most, max(2 * k, LEAST_CANDIDATES))
        while rows.size:
            parts = checked if len(rows) == n else [each[rows] for each in checked]
            best, scores, others = self._best(parts, k, width)
            found[rows], log_probs[rows] = best, scores
            if width == most:
                break
            rows, width = rows[scores[:, -1] <= others], min(most, 4 * width)
        return TopK(self.classes_[found], log_probs)

    def score(self, X: Rows, y: npt.ArrayLike) -> float:
        """Return the share of rows whose label is the likeliest class.

        Parameters
        ----------
        X : array_like or sparse matrix of shape (N, F)
        y : array_like of shape (N,)

        Returns
        -------
        float

        Examples
        --------
        >>> from cython_sparseops.sklearn import AveragedClassifier, HSoftmaxClassifier
        >>> one = HSoftmaxClassifier().fit([[0.0], [1.0]], ["no", "yes"])
        >>> AveragedClassifier([one, one]).score([[-1.0]], ["no"])
        1.0
        """
        return float(np.mean(self.predict(X) == np.array(y)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all members to one checksummed file that `load` can map into memory.

        Parameters
        ----------
        path : str or path-like
            Replaced in one step, if it exists. Of each member it holds what its own `save` writes.

        Raises
        ------
        ValueError
            If the labels are neither numbers nor strings.

        Examples
        --------
        >>> from cython_sparseops.sklearn import AveragedClassifier, HSoftmaxClassifier
        >>> one = HSoftmaxClassifier().fit([[0.0], [1.0]], ["no", "yes"])
        >>> AveragedClassifier([one, one]).save("mean.sops")
        >>> AveragedClassifier.load("mean.sops").predict([[-1.0]]).tolist()
        ['no']
        """
        arrays: Arrays = {}
        members = []
        for at, member in enumerate(self.classifiers):
            own, metadata = _packed(member)
            arrays |= prefixed(f"member{at}", own)
            members.append(metadata)
        save_arrays(path, arrays, {"kind": KIND, "members": members})

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = True) -> Self:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : str or path-like
            It may come from a stranger: it is checked, and nothing in it is executed.
        mmap : bool, default True
            Map the weights instead of reading them: processes share them.

        Returns
        -------
        AveragedClassifier
            Predicts exactly as the model that was saved.

        Raises
        ------
        ValueError
            If the file is damaged, or holds something else.

        Examples
        --------
        >>> from cython_sparseops.sklearn import AveragedClassifier, LabelTreeClassifier
        >>> one = LabelTreeClassifier(C=2.0).fit([[0.0], [1.0]], ["no", "yes"])
        >>> AveragedClassifier([one]).save("mean.sops")
        >>> AveragedClassifier.load("mean.sops", mmap=False).classifiers[0].C
        2.0
        """
        rebuild = {KIND: lambda arrays, metadata: cls(_members(path, arrays, metadata))}
        return read_model(rebuild, path, mmap=mmap)

    def _best(self, rows: list[Any], k: int, width: int) -> tuple[Array, Array, Array]:
        """The k best of the candidates, and a bound of every other class's log-probability."""
        pairs = list(zip(self.classifiers, rows, strict=True))
        answers = [_search(member, each, width) for member, each in pairs]
        ids = np.sort(np.concatenate([classes for classes, _ in answers], axis=1), axis=1)
        scores = _mean([_log_proba_of(member, each, ids) for member, each in pairs])
        scores[:, 1:][ids[:, 1:] == ids[:, :-1]] = -np.inf
        order = np.lexsort((ids, -scores))[:, :k]  # ties to the lower class
        best = np.take_along_axis(ids, order, axis=1)
        others = _mean([log_probs[:, -1] for _, log_probs in answers])
        return best, np.take_along_axis(scores, order, axis=1), others


def _packed(member: Member) -> tuple[Arrays, dict[str, Any]]:
    if isinstance(member, LabelTreeClassifier):
        return member._packed()
    return pack_classifier(member)


def _members(
    path: str | os.PathLike[str], arrays: Arrays, metadata: dict[str, Any]
) -> list[Member]:
    members = metadata["members"]
    if not isinstance(members, list):
        raise ValueError(f"members must be a list, got {describe(members)}")
    return [_member(path, under(f"member{at}", arrays), one) for at, one in enumerate(members)]


def _member(path: str | os.PathLike[str], arrays: Arrays, metadata: dict[str, Any]) -> Member:
    """What `_packed` took apart, its parts checked to fit together."""
    kind = metadata["kind"]
    if kind == LINEAR:
        return LabelTreeClassifier._of_file(path, read_linear(arrays, metadata))
    if kind == EMBEDDING:
        one: HSoftmaxClassifier = rebuild_classifier(HSoftmaxClassifier, arrays, metadata)
        return one
    raise ValueError(f"members must be {EMBEDDING} or {LINEAR}, got {kind!r:.60}")


def _search(member: Member, X: Any, k: int) -> tuple[Array, Array]:
    """The k likeliest class numbers of checked rows, and their log-probabilities."""
    threads = member.num_threads
    if isinstance(member, LabelTreeClassifier):
        return member.model_.top_k(X, k, num_threads=threads)
    W, b, h = member.model_.W, member.model_.b, member.hierarchy_
    found = [hsoftmax_search(x, W, b, h, k, num_threads=threads) for x in _hidden(member, X)]
    return (
        np.concatenate([one.classes for one in found]),
        np.concatenate([one.log_probs for one in found]),
    )


def _log_proba_of(member: Member, X: Any, classes: Array) -> Array:
    """Log-probabilities of class numbers (N, m) of checked rows."""
    threads = member.num_threads
    if isinstance(member, LabelTreeClassifier):
        return member.model_.log_proba(X, classes, num_threads=threads)
    W, b, h = member.model_.W, member.model_.b, member.hierarchy_
    parts, start = [], 0
    for x in _hidden(member, X):
        part = classes[start : start + len(x)]
        parts.append(hsoftmax_log_proba(x, W, b, h, classes=part, num_threads=threads))
        start += len(x)
    return np.concatenate(parts)


def _hidden(member: HSoftmaxClassifier, X: Any) -> Iterator[Array]:
    return (hidden for _, hidden in member._hidden_blocks(X))


def _mean(log_p: list[Array]) -> Array:
    """The logarithm of the mean probability."""
    total = log_p[0].astype(np.float64)
    for one in log_p[1:]:
        np.logaddexp(total, one, out=total)
    total -= math.log(len(log_p))
    return total
