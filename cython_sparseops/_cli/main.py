"""The command ``sparseops``: its own commands, and fastText's."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import cython_sparseops as cso
from cython_sparseops._cli import convert, describe, fasttext, predict, test, train
from cython_sparseops._cli.arguments import Command, Commands, Parser
from cython_sparseops._cli.output import OutputError, drop_output, say, write

__all__ = ["main"]

NEEDS = "this needs scikit-learn: pip install 'cython-sparseops[demo]'"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        0; 2 on bad input, with one line on stderr; 130 when interrupted. Wrong arguments raise
        SystemExit(2).

    Examples
    --------
    >>> main(["info"])  # doctest: +ELLIPSIS
    cython_sparseops ...
    0
    """
    try:
        try:
            arguments, others = _parser().parse_known_args(argv)
            if others:
                arguments.parser.unknown(others)
            command: Command = arguments.command
            return command(arguments) or 0
        finally:
            if sys.stdout is not None:
                write("", end="", flush=True)  # Python would, too late to be told of
    except BrokenPipeError:  # the reader of stdout has gone: nobody to tell
        drop_output()
        return 0
    except OutputError as error:
        drop_output()
        say(f"error: standard output: {error}")
        return 2
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except ImportError as error:
        say(f"error: {NEEDS} ({error})")
        return 2
    except OSError as error:
        say(f"error: {error.filename or 'input'}: {error.strerror or error}")
        return 2
    except (ValueError, MemoryError) as error:
        say(f"error: {' '.join(str(error).split()) or type(error).__name__}")
        return 2


def _parser() -> Parser:
    summary = "Classifiers for very many classes: hierarchical softmax."
    parser = Parser(prog="sparseops", description=summary)
    parser.add_argument("--version", action="version", version=f"sparseops {cso.__version__}")
    commands = Commands(parser)
    for module in (train, test, predict, convert, fasttext, describe):
        module.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
