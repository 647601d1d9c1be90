"""The transcript of the migration page: the same commands in fastText and here, on the same files.

python docs/_ext/fasttext_transcript.py    # needs fastText's program

`own` runs our half alone, which tests compare with the page.
"""

import contextlib
import io
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from cython_sparseops._cli.main import main as sparseops

PAGE = Path(__file__).resolve().parents[1] / "guide" / "fasttext_transcript.md"
TOPICS = {
    "film": "actor scene plot camera director screen role drama",
    "food": "soup bread taste salt oven fresh sauce dinner",
    "music": "song guitar chorus tune drum singer album melody",
    "sport": "team goal coach match score league player ball",
}
COMMON = ["the", "a", "was", "good", "very", "long", "with", "and", "of", "this"]
COMMANDS = [
    "supervised -input train.txt -output model -loss hs -lr 0.5 -epoch 25 -dim 20 -thread 1",
    "predict model.bin new.txt",
    "predict model.bin new.txt 2 0.05",
    "predict-prob model.bin new.txt",
    "test model.bin test.txt",
    "test model.bin test.txt 2",
    "test-label model.bin test.txt",
    "supervised -input train.txt -output model -wordgrams 2",
]
HEAD = """\
% Made by docs/_ext/fasttext_transcript.py
The files: 600 lines for training and 100 for testing, of four labels and some 40 words, among them
two lines without a label, one with two labels and one with a literal `</s>`. fastText is Debian's
0.9.2. Messages of progress are left out.
"""


def write_files(folder: Path) -> None:
    """The text files of the transcript."""
    draw = random.Random(0)

    def line(topic: str) -> str:
        words = [draw.choice(TOPICS[topic].split()) for _ in range(3)]
        words += [draw.choice(COMMON) for _ in range(5)]
        draw.shuffle(words)
        return f"__label__{topic} {' '.join(words)}"

    topics = list(TOPICS)
    train = [line(topics[i % 4]) for i in range(596)]
    train[3:3] = ["nothing is known of this", "goal", "__label__food __label__sport team dinner"]
    train.append("__label__film actor scene </s> song tune")
    (folder / "train.txt").write_text("\n".join(train) + "\n")
    test = [line(topics[i % 4]) for i in range(97)]
    test += ["goal", "__label__food __label__sport team dinner", "__label__new the song"]
    (folder / "test.txt").write_text("\n".join(test) + "\n")
    (folder / "new.txt").write_text(
        "a song with guitar\nfresh bread and a goal\n\nscene </s> soup\n"
    )


def own(command: str, folder: Path) -> str:
    """What our command prints, with its error if it ends with one."""
    out, err = io.StringIO(), io.StringIO()
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = sparseops(shlex.split(command))
            except SystemExit as stop:
                code = stop.code
    finally:
        os.chdir(before)
    said = err.getvalue() if code else ""
    return "\n".join((out.getvalue() + said).splitlines())


def theirs(command: str, folder: Path) -> str:
    """What fastText prints."""
    done = subprocess.run(
        ["fasttext", *shlex.split(command)], cwd=folder, capture_output=True, text=True
    )
    lines = done.stderr.splitlines() if done.returncode else []
    if len(lines) > 6:
        lines = [*lines[:1], f"… ({len(lines) - 1} more lines)"]
    return "\n".join([*done.stdout.splitlines(), *lines])


def both() -> str:
    """The page."""
    blocks = []
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        for folder in (one, two):
            write_files(Path(folder))
        for command in COMMANDS:
            parts = [
                f"$ {program} {command}\n{run(command, Path(folder))}".rstrip()
                for program, run, folder in (("fasttext", theirs, one), ("sparseops", own, two))
            ]
            blocks.append("```console\n" + "\n\n".join(parts) + "\n```")
    return HEAD + "\n" + "\n\n".join(blocks) + "\n"


def shown(page: str) -> dict[str, str]:
    """Our commands of a page, and what it says they print."""
    found = re.findall(r"^\$ sparseops (.*)\n((?:(?!```).*\n)*)```", page, re.MULTILINE)
    return {command: text.rstrip("\n") for command, text in found}


if __name__ == "__main__":
    PAGE.write_text(both(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
