"""Compressed matrices for the campaign: valid ones, and all ways to be broken."""

import numpy as np

from helpers.compressed import Compressed
from hostile.values import HostileError, Raising

try:
    import scipy.sparse as sp
except ImportError:
    sp = None


def changing(matrix, name, *answers):
    """The same matrix, but `name` gives another answer at every look, then the last for ever."""
    asked = []

    def look(self):
        asked.append(name)
        answer = answers[min(len(asked), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    kind = type("Changing", (Compressed,), {name: property(look, lambda self, value: None)})
    return kind(
        *(getattr(matrix, part) for part in ("indptr", "indices", "data", "shape", "format"))
    )


def compressed(g, rows, cols, dtype=None, format="csr"):
    """A valid matrix; sometimes SciPy's, sometimes one with room behind the last entry."""
    major = rows if format == "csr" else cols
    minor = cols if format == "csr" else rows
    width = g.one("i4", "i8")
    counts = g.rng.integers(0, minor + 1, major)
    indices = [g.rng.permutation(minor)[:n] for n in counts]
    room = g.one(0, 0, 0, 3)
    indptr = g.fenced(np.concatenate([[0], np.cumsum(counts)]).astype(width))
    indices = g.fenced(np.concatenate([*indices, np.zeros(room)]).astype(width))
    data = g.real(indices.size, dtype=dtype)
    if sp and not room and dtype != "f2" and g.chance(0.4):
        kind = g.one(sp.csr_array, sp.csr_matrix) if format == "csr" else sp.csc_array
        return kind((data, indices, indptr), shape=(rows, cols), copy=False)
    return Compressed(indptr, indices, data, (rows, cols), format)


def broken(g, matrix):
    """Something else in place of `matrix`."""
    parts = [getattr(matrix, part) for part in ("indptr", "indices", "data", "shape", "format")]
    indptr, indices, data, shape, format = parts
    kind = g.rng.integers(17)
    if kind < 4:
        indptr = g.fenced(indptr)
        place = g.rng.integers(indptr.size)
        wrong = [-1, 1, 7, indices.size + 1, (1 << 31) - 1, -(1 << 31)]
        wrong += [1 << 62, (1 << 63) - 1, -(1 << 63)] if indptr.dtype.itemsize == 8 else []
        indptr[place] = g.one(*wrong)
    elif kind < 6 and indices.size:
        indices = g.fenced(indices)
        wrong = [-1, 99, (1 << 31) - 1, -(1 << 31)]
        indices[g.rng.integers(indices.size)] = g.one(*wrong)
    elif kind == 6:
        indptr = g.one(indptr[:-1], indptr[:0], indptr[None], g.bad_array(indptr), None)
    elif kind == 7:
        indices = g.one(indices[:-1], indices[:0], indices[None], g.bad_array(indices), None)
    elif kind == 8:
        data = g.one(data[:-1], data[:0], data[None], g.bad_array(data), g.layout(data))
    elif kind == 9:
        data = g.bad_array(data)
    elif kind == 10:
        g.huge = True
        shape = g.one(
            None, 3, (), (3,), (3, 3, 3), (-1, 2), (2.5, 2), ("a", "b"), (1 << 62, 3),
            (3, 1 << 62), (shape[0], 1 << 40), (10**400, 2), shape[::-1], Raising(), (0, 0),
            [*shape], (shape[0] + 1, shape[1]),
        )  # fmt: skip
    elif kind == 11:
        format = g.one(
            "coo", "CSR", None, 3, b"csr", "csc", "csr", Raising(), np.array(["csr", "x"]), [], ""
        )
    elif kind == 12:
        part = g.one("indptr", "indices", "data", "shape", "format")
        value = getattr(matrix, part)
        other = {
            "shape": [(99, 99), (0, 0), HostileError()],
            "format": ["csc", "csr", "coo", HostileError()],
        }.get(part) or [value[:-1], np.concatenate([value, value]), value[:0], HostileError()]
        valid = Compressed(*parts)
        return changing(valid, part, *[value] * g.size(0, 3), g.one(*other))
    elif kind == 13 and sp:
        usual = sp.csr_array(np.eye(shape[0], shape[1] or 1))
        return getattr(usual, "to" + g.one("coo", "lil", "dok", "dia", "bsr", "csc", "csr"))()
    elif kind == 14:
        lacking = Compressed(*parts)
        delattr(lacking, g.one("indptr", "indices", "data", "shape", "format"))
        return lacking
    elif kind == 16 and data.dtype.itemsize == indices.dtype.itemsize == 4:
        data = indices.view(data.dtype)
    elif kind == 15:
        return g.bad_array(np.ones(shape))
    return Compressed(indptr, indices, data, shape, format)
