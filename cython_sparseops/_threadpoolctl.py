"""The threads of this library as threadpoolctl sees and limits them."""

from __future__ import annotations

import os
import sys

from ._core import runtime as core
from ._runtime import get_num_threads, limit_threads

__all__ = ["register_threadpoolctl"]

_registered = False


def register_threadpoolctl() -> None:
    """Put the threads of this library under threadpoolctl's control.

    Then ``threadpool_info()`` lists them, and ``threadpool_limits(n)`` limits them in its block, as
    `user_api` ``"cython_sparseops"``. Importing this package after threadpoolctl, or importing
    ``cython_sparseops.sklearn``, calls it; further calls do nothing.

    Raises
    ------
    ImportError
        If threadpoolctl 3.2 or later is not installed.

    Notes
    -----
    A limit lowers the number that calls without `num_threads` use, and never raises it. What
    `set_num_threads` is told inside a block holds until the block ends.

    Examples
    --------
    >>> from threadpoolctl import threadpool_limits
    >>> register_threadpoolctl()
    >>> with threadpool_limits(1, user_api="cython_sparseops"):
    ...     get_num_threads()
    1
    """
    global _registered
    if _registered:
        return
    try:
        from threadpoolctl import LibController, register
    except ImportError as error:
        raise ImportError(
            "register_threadpoolctl needs threadpoolctl: pip install 'threadpoolctl>=3.2' "
            f"({error})"
        ) from error

    class SparseopsController(LibController):  # type: ignore[misc]
        user_api = internal_api = "cython_sparseops"
        filename_prefixes = (os.path.basename(core.__file__).lower(),)
        check_symbols = ("sparseops_get_num_threads",)

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            limit_threads(num_threads)

        def get_version(self) -> str:
            return str(core.version())

    register(SparseopsController)
    _registered = True


def register_where_imported() -> None:
    """Register if the program has imported a threadpoolctl that takes controllers."""
    if hasattr(sys.modules.get("threadpoolctl"), "register"):
        register_threadpoolctl()
