"""The command ``sparseops`` as a module: ``python -m cython_sparseops.cli``, or `main` of it."""

import sys

from cython_sparseops._cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
