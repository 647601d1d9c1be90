"""Every public docstring is complete, and its example runs.

Names of parameters are those of the signature, fields of results are described, and the examples
run in the namespace that the reference promises: NumPy as np, and the public names of the package
and of the module.
"""

import doctest
import importlib.util
import inspect
import re
import typing
from types import SimpleNamespace

import numpy as np
import pytest

import cython_sparseops

MODULES = ["cython_sparseops", "cython_sparseops.data"]
# What an example outside the module of an extra begins a line with, and the package that it needs.
EXAMPLES_NEED = {
    "from scipy": "scipy",
    "from matplotlib": "matplotlib",
    "from sklearn": "sklearn",
    "from cython_sparseops.sklearn": "sklearn",
    "model.to_classifier()": "sklearn",
    "from threadpoolctl": "threadpoolctl",
}
EXTRAS = {"cython_sparseops.sklearn": "sklearn", "cython_sparseops.torch": "torch"}
SECTIONS = ["Parameters", "Attributes", "Returns", "Yields", "Raises", "Notes", "References"]
SECTIONS.append("Examples")


def public_objects():
    """Name and object of every public function, class, method and property."""
    names = [*MODULES, *(name for name, needs in EXTRAS.items() if importlib.util.find_spec(needs))]
    found = {}
    for name in names:
        module = importlib.import_module(name)
        for public in module.__all__:
            thing = getattr(module, public)
            full = f"{thing.__module__}.{public}"
            found[full] = thing
            if not inspect.isclass(thing):
                continue
            for base in thing.__mro__:
                if not base.__module__.startswith("cython_sparseops"):
                    continue
                for member, value in vars(base).items():
                    value = getattr(value, "__func__", value)
                    own = inspect.isfunction(value) or isinstance(value, property)
                    if own and not member.startswith("_") and f"{full}.{member}" not in found:
                        found[f"{full}.{member}"] = value
    return found


PUBLIC = public_objects()


def sections(text):
    """The sections of a numpydoc docstring by title; the summary has the title ""."""
    parts = re.split(r"^(\w+)\n-{3,}\n", inspect.cleandoc(text), flags=re.MULTILINE)
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def described(section):
    """The names that a section describes."""
    lines = re.findall(r"^(\S[^:\n]*?)(?: :.*)?$", section, re.MULTILINE)
    return [name for line in lines for name in re.split(r",\s*", line)]


def parameters(thing):
    names = [name for name in inspect.signature(thing).parameters if name not in ("self", "cls")]
    return [] if names in (["args", "kwargs"], []) else names


def is_result(thing):
    return inspect.isclass(thing) and issubclass(thing, tuple)


@pytest.fixture(params=PUBLIC, ids=lambda name: name.removeprefix("cython_sparseops."))
def name(request):
    return request.param


def test_there_is_something_to_check():
    assert len(PUBLIC) > 60
    assert set(cython_sparseops.__all__) <= {name.rpartition(".")[2] for name in PUBLIC}


def test_a_docstring_has_its_sections_in_order(name):
    thing = PUBLIC[name]
    assert thing.__doc__, "no docstring"
    found = sections(thing.__doc__)
    assert found[""].rstrip().endswith("."), "no summary"
    assert [title for title in found if title] == [title for title in SECTIONS if title in found]
    if not isinstance(thing, property):
        assert ">>> " in found.get("Examples", ""), "no example"


def test_a_docstring_describes_what_the_signature_has(name):
    thing = PUBLIC[name]
    if isinstance(thing, property):
        return
    found = sections(thing.__doc__)
    if is_result(thing):
        assert described(found["Attributes"])[: len(thing._fields)] == list(thing._fields)
        return
    assert sorted(described(found.get("Parameters", ""))) == sorted(parameters(thing))
    if inspect.isfunction(thing) and thing.__annotations__.get("return") != "None":
        assert {"Returns", "Yields"} & set(found), "no Returns"


def test_an_example_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    thing = PUBLIC[name]
    for words, extra in EXAMPLES_NEED.items():
        if f">>> {words}" in thing.__doc__:
            pytest.importorskip(extra)
    home = next(home for home in [*EXTRAS, *reversed(MODULES)] if name.startswith(home))
    globs = {"np": np}
    for module in (cython_sparseops, importlib.import_module(home)):
        globs |= {public: getattr(module, public) for public in module.__all__}
    examples = doctest.DocTestParser().get_doctest(thing.__doc__, globs, name, None, 0)
    failures = []
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(examples, out=failures.append)
    assert not failures, "".join(failures)


# What JSON holds, labels of any kind, and a tree in a module that the tree's own imports.
SAY_ANY = {"load_arrays", "Piece", "Prediction"}


def annotations(thing):
    """The types in a signature that users see, or of the fields of a result."""
    if inspect.isclass(thing) and not is_result(thing):
        thing = thing.__init__
    home = getattr(thing, "__globals__", {}).get("__name__")  # public names say the package's
    named = SimpleNamespace(__module__=home, __qualname__=getattr(thing, "__qualname__", ""))
    for one in typing.get_overloads(named) or [thing]:
        yield from getattr(one, "__annotations__", {}).values()


def test_no_public_type_is_any(name):
    if name.rpartition(".")[2] in SAY_ANY:
        return
    arrays = r"dtype\[Any\]|\bMapping\[Any, |dict\[Any, |numpy\.ndarray\[.*?\]\]"
    found = [re.sub(arrays, "", str(type)) for type in annotations(PUBLIC[name])]
    assert not [type for type in found if re.search(r"\bAny\b", type)]
