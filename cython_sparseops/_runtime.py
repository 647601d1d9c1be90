"""Threads and instruction sets of this process."""

from __future__ import annotations

import os
import sys

from ._arrays import as_integer
from ._core import runtime as core

__all__ = ["get_num_threads", "set_num_threads", "show_runtime"]

_MAX_THREADS = 1024


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
    core.set_num_threads(min(as_integer("n", n, 0), _MAX_THREADS))


def get_num_threads() -> int:
    """Get how many threads calls without `num_threads` use.

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
    """Turn the `num_threads` of a call into a number, at least 1."""
    if num_threads is None:
        return int(core.get_num_threads())
    return min(as_integer("num_threads", num_threads, 1), _MAX_THREADS)


def show_runtime() -> str:
    """Describe the build and what it uses here, as a text of one fact a line.

    Returns
    -------
    str
        Version, instruction sets compiled, available and active, OpenMP, threads, Python.

    Notes
    -----
    ``SPARSEOPS_ISA=baseline|avx2|avx512|neon``, set before the package is imported, forces an
    instruction set. All sets but the baseline give the same bytes; the baseline has no fused
    multiply-add and may differ in the last bits.

    Examples
    --------
    >>> print(show_runtime())  # doctest: +ELLIPSIS
    cython_sparseops ...
    """
    lines = {
        "cython_sparseops": core.version(),
        "compiled": ", ".join(core.compiled_isas()),
        "available": ", ".join(core.available_isas()),
        "active": core.active_isa()
        + (" (SPARSEOPS_ISA)" if os.environ.get("SPARSEOPS_ISA") else ""),
        "openmp": "yes" if core.has_openmp() else "no",
        "threads": str(get_num_threads()),
        "python": sys.version.split()[0],
    }
    return "\n".join(f"{name:<17}{value}" for name, value in lines.items())
