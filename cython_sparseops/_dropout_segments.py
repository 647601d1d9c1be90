"""Sparse dropout with replacement of whole segments of ids."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._arrays import (
    INT32,
    INT64,
    KEY,
    Array,
    as_array,
    as_flag,
    as_integer,
    as_integers,
    as_seed,
    describe,
)
from ._core import dropout as core
from ._dropout import as_rate, run_dropout
from ._runtime import resolve_threads

__all__ = ["Segments", "sparse_dropout_segments"]

_SEGMENT_IDS = {i: core.segment_ids[KEY[i]] for i in (INT32, INT64)}


class Segments(NamedTuple):
    """What `sparse_dropout_segments` returns.

    Attributes
    ----------
    ids : ndarray of int32 or int64
        One segment after the other.
    lengths : ndarray of int32 or int64, shape (S,)
        How many ids each segment has.

    Examples
    --------
    >>> sparse_dropout_segments([4, 5, 6], [2, 1], 0.0, -1).offsets
    array([0, 2, 3])
    """

    ids: Array
    lengths: Array

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each segment starts, and the end: (S + 1,)."""
        return np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)]).astype(np.int64)


def sparse_dropout_segments(
    ids: npt.ArrayLike,
    lengths: npt.ArrayLike | None,
    rate: float,
    replacement: int,
    *,
    offsets: npt.ArrayLike | None = None,
    per_item: bool = False,
    rng: int | np.random.Generator | None = None,
    start: int = 0,
    num_threads: int | None = None,
) -> Segments:
    """Replace each segment of ids, as a whole, by one id with probability `rate`.

    Parameters
    ----------
    ids : array_like of int, shape (T,)
        The segments one after the other; int32 stays int32.
    lengths : array_like of int, shape (S,), or None
        How many ids each segment has; None if offsets are given.
    rate : float in [0, 1]
        The probability; 0 and 1 are exact.
    replacement : int
        Fits the dtype of ids.
    offsets : array_like of int, shape (S + 1,), optional
        Where each segment starts, and the end T, in place of lengths.
    per_item : bool, default False
        Replace each id on its own; lengths stay.
    rng : None, int or numpy.random.Generator
    start : int, default 0
        The index of the first segment (per_item: of the first id).
    num_threads : int, optional

    Returns
    -------
    Segments
        ids and lengths, a replaced segment having one id (an empty one too); `.offsets` of them.

    Raises
    ------
    ValueError
        If rate is outside [0, 1], lengths are negative or do not add up to T, or replacement does
        not fit.
    TypeError
        If ids, lengths or replacement are not integers.

    Notes
    -----
    Draws are those of `sparse_dropout_with_replacement` with counter ``(n // 4, 5 · 2⁵⁶)``,
    per_item ``(n // 4, 6 · 2⁵⁶)``.

    References
    ----------
    Caffe2's SparseDropoutWithReplacement.

    Examples
    --------
    >>> sparse_dropout_segments([4, 5, 6], [2, 0, 1], 1.0, -1)
    Segments(ids=array([-1, -1, -1]), lengths=array([1, 1, 1]))
    """
    given = ids if isinstance(ids, np.ndarray) else as_array("ids", ids)
    width: np.dtype[Any] = INT32 if given.dtype == INT32 else INT64
    items = as_integers("ids", given).astype(width, copy=False)
    if (lengths is None) == (offsets is None):
        raise ValueError("lengths must be None exactly if offsets are given")
    if offsets is not None:
        ends = as_integers("offsets", offsets)
        if not len(ends) or ends[0] != 0 or ends[-1] != len(items):
            raise ValueError(f"offsets must go from 0 to {len(items)}, got {describe(ends)}")
        counts, narrow = np.diff(ends), False
    else:
        counts = as_integers("lengths", lengths)
        narrow = getattr(lengths, "dtype", None) == INT32
    number = as_integer("replacement", replacement)
    if not np.iinfo(width).min <= number <= np.iinfo(width).max:
        raise ValueError(f"replacement must fit in {width}, got {number}")
    drop_rate, seed, first = as_rate(rate), as_seed(rng), as_integer("start", start, 0)
    threads = resolve_threads(num_threads)
    new_counts = np.empty_like(counts)
    single = as_flag("per_item", per_item)
    whole_rate = 0.0 if single else drop_rate
    total = core.segment_lengths(counts, len(items), seed, first, whole_rate, new_counts)
    new_ids = np.empty(total, width)
    if single:
        value = np.array([number], width)
        run_dropout(items, new_ids, (seed, first, drop_rate, True), (value, 1), 0, None, threads)
    else:
        _SEGMENT_IDS[width](items, counts, seed, first, drop_rate, number, new_ids)
    return Segments(new_ids, new_counts.astype(INT32) if narrow else new_counts)
