"""A share of the hostile calls (all: `python tests/hostile/run.py`), and what they have found."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import cython_sparseops as cso
from helpers.compressed import compress

ROOT = Path(__file__).resolve().parents[1]
CALLS = 2500
Hierarchy = cso.Hierarchy
H = Hierarchy.balanced(4)


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_hostile_calls_are_refused_in_one_line_and_change_nothing(child):
    arguments = ["--calls", str(CALLS), "--seed", "20261121", "--json"]
    done = child.run(ROOT / "hostile" / "run.py", *arguments, check=False, timeout=300)
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    assert told["findings"] == []
    assert told["calls"] == CALLS
    assert told["succeeded"] >= CALLS / 4
    for name, (succeeded, refused) in told["tally"].items():
        assert (succeeded and refused) or succeeded + refused < 30, name


def weights(dtype="f4"):
    return np.zeros((3, 2), dtype), np.zeros(3, dtype)


def matrix_of_one_row():
    return compress(np.array([[3.0, 4.0]]), index=np.int64)


# ---- found by the hostile calls -----------------------------------------------------------------


def test_optimizer_state_of_another_kind_is_refused():
    """The first moment of another optimiser reached the compiled call."""
    W, b = weights()
    for state in ({"first": np.zeros(3, "f4")}, {"first": [1.0]}, {"other": None}):
        for optimizer in (cso.SGD(0.1), cso.Adam(0.1)):
            optimizer.state = state
            with pytest.raises(ValueError, match=r"^optimizer must have state of this W"):
                cso.hsoftmax_update(np.ones((1, 2)), W, b, [0], H, optimizer)
    frozen = cso.Adagrad(0.1)
    frozen.prepare(W.shape, W.dtype)[0].flags.writeable = False
    with pytest.raises(ValueError, match=r"^optimizer must have state of this W"):
        cso.hsoftmax_update(np.ones((1, 2)), W, b, [0], H, frozen)


def test_settings_that_were_changed_are_checked_at_every_step():
    W, b = weights()
    for name, value in (
        ("lr", np.nan),
        ("lr", "x"),
        ("eps", -1),
        ("betas", 0.9),
        ("step_count", -1),
        ("step_count", (1 << 63) - 1),
        ("step_count", "x"),
    ):
        optimizer = (cso.SGD if name == "step_count" else cso.Adam)(0.1)
        setattr(optimizer, name, value)
        with pytest.raises((TypeError, ValueError), match=f"^{name} must "):
            cso.hsoftmax_update(np.ones((1, 2)), W, b, [0], H, optimizer)
        assert not W.any()
        assert optimizer.state == {}


def test_pointers_of_a_gradient_are_checked():
    """indptr [2, 2] or [0, -1] took the wrong entries, or was an error of NumPy."""
    for indptr in ([1, 2], [0, -1], [0, 3], [0, 2, 1], [0, 1 << 62]):
        matrix = matrix_of_one_row().but(indptr=np.array(indptr), shape=(len(indptr) - 1, 2))
        with pytest.raises(
            ValueError, match=r"^grad\.indptr must not decrease, from 0 to at most 2"
        ):
            cso.sparse_dropout_gradient(matrix, np.zeros(2, bool))
        with pytest.raises(ValueError, match=r"^x\.indptr must not decrease, from 0 to at most 2"):
            cso.sparse_dropout_with_replacement(matrix, 0.5)


def test_a_file_descriptor_is_not_a_path():
    """load_arrays(1) read and closed stdout."""
    for path in (0, 1, None, 1.5, "", "a\0b"):
        with pytest.raises((TypeError, ValueError), match=r"^path must "):
            cso.load_arrays(path)


def test_arrays_that_are_written_do_not_overlap_those_that_are_read():
    """b as a part of out was overwritten while it was read; so were indices that are the data."""
    block = np.zeros(7)
    W, b = np.zeros((3, 2)), block[:3]
    with pytest.raises(ValueError, match=r"^out must not overlap the inputs"):
        cso.hsoftmax_log_proba(np.ones((1, 2)), W, b, H, out=block[1:5].reshape(1, 4))
    words = np.array([0, 1], np.int32)
    both = matrix_of_one_row()
    both.indices, both.data = words, words.view(np.float32)
    with pytest.raises(ValueError, match=r"^W\.data must not overlap the indices"):
        cso.sparse_normalize(both, copy=False)
    X, W, b = np.ones((3, 2)), np.ones((3, 2)), np.ones(3)
    apart = [X.copy(), W.copy(), b.copy()]
    wanted = cso.hsoftmax_update(*apart, [0, 1, 2], H, cso.SGD(0.1), sample_weight=np.ones(3))
    found = cso.hsoftmax_update(W, W, b, [0, 1, 2], H, cso.SGD(0.1), sample_weight=b)
    np.testing.assert_array_equal(found.X, wanted.X)
    np.testing.assert_array_equal(W, apart[1])
    np.testing.assert_array_equal(b, apart[2])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_refused_with_residuals_too(bad):
    """Finite logits from before the row was spoilt hid it, and the gradient was nan."""
    X, W = np.ones((2, 2)), np.zeros((3, 2))
    kept = cso.hsoftmax(X, W, None, [0, 1], H, return_residuals=True).residuals
    W[0, 0] = bad
    with pytest.raises(ValueError, match=r"^W must be finite, as it was for the residuals"):
        cso.hsoftmax_gradient(X, W, None, [0, 1], H, residuals=kept)


def test_masked_entries_are_refused_not_used():
    X = np.ma.MaskedArray(np.ones((1, 2)), mask=[[True, False]])
    with pytest.raises(ValueError, match=r"^X must have no masked entries, got some$"):
        cso.hsoftmax(X, *weights(), [0], H)
    assert cso.hsoftmax(np.ma.MaskedArray(np.ones((1, 2))), *weights(), [0], H).shape == (1,)


def test_unaligned_arrays_are_copied_or_refused():
    raw = np.zeros(25, np.uint8)
    unaligned = raw[1:].view("f4").reshape(3, 2)
    assert cso.hsoftmax(np.ones((1, 2), "f4"), unaligned, None, [0], H).shape == (1,)
    with pytest.raises(ValueError, match=r"^W must be aligned to be changed in place"):
        cso.hsoftmax_update(np.ones((1, 2)), unaligned, None, [0], H, cso.SGD(0.1))
    with pytest.raises(ValueError, match=r"^param must be aligned to be changed in place"):
        cso.sparse_normalize_rows(unaligned, [0])


def test_text_and_arrays_are_not_flags():
    """check_finite="no" was true, and an array an error of NumPy."""
    for flag in ("no", "False", None, 2, np.array([True, False]), []):
        with pytest.raises(TypeError, match=r"^check_finite must be True or False, got "):
            cso.hsoftmax(np.ones((1, 2)), *weights(), [0], H, check_finite=flag)
        with pytest.raises(TypeError, match=r"^copy must be True or False, got "):
            cso.sparse_normalize(np.ones((2, 2)), copy=flag)
    assert cso.sparse_normalize(np.ones((2, 2)), copy=np.bool_(True), max_norm=0).shape == (2, 2)


def test_numbers_of_thousands_of_digits_and_text_are_refused_by_name():
    for value in (10**5000, -(10**5000), 1 << 63, -(1 << 70)):
        with pytest.raises(ValueError, match=r"^arity must be "):
            Hierarchy.huffman([1, 2, 3], arity=value)
        with pytest.raises(ValueError, match=r"^rng must be in"):
            cso.hsoftmax_sample(np.ones((1, 2)), *weights(), H, rng=value * 2)
    for value in (10**400, "0.5", b"1", np.array([0.5])):
        with pytest.raises((TypeError, ValueError), match=r"^rate must "):
            cso.sparse_dropout_with_replacement(np.ones(3), value)
    with pytest.raises(ValueError, match=r"^arity must be at least 2, got -"):
        Hierarchy.balanced(5, arity=-(1 << 63))


def test_words_that_are_no_words_are_refused_by_name():
    for word in (["l2"], {}, np.array(["l2", "l1"]), None, 1):
        with pytest.raises(ValueError, match=r"^ord must be one of"):
            cso.sparse_normalize(np.ones((2, 2)), ord=word)
        with pytest.raises(ValueError, match=r"^dtype must be one of"):
            cso.quantize(np.ones((2, 2)), word)
        with pytest.raises(ValueError, match=r"^by must be"):
            Hierarchy.two_level(4, by=word)
    with pytest.raises(ValueError, match=r"^axis must be 0 or 1"):
        cso.sparse_normalize(np.ones((2, 2)), axis=np.array([0, 1]))


def test_messages_are_one_line_and_outlive_a_broken_repr():
    class Broken:
        def __repr__(self):
            raise RuntimeError

    with pytest.raises(TypeError, match=r"^k must be an integer, got a value of Broken$"):
        cso.hsoftmax_search(np.ones((1, 2)), *weights(), H, k=Broken())
    with pytest.raises(
        ValueError, match=r"^replacement must be finite as float64, got [^\n]{1,60}$"
    ):
        cso.sparse_dropout_with_replacement(np.ones((9, 9)), 0.5, np.full((9, 9), np.nan))


def test_what_is_no_dict_is_refused_by_name():
    for value in (None, 3, [1], "text", np.zeros(3), {3: 1.0}):
        with pytest.raises((TypeError, ValueError), match=r"^state must "):
            cso.Adam(0.1).load_state_dict(value)
        with pytest.raises((TypeError, ValueError), match=r"^arrays must "):
            Hierarchy.from_arrays(value)


def test_a_hierarchy_without_arrays_is_refused():
    for call in (cso.init_weights, cso.estimate_memory):
        with pytest.raises(TypeError, match=r"^h must be a Hierarchy, got "):
            call(object.__new__(Hierarchy), 3)


def test_only_quantised_weights_pass_for_quantised_weights():
    with pytest.raises((TypeError, ValueError), match=r"^W must "):
        cso.hsoftmax(np.ones((1, 2)), SimpleNamespace(_compiled=np.ones((3, 2))), None, [0], H)


def test_the_column_means_of_no_columns_are_none():
    x = np.zeros((2, 0))
    assert cso.sparse_dropout_with_replacement(x, 0.5, "mean", per="column").shape == (2, 0)


def test_an_endless_view_of_labels_is_refused_at_once():
    """uint64 was searched for its largest entry first: 2**40 of them took an hour."""
    endless = np.broadcast_to(np.zeros(1, np.uint64), (1 << 40,))
    with pytest.raises((ValueError, MemoryError)):
        cso.hsoftmax(np.ones((1, 2)), *weights(), endless, H)


def test_too_large_for_float32_is_infinity_and_refused_without_a_warning():
    W, b = weights()
    with pytest.raises(
        ValueError, match=r"^sample_weight must be finite and non-negative, got inf"
    ):
        cso.hsoftmax_update(np.ones((1, 2)), W, b, [0], H, cso.SGD(0.1), sample_weight=[1e300])
    with pytest.raises(ValueError, match=r"^X must be finite"):
        cso.hsoftmax_update(np.full((1, 2), 1e300), W, b, [0], H, cso.SGD(0.1))


def test_any_finite_time_budget_will_do():
    """1e300 seconds were too many classes for an integer."""
    h, _ = Hierarchy.choose([3, 2, 1], 2, batch_size=2, time_budget=1e300)
    assert h.n_classes == 3


def test_sizes_beyond_the_address_space_are_refused_by_name():
    for size in ((1 << 62), (1 << 63) - 1):
        with pytest.raises(ValueError, match=r"^size must be small enough for an array"):
            cso.hsoftmax_sample(np.ones((1, 2)), *weights(), H, size)
        with pytest.raises(ValueError, match=r"^k must be small enough for an array"):
            cso.hsoftmax_search(np.ones((1, 2)), *weights(), H, size)
        with pytest.raises(MemoryError):
            cso.init_weights(H, size)
