"""The command `sparseops`: every subcommand on small files, compressed input, and exit code 2."""

import bz2
import gzip
import io
import json
import lzma
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from cython_sparseops import BagTrainer, Hierarchy
from cython_sparseops._cli import readers as data
from cython_sparseops._cli.main import main
from cython_sparseops._cli.streams import open_lines
from cython_sparseops.sklearn import HSoftmaxClassifier

LINES = [
    f"__label__{animal} {sound} {place}"
    for animal, sound in [("cat", "purrs"), ("dog", "barks"), ("cow", "moos"), ("bee", "hums")]
    for place in ("here", "there", "at home", "in the wood", "")
] * 3
SVMLIGHT = "".join(f"{row % 3} {row % 3 + 1}:1 {4 + row % 2}:0.5 # note\n" for row in range(30))
WORDNET = Path(__file__).resolve().parents[2] / "cython_sparseops/data/wordnet"  # not in wheels
PARENT = np.array([4, 4, 5, 5, 6, 6, -1])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with training text, test text and svmlight data."""
    (tmp_path / "train.txt").write_text("\n".join(LINES) + "\n")
    (tmp_path / "test.txt").write_text(
        "__label__cat it purrs\n\n__label__dog barks a lot\n__label__gnu what\n"
    )
    (tmp_path / "train.svm").write_text(SVMLIGHT)
    np.savez(tmp_path / "tree.npz", parent=PARENT)
    (tmp_path / "numbers.txt").write_text("__label__0 a\n__label__1 b\n__label__3 c\n" * 20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(folder, capsys):
    assert main(["train", "train.txt", "-o", "model", "--dim", "16", "--quiet"]) == 0
    capsys.readouterr()
    return "model"


def refused(capsys, *arguments):
    """The one line on stderr of a command that ends with exit code 2."""
    try:
        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2, err
    assert err.startswith("sparseops")
    assert "error: " in err
    assert err.count("\n") == 1
    assert not out
    return err


# ---- train


def test_train_says_what_it_did(folder, capsys):
    assert main(["train", "train.txt", "-o", "model", "--dim", "8", "--epoch", "2"]) == 0
    out, err = capsys.readouterr()
    facts = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert facts["examples"] == "60"
    assert facts["classes"] == "4"
    assert facts["features"] == "11"
    assert "training" in err
    assert HSoftmaxClassifier.load("model").classes_.tolist() == ["bee", "cat", "cow", "dog"]


def test_train_hands_every_setting_to_the_classifier(folder, capsys):
    """--dropout and --max-norm had no option: settings were handed on by hand, one by one."""
    options = "--dim 8 --epoch 2 --lr 0.2 --batch-size 4 --weight-decay 0.01 --seed 3 --threads 1"
    options += " --optimizer sgd --dropout 0.25 --max-norm 0.5"
    assert main(["train", "train.txt", "-o", "model", "--quiet", *options.split()]) == 0
    params = HSoftmaxClassifier.load("model").get_params()
    assert (params["hidden_dim"], params["epochs"], params["lr"]) == (8, 2, 0.2)
    assert (params["batch_size"], params["weight_decay"], params["optimizer"]) == (4, 0.01, "sgd")
    assert (params["dropout"], params["max_norm"]) == (0.25, 0.5)
    assert (params["random_state"], params["num_threads"]) == (3, None)  # of the machine


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_compressed_input_trains_the_same_model(folder, model, pack):
    (folder / "packed").write_bytes(pack((folder / "train.txt").read_bytes()))
    assert main(["train", "packed", "-o", "other", "--dim", "16", "--quiet"]) == 0
    assert (folder / "other").read_bytes() == (folder / "model").read_bytes()


def test_stdin_trains_the_same_model(folder, model, monkeypatch):
    text = io.BytesIO((folder / "train.txt").read_bytes())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(text)))
    assert main(["train", "-", "-o", "other", "--dim", "16", "--quiet"]) == 0
    assert (folder / "other").read_bytes() == (folder / "model").read_bytes()


def test_threads_and_seed_are_passed_on(folder, model):
    command = ["train", "train.txt", "-o", "other", "--dim", "16", "--quiet"]
    assert main([*command, "--threads", "2"]) == 0
    one, two = (HSoftmaxClassifier.load(name).model_ for name in ("model", "other"))
    assert one.E.tobytes() == two.E.tobytes()
    assert main([*command, "--seed", "9"]) == 0
    assert one.E.tobytes() != HSoftmaxClassifier.load("other").model_.E.tobytes()


@pytest.mark.parametrize("tree", ["huffman", "two_level", "balanced"])
@pytest.mark.parametrize("optimizer", ["adagrad", "rowwise_adagrad", "sgd", "adam"])
def test_every_tree_and_optimizer_trains(folder, capsys, tree, optimizer):
    options = ["--hierarchy", tree, "--optimizer", optimizer, "--dim", "8", "--quiet", "--json"]
    assert main(["train", "train.txt", "-o", "model", *options, "--lr", "0.1"]) == 0
    assert json.loads(capsys.readouterr().out)["nll"] < 1.38


def test_a_tree_file_makes_labels_class_numbers(folder, capsys):
    Hierarchy.balanced(4).save("saved.tree")
    for tree in ("tree.npz", "saved.tree"):
        options = ["--hierarchy", tree, "--max-children", "2", "--dim", "8", "--quiet"]
        assert main(["train", "numbers.txt", "-o", "model", *options]) == 0
        classifier = HSoftmaxClassifier.load("model")
        assert classifier.classes_.tolist() == [0, 1, 2, 3]
        assert classifier.hierarchy_.n_nodes == 3
        capsys.readouterr()
        assert main(["test", "model", "numbers.txt", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["P@1"] == 1


def test_min_count_drops_rare_tokens(folder, capsys):
    (folder / "few.txt").write_text("__label__a x x y\n__label__b x z\n")
    assert main(["train", "few.txt", "-o", "m", "--min-count", "2", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["features"] == 1


def test_an_interrupted_training_saves_what_it_has(folder, capsys, monkeypatch):
    whole = BagTrainer.fit

    def stopped(self, *args, **options):
        yield next(whole(self, *args, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(BagTrainer, "fit", stopped)
    assert main(["train", "train.txt", "-o", "model", "--quiet", "--epoch", "50"]) == 130
    assert "the model so far is saved" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["test", str(folder / "model"), str(folder / "test.txt")]) == 0


def test_a_byte_order_mark_is_no_part_of_the_first_token(folder, model):
    (folder / "marked").write_bytes(b"\xef\xbb\xbf" + (folder / "train.txt").read_bytes())
    assert main(["train", "marked", "-o", "other", "--dim", "16", "--quiet"]) == 0
    assert (folder / "other").read_bytes() == (folder / "model").read_bytes()


# ---- test and predict


def test_test_measures(model, capsys):
    assert main(["test", model, "test.txt", "--json", "-k", "4"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["examples"] == 3
    assert result["unknown labels"] == 1
    assert result["P@1"] == result["R@1"] == result["R@4"] == pytest.approx(2 / 3)
    assert result["P@4"] == pytest.approx(2 / 3 / 4)
    classifier = HSoftmaxClassifier.load(model)
    vocabulary = sorted({word for line in LINES for word in line.split()[1:]})
    X = data.token_counter(vocabulary).transform(["it purrs", "barks a lot"])
    log_proba = classifier.predict_log_proba(X)[[0, 1], [1, 3]]
    assert result["nll"] == pytest.approx(-log_proba.mean(), rel=1e-6)


def test_predict_writes_a_line_for_each_line(model, capsys):
    assert main(["predict", model, "test.txt", "-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4  # the blank one too
    label, probability, second, _ = lines[0].split()
    assert (label, second[:9]) == ("__label__cat", "__label__")
    assert 0.5 < float(probability) <= 1


def test_predict_takes_more_labels_than_there_are(model, capsys):
    assert main(["predict", model, "test.txt", "-k", "99", "--json"]) == 0
    for line in capsys.readouterr().out.splitlines():
        result = json.loads(line)
        assert len(result["labels"]) == 4
        assert sum(result["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_predict_reads_stdin(model, child):
    command = ["-m", "cython_sparseops", "predict", model, "-"]
    done = child.run(command, input="it barks\nmoos there\n")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "__label__dog",
        "__label__cow",
    ]


def test_svmlight_is_read_throughout(folder, capsys):
    assert main(["train", "train.svm", "-o", "m", "--dim", "8", "--quiet", "--epoch", "60"]) == 0
    # an unknown feature, an unknown class, and a file that ends before the last feature
    (folder / "test.svm").write_text("0 1:1 99:3\n1 2:1\n7 3:1\n")
    capsys.readouterr()
    assert main(["test", "m", "test.svm", "-k", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["P@1"] == pytest.approx(2 / 3)
    assert result["unknown labels"] == 1
    (folder / "short.svm").write_text("0 1:1\n")
    assert main(["predict", "m", "short.svm"]) == 0
    assert capsys.readouterr().out.split()[0] == "0"


def test_an_index_of_svmlight_may_be_zero(folder):
    with open_lines("train.svm") as lines:
        X, labels = data.read_svmlight(lines)
    assert X.shape == (30, 6)
    assert labels.flat.dtype == np.int64
    (folder / "zero.svm").write_text("1.0 0:2 1:3\n")
    with open_lines("zero.svm") as lines:
        X, labels = data.read_svmlight(lines)
    assert X.toarray().tolist() == [[2, 3]]
    assert labels.flat.tolist() == [1]


# ---- tree, info, demo


@pytest.mark.parametrize("source", ["counts", "train.txt", "train.svm"])
def test_tree_compares_the_builders(folder, capsys, source):
    (folder / "counts").write_text("cat 8\ndog 4\ncow 2\nbee 2\n")
    assert main(["tree", source, "--dim", "10"]) == 0
    out = capsys.readouterr().out
    for name in ("huffman", "two_level", "balanced", "path length"):
        assert name in out
    assert main(["tree", source, "--json"]) == 0
    reports = json.loads(capsys.readouterr().out)
    counts = {"counts": [8, 4, 2, 2], "train.txt": [15] * 4, "train.svm": [10] * 3}[source]
    expected = Hierarchy.huffman(counts).report(counts, dim=100)
    assert reports["huffman"] == json.loads(json.dumps(expected._asdict()))


def test_bench_times_the_operators(folder, capsys):
    (folder / "counts").write_text("cat 8\ndog 4\ncow 2\nbee 2\n")
    fast = ["--dim", "8", "--batch-size", "4", "--seconds", "1", "--threads", "2"]
    assert main(["bench", "--classes", "50", *fast]) == 0
    out = capsys.readouterr().out
    assert out.startswith("50 classes, dim 8, batch 4, Huffman tree")
    assert main(["bench", "counts", "-k", "9", "--json", *fast]) == 0
    timings = json.loads(capsys.readouterr().out)
    assert {one["threads"] for one in timings} == {1, 2}
    assert all(one["ms"] > 0 and one["turns"] >= 3 for one in timings)
    assert {"nll", "nll + gradient", "exact top-9"} <= {one["operator"] for one in timings}
    assert "arity" in refused(capsys, "bench", "--classes", "5", "--arity", "1")


def test_info_describes_files_and_the_installation(model, capsys):
    assert main(["info"]) == 0
    assert "threads" in capsys.readouterr().out
    assert main(["info", "--json"]) == 0
    assert "threads" in json.loads(capsys.readouterr().out)
    assert main(["info", model]) == 0
    assert "fasttext" in capsys.readouterr().out
    assert main(["info", model, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["classes"], result["features"], result["hidden dim"]) == (4, 11, 16)
    Hierarchy.balanced(4).save("tree")
    assert main(["info", "tree"]) == 0
    assert "int" in capsys.readouterr().out


def test_the_demo_runs(folder, capsys):
    pytest.importorskip("matplotlib")
    demo = ["demo", "--data", str(WORDNET), "--quick", "--quiet"]
    assert main([*demo, "--output", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "R@5" in out
    assert out.count("%") == 25
    picture = folder / "sparseops-demo.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main([*demo, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["classes"] == 19381
    assert 0 < result["trees"]["taxonomy"]["p_at_1"] <= result["trees"]["taxonomy"]["r_at_5"] < 1
    for one in result["predictions"]:
        assert sorted(one["probabilities"], reverse=True) == one["probabilities"]


def test_the_bundled_data_are_whole():
    demo = pytest.importorskip("cython_sparseops._cli.demo")
    whole = demo.load_wordnet(folder=WORDNET)
    assert (len(whole.train), len(whole.test), len(whole.classes)) == (85749, 8703, 19381)
    assert len(whole.parent) == len(whole.classes) + len(whole.inner)
    assert np.bincount(whole.y_train, minlength=19381).min() == 1
    assert "Princeton University" in (WORDNET / "NOTICE").read_text()


def test_counts_climb_the_tree():
    node_counts = pytest.importorskip("cython_sparseops._cli.demo_plot").node_counts
    assert node_counts(PARENT, np.array([1, 2, 4, 8])).tolist() == [1, 2, 4, 8, 3, 12, 15]


# ---- help and refusals


COMMANDS = "", "train", "test", "predict", "tree", "bench", "info", "demo"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert not command or f"examples:\n  sparseops {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: COMMAND"),
        (["walk"], "invalid choice: 'walk'"),
        (["train", "train.txt"], "required: -o/--output"),
        (["train", "train.txt", "-o", "m", "--dim", "0"], "must be a positive integer, got '0'"),
        (["train", "train.txt", "-o", "m", "--seed", "-1"], "--seed"),
        (["train", "train.txt", "-o", "m", "--lr", "-1"], "lr must be"),
        (["train", "train.txt", "-o", "m", "--lr", "nan"], "lr must be"),
        (["train", "train.txt", "-o", "m", "--min-count", "99"], "min_count must leave"),
        (["train", "train.txt", "-o", "no/m"], "output must be in a folder that exists"),
        (["train", "train.txt", "-o", "m", "--hierarchy", "oak"], "hierarchy must be one of"),
        (["train", "train.txt", "-o", "m", "--hierarchy", "tree.npz"], "labels must be class num"),
        (["train", "train.svm", "-o", "m", "--hierarchy", "train.txt"], "train.txt"),
        (
            ["train", "numbers.txt", "-o", "m", "--hierarchy", "small.npz"],
            "labels must be in [0, 2",
        ),
        (["train", "numbers.txt", "-o", "m", "--hierarchy", "loop.npz"], "parents must"),
        (["train", "numbers.txt", "-o", "m", "--hierarchy", "other.npz"], "array 'parent'"),
        (["train", "numbers.txt", "-o", "m", "--hierarchy", "text.npz"], "array 'parent'"),
        (["train", "missing.txt", "-o", "m"], "missing.txt: No such file"),
        (["train", ".", "-o", "m"], "directory"),
        (["train", "empty", "-o", "m"], "must hold at least one example, got none"),
        (
            ["train", "plain", "-o", "m"],
            "must have __label__ labels or be svmlight, got 'no label'",
        ),
        (["train", "later", "-o", "m"], "got 'no label' in line 3"),
        (["train", "bare", "-o", "m"], "must hold at least one token"),
        (["train", "latin", "-o", "m"], "must be UTF-8, got byte 0xe9 in line 2"),
        (["train", "bad.svm", "-o", "m"], "bad.svm must be svmlight text"),
        (["train", "cut.xz", "-o", "m"], "cut.xz must be an undamaged file"),
        (["train", "cut.gz", "-o", "m"], "cut.gz must be an undamaged file"),
        (["train", "bad.gz", "-o", "m"], "bad.gz must be an undamaged file"),
        (["test", "train.txt", "test.txt"], "path must be"),
        (["test", "tree.sops", "test.txt"], "path must hold a saved HSoftmaxClassifier"),
        (["test", "by-hand", "test.txt"], "by-hand must be a model of `sparseops train`"),
        (["predict", "missing", "test.txt"], "missing: No such file"),
        (["predict", "model", "latin"], "must be UTF-8"),
        (["tree", "plain"], "must have a count at the end of every line, got 'label' in line 1"),
        (["tree", "empty"], "must hold at least one count, got none"),
        (["info", "train.txt"], "path must be"),
        (["demo", "--output", "nowhere"], "output must be a folder that exists, got nowhere"),
    ],
)
def test_bad_input_ends_with_one_line(folder, model, capsys, arguments, words):
    np.savez(folder / "small.npz", parent=np.array([2, 2, -1]))
    np.savez(folder / "loop.npz", parent=np.array([4, 4, 4, 4, 6, 6, 5]))
    np.savez(folder / "other.npz", child=PARENT)
    (folder / "text.npz").write_text("no archive")
    (folder / "empty").write_text("\n \n")
    (folder / "plain").write_text("no label\n")
    (folder / "later").write_text("__label__a x\n\nno label\n")
    (folder / "bare").write_text("__label__a\n__label__b\n")
    (folder / "latin").write_bytes(b"__label__a x\n__label__b caf\xe9\n")
    (folder / "bad.svm").write_text("1 2:x\n")
    text = (folder / "train.txt").read_bytes()
    (folder / "cut.xz").write_bytes(lzma.compress(text)[:-40])
    (folder / "cut.gz").write_bytes(gzip.compress(text)[:-10])
    (folder / "bad.gz").write_bytes(gzip.compress(text)[:-8] + b"12345678")
    Hierarchy.balanced(3).save("tree.sops")
    HSoftmaxClassifier().fit([[0.0], [1.0]], ["a", "b"]).save("by-hand")
    if arguments[:1] == ["demo"]:
        pytest.importorskip("matplotlib")
    assert words in refused(capsys, *arguments)
    assert not (folder / "m").exists()


def test_without_scikit_learn_it_says_what_to_install(folder, capsys, monkeypatch):
    for name in ("cython_sparseops._cli.model", "cython_sparseops.sklearn", "sklearn"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install" in refused(capsys, "train", "train.txt", "-o", "m")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell with head")
def test_a_reader_that_goes_away_is_no_error(model):
    text = "purrs\n" * 50000
    command = f"'{sys.executable}' -m cython_sparseops predict model - | head -1"
    done = subprocess.run(command, shell=True, input=text, capture_output=True, text=True)
    assert done.stdout.startswith("__label__cat")
    assert not done.stderr
