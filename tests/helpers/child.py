"""Code in an interpreter of its own: a function of a test, a script file, or a few words."""

import importlib.util
import inspect
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ANSWER = "import sys; from helpers.child import answer; answer(*sys.argv[1:])"


class Child:
    """Starts interpreters in a folder; those still running are ended with `kill`."""

    def __init__(self, folder):
        self.folder, self._started, self._calls = folder, [], 0

    def run(self, program, *arguments, check=True, timeout=60, isa=None, **options):
        """Run to the end: what it said, and how it ended.

        `program` is code, the Path of a script, a function of no result, or a list of arguments of
        the interpreter. `isa` forces an instruction set. Options in capitals are variables of the
        environment, the others those of subprocess.
        """
        command, options = self._prepare(program, arguments, isa, options)
        options = {"capture_output": True} | options
        done = subprocess.run(command, timeout=timeout, text=True, check=False, **options)
        assert not check or done.returncode == 0, done.stderr
        return done

    def start(self, program, *arguments, isa=None, **options):
        """Begin; the process, its streams in pipes."""
        command, options = self._prepare(program, arguments, isa, options)
        pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        self._started.append(subprocess.Popen(command, text=True, **(pipes | options)))
        return self._started[-1]

    def call(self, function, *arguments, **options):
        """What function(*arguments) returns there: a pickle, or None if it ends the process."""
        self._calls += 1
        result = self.folder / f"result{self._calls}.pickle"
        self.run(function, *arguments, result=result, **options)
        return pickle.loads(result.read_bytes()) if result.exists() else None

    def kill(self):
        for process in self._started:
            process.kill()
            process.communicate()

    def _prepare(self, program, arguments, isa, options):
        variables = {name: options.pop(name) for name in list(options) if name.isupper()}
        if isa is not None:
            variables["SPARSEOPS_ISA"] = isa
        inherited = {name: text for name, text in os.environ.items() if name != "SPARSEOPS_ISA"}
        path = os.pathsep.join(filter(None, [os.fspath(TESTS), inherited.get("PYTHONPATH")]))
        env = inherited | {"PYTHONPATH": path} | variables
        if callable(program):
            file, name = inspect.getfile(program), program.__qualname__
            result = options.pop("result", os.devnull)
            program, arguments = (
                ["-c", ANSWER, file, name, os.fspath(result)],
                [pickle.dumps(arguments).hex()],
            )
        elif isinstance(program, Path):
            program = [os.fspath(program)]
        elif isinstance(program, str):
            program = ["-c", program]
        command = [sys.executable, *map(os.fspath, (*program, *arguments))]
        return command, {"cwd": self.folder, "env": env} | options


def answer(file, name, result, arguments):
    """In the child: call function `name` of a file and leave in `result` what it returns."""
    module_name = Path(file).stem
    spec = importlib.util.spec_from_file_location(module_name, file)
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    value = getattr(module, name)(*pickle.loads(bytes.fromhex(arguments)))
    Path(result).write_bytes(pickle.dumps(value))


def wait(process, seconds=30):
    """The exit code of a forked process, or what to say of one that had to be ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return f"the child still ran after {seconds} s"
