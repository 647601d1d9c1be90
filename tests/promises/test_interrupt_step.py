"""A signal during a compiled step: weights, optimizer and history move together, or none does."""

import copy
import os
import signal
import threading

import numpy as np
import pytest

import cython_sparseops as cso

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
DELAYS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.03)  # seconds after which it comes
OPTIMIZERS = ("adam", "adagrad", "rowwise_adagrad", "sgd")


class Struck(BaseException):
    """What the handler raises."""


@pytest.fixture
def struck():
    """struck(call, delay): whether a real signal ended the call."""
    assert threading.current_thread() is threading.main_thread()

    def handler(*_):
        raise Struck

    before = signal.signal(signal.SIGALRM, handler)

    def run(call, delay):
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            call()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Struck:
            return True
        return False

    yield run
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("make", [cso.Adam, cso.Adagrad, cso.SGD])
def test_an_update_is_made_and_counted_or_neither(make, struck):
    h = cso.Hierarchy.balanced(20_000)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((3000, 64)), rng.integers(0, 20_000, 3000)
    W, b = cso.init_weights(h, 64, dtype=np.float64, rng=0)
    hits, optimizer = 0, make(0.01)
    for delay in DELAYS:
        before, count = W.copy(), optimizer.step_count

        def call():
            cso.hsoftmax_update(X, W, b, y, h, optimizer, num_threads=1)

        hits += struck(call, delay)
        assert (optimizer.step_count - count, not np.array_equal(W, before)) in ((0, 0), (1, 1))
    assert hits


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("hidden", [None, 32])
def test_a_training_leaves_weights_counts_and_history_of_one_step(optimizer, hidden, struck):
    sparse = pytest.importorskip("scipy.sparse")
    h = cso.Hierarchy.balanced(2000)
    rng = np.random.default_rng(0)
    n = 4096
    X = rng.standard_normal((n, 40)).astype(np.float32)
    if hidden:
        X = sparse.random_array((n, 300), density=0.05, format="csr", rng=0, dtype=np.float32)
    y = rng.integers(0, 2000, n)
    model = cso.BagModel.create(h, X.shape[1], hidden_dim=hidden, rng=0)
    trainer = cso.BagTrainer(model, optimizer=optimizer, lr=0.01, rng=0, num_threads=1)
    states = {}
    for progress in copy.deepcopy(trainer).fit(X, y):
        states[progress.examples] = progress
    hits = 0
    for delay in DELAYS:
        one = copy.deepcopy(trainer)
        hits += struck(lambda one=one: list(one.fit(X, y)), delay)
        done = one.history[-1].examples if one.history else 0
        steps = -(-done // n) * 16 if done % n == 0 else done // n * 16 + -(-(done % n) // 256)
        assert one.W_optimizer.step_count == steps
        assert one.E_optimizer.step_count == (steps if hidden else 0)
        assert all(states[progress.examples] == progress for progress in one.history)
        again = copy.deepcopy(trainer)
        for progress in again.fit(X, y) if done else ():
            if progress.examples == done:
                break
        for name, array in again.model.to_arrays().items():
            np.testing.assert_array_equal(one.model.to_arrays()[name], array, err_msg=name)
    assert hits


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_partial_fit_leaves_weights_and_history_of_one_step(optimizer, struck):
    pytest.importorskip("sklearn")
    from cython_sparseops.sklearn import HSoftmaxClassifier

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20_000, 20)), rng.integers(0, 500, 20_000)
    model = HSoftmaxClassifier(optimizer=optimizer, random_state=0, num_threads=1)
    model.partial_fit(X[:500], y[:500], classes=np.arange(500))
    hits = 0
    for delay in DELAYS:
        before, told = model.model_.W.copy(), len(model.history_)
        hits += struck(lambda: model.partial_fit(X, y), delay)
        moved = not np.array_equal(model.model_.W, before)
        assert moved == (len(model.history_) > told)
    assert hits
