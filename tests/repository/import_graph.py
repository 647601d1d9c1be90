"""The import graphs of a checkout: rooms, floors, arrows and circles, in Python and in C++.

python tests/repository/import_graph.py [ROOT]

In Python a room is a module. Imports inside functions are lazy; those under ``if TYPE_CHECKING``
serve annotations. Both are arrows too. In C++ a room is a folder of src/sparseops, or a header and
a source of one name there; a header X.hpp belongs to the folder X. A circle is a set of rooms of
which each reaches the others. A room's floor is the longest chain of arrows below it, without those
that are not eager and lie in a circle; such an arrow leads upward if it does not lead to a lower
floor.
"""

import ast
import itertools
import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE, CORE = ROOT / "cython_sparseops", ROOT / "src" / "sparseops"


class Arrow(NamedTuple):
    """One room imports another; kind is "eager", "lazy" or "type". Including is eager."""

    source: str
    target: str
    kind: str


def modules(folder):
    """Path of every module of a package, compiled ones too, by full name."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".pyx")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imports(tree, kind="eager"):
    """Every import statement of a syntax tree and its kind."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, kind
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _imports(node, "lazy")
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imports(node, "type")
        else:
            yield from _imports(node, kind)


def imported(path, name, known=()):
    """Full names that a Python file of this module name imports, each with its kind.

    Of ``from a import b`` it is ``a.b`` where that is one of the known modules, else ``a``.
    """
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node, kind in _imports(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, kind) for alias in node.names)
            continue
        home = package[: len(package) - node.level + 1] if node.level else []
        base = ".".join(filter(None, [*home, node.module]))
        for alias in node.names:
            whole = f"{base}.{alias.name}"
            yield (whole if whole in known else base), kind


def arrows(folder=PACKAGE):
    """The arrows between the modules of a package."""
    known, found = modules(folder), set()
    for name, path in known.items():
        if path.suffix == ".py":
            for target, kind in imported(path, name, known):
                if target in known and target != name:
                    found.add(Arrow(name, target, kind))
    return sorted(found)


def sources(core=CORE):
    """The C++ files."""
    return sorted(path for path in core.rglob("*") if path.suffix in (".hpp", ".cpp", ".h"))


def included(path, core=CORE):
    """The files of ours that a C++ file includes, as paths from the folder of the core."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r'^\s*#\s*include\s*"([^"]+)"', text, re.MULTILINE)
    return [(path.parent / i).resolve().relative_to(core.resolve()) for i in found]


def room(path):
    """The room of a C++ file, given by its path from the folder of the core."""
    return path.parts[0] if len(path.parts) > 1 else path.stem


def core_arrows(core=CORE):
    """The arrows between the rooms of the core."""
    pairs = {
        (room(path.relative_to(core)), room(target))
        for path in sources(core)
        for target in included(path, core)
    }
    return sorted(Arrow(a, b, "eager") for a, b in pairs if a != b)


def floors(names, found):
    """The floor of every module, 0 for one that imports no other."""
    below = {name: [a.target for a in found if a.source == name] for name in names}
    level = {}

    def visit(name, above):
        if name in above:
            raise ValueError(f"imports must not run in a circle, got {' -> '.join([*above, name])}")
        if name not in level:
            level[name] = 1 + max((visit(t, [*above, name]) for t in below[name]), default=-1)
        return level[name]

    for name in names:
        visit(name, [])
    return level


def circles(names, found):
    """The sets of two modules or more of which each reaches the others."""
    reached = {name: {a.target for a in found if a.source == name} for name in names}
    for middle, name in itertools.product(names, names):
        if middle in reached[name]:
            reached[name] |= reached[middle]
    sets = {frozenset(m for m in reached[n] if n in reached[m]) for n in names if n in reached[n]}
    return sorted(sorted(circle) for circle in sets)


def tell(title, names, found):
    """Print a graph."""
    rings = circles(names, found)
    inside = {pair for ring in rings for pair in itertools.permutations(ring, 2)}
    level = floors(names, [a for a in found if a.kind == "eager" or a[:2] not in inside])
    pairs = {arrow[:2] for arrow in found}
    upward = [arrow for arrow in found if level[arrow.target] >= level[arrow.source]]
    print(f"{title}: {len(names)} rooms, {1 + max(level.values())} floors, {len(pairs)} arrows,")
    print(f"{len(upward)} upward:", *(f"\n  {a.source} -> {a.target} ({a.kind})" for a in upward))
    print(f"{len(rings)} circles:", *(f"\n  {len(ring)}: {', '.join(ring)}" for ring in rings))
    for floor in sorted(set(level.values()), reverse=True):
        print(f"floor {floor}:", *(name for name in names if level[name] == floor))


def main():
    root = Path(sys.argv[1]).resolve() if sys.argv[1:] else ROOT
    package, core = root / PACKAGE.name, root / "src" / CORE.name
    tell("Python", modules(package), arrows(package))
    print()
    rooms = sorted({room(path.relative_to(core)) for path in sources(core)})
    tell("C++", rooms, core_arrows(core))


if __name__ == "__main__":
    main()
