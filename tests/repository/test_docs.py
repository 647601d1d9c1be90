"""The version, the changelog and the documentation agree with the code."""

import ast
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import cython_sparseops

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the sources are not here")


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def declared_version():
    return tomllib.loads(read("pyproject.toml"))["project"]["version"]


def test_the_version_is_that_of_pyproject():
    assert cython_sparseops.__version__ == declared_version() == version("cython_sparseops")


def literals(path):
    """The strings of a file's code, without its comments and, in Python, its docstrings."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        tree = ast.parse(text)
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
        return {node.value for node in constants if id(node) not in prose}
    comment = r"//.*|/\*(?s:.*?)\*/" if path.suffix in (".cpp", ".hpp") else r"#.*"
    return set(re.findall(r'"([^"\n]*)"', re.sub(comment, "", text)))


def test_the_version_stands_nowhere_else():
    """A number that happens to be the same is no literal of that very text."""
    sources = [*ROOT.glob("cython_sparseops/**/*.py*"), *ROOT.glob("cython_sparseops/**/*.?pp")]
    sources += [*ROOT.glob("src/**/*.?pp"), *DOCS.rglob("*.py")]
    code = [path for path in sources if path.suffix != ".pyc"]
    assert len(code) > 100
    assert not [path for path in code if declared_version() in literals(path)]
    for script in ("CMakeLists.txt", ".ci/run"):
        words = re.split(r"[\s\"'()=;]+", re.sub(r"#.*", "", read(script)))
        assert declared_version() not in words


def test_the_changelog_keeps_its_form():
    text = read("CHANGELOG.md")
    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert heads[0] == "[Unreleased]"
    releases = [
        re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", head) for head in heads[1:]
    ]
    assert all(releases)
    dates = [release[2] for release in releases]
    assert dates == sorted(dates, reverse=True)
    if declared_version() not in [release[1] for release in releases]:
        assert declared_version() in text.partition("## [Unreleased]")[2].partition("\n## ")[0]
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= kinds


def test_the_reference_has_every_public_name():
    text = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    shown = set(
        re.findall(r"^\.\. auto(?:function|class):: (?:[\w.]+\.)?(\w+)$", text, re.MULTILINE)
    )
    assert not set(cython_sparseops.__all__) - shown


def test_the_files_that_contributing_names_exist():
    words = re.findall(r"`([^`\s]+)`", read("CONTRIBUTING.md"))
    paths = [word for word in words if "/" in word and not re.search(r"\bX\b|_X\.|build/", word)]
    assert len(paths) > 15
    places = (".", "src/sparseops", "cython_sparseops")
    assert not [p for p in paths if not any(list((ROOT / at).glob(p)) for at in places)]


PAGES = ("README.md", "CONTRIBUTING.md", "tests/benchmarks/README.md", "wheels/README.md")


@pytest.mark.parametrize("page", PAGES)
def test_links_to_files_lead_to_files(page):
    links = re.findall(r"\]\(([^)\s]+)\)", read(page))
    files = [link.partition("#")[0] for link in links if "://" not in link]
    assert not [link for link in files if not (ROOT / page).parent.joinpath(link).exists()]


def test_the_first_page_is_read_in_a_minute_or_two():
    text = read("README.md")
    assert len(text.splitlines()) <= 170
    assert len(text.split()) <= 1000


def test_the_command_line_page_shows_every_command(capsys):
    pytest.importorskip("sklearn")
    from cython_sparseops._cli.main import main

    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out.partition("COMMAND\n")[2]
    commands = re.findall(r"^ {4}([\w-]+)(?: |$)", listed, re.MULTILINE)
    assert len(commands) > 5
    page = read("docs/guide/command_line.md")
    shown = re.findall(r"^```\{program-output\} sparseops ([\w-]+) --help$", page, re.MULTILINE)
    assert sorted(shown) == sorted(commands)


def test_the_page_of_results_is_made_of_the_committed_files(child):
    child.run(ROOT / "tests" / "benchmarks" / "tables.py", "--check")
