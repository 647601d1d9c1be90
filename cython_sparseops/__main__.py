"""The command `sparseops`, as `python -m cython_sparseops`."""

import sys

from cython_sparseops._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
