"""Where this package keeps what C++ projects need: headers, library, CMake package."""

from __future__ import annotations

import sys
from pathlib import Path


def _installed(part: str) -> str:
    roots = list(sys.modules[__package__].__path__)  # two in an editable install
    for root in roots:
        if (folder := Path(root, part)).is_dir():
            return str(folder)
    raise FileNotFoundError(f"{part} must be installed with the package, got none in {roots}")


def get_include() -> str:
    """Return the folder for the compiler's ``-I``: it holds ``sparseops/*.hpp``.

    Returns
    -------
    str

    Raises
    ------
    FileNotFoundError
        If the package was installed without its C++ files.

    Examples
    --------
    >>> import os
    >>> os.path.exists(os.path.join(get_include(), "sparseops", "hsoftmax.hpp"))
    True
    """
    return _installed("include")


def get_cmake_dir() -> str:
    """Return the folder for ``cmake -Dsparseops_DIR=``; pkg-config's is ``../../pkgconfig``.

    Returns
    -------
    str

    Raises
    ------
    FileNotFoundError
        If the package was installed without its C++ files.

    Examples
    --------
    >>> import os
    >>> os.path.exists(os.path.join(get_cmake_dir(), "sparseops-config.cmake"))
    True
    """
    return _installed("lib/cmake/sparseops")
