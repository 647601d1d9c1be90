"""Threads and instruction sets: what is told, what can be forced, what survives a fork."""

import concurrent.futures
import multiprocessing
import os

import numpy as np
import pytest

import cython_sparseops as cso
from helpers.batches import all_results, digest, make_batch
from helpers.child import wait
from helpers.hierarchies import BUILDERS


def some_work():
    """Losses, and the active instruction set."""
    h = cso.Hierarchy.balanced(100)
    W, b = cso.init_weights(h, 8, rng=0)
    nll = cso.hsoftmax(np.ones((3, 8), np.float32), W, b, [1, 2, 3], h)
    return nll, cso.runtime_info().active


@pytest.fixture(autouse=True)
def threads_as_before():
    before = cso.get_num_threads()
    yield
    cso.set_num_threads(before)


def big_batch(seed=0):
    """Enough work that a team is used."""
    return make_batch(BUILDERS["huffman"](2000), N=500, D=100, dtype="float32", seed=seed)


# ---- agrees with the reference ------------------------------------------------------------------


def test_show_runtime_tells_version_instruction_sets_and_threads(capsys):
    cso.set_num_threads(3)
    info = cso.runtime_info()
    assert info.version == cso.__version__
    assert {info.active} <= set(info.available) <= set(info.compiled)
    assert {"baseline", "neon"} & set(info.compiled)
    assert info.forced == bool(os.environ.get("SPARSEOPS_ISA"))
    assert info.threads == cso.get_num_threads()
    assert cso.show_runtime() is None
    text = capsys.readouterr().out
    assert text == f"{info}\n"
    facts = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert facts["active"].split()[0] == info.active
    assert facts["openmp"] == ("yes" if info.openmp else "no")


# ---- edges --------------------------------------------------------------------------------------


def test_the_number_of_threads_is_what_was_set_and_zero_restores_the_default():
    default = cso.get_num_threads()
    assert default >= 1
    for n in (1, 2, 5):
        cso.set_num_threads(n)
        assert cso.get_num_threads() in (n, 1)  # 1: built without OpenMP
    cso.set_num_threads(0)
    assert cso.get_num_threads() == default


def default_threads():
    return cso.get_num_threads()


def test_omp_num_threads_is_the_default(child):
    assert child.call(default_threads, OMP_NUM_THREADS="1") == 1


def test_the_set_number_of_threads_changes_no_bit():
    found = set()
    for n in (1, 2, 3):
        cso.set_num_threads(n)
        found.add(digest(all_results(*big_batch())))
    assert len(found) == 1


# ---- rejections ---------------------------------------------------------------------------------


def test_a_number_of_threads_below_zero_is_refused():
    before = cso.get_num_threads()
    with pytest.raises(ValueError, match=r"must be .*, got -1"):
        cso.set_num_threads(-1)
    for value in ("two", 1.5, None):
        with pytest.raises((TypeError, ValueError)):
            cso.set_num_threads(value)
    assert cso.get_num_threads() == before


def test_an_instruction_set_that_nobody_has_is_refused_clearly(child):
    done = child.run(some_work, check=False, isa="sse9")
    assert done.returncode == 1  # an exception, not a signal
    last = done.stderr.strip().splitlines()[-1]
    assert "SPARSEOPS_ISA" in last
    assert "sse9" in last


def test_an_instruction_set_that_this_machine_lacks_is_refused_clearly(child, fma_isas):
    lacking = [isa for isa in ("neon", "avx512", "avx2") if isa not in fma_isas]
    done = child.run(some_work, check=False, isa=lacking[0])
    assert done.returncode == 1
    assert lacking[0] in done.stderr.strip().splitlines()[-1]


# ---- promises -----------------------------------------------------------------------------------


def test_every_instruction_set_that_is_told_can_be_forced(child, fma_isas):
    results = []
    for isa in ["baseline", *fma_isas]:
        nll, active = child.call(some_work, isa=isa)
        results.append(nll)
        assert active == isa
    assert len({r.tobytes() for r in results[1:]}) <= 1
    for r in results:
        np.testing.assert_allclose(r, results[0], rtol=1e-5)


def test_threads_that_call_at_once_get_what_one_gets_alone():
    alone = [digest(all_results(*big_batch(seed))) for seed in range(6)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda seed: digest(all_results(*big_batch(seed))), range(6)))
    assert together == alone


@pytest.mark.forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_forked_after_the_team_was_used_finishes():
    """libgomp hangs in such a child unless it is made to stay on one thread."""
    cso.set_num_threads(2)
    p = big_batch()
    expected = cso.hsoftmax(*p).tobytes()
    forked = os.fork()
    if forked == 0:
        same = cso.hsoftmax(*p).tobytes() == expected
        os._exit(0 if same else 3)
    assert wait(forked) == 0
    assert cso.hsoftmax(*p).tobytes() == expected  # and the parent goes on


def work(seed):
    return digest(all_results(*big_batch(seed)))


def two_seeds_alone_and_in_a_pool():
    alone = [work(seed) for seed in range(2)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return alone, pool.map(work, range(2))


@pytest.mark.forks
def test_another_process_started_by_multiprocessing_gets_the_same_bytes(child):
    alone, in_a_pool = child.call(two_seeds_alone_and_in_a_pool)
    assert in_a_pool == alone
