"""What the commands share: the parser, options that several have, and results as facts."""

from __future__ import annotations

import argparse
import difflib
import json
import math
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from cython_sparseops._cli.output import write
from cython_sparseops._cli.readers import LABEL_PREFIX
from cython_sparseops._table import facts

Command = Callable[[argparse.Namespace], int | None]


class Parser(argparse.ArgumentParser):
    """One line on stderr and exit code 2 for wrong arguments, with the nearest right ones."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.suggest_on_error = False  # Python 3.15 names one too, in words of its own

    def error(self, message: str) -> NoReturn:
        found = re.match(
            r"(?:argument [^:]+: )?invalid choice: '(.*?)' \(choose from (.*)\)", message
        )
        hint = nearest(found[1], re.findall(r"[\w-]+", found[2])) if found else ""
        self.exit(2, f"{self.prog}: error: {message}{hint} (see {self.prog} --help)\n")

    def unknown(self, words: list[str]) -> NoReturn:
        """Refuse arguments that no option takes."""
        option = next((word for word in words if word.startswith("-")), words[0])
        hint = nearest(option.partition("=")[0], [*self._option_string_actions])
        self.error(f"unrecognized arguments: {' '.join(words)}{hint}")


def nearest(word: str, known: Iterable[str]) -> str:
    """A question that names what was meant, if anything is near.

    Examples
    --------
    >>> nearest("--wordngram", ["--word-ngrams", "--dim"])
    ', did you mean --word-ngrams?'
    """
    plain = {option.lower(): option for option in known}
    found = difflib.get_close_matches(word.lower(), [*plain], 1, 0.6)
    return f", did you mean {plain[found[0]]}?" if found else ""


class Commands:
    """The commands of a parser."""

    def __init__(self, parser: Parser) -> None:
        self._sub = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(self, name: str, command: Command, summary: str, examples: str) -> Any:
        """Add a command that prints JSON if it is told to; its parser takes the other options."""
        style = argparse.RawDescriptionHelpFormatter
        sub = self._sub.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=examples,
            formatter_class=style,
            allow_abbrev=False,
        )
        sub.set_defaults(command=command, parser=sub)
        sub.add_argument("--json", action="store_true", help="print JSON")
        return sub


def add_threads(sub: argparse.ArgumentParser) -> None:
    """Add the number of threads."""
    sub.add_argument("--threads", type=positive, help="never changes a result bit (default: all)")


def add_format(sub: argparse.ArgumentParser, *more: str) -> None:
    """Add the format of the input, and what labels begin with."""
    sub.add_argument("--format", choices=("auto", "fasttext", "svmlight", *more), default="auto")
    prefix = LABEL_PREFIX
    sub.add_argument("--label", default=prefix, metavar="PREFIX", help="(default %(default)s)")


def positive(word: str) -> int:
    """A whole number from 1 to 2**31 - 1."""
    if not (word.isascii() and word.isdigit() and 0 < int(word) < 2**31):
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {word!r}")
    return int(word)


def seed(word: str) -> int:
    """A whole number below 2**32."""
    if not (word.isascii() and word.isdigit() and int(word) < 2**32):
        raise argparse.ArgumentTypeError(f"must be an integer in [0, 2**32), got {word!r}")
    return int(word)


def whole(word: str) -> int:
    """A whole number from 0 to 2**31 - 1."""
    return 0 if word == "0" else positive(word)


def existing_model(name: str) -> str:
    """The path of a model, which may be given without the .bin that fastText's commands add."""
    return f"{name}.bin" if not os.path.exists(name) and os.path.isfile(f"{name}.bin") else name


def positive_real(word: str) -> float:
    """A number above 0."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, got {word!r}")
    return value


def fraction(word: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {word!r}")
    return value


def character_ngrams(word: str) -> tuple[int, int]:
    """Two lengths, ``3:5``."""
    least, colon, most = word.partition(":")
    if not colon or not 0 < positive(least) <= positive(most):
        raise argparse.ArgumentTypeError(f"must be MIN:MAX, such as 3:5, got {word!r}")
    return int(least), int(most)


def show(values: dict[str, Any], as_json: bool) -> None:
    """Print a result: a fact a line, or JSON."""
    write(json.dumps(values) if as_json else facts(values))
