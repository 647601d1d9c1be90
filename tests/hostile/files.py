"""Calls that read: model files cut, flipped or forged, text that is none, and the models."""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import struct
import tempfile
import zlib

import numpy as np

import cython_sparseops as cso
from hostile.calls import arg, make, options
from hostile.values import Raising

try:
    from cython_sparseops._cli import main as cli
    from cython_sparseops._cli import readers
    from cython_sparseops._cli.streams import open_lines
    from cython_sparseops.sklearn import HSoftmaxClassifier
except ImportError:
    HSoftmaxClassifier = None
else:
    from scipy.sparse import random_array

PREAMBLE = struct.Struct("<8sIIQ")


def forge(g, data):
    """Another header with the right checksum: what is behind it is not what it says."""
    magic, version, _, length = PREAMBLE.unpack(data[: PREAMBLE.size])
    header = json.loads(data[PREAMBLE.size : PREAMBLE.size + length])
    rest = data[PREAMBLE.size + length :]
    value = g.one(
        None, -1, 0, 1, 3, 1 << 40, 1 << 63, 1 << 70, 1.5, "x", [], {}, [1 << 62, 4], [0, 1 << 62,
        1 << 62], [-1, -1], [1] * 80, True, float("nan"), "<U9", "|O", "<f4", "<i8", [[2]],
        "a" * 2000,
    )  # fmt: skip
    place = g.rng.integers(4)
    names = [*header["arrays"]]
    if place == 0 and names:
        name = g.one(*names)
        header["arrays"][name][g.one("dtype", "shape", "offset", "nbytes", "crc32")] = value
    elif place == 1 and names:
        if g.chance(0.5):
            del header["arrays"][g.one(*names)]
        else:
            first, second = g.one(*names), g.one(*names)
            arrays = header["arrays"]
            arrays[first], arrays[second] = arrays[second], arrays[first]
    elif place == 2:
        metadata = header["metadata"]
        if isinstance(metadata.get("params"), dict) and g.chance(0.5):
            metadata = metadata["params"]
        metadata[g.one(*metadata, "extra") if metadata else "extra"] = value
    else:
        header[g.one("arrays", "metadata", "extra")] = value
    text = json.dumps(header).encode()
    if g.chance(0.05):
        text = g.one(
            b"[" * 9000, b"null", b'{"arrays": {}, "metadata": ' + b"9" * 5000 + b"}", b"\xff"
        )
    size = -(-(PREAMBLE.size + length) // 64) * 64 - PREAMBLE.size - length
    pad = b"\0" * (-(PREAMBLE.size + len(text)) % 64)
    return PREAMBLE.pack(magic, version, zlib.crc32(text), len(text)) + text + pad + rest[size:]


def damage(g, data):
    """The bytes of a file, spoilt; always other bytes."""
    kind = g.rng.integers(6)
    if kind == 0:
        return data[: g.rng.integers(len(data))]
    if kind == 1:
        return data + g.one(b"\0", b"x", b"\0" * 64)
    if kind == 2:
        return g.one(b"", b"SPARSEOP", os.urandom(0), bytes(g.rng.bytes(200)), b"\0" * 4096)
    if kind == 3:
        at = int(g.rng.integers(len(data)))
        return data[:at] + bytes([data[at] ^ (1 << int(g.rng.integers(8)))]) + data[at + 1 :]
    return forge(g, data)


_FITTED = {}


def fitted(g):
    """A small model, made once a process."""
    kind = g.one("dense", "bag", "text")
    if kind not in _FITTED:
        X = (
            np.eye(6, dtype="f4")
            if kind == "dense"
            else random_array((6, 6), density=0.5, format="csr", rng=0)
        )
        y = ["a", "b", "c"] * 2 if kind == "text" else [0, 5, 9] * 2
        _FITTED[kind] = HSoftmaxClassifier(hidden_dim=3, epochs=1, random_state=0).fit(X, y)
    return _FITTED[kind]


def saved(g, folder, *kinds):
    """A file of the library: (kind, path, bytes)."""
    path = os.path.join(folder, "good")
    kind = g.one(*kinds)
    if kind == "trained":
        if kind not in _FITTED:
            lines = os.path.join(folder, "lines")
            with open(lines, "w") as file:
                file.write("__label__0 the cat\n__label__1 a dog\n__label__2 the dog\n")
            quiet = ["--quiet", "--dim", "3", "--epoch", "1"]
            with contextlib.redirect_stdout(io.StringIO()):
                cli.main(["train", lines, "-o", path, *quiet])
            with open(path, "rb") as file:
                _FITTED[kind] = file.read()
        with open(path, "wb") as file:
            file.write(_FITTED[kind])
    elif kind == "arrays":
        cso.save_arrays(path, {"x": np.arange(5), "y": np.eye(3, dtype="f4")}, {"note": [1, "ü"]})
    elif kind == "tree":
        cso.Hierarchy.huffman(g.rng.integers(0, 9, g.size(1, 9))).save(path)
    else:
        fitted(g).save(path)
    with open(path, "rb") as file:
        return kind, path, file.read()


def load(g):
    folder = tempfile.TemporaryDirectory()
    kinds = ["arrays", "tree"] + ["classifier"] * bool(HSoftmaxClassifier)
    kind, path, data = saved(g, folder.name, *kinds)
    function = {
        "arrays": cso.load_arrays,
        "tree": cso.Hierarchy.load,
        "classifier": HSoftmaxClassifier and HSoftmaxClassifier.load,
    }[kind]
    damaged = g.chance(0.7)
    if damaged:
        with open(path, "wb") as file:
            file.write(damage(g, data))

    def use(path, mmap=True):
        loaded = function(path, mmap=mmap)
        if kind == "classifier":
            with contextlib.suppress(TypeError, ValueError):  # such as forged parameters
                loaded.predict(np.eye(6, dtype="f4"))
        return None

    parts = arg("path", "path", path), options(g, mmap=("flag", [True, False]))
    call = make(f"load {kind}", use, *parts, os_errors=True, close=folder.cleanup)
    call.spoilt += ["path"] * damaged
    return call


def save(g):
    folder = tempfile.TemporaryDirectory()
    arrays = {"x": g.real(3), "y": g.ints((2, 3), 0, 9, "i8")}
    metadata = {"note": 1}
    if g.chance(0.5):
        arrays[g.one("x", 3, None)] = g.bad_array(g.real(3))
    if g.chance(0.3):
        metadata[g.one("note", 3, ("a",))] = g.one(g.bad_object, g.bad_float, g.bad_int, Raising)()

    def use(path, arrays, metadata):
        cso.save_arrays(path, arrays, metadata)

    path = os.path.join(folder.name, g.one("a", "ü", "x" * 255))
    parts = (
        arg("path", "object", path),
        arg("arrays", "object", arrays),
        arg("metadata", "object", metadata),
    )
    call = make("save_arrays", use, *parts, os_errors=True, close=folder.cleanup)
    call.spoilt += ["arrays", "metadata"]
    call.names |= {"x", "y"}
    return call


# ---- text


WORDS = (
    b"__label__a", b"__label__b", b"__label__", b"the", b"cat", b"1", b"-1", b"3", b"1:0.5",
    b"7:2", b"2:1", b"0:1", b"1:", b":", b"nan", b"inf", b"1:nan", b"2:inf", b"1:1e400",
    b"99999999999:1", b"-3:1", b"1e30", b"#", b"qid:1", b"\xff", b"\0", b"\xef\xbb\xbf",
    b"\xc2\x85", b"9" * 30, b"x" * 3000, b"1.5", b"1,2",
)  # fmt: skip


def text(g, *kinds):
    """Lines: of fastText, of svmlight, of counts, or of anything."""
    n = g.size(0, 8)
    kind = g.one(0, 1, 2, 3, 4, *kinds)
    lines = {
        0: lambda: b"__label__%d the cat %d" % (g.size(0, 3), g.size()),
        1: lambda: b"%d 1:0.5 %d:2" % (g.size(0, 3), g.size(2, 9)),
        2: lambda: b"name %d" % g.size(0, 99),
    }
    some = [
        lines[kind]() if kind < 3 else b" ".join(g.one(*WORDS) for _ in range(g.size()))
        for _ in range(n)
    ]
    if kind < 3 and some and g.chance(0.4):
        some[g.rng.integers(n)] = b" ".join(g.one(*WORDS) for _ in range(g.size()))
    data = g.one(b"\n", b"\n", b"\n", b"\r\n", b"\r").join([*some, b""])
    pack = g.one(None, None, None, gzip.compress, bz2.compress, lzma.compress)
    if pack:
        data = pack(data)
        if g.chance(0.4):
            data = data[: g.rng.integers(len(data))]
    return data


def reader(g):
    """A reader of the command line."""
    folder = tempfile.TemporaryDirectory()
    path = os.path.join(folder.name, "input")
    with open(path, "wb") as file:
        file.write(text(g))
    g.endless = False
    name = g.one("read_text", "read_svmlight", "read_counts", "detect_format", "read_tree")
    if name == "read_tree":
        path += ".npz"
        parents = np.array([3, 3, 4, 4, -1])
        wrong = g.bad_array(parents) if g.chance(0.6) else parents
        if isinstance(wrong, np.ndarray) and not wrong.dtype.hasobject:
            parents = wrong
        np.savez(path, **{g.one("parent", "parent", "other"): parents})

    def use(path):
        with contextlib.redirect_stderr(io.StringIO()):
            if name == "read_tree":
                return readers.read_tree(path, np.array([0, 1, 2]))
            with open_lines(path) as lines:
                getattr(readers, name)(lines)

    call = make(name, use, arg("path", "constant", path), close=folder.cleanup)
    call.spoilt.append("path")
    call.names |= {
        os.path.basename(path),
        "parent",
        "parents",
        "labels",
        "tmp",
        "classes",
        "counts",
    }
    call.foreign = True  # they begin with the path
    return call


def command(g):
    """The command itself: it ends with 0, or with 2 and one line."""
    folder = tempfile.TemporaryDirectory()
    path, model = os.path.join(folder.name, "input"), os.path.join(folder.name, "model")
    word = g.one("train", "test", "predict", "tree", "info")
    with open(path, "wb") as file:
        file.write(text(g, 0, 0, 0, 0, 0))
    argv = (
        [word, path, "-o", model, "--epoch", "1", "--dim", "3", "--quiet"]
        if word == "train"
        else [word]
    )
    if word == "tree":
        argv += [path]
    elif word != "train":
        _, _, data = saved(g, folder.name, "trained", "trained", "trained", "tree", "classifier")
        with open(model, "wb") as file:
            file.write(data if g.chance(0.5) else damage(g, data))
        argv += [model] if word == "info" else [model, path]
    if g.chance(0.2):
        argv.insert(
            int(g.rng.integers(1, len(argv) + 1)),
            g.one("--json", "-k", "-1", "--zz", "", "\udcff", "-k=0"),
        )

    def use(argv):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = cli.main(argv)
            except SystemExit as error:
                code = error.code
        lines = err.getvalue().splitlines()
        errors = [line for line in lines if "error:" in line]
        if code not in (0, 2) or (code == 2 and len(errors) != 1) or (code == 0 and errors):
            raise RuntimeError(f"exit code {code}, {err.getvalue()}")
        if code:
            raise ValueError(errors[0])

    call = make(
        f"sparseops {word}", use, arg("argv", "constant", argv), close=folder.cleanup, foreign=True
    )
    call.spoilt.append("argv")
    return call


# ---- the estimator


def estimator(g):
    g.endless = False  # scikit-learn would sum it
    n, d = g.size(2, 8), g.size(1, 6)
    X = g.real(n, d)
    kind = "array"
    if g.chance(0.5):
        kind, X = "csr", random_array((n, d), density=0.5, format="csr", rng=g.rng)
    params = {
        "hidden_dim": ("int", [3]), "hierarchy": ("choice", ["huffman", "two_level", "balanced"]),
        "optimizer": ("choice", ["adagrad", "rowwise_adagrad", "sgd", "adam"]),
        "lr": ("float", [None, 0.1]),
        "lr_schedule": ("choice", ["linear", "constant"]), "batch_size": ("int", [2, 256]),
        "weight_decay": ("float", [0.0, 0.1]), "max_norm": ("float", [None, 1.0]),
        "random_state": ("int", [0, None]), "num_threads": ("int", [None, 2]),
    }  # fmt: skip
    if kind == "csr":
        params["dropout"] = ("float", [0.0, 0.3])
    labels = g.one(g.ints(n, 0, 4), np.array(["a", "b", "c"])[g.rng.integers(0, 3, n)])
    opts = options(g, **params)
    weight = options(g, sample_weight=("array", [None, np.ones(n)]))

    def use(X, y, sample_weight=None, **params):
        classifier = HSoftmaxClassifier(**{"hidden_dim": 3, "epochs": 1, **params})
        classifier.fit(X, y, sample_weight)
        return classifier.predict_proba(X), classifier.top_k(X, 1).log_probs

    call = make(
        "HSoftmaxClassifier", use, arg("X", kind, X), arg("y", "array", labels), opts, weight
    )
    call.foreign = True
    call.spoilt += ["y"] if len(np.unique(labels)) < 2 else []
    return call


def predict(g):
    g.endless = False
    model = fitted(g)
    X = g.real(g.size(1, 5), 6)
    name = g.one("predict", "predict_proba", "predict_log_proba", "top_k")
    more = arg("k", "int", 2) if name == "top_k" else ({}, {})
    return make(name, getattr(model, name), arg("X", "array", X), more, foreign=True)


SPECS = [load, save]
if HSoftmaxClassifier:
    SPECS += [reader, command, estimator, predict]
