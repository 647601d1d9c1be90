"""Tests a wheel as its users will have it: installed in a clean place, away from the sources.

python wheels/test.py WHEEL --python PYTHON...       # the whole suite, with every extra
python wheels/test.py WHEEL --bare --python PYTHON   # with NumPy alone
python wheels/test.py WHEEL --cpu Nehalem --cpu Haswell-noTSX   # the core on older processors
python wheels/test.py WHEEL --run 'qemu-aarch64-static -L ROOT ROOT/usr/bin/python3.11'
python wheels/test.py WHEEL --run MUSL/bin/python3.13

--cpu needs qemu-x86_64-static. With --run, packages for the wheel's platform are unpacked beside
it, because the interpreter may have no pip: interpreters.sh makes such ones. Both run the tests of
the operators (CORE) but those that start other processes.
"""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from check import FIRST_USE

ROOT = Path(__file__).resolve().parents[1]
EXPECTED = {"Nehalem": "baseline", "Haswell-noTSX": "avx2"}
CORE = ["tests/operators", "tests/models/test_bag.py", "tests/models/test_storage.py"]
CORE += [
    f"tests/promises/test_{name}.py"
    for name in ("hsoftmax_promises", "normalize_promises", "runtime", "storage_interrupted")
]
EMULATED = ["-p", "emulated", *CORE]
SLOW = {"HYPOTHESIS_PROFILE": "emulated"}  # fewer generated examples a test
VXORPS = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("c5fc57c0c5f877c3"))  # vxorps ymm0, ymm0, ymm0; vzeroupper; ret
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""


def run(*command, **environment):
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SPARSEOPS_ISA")}
    env["PYTHONSAFEPATH"] = "1"  # the sources are in the working folder, also for what tests start
    command = [str(word) for word in command]
    return subprocess.run(
        command, cwd=ROOT, env=env | environment, text=True, check=False, capture_output=True
    )


def succeed(*command, **environment):
    done = run(*command, **environment)
    if done.returncode:
        raise SystemExit(
            f"{shlex.join(map(str, command))}\n{done.stdout[-8000:]}{done.stderr[-8000:]}"
        )
    return done.stdout


def suite(title, python, arguments, **environment):
    """First use, then the tests; one line of result."""
    told = succeed(*python, "-P", "-c", FIRST_USE, **environment)
    if str(ROOT / "cython_sparseops") in told:
        raise SystemExit(f"the sources were imported, not the wheel: {told}")
    begin = time.monotonic()
    options = ("-P", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    out = succeed(*python, *options, *arguments, **environment)
    print(f"{title}: {out.strip().splitlines()[-1]}; {time.monotonic() - begin:.0f} s", flush=True)


def environment_of(python, wheel, home, extras):
    """The interpreter of a clean environment that holds the wheel and what its tests need."""
    succeed(python, "-m", "venv", home)
    packages = [f"{wheel}[test]"] if extras else [wheel, "pytest", "hypothesis"]
    succeed(
        home / "bin/python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *packages
    )
    return home / "bin/python"


def test_cpu(model, python, wheel, home):
    """On an older processor: nothing that it lacks runs, and the best set that it has is chosen."""
    emulated = [
        "qemu-x86_64-static",
        "-cpu",
        model,
        environment_of(python, wheel, home, extras=False),
    ]
    has_avx = model != "Nehalem"
    control = run(*emulated, "-c", VXORPS).returncode
    if (control == 0) != has_avx or (not has_avx and control != -signal.SIGILL):
        raise SystemExit(
            f"the emulated {model} should be one, an AVX instruction returned {control}"
        )
    told = succeed(
        *emulated, "-P", "-c", "import cython_sparseops as c; print(c.runtime_info().active)"
    )
    active = told.strip()
    if active != EXPECTED[model]:
        raise SystemExit(f"{model} should use {EXPECTED[model]}, it uses {active}")
    for isa in ("avx2", "avx512"):
        done = run(*emulated, "-P", "-c", FIRST_USE, SPARSEOPS_ISA=isa)
        if isa != active and (done.returncode != 1 or "SPARSEOPS_ISA" not in done.stderr):
            raise SystemExit(
                f"{model} should refuse {isa}, it returned {done.returncode}\n{done.stderr}"
            )
    environment = {"PYTHONPATH": str(ROOT / "wheels")} | SLOW
    suite(f"{model} ({active})", emulated, EMULATED, **environment)


def test_run(command, wheel, home):
    """With an interpreter that cannot install: the pip of this one unpacks what it needs."""
    python = shlex.split(command)
    version = succeed(*python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    tag = wheel.stem.rpartition("-")[2].split(".")[0]
    libc, arch = re.match(r"(manylinux|musllinux).*_(x86_64|aarch64)$", tag).groups()
    newer = {"manylinux": ["2_28", "2_27", "2_17"], "musllinux": ["1_2", "1_1"]}[libc]
    platforms = [tag, *(f"{libc}_{n}_{arch}" for n in newer)]
    options = ["--only-binary", ":all:", "--target", home, "--python-version", version]
    options += [word for p in platforms for word in ("--platform", p)]
    packages = [wheel, "pytest", "hypothesis"]
    succeed(sys.executable, "-m", "pip", "install", "--quiet", *options, *packages)
    path = os.pathsep.join([str(home), str(ROOT / "wheels")])
    environment = {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"} | SLOW
    suite(f"{tag}, CPython {version}", python, EMULATED, **environment)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", nargs="+", default=[], help="interpreters to test with")
    parser.add_argument("--bare", action="store_true", help="without the extras")
    parser.add_argument("--cpu", action="append", default=[], choices=EXPECTED)
    parser.add_argument("--run", action="append", default=[], help="the command of an interpreter")
    arguments = parser.parse_args()
    wheel = arguments.wheel.resolve()
    with tempfile.TemporaryDirectory() as top:
        for i, python in enumerate(arguments.python):
            home = Path(top) / f"venv{i}"
            installed = environment_of(python, wheel, home, extras=not arguments.bare)
            version = succeed(installed, "-c", "import sys; print(sys.version)").partition(" (")[0]
            suite(f"CPython {version}", [installed], ["tests"])
        for model in arguments.cpu:
            test_cpu(model, sys.executable, wheel, Path(top) / model)
        for i, command in enumerate(arguments.run):
            test_run(command, wheel, Path(top) / f"site{i}")


if __name__ == "__main__":
    main()
