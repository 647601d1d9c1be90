"""sparseops convert: the file it makes answers as the model of fastText does."""

import json

import numpy as np
import pytest

import cython_sparseops as cso
from helpers import fasttext_model as oracle

pytest.importorskip("sklearn")

from cython_sparseops._cli.main import main

KINDS = {
    "words": {},
    "n-grams": {"word_ngrams": 2, "minn": 2, "maxn": 3, "bucket": 80, "pruned": 33},
    "quantized": {"word_ngrams": 2, "bucket": 80, "width": 2, "norms": True},
}
LINES = [text for text in oracle.TEXTS if isinstance(text, str) and "\n" not in text]


@pytest.fixture(params=KINDS)
def model(request):
    return oracle.random_model(3, **KINDS[request.param])


@pytest.fixture
def files(model, tmp_path):
    (tmp_path / "model.bin").write_bytes(oracle.file_bytes(model))
    assert main(["convert", str(tmp_path / "model.bin"), "-o", str(tmp_path / "model.sops")]) == 0
    return tmp_path


def test_predict_gives_labels_and_probabilities_of_the_model(model, files, capsys):
    (files / "lines.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["predict", str(files / "model.sops"), str(files / "lines.txt"), "-k", "7"]) == 0
    answers = capsys.readouterr().out.split("\n")[:-1]
    assert len(answers) == len(LINES)
    for text, answer in zip(LINES, answers, strict=True):
        right = oracle.log_probs(model, text)
        found = dict(zip(answer.split(" ")[::2], answer.split(" ")[1::2], strict=True))
        assert set(found) == set(right)
        for label, p in found.items():
            assert float(p) == pytest.approx(np.exp(right[label]), rel=1e-4)


def test_test_counts_the_same_hits(model, files, capsys):
    loaded = cso.load_fasttext(files / "model.bin")
    texts = [text for text in LINES if "__label__" not in text]
    best = loaded.top_k(texts).labels[:, 0].tolist()
    wrong = loaded.labels[-1]
    labels = [label if i % 2 else wrong for i, label in enumerate(best)]
    lines = [f"{label} {text}" for label, text in zip(labels, texts, strict=True)]
    (files / "test.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["test", str(files / "model.sops"), str(files / "test.txt"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    hits = np.mean([label == right for label, right in zip(best, labels, strict=True)])
    assert found["P@1"] == pytest.approx(hits)


def test_other_readers_take_the_file(model, files, capsys):
    assert main(["info", str(files / "model.sops")]) == 0
    assert "fasttext" in capsys.readouterr().out
    loaded = cso.load_fasttext(files / "model.bin")
    classifier = cso.sklearn.HSoftmaxClassifier.load(files / "model.sops")
    X = loaded.transform(LINES)
    wanted = [label.removeprefix("__label__") for label in loaded.top_k(LINES).labels[:, 0]]
    assert classifier.predict(X).tolist() == wanted
    predictor = cso.Predictor.load(files / "model.sops")
    assert [predictor.top_k(line, 1).labels[0] for line in LINES] == wanted


def test_labels_of_another_prefix_need_it(tmp_path, capsys):
    model = oracle.random_model(4, n_labels=3)
    labels = [("#" + label.removeprefix("__label__"), n) for label, n in model.labels]
    (tmp_path / "model.bin").write_bytes(oracle.file_bytes(model._replace(labels=labels)))
    arguments = ["convert", str(tmp_path / "model.bin"), "-o", str(tmp_path / "model.sops")]
    assert main(arguments) == 2
    assert "labels that begin with __label__, got '#" in capsys.readouterr().err
    assert not (tmp_path / "model.sops").exists()
    assert main([*arguments, "--label", "#"]) == 0
    (tmp_path / "lines.txt").write_text("#none a cat\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "model.sops"), str(tmp_path / "lines.txt")]) == 0
    label, p = capsys.readouterr().out.split()
    right = oracle.log_probs(model, "a cat")
    assert float(p) == pytest.approx(np.exp(right["__label__" + label[1:]]), rel=1e-4)


def test_a_file_of_another_kind_is_one_line(tmp_path, capsys):
    (tmp_path / "model.bin").write_bytes(b"no model at all")
    assert main(["convert", str(tmp_path / "model.bin"), "-o", str(tmp_path / "m.sops")]) == 2
    said = capsys.readouterr().err
    assert "must be a model of fastText" in said
    assert said.count("\n") == 1


def test_a_damaged_converted_file_is_refused(files, capsys):
    arrays, metadata = cso.load_arrays(files / "model.sops")
    for change in ({"text.words": arrays["text.words"][:-1]}, {"text.word_offsets": None}):
        changed = {name: array for name, array in (arrays | change).items() if array is not None}
        cso.save_arrays(files / "other.sops", changed, metadata)
        assert main(["predict", str(files / "other.sops"), "-"]) == 2
        assert "must" in capsys.readouterr().err
