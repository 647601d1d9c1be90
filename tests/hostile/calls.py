"""One generated call: a valid one of a public function, most of the time with something spoilt."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hostile.csr import broken
from hostile.values import Raising, Values


@dataclass
class Call:
    """`function(**args)`. Kinds say what each argument is; `written` are changed by design."""

    name: str
    function: Any
    args: dict[str, Any]
    kinds: dict[str, str]
    written: set[str] = field(default_factory=set)
    spoilt: list[str] = field(default_factory=list)
    huge: bool = False
    names: set[str] = field(default_factory=set)  # that a message may name besides the arguments
    os_errors: bool = False  # OSError is documented
    foreign: bool = False  # scikit-learn words the messages
    close: Any = None  # called at the end


SPOIL = {
    "int": lambda g, v: g.bad_int(),
    "float": lambda g, v: g.bad_float(),
    "flag": lambda g, v: g.bad_flag(),
    "choice": lambda g, v: g.bad_choice(),
    "rng": lambda g, v: g.bad_rng(),
    "tree": lambda g, v: g.bad_tree(),
    "optimizer": lambda g, v: g.bad_optimizer(),
    "array": lambda g, v: g.bad_array(v if isinstance(v, np.ndarray) else np.zeros(3)),
    "csr": broken,
    "path": lambda g, v: g.bad_path(),
    "object": lambda g, v: g.bad_object(),
    "constant": lambda g, v: v,
}


def options(g, **kinds):
    """Optional arguments, each now and then: name=(kind, valid values)."""
    chosen = {name: v for name, v in kinds.items() if g.chance(0.35)}
    args = {name: g.one(*valid) for name, (_, valid) in chosen.items()}
    return args, {name: kind for name, (kind, _) in chosen.items()}


FINITE = {"check_finite": ("flag", [True, True, False])}
THREADS = {"num_threads": ("int", [None, 1, 2, 3])}
RNG = {"rng": ("rng", [0, 7, (1 << 64) - 1])}


def make(name, function, *parts, **more):
    args, kinds = {}, {}
    for some, their in parts:
        args |= some
        kinds |= their
    return Call(name, function, args, kinds, **more)


def arg(name, kind, value):
    return {name: value}, {name: kind}


def spoil(g, call):
    """Replace one or two arguments, or only the layout of arrays."""
    for name, kind in call.kinds.items():
        value = call.args.get(name)
        if (
            kind == "array"
            and name not in call.written
            and isinstance(value, np.ndarray)
            and g.chance(0.3)
        ):
            exact = value.dtype in ("i1", "u1")  # bytes mean something else in a list
            call.args[name] = (
                value[::-1][::-1] if exact else g.layout(value, lists="out" not in call.args)
            )
    if g.chance(0.35):
        return call
    for _ in range(g.one(1, 1, 1, 2)):
        name = g.one(*call.kinds)
        if name in call.spoilt:
            continue
        value = call.args[name]
        if name in call.written and g.chance(0.1) and isinstance(value, np.ndarray):
            call.args[name] = g.layout(value)
        elif call.kinds[name] != "constant" and g.chance(0.08):
            call.args[name] = g.one(g.bad_object, Raising)()
        else:
            call.args[name] = SPOIL[call.kinds[name]](g, value)
        call.spoilt.append(name)
    return call


def generate(specs, seed, index):
    """The call with this number."""
    g = Values(seed, index)
    call = spoil(g, g.one(*specs)(g))
    call.huge |= g.huge
    return call
