"""The example server answers what the predictor answers, and refuses bad questions clearly."""

import sys
from pathlib import Path

import numpy as np
import pytest

import cython_sparseops as cso

pytest.importorskip("sklearn", reason="needs scikit-learn")
pytest.importorskip("fastapi", reason="needs fastapi")
pytest.importorskip("httpx", reason="fastapi's test client needs httpx")
pytest.importorskip("uvicorn", reason="needs uvicorn")
from fastapi.testclient import TestClient
from sklearn.feature_extraction.text import CountVectorizer

from cython_sparseops.cli import main
from cython_sparseops.sklearn import LabelTreeClassifier

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LINES = ["a cat purrs", "the dog barks", "a cat sleeps", "my dog runs", "a hen lays"]
ANIMALS = ["cat", "dog", "cat", "dog", "hen"]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    import server

    return server


@pytest.fixture
def model(tmp_path):
    """A file of the command, which holds the vocabulary."""
    path, lines = tmp_path / "model.sops", tmp_path / "train.txt"
    labelled = zip(ANIMALS, LINES, strict=True)
    lines.write_text("".join(f"__label__{a} {line}\n" for a, line in labelled) * 5)
    assert main(["train", str(lines), "-o", str(path), "--quiet"]) == 0
    return path


@pytest.fixture
def client(server, model, monkeypatch):
    monkeypatch.setenv("SPARSEOPS_MODEL", str(model))
    return TestClient(server.app_of_model())


def test_texts_are_answered_as_the_predictor_does(client, model):
    texts = [*LINES, "", "unknown words"]
    answer = client.post("/predict", json={"texts": texts, "k": 2})
    assert answer.status_code == 200
    expected = cso.Predictor.load(model).top_k_rows(texts, 2)
    assert answer.json() == [
        {"labels": one.labels, "probabilities": one.probabilities} for one in expected
    ]


def test_rows_of_ids_and_weights_are_answered(client, model):
    rows = [{"ids": [3, 0], "weights": [1.0, 0.5]}, {"ids": [], "weights": []}]
    answer = client.post("/predict", json={"rows": rows, "k": 3})
    expected = cso.Predictor.load(model).top_k_rows([([3, 0], [1.0, 0.5]), ([], [])], 3)
    assert [one["labels"] for one in answer.json()] == [one.labels for one in expected]
    assert [one["probabilities"] for one in answer.json()] == [
        one.probabilities for one in expected
    ]


def test_a_model_of_numbers_answers_numbers(server, tmp_path):
    LabelTreeClassifier(random_state=0).fit(np.eye(4), [7, 5, 3, 1]).save(tmp_path / "model.sops")
    client = TestClient(server.create_app(cso.Predictor.load(tmp_path / "model.sops")))
    rows = [{"ids": [2], "weights": [1.0]}]
    assert client.post("/predict", json={"rows": rows, "k": 1}).json()[0]["labels"] == [3]
    answer = client.post("/predict", json={"texts": ["three"], "k": 1})
    assert answer.status_code == 400
    assert "vectorizer" in answer.json()["detail"]


def test_a_predictor_with_a_vectorizer_is_served(server):
    words = CountVectorizer()
    model = LabelTreeClassifier(random_state=0).fit(words.fit_transform(LINES), ANIMALS)
    client = TestClient(server.create_app(model.predictor(words)))
    answer = client.post("/predict", json={"texts": ["the hen"], "k": 1})
    assert answer.json()[0]["labels"] == ["hen"]


def test_by_default_there_are_as_many_classes_as_the_model_has(client):
    answer = client.post("/predict", json={"texts": ["a cat"]}).json()
    assert sorted(answer[0]["labels"]) == ["cat", "dog", "hen"]


def test_no_question_has_no_answers(client):
    assert client.post("/predict", json={"texts": []}).json() == []


def test_health(client):
    assert client.get("/health").json() == {"status": "ok", "classes": 3}


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ("{}", ["body"]),
        ('{"texts": ["a"], "rows": []}', ["body"]),
        ('{"texts": "a cat"}', ["body", "texts"]),
        ('{"texts": [3]}', ["body", "texts", 0]),
        ('{"texts": ["a"], "k": 0}', ["body", "k"]),
        ('{"texts": ["a"], "k": "many"}', ["body", "k"]),
        ('{"texts": ["a"], "n": 3}', ["body", "n"]),
        ('{"rows": [{"ids": [1], "weights": [NaN]}]}', ["body", "rows", 0, "weights", 0]),
        ('{"rows": [{"ids": [1], "weights": [1e999]}]}', ["body", "rows", 0, "weights", 0]),
        ('{"rows": [{"ids": [0.5], "weights": [1]}]}', ["body", "rows", 0, "ids", 0]),
        ('{"texts": [' + '"a",' * 256 + '"a"]}', ["body", "texts"]),
        ('{"texts": ["a"', ["body", 14]),
    ],
)
def test_a_question_of_the_wrong_form_is_refused(client, body, at):
    answer = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert [one["at"] for one in answer.json()["detail"]] == [at]


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ({"texts": LINES[:1], "k": 4}, "k must be in [1, 3], the number of classes, got 4"),
        ({"rows": [{"ids": [1, 2], "weights": [1]}], "k": 1}, "weights must number 2"),
        ({"rows": [{"ids": [-1], "weights": [1]}], "k": 1}, "-1"),
        ({"rows": [{"ids": [10**6], "weights": [1]}], "k": 1}, str(10**6)),
        ({"rows": [{"ids": [2**64], "weights": [1]}], "k": 1}, "ids must"),
        ({"rows": [{"ids": [1], "weights": [1e300]}], "k": 1}, "must be finite"),
    ],
)
def test_what_the_model_cannot_answer_is_refused(client, question, reason):
    answer = client.post("/predict", json=question)
    assert answer.status_code == 400
    assert reason in answer.json()["detail"]
    assert client.post("/predict", json={"texts": LINES, "k": 1}).status_code == 200


def test_the_latency_of_a_real_server_is_measured(server, model, capsys):
    import latency

    latency.compare({"ours": model}, LINES * 10, 2)
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows[2:]] == [[" ours ", " 1 "], [" ours ", " 4 "]]
    for row in rows[2:]:
        p50, p95, p99, rate = map(float, row[2:])
        assert 0 < p50 <= p95 <= p99
        assert rate > 0


def test_a_server_that_cannot_start_is_reported(server, tmp_path):
    import latency

    (tmp_path / "model.sops").write_bytes(b"no model")
    with (
        pytest.raises(RuntimeError, match=r"the server of model.sops ended"),
        latency.serving(tmp_path / "model.sops"),
    ):
        pass


def test_a_question_that_is_refused_ends_the_measurement(server, model):
    import latency

    with (
        latency.serving(model) as port,
        pytest.raises(RuntimeError, match=r"the server answered 400: .*k must be in"),
    ):
        latency.measure(port, ["a cat"] * 8, 99, 2)
