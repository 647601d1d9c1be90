"""Threads and instruction sets: what is told, what can be forced, what survives a fork."""

import concurrent.futures
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

import cython_sparseops as cso
from helpers.batches import all_results, digest, make_batch
from helpers.hierarchies import BUILDERS

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

SOME_WORK = """
import cython_sparseops as cso, numpy as np
h = cso.Hierarchy.balanced(100)
W, b = cso.init_weights(h, 8, rng=0)
print(cso.hsoftmax(np.ones((3, 8), np.float32), W, b, [1, 2, 3], h).tolist())
"""


@pytest.fixture(autouse=True)
def threads_as_before():
    before = cso.get_num_threads()
    yield
    cso.set_num_threads(before)


def big_batch(seed=0):
    """Enough work that a team is used."""
    return make_batch(BUILDERS["huffman"](2000), N=500, D=100, dtype="float32", seed=seed)


# ---- agrees with the reference ------------------------------------------------------------------


def test_show_runtime_tells_version_instruction_sets_and_threads():
    text = str(cso.show_runtime())
    assert cso.__version__ in text
    assert "baseline" in text or "neon" in text
    assert "openmp" in text.lower()
    cso.set_num_threads(3)
    assert "3" in str(cso.show_runtime()) or cso.get_num_threads() == 1


# ---- edges --------------------------------------------------------------------------------------


def test_the_number_of_threads_is_what_was_set_and_zero_restores_the_default():
    default = cso.get_num_threads()
    assert default >= 1
    for n in (1, 2, 5):
        cso.set_num_threads(n)
        assert cso.get_num_threads() in (n, 1)  # 1: built without OpenMP
    cso.set_num_threads(0)
    assert cso.get_num_threads() == default


def test_omp_num_threads_is_the_default(run_python):
    code = "import cython_sparseops as cso; print(cso.get_num_threads())"
    assert run_python(code, OMP_NUM_THREADS="1").stdout.strip() == "1"


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


def test_an_instruction_set_that_nobody_has_is_refused_clearly(run_python):
    done = run_python(SOME_WORK, check=False, SPARSEOPS_ISA="sse9")
    assert done.returncode == 1  # an exception, not a signal
    last = done.stderr.strip().splitlines()[-1]
    assert "SPARSEOPS_ISA" in last
    assert "sse9" in last


def test_an_instruction_set_that_this_machine_lacks_is_refused_clearly(run_python, fma_isas):
    lacking = [isa for isa in ("neon", "avx512", "avx2") if isa not in fma_isas]
    done = run_python(SOME_WORK, check=False, SPARSEOPS_ISA=lacking[0])
    assert done.returncode == 1
    assert lacking[0] in done.stderr.strip().splitlines()[-1]


# ---- promises -----------------------------------------------------------------------------------


def test_every_instruction_set_that_is_told_can_be_forced(run_python, fma_isas):
    tell = "; print(cso.show_runtime())"
    results = []
    for isa in ["baseline", *fma_isas]:
        done = run_python(SOME_WORK.rstrip() + tell, SPARSEOPS_ISA=isa)
        first, _, rest = done.stdout.partition("\n")
        results.append(np.array(eval(first)))
        assert isa in rest
    assert len({r.tobytes() for r in results[1:]}) <= 1
    for r in results:
        np.testing.assert_allclose(r, results[0], rtol=1e-5)


def test_threads_that_call_at_once_get_what_one_gets_alone():
    alone = [digest(all_results(*big_batch(seed))) for seed in range(6)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda seed: digest(all_results(*big_batch(seed))), range(6)))
    assert together == alone


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_forked_after_the_team_was_used_finishes():
    """libgomp hangs in such a child unless it is made to stay on one thread."""
    cso.set_num_threads(2)
    p = big_batch()
    expected = cso.hsoftmax(*p).tobytes()
    child = os.fork()
    if child == 0:
        same = cso.hsoftmax(*p).tobytes() == expected
        os._exit(0 if same else 3)
    for _ in range(300):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the child still runs after 30 seconds")
    assert os.waitstatus_to_exitcode(status) == 0
    assert cso.hsoftmax(*p).tobytes() == expected  # and the parent goes on


def work(seed):
    return digest(all_results(*big_batch(seed)))


def two_seeds_alone_and_in_a_pool():
    alone = [work(seed) for seed in range(2)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return alone, pool.map(work, range(2))


@needs_fork
def test_another_process_started_by_multiprocessing_gets_the_same_bytes(child):
    alone, in_a_pool = child.call(two_seeds_alone_and_in_a_pool)
    assert in_a_pool == alone
