"""Runs one call and says what is wrong with the way it went, if anything."""

import inspect
import re
import warnings

import numpy as np

import cython_sparseops as cso
from hostile.values import GUARD, Array, HostileError

LONGEST = 600  # characters of a message


def blocks(value, depth=0):
    """Every block of memory behind a value: its own buffer, or that of what it is a view of."""
    if isinstance(value, np.ndarray):
        while isinstance(value.base, np.ndarray):
            value = value.base
        if value.dtype.kind not in "OT" and value.nbytes < 1 << 24:
            yield value
    elif depth < 2 and isinstance(value, dict):
        for part in value.values():
            yield from blocks(part, depth + 1)
    elif depth < 2 and isinstance(value, (list, tuple)) and len(value) < 100:
        for part in value:
            yield from blocks(part, depth + 1)
    elif isinstance(value, Array):
        yield from blocks(value.answers, depth + 1)
    elif isinstance(value, cso.SGD | cso.Adagrad | cso.Adam):
        yield from blocks(value.state, depth + 1)
    elif type(value).__module__.startswith("scipy.sparse") or type(value).__name__ == "Csr":
        for name in ("indptr", "indices", "data"):
            yield from blocks(vars(value).get(name), depth + 1)


def snapshot(args):
    return {name: [(block, block.tobytes()) for block in blocks(v)] for name, v in args.items()}


def changed(before, written):
    """Arguments whose bytes changed; of those that may, whose guards did."""
    for name, saved in before.items():
        for block, old in saved:
            new = block.tobytes()
            if new == old:
                continue
            guards = new[:GUARD] + new[-GUARD:] != old[:GUARD] + old[-GUARD:]
            if name not in written or (block.dtype == np.uint8 and guards):
                yield name


def parts(result):
    """The arrays and numbers of a result."""
    if isinstance(result, np.ndarray | float):
        yield result
    elif isinstance(result, tuple):
        for part in result:
            yield from parts(part)
    elif type(result).__name__ != "Changing" and hasattr(result, "indptr"):
        yield from parts((result.indptr, result.indices, result.data))


def bad_result(call, result):
    """What a result holds that the documentation rules out."""
    if "check_finite" not in parameters(call) or call.args.get("check_finite", True) is not True:
        return None
    for part in parts(result):
        if np.asarray(part).dtype.kind == "f" and np.isnan(part).any():
            return "nan in the result"
    return None


def is_false(value):
    return isinstance(value, bool | np.bool_ | int | np.integer) and not value


def parameters(call):
    return set(inspect.signature(call.function).parameters)


def naming(call):
    """What a message may begin with."""
    return parameters(call) | set(call.args) | call.names


def bad_error(call, error):
    """What is wrong with an exception."""
    text = str(error)
    if isinstance(error, HostileError):
        return None
    if not call.spoilt:
        return "a valid call was refused"
    if isinstance(error, MemoryError):
        return None if call.huge else "memory of no claimed size"
    if isinstance(error, OSError):
        return None if call.os_errors else "an OSError"
    if call.foreign and isinstance(error, ImportError):
        return None  # scikit-learn imports what a mock claims to be
    if not isinstance(error, TypeError | ValueError) or isinstance(error, UnicodeError):
        return "an exception of a wrong type"
    if call.foreign:
        return None if text.strip() else "an empty message"
    if "\n" in text or len(text) > LONGEST:
        return "a message that is not one short line"
    match = re.match(r"(\w+)(\.\w+)?( and \w+| at index \d+)? must ", text)
    if not match or match[1] not in naming(call):
        return "a message that does not begin with `<argument> must`"
    return None


def run(call):
    """Make the call: (whether it succeeded, what was wrong or None)."""
    before = snapshot(call.args)
    if is_false(call.args.get("copy", True)):
        call.written |= {"W", "x"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            result = call.function(**call.args)
    except Exception as error:
        wrong = bad_error(call, error)
        moved = sorted(set(changed(before, call.written & {"out", "X"})))
        if moved:
            wrong = f"a refused call changed {', '.join(moved)}"
        return False, wrong and f"{wrong}: {type(error).__name__}: {str(error)[:300]}"
    finally:
        if call.close:
            call.close()
    moved = sorted(set(changed(before, call.written)))
    if moved:
        return True, f"changed {', '.join(moved)}, or memory beside it"
    return True, bad_result(call, result)
