"""Looks into wheels: tag, contents, libraries, symbols, paths, size, stable ABI; then a first use.

python wheels/check.py WHEEL...   # with abi3audit and pyelftools installed

A wheel holds the package's Python files, one file with the modules of all .pyx, and, for C++ users,
headers, the library or its sources, and the files of CMake and pkg-config; nothing else.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from io import BytesIO
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

PACKAGE = Path(__file__).resolve().parents[1] / "cython_sparseops"
ROOMS = sorted(["common", *(path.stem for path in (PACKAGE / "_core").glob("*.pyx"))])
MAX_BYTES = 3_000_000
DEVEL = re.compile(
    r"cython_sparseops/(include/sparseops/\w+\.hpp"
    r"|lib/libsparseops\.a|lib/sparseops\.lib"
    r"|lib/cmake/sparseops/[\w-]+\.cmake|lib/pkgconfig/sparseops\.pc"
    r"|share/sparseops/src/(.+/)?(CMakeLists\.txt|[\w-]+\.(cpp|hpp|cmake)))"
)
SYSTEM = {
    "manylinux": r"lib(c|m|pthread|dl|rt|gcc_s)\.so\.\d|ld-linux.*",
    "musllinux": r"libc\.so|libc\.musl.*",
}
PATHS = rb"/(?:home|root|tmp|Users|build|project|work|opt|io)/[\w./+-]{3,}"
MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
FIRST_USE = """
import sys, sysconfig
import numpy as np, cython_sparseops as cso
h = cso.Hierarchy.huffman(1000 // np.arange(1, 101))
W, b = cso.init_weights(h, dim=16, rng=0)
X = np.random.default_rng(0).standard_normal((300, 16), dtype=np.float32)
log_p = cso.hsoftmax_log_proba(X, W, b, h)
assert np.abs(np.exp(log_p).sum(axis=1) - 1).max() < 1e-6
top = cso.hsoftmax_search(X, W, b, h, k=5)
assert (np.take_along_axis(log_p, top.classes, 1) == top.log_probs).all()
assert (log_p.max(axis=1) == top.log_probs[:, 0]).all()
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    assert not sys._is_gil_enabled(), "the modules switched the GIL on"
print(cso.__file__, cso.runtime_info(), sep="\\n")
"""


def require(condition, *words):
    if not condition:
        raise SystemExit(" ".join(str(word) for word in words))


def check_contents(names, modules):
    """The Python files of the source tree and one compiled file, no less and no more."""
    kept = {p.relative_to(PACKAGE.parent).as_posix() for p in PACKAGE.rglob("*") if p.is_file()}
    skip = r"__pycache__|\.(pyx|so|pyd|c|cpp)$|/data/wordnet/"
    kept = {name for name in kept if not re.search(skip, name) and not DEVEL.fullmatch(name)}
    found = {n for n in names if not n.partition("/")[0].endswith(".dist-info")} - set(modules)
    more = {n for n in found - kept if not DEVEL.fullmatch(n)}
    require(not more, "the wheel should hold no other file, it holds", sorted(more))
    require(not kept - found, "the wheel should hold", sorted(kept - found))
    require(len(modules) == 1, "the wheel should hold one compiled file, it holds", list(modules))


def check_elf(name, data, tag):
    """Machine, libraries, symbols of the compiled file for Linux."""
    elf = ELFFile(BytesIO(data))
    libc, arch = re.match(r"(manylinux|musllinux).*_(x86_64|aarch64)$", tag).groups()
    require(elf["e_machine"] == MACHINES[arch], name, "should be for", arch, elf["e_machine"])
    dynamic = elf.get_section_by_name(".dynamic")
    needed = [t.needed for t in dynamic.iter_tags() if t.entry.d_tag == "DT_NEEDED"]
    foreign = [n for n in needed if not re.fullmatch(SYSTEM[libc], n)]
    require(not foreign, name, "should need libraries of the system alone, it needs", foreign)
    paths = [t for t in dynamic.iter_tags() if t.entry.d_tag in ("DT_RPATH", "DT_RUNPATH")]
    require(not paths, name, "should have no run path")
    symbols = elf.get_section_by_name(".dynsym").iter_symbols()
    exported = [s.name for s in symbols if s["st_shndx"] != "SHN_UNDEF" and s.name]
    wanted = [f"PyInit_{room}" for room in ROOMS]
    require(sorted(exported) == wanted, name, "should export", wanted, "alone, not", exported)
    require(not elf.get_section_by_name(".symtab"), name, "should be stripped")
    for section in elf.iter_sections():
        if libc == "manylinux" and isinstance(section, GNUVerNeedSection):
            versions = [aux.name for _, auxes in section.iter_versions() for aux in auxes]
            glibc = [tuple(map(int, v[6:].split("."))) for v in versions if v.startswith("GLIBC_")]
            wanted = (2, 17) if "2014" in tag else tuple(map(int, tag.split("_")[1:3]))
            require(max(glibc, default=(0,)) <= wanted, name, "should need glibc", wanted, glibc)


def check(wheel):
    """Prints a line about a wheel that is right; ends the program at the first thing wrong."""
    _, _, python, abi, tag = wheel.stem.rsplit("-", 4)
    with zipfile.ZipFile(wheel) as archive:
        files = {i.filename: archive.read(i) for i in archive.infolist() if not i.is_dir()}
    compiled = re.compile(r"cython_sparseops/_core/\w+\.[\w.-]*(so|pyd)")
    modules = {n: d for n, d in files.items() if compiled.fullmatch(n)}
    metadata = next(d for n, d in files.items() if n.endswith(".dist-info/WHEEL")).decode()
    tags = {f"{python}-{abi}-{t}" for t in tag.split(".")}
    require(set(re.findall("^Tag: (.*)", metadata, re.MULTILINE)) == tags, "WHEEL should say", tags)
    require("Root-Is-Purelib: false" in metadata, "WHEEL should say that this is no pure library")
    stable = abi == "abi3"
    require(not stable or python == "cp311", "a stable-ABI wheel should be for cp311, not", python)
    require(
        stable or re.fullmatch(r"cp3\d+t", abi),
        "only free-threaded wheels have their own ABI, not",
        abi,
    )
    check_contents(files, modules)
    bills = [json.loads(d) for n, d in files.items() if ".dist-info/sboms/" in n]
    require([b["bomFormat"] for b in bills] == ["CycloneDX"], "the wheel should hold one SBOM")
    for name, data in modules.items():
        if "linux" in tag:
            check_elf(name, data, tag.split(".")[0])
        require(stable == (".abi3." in name or name.endswith(".pyd")), name, "has the wrong suffix")
    for name, data in files.items():
        found = re.search(PATHS, data) if not name.endswith((".xz", ".npz", ".py")) else None
        require(not found, name, "should hold no path of the builder, it holds", found and found[0])
    size = wheel.stat().st_size
    require(size <= MAX_BYTES, "a wheel should have at most", MAX_BYTES, "bytes, not", size)
    if stable:
        subprocess.run([sys.executable, "-m", "abi3audit", "--strict", str(wheel)], check=True)
    print(f"{wheel.name}: as it should be, {size / 1e6:.2f} MB, {len(files)} files", flush=True)
    return python, abi, tag


def runs_here(python, abi, tag):
    libc = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
    here = libc in tag if sys.platform == "linux" else sys.platform[:3] in tag
    own = python == f"cp3{sys.version_info.minor}" and abi.endswith("t")
    free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    return here and platform.machine().lower() in tag and (own if free_threaded else abi == "abi3")


def first_use(wheel):
    """Installs a wheel into a clean environment and works with it."""
    with tempfile.TemporaryDirectory() as home:
        venv.create(home, with_pip=True)
        python = next(
            p for p in (Path(home) / "bin/python", Path(home) / "Scripts/python.exe") if p.exists()
        )
        install = ["install", "--quiet", "--only-binary", ":all:"]  # NumPy not from its sources
        subprocess.run([python, "-m", "pip", *install, str(wheel)], check=True)
        subprocess.run([python, "-I", "-c", FIRST_USE], check=True, cwd=home)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheels", nargs="+", type=Path, metavar="WHEEL")
    for wheel in parser.parse_args().wheels:
        if runs_here(*check(wheel.resolve())):
            first_use(wheel.resolve())


if __name__ == "__main__":
    main()
