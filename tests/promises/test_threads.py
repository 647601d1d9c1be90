"""Threads of a process: callers at once, who decides their number, how many there really are."""

import concurrent.futures
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import cython_sparseops as cso
from helpers.batches import all_results, digest, make_batch
from helpers.compressed import Compressed
from helpers.hierarchies import BUILDERS
from helpers.large_call import LargeCall, tasks

SANITIZED = "libtsan" in os.environ.get("LD_PRELOAD", "")
needs_tasks = pytest.mark.skipif(
    SANITIZED or not Path("/proc/self/task").is_dir(),
    reason="no /proc/self/task to count threads, or a thread of the sanitizer's own in it",
)


@pytest.fixture(autouse=True)
def threads_as_before():
    yield
    cso.set_num_threads(0)


def large_batch(seed=0, D=64):
    return make_batch(BUILDERS["huffman"](2000), N=400, D=D, dtype="float32", seed=seed)


def training(batch, optimizer, steps=3):
    """Some steps on a W and b of their own; what is left of them, and the state."""
    W, b = batch.W.copy(), batch.b.copy()
    for _ in range(steps):
        cso.hsoftmax_update(batch.X, W, b, batch.labels, batch.h, optimizer)
    return digest([W, b, *optimizer.state.values()])


def operators():
    """One call of every room, each large enough for a team; name -> f() -> digest."""
    p = large_batch()
    rng = np.random.default_rng(0)
    table = rng.normal(size=(3000, 64)).astype("f")
    ids = rng.integers(0, 3000, 9000)
    x = rng.normal(size=200_000).astype("f")
    quantized = cso.quantize(p.W, "int8")
    counts = rng.integers(1, 1000, 20_000)

    def rows():
        copy = table.copy()
        return [cso.sparse_normalize_rows(copy, ids[:2000]), copy]

    def bag():
        indptr = np.arange(0, 9001, 9)
        X = Compressed(indptr, ids, np.ones(9000, "f"), (1000, 3000))
        return [cso.embedding_bag(X, table)]

    return {
        "hsoftmax": lambda: digest(all_results(*p)),
        "search": lambda: digest(cso.hsoftmax_search(p.X, p.W, p.b, p.h, 5)),
        "quantized": lambda: digest([cso.hsoftmax(p.X, quantized, p.b, p.labels, p.h)]),
        "update": lambda: training(p, cso.Adagrad(0.1)),
        "normalize": lambda: digest([cso.sparse_normalize(table)]),
        "normalize rows": lambda: digest(rows()),
        "dropout": lambda: digest([cso.sparse_dropout_with_replacement(x, 0.3, rng=1)]),
        "bag": lambda: digest(bag()),
        "hierarchy": lambda: digest(cso.Hierarchy.huffman(counts).to_arrays().values()),
    }


# ---- promises: callers at once ------------------------------------------------------------------


def test_every_operator_called_at_once_with_the_others_gives_what_it_gives_alone():
    calls = operators()
    alone = {name: call() for name, call in calls.items()}
    names = [name for _ in range(4) for name in calls]
    cso.set_num_threads(3)
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        together = list(pool.map(lambda name: (name, calls[name]()), names))
    assert {name for name, got in together if got != alone[name]} == set()


@pytest.mark.parametrize("make", [cso.SGD, cso.Adagrad, cso.Adam])
def test_optimisers_that_share_nothing_may_step_at_once(make):
    batches = [large_batch(seed) for seed in range(4)]
    alone = [training(p, make(0.05)) for p in batches]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda p: training(p, make(0.05)), batches))
    assert together == alone


def test_steps_of_one_optimiser_from_two_threads_under_a_lock_are_those_of_one_thread():
    """The rule of hsoftmax_update: W, b and the optimiser belong to one call at a time."""
    p = large_batch()

    def run(threads):
        W, b, optimizer, lock = p.W.copy(), p.b.copy(), cso.Adam(0.01), threading.Lock()

        def steps():
            for _ in range(6 // threads):
                with lock:
                    cso.hsoftmax_update(p.X, W, b, p.labels, p.h, optimizer)

        together = [threading.Thread(target=steps) for _ in range(threads)]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        return optimizer.step_count, digest([W, b, *optimizer.state.values()])

    assert run(2) == run(1)


@pytest.mark.skipif(SANITIZED, reason="races on purpose")
def test_steps_of_one_optimiser_at_once_break_no_memory():
    """Outside that rule steps may be lost, no more: shapes, dtypes and finite numbers stay."""
    p = large_batch()
    W, b, optimizer = p.W.copy(), p.b.copy(), cso.Adagrad(0.1)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        calls = [
            pool.submit(cso.hsoftmax_update, p.X, W, b, p.labels, p.h, optimizer) for _ in range(16)
        ]
        losses = [call.result().nll for call in calls]
    assert all(np.isfinite(a).all() for a in (W, b, *losses, *optimizer.state.values()))
    assert optimizer.state["first"].shape == W.shape
    assert 1 <= optimizer.step_count <= 16


def test_an_error_in_one_thread_is_raised_there_alone():
    p = large_batch()
    bad = p.W.copy()
    bad[p.h.path_node[p.h.path_ptr[p.labels[7]]]] = np.nan
    expected = cso.hsoftmax(*p, num_threads=2).tobytes()

    def call(i):
        try:
            W = bad if i % 2 else p.W
            return cso.hsoftmax(p.X, W, p.b, p.labels, p.h, num_threads=2).tobytes()
        except ValueError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(call, range(20)))
    assert set(results[::2]) == {expected}
    assert all("must be finite" in r for r in results[1::2])


# ---- promises: who decides the number -----------------------------------------------------------


TWO_THREADS = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1"}


def start_workers():
    call = LargeCall(rows=1000)
    batch, before = call.batch, len(tasks())
    call(num_threads=1)
    assert len(tasks()) == before, "one thread needs no worker"
    call(num_threads=3)
    assert len(tasks()) == before + 2, (before, tasks())
    for n in (2, 3, 1, 3):
        call(num_threads=n)
    assert len(tasks()) == before + 2, "workers are kept"
    cso.hsoftmax_update(*batch, cso.SGD(0.1), num_threads=3)
    cso.hsoftmax_search(call.X, call.W, call.b, call.h, 3, num_threads=3)
    table = call.rng.normal(size=(5000, 64)).astype("f")
    indptr, indices = np.arange(0, 50001, 50), np.arange(50000) % 5000
    bags = Compressed(indptr, indices, np.ones(50000, "f"), (1000, 5000))
    cso.embedding_bag(bags, table, num_threads=3)
    cso.sparse_normalize(table, num_threads=3)
    cso.sparse_dropout_with_replacement(np.ones(10**7, "f"), 0.5, rng=0, num_threads=3)
    quantized = cso.quantize(call.W, "int8", num_threads=3)
    cso.hsoftmax(call.X, quantized, call.b, call.labels, call.h, num_threads=3)
    assert len(tasks()) == before + 2, f"{len(tasks()) - before} workers: each module started some"
    cso.set_num_threads(4)
    call()
    assert len(tasks()) == before + 3, (before, tasks())
    call(num_threads=2)
    callers = [threading.Thread(target=call) for _ in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    end = time.monotonic() + 20
    while len(tasks()) > before + 3 and time.monotonic() < end:
        time.sleep(0.01)  # the system takes a joined thread off its list a moment later
    assert len(tasks()) == before + 3, "callers at once share the workers"


@needs_tasks
def test_a_large_call_starts_the_threads_that_were_asked_for_and_no_more(child):
    child.run(start_workers, **TWO_THREADS)


def end_extra_workers():
    call, before = LargeCall(rows=1000), len(tasks())
    expected = call(num_threads=1).tobytes()
    assert call(num_threads=200).tobytes() == expected
    few, end = max(8, os.cpu_count()), time.monotonic() + 20
    while len(tasks()) >= before + few and time.monotonic() < end:
        time.sleep(0.01)
    assert len(tasks()) < before + few, f"{len(tasks()) - before} workers stayed"
    assert call(num_threads=200).tobytes() == expected


@needs_tasks
def test_threads_beyond_the_cores_end_after_the_call_that_asked_for_them(child):
    child.run(end_extra_workers, **TWO_THREADS)


def move_between_cores():
    call, others = LargeCall(rows=1000), tasks()
    call(num_threads=2)
    (worker,) = map(int, tasks() - others)
    allowed = os.sched_getaffinity(0)
    time.sleep(0.5)  # the first call does not wait for the worker to begin
    for _ in range(20):
        call(num_threads=2)
        seen = os.sched_getaffinity(worker)
        assert seen <= allowed, (seen, allowed)
        assert len(seen) == max(1, len(allowed) - 1), (seen, allowed)
    for core in allowed:  # from outside, as taskset does
        for thread in (0, worker):
            os.sched_setaffinity(thread, {core})
        call(num_threads=2)
        assert os.sched_getaffinity(worker) == {core}


@needs_tasks
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads have no affinity here")
def test_a_worker_keeps_off_its_callers_core_and_stays_on_the_cores_it_may_use(child):
    child.run(move_between_cores, **TWO_THREADS)


def threads_and_workers():
    call, before = LargeCall(rows=1000), len(tasks())
    call()
    return cso.get_num_threads(), len(tasks()) - before


@needs_tasks
@pytest.mark.parametrize("n", [1, 2])
def test_omp_num_threads_is_how_many_a_call_takes(child, n):
    told, workers = child.call(
        threads_and_workers, OMP_NUM_THREADS=str(n), OPENBLAS_NUM_THREADS="1"
    )
    assert told <= n  # a control group may grant less
    assert workers == told - 1


def limit_by_threadpoolctl():
    from threadpoolctl import threadpool_limits

    cso.register_threadpoolctl()
    call, before = LargeCall(rows=1000), len(tasks())
    default = cso.get_num_threads()
    with threadpool_limits(limits=1):
        assert cso.get_num_threads() == 1
        call()
        assert len(tasks()) == before, "a limit of one is no worker"
        with threadpool_limits(limits=1, user_api="openmp"):
            assert cso.get_num_threads() == 1
        cso.set_num_threads(2)
        assert cso.get_num_threads() == 2, "what was set here goes first"
        cso.set_num_threads(0)
    assert cso.get_num_threads() == default


@needs_tasks
def test_threadpoolctl_limits_a_call_and_gives_back(child):
    pytest.importorskip("threadpoolctl")
    child.run(limit_by_threadpoolctl, **TWO_THREADS)


def ours():
    from threadpoolctl import threadpool_info

    (one,) = (pool for pool in threadpool_info() if pool["user_api"] == "cython_sparseops")
    return one


@needs_tasks
@pytest.mark.parametrize("told", [0, 3])
def test_threadpoolctl_limits_and_lists_the_team_alone(told):
    threadpool_limits = pytest.importorskip("threadpoolctl").threadpool_limits
    cso.register_threadpoolctl()
    cso.register_threadpoolctl()  # listed once all the same
    cso.set_num_threads(told)
    before = ours()
    assert before["num_threads"] == cso.get_num_threads()
    assert before["version"] == cso.__version__
    with threadpool_limits(1, user_api="cython_sparseops"):
        assert ours()["num_threads"] == cso.get_num_threads() == 1
        with threadpool_limits({"cython_sparseops": 2}):
            assert cso.get_num_threads() == min(2, before["num_threads"])
        assert cso.get_num_threads() == 1
    assert ours() == before
    with threadpool_limits(1000):
        assert cso.get_num_threads() >= before["num_threads"]
    cso.set_num_threads(0)
    if not told:
        assert cso.get_num_threads() == before["num_threads"]


@pytest.mark.parametrize("first", ["threadpoolctl", "cython_sparseops.sklearn"])
def test_threadpoolctl_is_told_at_import_and_imported_by_none(child, first):
    pytest.importorskip("threadpoolctl")
    if first.endswith("sklearn"):
        pytest.importorskip("sklearn")
    program = (
        "import sys, cython_sparseops; assert 'threadpoolctl' not in sys.modules"
        if first.endswith("sklearn")
        else "import sys"
    )
    program += (
        f"; import {first}, cython_sparseops; from threadpoolctl import threadpool_info as info"
        "; print([p['user_api'] for p in info()].count('cython_sparseops'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout == "1\n"


def test_set_num_threads_holds_in_every_thread():
    cso.set_num_threads(3)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(cso.get_num_threads).result() == 3
        pool.submit(cso.set_num_threads, 2).result()
    assert cso.get_num_threads() == 2


# ---- promises: no more than that -----------------------------------------------------------------


def measure_cpu_time():
    try:
        import torch

        torch.ones(600, 600) @ torch.ones(600, 600)
    except ImportError:
        pass
    np.ones((600, 600)) @ np.ones((600, 600))
    call, before = LargeCall(rows=1000), len(tasks())
    call(num_threads=2)
    time.sleep(0.3)  # whoever spins after work has gone to sleep
    assert len(tasks()) <= before + 1, (before, tasks())
    cpu, wall = time.process_time(), time.perf_counter()
    while time.perf_counter() < wall + 0.5:
        call(num_threads=2)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    assert cpu < 2.2 * wall, f"{cpu:.3f} s of CPU time in {wall:.3f} s on 2 threads"
    time.sleep(0.1)
    cpu = time.process_time()
    time.sleep(0.5)
    cpu = time.process_time() - cpu
    assert cpu < 0.05, f"{cpu:.3f} s of CPU time in half a second of sleep"


@needs_tasks
def test_a_call_takes_no_more_cpu_time_than_its_threads_and_sleeping_workers_none(child):
    """NumPy's threads, and torch's where it is installed, are there too and have worked."""
    child.run(measure_cpu_time)


def call_from_a_pool():
    call, before = LargeCall(rows=1000), len(tasks())
    serial = call(num_threads=1).tobytes()

    def calls(_):
        return {call(num_threads=3).tobytes() for _ in range(10)}

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = set().union(*pool.map(calls, range(8)))
        assert len(tasks()) <= before + 4 + 2, "4 callers and one team's 2 workers"
    assert results == {serial}
    try:
        from joblib import Parallel, delayed
    except ImportError:
        return
    found = Parallel(4, backend="threading")(delayed(calls)(i) for i in range(8))
    assert set().union(*found) == {serial}


@needs_tasks
def test_calls_from_a_pool_of_threads_share_one_team(child):
    child.run(call_from_a_pool, OPENBLAS_NUM_THREADS="1")
