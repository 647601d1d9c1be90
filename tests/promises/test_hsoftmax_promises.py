"""What hierarchical softmax promises: the same bytes however it runs, little memory, no writing."""

import tracemalloc

import numpy as np
import pytest

import cython_sparseops as cso
from helpers.batches import all_results, digest, make_batch, read_only
from helpers.hierarchies import BUILDERS

Hierarchy = cso.Hierarchy


def assert_close(got, expected, tolerance):
    assert got.shape == np.shape(expected)
    assert np.abs(got.astype(float) - expected).max(initial=0) <= tolerance


# ---- promises -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["huffman", "two_level", "huffman of arity 5"])
def test_one_two_and_three_threads_give_the_same_bytes(name, dtype):
    p = make_batch(BUILDERS[name](3000), N=200, D=67, dtype=dtype)
    assert len({digest(all_results(*p, num_threads=n)) for n in (1, 2, 3)}) == 1


def isa_batches():
    return [
        make_batch(BUILDERS[name](200), N=40, D=D, dtype=dtype)
        for D in (3, 67)
        for name in ("huffman", "two_level", "huffman of arity 5")
        for dtype in ("float32", "float64")
    ]


def isa_results():
    return [a for p in isa_batches() for a in all_results(*p)]


def test_every_fma_instruction_set_gives_the_same_bytes(child, fma_isas):
    if len(fma_isas) < 2:
        pytest.skip(f"this machine runs {fma_isas} alone")
    assert len({digest(child.call(isa_results, isa=isa)) for isa in fma_isas}) == 1


def test_the_baseline_instruction_set_agrees_to_rounding(child):
    baseline = child.call(isa_results, isa="baseline")
    for p in isa_batches():
        for mine in all_results(*p)[:-1]:  # the last are samples: a draw may fall the other way
            assert_close(baseline.pop(0), mine, p.gradient_tolerance())
        baseline.pop(0)
    assert not baseline


def test_residuals_save_the_products_and_change_no_bit():
    for dtype in ("float32", "float64"):
        p = make_batch(BUILDERS["from_parents"](300), N=50, D=33, dtype=dtype)
        _, residuals = cso.hsoftmax(*p, return_residuals=True)
        with_, without = cso.hsoftmax_gradient(*p, residuals=residuals), cso.hsoftmax_gradient(*p)
        assert digest(with_) == digest(without)


def test_read_only_and_memory_mapped_input_is_accepted(tmp_path):
    p = make_batch(BUILDERS["huffman"](30))
    for name, array in zip(("X", "W", "b", "labels"), p, strict=False):
        np.save(tmp_path / f"{name}.npy", array)
    mapped = [
        np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("X", "W", "b", "labels")
    ]
    expected = digest(all_results(*p))
    assert digest(all_results(*read_only(*p[:4]), p.h)) == expected
    assert digest(all_results(*mapped, p.h)) == expected
    assert digest(all_results(*p)) == expected  # and nothing was written


def test_the_gradient_of_a_million_classes_takes_less_than_20_mb():
    """Dense, W and its gradient would take 512 MB each."""
    h = Hierarchy.balanced(10**6)
    W, labels = np.zeros((h.n_rows, 128), np.float32), np.arange(256) * 3906
    X = np.ones((256, 128), np.float32)
    tracemalloc.start()
    got = cso.hsoftmax_gradient(X, W, None, labels, h)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(got.rows) > 256
    assert peak < 20 * 2**20


def test_log_proba_of_given_classes_has_the_bits_of_log_proba_of_all():
    for dtype in ("float32", "float64"):
        X, W, b, labels, h = make_batch(BUILDERS["from_parents"](500), N=40, D=21, dtype=dtype)
        every = cso.hsoftmax_log_proba(X, W, b, h)
        some = cso.hsoftmax_log_proba(X, W, b, h, classes=labels)
        assert (every[np.arange(40), labels] == some).all()
