"""How HSoftmaxClassifier trains: clustered trees, held-out rows, weights of classes, smoothing."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.sparse import csr_array
from sklearn.base import clone

from cython_sparseops import BagModel, BagTrainer, Hierarchy, class_centroids, hsoftmax
from cython_sparseops._models.bag import Progress
from cython_sparseops._models.held_out import EarlyStopping, Fit, HeldOut, held_out_rows, hold_out
from cython_sparseops._sklearn.schedule import batch_of
from cython_sparseops.sklearn import HSoftmaxClassifier


@pytest.fixture(scope="module")
def noisy():
    """Few rows for many features and wrong labels: what can be learned is learned in few passes."""
    rng = np.random.default_rng(0)
    y = np.sort(rng.integers(0, 40, 1600) * rng.integers(0, 40, 1600) // 40)
    X = rng.poisson(0.03, (1600, 300))
    for word in range(3):
        X[np.arange(1600), 4 * y + word] += rng.poisson(0.7, 1600)
    wrong = rng.random(1600) < 0.3
    y[wrong] = rng.permutation(y[wrong])
    order = rng.permutation(1600)
    return csr_array(X[order].astype(np.float32)), y[order]


def weights(classifier):
    return {name: array.tobytes() for name, array in classifier.model_.to_arrays().items()}


# ---- agrees with the reference


@pytest.mark.parametrize("hierarchy", ["auto", "cluster"])
@pytest.mark.parametrize("sparse", [True, False])
def test_a_clustered_tree_is_that_of_the_centroids(noisy, hierarchy, sparse):
    X, y = noisy if sparse else (noisy[0].toarray(), noisy[1])
    classifier = HSoftmaxClassifier(hidden_dim=4, hierarchy=hierarchy, epochs=1, random_state=0)
    classes, labels = np.unique(y, return_inverse=True)
    centroids = class_centroids(X, labels, len(classes))
    seed = np.random.RandomState(0).randint(2**31 - 1, size=3)[2]
    expected = Hierarchy.cluster(centroids, counts=np.bincount(labels), rng=int(seed))
    assert classifier.fit(X, y).hierarchy_ == expected
    two = HSoftmaxClassifier(hidden_dim=4, hierarchy="auto", epochs=1).fit(X, y > 20)
    assert two.hierarchy_ == Hierarchy.balanced(2)


def test_early_stopping_keeps_the_weights_of_its_best_pass(noisy):
    X, y = noisy
    classifier = HSoftmaxClassifier(
        hidden_dim=8, epochs=60, batch_size=16, early_stopping=True, random_state=3
    ).fit(X, y)
    scores = classifier.validation_score_
    best = max(scores, key=lambda score: score.log_likelihood)
    assert classifier.best_epoch_ == best.epoch < scores[-1].epoch
    assert classifier.history_[-1].epoch == scores[-1].epoch < 60  # two looks later, not at the end
    # by hand: the same rows, and the schedule of 60 passes, stopped after the best
    seeds = np.random.RandomState(3).randint(2**31 - 1, size=3).tolist()
    labels = np.searchsorted(classifier.classes_, y)
    held = held_out_rows(labels, 0.05, seeds[1])
    assert 0 < held.sum() <= 80
    model = BagModel.create(classifier.hierarchy_, 300, hidden_dim=8, rng=seeds[0])
    trainer = BagTrainer(model, lr=0.3, epochs=60, batch_size=16, rng=seeds[1], label_smoothing=0.1)
    for progress in trainer.fit(X[~held], labels[~held]):
        if progress.examples == best.epoch * (~held).sum():
            break
    fit = hold_out(X, labels, None, held).fit(model)
    assert -fit.loss == best.log_likelihood
    scaled = np.float32(fit.scale)
    assert weights(classifier) == {
        "E": model.E.tobytes(),
        "W": (model.W * scaled).tobytes(),
        "b": (model.b * scaled).tobytes(),
    }


class Told:
    """Held-out rows whose losses are told."""

    def __init__(self, losses):
        self.losses = iter(losses)

    def fit(self, model, steps, num_threads):
        return Fit(next(self.losses), 0)


@pytest.mark.parametrize(
    ("losses", "looks", "best"),
    [
        ([3, 2, 1, 0.9, 0.8, 0.7], 6, 6),
        ([3, 2, 2.005, 2.009, 1.5, 1.4], 4, 2),  # two looks without a gain
        ([3, 2, 2.02, 1.5, 1.4, 1.3], 3, 2),  # one that is worse, with half of the passes done
        ([2, 2.5, 1.8, 1.7, 1.705, 1.6], 6, 6),  # early, or hardly worse
    ],
)
def test_early_stopping_ends_after_two_looks_or_one_that_is_worse(losses, looks, best):
    model = BagModel.create(Hierarchy.balanced(2), 3)
    stopping = EarlyStopping(model, Told(losses), rows=10, steps=80)
    passes = (Progress(i, 10 * i, 60, 1.0, 0.1) for i in range(1, 7))
    assert len(list(stopping.follow(passes))) == looks == len(stopping.scores)
    assert stopping.best_epoch == best


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_scale_is_that_of_the_least_loss(noisy, dtype):
    X, y = noisy[0].astype(dtype), noisy[1]
    model = BagModel.create(Hierarchy.huffman(np.bincount(y)), 300, hidden_dim=8, dtype=dtype)
    list(BagTrainer(model, lr=1.0, epochs=30, rng=0).fit(X[:1400], y[:1400]))
    weight = np.arange(1, 201) / 100
    held_out = HeldOut(X[1400:], y[1400:], weight)
    hidden = model.hidden(X[1400:])

    def loss(steps):
        scale = dtype(2 ** (steps / 8))
        nll = hsoftmax(hidden * scale, model.W, model.b * scale, y[1400:], model.hierarchy)
        return float(nll.astype(float) @ weight / weight.sum())

    fit = held_out.fit(model)
    assert fit.steps < 0  # it is too sure of itself
    assert fit == held_out.fit(model, steps=-16) == held_out.fit(model, steps=16, num_threads=2)
    assert fit.loss == pytest.approx(loss(fit.steps), rel=1e-6)
    assert min(range(-16, 17), key=loss) == fit.steps


@pytest.mark.parametrize("tree", ["huffman", "two_level", "cluster"])
@pytest.mark.parametrize("sparse", [True, False])
def test_a_smoothed_step_goes_down_the_smoothed_loss(noisy, tree, sparse):
    """Against finite differences of a loss written down again: an SGD step is lr times gradient."""
    X = noisy[0][:30].astype(np.float64) if sparse else noisy[0][:30].toarray().astype(np.float64)
    y = noisy[1][:30] % 7
    counts = np.bincount(y, minlength=7)
    h = {
        "huffman": Hierarchy.huffman(counts),
        "two_level": Hierarchy.two_level(counts),
        "cluster": Hierarchy.cluster(np.eye(7, 3), arity=4, leaf=2),
    }[tree]
    rng = np.random.default_rng(0)
    width = 5 if sparse else None
    model = BagModel.create(h, 300, hidden_dim=width, dtype=np.float64, rng=0)
    model.W[:] = rng.standard_normal(model.W.shape)
    model.b[:] = rng.standard_normal(model.b.shape)
    before = {name: array.copy() for name, array in model.to_arrays().items()}

    def smoothed(**arrays):
        one = BagModel.from_arrays(h, before | arrays)
        return sum(smoothed_loss(one, x, c, 0.2) for x, c in zip(one.hidden(X), y, strict=True))

    trainer = BagTrainer(
        model, optimizer="sgd", lr=1e-3, lr_schedule="constant", epochs=1, label_smoothing=0.2
    )
    (progress,) = trainer.fit(X, y)
    assert progress.nll == pytest.approx(smoothed() / 30, rel=1e-12)
    for name, array in model.to_arrays().items():
        gradient = (before[name] - array) / 1e-3
        for _ in range(12):
            spot = tuple(int(rng.integers(n)) for n in array.shape)
            up, down = before[name].copy(), before[name].copy()
            up[spot] += 1e-5
            down[spot] -= 1e-5
            slope = (smoothed(**{name: up}) - smoothed(**{name: down})) / 2e-5
            assert gradient[spot] == pytest.approx(slope, rel=1e-4, abs=1e-5)


def smoothed_loss(model, x, label, smoothing):
    """Cross-entropy with the smoothed target at each node of the path."""
    h, total = model.hierarchy, 0.0
    for at in range(h.path_ptr[label], h.path_ptr[label + 1]):
        node, taken = h.path_node[at], h.path_child[at]
        rows = slice(h.row_ptr[node], h.row_ptr[node + 1])
        z = model.W[rows] @ x + model.b[rows]
        z = np.array([0.0, z[0]]) if len(z) == 1 else z
        log_p = z - np.logaddexp.reduce(z)
        target = np.full(len(z), smoothing / len(z))
        target[taken] += 1 - smoothing
        total -= target @ log_p
    return total


@pytest.mark.parametrize("sparse", [True, False])
def test_class_weights_are_weights_of_rows(noisy, sparse):
    X, y = noisy if sparse else (noisy[0].toarray(), noisy[1])
    own = np.random.default_rng(1).random(len(y)) + 0.5
    options = {"hidden_dim": 8, "epochs": 2, "random_state": 0, "hierarchy": "balanced"}
    names = np.array([f"class {c}" for c in range(60)])[y]
    classes, labels = np.unique(names, return_inverse=True)
    by_label = {name: 1 + i % 3 for i, name in enumerate(classes[::2])}
    scale = np.array([by_label.get(name, 1) for name in classes], float)
    scale /= scale.mean()
    one = HSoftmaxClassifier(class_weight=by_label | {"unknown": 7}, **options)
    other = HSoftmaxClassifier(**options).fit(X, names, sample_weight=own * scale[labels])
    assert weights(one.fit(X, names, sample_weight=own)) == weights(other)
    counts = np.bincount(labels, weights=own)
    balanced = counts.sum() / (len(classes) * counts)
    one = HSoftmaxClassifier(class_weight="balanced", **options)
    other = HSoftmaxClassifier(**options).fit(X, names, sample_weight=own * balanced[labels])
    assert weights(one.fit(X, names, sample_weight=own)) == weights(other)
    one = HSoftmaxClassifier(class_weight=by_label, **options)
    other = HSoftmaxClassifier(**options)
    one.partial_fit(X, names, sample_weight=own)
    other.partial_fit(X, names, sample_weight=own * scale[labels])
    assert weights(one) == weights(other)


# ---- mathematics


def test_it_stops_before_it_learns_the_noise(noisy):
    X, y = noisy
    options = {"hidden_dim": 16, "epochs": 40, "batch_size": 16, "random_state": 0}
    stopped, trained = (
        HSoftmaxClassifier(early_stopping=stop, **options).fit(X[:1200], y[:1200])
        for stop in (True, False)
    )
    labels = np.searchsorted(stopped.classes_, y[1200:])
    rows = np.arange(len(labels))
    loss = [-c.predict_log_proba(X[1200:])[rows, labels].mean() for c in (stopped, trained)]
    assert loss[0] < loss[1] - 1


def test_rows_held_out_count_as_much_as_the_rows_they_stand_for():
    labels = np.repeat(np.arange(60), np.concatenate([np.full(40, 2), np.full(20, 40)]))
    held = held_out_rows(labels, 0.2, seed=1)
    one = hold_out(np.zeros((len(labels), 1)), labels, None, held)
    small = one.labels < 40  # classes that keep one row
    kept = np.bincount(labels[~held])[labels[~held]] == 1
    assert one.weight[small & (np.bincount(labels[~held])[one.labels] == 1)].sum() == (
        pytest.approx(kept.sum())
    )
    assert held_out_rows(labels, 0.2, seed=1).tolist() == held.tolist()
    assert held_out_rows(labels, 0.2, seed=2).tolist() != held.tolist()


# ---- edges


def test_no_class_loses_its_last_row():
    rng = np.random.default_rng(0)
    for seed in range(20):
        labels = rng.integers(0, 30, 60)
        held = held_out_rows(labels, 0.9, seed)
        assert set(labels[~held].tolist()) == set(labels.tolist())
    assert not held_out_rows(np.arange(50), 0.5, 0).any()


def test_with_no_row_to_spare_all_passes_are_done():
    X = csr_array(np.eye(12, dtype=np.float32))
    classifier = HSoftmaxClassifier(hidden_dim=4, epochs=3, early_stopping=True, random_state=0)
    classifier.fit(X, np.arange(12))
    assert classifier.validation_score_ is None
    assert classifier.history_[-1].examples == 36
    plain = clone(classifier).set_params(early_stopping=False).fit(X, np.arange(12))
    assert weights(plain) == weights(classifier)


def test_auto_holds_out_rows_when_there_are_many(noisy):
    X, y = noisy
    many = csr_array((np.tile(X.data, 7), np.tile(X.indices, 7), repeated(X.indptr, 7)))
    classifier = HSoftmaxClassifier(hidden_dim=4, epochs=4, batch_size=64, random_state=0)
    assert classifier.fit(X, y).validation_score_ is None
    scores = classifier.fit(many, np.tile(y, 7)).validation_score_
    assert [score.epoch for score in scores] == [1, 2, 3, 4]
    classifier.set_params(early_stopping=False).fit(many, np.tile(y, 7))
    assert classifier.validation_score_ is None
    assert classifier.best_epoch_ is None


def repeated(indptr, times):
    steps = np.tile(np.diff(indptr), times)
    return np.concatenate([[0], np.cumsum(steps)])


def test_minibatches_grow_with_the_rows(noisy):
    """A pass of many rows, or a stream of them, has 80 steps of at most 1,024."""
    X, y = noisy
    rows = np.resize(np.arange(len(y)), 30_000)
    whole = HSoftmaxClassifier(hidden_dim=4, epochs=1, early_stopping=False, random_state=0)
    whole.fit(X[rows], y[rows])
    assert whole._trainer.batch_size == 375
    assert [batch_of(None, n) for n in (1, 20_480, 50_000, 10**6)] == [256, 256, 625, 1024]
    stream = HSoftmaxClassifier(hidden_dim=4, optimizer="sgd", random_state=0)
    sizes = []
    for start in range(0, 30_000, 10_000):
        part = rows[start : start + 10_000]
        stream.partial_fit(X[part], y[part], classes=np.unique(y))
        sizes.append((stream._trainer.batch_size, stream._trainer.W_optimizer.lr))
    assert sizes == [(256, 8 / 256), (256, 8 / 256), (375, 8 / 375)]
    given = HSoftmaxClassifier(hidden_dim=4, epochs=1, batch_size=32, random_state=0)
    assert given.fit(X[rows], y[rows])._trainer.batch_size == 32


def test_balanced_weights_need_all_rows(noisy):
    with pytest.raises(ValueError, match="class_weight must be a dict or None for partial_fit"):
        HSoftmaxClassifier(class_weight="balanced").partial_fit(*noisy)


# ---- promises


@pytest.mark.parametrize("dense", [False, True])
def test_threads_change_no_bit(noisy, dense):
    X, y = (noisy[0].toarray(), noisy[1]) if dense else noisy
    found = [
        HSoftmaxClassifier(
            hidden_dim=16,
            epochs=30,
            early_stopping=True,
            class_weight="balanced",
            label_smoothing=0.05,
            random_state=5,
            num_threads=threads,
        ).fit(X, y)
        for threads in (1, 2, 3)
    ]
    assert weights(found[0]) == weights(found[1]) == weights(found[2])
    assert found[0].validation_score_ == found[1].validation_score_ == found[2].validation_score_


# ---- files


@pytest.mark.parametrize("class_weight", [None, "balanced", {1: 2.0, 3: 0.5}])
def test_a_file_holds_the_options_and_the_scores(noisy, tmp_path, class_weight):
    classifier = HSoftmaxClassifier(
        hidden_dim=4,
        epochs=20,
        hierarchy="cluster",
        class_weight=class_weight,
        label_smoothing=0.05,
        early_stopping=True,
        validation_fraction=0.1,
        random_state=0,
    ).fit(*noisy)
    classifier.save(tmp_path / "model")
    loaded = HSoftmaxClassifier.load(tmp_path / "model")
    assert loaded.get_params() == classifier.get_params()
    assert loaded.validation_score_ == classifier.validation_score_
    assert loaded.best_epoch_ == classifier.best_epoch_
    assert weights(clone(loaded).fit(*noisy)) == weights(classifier)
    by_name = HSoftmaxClassifier(hidden_dim=4, epochs=1, class_weight={"a": 2.0, "c": 1.0})
    by_name.fit(noisy[0][:4], list("abca")).save(tmp_path / "named")
    assert HSoftmaxClassifier.load(tmp_path / "named").class_weight == {"a": 2.0, "c": 1.0}
