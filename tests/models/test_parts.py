"""A head over dense rows trains by pieces, in any process, to the bytes of one run."""

import os
import signal

import numpy as np
import pytest

from cython_sparseops import BagModel, BagTrainer, Hierarchy

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


def die_once(folder, i):
    flag = os.path.join(folder, "dead")
    if i == 1 and not os.path.exists(flag):
        with open(flag, "w"):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    return i * i


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_a_killed_worker_costs_only_its_task(tmp_path):
    assert in_jobs(die_once, [(str(tmp_path), i) for i in range(4)], 2) == [0, 1, 4, 9]
    assert (tmp_path / "dead").exists()


def fail():
    raise ValueError("of the task itself")


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
