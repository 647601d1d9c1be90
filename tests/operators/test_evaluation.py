"""Measures of ranked answers, against loops over Python sets."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cython_sparseops as cso

sparse = pytest.importorskip("scipy.sparse")

MEASURES = ("precision_at_k", "recall_at_k", "ndcg_at_k", "psp_at_k", "psndcg_at_k")


@st.composite
def answers(draw):
    """True label sets, ranked distinct classes with some -1 at the end, k, propensities."""
    n, classes = draw(st.integers(1, 8)), draw(st.integers(1, 9))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    truth = [set(np.flatnonzero(rng.random(classes) < 0.4).tolist()) for _ in range(n)]
    width = draw(st.integers(1, classes))
    ranked = np.array([rng.permutation(classes)[:width] for _ in range(n)])
    ranked[:, width - draw(st.integers(0, width - 1)) :] = -1
    return truth, ranked, draw(st.integers(1, width)), rng.uniform(0.05, 1, classes)


def indicator(truth, classes):
    dense = np.zeros((len(truth), classes), np.int8)
    for row, labels in enumerate(truth):
        dense[row, list(labels)] = 1
    return dense


def oracle(name, truth, ranked, k, p):
    discounted = name in ("ndcg_at_k", "psndcg_at_k")
    weight = [1 / math.log2(i + 2) if discounted else 1.0 for i in range(k)]
    scored = name.startswith("ps")
    gain = {c: 1 / p[c] if scored else 1.0 for c in range(len(p))}
    rows, most = [], []
    for labels, row in zip(truth, ranked.tolist(), strict=True):
        rows.append(sum(w * gain[c] for w, c in zip(weight, row[:k], strict=True) if c in labels))
        best = sorted((gain[c] for c in labels), reverse=True)
        most.append(sum(w * g for w, g in zip(weight, best, strict=False)))
    if scored:
        return sum(rows) / sum(most) if sum(most) else math.nan
    if name == "precision_at_k":
        most = [k] * len(rows)
    elif name == "recall_at_k":
        most = [len(labels) for labels in truth]
    return float(np.mean([g / m if m else 0.0 for g, m in zip(rows, most, strict=True)]))


# ---- agrees with the reference


@pytest.mark.parametrize("name", MEASURES)
@given(case=answers())
def test_a_measure_agrees_with_loops_over_sets(name, case):
    truth, ranked, k, p = case
    dense = indicator(truth, len(p))
    more = (p,) if name.startswith("ps") else ()
    want = oracle(name, truth, ranked, k, p)
    for y in (dense, sparse.csr_array(dense)):
        got = getattr(cso, name)(y, ranked, k, *more)
        assert got == pytest.approx(want, rel=1e-12, nan_ok=True)


@given(case=answers())
def test_one_label_per_row_is_the_indicator_of_it(case):
    _, ranked, k, p = case
    y = np.random.default_rng(0).integers(0, len(p), len(ranked))
    dense = indicator([{c} for c in y.tolist()], len(p))
    for name in MEASURES:
        more = (p,) if name.startswith("ps") else ()
        measure = getattr(cso, name)
        assert measure(y, ranked, k, *more) == measure(dense, ranked, k, *more)


# ---- mathematics


def test_propensities_are_those_of_the_formula_and_rise_with_the_count():
    counts = np.array([0, 1, 10, 1_000, 100_000])
    p = cso.propensities(counts, 200_000, A=0.5, B=0.4)
    scale = (math.log(200_000) - 1) * 1.4**0.5
    want = [1 / (1 + scale * math.exp(-0.5 * math.log(c + 0.4))) for c in counts]
    np.testing.assert_allclose(p, want, rtol=1e-14)
    assert (np.diff(p) > 0).all()


def test_calibrated_answers_have_a_small_error_and_overconfident_ones_theirs():
    rng = np.random.default_rng(1)
    p = rng.random(200_000)
    honest = cso.expected_calibration_error(p, rng.random(len(p)) < p)
    # per bin the share of hits deviates by sqrt(pq/n): 13,333 answers, at most 0.5 / sqrt(n)
    assert honest.error < 4 * 0.5 / math.sqrt(len(p) / 15)
    assert cso.expected_calibration_error(np.full(1_000, 0.9), np.zeros(1_000)).error == (
        pytest.approx(0.9, rel=1e-12)
    )
    assert honest.counts.sum() == len(p)


def test_recall_by_frequency_is_the_mean_over_classes_of_each_bucket():
    counts = [0, 3, 4, 500]
    y = [0, 1, 1, 2, 3, 3, 3]
    ranked = np.array([[0], [1], [2], [2], [3], [3], [0]])
    rows = {row.least: row for row in cso.recall_by_frequency(y, ranked, 1, counts)}
    assert rows[0].recall == 1.0
    assert rows[1].classes == 2
    assert rows[1].recall == 0.75
    assert rows[101].recall == pytest.approx(2 / 3)
    assert rows[101].labels == 3
    assert math.isnan(rows[6].recall)


# ---- edges


def test_no_rows_are_not_a_number_and_rows_without_labels_count_zero():
    none = np.empty((0, 3), int)
    assert math.isnan(cso.precision_at_k([], none, 2))
    empty = np.zeros((2, 4), int)
    assert cso.recall_at_k(empty, [[0], [1]], 1) == 0.0
    assert cso.ndcg_at_k(empty, [[0], [1]], 1) == 0.0
    assert math.isnan(cso.psp_at_k(empty, [[0], [1]], 1, np.ones(4)))


def test_class_ids_near_2_to_the_63_do_not_overflow():
    big = 2**63 - 1
    assert cso.precision_at_k([big, 5], [[big, 1], [big - 1, 5]], 2) == 0.5


def test_entries_stored_twice_or_as_zero_are_one_label_or_none():
    y = sparse.csr_array(([1, 1, 0], [2, 2, 3], [0, 2, 3]), shape=(2, 4))
    assert cso.recall_at_k(y, [[2], [3]], 1) == 0.5


# ---- rejections


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: cso.precision_at_k([1], [[1]], 0), "k must be at least 1, got 0"),
        (lambda: cso.precision_at_k([1], [[1]], 2), "k must be at most the columns of ranked, 1"),
        (lambda: cso.precision_at_k([1, 2], [[1]], 1), "ranked must have one row per row"),
        (lambda: cso.ndcg_at_k([1], [[3, 3]], 2), "ranked must hold a class once per row"),
        (lambda: cso.recall_at_k([-2], [[3]], 1), "y_true must hold classes from 0 up, got -2"),
        (lambda: cso.recall_at_k([2], [[-5]], 1), "ranked must hold classes, or -1 for none"),
        (lambda: cso.psp_at_k([2], [[0]], 1, [0.5]), "propensity must have one entry per class"),
        (lambda: cso.psp_at_k([0], [[0]], 1, [0.0]), r"propensity must be in \(0, 1\], got 0.0"),
        (lambda: cso.propensities([1, -1], 10), "counts must be finite and non-negative, got -1"),
        (lambda: cso.propensities([1], 2), "n must be at least 3, got 2"),
        (lambda: cso.propensities([1], 10, B=0), "B must be finite and above 0, got 0"),
        (lambda: cso.expected_calibration_error([1.5], [1]), r"p must be in \[0, 1\], got 1.5"),
        (lambda: cso.expected_calibration_error([0.5], [1, 0]), "hit must have 1 entries"),
        (lambda: cso.recall_by_frequency([3], [[3]], 1, [1]), "counts must have one entry per"),
        (lambda: cso.recall_by_frequency([0], [[0]], 1, [1], edges=[5, 5]), "edges must rise"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()
