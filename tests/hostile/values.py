"""Valid arrays in every layout, and values that no caller should pass but some will."""

import decimal
from types import SimpleNamespace
from unittest import mock

import numpy as np

import cython_sparseops as cso

GUARD = 64  # bytes of a pattern on both sides of every array: a write beside it is seen
HUGE = 1 << 40


class HostileError(Exception):
    """What hostile objects raise when they are touched; it may pass through a call unchanged."""


class Raising:
    """Raises on anything that a conversion may try, `repr` included."""

    def _refuse(self, *args, **kwargs):
        raise HostileError

    __array__ = __index__ = __float__ = __bool__ = __len__ = __iter__ = __repr__ = _refuse
    __eq__ = __hash__ = __fspath__ = _refuse


class Array:
    """Offers an array in the way of `__array__`; calls may each give another answer."""

    def __init__(self, *answers):
        self.answers, self.asked = answers, 0

    def __array__(self, dtype=None, copy=None):
        self.asked += 1
        answer = self.answers[min(self.asked, len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Endless:
    """A sequence that claims 2**40 entries, or more."""

    def __init__(self, length=HUGE):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        return 0.0


class Subclass(np.ndarray):
    """An array of a class of its own."""


class Values:
    """Draws of one call: all from one seed."""

    def __init__(self, *seed):
        self.rng = np.random.default_rng(seed)
        self.endless = True  # views of 2**40 entries may be drawn
        self.huge = False  # something in the call claims a size that no memory holds

    def one(self, *options):
        return options[self.rng.integers(len(options))]

    def chance(self, p):
        return self.rng.random() < p

    def size(self, least=0, most=6):
        return int(self.rng.integers(least, most + 1))

    # ---- valid

    def fenced(self, values):
        """The same values inside a block with guards."""
        values = np.asarray(values)
        block = np.full(values.nbytes + 2 * GUARD, 0xA5, np.uint8)
        inner = block[GUARD : GUARD + values.nbytes].view(values.dtype).reshape(values.shape)
        inner[...] = values
        return inner

    def real(self, *shape, dtype=None):
        dtype = dtype or self.one("f4", "f4", "f8")
        return self.fenced(self.rng.standard_normal(shape).astype(dtype))

    def ints(self, shape, low, high, dtype=None):
        dtype = dtype or self.one("i4", "i8", "i8", "u4", "u8" if low >= 0 else "i8")
        return self.fenced(self.rng.integers(low, max(high, low + 1), shape).astype(dtype))

    def layout(self, array, lists=True):
        """The same values in another layout or class that every function takes."""
        kind = self.rng.integers(12)
        if kind == 0 and array.ndim:
            return np.repeat(array, 2, axis=-1)[..., ::2]
        if kind == 1 and array.ndim:
            return np.ascontiguousarray(array[::-1])[::-1]
        if kind == 2:
            return np.asfortranarray(array)
        if kind == 3:
            array = array.view()
            array.flags.writeable = False
        if kind == 4:
            raw = np.empty(array.nbytes + 1, np.uint8)
            unaligned = raw[1:].view(array.dtype).reshape(array.shape)
            unaligned[...] = array
            return unaligned
        if kind == 5:
            return array.astype(array.dtype.newbyteorder())
        if kind == 6 and array.size and lists:
            return array.tolist()
        if kind == 7:
            return array.view(Subclass)
        if kind == 8:
            return Array(array)
        if kind == 9:
            return np.ma.MaskedArray(array)
        return array

    # ---- hostile

    def bad_array(self, array):
        """Something else in place of `array`, which is a valid array for this argument."""
        array = np.asarray(array)
        a = self.fenced(array)
        floats = a.dtype.kind == "f"
        kind = self.rng.integers(32)
        if kind < 8 and a.size and a.dtype.kind in "fiub":  # wrong values
            wrong = (np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-40) if floats else (-1, 9999, 1 << 31)
            if not floats and a.dtype.itemsize == 8:
                wrong += (1 << 62, (1 << 63) - 1)
            with np.errstate(over="ignore"):
                a.flat[self.rng.integers(a.size)] = np.array(self.one(*wrong)).astype(a.dtype)
            return a
        if kind < 12:  # another dtype
            dtype = self.one("c8", "O", "U3", "S3", "M8[s]", "?", "g", "f2", "i1", "f8", "u8", "i8")
            if a.dtype.kind in "US":
                return a.astype("O")
            with np.errstate(all="ignore"):
                return a.astype("i8").astype(dtype) if dtype == "M8[s]" else a.astype(dtype)
        if kind < 18:  # another shape
            return self.one(
                lambda: a[None], lambda: a[:0],
                lambda: a.reshape(-1)[:1].reshape(()) if a.size else a, lambda: a.T,
                lambda: np.concatenate([a, a]) if a.ndim else a, lambda: a[..., :-1],
                lambda: a[..., None], lambda: np.zeros((0, 0), a.dtype), lambda: a.reshape(-1),
                lambda: np.zeros((3, 0, 2), a.dtype), lambda: a[..., None, None, None],
            )() if a.ndim else a[None]  # fmt: skip
        if kind == 18 and self.endless:
            self.huge = True
            return np.broadcast_to(np.zeros(1, a.dtype), (HUGE,) + (1,) * (a.ndim - 1))
        if kind == 19:
            self.huge = True
            return Endless(self.one(HUGE, (1 << 63) - 1))
        if kind == 20:
            return np.zeros(a.shape, [("x", "f4"), ("y", "i8")])
        if kind == 21:
            return np.ma.MaskedArray(a, mask=self.rng.random(a.shape) < 0.5)
        if kind == 22:
            return Array(
                self.one(
                    HostileError(),
                    ValueError("no array\nhere"),
                    [1, 2],
                    None,
                    a.reshape(-1)[:0],
                    "x",
                )
            )
        if kind == 23:
            return SimpleNamespace(
                __array_interface__={
                    "shape": self.one((-1,), (2,), "x"), "typestr": self.one("<f4", "zz", 3),
                    "data": a.tobytes(), "version": 3,
                }
            )  # fmt: skip
        if kind == 24:
            cycle = [1]
            cycle.append(cycle)
            return self.one(
                [[1, 2], [3]], ["a", "b"], [None], cycle, [[[1]]], [1 << 70], [object()]
            )
        return self.bad_object()

    def bad_object(self):
        """A value of no kind that a function asks for."""
        return self.one(
            None, "text", "", b"bytes", {}, {"X": 1}, set(), object(), Raising(), mock.MagicMock(),
            float, len, slice(3), iter([1]), range(3), 3, 2.5, 1j, np.float32(1), ...,
            NotImplemented, np.datetime64("NaT"), np.array(None), np.array("x"), np, (), [], True,
            "x" * 5000,
        )  # fmt: skip

    def bad_int(self):
        big = self.one((1 << 31) - 1, 1 << 31, 1 << 62, (1 << 63) - 1, 1 << 63, 1 << 64, 10**5000)
        value = self.one(
            big, big, big, -1, 0, 1, 2, -(1 << 31), -(1 << 63), -(1 << 70), -(10**5000), 1.0, 1.5,
            np.nan, np.inf, "3", None, True, np.int8(3), np.array(3), np.array([3]), [3], 3j,
            np.uint64(7), decimal.Decimal(3), Raising(), mock.MagicMock(), Array(np.array(3)),
        )  # fmt: skip
        self.huge |= isinstance(value, int) and value >= (1 << 31) - 1
        return value

    def bad_float(self):
        return self.one(
            np.nan, np.inf, -np.inf, -1, -1e-300, 0, 2, 1e300, 1e38, 5e-324, "0.5", "nan", None,
            10**400, -(10**5000), 1j, [0.5], np.float32(0.5), np.array(0.5), np.array([0.5]),
            np.array([0.5, 1]), decimal.Decimal("0.5"), True, Raising(), mock.MagicMock(), "text",
            {},
        )  # fmt: skip

    def bad_flag(self):
        return self.one(
            "no", "False", None, 2, -1, [], [0], np.array([True, False]), np.array(True),
            np.bool_(True), 0, 1, Raising(), np.nan, {}, np.array([]),
        )  # fmt: skip

    def bad_choice(self):
        return self.one(
            "zz", "", "L2", b"l2", 1, -1, None, [], ["l2"], {}, np.array(["l2"]), np.array(["l2",
            "l1"]), np.str_("l2"), ("l2",), Raising(), np.nan, True, 0.0, "x" * 5000,
            mock.MagicMock(),
        )  # fmt: skip

    def bad_rng(self):
        return self.one(
            -1, 1 << 64, (1 << 64) - 1, 1.5, "x", None, np.random.RandomState(0),
            np.random.PCG64(1), np.random.default_rng(3), np.random, True, np.int64(5), [1],
            Raising(), np.array([1, 2]), 10**5000, mock.MagicMock(), np.random.SeedSequence(3),
        )  # fmt: skip

    def bad_tree(self):
        return self.one(
            None, "huffman", {}, Raising(), mock.MagicMock(), cso.Hierarchy, [1, 2], np.zeros(3),
            cso.Hierarchy.balanced(1), cso.Hierarchy.balanced(9, arity=3),
            cso.Hierarchy.huffman([1, 5]), object.__new__(cso.Hierarchy),
            cso.Hierarchy.balanced(500),
        )  # fmt: skip

    def bad_optimizer(self):
        optimizer = self.one(cso.SGD, cso.Adagrad, cso.Adam)(0.1)
        kind = self.rng.integers(5)
        if kind == 0:
            return self.one(None, "sgd", cso.SGD, {}, Raising(), mock.MagicMock(), object())
        if kind == 1:
            name = self.one("lr", "weight_decay", "eps", "betas", "step_count")
            setattr(optimizer, name, self.one(self.bad_float, self.bad_int)())
        elif kind == 2:
            optimizer.prepare((3, 5), np.dtype(self.one("f4", "f8")))
        elif kind == 3:
            name = self.one("first", "second", "b_first", "b_second", "other")
            optimizer.state = {name: self.one(None, np.zeros(3), np.zeros((3, 3)), "x", [1.0])}
        else:
            optimizer.prepare((5, 3), np.dtype("f4"))
            for array in optimizer.state.values():
                array.flags.writeable = False
        return optimizer

    def bad_path(self):
        return self.one(
            None, 0, 1, -1, 1.5, "", "a\0b", b"a\0b", "/dev/null", "/", "/no/such/folder/file",
            "x" * 5000, Raising(), [], {}, mock.MagicMock(), float("nan"), "\udcff/x", b"\xff/x",
        )  # fmt: skip
