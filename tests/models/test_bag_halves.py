"""Models whose embedding and tree rows have 16 bits: training, files, prediction."""

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.sparse import csr_array

import cython_sparseops as cso
from cython_sparseops import BagModel, BagTrainer, Hierarchy, QuantizedWeights, embedding_bag
from cython_sparseops.sklearn import HSoftmaxClassifier
from helpers.compressed import compress

KINDS = ["bfloat16", "float16"]
OPTIMIZERS = ["sgd", "adagrad", "rowwise_adagrad", "adam"]


def some_bags(n=200, features=60, classes=20, seed=0):
    """Each class has three features of its own; noise besides."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    dense = (rng.random((n, features)) < 0.05).astype(np.float32)
    dense[np.arange(n), labels * 3 + rng.integers(0, 3, n)] += 2
    return compress(dense), dense, labels


def stored(model):
    return b"".join(a.tobytes() for a in model.to_arrays().values())


def trained(kind, *, threads=1, hidden_dim=24, tree=None, **options):
    X, dense, labels = some_bags()
    model = BagModel.create(
        tree or Hierarchy.balanced(20, arity=16), 60, hidden_dim=hidden_dim, dtype=kind, rng=1
    )
    settings = {"lr": 0.2, "epochs": 3, "batch_size": 32, "rng": 3, "num_threads": threads}
    list(BagTrainer(model, **settings | options).fit(X if hidden_dim else dense, labels))
    return model


def wide(model):
    """The float32 model that the stored rows stand for."""
    E = None if model.E is None else model.E.dequantize()
    return BagModel(model.hierarchy, E, model.W.dequantize(), model.b.copy(), mode=model.mode)


# ---- agrees with the reference ----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["mean", "sum"])
def test_the_bag_of_halves_is_the_bag_of_what_they_stand_for(kind, mode):
    X, _, _ = some_bags()
    E = cso.quantize(np.random.default_rng(1).standard_normal((60, 21)), kind)
    found = embedding_bag(X, E, mode=mode)
    assert found.tobytes() == embedding_bag(X, E.dequantize(), mode=mode).tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("hidden_dim", [24, None])
def test_a_step_lands_on_a_neighbor_of_the_step_in_float32(kind, optimizer, hidden_dim):
    X, dense, labels = some_bags()
    rows = X if hidden_dim else dense
    half = trained(kind, hidden_dim=hidden_dim, epochs=1)
    exact = wide(half)
    settings = {"optimizer": optimizer, "lr": 0.1, "epochs": 1, "batch_size": 200, "rng": 2}
    list(BagTrainer(half, **settings).fit(rows, labels))
    list(BagTrainer(exact, **settings).fit(rows, labels))
    assert half.b.tobytes() == exact.b.tobytes()
    for name in ("W",) if half.E is None else ("E", "W"):
        found, wanted = getattr(half, name).dequantize(), getattr(exact, name)
        digits = 2.0**-7 if kind == "bfloat16" else 2.0**-10
        step = np.maximum(np.abs(wanted) * digits, 2.0**-24 if kind == "float16" else 0)
        assert (np.abs(found - wanted) <= step).all()
        assert (found != wanted).any()


# ---- mathematics ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_steps_far_below_what_16_bits_hold_add_up(kind):
    """A hundred steps of 1e-4 from 1: rounded to nearest each would be lost in bfloat16.

    The mean of 400 entries, each rounded a hundred times: three of its deviations are 10 %.
    """
    X, labels, tree = np.full((1, 400), 0.01, np.float32), [1], Hierarchy.balanced(2)
    W, b = np.ones((1, 400), np.float32), np.zeros(1, np.float32)
    if BagModel(tree, None, W, b).hidden(X) @ W[0] > 0:
        labels = [int(np.argmin(cso.hsoftmax_log_proba(X, W, b, tree)))]
    exact = BagModel(tree, None, W.copy(), b.copy())
    half = BagModel(tree, None, cso.quantize(W, kind), b.copy())
    for model in (exact, half):
        trainer = BagTrainer(
            model, optimizer="sgd", lr=0.01, lr_schedule="constant", epochs=100, rng=0
        )
        list(trainer.fit(X, labels))
    moved = np.mean(1 - exact.W)
    assert moved == pytest.approx(0.0098, rel=0.02)
    assert np.mean(1 - half.W.dequantize()) == pytest.approx(moved, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_halves_learn_what_floats_learn(kind):
    X, _, labels = some_bags(n=600)
    found = [
        HSoftmaxClassifier(16, dtype=dtype, lr=0.5, epochs=10, random_state=0).fit(
            csr_array((X.data, X.indices, X.indptr), X.shape), labels
        )
        for dtype in ("float32", kind)
    ]
    rows = csr_array((X.data, X.indices, X.indptr), X.shape)
    floats, halves = (one.score(rows, labels) for one in found)
    assert halves >= floats - 0.01
    assert found[1].model_.storage == kind
    assert found[1].model_.W.nbytes * 2 == found[0].model_.W.nbytes


def test_what_is_estimated_is_half_of_the_rows():
    h = Hierarchy.balanced(1000)
    rows, tree = 999, cso.estimate_memory(h, 1) - 999 * 8
    rowwise = cso.Adagrad(0.1, rowwise=True)
    for kind in KINDS:
        assert cso.estimate_memory(h, 64, dtype=kind) == tree + rows * (2 * 64 + 4)
        found = cso.estimate_memory(h, 64, dtype=kind, optimizer=rowwise)
        assert found == tree + rows * (2 * 64 + 4 + 8)
        found = cso.estimate_memory(h, 64, dtype=kind, optimizer=cso.Adagrad(0.1))
        assert found == tree + rows * (4 * 64 + 4 + 4)


# ---- edges ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_files_copies_and_predictors_answer_alike(kind, tmp_path):
    X, _, labels = some_bags()
    rows = csr_array((X.data, X.indices, X.indptr), X.shape)
    one = HSoftmaxClassifier(16, dtype=kind, epochs=2, random_state=0).fit(rows, labels)
    wanted = one.top_k(rows, 3)
    one.save(tmp_path / "model.sops")
    others = [
        HSoftmaxClassifier.load(tmp_path / "model.sops"),
        HSoftmaxClassifier.load(tmp_path / "model.sops", mmap=False),
        copy.deepcopy(one),
        pickle.loads(pickle.dumps(one)),
    ]
    for other in others:
        assert other.model_.storage == other.dtype == kind
        assert stored(other.model_) == stored(one.model_)
        assert other.top_k(rows, 3).log_probs.tobytes() == wanted.log_probs.tobytes()
    predictor = one.predictor()
    first = predictor.top_k(rows[:1], 3)
    assert np.ravel(first.log_probs).tolist() == wanted.log_probs[0].tolist()
    for other in others:  # they can be trained further, a mapped one too, and alike
        other.partial_fit(rows, labels)
    assert len({stored(other.model_) for other in others}) == 1
    assert np.array_equal(predictor.top_k(rows[:1], 3).log_probs, first.log_probs)


@pytest.mark.parametrize("kind", KINDS)
def test_new_classes_leave_the_rows_of_others_as_they_are(kind):
    X, _, labels = some_bags()
    rows = csr_array((X.data, X.indices, X.indptr), X.shape)
    known = labels < 15
    one = HSoftmaxClassifier(16, dtype=kind, hierarchy="cluster", random_state=0)
    one.partial_fit(rows[known], labels[known])
    before = one.model_.W.shape[0]
    one.partial_fit(rows, labels)
    assert one.model_.storage == kind
    assert one.model_.W.shape[0] > before
    assert len(one.classes_) == 20
    assert np.isfinite(one.predict_log_proba(rows)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_early_stopping_keeps_and_scales_halves(kind):
    X, _, labels = some_bags(n=600)
    rows = csr_array((X.data, X.indices, X.indptr), X.shape)
    one = HSoftmaxClassifier(16, dtype=kind, early_stopping=True, random_state=0)
    one.fit(rows, labels)
    assert one.model_.storage == kind
    assert one.validation_score_
    assert one.score(rows, labels) > 0.9


# ---- rejections -------------------------------------------------------------------------------


def test_what_has_no_half_is_refused():
    X, _, labels = some_bags()
    rows = csr_array((X.data, X.indices, X.indptr), X.shape)
    with pytest.raises(ValueError, match=r"dtype must be one of .* or None, got 'int8'"):
        HSoftmaxClassifier(dtype="int8").fit(rows, labels)
    with pytest.raises(ValueError, match="dtype must be None, 'float32' or 'float64' with n_parts"):
        HSoftmaxClassifier(dtype="bfloat16", n_parts=2).fit(rows, labels)
    with pytest.raises(TypeError, match="dtype must be one of float32, float64, bfloat16, float16"):
        BagModel.create(Hierarchy.balanced(2), 3, dtype=np.int32)
    W, b = cso.quantize(np.ones((1, 3)), "int8"), np.zeros(1, np.float32)
    with pytest.raises(TypeError, match="W must be float32, float64, bfloat16 or float16"):
        BagModel(Hierarchy.balanced(2), None, W, b)
    with pytest.raises(TypeError, match="E must be float32, float64, bfloat16, float16, got int8"):
        embedding_bag(X, cso.quantize(np.ones((60, 3)), "int8"))


def test_what_is_not_finite_is_refused_with_nothing_written():
    model = trained("bfloat16")
    before = stored(model)
    X, _, labels = some_bags()
    X.data[3] = np.nan
    with pytest.raises(ValueError, match="X must be finite"):
        list(BagTrainer(model, rng=0).fit(X, labels))
    assert stored(model) == before
    E = QuantizedWeights(np.ones((60, 24), np.float16))
    with pytest.raises(TypeError, match="E and b alike"):
        BagModel(model.hierarchy, E, model.W, model.b)


# ---- promises ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("arity", [2, 16])
@pytest.mark.parametrize("optimizer", ["adagrad", "rowwise_adagrad"])
def test_halves_are_the_same_bytes_on_one_two_and_three_threads(kind, arity, optimizer):
    tree = Hierarchy.balanced(20, arity=arity)
    options = {"tree": tree, "optimizer": optimizer, "batch_size": 150, "max_norm": 3.0}
    found = {stored(trained(kind, threads=threads, **options)) for threads in (1, 2, 3)}
    assert len(found) == 1


def digest_of_training():
    return [stored(trained(kind)).hex() for kind in KINDS]


def test_halves_are_the_same_bytes_on_every_instruction_set(child, fma_isas):
    found = {str(child.call(digest_of_training, isa=isa)) for isa in fma_isas}
    assert len(found) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_in_pieces_is_one_pass(kind):
    """`partial_fit` of blocks of whole minibatches steps as one call over all of them does."""
    X, _, labels = some_bags()
    rows = csr_array((X.data, X.indices, X.indptr), X.shape)
    whole, pieces = (trained(kind, epochs=1) for _ in range(2))
    settings = {"lr_schedule": "constant", "shuffle": False, "batch_size": 50, "rng": 4}
    list(BagTrainer(whole, epochs=1, **settings).fit(rows, labels))
    trainer = BagTrainer(pieces, epochs=1, **settings)
    for start in (0, 100):
        list(trainer.fit(rows[start : start + 100], labels[start : start + 100]))
    assert stored(whole) == stored(pieces)
