"""A user's program is typed: mypy in strict mode finds no error and no Any in it, and it runs."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

PROGRAM = Path(__file__).resolve().parents[1] / "examples" / "typed_program.py"


def test_the_program_runs():
    command = [sys.executable, "-P", str(PROGRAM)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("loss ")


def test_mypy_finds_nothing(tmp_path):
    """Away from this folder and its settings, as a user has it."""
    api = pytest.importorskip("mypy.api", reason="mypy is of the extra lint")
    settings = tmp_path / "mypy.ini"
    settings.write_text(
        "[mypy]\nstrict = true\n"
        "[mypy-scipy.*,sklearn.*,joblib.*,tqdm.*]\nignore_missing_imports = true\n"
    )
    program = tmp_path / PROGRAM.name
    program.write_text(PROGRAM.read_text())
    cache = f"--cache-dir={tmp_path / 'cache'}"
    told, failed, status = api.run(["--config-file", str(settings), cache, str(program)])
    assert status == 0, told + failed
