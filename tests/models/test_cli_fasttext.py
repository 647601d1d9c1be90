"""fastText's own commands: the real program's output on the same files, and its way of reading."""

import gzip
import importlib.util
import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from cython_sparseops._cli.corpus import open_corpus
from cython_sparseops._cli.fasttext_text import learn_vocabulary
from cython_sparseops._cli.model import CliModel
from cython_sparseops._cli.streams import InputError
from cython_sparseops._cli.supervised import Settings, train
from cython_sparseops._text import Hashing
from cython_sparseops.cli import main

FASTTEXT = shutil.which("fasttext")
real = pytest.mark.skipif(FASTTEXT is None, reason="fastText's program is not installed")
TRAINED = ["-loss", "hs", "-epoch", "40", "-lr", "0.5", "-dim", "10"]


def lines(seed, n=400):
    """Lines of five labels; two with odd contents."""
    draw = random.Random(seed)
    found = []
    for i in range(n):
        c = i % 5
        words = [
            draw.choice([f"w{c}{draw.randrange(4)}", f"n{draw.randrange(9)}"]) for _ in "six**"
        ]
        found.append(f"__label__c{c} {' '.join(words)} w{c}0 w{c}1")
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    train = lines(0)
    train[9:9] = [
        "no label here w10",
        "__label__c1 w10 </s> w11 w12",
        "",
        "\x0b__label__c2\tw20 w21",
    ]
    (tmp_path / "train.txt").write_text("\n".join(train) + "\n")
    test = ["__label__c0 w00 w01", "__label__c3 w30 w31", "w40 w41", "__label__zz w10 w11"]
    test += ["__label__c1 __label__c2 w10 w11 w20", "__label__c4 w40 </s> w21 w20"]
    (tmp_path / "test.txt").write_text("\n".join(test) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(folder, capsys):
    assert run(capsys, "supervised", "-input", "train.txt", "-output", "m", *TRAINED)[0] == 0
    return "m.bin"


def run(capsys, *arguments):
    """Code, stdout and stderr of a command."""
    capsys.readouterr()
    try:
        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def fasttext(*arguments, **options):
    """What the real program prints."""
    done = subprocess.run(
        [FASTTEXT, *arguments], capture_output=True, text=True, check=True, timeout=60, **options
    )
    return done.stdout


# ---- the real program beside ours


@pytest.fixture
def theirs(folder):
    fasttext("supervised", "-input", "train.txt", "-output", "r", *TRAINED, "-thread", "1")
    return "r.bin"


@real
@pytest.mark.parametrize("tail", [[], ["1"], ["1", "0.9"], ["2", "0.1"]])
def test_predict_prints_what_fasttext_prints(model, theirs, capsys, tail):
    ours = run(capsys, "predict", model, "test.txt", *tail)[1].splitlines()
    want = fasttext("predict", theirs, "test.txt", *tail).splitlines()
    assert len(ours) == len(want) == 7  # a literal </s> ends an example
    assert [line.split()[:1] for line in ours] == [line.split()[:1] for line in want]
    assert [len(line.split()) for line in ours] == [len(line.split()) for line in want]


@real
@pytest.mark.parametrize("tail", [[], ["1"], ["2", "0.5"]])
def test_predict_prob_prints_what_fasttext_prints(model, theirs, capsys, tail):
    ours = run(capsys, "predict-prob", model, "test.txt", *tail)[1].splitlines()
    want = fasttext("predict-prob", theirs, "test.txt", *tail).splitlines()
    form = r"(__label__\w+ [\d.e-]+( __label__\w+ [\d.e-]+)*)?"
    assert len(ours) == len(want) == 7
    for mine, other in zip(ours, want, strict=True):
        assert re.fullmatch(form, mine)
        assert re.fullmatch(form, other)
        assert mine.split()[::2] == other.split()[::2]


@real
@pytest.mark.parametrize("tail", [[], ["1"], ["1", "0.2"], ["5"]])
def test_test_prints_what_fasttext_prints(model, theirs, capsys, tail):
    """N counts lines with a label that the model knows; P and R are over all labels together."""
    code, ours, _ = run(capsys, "test", model, "test.txt", *tail)
    assert code == 0
    if tail == ["5"]:  # fastText leaves out what is less likely than 1e-5
        ours, want = (
            "\n".join(text.splitlines()[i] for i in (0, 2))
            for text in (ours, fasttext("test", theirs, "test.txt", *tail))
        )
        assert ours == want
        return
    assert ours == fasttext("test", theirs, "test.txt", *tail)


@real
def test_test_label_prints_lines_of_the_form_that_fasttext_prints(model, theirs, capsys):
    """Debian's build of 0.9.2 leaves out all recalls: only what it knows is compared."""
    ours = run(capsys, "test-label", model, "test.txt")[1].splitlines()
    want = fasttext("test-label", theirs, "test.txt").splitlines()
    form = r"F1-Score : (\S{8})  Precision : (\S{8})  Recall : (\S{8})   (__label__\w+)"
    assert ours[-3:] == want[-3:]
    mine, other = (
        {m[4]: m[2] for m in (re.fullmatch(form, line) for line in found[:-3])}
        for found in (ours, want)
    )
    assert mine == other
    assert len(mine) == 5


@real
def test_print_word_vectors_prints_what_fasttext_prints(model, theirs, capsys, child):
    """A word that is not in the dictionary is all zeros."""
    want = fasttext("print-word-vectors", theirs, input="w00 zzz\nn1\n").splitlines()
    command = ["-m", "cython_sparseops", "print-word-vectors", "m"]
    ours = child.run(command, input="w00 zzz\nn1\n").stdout.splitlines()
    assert [line.split(" ")[0] for line in ours] == [line.split(" ")[0] for line in want]
    assert [line.count(" ") for line in ours] == [line.count(" ") for line in want]
    assert ours[1] == want[1] == "zzz" + " 0" * 10 + " "


@real
def test_the_dictionary_is_that_of_fasttext(folder, theirs):
    dump = [line.rsplit(" ", 2) for line in fasttext("dump", theirs, "dict").splitlines()[1:]]
    with open_corpus("train.txt") as corpus:
        found = learn_vocabulary(corpus, Hashing(), "__label__")
    words, labels = found.features.words.to_list(), found.features.labels.to_list()
    assert sorted(words) == sorted(w.encode() for w, _, kind in dump if kind == "word")
    assert sorted(labels) == sorted(w.encode() for w, _, kind in dump if kind == "label")
    counts = {word: int(n) for word, n, _ in dump}
    assert found.tokens == sum(counts.values())
    ordered = [counts[word.decode()] for word in words]
    assert ordered == found.word_counts.tolist()
    assert ordered == sorted(ordered, reverse=True)


@real
@pytest.mark.parametrize("options", [["-wordNgrams", "2"], ["-minn", "2", "-maxn", "4"]])
def test_ngrams_reach_the_accuracy_of_fasttext(folder, capsys, options):
    (folder / "new.txt").write_text("\n".join(lines(1)) + "\n")
    options = ["-input", "train.txt", *TRAINED, "-bucket", "5000", *options]
    fasttext("supervised", "-output", "r", *options, "-thread", "1")
    run(capsys, "supervised", "-output", "m", *options)
    want = float(fasttext("test", "r.bin", "new.txt").split()[3])
    assert float(run(capsys, "test", "m", "new.txt")[1].split()[3]) >= want - 0.02


# ---- options


def test_the_defaults_and_the_options_reach_the_classifier(folder, capsys):
    run(capsys, "supervised", "-input", "train.txt", "-output", "m")
    params = CliModel.load("m.bin").classifier.get_params()
    assert (params["hidden_dim"], params["epochs"], params["lr"]) == (100, 5, 0.1)
    assert CliModel.load("m.bin").classifier.hierarchy_.n_nodes == 1  # a plain softmax
    options = "-lr 0.25 -epoch 7 -dim 12 -loss hs -seed 3 -thread 1 -minCount 4 -ws 5 -verbose 0"
    code, out, err = run(
        capsys, "supervised", "-input", "train.txt", "-output", "m", *options.split()
    )
    assert (code, out, err) == (0, "", "")
    model = CliModel.load("m.bin")
    params = model.classifier.get_params()
    assert (params["hidden_dim"], params["epochs"], params["lr"]) == (12, 7, 0.25)
    assert (params["random_state"], model.classifier.hierarchy_.n_nodes) == (3, 4)
    assert b"here" not in model.source.text.words.utf8.tobytes()


def test_labels_have_their_own_prefix_and_least_count(folder, capsys):
    (folder / "own.txt").write_text("@a x y\n@b y z\n" * 30 + "@rare x\n")
    options = ["-input", "own.txt", "-label", "@", "-minCountLabel", "2", *TRAINED]
    assert run(capsys, "supervised", "-output", "m", *options)[0] == 0
    out = run(capsys, "predict", "m", "own.txt")[1].splitlines()
    assert out[:2] == ["@a", "@b"]
    assert CliModel.load("m.bin").classes.tolist() == ["a", "b"]


def test_buckets_that_nothing_fills_get_no_row(folder, capsys):
    options = ["-input", "train.txt", "-wordNgrams", "2", *TRAINED]
    run(capsys, "supervised", "-output", "m", *options)
    model = CliModel.load("m.bin")
    assert model.source.text.settings()["buckets"] == 2_000_000
    assert len(model.classifier.model_.E) < 10_000
    assert run(capsys, "predict", "m", "test.txt")[0] == 0


def test_several_labels_share_the_weight_of_their_line(folder, capsys):
    (folder / "two.txt").write_text("__label__a __label__b x\n__label__b y\n" * 100)
    run(capsys, "supervised", "-input", "two.txt", "-output", "m", *TRAINED)
    (folder / "x.txt").write_text("x\ny\n")
    first, second = run(capsys, "predict-prob", "m", "x.txt", "2")[1].splitlines()
    assert [float(p) for p in first.split()[1::2]] == pytest.approx([0.5, 0.5], abs=0.05)
    assert second.startswith("__label__b 0.9")


def test_bytes_that_are_no_utf8_are_read(folder, capsys):
    (folder / "latin.txt").write_bytes(b"__label__a caf\xe9\n__label__b th\xe9 x\n" * 50)
    assert run(capsys, "supervised", "-input", "latin.txt", "-output", "m", *TRAINED)[0] == 0
    out = run(capsys, "predict", "m", "latin.txt")[1].splitlines()
    assert out[:2] == ["__label__a", "__label__b"]


def test_files_larger_than_a_block_train_the_same_whatever_the_threads(folder):
    """Rows are read again in each pass where memory does not hold them."""
    files = []
    for threads, memory in ((1, 1 << 30), (2, 0)):
        with open_corpus("train.txt", block=3000) as corpus, pytest.MonkeyPatch.context() as patch:
            patch.setattr("cython_sparseops._cli.fasttext_text._memory", lambda: memory)  # noqa: B023
            settings = Settings(epoch=3, dim=5, hashing=Hashing(2), loss="hs", threads=threads)
            trained = train(corpus, settings)
            assert len(corpus) > 5
        trained.model.save("m")
        files.append(Path("m").read_bytes())
        assert trained.model.classifier.history_[-1].examples == 3 * 402
    assert files[0] == files[1]


@pytest.mark.parametrize("ending", ["", "\n", "x" * 9999, "\nx\n" * 50])
def test_blocks_are_whole_lines(tmp_path, ending):
    text = ("\ufeff__label__a b\n" + "c d\n" * 30 + ending).encode()
    (tmp_path / "text").write_bytes(text)
    (tmp_path / "packed").write_bytes(gzip.compress(text))
    for name in ("text", "packed"):
        with open_corpus(str(tmp_path / name), block=50) as corpus:
            first = list(corpus)
            assert [corpus[i] for i in range(len(corpus))] == first == list(corpus)
        assert b"".join(first) == text[3:]
        assert all(block.endswith(b"\n") for block in first[:-1])


def test_a_file_that_shrinks_is_refused(tmp_path):
    path = tmp_path / "text"
    path.write_text("__label__a b\n" * 100)
    with open_corpus(str(path), block=500) as corpus:
        assert len(corpus) > 1
        path.write_text("")
        with pytest.raises(InputError, match="must not change while it is read"):
            list(corpus)


def test_vectors_of_words_are_what_training_begins_with(folder, capsys):
    rows = ["3 4", "w00 1 0 0 2", "</s> 0.5 0 -1e-3 0", "new 7 7 7 7"]
    (folder / "words.vec").write_text("\n".join(rows) + "\n")
    options = ["-dim", "4", "-lr", "1e-9", "-loss", "hs", "-pretrainedVectors", "words.vec"]
    run(capsys, "supervised", "-input", "train.txt", "-output", "m", *options)
    model = CliModel.load("m.bin")
    words, E = model.source.text.words.to_list(), model.classifier.model_.E
    assert words[-1] == b"new"
    found = E[[words.index(word) for word in (b"w00", b"new")]]
    assert np.abs(found - [[1, 0, 0, 2], [7, 7, 7, 7]]).max() < 1e-6  # of steps that small


def test_a_k_told_by_its_place_asks_for_fasttexts_form(folder, capsys):
    """Of a model of `sparseops train` too."""
    (folder / "good.txt").write_text("\n".join(lines(0)) + "\n")
    run(capsys, "train", "good.txt", "-o", "m", "--head", "linear", "--quiet")
    assert run(capsys, "predict", "m", "test.txt", "1")[1].splitlines()[0] == "__label__c0"
    assert 0 < float(run(capsys, "predict", "m", "good.txt")[1].split()[1]) <= 1
    out = run(capsys, "test", "m", "good.txt", "1")[1]
    assert re.fullmatch(r"N\t400\nP@1\t[\d.]+\nR@1\t[\d.]+\n", out)
    assert "nDCG@1" in run(capsys, "test", "m", "good.txt")[1]


def test_json_is_printed_where_it_is_asked_for(model, capsys):
    found = json.loads(run(capsys, "test", model, "test.txt", "--json")[1])
    assert found["N"] == 4
    rows = json.loads(run(capsys, "test-label", model, "test.txt", "--json")[1])["labels"]
    assert {row["label"]: row["recall"] for row in rows}["__label__c0"] == 1
    first = run(capsys, "predict-prob", model, "test.txt", "--json")[1].splitlines()[0]
    assert json.loads(first)["labels"] == ["__label__c0"]
    assert json.loads(run(capsys, "info", "m", "--json")[1])["classes"] == 5


# ---- quantize, autotune


def test_quantize_makes_a_smaller_model_of_nearly_the_same_answers(folder, capsys):
    train = ["supervised", "-input", "train.txt", "-output", "q", "-wordNgrams", "2", "-dim", "50"]
    run(capsys, *train, "-loss", "hs", "-lr", "0.5", "-epoch", "30")
    code, out, err = run(capsys, "quantize", "-output", "q", "-input", "train.txt", "-qnorm")
    assert (code, out) == (0, "")
    assert "P@1" in err
    assert (folder / "q.ftz").stat().st_size < 0.5 * (folder / "q.bin").stat().st_size
    whole, small = CliModel.load("q.bin"), CliModel.load("q.ftz")
    X, _ = whole.read_labeled("train.txt")
    p, q = (np.exp(one.classifier.predict_log_proba(X)) for one in (whole, small))
    assert np.abs(p - q).max() < 0.1
    found = json.loads(
        run(capsys, "quantize", "-output", "q", "-cutoff", "60", "-input", "train.txt", "--json")[1]
    )
    assert found["P@1"] > found["P@1 before"] - 0.1
    assert len(CliModel.load("q.ftz").classifier.model_.E) == 60
    assert run(capsys, "predict", "q.ftz", "test.txt")[0] == 0


def test_autotune_keeps_what_is_best_and_what_was_given(folder, capsys):
    (folder / "valid.txt").write_text("\n".join(lines(2)) + "\n")
    base = ["supervised", "-input", "train.txt", "-output", "m", "-loss", "hs", "-dim", "10"]
    tune = ["-autotune-validation", "valid.txt", "-autotune-duration", "60"]
    code, out, err = run(capsys, *base, *tune, "-epoch", "3", "-verbose", "0", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["settings"]["epoch"] == 3
    assert found["settings"]["dim"] == 10
    assert not [one for one in found["tried"] if {"epoch", "dim"} & {*one["changed"]}]
    best = max(one["f1"] for one in found["tried"])
    assert float(run(capsys, "test", "m", "valid.txt")[1].split()[3]) == pytest.approx(
        best, abs=5e-4
    )
    again = json.loads(run(capsys, *base, *tune, "-epoch", "3", "-verbose", "0", "--json")[1])
    assert [one["f1"] for one in again["tried"]] == [one["f1"] for one in found["tried"]]
    short = run(capsys, *base, *tune[:3], "1e-9", "-verbose", "2")
    assert short[0] == 0
    assert short[2].count("F1 ") == 1
    assert "-lr 0.1 -epoch 5" in short[1]


# ---- refusals


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["supervise"], "did you mean supervised?"),
        (["supervised", "-input", "a", "-output", "b", "-wordNgrms", "2"], "mean -wordNgrams?"),
        (["train", "a", "-o", "b", "--wordngrams", "2"], "did you mean --word-ngrams?"),
        (["train", "a", "-o", "b", "--epochs=2"], "did you mean --epoch?"),
        (["train", "a", "-o", "b", "--head", "linar"], "did you mean linear?"),
        (["supervised", "-output", "b"], "required: -input"),
        (["supervised", "-input", "train.txt", "-output", "no/m"], "folder that exists, got no/m"),
        (["supervised", "-input", "missing", "-output", "m"], "missing: No such file"),
        (["supervised", "-input", "train.txt", "-output", "m", "-loss", "ns"], "hs or softmax"),
        (["supervised", "-input", "train.txt", "-output", "m", "-lr", "0"], "a positive number"),
        (["supervised", "-input", "train.txt", "-output", "m", "-minn", "3"], "at least minn"),
        (
            ["supervised", "-input", "train.txt", "-output", "m", "-label", ""],
            "at least one letter",
        ),
        (["supervised", "-input", "none.txt", "-output", "m"], "must hold at least one label"),
        (
            ["supervised", "-input", "train.txt", "-output", "m", "-minCount", "99999"],
            "must hold a word 99999 times",
        ),
        (
            ["supervised", "-input", "train.txt", "-output", "m", "-autotune-validation", "no"],
            "autotune-validation must be a file, got no",
        ),
        (
            ["supervised", "-input", "train.txt", "-output", "m", "-autotune-modelsize", "2M"],
            "quantize -cutoff makes a trained model smaller), got 2M",
        ),
        (
            ["supervised", "-input", "train.txt", "-output", "m", "-pretrainedVectors", "none.txt"],
            "none.txt must begin with two numbers",
        ),
        (
            ["supervised", "-input", "train.txt", "-output", "m", "-pretrainedVectors", "a.vec"],
            "dim must be that of the vectors, 3, got 100",
        ),
        (
            [
                *["supervised", "-input", "train.txt", "-output", "m", "-dim", "3"],
                *["-pretrainedVectors", "a.vec"],
            ],
            "a.vec must hold a word and 3 numbers a line, got 'x 1 2' in line 2",
        ),
        (["predict-prob", "missing", "test.txt"], "missing: No such file"),
        (["test-label", "good.bin", "none.txt"], "must hold a label that the model knows"),
        (["predict", "good.bin", "test.txt", "0"], "must be a positive integer, got '0'"),
        (["predict", "good.bin", "test.txt", "1", "2"], "must be a number from 0 to 1, got '2'"),
        (["quantize", "-output", "linear"], "must be one of `sparseops supervised`, got another"),
        (["quantize", "-output", "missing"], "missing.bin: No such file"),
    ],
)
def test_bad_input_ends_with_one_line(folder, capsys, arguments, words):
    (folder / "none.txt").write_text("no label\n")
    (folder / "a.vec").write_text("1 3\nx 1 2\n")
    run(capsys, "supervised", "-input", "train.txt", "-output", "good", *TRAINED)
    (folder / "plain.txt").write_text("\n".join(lines(0)) + "\n")
    run(capsys, "train", "plain.txt", "-o", "linear.bin", "--head", "linear", "--quiet")
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert "error: " in err


def test_a_linear_model_has_no_word_vectors(folder, child, capsys):
    (folder / "plain.txt").write_text("\n".join(lines(0)) + "\n")
    run(capsys, "train", "plain.txt", "-o", "linear", "--head", "linear", "--quiet")
    command = ["-m", "cython_sparseops", "print-word-vectors", "linear"]
    done = child.run(command, input="w00\n", check=False)
    assert done.returncode == 2
    assert "must be an embedding of text" in done.stderr
    run(capsys, "train", "plain.txt", "-o", "e", "--dim", "7", "--quiet")
    command = ["-m", "cython_sparseops", "print-word-vectors", "e"]
    assert len(child.run(command, input="w00\n").stdout.split()) == 8


# ---- the guide


def test_the_transcript_of_the_guide_is_what_we_print(tmp_path):
    root = Path(__file__).resolve().parents[2]
    script = root / "docs" / "_ext" / "fasttext_transcript.py"
    if not script.exists():
        pytest.skip("the sources are not here")
    spec = importlib.util.spec_from_file_location("fasttext_transcript", script)
    transcript = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(transcript)
    shown = transcript.shown(transcript.PAGE.read_text(encoding="utf-8"))
    assert list(shown) == transcript.COMMANDS
    transcript.write_files(tmp_path)
    for command, text in shown.items():
        assert transcript.own(command, tmp_path) == text
