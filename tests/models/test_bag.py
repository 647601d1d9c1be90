"""The bag room: embedding bag and the training loop."""

import functools
import hashlib
import pickle
import time

import numpy as np
import pytest

import cython_sparseops as cso
from cython_sparseops import BagModel, BagTrainer, Hierarchy, embedding_bag
from helpers import reference_sparse
from helpers.compressed import compress

OPTIMIZERS = {
    "sgd": cso.SGD,
    "adagrad": cso.Adagrad,
    "rowwise_adagrad": functools.partial(cso.Adagrad, rowwise=True),
    "adam": cso.Adam,
}


def some_bags(n=40, features=30, dtype=np.float64, index=np.int32, seed=0):
    rng = np.random.default_rng(seed)
    dense = (rng.random((n, features)) < 0.15) * rng.integers(1, 4, (n, features))
    return compress(dense.astype(dtype), index=index), dense.astype(np.float64)


def mean_bags(dense):
    sums = np.abs(dense).sum(1, keepdims=True)
    return dense / np.where(sums > 0, sums, 1)


def digest(model):
    return hashlib.sha256(b"".join(a.tobytes() for a in model.to_arrays().values())).hexdigest()


def trainer_optimizers(trainer):
    return trainer.W_optimizer, trainer.E_optimizer


def run(model, X, labels, **options):
    return list(BagTrainer(model, rng=3, **options).fit(X, labels))


# ---- agrees with the reference ----------------------------------------------------------------


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["mean", "sum"])
def test_the_embedding_bag_is_a_matrix_product(mode, dtype, index):
    X, dense = some_bags(dtype=dtype, index=index)
    E = np.random.default_rng(1).standard_normal((30, 21)).astype(dtype)
    weights = mean_bags(dense) if mode == "mean" else dense
    scale = np.abs(weights) @ np.abs(E.astype(np.float64))
    error = np.abs(embedding_bag(X, E, mode=mode) - weights @ E.astype(np.float64))
    assert (error <= 30 * np.finfo(dtype).eps * scale).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("lr_schedule", ["constant", "linear"])
def test_training_is_gradient_and_optimizer_step_by_hand(optimizer, lr_schedule):
    X, dense = some_bags(dtype=np.float64)
    h = Hierarchy.huffman(np.arange(1, 8))
    labels = np.random.default_rng(2).integers(0, 7, 40)
    model = BagModel.create(h, 30, hidden_dim=6, dtype=np.float64, rng=5)
    E, W, b = model.E.copy(), model.W.copy(), model.b.copy()
    steps = run(
        model, X, labels, optimizer=optimizer, lr=0.1, epochs=2, batch_size=16, shuffle=False,
        lr_schedule=lr_schedule,
    )  # fmt: skip
    assert steps[-1].examples == steps[-1].total_examples == 80

    weights = mean_bags(dense)
    for_W, for_E = OPTIMIZERS[optimizer](0.1), OPTIMIZERS[optimizer](0.1)
    flat = Hierarchy.from_parents([-1])  # an optimizer for E by hand: the same rule on its rows
    assert flat.n_nodes == 0
    state = {name: np.zeros(shape) for name, shape in for_E._shapes(*E.shape).items()}
    done = 0
    for step, start in enumerate([*range(0, 40, 16)] * 2):
        rows = slice(start, min(start + 16, 40))
        lr = 0.1 * (1 - done / 80 if lr_schedule == "linear" else 1)
        for_W.lr = lr
        out = cso.hsoftmax_update(weights[rows] @ E, W, b, labels[rows], h, for_W)
        grad, used = weights[rows].T @ out.X, np.flatnonzero(dense[rows].any(0))
        g = grad[used]
        if optimizer == "sgd":
            E[used] -= lr * g
        elif optimizer == "adagrad":
            state["first"][used] += g**2
            E[used] -= lr * g / (np.sqrt(state["first"][used]) + 1e-10)
        elif optimizer == "rowwise_adagrad":
            state["first"][used] += np.mean(g**2, axis=1, keepdims=True)
            E[used] -= lr * g / (np.sqrt(state["first"][used]) + 1e-10)
        else:
            state["first"][used] = 0.9 * state["first"][used] + 0.1 * g
            state["second"][used] = 0.999 * state["second"][used] + 0.001 * g**2
            first = state["first"][used] / (1 - 0.9 ** (step + 1))
            second = state["second"][used] / (1 - 0.999 ** (step + 1))
            E[used] -= lr * first / (np.sqrt(second) + 1e-8)
        done += rows.stop - rows.start
    # Adagrad's and Adam's first steps are lr g / |g|: rounding of a tiny g grows by 1 / |g|
    np.testing.assert_allclose(model.W, W, atol=1e-9)
    np.testing.assert_allclose(model.E, E, atol=1e-9)
    np.testing.assert_allclose(model.b, b, atol=1e-9)


# ---- mathematics ------------------------------------------------------------------------------


def test_training_learns_bags_that_tell_their_class():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 600)
    dense = np.zeros((600, 60))
    dense[np.arange(600), labels * 3 + rng.integers(0, 3, 600)] = 1
    model = BagModel.create(Hierarchy.balanced(20), 60, hidden_dim=16, rng=0)
    run(model, compress(dense.astype(np.float32)), labels, lr=0.5, epochs=10, batch_size=32)
    hidden = model.hidden(compress(dense.astype(np.float32)))
    found = cso.hsoftmax_search(hidden, model.W, model.b, model.hierarchy).classes[:, 0]
    assert (found == labels).mean() == 1.0


def test_a_dense_model_is_a_tree_on_the_input():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((64, 5))
    labels = rng.integers(0, 4, 64)
    h = Hierarchy.balanced(4)
    model = BagModel.create(h, 5, dtype=np.float64, rng=0)
    W, b = model.W.copy(), model.b.copy()
    run(model, X, labels, optimizer="sgd", lr=0.05, epochs=1, batch_size=64, shuffle=False,
        lr_schedule="constant")  # fmt: skip
    cso.hsoftmax_update(X, W, b, labels, h, cso.SGD(0.05))
    assert model.W.tobytes() == W.tobytes()
    assert model.b.tobytes() == b.tobytes()


# ---- edges ------------------------------------------------------------------------------------


def test_empty_rows_empty_batches_and_one_class_are_legal():
    E = np.ones((4, 3), np.float32)
    assert embedding_bag(compress(np.zeros((2, 4), np.float32)), E).tolist() == [[0.0] * 3] * 2
    assert embedding_bag(compress(np.zeros((0, 4), np.float32)), E).shape == (0, 3)
    model = BagModel.create(Hierarchy.balanced(1), 4, hidden_dim=3, rng=0)
    assert run(model, compress(np.eye(4, dtype=np.float32)), np.zeros(4, int))[-1].nll == 0
    assert run(model, compress(np.zeros((0, 4), np.float32)), np.zeros(0, int)) == []


# ---- rejections -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0] * 39 + [7]}, r"labels must be in \[0, 7\), got 7 at index 39"),
        ({"labels": [0] * 39}, "labels must have one entry a row of X, 40, got 39"),
        ({"sample_weight": [-1.0] + [1.0] * 39}, "sample_weight must be finite and non-negative"),
        ({"indices": 30}, r"X.indices must be in \[0, 30\), got 30"),
        ({"indices": -1}, r"X.indices must be in \[0, 30\), got -1"),
        ({"indptr": 10**6}, "X.indptr must"),
        ({"data": np.nan}, "X must be finite, got nan"),
        ({"shape": (40, 31)}, "X must have 30 columns, got 31"),
    ],
)
def test_bad_input_is_refused_with_nothing_written(change, message):
    X, _ = some_bags()
    arguments = {"labels": [0] * 40}
    for name, value in change.items():
        if name in ("labels", "sample_weight"):
            arguments[name] = value
        elif name == "shape":
            X.shape = value
        else:
            getattr(X, name)[5] = value
    model = BagModel.create(Hierarchy.balanced(7), 30, hidden_dim=4, dtype=np.float64, rng=0)
    before = digest(model)
    with pytest.raises(ValueError, match=message):
        list(BagTrainer(model).fit(X, **arguments))
    assert digest(model) == before


def test_a_learning_rate_that_overflows_is_an_error_not_a_model_of_nan():
    X, _ = some_bags(dtype=np.float32)
    model = BagModel.create(Hierarchy.balanced(7), 30, hidden_dim=4, rng=0)
    with pytest.raises(ValueError, match="must keep gradients of E and their squares within"):
        run(model, X, np.arange(40) % 7, optimizer="sgd", lr=1e30, epochs=20, batch_size=8)
    assert np.isfinite(model.W).all()
    assert np.isfinite(model.E).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("dtype", "large"), [(np.float32, 1e35), (np.float64, 1e305)])
@pytest.mark.parametrize("what", ["sample_weight", "X", "W"])
def test_what_gradients_cannot_hold_is_refused_before_anything_is_written(
    optimizer, dtype, large, what
):
    """A step that E cannot take was refused once W had been stepped, or made E infinite."""
    rng = np.random.default_rng(0)
    hidden = None if what == "X" else 4
    model = BagModel.create(Hierarchy.balanced(7), 30, hidden_dim=hidden, dtype=dtype, rng=0)
    X, dense = some_bags(dtype=dtype)
    weight = np.ones(40, dtype)
    if what == "X":
        X = dense.astype(dtype) * dtype(large)
    elif what == "W":
        model.W[:] = rng.random(model.W.shape) * large
        model.E[:] = rng.random(model.E.shape) / large
    else:
        weight[:] = large
    trainer = BagTrainer(model, optimizer=optimizer, rng=0)
    before = digest(model), [pickle.dumps(o.state_dict()) for o in trainer_optimizers(trainer)]
    message = "X, W and sample_weight" if what == "W" else what
    with pytest.raises(ValueError, match=f"^{message} must keep gradients .*, got "):
        list(trainer.fit(X, np.arange(40) % 7, sample_weight=weight))
    after = digest(model), [pickle.dumps(o.state_dict()) for o in trainer_optimizers(trainer)]
    assert after == before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", ["adagrad", "rowwise_adagrad", "adam"])
def test_examples_without_weight_train_nothing(optimizer, dtype):
    X, _ = some_bags(dtype=dtype)
    model = BagModel.create(Hierarchy.balanced(7), 30, hidden_dim=4, dtype=dtype, rng=0)
    trainer, before = BagTrainer(model, optimizer=optimizer), digest(model)
    for each in trainer_optimizers(trainer):
        each.eps = 0.0
    list(trainer.fit(X, np.arange(40) % 7, sample_weight=np.zeros(40)))
    assert digest(model) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"optimizer": "newton"},
            "optimizer must be one of adagrad, rowwise_adagrad, sgd, adam, got 'newton'",
        ),
        ({"lr_schedule": "cosine"}, "lr_schedule must"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"lr": -1}, "lr must be finite and positive, got -1"),
        ({"weight_decay": np.inf}, "weight_decay must be finite"),
    ],
)
def test_bad_settings_are_refused(options, message):
    model = BagModel.create(Hierarchy.balanced(7), 30, hidden_dim=4, rng=0)
    with pytest.raises(ValueError, match=message):
        BagTrainer(model, **options)


# ---- promises ---------------------------------------------------------------------------------


def trained(num_threads, batch_size):
    X, _ = some_bags(n=3000, features=500, dtype=np.float32)
    labels = np.random.default_rng(4).integers(0, 300, 3000)
    model = BagModel.create(Hierarchy.huffman(np.arange(1, 301)), 500, hidden_dim=33, rng=0)
    run(model, X, labels, lr=0.2, epochs=2, batch_size=batch_size, num_threads=num_threads)
    return digest(model)


@pytest.mark.parametrize("batch_size", [7, 256, 700, 5000])  # hundreds prepared at once, 8, 3, one
def test_training_gives_the_same_bytes_on_one_two_and_three_threads(batch_size):
    assert trained(1, batch_size) == trained(2, batch_size) == trained(3, batch_size)


def test_training_goes_on_from_where_it_stopped_between_two_yields():
    X, _ = some_bags(dtype=np.float32)
    labels = np.arange(40) % 7
    model = BagModel.create(Hierarchy.balanced(7), 30, hidden_dim=4, rng=0)
    progress = BagTrainer(model, epochs=3, batch_size=8, rng=0).fit(X, labels)
    next(progress)
    assert np.isfinite(model.W).all()
    assert model.W.any()
    progress.close()


def test_read_only_bags_are_accepted():
    X, _ = some_bags(dtype=np.float32)
    for part in (X.indptr, X.indices, X.data):
        part.flags.writeable = False
    model = BagModel.create(Hierarchy.balanced(7), 30, hidden_dim=4, rng=0)
    assert len(run(model, X, np.arange(40) % 7)) > 0


# ---- dropout of features, and the norm of rows ------------------------------------------------


def without(X, dropped, replacement):
    """X as a plain matrix whose dropped stored values are left out, or at another feature."""
    dense = np.zeros(X.shape)
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    for row, column, value, drop in zip(rows, X.indices, X.data, dropped, strict=True):
        if not drop:
            dense[row, column] += value
        elif replacement >= 0:
            dense[row, replacement] += value
    return dense


@pytest.mark.parametrize("replacement", [-1, 7])
@pytest.mark.parametrize("mode", ["mean", "sum"])
def test_an_epoch_with_dropout_is_an_epoch_on_what_it_left(mode, replacement):
    X, _ = some_bags()
    labels = np.arange(40) % 5
    h = Hierarchy.balanced(5)
    options = {"epochs": 1, "batch_size": 8, "optimizer": "sgd", "lr": 0.1}
    ours = BagModel.create(h, 30, hidden_dim=6, mode=mode, dtype=np.float64, rng=1)
    given = "drop" if replacement < 0 else replacement
    run(ours, X, labels, dropout=0.4, replacement=given, **options)
    dropped = reference_sparse.drops(3, 0, len(X.data), 0.4, purpose=6, part=1)
    assert 0 < dropped.sum() < len(dropped)
    theirs = BagModel.create(h, 30, hidden_dim=6, mode=mode, dtype=np.float64, rng=1)
    run(theirs, compress(without(X, dropped, replacement)), labels, **options)
    for a, b in zip(ours.to_arrays().values(), theirs.to_arrays().values(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-14)
    plain = BagModel.create(h, 30, hidden_dim=6, mode=mode, dtype=np.float64, rng=1)
    run(plain, X, labels, **options)
    assert digest(plain) != digest(ours)


def test_the_rates_0_and_1_of_dropout_are_exact():
    X, _ = some_bags()
    labels = np.arange(40) % 5

    def trained(X, **options):
        model = BagModel.create(Hierarchy.balanced(5), 30, hidden_dim=6, rng=1)
        run(model, X, labels, epochs=2, **options)
        return digest(model)

    assert trained(X, dropout=0.0) == trained(X)
    assert trained(X, dropout=1.0) == trained(compress(np.zeros(X.shape, np.float32)))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_row_is_left_longer_than_max_norm(optimizer):
    X, _ = some_bags()
    labels = np.arange(40) % 5
    limit, options = 0.5, {"optimizer": optimizer, "lr": 0.5, "epochs": 6, "batch_size": 8}
    free, bound = (BagModel.create(Hierarchy.balanced(5), 30, hidden_dim=6, rng=1) for _ in "ab")
    run(free, X, labels, **options)
    run(bound, X, labels, max_norm=limit, **options)
    for name in ("E", "W"):
        sizes = [np.linalg.norm(m.to_arrays()[name].astype(float), axis=1) for m in (free, bound)]
        assert sizes[0].max() > limit
        assert sizes[1].max() <= limit * (1 + 1e-6)


def test_dropout_and_max_norm_give_the_same_bytes_for_any_threads_and_batch_pieces():
    X, _ = some_bags(n=600, features=200, dtype=np.float32)
    labels = np.arange(600) % 50
    found = set()
    for threads in (1, 2, 3):
        model = BagModel.create(Hierarchy.balanced(50), 200, hidden_dim=64, rng=1)
        options = {"dropout": 0.3, "replacement": 2, "max_norm": 0.8, "num_threads": threads}
        run(model, X, labels, epochs=3, batch_size=200, **options)
        found.add(digest(model))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.5}, r"dropout must be in \[0, 1\], got 1\.5"),
        ({"dropout": 0.5, "replacement": 30}, "replacement must be below 30, got 30"),
        ({"dropout": 0.5, "replacement": -1}, "replacement must be at least 0, got -1"),
        ({"dropout": 0.5, "replacement": "mean"}, "replacement must be 'drop' or a feature"),
        ({"max_norm": 0.0}, r"max_norm must be positive and finite, got 0\.0"),
        ({"max_norm": np.nan}, "max_norm must be positive and finite, got nan"),
    ],
)
def test_a_dropout_out_of_range_is_refused(options, message):
    model = BagModel.create(Hierarchy.balanced(5), 30, hidden_dim=6, rng=1)
    with pytest.raises(ValueError, match=message):
        BagTrainer(model, **options)
    dense = BagModel.create(Hierarchy.balanced(5), 30, rng=1)
    with pytest.raises(ValueError, match="dropout must be 0 for a model without E"):
        BagTrainer(dense, dropout=0.5)


# ---- what is told, and what cannot be written


@pytest.mark.parametrize("threads", [1, 2])
def test_history_depends_on_the_data_alone(threads):
    X, y = np.random.default_rng(0).standard_normal((3000, 30)), np.arange(3000) % 50

    def train(pause, num_threads):
        model = BagModel.create(Hierarchy.balanced(50), 30, dtype=np.float64)
        trainer = BagTrainer(model, epochs=3, rng=0, num_threads=num_threads)
        for _ in trainer.fit(X, y):
            time.sleep(pause)
        return trainer.history

    assert train(0, 1) == train(0.02, threads)


def test_a_report_comes_after_about_the_same_work():
    X = compress(np.ones((4000, 1)))
    small = BagTrainer(BagModel.create(Hierarchy.balanced(4000), 1, hidden_dim=4), epochs=1)
    wide = Hierarchy.balanced(4000, arity=4000)
    large = BagTrainer(BagModel.create(wide, 1, hidden_dim=64), epochs=1)
    reports = [len(list(trainer.fit(X, np.arange(4000)))) for trainer in (small, large)]
    assert reports == [2, 16]


@pytest.mark.parametrize("optimizer", ["adagrad", "rowwise_adagrad", "sgd", "adam"])
@pytest.mark.parametrize("hidden_dim", [None, 3])
def test_read_only_arrays_are_copied_to_be_trained(optimizer, hidden_dim):
    X = np.eye(4, dtype=np.float32)
    X = X if hidden_dim is None else compress(X)

    def train(read_only):
        model = BagModel.create(Hierarchy.balanced(4), 4, hidden_dim=hidden_dim, rng=0)
        trainer = BagTrainer(model, optimizer=optimizer, rng=0, epochs=1)
        list(trainer.fit(X, np.arange(4)))
        given = dict(model.to_arrays())
        for array in (
            *given.values(),
            *trainer.W_optimizer.state.values(),
            *trainer.E_optimizer.state.values(),
        ):
            array.flags.writeable = not read_only
        kept = {name: array.copy() for name, array in given.items()}
        list(trainer.fit(X, np.arange(4)))
        for name in given if read_only else ():
            np.testing.assert_array_equal(given[name], kept[name])
        return model.to_arrays()

    for one, other in zip(train(True).values(), train(False).values(), strict=True):
        np.testing.assert_array_equal(one, other)
