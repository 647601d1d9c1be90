"""A head over dense rows trains by pieces, in any process, to the bytes of one run."""

import signal

import numpy as np
import pytest

from cython_sparseops import BagModel, BagTrainer, Hierarchy
from helpers.jobs import die_once, fail

pytest.importorskip("joblib")
from cython_sparseops._jobs import in_jobs
from cython_sparseops._models.parts import train_parts

N, D, C = 3000, 24, 400
SETTINGS = {"lr": 0.1, "epochs": 2, "batch_size": 128, "rng": 3}


def task(arity, dtype=np.float32):
    rng = np.random.default_rng(0)
    labels = np.minimum(rng.zipf(1.3, N), C) - 1
    X = (rng.standard_normal((C, D))[labels] + rng.standard_normal((N, D))).astype(dtype)
    counts = np.bincount(labels, minlength=C)
    h = Hierarchy.huffman(counts + 1.0, arity=arity)
    return h, X, labels, rng.uniform(0.5, 2, N).astype(dtype)


def model_of(h, dtype=np.float32):
    return BagModel.create(h, D, dtype=dtype, rng=1)


@pytest.mark.parametrize("optimizer", ["adagrad", "rowwise_adagrad", "sgd", "adam"])
@pytest.mark.parametrize("n_parts", [1, 3, 8])
def test_wide_nodes_train_to_the_bytes_of_one_run(optimizer, n_parts):
    h, X, labels, weight = task(32)
    settings = {**SETTINGS, "optimizer": optimizer, "max_norm": 2.0}
    whole = model_of(h)
    run = list(BagTrainer(whole, **settings).fit(X, labels, sample_weight=weight))
    parts = model_of(h)
    history = train_parts(parts, X, labels, weight, n_parts=n_parts, n_jobs=None, settings=settings)
    assert parts.W.tobytes() == whole.W.tobytes()
    assert parts.b.tobytes() == whole.b.tobytes()
    assert [at.epoch for at in history] == [1, 2]
    last = [at for at in run if at.epoch == 2]
    done = np.diff([N, *(at.examples for at in last)])
    nll = np.dot(done, [at.nll for at in last]) / N
    assert history[-1].nll == pytest.approx(nll, rel=1e-6)
    assert history[-1].lr == run[-1].lr


def test_narrow_nodes_differ_in_last_bits_alone():
    h, X, labels, _ = task(2)
    whole, parts = model_of(h), model_of(h)
    list(BagTrainer(whole, **SETTINGS).fit(X, labels))
    train_parts(parts, X, labels, None, n_parts=4, n_jobs=None, settings=SETTINGS)
    np.testing.assert_allclose(parts.W, whole.W, atol=2e-5)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_the_backend_and_the_number_of_jobs_change_no_byte(backend):
    from joblib import parallel_config

    h, X, labels, weight = task(2)
    alone, together = model_of(h), model_of(h)
    train_parts(alone, X, labels, weight, n_parts=6, n_jobs=None, settings=SETTINGS)
    with parallel_config(backend=backend, n_jobs=2):
        train_parts(together, X, labels, weight, n_parts=6, n_jobs=None, settings=SETTINGS)
    assert together.W.tobytes() == alone.W.tobytes()
    assert together.b.tobytes() == alone.b.tobytes()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_a_killed_worker_costs_only_its_task(tmp_path):
    assert in_jobs(die_once, [(str(tmp_path), i) for i in range(4)], 2) == [0, 1, 4, 9]
    assert (tmp_path / "dead").exists()


def test_an_error_of_a_task_is_told_at_once():
    with pytest.raises(ValueError, match="of the task itself"):
        in_jobs(fail, [(), ()], 2)


def test_a_dask_cluster_of_two_workers_trains_the_same_bytes():
    distributed = pytest.importorskip("distributed", reason="needs Dask's distributed")
    from joblib import parallel_config

    h, X, labels, weight = task(32)
    alone, together = model_of(h), model_of(h)
    train_parts(alone, X, labels, weight, n_parts=4, n_jobs=None, settings=SETTINGS)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        client.wait_for_workers(2)
        with parallel_config(backend="dask"):
            train_parts(together, X, labels, weight, n_parts=4, n_jobs=2, settings=SETTINGS)
    assert together.W.tobytes() == alone.W.tobytes()
    assert together.b.tobytes() == alone.b.tobytes()


def test_the_classifier_trains_by_parts():
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    from scipy.sparse import csr_array

    from cython_sparseops.sklearn import HSoftmaxClassifier

    h, X, labels, weight = task(32)
    settings = {"hierarchy": h, "epochs": 2, "early_stopping": False, "random_state": 0}
    whole = HSoftmaxClassifier(**settings).fit(X, labels, weight)
    parts = HSoftmaxClassifier(**settings, n_parts=3, n_jobs=2).fit(X, labels, weight)
    assert parts.model_.W.tobytes() == whole.model_.W.tobytes()
    assert len(parts.history_) == 2
    sparse = csr_array(np.maximum(X, 0))
    bags = [
        HSoftmaxClassifier(**settings, n_parts=3, n_jobs=n_jobs).fit(sparse, labels)
        for n_jobs in (1, 2)
    ]
    assert bags[0].model_.W.tobytes() == bags[1].model_.W.tobytes()
    assert bags[0].model_.E.tobytes() == bags[1].model_.E.tobytes()
    assert bags[0].score(sparse, labels) > 0.5
    bags[0].partial_fit(sparse, labels)
    for wrong in ({"n_parts": 0}, {"n_parts": 2, "early_stopping": True}):
        with pytest.raises(ValueError, match="must be"):
            HSoftmaxClassifier(**{**settings, **wrong}).fit(X, labels)


def test_a_file_says_nothing_of_the_jobs(tmp_path):
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    from cython_sparseops.sklearn import HSoftmaxClassifier, LabelTreeClassifier

    for make in (HSoftmaxClassifier, LabelTreeClassifier):
        make(n_jobs=64).fit([[0.0], [1.0]], [0, 1]).save(tmp_path / "model.sops")
        assert make.load(tmp_path / "model.sops").n_jobs is None
