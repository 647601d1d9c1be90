"""HSoftmaxClassifier: scikit-learn's checks, agreement with the core, files, threads, refusals."""

import pickle
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.sparse import csr_array, csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from cython_sparseops import BagTrainer, Hierarchy, hsoftmax_log_proba, load_arrays, save_arrays
from cython_sparseops._models.file import pack_strings, unpack_strings
from cython_sparseops.sklearn import HSoftmaxClassifier

TREES = ["auto", "cluster", "huffman", "two_level", "balanced"]


@pytest.fixture(scope="module")
def bags():
    """Sparse counts in which every class has three words of its own among 40."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 9, 400)
    X = rng.poisson(0.1, (400, 40))
    for word in range(3):
        X[np.arange(400), 4 * y + word] += rng.poisson(2, 400)
    return csr_array(X.astype(np.float32)), y


@pytest.fixture(scope="module")
def fitted(bags):
    return HSoftmaxClassifier(hidden_dim=16, random_state=3).fit(*bags)


def same_bytes(a, b):
    left, right = a.model_.to_arrays(), b.model_.to_arrays()
    assert left.keys() == right.keys()
    return all(left[name].tobytes() == right[name].tobytes() for name in left)


# ---- agrees with the reference


@parametrize_with_checks(
    [
        HSoftmaxClassifier(),
        HSoftmaxClassifier(hierarchy="two_level", optimizer="sgd"),
        HSoftmaxClassifier(hierarchy="balanced", optimizer="adam"),
        HSoftmaxClassifier(hierarchy="cluster", label_smoothing=0.1),
    ]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


def test_probabilities_are_those_of_the_core(fitted, bags):
    model = fitted.model_
    expected = hsoftmax_log_proba(model.hidden(bags[0]), model.W, model.b, fitted.hierarchy_)
    assert np.array_equal(fitted.predict_log_proba(bags[0]), expected)


def test_top_k_is_the_sorted_probabilities(fitted, bags):
    log_proba = fitted.predict_log_proba(bags[0])
    order = np.argsort(-log_proba, axis=1, kind="stable")
    labels, log_probs = fitted.top_k(bags[0], k=9)
    assert np.array_equal(labels, fitted.classes_[order])
    assert np.array_equal(log_probs, np.take_along_axis(log_proba, order, axis=1))
    assert np.array_equal(fitted.top_k(bags[0], k=4).labels, labels[:, :4])
    assert np.array_equal(fitted.predict(bags[0]), labels[:, 0])


@pytest.mark.parametrize("tree", TREES)
def test_it_learns_bags_of_words(bags, tree):
    X, y = bags
    classifier = HSoftmaxClassifier(hidden_dim=16, hierarchy=tree, random_state=0).fit(
        X[:300], y[:300]
    )
    assert classifier.score(X[300:], y[300:]) > 0.9


def test_it_learns_dense_rows():
    from sklearn.datasets import load_iris
    from sklearn.preprocessing import scale

    X, y = load_iris(return_X_y=True)
    assert HSoftmaxClassifier(random_state=0).fit(scale(X), y).score(scale(X), y) > 0.95


# ---- mathematics


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_sum_to_one(bags, tree, dtype):
    classifier = HSoftmaxClassifier(hidden_dim=8, hierarchy=tree, random_state=0)
    proba = classifier.fit(bags[0].astype(dtype), bags[1]).predict_proba(bags[0])
    assert proba.dtype == dtype
    assert np.allclose(proba.sum(axis=1), 1, rtol=0, atol=64 * np.finfo(dtype).eps)


def test_a_weight_is_a_repetition_when_every_step_sees_all_rows(bags):
    X, y = bags[0][:60].astype(np.float64), bags[1][:60]
    weight = np.arange(60) % 3
    weighted = HSoftmaxClassifier(hidden_dim=4, random_state=0).fit(X, y, sample_weight=weight)
    repeated = HSoftmaxClassifier(hidden_dim=4, random_state=0).fit(
        X[np.repeat(np.arange(60), weight)], np.repeat(y, weight)
    )
    np.testing.assert_allclose(
        weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-6, atol=1e-9
    )


# ---- edges


def test_labels_may_be_strings(bags):
    names = np.array(["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis"])
    for y in (names[bags[1]], names[bags[1]].astype(object)):
        classifier = HSoftmaxClassifier(hidden_dim=16, random_state=3).fit(bags[0], y)
        assert list(classifier.classes_) == list(names)
        assert set(classifier.predict(bags[0])) <= set(names)
        assert classifier.top_k(bags[0][:2], k=3).labels.shape == (2, 3)


def test_dense_and_sparse_rows_predict_alike(bags):
    X, y = bags
    dense = X.toarray()
    for classifier in (
        HSoftmaxClassifier(hidden_dim=8, random_state=0).fit(X, y),
        HSoftmaxClassifier(hidden_dim=8, random_state=0).fit(dense, y),
    ):
        expected = classifier.predict_proba(X)
        assert np.array_equal(expected, classifier.predict_proba(dense))
        assert np.array_equal(expected, classifier.predict_proba(csr_matrix(X)))
        assert np.array_equal(expected, classifier.predict_proba(X.tocsc()))
        assert np.array_equal(classifier.predict(X), classifier.predict(dense.tolist()))


def test_int64_indices_and_integer_counts_are_taken(bags):
    X, y = bags
    wide = csr_array((X.data, X.indices.astype(np.int64), X.indptr.astype(np.int64)), X.shape)
    first = HSoftmaxClassifier(hidden_dim=8, random_state=0).fit(X, y)
    assert same_bytes(first, HSoftmaxClassifier(hidden_dim=8, random_state=0).fit(wide, y))
    assert same_bytes(
        first, HSoftmaxClassifier(hidden_dim=8, random_state=0).fit(X.astype(np.int64), y)
    )


def test_a_given_tree_may_have_classes_without_examples(bags):
    X, y = bags
    tree = Hierarchy.balanced(12)
    classifier = HSoftmaxClassifier(hidden_dim=8, hierarchy=tree, random_state=0).fit(X, y)
    assert classifier.hierarchy_ == tree
    assert classifier.classes_.tolist() == list(range(12))
    assert classifier.predict_proba(X).shape == (400, 12)


def test_a_given_tree_is_over_the_sorted_labels(bags):
    X, y = bags
    classifier = HSoftmaxClassifier(hidden_dim=8, hierarchy=Hierarchy.balanced(9), random_state=0)
    assert classifier.fit(X, 10 * y).classes_.tolist() == list(range(0, 90, 10))


def test_one_class_has_probability_one(bags):
    classifier = HSoftmaxClassifier(hidden_dim=4).fit(bags[0], np.full(400, "only"))
    assert classifier.predict(bags[0][:3]).tolist() == ["only"] * 3
    assert np.array_equal(classifier.predict_proba(bags[0][:3]), np.ones((3, 1)))


def test_an_empty_bag_is_predicted(fitted):
    assert fitted.predict(csr_array((2, 40))).shape == (2,)


def test_partial_fit_goes_on_where_it_was(bags):
    X, y = bags
    classifier = HSoftmaxClassifier(hidden_dim=16, random_state=0)
    for _ in range(40):
        for start in range(0, 400, 100):
            rows = slice(start, start + 100)
            classifier.partial_fit(X[rows], y[rows], classes=range(9))
    assert classifier.score(X, y) > 0.95
    assert classifier.hierarchy_.n_classes == 9


def test_partial_fit_after_fit_does_no_harm(bags):
    classifier = HSoftmaxClassifier(hidden_dim=16, random_state=0).fit(*bags)
    before = classifier.score(*bags)
    classifier.partial_fit(bags[0][:50], bags[1][:50])
    assert classifier.score(*bags) > before - 0.02


# ---- rejections


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"hidden_dim": 0}, "hidden_dim must be a positive integer, got 0"),
        ({"batch_size": 1.5}, "batch_size must be a positive integer, got 1.5"),
        ({"epochs": True}, "epochs must be a positive integer, got True"),
        ({"optimizer": "lbfgs"}, r"optimizer must be one of .* got 'lbfgs'"),
        ({"hierarchy": "oak"}, r"hierarchy must be one of .* or a Hierarchy, got 'oak'"),
        ({"hierarchy": Hierarchy.balanced(3)}, r"hierarchy must have one class for each of the 9"),
        ({"lr": -1.0}, "lr must be"),
        ({"lr_schedule": "cosine"}, "lr_schedule must be"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1\.0"),
        ({"label_smoothing": -0.1}, r"label_smoothing must be in \[0, 1\), got -0\.1"),
        ({"early_stopping": "yes"}, "early_stopping must be True, False or 'auto', got 'yes'"),
        ({"validation_fraction": 0.0}, r"validation_fraction must be in \(0, 1\), got 0\.0"),
        ({"validation_fraction": 1}, r"validation_fraction must be in \(0, 1\), got 1"),
        ({"class_weight": "even"}, "class_weight must be None, 'balanced' or a dict by label"),
        ({"class_weight": {3: -1.0}}, r"class_weight must hold finite weights .* got -1\.0 for 3"),
        ({"class_weight": dict.fromkeys(range(9), 0)}, "class_weight must hold a positive weight"),
    ],
)
def test_a_wrong_parameter_is_named(bags, parameters, message):
    with pytest.raises(ValueError, match=message):
        HSoftmaxClassifier(**parameters).fit(*bags)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_runs_away_names_the_learning_rate(bags):
    classifier = HSoftmaxClassifier(hidden_dim=8, optimizer="sgd", lr=1e30, batch_size=32)
    with pytest.raises(ValueError, match=r"lr must be small enough to converge, got 1e\+30"):
        classifier.fit(*bags)


def test_k_must_be_a_number_of_classes(fitted, bags):
    for k in (0, 10, 2.0):
        with pytest.raises(ValueError, match=r"k must be in \[1, 9\], the number of classes, got"):
            fitted.top_k(bags[0], k)


def test_nothing_is_predicted_before_fit(tmp_path):
    for call in ("predict", "predict_proba", "top_k"):
        with pytest.raises(NotFittedError):
            getattr(HSoftmaxClassifier(), call)([[1.0]])
    with pytest.raises(NotFittedError):
        HSoftmaxClassifier().save(tmp_path / "model")


# ---- promises


@pytest.mark.parametrize("optimizer", ["adagrad", "rowwise_adagrad", "sgd", "adam"])
def test_threads_change_no_bit(bags, optimizer):
    one, two, three = (
        HSoftmaxClassifier(
            hidden_dim=16, optimizer=optimizer, random_state=5, num_threads=threads, batch_size=300
        ).fit(*bags)
        for threads in (1, 2, 3)
    )
    assert same_bytes(one, two)
    assert same_bytes(one, three)
    assert one.predict_proba(bags[0]).tobytes() == three.predict_proba(bags[0]).tobytes()


def test_the_seed_decides(bags):
    first, again, other = (
        HSoftmaxClassifier(hidden_dim=8, random_state=seed, epochs=2).fit(*bags)
        for seed in (1, 1, 2)
    )
    assert same_bytes(first, again)
    assert not same_bytes(first, other)


def test_the_training_curve_is_kept(fitted):
    last = fitted.history_[-1]
    assert last.examples == last.total_examples
    assert last.nll < fitted.history_[0].nll


def test_interrupting_fit_leaves_a_whole_model(bags, monkeypatch):
    whole = BagTrainer.fit

    def stopped(self, *args, **options):
        for count, progress in enumerate(whole(self, *args, **options)):
            if count == 2:
                raise KeyboardInterrupt
            yield progress

    monkeypatch.setattr(BagTrainer, "fit", stopped)
    classifier = HSoftmaxClassifier(hidden_dim=8, random_state=0, epochs=100, batch_size=8)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(*bags)
    monkeypatch.undo()
    assert 0 < classifier.history_[-1].examples < 40000
    assert np.isfinite(classifier.predict_log_proba(bags[0])).all()
    classifier.partial_fit(*bags)


def test_a_bar_is_drawn_on_request(bags, capsys):
    HSoftmaxClassifier(hidden_dim=4, epochs=2, verbose=1).fit(*bags)
    assert "training" in capsys.readouterr().err
    HSoftmaxClassifier(hidden_dim=4, epochs=2).fit(*bags)
    assert not capsys.readouterr().err


def test_without_tqdm_there_are_lines(bags, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    HSoftmaxClassifier(hidden_dim=4, epochs=2, verbose=1).fit(*bags)
    assert "800/800 examples, nll" in capsys.readouterr().err


def test_the_package_imports_without_scikit_learn(child):
    code = (
        "import sys, cython_sparseops\n"
        "assert not {'sklearn', 'scipy', 'tqdm', 'matplotlib'} & set(sys.modules)"
    )
    child.run(code)


# ---- files


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("labels", ["int", "str", "object", "float", "bool", "uint16"])
@pytest.mark.parametrize("sparse", [True, False])
def test_a_saved_model_predicts_the_same(bags, tmp_path, mmap, labels, sparse):
    X, y = bags[0] if sparse else bags[0].toarray(), bags[1]
    y = y > 4 if labels == "bool" else y.astype({"int": int}.get(labels, labels))
    y = np.array([f"name {label}" for label in y], object) if labels == "object" else y
    classifier = HSoftmaxClassifier(
        hidden_dim=8, random_state=0, epochs=2, hierarchy="two_level"
    ).fit(X, y)
    classifier.save(tmp_path / "model.sops")
    loaded = HSoftmaxClassifier.load(tmp_path / "model.sops", mmap=mmap)
    assert labels == "str" or loaded.classes_.dtype == classifier.classes_.dtype
    assert np.array_equal(loaded.classes_, classifier.classes_)
    assert loaded.get_params() == classifier.get_params()
    assert loaded.history_ == classifier.history_
    assert np.array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    assert np.array_equal(loaded.predict(X), classifier.predict(X))
    loaded.partial_fit(X, y)
    clone(loaded).fit(X, y)


def test_a_saved_model_keeps_a_given_tree(bags, tmp_path):
    tree = Hierarchy.huffman(np.arange(1, 13))
    HSoftmaxClassifier(hidden_dim=4, hierarchy=tree, epochs=1).fit(*bags).save(tmp_path / "m")
    loaded = HSoftmaxClassifier.load(tmp_path / "m")
    assert loaded.hierarchy == loaded.hierarchy_ == tree
    assert clone(loaded).fit(*bags).hierarchy_ == tree


def test_a_pickle_predicts_the_same(fitted, bags):
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(bags[0]), fitted.predict_proba(bags[0]))


def test_every_damaged_file_is_a_value_error(fitted, tmp_path):
    path = tmp_path / "model.sops"
    fitted.save(path)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    spots = {*range(64), *rng.integers(0, len(good), 60).tolist()}
    for spot in sorted(spots):
        bad = bytearray(good)
        bad[spot] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        try:
            loaded = HSoftmaxClassifier.load(path)
        except ValueError:
            continue
        assert same_bytes(loaded, fitted), spot  # only in the padding between the arrays
    for size in (0, 1, 16, 100, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:size])
        with pytest.raises(ValueError):
            HSoftmaxClassifier.load(path)


def test_a_file_whose_parts_do_not_fit_is_a_value_error(fitted, tmp_path):
    path = tmp_path / "model.sops"
    fitted.save(path)
    arrays, metadata = load_arrays(path, mmap=False)
    for name in arrays:
        if name == "history":
            continue
        for change in ("missing", "short", "other type"):
            changed = dict(arrays)
            changed[name] = arrays[name][:-1] if change == "short" else arrays[name] * 1.5
            if change == "missing":
                del changed[name]
            if name == "model.E" and change == "missing":
                continue  # then it is a model of dense rows, with another number of features
            if (
                changed.get(name, arrays[name][:-1]).dtype == arrays[name].dtype
                and change[0] == "o"
            ):
                continue
            save_arrays(path, changed, metadata)
            with pytest.raises(ValueError, match="must"):
                HSoftmaxClassifier.load(path)
    for name in metadata:
        save_arrays(path, arrays, {key: value for key, value in metadata.items() if key != name})
        with pytest.raises(ValueError, match="path must hold"):
            HSoftmaxClassifier.load(path)


def test_another_kind_of_file_is_refused(tmp_path):
    Hierarchy.balanced(3).save(tmp_path / "tree")
    with pytest.raises(ValueError, match="path must hold a saved HSoftmaxClassifier"):
        HSoftmaxClassifier.load(tmp_path / "tree")


def test_strings_survive_their_arrays():
    words = ["", "a", "ñandú", "日本", "\ud800", "x" * 1000, ""]
    assert unpack_strings(pack_strings(words)) == words
    packed = pack_strings(["ab", "c"])
    for offsets in ([0, 2], [1, 2, 3], [0, 3, 2, 3], []):
        with pytest.raises(ValueError, match="offsets must be"):
            unpack_strings(packed | {"offsets": np.array(offsets, np.int64)})
    with pytest.raises(ValueError, match="utf8 must hold UTF-8"):
        unpack_strings(packed | {"utf8": np.array([255, 255, 255], np.uint8)})
