"""The safetensors format, for models that other tools are to read: arrays and JSON metadata.

https://github.com/huggingface/safetensors describes it: the length of a JSON header in eight bytes,
the header, then the arrays without gaps.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ._arrays import Array

SUFFIX = ".safetensors"
_DTYPES = {
    "U8": "|u1",
    "I8": "|i1",
    "I16": "<i2",
    "U16": "<u2",
    "I32": "<i4",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_LENGTH = struct.Struct("<Q")
_KEY = "cython_sparseops"  # of our metadata among others'


def _checksum(part: Any) -> int:
    return zlib.crc32(part)


def header_of(arrays: Mapping[str, Array], metadata: Mapping[str, Any]) -> tuple[bytes, list[str]]:
    """The bytes in front of the arrays, and the order in which they follow: the widest first, so
    that each is aligned."""
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    checksums = {name: _checksum(arrays[name].reshape(-1).view(np.uint8)) for name in order}
    ours = json.dumps({"metadata": dict(metadata), "crc32": checksums}, sort_keys=True)
    header: dict[str, Any] = {"__metadata__": {_KEY: ours}}
    at = 0
    for name in order:
        array = arrays[name]
        header[name] = {
            "dtype": _CODES[array.dtype.str],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-(_LENGTH.size + len(text)) % 64)
    return _LENGTH.pack(len(text)) + text, order


def read(block: Array) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays of a file, as views of its bytes, and our metadata.

    Raises ValueError, KeyError, TypeError or AttributeError if it is malformed.
    """
    (length,) = _LENGTH.unpack(block[: _LENGTH.size].tobytes())
    start = _LENGTH.size + length
    if start > block.size:
        raise ValueError("it is too short")
    header = json.loads(block[_LENGTH.size : start].tobytes())
    ours = json.loads(header.pop("__metadata__", {}).get(_KEY, "{}"))
    arrays, data, known = {}, block[start:], ours.get("crc32", {})
    at = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        if first != at or not first <= last <= data.size:
            raise ValueError(f"array {name} does not fit")
        part = data[first:last]
        if name in known and _checksum(part) != known[name]:
            raise ValueError(f"array {name} does not match its checksum")
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"array {name} has dtype {entry['dtype']}")
        if any(type(n) is not int or n < 0 for n in entry["shape"]):
            raise ValueError(f"array {name} has a negative size")
        view = part.view(np.ndarray).view(_DTYPES[entry["dtype"]])
        arrays[name] = view.reshape(entry["shape"])
        at = last
    if at != data.size:
        raise ValueError("its size is wrong")
    return arrays, dict(ours.get("metadata", {}))
