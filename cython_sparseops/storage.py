"""The file format of trees and models: named, memory-mappable arrays with checksums."""

from __future__ import annotations

import json
import os
import struct
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._arrays import Array, as_little_endian

__all__ = ["load_arrays", "save_arrays"]

# The format is described in src/sparseops/model_file.hpp, which reads it without Python.
_MAGIC = b"SPARSEOP"
_VERSION = 1
_PREAMBLE = struct.Struct("<8sIIQ")
_ALIGN = 64
_DTYPES = ("|u1", "|i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8")


def _aligned(n: int) -> int:
    return -(-n // _ALIGN) * _ALIGN


def save_arrays(
    path: str | os.PathLike[str],
    arrays: Mapping[str, Array],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write named arrays and JSON metadata to one file.

    The file is written beside `path` and moved over it at the end: an interrupted save leaves the
    old file whole.

    Parameters
    ----------
    path : str or path-like
        The file to write.
    arrays : mapping of str to ndarray
        Integer or floating arrays of 1 to 8 bytes an element.
    metadata : mapping, optional
        Anything that ``json`` can write.

    Raises
    ------
    TypeError
        If an array has another dtype, or the metadata is not JSON.

    Examples
    --------
    >>> save_arrays("a.sops", {"x": np.arange(3)}, {"kind": "example"})
    >>> load_arrays("a.sops")[0]["x"].tolist()
    [0, 1, 2]
    """
    ready: dict[str, Array] = {}
    header: dict[str, Any] = {"arrays": {}, "metadata": dict(metadata or {})}
    offset = 0
    for name, value in arrays.items():
        array = as_little_endian(name, value)
        if array.dtype.str not in _DTYPES:
            raise TypeError(
                f"{name} must have one of the dtypes {', '.join(_DTYPES)}, got {array.dtype.str}"
            )
        ready[name] = array
        header["arrays"][name] = {
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "offset": offset,  # from the first array
            "nbytes": array.nbytes,
            "crc32": zlib.crc32(_bytes(array)),
        }
        offset = _aligned(offset + array.nbytes)
    text = json.dumps(header, sort_keys=True).encode()
    start = _aligned(_PREAMBLE.size + len(text))
    target = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=target.name + ".", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_PREAMBLE.pack(_MAGIC, _VERSION, zlib.crc32(text), len(text)) + text)
            for name, array in ready.items():
                file.seek(start + header["arrays"][name]["offset"])
                file.write(_bytes(array))
            file.truncate(start + offset)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _bytes(array: Array) -> Any:
    return array.reshape(-1).view(np.uint8)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _damaged(path: str | os.PathLike[str], why: str) -> ValueError:
    return ValueError(
        f"path must be an undamaged cython_sparseops file, got {os.fspath(path)}: {why}"
    )


def _read_header(path: str | os.PathLike[str], size: int) -> tuple[dict[str, Any], int]:
    with open(path, "rb") as file:
        preamble = file.read(_PREAMBLE.size)
        if len(preamble) < _PREAMBLE.size:
            raise _damaged(path, "it is too short")
        magic, version, checksum, length = _PREAMBLE.unpack(preamble)
        if magic != _MAGIC:
            raise _damaged(path, "it is not of this format")
        if version != _VERSION:
            raise _damaged(path, f"its version is {version}, this library reads {_VERSION}")
        if length > size - _PREAMBLE.size:
            raise _damaged(path, "it is too short")
        text = file.read(length)
    if zlib.crc32(text) != checksum:
        raise _damaged(path, "its header does not match the checksum")
    return json.loads(text), length


def _check_entry(path: str | os.PathLike[str], name: str, entry: Any, expected_offset: int) -> None:
    if entry["dtype"] not in _DTYPES:
        raise _damaged(path, f"array {name} has dtype {entry['dtype']}")
    shape, nbytes, offset = entry["shape"], entry["nbytes"], entry["offset"]
    if any(type(n) is not int or n < 0 for n in (*shape, nbytes, offset)):
        raise _damaged(path, f"array {name} has a negative size")
    elements = 1
    for n in shape:
        elements *= n
    if elements * np.dtype(entry["dtype"]).itemsize != nbytes or offset != expected_offset:
        raise _damaged(path, f"array {name} does not fit")


def load_arrays(
    path: str | os.PathLike[str], *, mmap: bool = True
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read what `save_arrays` wrote.

    Parameters
    ----------
    path : str or path-like
        The file.
    mmap : bool, default True
        Map the arrays instead of copying them: processes that load the same file share its memory.
        The arrays are read-only then. Either way everything is read once for its checksum.

    Returns
    -------
    arrays : dict of str to ndarray
    metadata : dict

    Raises
    ------
    ValueError
        If the file is damaged, truncated, of another format or of another version.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> save_arrays("a.sops", {"x": np.zeros((2, 3))}, {"kind": "example"})
    >>> arrays, metadata = load_arrays("a.sops")
    >>> arrays["x"].shape, arrays["x"].flags.writeable, metadata
    ((2, 3), False, {'kind': 'example'})
    """
    size = os.path.getsize(path)
    try:
        header, length = _read_header(path, size)
        start = _aligned(_PREAMBLE.size + length)
        block: Array = (
            np.memmap(path, np.uint8, "r") if mmap and size else np.fromfile(path, np.uint8)
        )
        arrays: dict[str, Array] = {}
        entries = sorted(
            header["arrays"].items(), key=lambda item: (item[1]["offset"], item[1]["nbytes"])
        )
        end, offset, padding = start, 0, [block[_PREAMBLE.size + length : start]]
        for name, entry in entries:
            _check_entry(path, name, entry, offset)
            offset = _aligned(offset + entry["nbytes"])
            padding.append(block[start + entry["offset"] + entry["nbytes"] : start + offset])
            end = start + offset
        if end != size or any(gap.any() for gap in padding):
            raise _damaged(path, "its size is wrong")
        for name, entry in entries:
            part = block[start + entry["offset"] :][: entry["nbytes"]]
            if zlib.crc32(_bytes(part)) != entry["crc32"]:
                raise _damaged(path, f"array {name} does not match its checksum")
            arrays[name] = part.view(np.ndarray).view(entry["dtype"]).reshape(entry["shape"])
        return arrays, header["metadata"]
    except (
        KeyError,
        TypeError,
        AttributeError,
        UnicodeDecodeError,
        RecursionError,
        json.JSONDecodeError,
    ) as error:
        raise _damaged(path, f"its header is malformed ({error})") from error
