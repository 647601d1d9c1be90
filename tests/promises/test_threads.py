"""Threads of a process: callers at once, who decides their number, how many there really are."""

import concurrent.futures
import os
import threading
from pathlib import Path

import numpy as np
import pytest

import cython_sparseops as cso
from helpers.batches import all_results, digest, make_batch
from helpers.hierarchies import BUILDERS

TASKS = Path("/proc/self/task")

# In a process of its own: how many threads does a large call start, and how many does it leave.
COUNT_THREADS = """
import os, threading, time
import numpy as np
import cython_sparseops as cso
def tasks():
    return len(os.listdir("/proc/self/task"))
h = cso.Hierarchy.balanced(5000)
W, b = cso.init_weights(h, 64, rng=0)
rng = np.random.default_rng(0)
X, labels = rng.normal(size=(1000, 64)).astype("f"), rng.integers(0, 5000, 1000)
def large_call(**options):
    return cso.hsoftmax(X, W, b, labels, h, **options)
before = tasks()
"""

SANITIZED = "libtsan" in os.environ.get("LD_PRELOAD", "")
needs_tasks = pytest.mark.skipif(
    SANITIZED or not TASKS.is_dir(),
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
        X = _Csr(indptr, ids, np.ones(9000, "f"), (1000, 3000))
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


class _Csr:
    """CSR without SciPy."""

    format = "csr"

    def __init__(self, indptr, indices, data, shape):
        self.indptr, self.indices, self.data, self.shape = indptr, indices, data, shape


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


@needs_tasks
def test_a_large_call_starts_the_threads_that_were_asked_for_and_no_more(run_python):
    code = """
large_call(num_threads=1)
assert tasks() == before, "one thread needs no worker"
large_call(num_threads=3)
assert tasks() == before + 2, (before, tasks())
for n in (2, 3, 1, 3):
    large_call(num_threads=n)
assert tasks() == before + 2, "workers are kept"
class Csr:
    indptr, indices, data = np.arange(0, 50001, 50), np.arange(50000) % 5000, np.ones(50000, "f")
    shape, format = (1000, 5000), "csr"
cso.hsoftmax_update(X, W, b, labels, h, cso.SGD(0.1), num_threads=3)
cso.hsoftmax_search(X, W, b, h, 3, num_threads=3)
table = rng.normal(size=(5000, 64)).astype("f")
cso.embedding_bag(Csr, table, num_threads=3)
cso.sparse_normalize(table, num_threads=3)
cso.sparse_dropout_with_replacement(np.ones(10**7, "f"), 0.5, rng=0, num_threads=3)
cso.hsoftmax(X, cso.quantize(W, "int8", num_threads=3), b, labels, h, num_threads=3)
assert tasks() == before + 2, f"{tasks() - before} workers: each module started its own"
cso.set_num_threads(4)
large_call()
assert tasks() == before + 3, (before, tasks())
large_call(num_threads=2)
callers = [threading.Thread(target=large_call) for _ in range(5)]
[c.start() for c in callers], [c.join() for c in callers]
end = time.monotonic() + 20
while tasks() > before + 3 and time.monotonic() < end:
    time.sleep(0.01)  # the system takes a joined thread off its list a moment later
assert tasks() == before + 3, "callers at once share the workers"
"""
    run_python(COUNT_THREADS + code, OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="1")


@needs_tasks
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads have no affinity here")
def test_a_worker_keeps_off_its_callers_core_and_stays_on_the_cores_it_may_use(run_python):
    code = """
others = set(os.listdir("/proc/self/task"))
large_call(num_threads=2)
worker, = map(int, set(os.listdir("/proc/self/task")) - others)
allowed = os.sched_getaffinity(0)
time.sleep(0.5)  # the first call does not wait for the worker to begin
for _ in range(20):
    large_call(num_threads=2)
    seen = os.sched_getaffinity(worker)
    assert seen <= allowed and len(seen) == max(1, len(allowed) - 1), (seen, allowed)
for core in allowed:  # from outside, as taskset does
    for thread in (0, worker):
        os.sched_setaffinity(thread, {core})
    large_call(num_threads=2)
    assert os.sched_getaffinity(worker) == {core}
"""
    run_python(COUNT_THREADS + code, OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="1")


@needs_tasks
@pytest.mark.parametrize("n", [1, 2])
def test_omp_num_threads_is_how_many_a_call_takes(run_python, n):
    code = "large_call()\nprint(cso.get_num_threads(), tasks() - before)"
    done = run_python(COUNT_THREADS + code, OMP_NUM_THREADS=str(n), OPENBLAS_NUM_THREADS="1")
    told, workers = map(int, done.stdout.split())
    assert told <= n  # a control group may grant less
    assert workers == told - 1


@needs_tasks
def test_threadpoolctl_limits_a_call_and_gives_back(run_python):
    pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    if "openmp           yes" not in cso.show_runtime():
        pytest.skip("built without OpenMP, whose setting threadpoolctl changes")
    code = """
from threadpoolctl import threadpool_limits
default = cso.get_num_threads()
with threadpool_limits(limits=1):
    assert cso.get_num_threads() == 1
    large_call()
    assert tasks() == before, "a limit of one is no worker"
    with threadpool_limits(limits=1, user_api="openmp"):
        assert cso.get_num_threads() == 1
    cso.set_num_threads(2)
    assert cso.get_num_threads() == 2, "what was set here goes first"
    cso.set_num_threads(0)
assert cso.get_num_threads() == default
print(default)
"""
    run_python(COUNT_THREADS + code, OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="1")


def test_set_num_threads_holds_in_every_thread():
    cso.set_num_threads(3)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(cso.get_num_threads).result() == 3
        pool.submit(cso.set_num_threads, 2).result()
    assert cso.get_num_threads() == 2


# ---- promises: no more than that -----------------------------------------------------------------


@needs_tasks
def test_a_call_takes_no_more_cpu_time_than_its_threads_and_sleeping_workers_none(run_python):
    """NumPy's threads, and torch's where it is installed, are there too and have worked."""
    code = """
import time
try:
    import torch
    torch.ones(600, 600) @ torch.ones(600, 600)
except ImportError:
    pass
np.ones((600, 600)) @ np.ones((600, 600))
before = tasks()
large_call(num_threads=2)
time.sleep(0.3)  # whoever spins after work has gone to sleep
assert tasks() <= before + 1, (before, tasks())
cpu, wall = time.process_time(), time.perf_counter()
while time.perf_counter() < wall + 0.5:
    large_call(num_threads=2)
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
assert cpu < 2.2 * wall, f"{cpu:.3f} s of CPU time in {wall:.3f} s on 2 threads"
time.sleep(0.1)
cpu = time.process_time()
time.sleep(0.5)
cpu = time.process_time() - cpu
assert cpu < 0.05, f"{cpu:.3f} s of CPU time in half a second of sleep"
"""
    run_python(COUNT_THREADS + code)


@needs_tasks
def test_calls_from_a_pool_of_threads_share_one_team(run_python):
    code = """
import concurrent.futures
serial = large_call(num_threads=1).tobytes()
def calls(_):
    return [large_call(num_threads=3).tobytes() for _ in range(10)]
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    results = sum(pool.map(calls, range(8)), [])
    assert tasks() <= before + 4 + 2, "4 callers and one team's 2 workers"
assert set(results) == {serial}
try:
    from joblib import Parallel, delayed
except ImportError:
    pass
else:
    found = Parallel(4, backend="threading")(delayed(calls)(i) for i in range(8))
    assert set(sum(found, [])) == {serial}
"""
    run_python(COUNT_THREADS + code, OPENBLAS_NUM_THREADS="1")
