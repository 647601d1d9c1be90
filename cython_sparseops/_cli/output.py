"""What the command line writes: results to stdout, one-line messages to stderr."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


class OutputError(Exception):
    """The standard output cannot be written."""


def write(text: str, *, end: str = "\n", flush: bool = False) -> None:
    """Print to stdout.

    Raises
    ------
    BrokenPipeError
        If its reader has gone.
    OutputError
        If it cannot be written otherwise, such as to a full disk.

    Examples
    --------
    >>> write("a line")
    a line
    """
    try:
        print(text, end=end, flush=flush)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.strerror or error) from None


def drop_output() -> None:
    """Send what is still in the buffer of stdout nowhere: Python would try again at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(message: str) -> None:
    """Print one line to stderr, if there is anybody to read it."""
    with suppress(OSError):
        print(f"sparseops: {message}", file=sys.stderr)
