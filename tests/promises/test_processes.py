"""Processes: forks at bad moments, joblib, ends at bad moments, signals, lack of threads."""

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import cython_sparseops as cso
from cython_sparseops._core import runtime
from helpers.child import wait
from helpers.large_call import LargeCall, tasks

PROGRAMS = Path(__file__).resolve().parent / "programs"


def begin():
    """What every child does first; a large call, and the bytes that it gives."""
    faulthandler.dump_traceback_later(50, exit=True)
    warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: what is tested here
    return LargeCall()


def start_thread(function):
    threading.Thread(target=function, daemon=True).start()


# ---- promises: forks ----------------------------------------------------------------------------


def fork_among_calls_of_other_threads():
    call = begin()

    def result():
        return call(num_threads=3).tobytes()

    expected = result()
    for _ in range(2):
        start_thread(call.forever)
    for _ in range(15):
        child = os.fork()
        if child == 0:
            ok = result() == expected and cso.get_num_threads() == 1
            grandchild = os.fork()
            if grandchild == 0:
                os._exit(0 if result() == expected else 3)
            os._exit(0 if ok and wait(grandchild) == 0 else 4)
        assert (status := wait(child)) == 0, status
    assert result() == expected
    os._exit(0)


@pytest.mark.forks
def test_children_forked_in_the_middle_of_other_threads_calls_finish(child):
    child.run(fork_among_calls_of_other_threads)


def fork_during_the_first_calls():
    call = begin()
    started = threading.Event()

    def first_calls():
        started.set()
        call()
        cso.sparse_normalize(np.ones((300, 300)))
        cso.hsoftmax_search(call.X, call.W, call.b, call.h)

    thread = threading.Thread(target=first_calls)
    thread.start()
    started.wait()
    child = os.fork()
    if child == 0:
        first_calls()
        os._exit(0)
    assert (status := wait(child)) == 0, status
    thread.join()


@pytest.mark.forks
def test_a_child_forked_during_the_first_call_of_all_finishes(child):
    """What is made once, at the first call, must not be half made for ever in the child."""
    child.run(fork_during_the_first_calls)


def test_processes_that_multiprocessing_starts_anew_give_the_same_bytes(child):
    done = child.run(PROGRAMS / "multiprocessing_anew.py")
    assert "spawn" in done.stdout


@pytest.mark.forks
def test_the_processes_of_joblib_give_the_same_bytes(child):
    """loky starts them anew, the older one may fork. The tree is pickled, large arrays mapped."""
    pytest.importorskip("joblib", reason="joblib is not installed")
    child.run(PROGRAMS / "joblib_backends.py")


# ---- promises: ends -----------------------------------------------------------------------------


def end_while_workers_spin():
    begin()(num_threads=3)


def end_while_workers_sleep():
    begin()(num_threads=3)
    time.sleep(0.1)


def end_while_a_daemon_thread_works():
    call = begin()
    call(num_threads=3)
    start_thread(call.forever)
    time.sleep(0.1)


def exit_at_once_while_a_daemon_thread_works():
    end_while_a_daemon_thread_works()
    os._exit(0)


@pytest.mark.parametrize(
    "end",
    [
        end_while_workers_spin,
        end_while_workers_sleep,
        end_while_a_daemon_thread_works,
        exit_at_once_while_a_daemon_thread_works,
    ],
    ids=["workers spin", "workers sleep", "a daemon thread works", "_exit while a thread works"],
)
def test_a_process_ends_at_any_moment_with_exit_code_0(child, end):
    done = child.run(end)
    assert done.stderr == ""


# ---- promises: signals --------------------------------------------------------------------------


def take_signals():
    call = begin()
    expected = call(num_threads=3).tobytes()
    time.sleep(0.05)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.05)
    assert signal.sigwait([signal.SIGTERM]) == signal.SIGTERM
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        call.forever()
    assert call(num_threads=3).tobytes() == expected


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_signals_go_to_the_program_and_not_to_a_worker(child):
    """One that it waits for (its default action in a worker would end the process), and Ctrl-C."""
    child.run(take_signals, OPENBLAS_NUM_THREADS="1")  # its threads do take signals


# ---- edges --------------------------------------------------------------------------------------

# Bytes of a thread's stack: the C library takes this size from the limit at a process's start.
STACK = 1 << 30


def work_without_room_for_stacks():
    import resource

    call = LargeCall()
    expected = call(num_threads=1).tobytes()

    def limit(stacks):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        room = pages * resource.getpagesize() + (256 << 20) + stacks * STACK
        resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))

    def result():
        return call(num_threads=8).tobytes()

    before = len(tasks())
    limit(0)
    assert result() == result() == expected
    assert len(tasks()) == before, len(tasks()) - before
    limit(3)
    assert result() == expected
    assert before < len(tasks()) <= before + 3, len(tasks()) - before
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert result() == expected
    assert len(tasks()) == before + 7, "later there are threads again"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_process_that_gets_no_threads_does_the_work_on_those_it_has(child):
    """No room for stacks, as with too many processes (RLIMIT_NPROC), makes std::thread throw."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_STACK)
    if most != resource.RLIM_INFINITY and most < STACK:
        pytest.skip("the limit of the stack cannot be raised here")

    def raise_limit():
        resource.setrlimit(resource.RLIMIT_STACK, (STACK, most))

    child.run(work_without_room_for_stacks, preexec_fn=raise_limit, OPENBLAS_NUM_THREADS="1")


# ---- rejections ---------------------------------------------------------------------------------

LOAD_THERE = """
from importlib.util import module_from_spec, spec_from_file_location
try:
    module_from_spec(spec_from_file_location(%r, %r))
    print("loaded", flush=True)
except ImportError as error:
    print("refused:", error, flush=True)
"""


def interpreters():
    """Python's module to make subinterpreters, if it has one."""
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            return __import__(name)
        except ImportError:
            continue
    return None


def load_in_a_subinterpreter():
    module = interpreters()
    module.run_string(module.create(), LOAD_THERE % (runtime.__name__, runtime.__file__))


def test_a_subinterpreter_refuses_the_package_clearly(child):
    """The compiled modules, like NumPy's, belong to the main interpreter."""
    if interpreters() is None:
        pytest.skip("this Python has no module to make subinterpreters")
    done = child.run(load_in_a_subinterpreter)
    assert "refused:" in done.stdout


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads cannot be counted")
@pytest.mark.parametrize("called_before", [False, True])
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_process_has_threads_unless_forked_from_running_ones(child, method, called_before):
    """A server that imports the library and forks, Python 3.14's default, has started none."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"{method} does not exist here")
    program = PROGRAMS / "start_methods.py"
    done = child.run(program, method, str(int(called_before)), OMP_NUM_THREADS="2")
    workers = int(done.stdout)
    assert workers == (0 if method == "fork" and called_before else 2)
