"""Fuzz the command line's text readers: python tests/fuzz/text_reader.py [-max_total_time=60 …]

Needs atheris (PyPI). Without it, tests/models/test_cli_data.py runs the corpus and a few changes
of it.
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CORPUS = Path(__file__).parent / "corpus" / "text_reader"


def _text(data: Any, lines: Any) -> None:
    labels, texts = data.read_text(lines)
    assert len(labels.lengths) == len(texts) > 0, "labels and one text an example"
    assert labels.lengths.min() >= 1
    assert len(labels.flat) == labels.ends[-1]
    for label in labels.flat.tolist():
        assert len(data.tokens(label)) <= 1, f"a label is one token, got {label!r}"
    for text in texts:
        assert text == " ".join(data.tokens(text)), (
            f"texts are tokens with a space between, got {text!r}"
        )
        assert not any(t.startswith(data.LABEL_PREFIX) for t in text.split(" ")), "without labels"


def _svmlight(data: Any, lines: Any) -> None:
    X, labels = data.read_svmlight(lines)
    assert X.shape[0] == len(labels.lengths) > 0, "labels for every row"
    assert labels.ends[-1] == len(labels.flat) > 0
    assert X.dtype == np.float32
    assert labels.flat.dtype == np.int64
    assert np.isfinite(X.data).all(), "values are finite"
    assert X.indptr[0] == 0
    assert (np.diff(X.indptr) >= 0).all()
    assert X.indptr[-1] == X.nnz
    assert X.nnz == 0 or (X.indices.min() >= 0 and X.indices.max() < X.shape[1] <= 2**31)


def _counts(data: Any, lines: Any) -> None:
    counts = data.read_counts(lines)
    assert counts.dtype == np.int64
    assert len(counts) > 0
    assert (counts >= 0).all()


READERS: tuple[Callable[[Any, str], None], ...] = (_text, _svmlight, _counts)
# What is said of a whole file names no line.
WHOLE = ("at least one", "an undamaged file", "header (N D L)")


def run_one(content: bytes) -> None:
    """Read one file with the reader that its first byte chooses."""
    from cython_sparseops._cli import readers as data
    from cython_sparseops._cli.streams import InputError, open_lines

    kind, content = (content[0], content[1:]) if content else (0, b"")
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with open_lines(file.name) as lines:
                if kind & 8:
                    assert data.detect_format(lines) in ("fasttext", "svmlight")
                READERS[kind % len(READERS)](data, lines)
    except InputError as error:
        said = str(error)
        assert file.name in said, said
        assert " must " in said, said
        assert "\n" not in said, said
        assert " line " in said or any(words in said for words in WHOLE), f"no line in {said!r}"
    finally:
        os.unlink(file.name)


def replay(folder: Path = CORPUS) -> int:
    """Run every file of the corpus; return how many."""
    files = sorted(folder.iterdir())
    for path in files:
        try:
            run_one(path.read_bytes())
        except Exception as error:
            raise AssertionError(f"{path.name}: {error!r}") from error
    return len(files)


def main() -> None:
    """Fuzz with libFuzzer's options, starting from the corpus."""
    import atheris

    from cython_sparseops._cli import readers, streams, svmlight

    for module in (readers, streams, svmlight):
        for function in vars(module).values():
            if inspect.isfunction(function) and function.__module__ == module.__name__:
                atheris.instrument_func(function)
    found = tempfile.mkdtemp(prefix="text_reader-")
    atheris.Setup([*sys.argv, "-timeout=20", "-rss_limit_mb=2048", found, str(CORPUS)], run_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
