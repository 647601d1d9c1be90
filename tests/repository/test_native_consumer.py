"""C++ projects that use the library: found, built and run in every way that the README names."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import cython_sparseops as cso
from helpers.batches import make_batch
from helpers.hierarchies import BUILDERS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "tests" / "examples"
CXX = os.environ.get("CXX") or shutil.which("c++")
COMPILERS = [c for c in (CXX, *map(shutil.which, ("clang++", "clang++-14"))) if c]
PKG_CONFIG = [shutil.which("pkg-config")]
if not PKG_CONFIG[0]:
    PKG_CONFIG = [sys.executable, "-m", "pkgconf"] if find_spec("pkgconf") else []

pytestmark = pytest.mark.skipif(
    not (CXX and shutil.which("cmake")), reason="no C++ compiler or no CMake here"
)
needs_sklearn = pytest.mark.skipif(not find_spec("sklearn"), reason="no scikit-learn here")


def run(*command, **options):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=900, **options
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def build_examples(folder, *settings):
    # Kernels of AVX-512 are a third of what compiles, where the core does.
    run("cmake", "-S", EXAMPLES, "-B", folder, "-DSPARSEOPS_AVX512=OFF", *settings)
    run("cmake", "--build", folder, "-j2")
    return folder / "top_k"


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A copy of what the package brings: it must not matter where it lies."""
    package = Path(cso.get_include()).parent
    prefix = tmp_path_factory.mktemp("elsewhere") / "prefix"
    for part in ("include", "lib", "share"):
        if (package / part).is_dir():
            shutil.copytree(package / part, prefix / part)
    return prefix


@pytest.fixture(scope="session")
def top_k(installed, tmp_path_factory):
    """The example program, built against the installed package by find_package."""
    return build_examples(tmp_path_factory.mktemp("find"), f"-DCMAKE_PREFIX_PATH={installed}")


def serve(program, model, k, rows, dtype):
    """Ask the program for the labels (N, k) and log-probabilities (N, k) of rows of text."""
    asked = "".join(row + "\n" for row in rows)
    lines = run(program, model, k, input=asked).splitlines()
    fields = [line.split("\t") for line in lines]
    return [f[::2] for f in fields], np.array([f[1::2] for f in fields], dtype)


def dense_rows(X):
    return [" ".join(repr(float(v)) for v in row) for row in X]


def assert_serves_a_tree_with_weights(program, folder):
    p = make_batch(BUILDERS["huffman"](50))
    model = folder / "model.sops"
    cso.save_arrays(model, {**p.h.to_arrays(), "W": p.W, "b": p.b}, {"kind": "Hierarchy"})
    expected = cso.hsoftmax_search(p.X, p.W, p.b, p.h, k=5)
    labels, log_probs = serve(program, model, 5, dense_rows(p.X), p.W.dtype)
    assert labels == expected.classes.astype(str).tolist()
    assert log_probs.tobytes() == expected.log_probs.tobytes()


# ---- agrees with the reference ------------------------------------------------------------------


def test_find_package_serves_the_bytes_of_python(top_k, tmp_path):
    assert_serves_a_tree_with_weights(top_k, tmp_path)


def test_pkg_config_and_one_compiler_line_serve_the_bytes_of_python(installed, tmp_path):
    if not (installed / "lib" / "pkgconfig").is_dir():
        pytest.skip("this build ships sources, which pkg-config cannot build")
    if not PKG_CONFIG:
        pytest.skip("no pkg-config here")
    path = {"PKG_CONFIG_PATH": str(installed / "lib" / "pkgconfig")}
    pkg_config = [*PKG_CONFIG, "--cflags", "--libs", "sparseops"]
    assert "gomp" not in run(*pkg_config, env=os.environ | path)  # a user of another runtime
    flags = run(*pkg_config, "--static", env=os.environ | path).split()
    assert run(*PKG_CONFIG, "--modversion", "sparseops", env=os.environ | path).strip() == (
        cso.__version__
    )
    program = tmp_path / "top_k"
    run(CXX, "-std=c++20", "-O1", EXAMPLES / "top_k.cpp", *flags, "-o", program)
    assert_serves_a_tree_with_weights(program, tmp_path)


def test_add_subdirectory_serves_the_bytes_of_python_and_leaves_its_parent_alone(tmp_path):
    program = build_examples(tmp_path / "build", f"-DSPARSEOPS_SOURCE={ROOT}")
    assert_serves_a_tree_with_weights(program, tmp_path)
    cache = (tmp_path / "build" / "CMakeCache.txt").read_text()
    assert "CMAKE_BUILD_TYPE:STRING=\n" in cache
    assert "BUILD_TESTING" not in cache
    run("cmake", "--install", tmp_path / "build", "--prefix", tmp_path / "installed")
    assert not (tmp_path / "installed").exists()


def test_installed_sources_serve_the_bytes_of_python(tmp_path):
    run("cmake", "-S", ROOT, "-B", tmp_path / "core", "-DSPARSEOPS_DEVEL=sources")
    prefix = tmp_path / "prefix"
    run("cmake", "--install", tmp_path / "core", "--prefix", prefix, "--component", "devel")
    assert not list(prefix.rglob("*.a"))
    program = build_examples(tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    assert_serves_a_tree_with_weights(program, tmp_path)


@needs_sklearn
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_classifier_of_dense_rows_is_served_with_its_labels(top_k, tmp_path, dtype):
    from cython_sparseops.sklearn import HSoftmaxClassifier

    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 6)).astype(dtype)
    names = np.array(["ant", "bee", "cat", "dög", "", "eel wolf"])
    y = names[np.abs(X).argmax(axis=1)]
    numbers = np.abs(X).argmax(axis=1) - 3
    for labels in (y, y.astype(object), numbers, numbers.astype(float), numbers > 0):
        model = HSoftmaxClassifier(random_state=0, epochs=2).fit(X, labels)
        model.save(tmp_path / "model.sops")
        k = min(4, len(model.classes_))
        expected = model.top_k(X[:50], k)
        found, log_probs = serve(top_k, tmp_path / "model.sops", k, dense_rows(X[:50]), dtype)
        assert found == [[str(label) for label in row] for row in expected.labels]
        assert log_probs.tobytes() == expected.log_probs.tobytes()


@needs_sklearn
def test_a_classifier_of_bags_is_served_with_its_labels(top_k, tmp_path):
    from scipy.sparse import random_array

    from cython_sparseops.sklearn import HSoftmaxClassifier

    rng = np.random.default_rng(0)
    X = random_array((300, 40), density=0.1, format="csr", rng=rng).astype(np.float32)
    X.data[X.indptr[7] : X.indptr[8]] = 0
    X.eliminate_zeros()  # row 7 is empty
    y = np.asarray(X[:, :30].argmax(axis=1)).ravel()
    model = HSoftmaxClassifier(hidden_dim=12, random_state=0, hierarchy="two_level").fit(X, y)
    model.save(tmp_path / "model.sops")
    rows = [
        " ".join(f"{j}:{float(v)!r}" for j, v in zip(row.indices, row.data, strict=True))
        for row in (X[[i]] for i in range(60))
    ]
    assert "" in rows
    expected = model.top_k(X[:60], 7)
    found, log_probs = serve(top_k, tmp_path / "model.sops", 7, rows, np.float32)
    assert found == expected.labels.astype(str).tolist()
    assert log_probs.tobytes() == expected.log_probs.tobytes()


@pytest.mark.parametrize("kind", ["int8", "bfloat16", "float16"])
def test_quantised_rows_are_served(top_k, tmp_path, kind):
    p = make_batch(BUILDERS["huffman"](50))
    X, W, b = (a.astype(np.float32) for a in (p.X, p.W, p.b))
    rows = cso.quantize(W, kind)
    arrays = {f"W.{name}": array for name, array in rows.to_arrays().items()}
    model = tmp_path / "model.sops"
    cso.save_arrays(model, {**p.h.to_arrays(), **arrays, "b": b}, {"kind": "Hierarchy"})
    expected = cso.hsoftmax_search(X, rows, b, p.h, k=3)
    labels, log_probs = serve(top_k, model, 3, dense_rows(X), np.float32)
    assert labels == expected.classes.astype(str).tolist()
    assert log_probs.tobytes() == expected.log_probs.tobytes()


# ---- rejections ---------------------------------------------------------------------------------


def test_a_damaged_file_is_refused_in_the_words_of_python(top_k, tmp_path):
    good, broken = tmp_path / "good.tree", tmp_path / "broken.tree"
    cso.Hierarchy.balanced(20).save(good)
    data = good.read_bytes()
    header = 24 + int.from_bytes(data[16:24], "little")
    cases = [data[:n] for n in range(0, len(data), 211)] + [data + b"more"]
    for i in (0, 8, 12, 16, 23, 30, header + 1, header + 64, len(data) - 100):
        cases.append(data[:i] + bytes([data[i] ^ 4]) + data[i + 1 :])
    for case in cases:
        broken.write_bytes(case)
        with pytest.raises(ValueError) as refusal:
            cso.load_arrays(broken)
        done = subprocess.run([top_k, broken, "1"], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (2, f"top_k: {refusal.value}\n")


def test_a_row_that_does_not_fit_is_refused(top_k, tmp_path):
    h = cso.Hierarchy.balanced(4)
    W, _ = cso.init_weights(h, 3, rng=0)
    model = tmp_path / "model.sops"
    cso.save_arrays(model, {**h.to_arrays(), "W": W}, {"kind": "Hierarchy"})
    for row, why in (
        ("1 2", "W must have shape (3, 2), got (3, 3)"),
        ("1 2 x", "a row must be numbers"),
    ):
        done = subprocess.run(
            [top_k, model, "1"], input=row + "\n", capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (2, f"top_k: {why}\n")


# ---- promises -----------------------------------------------------------------------------------


@pytest.mark.parametrize("compiler", COMPILERS, ids=lambda path: Path(path).name)
def test_every_public_header_compiles_alone_without_a_warning(compiler, tmp_path):
    headers = sorted(Path(cso.get_include(), "sparseops").iterdir())
    assert len(headers) > 8
    for header in headers:
        assert header.suffix == ".hpp"
        unit = tmp_path / "unit.cpp"
        unit.write_text(f"#include <sparseops/{header.name}>\n" * 2)
        warnings = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
        run(compiler, "-std=c++20", "-fsyntax-only", *warnings, f"-I{cso.get_include()}", unit)


def test_the_package_says_where_its_files_are(installed):
    assert Path(cso.get_cmake_dir(), "sparseops-config.cmake").is_file()
    entries = importlib.metadata.entry_points(group="cmake.root", name="sparseops")
    assert {entry.value for entry in entries} == {"cython_sparseops"}
    for path in (*installed.rglob("*.cmake"), *installed.rglob("*.pc")):
        assert str(ROOT) not in path.read_text(), path


SNIPPET = """#include <sparseops/search.hpp>
void snippet(std::span<const double> counts, const float* x, const float* w, const float* b,
             std::size_t n, std::size_t dim, std::int64_t* classes, float* log_probs, float* bound)
{ %s }
"""


@pytest.mark.parametrize("page", ["README.md", "docs/guide/embedding.md"])
def test_the_cpp_that_a_page_shows_compiles(page, tmp_path):
    if not (ROOT / page).exists():
        pytest.skip("the sources are not here")
    text = (ROOT / page).read_text(encoding="utf-8")
    (block,) = re.findall(r"^```cpp\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    unit = tmp_path / "snippet.cpp"
    unit.write_text(SNIPPET % re.sub(r"(?m)^#include .*\n", "", block), encoding="utf-8")
    warnings = ("-Wall", "-Wextra", "-Werror")
    run(CXX, "-std=c++20", "-fsyntax-only", *warnings, f"-I{cso.get_include()}", unit)


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(
    "header", sorted(p.name for p in (ROOT / "src" / "sparseops").glob("*.hpp"))
)
def test_an_older_standard_gets_one_error(compiler, header, tmp_path):
    source = tmp_path / "old.cpp"
    source.write_text(f"#include <sparseops/{header}>\nint main() {{}}\n")
    done = subprocess.run(
        [compiler, "-std=c++17", "-fsyntax-only", f"-I{ROOT / 'src'}", str(source)],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    errors = re.findall(r"error:.*", done.stderr)
    assert done.returncode != 0
    assert len(errors) == 1, done.stderr[:2000]
    assert "sparseops needs C++20: compile with -std=c++20 or a later standard" in errors[0]
