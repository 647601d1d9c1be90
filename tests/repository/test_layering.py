"""The house rules of who may know whom, checked on the sources themselves.

Public headers know public headers, rooms know detail and kernels, these no room, C++ no Python,
kernel units no C++ library; `np.asarray` is in one file; models use public names only; OpenMP is
in one place.
"""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest

import cython_sparseops as cso
from repository import import_graph

ROOT = Path(__file__).resolve().parents[2]
CPP, PYTHON = ROOT / "src" / "sparseops", ROOT / "cython_sparseops"
PUBLIC = sorted(CPP.glob("*.hpp"))
SOURCES = sorted(p for p in CPP.rglob("*") if p.suffix in (".hpp", ".cpp", ".h"))
SHARED = [p for p in SOURCES if p.parent.name in ("detail", "kernels")]
ROOMS = [p for p in SOURCES if p not in PUBLIC and p not in SHARED]
MODULES = sorted(PYTHON.rglob("*.py"))
CORE = PYTHON / "_core"
PYX = sorted([*CORE.glob("*.pyx"), *CORE.glob("*.pxd")])

pytestmark = pytest.mark.skipif(not CPP.is_dir(), reason="the sources are not here")


def name(path):
    return path.relative_to(ROOT).as_posix()


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=name)


def includes(path):
    """What a C++ file includes, as written between the quotes or brackets."""
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def own_includes(path):
    """The files of ours among them, as paths from src/sparseops."""
    found = re.findall(r'^\s*#\s*include\s*"([^"]+)"', path.read_text(), re.MULTILINE)
    return [(path.parent / i).resolve().relative_to(CPP.resolve()) for i in found]


def code(path):
    """A C++ or Cython file without comments and strings."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    text = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)
    return re.sub(r"//.*" if path.suffix in (".cpp", ".hpp", ".h") else r"#.*", "", text)


def imports(path):
    """Full names of what a Python file imports."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    known = import_graph.modules(PYTHON) if path.is_relative_to(PYTHON) else ()
    return {target for target, _ in import_graph.imported(path, name, known)}


def test_there_is_something_to_check():
    assert PUBLIC
    assert ROOMS
    assert SHARED
    assert MODULES
    assert PYX


@each(SOURCES)
def test_sources_name_each_other_by_relative_paths(path):
    """So that they compile from any folder, without an include path."""
    assert not [i for i in includes(path) if i.startswith("sparseops/")]
    assert all((CPP / i).is_file() for i in own_includes(path))


@each(PUBLIC)
def test_a_public_header_includes_public_headers_alone(path):
    assert all(len(i.parts) == 1 for i in own_includes(path))


@each(SHARED)
def test_what_all_share_includes_no_room(path):
    implements_runtime = path.name in ("parallel.cpp", "dispatch.cpp")
    for i in own_includes(path):
        allowed = i.parts[0] in ("detail", "kernels") or i.name == "types.hpp"
        assert allowed or (implements_runtime and i.name == "runtime.hpp"), i


def test_detail_holds_what_all_share():
    """What serves one room lies with that room."""
    lines = sum(len(p.read_text().splitlines()) for p in SHARED if p.parent.name == "detail")
    assert lines < 1000


@each(SOURCES)
def test_cpp_never_sees_python(path):
    assert not [i for i in includes(path) if re.search(r"python|numpy|cython", i, re.IGNORECASE)]
    assert not re.search(r"\bPy(Object|Gil|GIL|Err|_)\w*", code(path))


def test_kernel_units_include_c_headers_alone():
    """A template of the standard library compiled for AVX-512 may be the copy the linker keeps."""
    allowed = {"cstddef", "cstring", "cstdint", "immintrin.h", "arm_neon.h"}
    words = r"std::(?!(?:size|ptrdiff|u?int(?:\d+|ptr))_t\b|mem)\w+"
    units = [p for p in SHARED if p.parent.name == "kernels" and p.name != "dispatch.cpp"]
    own = {p.relative_to(CPP) for p in units}
    for path in units:
        assert set(own_includes(path)) <= own, path.name
        others = set(includes(path)) - {p.name for p in units}
        assert others <= allowed, path.name
        assert not re.findall(words, code(path)), path.name


@each(SOURCES)
def test_only_parallel_knows_openmp(path):
    uses = "omp.h" in includes(path) or re.search(r"#\s*pragma\s+omp|\bomp_\w+\(", code(path))
    assert not uses or path.name in ("parallel.hpp", "parallel.cpp")


@each(SOURCES)
def test_only_parallel_starts_threads(path):
    uses = {"thread", "future", "pthread.h"} & set(includes(path)) | set(
        re.findall(r"std::j?thread\b|std::async\b", code(path))
    )
    assert not uses or path.name in ("parallel.hpp", "parallel.cpp")


@each([p for p in SOURCES if p.name != "random.hpp"])
def test_only_random_makes_random_numbers(path):
    assert not {"random"} & set(includes(path))
    assert not re.search(r"std::(mt19937|rand\b|random_device)|\bsrand\b", code(path))


@each(MODULES)
def test_only_arrays_turns_things_into_arrays(path):
    found = re.findall(r"\bnp\.as(?:any)?array\(", path.read_text())
    assert not found or path.name == "_arrays.py"


@each([p for p in MODULES if p.parent.name == "_cli" or p.name == "sklearn.py"])
def test_the_command_and_the_estimators_call_nothing_compiled(path):
    assert not [i for i in imports(path) if i.startswith("cython_sparseops._core")]


OPERATORS = [p for p in PYTHON.glob("_*.py") if p.name != "__main__.py"]


@each(OPERATORS)
def test_no_room_needs_more_than_numpy(path):
    tops = {i.partition(".")[0] for i in imports(path)}
    eager = {
        i.partition(".")[0]
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for i in [getattr(node, "module", None) or node.names[0].name]
        if not getattr(node, "level", 0)
    }
    assert eager <= set(sys.stdlib_module_names) | {"numpy", "cython_sparseops"}
    assert not tops & {"cython"}


@each([p for p in PYX if p.suffix == ".pyx"])
def test_cython_only_declares_and_calls(path):
    text = code(path)
    assert not re.search(r"\bprange\b|\bwith gil\b|\bcimport numpy\b|\bimport numpy\b", text)
    assert "distutils" not in path.read_text()


def test_the_oracle_imports_nothing_compiled():
    found = imports(ROOT / "tests" / "helpers" / "reference.py")
    assert {i.partition(".")[0] for i in found} <= set(sys.stdlib_module_names) | {"numpy"}


def test_every_room_has_its_floors():
    """One operator, one name: header, source, Cython and Python."""
    for header in PUBLIC:
        room = header.stem
        if room in ("types", "weights", "model_file"):  # _storage.py writes the last one's files
            continue
        if room != "runtime":
            assert (CPP / f"{room}.cpp").exists() or (CPP / room).is_dir(), f"{room}.cpp"
        assert (CORE / f"{room}.pyx").exists(), f"_core/{room}.pyx"
        assert (PYTHON / f"_{room}.py").exists() or room == "bag", f"_{room}.py"


@pytest.mark.parametrize("function", sorted(cso.__all__))
def test_no_module_has_the_name_of_a_function(function):
    assert importlib.util.find_spec(f"cython_sparseops.{function}") is None


# Imports inside functions that lead upward, and why they cannot lead down.
LAZY = {
    # Hierarchy.choose times operators, and operators take a Hierarchy.
    ("cython_sparseops._hierarchy", "cython_sparseops._hierarchy_choose"),
}


def test_imports_run_in_no_circle_and_down_alone():
    found = import_graph.arrows(PYTHON)
    assert {a[:2] for a in found if a.kind == "lazy"} >= LAZY
    kept = [a for a in found if a.kind == "eager" or a[:2] not in LAZY]
    names = import_graph.modules(PYTHON)
    assert import_graph.circles(names, kept) == []
    assert len(import_graph.floors(names, kept)) == len(names)


def test_a_circle_of_imports_is_found(tmp_path):
    folder = tmp_path / "ring"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "a.py").write_text("from . import b\n")
    (folder / "b.py").write_text("def f():\n    import ring.c\n")
    (folder / "c.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import x\n"
    )
    found = import_graph.arrows(folder)
    assert import_graph.circles(import_graph.modules(folder), found) == [
        ["ring.a", "ring.b", "ring.c"]
    ]
    assert [a.kind for a in found] == ["eager", "lazy", "type"]


def code_lines(path):
    """Lines of code: of a Python file neither docstrings nor comments nor blank ones."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return len(text.splitlines())
    skipped = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped |= set(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(n not in skipped and not re.match(r"\s*(#.*)?$", line) for n, line in lines)


def test_a_file_stays_short():
    files = [*SOURCES, *MODULES, *PYX]
    assert not {name(p): code_lines(p) for p in files if code_lines(p) > 450}
