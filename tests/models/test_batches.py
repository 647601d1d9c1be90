"""The examples that answer batches over Dask and Ray give what one call gives."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn")
from cython_sparseops.sklearn import HSoftmaxClassifier

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES))  # for the workers
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((600, 8)).astype(np.float32), rng.integers(30, size=600)
    model = HSoftmaxClassifier(random_state=0).fit(X, y)
    model.save(tmp_path / "model.sops")
    return str(tmp_path / "model.sops"), X, model.top_k(X, 3)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_dask_blocks(saved, scheduler):
    da = pytest.importorskip("dask.array", reason="needs dask")
    import batch_dask

    path, X, expected = saved
    rows = da.from_array(X, chunks=(100, 4))
    found = batch_dask.answers(rows, path, 3).compute(scheduler=scheduler)
    np.testing.assert_array_equal(found["label"], expected.labels)
    np.testing.assert_array_equal(found["log_prob"], expected.log_probs)


def test_ray_actors(saved):
    ray = pytest.importorskip("ray", reason="needs ray")
    pytest.importorskip("ray.data", reason="needs ray[data]")
    import batch_ray

    path, X, expected = saved
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)  # actors leave room
    try:
        answered = batch_ray.answers(X, path, 3, actors=1)
    finally:
        ray.shutdown()
    found = {row["data"].tobytes(): row for row in answered}
    assert len(found) == len(X)
    for x, labels, log_probs in zip(X, expected.labels, expected.log_probs, strict=True):
        np.testing.assert_array_equal(found[x.tobytes()]["labels"], labels)
        np.testing.assert_array_equal(found[x.tobytes()]["log_probs"], log_probs)
