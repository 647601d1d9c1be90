"""Processes: forks at bad moments, joblib, ends at bad moments, signals, lack of threads."""

import os
import subprocess
import sys

import pytest

# In a process of its own. `check` is what a child does; it answers by its exit code.
START = """
import faulthandler, os, signal, sys, threading, time, warnings
faulthandler.dump_traceback_later(50, exit=True)
warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: what is tested here
import numpy as np
import cython_sparseops as cso
h = cso.Hierarchy.balanced(5000)
W, b = cso.init_weights(h, 64, rng=0)
rng = np.random.default_rng(0)
X, labels = rng.normal(size=(500, 64)).astype("f"), rng.integers(0, 5000, 500)
def call(num_threads=3):
    return cso.hsoftmax(X, W, b, labels, h, num_threads=num_threads).tobytes()
def busy():
    while True:
        call()
def wait(child, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return f"the child still ran after {seconds} s"
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


# ---- promises: forks ----------------------------------------------------------------------------


@needs_fork
def test_children_forked_in_the_middle_of_other_threads_calls_finish(run_python):
    run_python(
        START
        + """
expected = call()
for _ in range(2):
    threading.Thread(target=busy, daemon=True).start()
for _ in range(15):
    child = os.fork()
    if child == 0:
        ok = call() == expected and cso.get_num_threads() == 1
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if call() == expected else 3)
        os._exit(0 if ok and wait(grandchild) == 0 else 4)
    assert (status := wait(child)) == 0, status
assert call() == expected
os._exit(0)
"""
    )


@needs_fork
def test_a_child_forked_during_the_first_call_of_all_finishes(run_python):
    """What is made once, at the first call, must not be half made for ever in the child."""
    run_python(
        START
        + """
def first_calls(started):
    started.set()
    call(None)
    cso.sparse_normalize(np.ones((300, 300)))
    cso.hsoftmax_search(X, W, b, h)
started = threading.Event()
thread = threading.Thread(target=first_calls, args=(started,))
thread.start()
started.wait()
child = os.fork()
if child == 0:
    first_calls(started)
    os._exit(0)
assert (status := wait(child)) == 0, status
thread.join()
"""
    )


@pytest.fixture
def run_script(tmp_path, run_python):
    """Runs code as a file, which processes that are started anew can import."""

    def run(code):
        script = tmp_path / "script.py"
        script.write_text(START + code)
        return run_python(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")

    return run


def test_processes_that_multiprocessing_starts_anew_give_the_same_bytes(run_script):
    run_script(
        """
import multiprocessing
def work(i):
    return call(2)
if __name__ == "__main__":
    alone = call()
    for method in {"forkserver", "spawn"} & set(multiprocessing.get_all_start_methods()):
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.map_async(work, range(2)).get(timeout=40) == [alone] * 2
"""
    )


@needs_fork
def test_the_processes_of_joblib_give_the_same_bytes(run_script):
    """loky starts them anew, its older backend forks. The tree is pickled, large arrays mapped."""
    pytest.importorskip("joblib", reason="joblib is not installed")
    run_script(
        """
from joblib import Parallel, delayed
def work(i, h, X):
    return cso.hsoftmax(X, W, b, labels, h).tobytes(), cso.get_num_threads()
if __name__ == "__main__":
    alone = call()
    calls = [delayed(work)(i, h, X) for i in range(4)]
    for backend, most in (("loky", max(1, os.cpu_count() // 2)), ("multiprocessing", 1)):
        found = Parallel(2, backend=backend, max_nbytes=1000, timeout=40)(calls)
        assert {nll for nll, _ in found} == {alone}
        assert max(n for _, n in found) <= most, (backend, found)  # its part of the cores
"""
    )


# ---- promises: ends -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end",
    [
        "call()",
        "time.sleep(0.1)",
        "threading.Thread(target=busy, daemon=True).start(); time.sleep(0.1)",
        "threading.Thread(target=busy, daemon=True).start(); time.sleep(0.1); os._exit(0)",
    ],
    ids=["workers spin", "workers sleep", "a daemon thread works", "_exit while a thread works"],
)
def test_a_process_ends_at_any_moment_with_exit_code_0(run_python, end):
    done = run_python(f"{START}call(); {end}")
    assert done.stderr == ""


# ---- promises: signals --------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_signals_go_to_the_program_and_not_to_a_worker(run_python):
    """One that it waits for (its default action in a worker would end the process), and Ctrl-C."""
    run_python(
        START
        + """
expected = call()
time.sleep(0.05)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.05)
assert signal.sigwait([signal.SIGTERM]) == signal.SIGTERM
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    busy()
except KeyboardInterrupt:
    assert call() == expected
else:
    raise AssertionError
""",
        OPENBLAS_NUM_THREADS="1",  # its threads do take signals
    )


# ---- edges --------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_process_that_gets_no_threads_does_the_work_on_those_it_has(tmp_path):
    """No room for stacks, as with too many processes (RLIMIT_NPROC), makes std::thread throw."""
    code = START.replace("faulthandler.dump", "# faulthandler.dump")  # it would be a thread more
    code += """
import resource
expected = call(1)
def tasks():
    return len(os.listdir("/proc/self/task"))
def limit(stacks):
    pages = int(open("/proc/self/statm").read().split()[0])
    room = pages * resource.getpagesize() + (256 << 20) + (stacks << 30)
    resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
before = tasks()
limit(0)
assert call(8) == call(8) == expected
assert tasks() == before, tasks() - before
limit(3)
assert call(8) == expected
assert before < tasks() <= before + 3, tasks() - before
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert call(8) == expected
assert tasks() == before + 7, "later there are threads again"
"""
    # The C library takes the size of a thread's stack from the limit at the start: 1 GiB.
    start = f'ulimit -S -s {1 << 20} && exec {sys.executable} -c "$CODE"'
    env = {**os.environ, "CODE": code, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        ["/bin/sh", "-c", start],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "ulimit" in done.stderr:
        pytest.skip("the limit of the stack cannot be raised here")
    assert done.returncode == 0, done.stderr


# ---- rejections ---------------------------------------------------------------------------------


def test_a_subinterpreter_refuses_the_package_clearly(run_python):
    """The compiled modules, like NumPy's, belong to the main interpreter."""
    done = run_python(
        START
        + """
for name in ("_interpreters", "_xxsubinterpreters"):
    try:
        interpreters = __import__(name)
    except ImportError:
        continue
    break
else:
    print("none")
    sys.exit()
code = '''
try:
    import cython_sparseops._core.runtime
    print("loaded", flush=True)
except ImportError as error:
    print("refused:", error, flush=True)
'''
interpreter = interpreters.create()
interpreters.run_string(interpreter, "import sys; sys.path[:] = %r\\n%s" % (sys.path, code))
"""
    )
    if "none" in done.stdout:
        pytest.skip("this Python has no module to make subinterpreters")
    assert "refused:" in done.stdout
