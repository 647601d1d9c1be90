"""What the command reads and writes: pipes, tolerant readers, answers at once, readers that go."""

import io
import json
import os
import select
import subprocess
import sys
import threading
import time
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("sklearn")

from cython_sparseops import BagTrainer, Hierarchy
from cython_sparseops._cli import readers as data
from cython_sparseops._cli.streams import InputError, Lines, open_lines
from cython_sparseops._cli.svmlight import looks_like_svmlight
from cython_sparseops._models.text import tokens
from cython_sparseops.cli import main

TEXT = "".join(f"w{i % 5} common __label__c{i % 3}\n" for i in range(4000))
ROWS = "".join(f"{i % 3} {i % 3 + 1}:1 {4 + i % 2}:0.5\n" for i in range(4000))
COMMAND = [sys.executable, "-m", "cython_sparseops.cli"]
ENV = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
posix = pytest.mark.skipif(os.name != "posix", reason="needs pipes with names")


def run(capsys, *arguments):
    """Code, stdout and stderr of a command."""
    capsys.readouterr()
    code = main(list(arguments))
    return code, *capsys.readouterr()


def read(path, reader=data.read_svmlight, *arguments):
    with open_lines(str(path)) as lines:
        return reader(lines, *arguments)


@contextmanager
def pipe_of(content, step=7919):
    """The name of a pipe that gives the content in pieces."""
    out, into = os.pipe()

    def feed():
        with os.fdopen(into, "wb") as file:
            for start in range(0, len(content), step):
                file.write(content[start : start + step])
                file.flush()

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield f"/dev/fd/{out}"
    finally:
        thread.join()
        os.close(out)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- one opening


@posix
@pytest.mark.parametrize("content", [TEXT, ROWS], ids=["text", "svmlight"])
def test_a_pipe_trains_the_same_model_as_a_file(folder, capsys, content):
    (folder / "file").write_text(content)
    options = ["--dim", "4", "--epoch", "1", "--quiet"]
    assert run(capsys, "train", "file", "-o", "one", *options)[0] == 0
    with pipe_of(content.encode()) as pipe:
        assert run(capsys, "train", pipe, "-o", "two", *options)[0] == 0
    assert (folder / "one").read_bytes() == (folder / "two").read_bytes()


@posix
@pytest.mark.parametrize("content", [TEXT, ROWS, "8\n4\n2\n"], ids=["text", "svmlight", "counts"])
def test_a_pipe_gives_the_tree_of_a_file(folder, capsys, content):
    (folder / "file").write_text(content)
    want = run(capsys, "tree", "file", "--json")
    with pipe_of(content.encode()) as pipe:
        assert run(capsys, "tree", pipe, "--json") == want
    assert want[0] == 0


def test_stdin_is_told_apart_like_a_file(folder, capsys, monkeypatch):
    (folder / "file").write_text(ROWS)
    want = run(capsys, "tree", "file", "--json")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ROWS.encode())))
    assert run(capsys, "tree", "-", "--json") == want


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 1000])
def test_lines_do_not_depend_on_the_pieces_they_come_in(chunk):
    content = b"\xef\xbb\xbfone\ntwo\r\n\n\nlast"

    class Slow(io.BytesIO):
        def read1(self, size=-1):
            return super().read1(min(size, chunk))

    lines = Lines("slow", Slow(content))
    ahead = [text for _, text in lines.peek()]
    assert ahead == [text for _, text in lines] == ["one", "two\r", "", "", "last"]


@pytest.mark.parametrize("magic", ["BZ", "\x1f"])
def test_the_begin_of_a_magic_number_is_text(folder, magic):
    (folder / "short").write_text(magic)
    assert [text for _, text in read("short", list)] == [magic]


# ---- one tolerant reader


def test_comments_headers_and_several_labels_are_read(folder, capsys):
    plain = "0 1:1 2:1\n1 3:1\n2 1:0.5 3:0.5\n"
    (folder / "plain").write_text(plain)
    want = read("plain")
    other = "# A tool\n#\n3 4 3\n0,7 2:1 1:1\n1 qid:4 3:0.25 3:0.75 # note\n\t+2,1 1:.5 3:5e-1 \n"
    (folder / "other").write_text(other)
    assert read("other", data.detect_format) == "svmlight"
    found = read("other")
    assert (found.X != want.X).nnz == 0
    assert want.labels.flat.tolist() == [0, 1, 2]
    assert found.labels.flat.tolist() == [0, 7, 1, 2, 1]
    assert found.labels.ends.tolist() == [0, 2, 3, 5]
    for head, said in (("linear", ""), ("embedding", "several labels, which share the weight")):
        code, _, err = run(capsys, "train", "other", "-o", "m", "--head", head, "--quiet")
        assert code == 0
        assert said in err
        assert bool(said) == bool(err)


def test_rows_under_a_header_may_be_without_labels_or_features(folder, capsys):
    (folder / "header").write_text("4 9 2\n1 2:1\n\n0\n 3:1\n")
    found = read("header")
    assert found.labels.ends.tolist() == [0, 1, 1, 2, 2]
    assert found.X.shape == (4, 4)
    for head in ("linear", "embedding", "auto"):
        assert run(capsys, "train", "header", "-o", "m", "--head", head, "--quiet")[0] == 0
        code, out, _ = run(capsys, "test", "m", "header", "--json")
        assert (code, json.loads(out)["examples"]) == (0, 4)


@pytest.mark.parametrize(
    "row", ["1", "1 2:3", "1,2 3:4", " 1:2", "1:2 3:4", "5 3 4", "-1 1:1", "1e3 1:1", "2 qid:1 1:2"]
)
def test_what_is_guessed_is_read(folder, capsys, row):
    """The guesser and the reader of `predict` agree on every row."""
    assert looks_like_svmlight(row)
    (folder / "train").write_text("0 1:1\n1 2:1\n")
    assert run(capsys, "train", "train", "-o", "m", "--quiet")[0] == 0
    (folder / "row").write_text(row + "\n" + "1 1:1\n" * 5 * (row == "5 3 4"))
    code, out, err = run(capsys, "predict", "m", "row")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == (5 if row == "5 3 4" else 1)


@pytest.mark.parametrize("row", ["a 1:1", "1 a:1", "1 1:", "1 1:1:1", "1 -1:1", "1 1: 2", "1, 1:1"])
def test_what_is_not_svmlight_is_not_guessed(folder, row):
    assert not looks_like_svmlight(row)
    (folder / "row").write_text(row + "\n")
    with pytest.raises(InputError, match=r"must be svmlight text, got .* in line 1"):
        read("row")


def test_labels_of_64_bits_stay_apart(folder, capsys):
    numbers = [2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
    (folder / "d.svm").write_text("".join(f"{n} {i}:1\n" for i, n in enumerate(numbers)) * 50)
    assert read("d.svm").labels.flat[:4].tolist() == numbers
    assert run(capsys, "train", "d.svm", "-o", "m", "--quiet", "--epoch", "50")[0] == 0
    out = run(capsys, "predict", "m", "d.svm")[1]
    assert [int(line.split()[0]) for line in out.splitlines()[:4]] == numbers


@pytest.mark.parametrize("feature", [9, 2**31 - 1, 2**64, int("9" * 40)])
def test_features_that_training_never_saw_are_left_out(folder, capsys, feature):
    (folder / "train").write_text("0 1:1\n1 2:1\n")
    run(capsys, "train", "train", "-o", "m", "--quiet")
    want = run(capsys, "predict", "m", "train")
    (folder / "new").write_text(f"0 {feature}:1 1:1\n1 2:1 {feature}:7\n")
    assert run(capsys, "predict", "m", "new") == want
    assert run(capsys, "test", "m", "new", "-k", "1")[0] == 0


@pytest.mark.parametrize("space", ["\u00a0", "\u2009", "\u3000", "\u0085", "\x1c"])
def test_only_ascii_white_space_ends_a_token(folder, capsys, space):
    (folder / "t").write_text(f"__label__New{space}York a{space}b\n__label__New{space}Delhi c\n")
    assert run(capsys, "train", "t", "-o", "m", "--quiet")[0] == 0
    code, out, _ = run(capsys, "predict", "m", "t", "--json")
    assert code == 0
    labels = [json.loads(line)["labels"][0] for line in out.splitlines()]
    assert labels == [f"__label__New{space}York", f"__label__New{space}Delhi"]


def test_tokens_are_those_of_fasttext():
    assert tokens("a b\tc\vd\fe\rf\0g\n") == list("abcdefg")


# ---- labels


def test_one_long_label_does_not_multiply_memory(folder, capsys):
    text = "".join(f"__label__c{i % 20} w{i % 20}\n" for i in range(20_000))
    (folder / "t").write_text(text + "__label__" + "A" * 20_000 + " w1\n")
    tracemalloc.start()
    try:
        assert run(capsys, "train", "t", "-o", "m", "--quiet", "--epoch", "1", "--dim", "4")[0] == 0
        assert run(capsys, "test", "m", "t")[0] == 0
        assert run(capsys, "tree", "t")[0] == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 << 20  # of fixed width: 1.6 GB


# ---- answers and ends


@posix
@pytest.mark.parametrize(
    ("content", "line"), [(TEXT, b"w1 common\n"), (ROWS, b"1 1:1\n")], ids=["text", "svmlight"]
)
def test_predict_answers_each_line_as_it_comes(folder, capsys, content, line):
    (folder / "t").write_text(content)
    run(capsys, "train", "t", "-o", "m", "--quiet", "--epoch", "1", "--dim", "4")
    child = subprocess.Popen(
        [*COMMAND, "predict", "m", "-"], env=ENV, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        for _ in range(3):
            child.stdin.write(line)
            child.stdin.flush()
            assert select.select([child.stdout], [], [], 60)[0]
            assert os.read(child.stdout.fileno(), 1000).endswith(b"\n")
    finally:
        child.stdin.close()
        assert child.wait(60) == 0
        child.stdout.close()


@posix
@pytest.mark.parametrize("command", [["info"], ["tree", "t"], ["--help"], ["train", "--help"]])
def test_a_reader_that_has_gone_is_no_error_and_a_full_disk_is_one_line(folder, command):
    (folder / "t").write_text(TEXT)
    out, into = os.pipe()
    os.close(out)
    done = subprocess.run([*COMMAND, *command], env=ENV, stdout=into, stderr=subprocess.PIPE)
    os.close(into)
    assert (done.returncode, done.stderr) == (0, b"")
    if not os.path.exists("/dev/full"):
        return
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, *command], env=ENV, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == b"sparseops: error: standard output: No space left on device\n"


def test_a_matrix_is_the_same_whatever_the_order_of_its_indices(folder):
    rng = np.random.default_rng(0)
    rows = [rng.permutation(50)[: rng.integers(1, 20)] for _ in range(40)]
    for name, order in (("a", np.sort), ("b", lambda ids: ids)):
        lines = ["1 " + " ".join(f"{i}:{i}.5" for i in order(ids)) for ids in rows]
        (folder / name).write_text("\n".join(lines))
    a, b = read("a").X, read("b").X
    for part in ("indptr", "indices", "data"):
        assert getattr(a, part).tobytes() == getattr(b, part).tobytes()


def test_one_command_is_one_file_whatever_the_threads_and_the_clock(folder, capsys, monkeypatch):
    """Progress lay where the clock was, and the saved file with it."""
    (folder / "t").write_text(TEXT)
    whole, names = BagTrainer._run, []

    def slow(self, *arguments):
        time.sleep(0.03)
        return whole(self, *arguments)

    for threads, pause in ((1, False), (2, False), (2, True)):
        if pause:
            monkeypatch.setattr(BagTrainer, "_run", slow)
        names.append(f"m{len(names)}")
        options = ["--epoch", "20", "--dim", "40", "--threads", str(threads), "--json"]
        code, out, _ = run(capsys, "train", "t", "-o", names[-1], *options)
        assert code == 0
        names[-1] = names[-1], json.loads(out)["nll"]
    files = {((folder / name).read_bytes(), nll) for name, nll in names}
    assert len(files) == 1


def test_a_tree_with_names_is_matched_with_labels(folder, capsys):
    h = Hierarchy.from_table(["c2", "c0", "c1", "few", "all"], ["few", "all", "few", "all", None])
    h.save("tree")
    (folder / "t").write_text(TEXT)
    options = ["--hierarchy", "tree", "--epoch", "3", "--dim", "8", "--quiet"]
    assert run(capsys, "train", "t", "-o", "m", *options)[0] == 0
    assert json.loads(run(capsys, "test", "m", "t", "--json")[1])["P@1"] > 0.3
    (folder / "other").write_text("__label__c9 x\n")
    code, _, err = run(capsys, "train", "other", "-o", "m2", *options)
    assert (code, "y must hold names of the hierarchy, got 'c9'" in err) == (2, True)


@posix
def test_an_output_that_is_no_file_is_refused_before_the_training(folder, capsys):
    (folder / "t").write_text(TEXT)
    for path in ("/dev/null", "."):
        code, _, err = run(capsys, "train", "t", "-o", path, "--quiet", "--epoch", "100000")
        assert (code, "output must be a file, got" in err) == (2, True)
