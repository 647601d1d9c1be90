"""The file format of trees and models: named, memory-mappable arrays with checksums."""

from __future__ import annotations

import json
import os
import stat
import struct
import zlib
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import IO, Any

import numpy as np

from . import _safetensors as safetensors
from ._arrays import Array, as_flag, as_little_endian, describe

__all__ = ["load_arrays", "save_arrays"]

# The format is described in src/sparseops/model_file.hpp, which reads it without Python.
_MAGIC = b"SPARSEOP"
_FASTTEXT = b"\xba\x16O/"
_VERSION = 1
_PREAMBLE = struct.Struct("<8sIIQ")
_ALIGN = 64
_DTYPES = ("|u1", "|i1", "<i2", "<u2", "<i4", "<i8", "<f2", "<f4", "<f8")


def _aligned(n: int) -> int:
    return -(-n // _ALIGN) * _ALIGN


def save_arrays(
    path: str | os.PathLike[str],
    arrays: Mapping[str, Array],
    metadata: Mapping[str, object] | None = None,
) -> None:
    """Write named arrays and JSON metadata to one file.

    The file is written beside `path` and moved over it at the end: a save that fails or is
    interrupted leaves the old file whole, and no other file unless the process is killed. A link
    stays, what it leads to is replaced; the mode of a file that is replaced stays too.

    Parameters
    ----------
    path : str or path-like
        The file to write. One whose name ends in ``.safetensors`` gets that format, which other
        tools read.
    arrays : mapping of str to ndarray
        Integer or floating arrays of 1 to 8 bytes an element.
    metadata : mapping, optional
        Anything that ``json`` can write.

    Raises
    ------
    TypeError
        If an array has another dtype, or the metadata is not JSON.
    ValueError
        If path is no file, such as a device or the link of a stream.
    OSError
        If it cannot be written.

    Examples
    --------
    >>> save_arrays("a.sops", {"x": np.arange(3)}, {"kind": "example"})
    >>> load_arrays("a.sops")[0]["x"].tolist()
    [0, 1, 2]
    """
    ready: dict[str, Array] = {}
    target = as_path(path)
    for name, mapping in (("arrays", arrays), ("metadata", metadata or {})):
        if not isinstance(mapping, Mapping):
            raise TypeError(f"{name} must be a mapping, got {describe(mapping)}")
    header: dict[str, Any] = {"arrays": {}, "metadata": dict(metadata or {})}
    offset = 0
    for name, value in arrays.items():
        if not isinstance(name, str):
            raise TypeError(f"arrays must have names, got {describe(name)}")
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
    foreign = target.endswith(safetensors.SUFFIX)
    try:
        text = json.dumps(header, sort_keys=True).encode()
        if foreign:
            text, order = safetensors.header_of(ready, header["metadata"])
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"metadata must be JSON, got {describe(metadata)}: {error}") from None
    start = _aligned(_PREAMBLE.size + len(text))

    def write(file: IO[bytes]) -> None:
        if foreign:
            file.write(text)
            for name in order:
                file.write(_bytes(ready[name]))
            return
        file.write(_PREAMBLE.pack(_MAGIC, _VERSION, zlib.crc32(text), len(text)) + text)
        for name, array in ready.items():
            file.seek(start + header["arrays"][name]["offset"])
            file.write(_bytes(array))
        file.truncate(start + offset)

    _replace(target, write)


def _replace(path: str, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file that takes the place of what `path` leads to at the end, or is removed.

    One function, no context manager: an interrupt at the edges of a generator would leave it
    waiting, and the file with it, as long as somebody has the traceback.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"path must be a file, got {describe(path)}")
    target = os.path.realpath(path)
    # A link of the system, such as /dev/stdout, may lead to a file without saying its name.
    if os.path.exists(path) and not (os.path.exists(target) and os.path.samefile(path, target)):
        raise ValueError(f"path must lead to a file that has a name, got {describe(path)}")
    temporary = os.path.join(os.path.dirname(target), f".{os.urandom(8).hex()}.sops")
    try:
        with open(temporary, "xb") as file:
            with suppress(FileNotFoundError):
                os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename in (None, temporary):
            error.filename = path  # a full disk names no file
        raise


def _bytes(array: Array) -> Any:
    return array.reshape(-1).view(np.uint8)


def as_path(path: object) -> str:
    """A path as text; the number of an open file is not one."""
    if isinstance(path, (str, bytes, os.PathLike)):
        text = os.fsdecode(path)
        if text and "\0" not in text:
            return text
        raise ValueError(f"path must name a file, got {describe(path)}")
    raise TypeError(f"path must be text or a path, got {describe(path)}")


def _damaged(path: str, why: str) -> ValueError:
    brief = " ".join(why.split())[:200]  # names and dtypes in it come from the file
    return ValueError(f"path must be an undamaged cython_sparseops file, got {path}: {brief}")


def _read_header(path: str, file: IO[bytes], size: int) -> tuple[dict[str, Any], int]:
    preamble = file.read(_PREAMBLE.size)
    if len(preamble) < _PREAMBLE.size:
        raise _damaged(path, "it is too short")
    magic, version, checksum, length = _PREAMBLE.unpack(preamble)
    if magic.startswith(_FASTTEXT):
        raise _damaged(path, "it is fastText's, for load_fasttext and `sparseops convert`")
    if magic != _MAGIC:
        raise _damaged(path, "it is not of this format")
    if version != _VERSION:
        raise _damaged(path, f"its version is {version}, this library reads {_VERSION}")
    if length > size - _PREAMBLE.size:
        raise _damaged(path, "it is too short")
    text = file.read(length)
    if zlib.crc32(text) != checksum:
        raise _damaged(path, "its header does not match the checksum")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):  # ValueError also for an integer of thousands of digits
        raise _damaged(path, "its header is malformed") from None
    if not isinstance(header, dict) or not isinstance(header.get("metadata"), dict):
        raise _damaged(path, "its header is malformed")
    return header, length


def _check_entry(path: str, name: str, entry: Any, expected_offset: int) -> None:
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
        The file; of a name that ends in ``.safetensors``, any file of that format with arrays of
        the dtypes that `save_arrays` takes.
    mmap : bool, default True
        Map the arrays instead of copying them: processes that load the same file share its memory.
        The arrays are read-only then. Either way everything is read once for its checksum. A mapped
        file must not be written over in place (``cp`` over it, not `save_arrays`): that changes
        the arrays under whoever has them, and a file that shrinks ends the process by a signal.
        False where that may happen.

    Returns
    -------
    arrays : dict of str to ndarray
    metadata : dict

    Raises
    ------
    ValueError
        If it is no file, or damaged, truncated, of another format or of another version.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> save_arrays("a.sops", {"x": np.zeros((2, 3))}, {"kind": "example"})
    >>> arrays, metadata = load_arrays("a.sops")
    >>> arrays["x"].shape, arrays["x"].flags.writeable, metadata
    ((2, 3), False, {'kind': 'example'})
    """
    return read_arrays(path, mmap=mmap)


def read_arrays(
    path: str | os.PathLike[str], *, mmap: bool, unread: Collection[str] = ()
) -> tuple[dict[str, Array], dict[str, Any]]:
    """`load_arrays`, without the checksums of `unread`: arrays that whoever calls compares with
    what they must hold."""
    name, mapped = as_path(path), as_flag("mmap", mmap)
    # A pipe with a name would be waited for; what is no file is refused before it is opened too.
    if os.path.exists(name) and not os.path.isfile(name):
        raise ValueError(f"path must be a file, got {describe(name)}")
    with open(name, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"path must be a file, got {describe(name)}")
        foreign = name.endswith(safetensors.SUFFIX)
        header, length = ({}, 0) if foreign else _read_header(name, file, status.st_size)
        file.seek(0)
        if mapped and status.st_size:
            block: Array = np.memmap(file, np.uint8, "r")
        else:
            block = np.frombuffer(file.read(), np.uint8)
        try:
            if foreign:
                arrays, metadata = _read_foreign(name, block)
            else:
                arrays = _read_arrays(name, header, _PREAMBLE.size + length, block, unread)
                metadata = header["metadata"]
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(name, f"its header is malformed ({error})") from error
        if os.fstat(file.fileno()).st_size != status.st_size:
            raise _damaged(name, "its size changed meanwhile; mmap=False reads a copy")
    return arrays, metadata


def _read_foreign(path: str, block: Array) -> tuple[dict[str, Array], dict[str, Any]]:
    try:
        return safetensors.read(block)
    except (ValueError, OverflowError, struct.error) as error:
        raise _damaged(path, f"{error}") from None


def _read_arrays(
    path: str, header: Any, header_end: int, block: Array, unread: Collection[str]
) -> dict[str, Array]:
    start = _aligned(header_end)
    entries = sorted(
        header["arrays"].items(), key=lambda item: (item[1]["offset"], item[1]["nbytes"])
    )
    end, offset, padding = start, 0, [block[header_end:start]]
    for name, entry in entries:
        _check_entry(path, name, entry, offset)
        offset = _aligned(offset + entry["nbytes"])
        padding.append(block[start + entry["offset"] + entry["nbytes"] : start + offset])
        end = start + offset
    if end != block.size or any(gap.any() for gap in padding):
        raise _damaged(path, "its size is wrong")
    arrays: dict[str, Array] = {}
    for name, entry in entries:
        part = block[start + entry["offset"] :][: entry["nbytes"]]
        if name not in unread and zlib.crc32(_bytes(part)) != entry["crc32"]:
            raise _damaged(path, f"array {name} does not match its checksum")
        try:
            arrays[name] = part.view(np.ndarray).view(entry["dtype"]).reshape(entry["shape"])
        except (ValueError, OverflowError):  # more dimensions, or longer ones, than NumPy has
            raise _damaged(path, f"array {name} does not fit") from None
    return arrays
