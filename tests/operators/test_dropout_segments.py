"""Sparse dropout with replacement of segments of ids, and of ids."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cython_sparseops as cso
from helpers import reference_sparse as reference
from helpers.reference_sparse import likely_counts

drop = cso.sparse_dropout_with_replacement


# ---- agrees with the reference ------------------------------------------------------------------


def segments_of(ids, lengths):
    return (
        [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])] if len(lengths) else []
    )


@given(
    st.lists(st.integers(0, 9), max_size=80),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([np.int32, np.int64]),
    st.integers(0, 999),
)
def test_a_segment_is_kept_or_replaced_as_a_whole(lengths, rate, index, seed):
    ids = np.arange(sum(lengths)).astype(index)
    got = cso.sparse_dropout_segments(ids, np.array(lengths, np.int32), rate, -7, rng=seed, start=3)
    dropped = reference.drops(seed, 3, len(lengths), rate, purpose=5)
    before = segments_of(ids, lengths)
    want = [[-7] if d else s for d, s in zip(dropped, before, strict=True)]
    assert segments_of(got.ids, got.lengths) == want
    assert got.ids.dtype == index
    assert got.lengths.dtype == np.int32
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    again = cso.sparse_dropout_segments(ids, None, rate, -7, offsets=offsets, rng=seed, start=3)
    assert np.array_equal(again.ids, got.ids)
    assert np.array_equal(again.offsets, got.offsets)


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 99))
def test_per_item_replaces_each_id_on_its_own(lengths, seed):
    ids = np.arange(sum(lengths))
    got = cso.sparse_dropout_segments(ids, lengths, 0.4, -7, per_item=True, rng=seed, start=2)
    dropped = reference.drops(seed, 2, len(ids), 0.4, purpose=6)
    assert np.array_equal(got.ids, np.where(dropped, -7, ids))
    assert got.lengths.tolist() == lengths


@pytest.mark.parametrize(
    "name",
    ["sparse_dropout_defaults", "sparse_dropout_no_segments", "sparse_dropout_ratio1_big_value"],
)
def test_caffe2_recorded_the_same_where_nothing_is_random(name, golden):
    c = golden(name)
    args = json.loads(str(c["args"]))
    got = cso.sparse_dropout_segments(
        c["X"], c["Lengths"], args["ratio"] or 0.0, args["replacement_value"] or 0
    )
    assert np.array_equal(got.ids, c["Y"])
    assert np.array_equal(got.lengths, c["OutputLengths"])
    assert got.lengths.dtype == c["OutputLengths"].dtype


@pytest.mark.parametrize(
    "name",
    [
        "sparse_dropout_seed1_ratio0.9",
        "sparse_dropout_seed2147483647_ratio0.1",
        "sparse_dropout_seed2147483647_ratio0.9",
        "sparse_dropout_seed42_ratio0.1",
    ],
)
def test_lengths_add_up_as_in_caffe2(name, golden):
    """Deliberate difference: our numbers are Philox, theirs MT19937.

    So which segments go differs, not what becomes of them.
    """
    c = golden(name)
    args = json.loads(str(c["args"]))
    value = args["replacement_value"]
    theirs = segments_of(c["Y"], c["OutputLengths"])
    before = segments_of(c["X"], c["Lengths"])
    assert all(now in (old, [value]) for now, old in zip(theirs, before, strict=True))
    got = cso.sparse_dropout_segments(c["X"], c["Lengths"], args["ratio"], value, rng=1)
    ours = segments_of(got.ids, got.lengths)
    assert all(now in (old, [value]) for now, old in zip(ours, before, strict=True))
    count = sum(now == [value] for now in ours)
    assert count in likely_counts(400, args["ratio"])


# ---- mathematics --------------------------------------------------------------------------------


def test_entries_segments_and_ids_have_numbers_of_their_own():
    n = 100_000
    entries = drop(np.ones(n), 0.5, rng=3, return_mask=True).mask
    ids = cso.sparse_dropout_segments(np.zeros(n, int), [n], 0.5, 1, per_item=True, rng=3).ids == 1
    whole = cso.sparse_dropout_segments(np.zeros(n, int), np.ones(n, int), 0.5, 1, rng=3).ids == 1
    for a, b in ((entries, ids), (entries, whole), (ids, whole)):
        assert (a & b).sum() in likely_counts(n, 0.25)


def test_caffe2s_frequencies_and_ours_are_of_one_rate(golden):
    directory = pytest.importorskip("conftest").GOLDEN / "sparse_dropout_frequencies.json"
    if not directory.exists():
        pytest.skip("no Caffe2 frequencies here")
    for c in json.loads(directory.read_text())["frequencies"]:
        n, rate = c["segments"], c["ratio"]
        got = cso.sparse_dropout_segments(np.zeros(n, int), np.ones(n, int), rate, 1, rng=7)
        assert got.ids.sum() in likely_counts(n, rate)
        assert round(c["dropped"] * n) in likely_counts(n, rate)


# ---- rejections ---------------------------------------------------------------------------------


def test_segments_that_do_not_add_up_are_refused():
    f = cso.sparse_dropout_segments
    for args, options, message in [
        (([1, 2], [1]), {}, "lengths must add up to 2, got 1"),
        (([1, 2], [3]), {}, "lengths must add up to 2, got more by index 0"),
        (([1, 2], [3, -1]), {}, "lengths must add up to 2, got more by index 0"),
        (([1, 2], [1, -1, 2]), {}, "lengths must be non-negative, got -1 at index 1"),
        (([1, 2], [2]), {"offsets": [0, 2]}, "lengths must be None exactly if offsets are given"),
        (([1, 2], None), {}, "lengths must be None exactly if offsets are given"),
        (([1, 2], None), {"offsets": [0, 1]}, "offsets must go from 0 to 2"),
        (
            ([1, 2], None),
            {"offsets": [0, 3, 2]},
            "lengths must add up to 2|lengths must be non-negative|offsets must not decrease",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            f(*args, 0.5, 0, **options)
    with pytest.raises(ValueError, match=r"replacement must fit in int32, got 2147483648"):
        f(np.array([1], np.int32), [1], 0.5, 2**31)
    with pytest.raises(TypeError, match=r"replacement must be an integer, got 0\.5"):
        f([1], [1], 0.5, 0.5)
    with pytest.raises(TypeError, match="ids must have an integer dtype, got float64"):
        f([1.5], [1], 0.5, 0)
