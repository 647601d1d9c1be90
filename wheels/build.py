"""Builds Linux wheels from packages of PyPI alone: zig is the compiler, for every target.

python wheels/build.py                        # all targets, one cp311-abi3 wheel each, into dist/
python wheels/build.py manylinux_x86_64       # one of them
python3.14t wheels/build.py manylinux_x86_64  # without the GIL: for that version

An interpreter with its headers (CPython 3.11 or newer) is all that must be there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "wheels"
TARGETS = {  # zig's name of the target, the tag of the wheel
    "manylinux_x86_64": ("x86_64-linux-gnu.2.17", "manylinux2014_x86_64"),
    "manylinux_aarch64": ("aarch64-linux-gnu.2.17", "manylinux2014_aarch64"),
    "musllinux_x86_64": ("x86_64-linux-musl", "musllinux_1_2_x86_64"),
    "musllinux_aarch64": ("aarch64-linux-musl", "musllinux_1_2_aarch64"),
}
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def run(*command, **environment):
    subprocess.run([str(c) for c in command], check=True, env=os.environ | environment)


def tools():
    """The folder of the tools' programs: an environment of their own, made once."""
    home = WORK / f"tools-{sysconfig.get_config_var('SOABI')}"
    wanted = (ROOT / "wheels" / "requirements.txt").read_text()
    done = home / "done"
    if not done.exists() or done.read_text() != wanted:
        run(sys.executable, "-m", "venv", "--clear", home)
        run(home / "bin/pip", "install", "--quiet", "-r", ROOT / "wheels" / "requirements.txt")
        done.write_text(wanted)
    return home / "bin"


def objects(build, isa):
    return sorted((build / "CMakeFiles" / f"sparseops{isa and '_' + isa}.dir").rglob("*.o"))


def check_objects(bin_, build):
    """The tests of symbols and instructions (tests/cpp) on the objects of this very build."""
    nm, objdump = shutil.which("nm"), shutil.which("objdump")
    if not (nm and objdump):
        print("no nm and objdump here: the objects were not looked at")
        return
    scripts = ROOT / "tests" / "cpp"
    for isa in ("", "baseline", "avx2", "avx512", "avx512vnni"):
        files = "|".join(str(p) for p in objects(build, isa))
        tables = "quantized" if isa == "avx512vnni" else "half|kernels|linear|quantized|stream"
        arguments = (f"-DISA={isa or 'none'}", f"-DOBJECTS={files}", f"-DTABLES={tables}")
        arguments += (f"-DNM={nm}", f"-DOBJDUMP={objdump}", "-P")
        run(bin_ / "cmake", *arguments, scripts / "check_instructions.cmake")
        if isa:
            run(bin_ / "cmake", *arguments, scripts / "check_symbols.cmake")


def build(target, out):
    triple, platform = TARGETS[target]
    arch = triple.partition("-")[0]
    bin_ = tools()
    zig = next(bin_.parent.glob("lib/python*/site-packages/ziglang/zig"))
    home = WORK / f"{platform}-{sysconfig.get_config_var('SOABI')}"
    raw = home / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    settings = [f"build-dir={home / 'build'}"]
    settings += [f"cmake.define.CMAKE_TOOLCHAIN_FILE={ROOT / 'wheels' / 'zig.cmake'}"]
    settings += ["cmake.define.SPARSEOPS_DEVEL=sources"]  # a library would need zig's libc++
    settings += ["cmake.define.SPARSEOPS_OPENMP=OFF"]  # README.md says why
    if not FREE_THREADED:
        settings += ["wheel.py-api=cp311"]
    last_commit = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    run(
        *(bin_ / "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", raw, ROOT),
        *(word for setting in settings for word in ("-C", setting)),
        PATH=f"{bin_}:{os.environ['PATH']}",
        ZIG=str(zig),
        ZIG_TARGET=triple,
        _PYTHON_HOST_PLATFORM=f"linux-{arch}",
        SOURCE_DATE_EPOCH=last_commit.stdout.strip() or "315532800",
    )
    if arch == "x86_64":
        check_objects(bin_, home / "build")
    (wheel,) = raw.glob("*.whl")
    # The modules need libc alone (check.py sees to it): nothing to bundle, only the tag to say.
    tags = platform.replace("2014", "_2_17") + "." + platform if "2014" in platform else platform
    run(bin_ / "wheel", "tags", "--remove", "--platform-tag", tags, wheel)
    (wheel,) = raw.glob("*.whl")
    out.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy2(wheel, out)), bin_


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(TARGETS))
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"target must be one of {', '.join(TARGETS)}, got {', '.join(unknown)}")
    for target in arguments.targets or TARGETS:
        begin = time.monotonic()
        wheel, bin_ = build(target, arguments.out)
        run(bin_ / "python", ROOT / "wheels" / "check.py", wheel)
        print(f"{wheel.name}: built and checked in {time.monotonic() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
