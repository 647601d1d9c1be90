"""The house rules of who may know whom, checked on the sources themselves.

Public headers know public headers, rooms know detail and kernels, these no room, C++ no Python,
kernel units no C++ library, Cython no NumPy; imports lead down, in no circle; `np.asarray` is in
one file, OpenMP in one place, an optional package in the module of its name.
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
SOURCES = import_graph.sources(CPP)
SHARED = [p for p in SOURCES if p.parent.name in ("detail", "kernels")]
ROOMS = [p for p in SOURCES if p not in PUBLIC and p not in SHARED]
MODULES = sorted(PYTHON.rglob("*.py"))
CORE = PYTHON / "_core"
TORCH = [p for p in (PYTHON / "_torch").glob("*.py") if p.name != "__init__.py"]
PYX = sorted([*CORE.glob("*.pyx"), *CORE.glob("*.pxd")])
GLUE = sorted(CORE.glob("*.hpp"))
TESTS = sorted(p for p in (ROOT / "tests").rglob("*") if p.suffix in (".py", ".hpp", ".cpp"))

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
    return import_graph.included(path, CPP)


def code(path):
    """A C++ or Cython file without comments and strings."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    text = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)
    return re.sub(r"//.*" if path.suffix in (".cpp", ".hpp", ".h") else r"#.*", "", text)


def imports(path):
    """Full names of what a Python file imports, each with its kind."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    known = import_graph.modules(PYTHON) if path.is_relative_to(PYTHON) else ()
    return set(import_graph.imported(path, name, known))


def test_there_is_something_to_check():
    assert PUBLIC
    assert ROOMS
    assert SHARED
    assert MODULES
    assert PYX
    assert GLUE


@each(SOURCES)
def test_sources_name_each_other_by_relative_paths(path):
    """So that they compile from any folder, without an include path."""
    assert not [i for i in includes(path) if i.startswith("sparseops/")]
    assert all((CPP / i).is_file() for i in own_includes(path))


@each(PUBLIC)
def test_a_public_header_includes_public_headers_alone(path):
    assert all(len(i.parts) == 1 for i in own_includes(path))


# Private headers that another room than their own includes, and why they are no public ones.
LENT = {
    # The search walks through the nodes by the scores of the softmax and what they say of the
    # children, which are no contract.
    ("search.cpp", "hsoftmax/score.hpp"),
    ("search/searcher.hpp", "hsoftmax/score.hpp"),
    ("search/searcher.hpp", "hsoftmax/child_log_p.hpp"),
    ("search/rows.hpp", "hsoftmax/sparse_score.hpp"),
    ("search/steps.hpp", "hsoftmax/sparse_score.hpp"),
    ("search/steps.hpp", "hsoftmax/child_log_p.hpp"),
    ("search/blocks.cpp", "hsoftmax/score.hpp"),
    ("search/forest.cpp", "hsoftmax/score.hpp"),
    ("search.cpp", "hsoftmax/backward.hpp"),  # the checks of its input
    ("search/bags.cpp", "hsoftmax/backward.hpp"),
    ("search/forest.cpp", "hsoftmax/backward.hpp"),
    # A step is taken where the backward pass hands over the gradient of a row.
    ("update/update.cpp", "hsoftmax/backward.hpp"),
    ("update/update.cpp", "normalize/named_rows.hpp"),
    ("bag.cpp", "update/steps.hpp"),
    ("bag/rows.hpp", "update/steps.hpp"),
    ("bag/bags.hpp", "dropout/bits.hpp"),
}


def test_a_private_header_serves_its_own_room():
    found = {
        (path.relative_to(CPP).as_posix(), i.as_posix())
        for path in ROOMS
        for i in own_includes(path)
        if len(i.parts) > 1 and i.parts[0] not in ("detail", "kernels")
        if import_graph.room(i) != import_graph.room(path.relative_to(CPP))
    }
    assert found == LENT


def test_the_rooms_of_the_core_include_each_other_in_no_circle():
    rooms = sorted({import_graph.room(path.relative_to(CPP)) for path in SOURCES})
    found = import_graph.core_arrows(CPP)
    assert import_graph.circles(rooms, found) == []
    assert len(import_graph.floors(rooms, found)) == len(rooms) > 10


def test_one_header_includes_all_public_ones():
    whole = CPP / "sparseops.hpp"
    assert {i.name for i in own_includes(whole)} == {p.name for p in PUBLIC} - {whole.name}


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
    names = {"size_t", "ptrdiff_t", "memcpy", "memmove", "memset", "uintptr_t"}
    names |= {f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)}
    units = [p for p in SHARED if p.parent.name == "kernels" and p.name != "dispatch.cpp"]
    own = {p.relative_to(CPP) for p in units}
    for path in units:
        assert set(own_includes(path)) <= own, path.name
        others = set(includes(path)) - {p.name for p in units}
        assert others <= allowed, path.name
        assert set(re.findall(r"\bstd::(\w+)", code(path))) <= names, path.name


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


ABOVE = [p for p in MODULES if p.parent.name in ("_cli", "_sklearn") or p.name == "sklearn.py"]


@each([*ABOVE, PYTHON / "torch.py", *TORCH])
def test_the_command_and_the_estimators_call_nothing_compiled(path):
    assert not [i for i, _ in imports(path) if i.startswith("cython_sparseops._core")]


# Optional packages outside the module of their name. All but the plots of the demo, a module that
# is itself imported late, and SciPy, which comes with scikit-learn, are imported where used.
OPTIONAL = {
    ("sklearn.py", "scipy", "eager"),
    ("_sklearn/callbacks.py", "sklearn", "eager"),
    ("_sklearn/hsoftmax.py", "sklearn", "eager"),
    ("_sklearn/hsoftmax.py", "scipy", "eager"),
    ("_sklearn/choose.py", "sklearn", "eager"),
    ("_sklearn/choose.py", "scipy", "eager"),
    ("_sklearn/label_tree.py", "sklearn", "eager"),
    ("_sklearn/label_tree.py", "scipy", "eager"),
    ("_jobs.py", "joblib", "lazy"),
    ("_models/linear.py", "scipy", "lazy"),
    ("_cli/labels.py", "scipy", "lazy"),
    ("_cli/readers.py", "sklearn", "lazy"),
    ("data/_taxonomies.py", "rdflib", "lazy"),
    ("_cli/demo.py", "scipy", "eager"),
    ("_cli/demo.py", "sklearn", "eager"),
    ("_cli/demo_plot.py", "matplotlib", "eager"),
    ("_evaluation.py", "matplotlib", "lazy"),
    ("_hierarchy_plot.py", "matplotlib", "lazy"),
    ("_linear.py", "tqdm", "lazy"),
    ("_models/gensim.py", "gensim", "lazy"),
    ("_models/progress.py", "tqdm", "lazy"),
    ("_sparse.py", "scipy", "lazy"),
    ("_threadpoolctl.py", "threadpoolctl", "lazy"),
    ("_sparse_weights.py", "scipy", "lazy"),
}


# The layer for torch is one room: every file of it may know the package.
OPTIONAL |= {(p.relative_to(PYTHON).as_posix(), "torch", "eager") for p in TORCH}


def test_an_optional_package_is_imported_by_the_module_of_its_name():
    usual = {*sys.stdlib_module_names, "numpy", "cython_sparseops"}
    found = {
        (path.relative_to(PYTHON).as_posix(), full.partition(".")[0], kind)
        for path in MODULES
        for full, kind in imports(path)
        if kind != "type"  # what an annotation names is not imported
    }
    others = {one for one in found if one[1] not in usual and one[0] != f"{one[1]}.py"}
    assert others == OPTIONAL


@each(PYX)
def test_cython_only_declares_and_calls(path):
    """C++ stands in headers, which formatters and linters read; NumPy's C API in one of them."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\bprange\b|\bwith gil\b|\bc?import numpy\b|\bdistutils\b", code(path))
    assert not re.search(r"\bextern from \*|<numpy/", text)


@each(GLUE)
def test_one_header_knows_the_c_api_of_numpy(path):
    knows = [i for i in includes(path) if i.startswith("numpy/")]
    assert bool(knows) == (path.name == "ndarray.hpp")


def test_the_oracle_imports_nothing_compiled():
    for name in ("reference.py", "reference_sparse.py"):
        found = imports(ROOT / "tests" / "helpers" / name)
        assert {i.partition(".")[0] for i, _ in found} <= {*sys.stdlib_module_names, "numpy"}


# Floors that a public header has not, and why.
LACKING = {
    "sparseops.hpp": {"C++", "Cython", "Python"},  # includes the others
    "types.hpp": {"C++", "Cython", "Python"},  # views alone
    "weights.hpp": {"C++", "Cython", "Python"},  # views alone
    "runtime.hpp": {"C++"},  # detail/ and kernels/ implement it
    "model_file.hpp": {"Cython", "Python"},  # _storage.py writes its files, in Python alone
    "cluster.hpp": {"C++"},  # builds trees: it lies in the room hierarchy
}


def test_every_room_has_its_floors():
    """One operator, one name: header, source, Cython and Python."""
    found = {}
    for header in PUBLIC:
        room = header.stem
        floors = {
            "C++": (CPP / f"{room}.cpp").exists() or (CPP / room).is_dir(),
            "Cython": (CORE / f"{room}.pyx").exists(),
            "Python": (PYTHON / f"_{room}.py").exists(),
        }
        found[header.name] = {floor for floor, is_there in floors.items() if not is_there}
    assert {header: floors for header, floors in found.items() if floors} == LACKING


@pytest.mark.parametrize("function", sorted(cso.__all__))
def test_no_module_has_the_name_of_a_function(function):
    assert importlib.util.find_spec(f"cython_sparseops.{function}") is None


# From top to bottom; a module or folder imports those of its own floor and of the floors below.
FLOORS = [
    {"__main__", "cli", "_cli", "data"},  # the command and the public readers share theirs
    {"sklearn", "_sklearn", "bag", "torch", "_torch"},
    {"__init__"},
    {"_models"},
    set(),  # the operators: every other module
    {"_arrays", "_sparse", "_runtime", "_storage", "_safetensors", "_table", "_devel"},
    {"_core"},
]


def floor_of(module):
    part = [*module.split("."), "__init__"][1]
    return next((i for i, floor in enumerate(FLOORS) if part in floor), FLOORS.index(set()))


def test_a_module_imports_from_its_own_floor_and_those_below():
    found = import_graph.arrows(PYTHON)
    assert {floor_of(arrow.source) for arrow in found} == set(range(len(FLOORS) - 1))
    upward = {arrow for arrow in found if floor_of(arrow.source) > floor_of(arrow.target)}
    assert not [arrow for arrow in upward if arrow[:2] not in LAZY or arrow.kind == "eager"]


# Imports inside functions that lead upward, and why they cannot lead down.
LAZY = {
    # Hierarchy.choose times operators, and operators take a Hierarchy.
    ("cython_sparseops._hierarchy", "cython_sparseops._hierarchy_choose"),
    # A model of fastText gives the estimator of itself.
    ("cython_sparseops._models.fasttext", "cython_sparseops.sklearn"),
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
    files = [*SOURCES, *MODULES, *PYX, *GLUE, *TESTS]
    assert not {name(p): code_lines(p) for p in files if code_lines(p) > 450}
