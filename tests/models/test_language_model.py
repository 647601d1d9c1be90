"""The example of a language model trains each of its heads."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

import cython_sparseops as cso  # noqa: E402


@pytest.fixture
def language_model(monkeypatch):
    examples = Path(__file__).resolve().parents[1] / "examples"
    monkeypatch.setattr(sys, "path", [str(examples), *sys.path])
    module = pytest.importorskip("language_model", reason="needs a system with resource")
    whole = module.read_text()
    part = module.Text(whole.train, whole.held_out[:2000], whole.counts)
    monkeypatch.setattr(module, "read_text", lambda: part)
    threads = torch.get_num_threads(), cso.get_num_threads()
    yield module
    torch.set_num_threads(threads[0])
    cso.set_num_threads(threads[1])


@pytest.mark.parametrize("name", ["adaptive", "huffman", "cluster", "recluster"])
def test_a_head_learns(language_model, name):
    found = language_model.train(name, 8, 0.0, 0.03)
    assert found.steps == 8
    assert found.at_time == found.at_steps < 0.5 * len(language_model.read_text().counts)
    assert np.isfinite([found.seconds, found.memory]).all()
