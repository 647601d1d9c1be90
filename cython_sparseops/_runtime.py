"""Threads and instruction sets of this process."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from ._arrays import as_integer
from ._core import runtime as core

__all__ = ["RuntimeInfo", "get_num_threads", "runtime_info", "set_num_threads", "show_runtime"]

_MAX_INT = (1 << 31) - 1  # of C; the core itself takes at most 1,024 threads
_told = 0  # by set_num_threads


def set_num_threads(n: int) -> None:
    """Set how many threads calls without `num_threads` use.

    The number of threads never changes a result.

    Parameters
    ----------
    n : int
        At least 0; 0 goes back to the default: the smaller of OpenMP's own number
        (``OMP_NUM_THREADS``, threadpoolctl) and what the control groups of the process allow.
        It holds for the whole process. A child that is forked has one thread, whatever n.

    Raises
    ------
    ValueError
        If n is negative.

    Examples
    --------
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(0)
    """
    global _told
    told = min(as_integer("n", n, 0), _MAX_INT)
    core.set_num_threads(told)
    _told = told


def limit_threads(n: int) -> None:
    """Use at most n threads of what `set_num_threads` was told, or of the default.

    A limit that is no lower leaves no trace, so that the default follows OpenMP after it.
    """
    core.set_num_threads(_told)
    if n < core.get_num_threads():
        core.set_num_threads(max(n, 1))


def get_num_threads() -> int:
    """Return how many threads calls without `num_threads` use.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    return int(core.get_num_threads())


def resolve_threads(num_threads: int | None) -> int:
    """The `num_threads` of a compiled call: 0 for what is set when the work is large enough."""
    if num_threads is None:
        return 0
    return min(as_integer("num_threads", num_threads, 1), _MAX_INT)


class RuntimeInfo(NamedTuple):
    """What `runtime_info` returns; printed, it is one fact per line.

    Attributes
    ----------
    version : str
        Of the package.
    compiled, available : tuple of str
        Instruction sets in this build, and those of them that can run here, best first.
    active : str
        The one that is used.
    forced : bool
        Whether ``SPARSEOPS_ISA`` chose it.
    openmp : bool
        Whether the build knows OpenMP's settings.
    threads : int
        As `get_num_threads`.
    python : str
        Version of the interpreter.

    Examples
    --------
    >>> info = runtime_info()
    >>> info.active in info.available
    True
    """

    version: str
    compiled: tuple[str, ...]
    available: tuple[str, ...]
    active: str
    forced: bool
    openmp: bool
    threads: int
    python: str

    def __str__(self) -> str:
        lines = {
            "cython_sparseops": self.version,
            "compiled": ", ".join(self.compiled),
            "available": ", ".join(self.available),
            "active": self.active + (" (SPARSEOPS_ISA)" if self.forced else ""),
            "openmp": "yes" if self.openmp else "no",
            "threads": str(self.threads),
            "python": self.python,
        }
        return "\n".join(f"{name:<17}{value}" for name, value in lines.items())


def runtime_info() -> RuntimeInfo:
    """Return the build and what it uses here.

    Returns
    -------
    RuntimeInfo

    Notes
    -----
    ``SPARSEOPS_ISA=baseline|avx2|avx512|neon``, set before the package is imported, forces an
    instruction set. All sets but the baseline give the same bytes; the baseline has no fused
    multiply-add and may differ in the last bits.

    Examples
    --------
    >>> runtime_info().threads == get_num_threads()
    True
    """
    return RuntimeInfo(
        core.version(),
        tuple(core.compiled_isas()),
        tuple(core.available_isas()),
        core.active_isa(),
        bool(os.environ.get("SPARSEOPS_ISA")),
        core.has_openmp(),
        get_num_threads(),
        sys.version.split()[0],
    )


def show_runtime() -> None:
    """Print what `runtime_info` returns, one fact per line.

    Examples
    --------
    >>> show_runtime()  # doctest: +ELLIPSIS
    cython_sparseops ...
    """
    print(runtime_info())
