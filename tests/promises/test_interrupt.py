"""Ctrl-C: a child process is sent SIGINT while it trains, and what it leaves is looked at."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest

import cython_sparseops as cso
from cython_sparseops._models import bag

pytest.importorskip("sklearn")

from cython_sparseops.sklearn import HSoftmaxClassifier

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGINT of POSIX")
PROMPT = 2.0  # seconds; about a step, or 0.2, where nobody else computes


def training():
    """A classifier that would train for hours, and its data."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((2000, 20), dtype=np.float32), rng.integers(0, 100, 2000)
    return HSoftmaxClassifier(epochs=10**6, random_state=0, num_threads=2), X, y


def fit_until_interrupted():
    """Say "training" once it does; then when it stopped, and the history."""
    model, X, y = training()

    def tell():
        while len(getattr(model, "history_", [])) < 3:
            time.sleep(0.01)
        print("training", flush=True)

    threading.Thread(target=tell, daemon=True).start()
    try:
        model.fit(X, y)
    except KeyboardInterrupt:
        stopped = time.monotonic()
    same = model.predict(X).tolist()
    model.save("model")
    assert HSoftmaxClassifier.load("model").predict(X).tolist() == same
    print(json.dumps({"stopped": stopped, "history": model.history_}), flush=True)


def interrupt(process):
    """Send SIGINT; when, and what the process said from then on."""
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return sent, out, err


def test_an_interrupted_fit_stops_promptly_at_a_finished_step(child, tmp_path, monkeypatch):
    process = child.start(fit_until_interrupted)
    assert process.stdout.readline() == "training\n"
    sent, out, err = interrupt(process)
    assert process.returncode == 0, err
    told = json.loads(out)
    assert told["stopped"] - sent < PROMPT

    # The same training step by step: the weights that were left are those behind one of its steps.
    left = HSoftmaxClassifier.load(tmp_path / "model").model_
    again, X, y = training()
    again.set_params(epochs=1).fit(X, y)
    model = bag.BagModel.create(again.hierarchy_, 20, dtype=np.float32, rng=0)
    trainer = bag.BagTrainer(
        model, optimizer="adagrad", lr=0.3, epochs=10**6, rng=again._shuffle_seed
    )
    monkeypatch.setattr(bag, "_PIECE", 0)  # one step at a time
    told_examples = told["history"][-1][1]
    for progress in trainer.fit(X, y):
        if progress.examples >= told_examples and np.array_equal(model.W, left.W):
            break
        assert progress.examples < told_examples + 2000 * 256, "no step of the training"
    np.testing.assert_array_equal(model.b, left.b)


def test_interrupting_before_the_first_step_leaves_the_old_model(monkeypatch):
    X, y = np.eye(4), np.array([0, 1, 2, 3])
    model = HSoftmaxClassifier(random_state=0).fit(X, y)
    before = model.predict_log_proba(X)

    def refuse(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(bag.BagTrainer, "_run", refuse)
    with pytest.raises(KeyboardInterrupt):
        model.fit(np.eye(7), np.arange(7))
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(X, y)
    np.testing.assert_array_equal(model.predict_log_proba(X), before)
    fresh = HSoftmaxClassifier()
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(X, y)
    assert not hasattr(fresh, "classes_")


def test_a_refused_fit_leaves_the_old_model():
    X, y = np.eye(4), np.array([0, 1, 2, 3])
    model = HSoftmaxClassifier(random_state=0).fit(X, y)
    before = model.predict_log_proba(X)
    for X2, y2, options in (
        (np.eye(7), np.arange(6), {}),
        (np.eye(7) * np.nan, np.arange(7), {}),
        (np.eye(7), np.arange(7), {"max_norm": -1.0}),
        (np.eye(7), np.arange(7), {"hierarchy": cso.Hierarchy.balanced(3)}),
        (np.eye(7), np.arange(7), {"dropout": 0.5}),
    ):
        model.set_params(**options)
        with pytest.raises(ValueError, match=r" must | NaN|inconsistent"):
            model.fit(X2, y2)
        model.set_params(max_norm=None, hierarchy="huffman", dropout=0.0)
        np.testing.assert_array_equal(model.predict_log_proba(X), before)


def train(*arguments):
    return ["-m", "cython_sparseops", "train", *arguments, "-o", "model"]


def test_an_interrupted_train_command_saves_what_it_has(child, tmp_path):
    lines = [f"__label__{i % 50} a{i % 50} b{i % 7}" for i in range(5000)]
    (tmp_path / "lines").write_text("\n".join(lines))
    process = child.start(train("lines", "--epoch", "1000000"))
    seen = ""
    while "training" not in seen and process.poll() is None:
        seen += process.stderr.read(1)  # the progress bar
    time.sleep(0.3)
    sent, _, err = interrupt(process)
    assert process.returncode == 130, err
    assert time.monotonic() - sent < 5 * PROMPT  # with the save and the end of the process
    assert "the model so far is saved" in err
    found = child.run(["-m", "cython_sparseops", "predict", "model", "lines"])
    assert len(found.stdout.splitlines()) == 5000
    assert sorted(os.listdir(tmp_path)) == ["lines", "model"]


def test_a_train_command_interrupted_while_it_reads_leaves_nothing(child, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    process = child.start(train("pipe", "--format", "fasttext"))
    with open(tmp_path / "pipe", "w") as pipe:  # opens when the child does
        print("__label__a b", file=pipe, flush=True)
        time.sleep(0.1)
        _, out, err = interrupt(process)
    assert (process.returncode, out, err) == (130, "", "sparseops: interrupted\n")
    assert os.listdir(tmp_path) == ["pipe"]
