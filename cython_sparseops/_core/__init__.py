"""The compiled floor: a module for each operator, all in the file of `runtime` with one core."""

import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # compiled modules have no types

    def __getattr__(name: str) -> Any: ...


_ROOMS = (  # each after those that it uses; `common` is Cython's own code for all of them
    "common runtime ndarray quantize hierarchy linear hsoftmax search update bag"
    " normalize dropout cluster text"
)


def _load(name: str, file: str) -> ModuleType:
    """A module out of a file: the import system would look for it in one of its own name."""
    loader = ExtensionFileLoader(name, file)
    spec = spec_from_file_location(name, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


_found = find_spec(f"{__name__}.runtime")
if _found is None or _found.origin is None:
    raise ModuleNotFoundError(f"No module named '{__name__}.runtime': the package is not built")
for _room in _ROOMS.split():
    globals()[_room] = _load(f"{__name__}.{_room}", _found.origin)
