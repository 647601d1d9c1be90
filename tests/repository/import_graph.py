"""The import graph of a package: modules, floors, arrows, and circles.

python tests/repository/import_graph.py [FOLDER]

Imports inside functions are lazy; those under ``if TYPE_CHECKING`` serve annotations. Both are
arrows too. A circle is a set of modules of which each reaches the others. A module's floor is the
longest chain of arrows below it, without those that are not eager and lie in a circle; such an
arrow leads upward if it does not lead to a lower floor.
"""

import ast
import itertools
import sys
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[2] / "cython_sparseops"


class Arrow(NamedTuple):
    """One module imports another; kind is "eager", "lazy" or "type"."""

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


def main():
    folder = Path(sys.argv[1]).resolve() if sys.argv[1:] else PACKAGE
    known, found = modules(folder), arrows(folder)
    rings = circles(known, found)
    inside = {pair for ring in rings for pair in itertools.permutations(ring, 2)}
    level = floors(known, [a for a in found if a.kind == "eager" or a[:2] not in inside])
    pairs = {(arrow.source, arrow.target) for arrow in found}
    upward = [arrow for arrow in found if level[arrow.target] >= level[arrow.source]]
    print(f"{len(known)} modules, {1 + max(level.values())} floors, {len(pairs)} arrows")
    print(f"{len(upward)} upward:", *(f"\n  {a.source} -> {a.target} ({a.kind})" for a in upward))
    print(f"{len(rings)} circles:", *(f"\n  {len(ring)}: {', '.join(ring)}" for ring in rings))
    for floor in sorted(set(level.values()), reverse=True):
        print(f"floor {floor}:", *(name for name in known if level[name] == floor))


if __name__ == "__main__":
    main()
