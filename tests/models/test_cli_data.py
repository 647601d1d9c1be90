"""The text readers of the command line on hostile files; tests/fuzz/text_reader.py fuzzes them."""

import importlib.util
import random
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

from cython_sparseops._cli import readers as data
from cython_sparseops._cli.streams import InputError, open_lines

FUZZ = Path(__file__).resolve().parents[1] / "fuzz" / "text_reader.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("text_reader", FUZZ)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_file_of_the_corpus_is_read_or_refused_with_its_line(fuzz):
    assert fuzz.replay() >= 16


def test_changed_files_are_read_or_refused_with_their_line(fuzz):
    seeds = [path.read_bytes() for path in sorted(fuzz.CORPUS.iterdir())]
    words = [
        b"\n",
        b" ",
        b":",
        b"__label__",
        b"1e99",
        b"nan",
        b"-",
        b"\x00",
        b"\xff",
        b"#",
        b"9" * 20,
    ]
    choose = random.Random(0)
    for _ in range(300):
        content = bytearray(choose.choice(seeds))
        for _ in range(choose.randint(1, 4)):
            at = choose.randrange(len(content) + 1)
            content[at : at + choose.randint(0, 3)] = choose.choice(words)
        fuzz.run_one(bytes(content))


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("1 1:1\n\n# note\n1 2:x\n1 3:1\n", "must be svmlight text, got .* in line 4"),
        ("1 1:1\nnan 1:1\n", "must have finite labels, got nan in line 2"),
        ("1 1:1\n0.5 1:1\n", "must have whole numbers as labels, got 0.5 in line 2"),
        ("1e30 1:1\n", "must have whole numbers as labels, got 1e30 in line 1"),
        ("1 1:1\n9223372036854775808 1:1\n", "must have labels of 64 bits, got 9.* in line 2"),
        ("1 1:1\n 3:1\n", "must have a label in every line, got '3:1' in line 2"),
        ("3 4 5\n1 1:1\n", "the 3 rows that its header .* says, got 1"),
        ("1 1:1\n# note\n1 1:1 2:1e39\n", "must have finite numbers, got inf in line 3"),
        (
            "1 1:1\n1 2147483647:1\n",
            r"must have indices below 2\*\*31 - 1, got 2147483647 in line 2",
        ),
    ],
)
def test_svmlight_names_the_line(tmp_path, text, refusal):
    path = tmp_path / "bad.svm"
    path.write_text(text)
    with pytest.raises(InputError, match=refusal), open_lines(str(path)) as lines:
        data.read_svmlight(lines)
