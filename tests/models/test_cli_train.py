"""`sparseops train` on several labels, both heads, text options, and the choice between them."""

import json

import numpy as np
import pytest

pytest.importorskip("sklearn")

from cython_sparseops import ndcg_at_k, precision_at_k, propensities, psp_at_k, recall_at_k
from cython_sparseops.cli import main
from cython_sparseops.sklearn import HSoftmaxClassifier, LabelTreeClassifier

WORDS = [f"word{i}" for i in range(40)]


def texts(rng, n, several):
    """Lines whose labels are the tens of their words."""
    lines = []
    for _ in range(n):
        found = rng.choice(40, 6)
        labels = sorted({i // 10 for i in found[: 1 + 2 * several]})
        own = [10 * c + i for c in labels for i in rng.integers(0, 10, 4)]
        rest = " ".join(WORDS[i].title() for i in [*own, *rng.integers(0, 40, 2)])
        lines.append(" ".join(f"__label__t{c}" for c in labels) + f" {rest}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name, several in (("one", False), ("tags", True)):
        (tmp_path / f"{name}.txt").write_text(texts(rng, 300, several))
        (tmp_path / f"{name}-test.txt").write_text(texts(rng, 100, several))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *arguments):
    """Code, stdout and stderr of a command."""
    capsys.readouterr()
    try:
        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


def figures(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0
    assert err == "" or "several labels, which share" in err
    return json.loads(out)


def train(capsys, name, *options):
    return figures(capsys, "train", name, "-o", "m", "--quiet", *options)


# ---- heads


@pytest.mark.parametrize("options", [["--head", "linear"], ["--trees", "1"], ["--C", "2"]])
def test_linear_weights_are_trained_of_text(folder, capsys, options):
    assert train(capsys, "one.txt", *options)["head"] == "linear"
    assert figures(capsys, "test", "m", "one-test.txt")["P@1"] > 0.9
    code, out, _ = run(capsys, "predict", "m", "one-test.txt", "-k", "2")
    assert code == 0
    assert len(out.splitlines()) == 100
    assert figures(capsys, "info", "m")["trees"] == 1


def test_linear_options_reach_the_classifier(folder, capsys):
    options = "--trees 2 --loss softmax --C 0.5 --threshold 0.05 --hierarchy balanced --seed 4"
    train(capsys, "one.txt", *options.split())
    model = LabelTreeClassifier.load("m")
    assert (model.n_trees, model.loss, model.C) == (2, "softmax", 0.5)
    assert (model.threshold, model.hierarchy, model.random_state) == (0.05, "balanced", 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--trees", "2", "--dim", "8"], "options must be of one head, got --trees and --dim"),
        (["--head", "linear", "--lr", "1"], "--lr must go with --head embedding, got linear"),
        (["--head", "embedding", "--C", "1"], "--C must go with --head linear, got embedding"),
        (["--char-ngrams", "3"], "--char-ngrams: must be MIN:MAX, such as 3:5, got '3'"),
        (["--char-ngrams", "5:3"], "must be MIN:MAX"),
        (["--time-budget", "0"], "must be a positive number"),
        (["--validation", "2"], "must be a number from 0 to 1"),
        (["--validation", "0.9"], "validation_fraction must be in (0, 0.5]"),
        (["--dropout", "2"], "dropout must be"),
        (["--max-norm", "0"], "max_norm must be"),
        (["--min-count", "10000"], "min_count must leave at least one token"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(folder, capsys, options, words):
    code, out, err = run(capsys, "train", "one.txt", "-o", "m", "--quiet", *options)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert not (folder / "m").exists()


# ---- text


def test_tfidf_and_ngrams_are_those_of_scikit_learn_and_lie_in_the_file(folder, capsys):
    from sklearn.feature_extraction.text import TfidfVectorizer

    train(capsys, "one.txt", "--head", "linear", "--word-ngrams", "2", "--seed", "0")
    lines = [line.split() for line in (folder / "one.txt").read_text().splitlines()]
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), dtype=np.float32)
    X = words.fit_transform([" ".join(line[1:]) for line in lines])
    peer = LabelTreeClassifier(random_state=0).fit(X, [line[0][9:] for line in lines])
    new = (folder / "one-test.txt").read_text().splitlines()
    want = peer.top_k(words.transform([line.partition(" ")[2] for line in new]), 1)
    out = run(capsys, "predict", "m", "one-test.txt")[1].splitlines()
    assert [line.split()[0][9:] for line in out] == want.labels[:, 0].tolist()
    found = [float(line.split()[1]) for line in out]
    assert found == pytest.approx(np.exp(want.log_probs[:, 0]), rel=1e-4)


def test_every_option_of_text_changes_the_columns(folder, capsys):
    (folder / "few.txt").write_text("__label__a One two ONE x\n__label__b two three\n" * 30)
    base = ["--head", "linear"]
    columns = {
        "words": train(capsys, "few.txt", *base)["features"],
        "case": train(capsys, "few.txt", *base, "--no-lowercase")["features"],
        "blanks": train(capsys, "few.txt", *base, "--tokens", "blanks")["features"],
        "counts": train(capsys, "few.txt", *base, "--no-tfidf", "--lowercase")["features"],
        "ngrams": train(capsys, "few.txt", *base, "--word-ngrams", "2")["features"],
        "chars": train(capsys, "few.txt", *base, "--char-ngrams", "1:1")["features"],
        "min": train(capsys, "few.txt", *base, "--min-count", "40")["features"],
        "embedding": train(capsys, "few.txt", "--dim", "4")["features"],
        "embedded tfidf": train(capsys, "few.txt", "--dim", "4", "--tfidf")["features"],
    }
    assert columns == {
        "words": 3,  # one, two, three
        "case": 4,  # One and ONE
        "blanks": 5,  # One, ONE, two, three, x
        "counts": 4,  # one, two, three, x
        "ngrams": 6,  # and one two, two one, two three
        "chars": 12,  # and the blank and 8 letters: e h n o r t w x
        "min": 2,
        "embedding": 5,
        "embedded tfidf": 3,
    }


def test_text_of_single_letters_is_taken_as_it_is(folder, capsys):
    (folder / "letters.txt").write_text("__label__a x y\n__label__b y z\n" * 30)
    assert train(capsys, "letters.txt")["features"] == 3


def test_tfidf_of_svmlight_is_stored(folder, capsys):
    rows = "".join(f"{i % 3} {i % 3}:{1 + i % 2} 3:1\n" for i in range(60))
    (folder / "rows.svm").write_text(rows)
    train(capsys, "rows.svm", "--tfidf", "--trees", "1")
    weighted = run(capsys, "predict", "m", "rows.svm")[1]
    train(capsys, "rows.svm", "--trees", "1")
    assert run(capsys, "predict", "m", "rows.svm")[1] != weighted
    (folder / "bad.svm").write_text("0 1:-1\n1 2:1\n")
    code, _, err = run(capsys, "train", "bad.svm", "-o", "m", "--tfidf", "--quiet")
    assert (code, "must have positive values for --tfidf, got -1" in err) == (2, True)


# ---- several labels a line


@pytest.mark.parametrize("form", ["text", "svmlight", "header"])
@pytest.mark.parametrize("head", ["linear", "embedding"])
def test_all_labels_of_a_line_are_trained(folder, capsys, form, head):
    for name in ("tags", "tags-test"):
        if form == "text":
            break
        rows = []
        for line in (folder / f"{name}.txt").read_text().splitlines():
            parts = line.split()
            labels = [part[10:] for part in parts if part.startswith("__label__")]
            ids = sorted({int(part[4:]) for part in parts if part.startswith("Word")})
            rows.append(",".join(labels) + " " + " ".join(f"{i}:0.4" for i in ids))
        first = f"{len(rows)} 40 4\n" if form == "header" else ""
        (folder / f"{name}.txt").write_text(first + "\n".join(rows) + "\n")
    result = train(capsys, "tags.txt", "--head", head)
    assert result["labels"] > result["examples"] == 300
    assert result["classes"] == 4
    found = figures(capsys, "test", "m", "tags-test.txt", "-k", "3")
    assert found["P@1"] > 0.9
    assert found["R@3"] > 0.9
    assert found["nll"] is None
    names = {"linear": "several", "embedding": None}
    assert figures(capsys, "info", "m").get("labels per row") == names[head]
    code, out, _ = run(capsys, "predict", "m", "tags-test.txt", "-k", "4", "--threshold", "0.5")
    counts = [len(line.split()) // 2 for line in out.splitlines()]
    assert code == 0
    assert len(counts) == 100
    if head == "linear":
        assert max(counts) > 1
        assert out.split()[0] in (
            "__label__t0",
            "__label__t1",
            "__label__t2",
            "__label__t3",
            *"0123",
        )


def test_a_tree_of_several_labels_has_its_classes_as_columns(folder, capsys):
    np.savez(folder / "tree.npz", parent=np.array([5, 5, 6, 6, 6, 7, 7, -1]))
    (folder / "tags.svm").write_text("0,1 0:1\n2 1:1\n3,2 2:1\n" * 20)
    train(capsys, "tags.svm", "--hierarchy", "tree.npz")
    out = run(capsys, "predict", "m", "tags.svm", "-k", "5", "--threshold", "0.5")[1]
    rows = [sorted(line.split()[::2]) for line in out.splitlines()[:3]]
    assert rows == [["0", "1"], ["2"], ["2", "3"]]


def test_several_labels_are_matched_with_the_names_of_a_tree(folder, capsys):
    """In whatever order the tree has them; inner categories are labels too."""
    from cython_sparseops import Hierarchy

    names = ["t3", "t1", "low", "t0", "t2", "high", "all"]
    above = ["high", "low", "all", "low", "high", "all", None]
    Hierarchy.from_table(names, above).save("tree")
    lines = ["@t0 @t1 a b", "@t2 @low c a", "@t3 d", "@t1 b"] * 30
    (folder / "named.txt").write_text("\n".join(lines).replace("@", "__label__") + "\n")
    train(capsys, "named.txt", "--hierarchy", "tree", "--head", "linear")
    out = run(capsys, "predict", "m", "named.txt", "-k", "5", "--threshold", "0.5")[1]
    rows = [sorted(line.split()[::2]) for line in out.splitlines()[:4]]
    want = [["t0", "t1"], ["low", "t2"], ["t3"], ["t1"]]
    assert rows == [["__label__" + name for name in row] for row in want]
    (folder / "odd.txt").write_text("__label__t0 __label__zebra a\n" * 5)
    code, _, err = run(capsys, "train", "odd.txt", "-o", "m", "--hierarchy", "tree", "--quiet")
    assert (code, "zebra" in err, err.count("\n")) == (2, True, 1)


# ---- figures


@pytest.mark.parametrize("name", ["one", "tags"])
def test_figures_are_those_of_the_library(folder, capsys, name):
    train(capsys, f"{name}.txt", "--head", "linear")
    found = figures(capsys, "test", "m", f"{name}-test.txt", "-k", "2")
    lines = [line.split() for line in (folder / f"{name}-test.txt").read_text().splitlines()]
    truth = np.array([[f"__label__t{c}" in line for c in range(4)] for line in lines], int)
    out = run(capsys, "predict", "m", f"{name}-test.txt", "-k", "2")[1].splitlines()
    ranked = np.array([[int(word[10:]) for word in line.split()[::2]] for line in out])
    train_lines = (folder / f"{name}.txt").read_text().splitlines()
    counts = [sum(f"__label__t{c}" in line.split() for line in train_lines) for c in range(4)]
    chance = propensities(counts, 300)
    for k in (1, 2):
        assert found[f"P@{k}"] == pytest.approx(precision_at_k(truth, ranked, k))
        assert found[f"R@{k}"] == pytest.approx(recall_at_k(truth, ranked, k))
        assert found[f"nDCG@{k}"] == pytest.approx(ndcg_at_k(truth, ranked, k))
        assert found[f"PSP@{k}"] == pytest.approx(psp_at_k(truth, ranked, k, chance))
    assert found["labels"] == truth.sum()
    assert 0 <= found["ECE"] < 0.5
    rows = {row["least"]: row for row in found["R@2 by frequency"]}
    assert rows[21]["classes"] == sum(21 <= count <= 100 for count in counts)
    code, text, _ = run(capsys, "test", "m", f"{name}-test.txt", "-k", "2")
    assert (code, "times in training" in text) == (0, True)


def test_unknown_labels_are_misses(folder, capsys):
    train(capsys, "one.txt", "--head", "linear")
    (folder / "new.txt").write_text("__label__t0 word1\n__label__gnu word1\n")
    found = figures(capsys, "test", "m", "new.txt")
    assert (found["examples"], found["unknown labels"], found["P@1"]) == (2, 1, 0.5)


# ---- the choice


def test_auto_prints_what_it_tried_and_saves_the_winner(folder, capsys):
    code, out, err = run(capsys, "train", "one.txt", "-o", "m")
    assert code == 0
    assert "trying linear, 1 tree" in err
    for words in ("tried", "linear, 3 trees", "embedding, huffman", "nearest centroid", " *"):
        assert words in out
    result = train(capsys, "one.txt")
    tried = {one["name"]: one for one in result["tried"]}
    assert result["chosen"] in tried
    best = max(one["ndcg_at_5"] for one in tried.values() if one["name"] != "nearest centroid")
    assert tried[result["chosen"]]["ndcg_at_5"] == best
    assert figures(capsys, "test", "m", "one-test.txt")["P@1"] > 0.9


def test_auto_knows_when_there_is_no_time(folder, capsys):
    result = train(capsys, "one.txt", "--time-budget", "1e-6")
    assert result["chosen"] == "linear, 1 tree"
    notes = [one["note"] for one in result["tried"][1:] if one["name"] != "nearest centroid"]
    assert notes
    assert set(notes) == {"left out: no time"}


@pytest.mark.parametrize("name", ["one", "tags"])
def test_another_file_can_judge(folder, capsys, name):
    options = ["--autotune-validation", f"{name}-test.txt", "--autotune-duration", "30"]
    result = train(capsys, f"{name}.txt", *options)
    chosen = next(one for one in result["tried"] if one["name"] == result["chosen"])
    found = figures(capsys, "test", "m", f"{name}-test.txt", "-k", "4")
    assert found["P@1"] == pytest.approx(chosen["p_at_1"])
    code, _, err = run(
        capsys, "train", f"{name}.txt", "-o", "m", *options, "--head", "linear", "--quiet"
    )
    assert (code, "--autotune-validation must go with --head auto" in err) == (2, True)
    code, _, err = run(capsys, "train", "one.txt", "-o", "m", "--quiet", options[0], "none")
    assert (code, "none: No such file" in err) == (2, True)


def test_auto_on_several_labels_tries_linear_weights_alone(folder, capsys):
    result = train(capsys, "tags.txt")
    assert all(one["name"].startswith("linear") for one in result["tried"])
    assert figures(capsys, "test", "m", "tags-test.txt")["P@1"] > 0.9


def test_a_tree_that_is_given_guides_others(folder, capsys):
    np.savez(folder / "tree.npz", parent=np.array([4, 4, 5, 5, 6, 6, -1]))
    text = (folder / "one.txt").read_text().replace("__label__t", "__label__")
    (folder / "numbers.txt").write_text(text)
    names = [
        one["name"] for one in train(capsys, "numbers.txt", "--hierarchy", "tree.npz")["tried"]
    ]
    assert "embedding" in names
    assert len([name for name in names if name.startswith("linear, 3 trees")]) == 1


def test_files_of_version_0_1_are_read(folder, capsys):
    """They hold a bare vocabulary, and no counts of classes."""
    from cython_sparseops._models.file import pack_strings, prefixed, save_classifier

    X = np.array([[1, 0], [0, 1]], np.float32)
    from scipy.sparse import csr_matrix

    model = HSoftmaxClassifier(4, epochs=50, lr=1.0, random_state=0)
    model.fit(csr_matrix(X), ["a", "b"])
    arrays = prefixed("vocabulary", pack_strings(["x", "y"]))
    save_classifier(model, "old", arrays, {"input": {"format": "fasttext", "prefix": "__label__"}})
    (folder / "new.txt").write_text("__label__b y Y\n")
    assert run(capsys, "predict", "old", "new.txt")[1].startswith("__label__b ")
    found = figures(capsys, "test", "old", "new.txt")
    assert found["P@1"] == 1
    assert "PSP@1" not in found
    assert found["R@2 by frequency"] == []
