"""Linear classifiers at the nodes of a tree, trained on sparse examples."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ._arrays import (
    FLOAT32,
    INDICES,
    Array,
    as_flag,
    as_float,
    as_integer,
    as_seed,
    as_weight,
    describe,
    is_one_of,
    specialized,
)
from ._core import linear as core
from ._hierarchy import Hierarchy, as_tree
from ._jobs import count_jobs, idle_threads, in_jobs
from ._runtime import resolve_threads
from ._sparse import SparseMatrix, as_class_lists, as_csr
from ._sparse_weights import SparseWeights

__all__ = ["linear_train"]

_TRAINER = specialized(core.trainer_of, INDICES)
_LOSSES = ("squared_hinge", "softmax", "logistic")
_NO_WEIGHT = np.empty(0, np.float32)


def linear_train(
    X: SparseMatrix,
    labels: npt.ArrayLike | SparseMatrix,
    h: Hierarchy,
    *,
    loss: str = "squared_hinge",
    C: float = 1.0,
    threshold: float = 0.1,
    tol: float = 0.3,
    max_iter: int = 10,
    sample_weight: npt.ArrayLike | None = None,
    class_weight: npt.ArrayLike | None = None,
    validation: float = 0.05,
    clustered: bool = True,
    class_term: bool = True,
    start: SparseWeights | None = None,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    num_threads: int | None = None,
    verbose: int = 0,
) -> SparseWeights:
    """Train sparse decision rows of a tree: a linear classifier at every node.

    Parameters
    ----------
    X : CSR matrix of shape (N, D)
        Finite; taken as float32. Rows of unit norm, such as TF-IDF, suit the defaults.
    labels : array_like of int, shape (N,), or CSR matrix of shape (N, C)
        The class of each row; or an indicator matrix of 0 and 1 on a tree of independent nodes.
    h : Hierarchy
        Such as `Hierarchy.cluster` of `class_centroids`. A node may have 65,535 rows.
    loss : {"squared_hinge", "softmax", "logistic"}
        Squared hinge and logistic train each row of W against its siblings; softmax trains the
        rows of a node together.
    C : float, default 1
        Cost of errors: a node minimises ``|w|²/2 + b²/2 + C Σ loss``. In [1e-6, 1e6].
    threshold : float, default 0.1
        Weights of ``|w| <= threshold`` are dropped.
    tol : float, default 0.3
        When a node's passes stop.
    max_iter : int, default 10
        Passes over the examples of a node.
    sample_weight : array_like of shape (N,), optional
        In [0, 1e6]; multiplies C. A row of weight 0 is left out.
    class_weight : array_like of shape (C,), optional
        The same for the rows of each class; of several labels the mean.
    validation : float, default 0.05
        Share of the rows, 5,000 at most, that is kept out until a node is trained, fits the
        temperatures, and trains the node then too. With fewer than 200 of them the temperatures are
        3, and 8 at the last depth, for the squared hinge, and 1 for the other losses.
    clustered : bool, default True
        Whether the tree was made of these rows, as `Hierarchy.cluster` does. It knows the rows
        that are kept out then, so that they look easier than new ones: temperatures are lowered
        by a fifth, and the class term is kept to nodes above classes. Say False for a taxonomy.
    class_term : bool, default True
        With rows kept out: add to each child's score how much a row resembles the training rows
        below it, a cosine, times a factor that is fitted for each depth. It is left out where it
        gains less than 0.01 of the mean negative log-probability. The weights hold the sum.
    start : SparseWeights, optional
        Weights of this tree to go on from, with rows of X that they were not trained on. A node
        then minimises ``|w - w_start|²/2 + |b - b_start|²/2 + C Σ loss`` over the rows that reach
        it. Nodes that none reaches keep their bytes, and so do weights of features that the rows
        of a node lack, and all temperatures; `validation` is not used.
    rng : int, numpy.random.Generator or None, default 0
        Seed.
    n_jobs : int, optional
        Workers of joblib over which the nodes are dealt, each with `num_threads` threads. Default:
        1, or what ``joblib.parallel_config`` says. Never changes a bit of the result.
    num_threads : int, optional
        Never changes a bit of the result.
    verbose : int, default 0
        1 shows progress on stderr.

    Returns
    -------
    SparseWeights

    Raises
    ------
    ValueError
        If X is malformed or not finite, has a row of norm above 1e6, a label is out of range, or an
        option is.
    TypeError
        If X is no CSR matrix, labels are not integers, or start is no SparseWeights.

    Notes
    -----
    Dual coordinate descent on blocks of sixteen sibling rows. The log-probability of a child is the
    log-softmax of the node's logits, whatever the loss. Memory beside the weights: for each thread
    64 bytes a feature and 72 an example of the node at hand, and 8 an entry of X there.

    With `start` it is descent in the dual variables of the new rows alone. Those of earlier rows
    stay, and weights that were dropped are lost: training on all rows at once is better.

    References
    ----------
    Hsieh et al., "A dual coordinate descent method for large-scale linear SVM", 2008. Yu, Huang and
    Lin, "Dual coordinate descent methods for logistic regression and maximum entropy models", 2011.
    Prabhu et al., "Parabel", 2018. Rocchio, "Relevance feedback in information retrieval", 1971,
    for the class term. Crammer et al., "Online passive-aggressive algorithms", 2006.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> X = csr_array(np.eye(4, dtype=np.float32))
    >>> linear_train(X, [0, 1, 2, 3], Hierarchy.balanced(4, arity=4), threshold=0.5).nnz
    4
    """
    as_tree(h)  # refuses what is none
    if not is_one_of(loss, _LOSSES):
        raise ValueError(f"loss must be one of {', '.join(_LOSSES)}, got {describe(loss)}")
    if start is not None and not isinstance(start, SparseWeights):
        raise TypeError(f"start must be SparseWeights or None, got {describe(start)}")
    x = as_csr("X", X, FLOAT32)
    label_ptr, label = as_class_lists(labels, x.shape[0], h.n_classes)
    arguments = (
        x.indptr,
        x.indices,
        x.data,
        x.shape[1],
        label_ptr,
        label,
        loss,
        as_float("C", C),
        min(as_float("threshold", threshold), float(np.finfo(np.float32).max)),
        as_float("tol", tol),
        min(as_integer("max_iter", max_iter, 1), 1 << 30),
        _weight("sample_weight", sample_weight, x.shape[0]),
        _weight("class_weight", class_weight, h.n_classes),
        as_float("validation", validation),
        as_flag("clustered", clustered),
        as_flag("class_term", class_term),
        as_seed(rng),
    )
    shown, shares = as_integer("verbose", verbose, 0), count_jobs(n_jobs)
    trainer = _trainer(h, start, arguments, idle_threads(num_threads, shares))
    if shares > 1 and trainer.tasks > 1:
        tasks = [(share, shares, h, start, arguments, num_threads) for share in range(shares)]
        for trained in in_jobs(_train_share, tasks, n_jobs):
            trainer.take(trained)
    _run(trainer, shown)
    return SparseWeights._from_parts(trainer.finish(), x.shape[1])


def _trainer(
    h: Hierarchy, start: SparseWeights | None, arguments: tuple[Any, ...], num_threads: int | None
) -> Any:
    rows = None if start is None else start._compiled
    make = _TRAINER[arguments[0].dtype]
    return make(as_tree(h), *arguments, rows, resolve_threads(num_threads))


def _train_share(
    share: int,
    shares: int,
    h: Hierarchy,
    start: SparseWeights | None,
    arguments: tuple[Any, ...],
    num_threads: int | None,
) -> bytes:
    """Train one share of the nodes; a process of its own may do this."""
    trainer = _trainer(h, start, arguments, num_threads)
    trainer.keep_share(share, shares)
    _run(trainer, 0)
    return cast(bytes, trainer.trained())


def _weight(name: str, value: npt.ArrayLike | None, n: int) -> Array:
    weight = as_weight(name, value, FLOAT32, n)
    return _NO_WEIGHT if weight is None else weight


def _run(trainer: Any, verbose: int) -> None:
    """Piece by piece, so that an interrupt is heard."""
    show = _bar() if verbose else None
    while trainer.done < trainer.tasks:
        trainer.run_piece()
        if show:
            show(trainer.progress)
    if show:
        show(None)


def _bar() -> Callable[[float | None], None]:
    """What shows a share of the work that is done, and None at the end."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _print_tenths()
    bar: Any = tqdm(total=100, desc="training", unit="%")

    def show(share: float | None) -> None:
        if share is None:
            bar.close()
        else:
            bar.update(round(100 * share) - bar.n)

    return show


def _print_tenths() -> Callable[[float | None], None]:
    shown = 0

    def show(share: float | None) -> None:
        nonlocal shown
        if share is not None and int(10 * share) > shown:
            shown = int(10 * share)
            print(f"training: {10 * shown}%", file=sys.stderr)

    return show
