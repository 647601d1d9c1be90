"""Labels, counts and arrays as users of the classifier have them."""

import copy
import importlib
import pickle
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")

import scipy.sparse as sp
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import KFold, cross_val_score
from sklearn.multioutput import MultiOutputClassifier

from cython_sparseops import load_arrays, save_arrays
from cython_sparseops._models.labels import as_labels
from cython_sparseops.sklearn import HSoftmaxClassifier

Y = np.array(["ant", "bee", "cat"])[np.arange(60) % 3]
X = sp.csr_array((np.ones(60, np.float32), np.arange(60) % 3, np.arange(61)), shape=(60, 3))


def new(**options):
    return HSoftmaxClassifier(4, random_state=0, **options)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int64, np.uint64, np.array])
def test_integers_of_any_width_are_those_of_python(kind):
    values = {"hidden_dim": 4, "epochs": 2, "batch_size": 7, "num_threads": 1, "replacement": 1}
    rows, labels = sp.vstack([X] * 20, format="csr"), np.tile(Y, 20)
    want = HSoftmaxClassifier(**values, dropout=0.1, random_state=0).fit(rows, labels)
    got = HSoftmaxClassifier(
        **{name: kind(value) for name, value in values.items()}, dropout=0.1, random_state=0
    ).fit(rows, labels)
    assert got.history_ == want.history_
    for name, array in want.model_.to_arrays().items():
        np.testing.assert_array_equal(got.model_.to_arrays()[name], array)
    np.testing.assert_array_equal(got.top_k(X, kind(2)).labels, want.top_k(X, 2).labels)


@pytest.mark.parametrize("name", ["hidden_dim", "epochs", "batch_size"])
@pytest.mark.parametrize("value", [True, 2.0, 0, "2"])
def test_what_is_no_positive_integer_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got"):
        HSoftmaxClassifier(**{name: value}).fit(X, Y)


@pytest.mark.parametrize("k", [True, 1.0, 0, None])
def test_top_k_names_what_it_takes(k):
    with pytest.raises(ValueError, match=r"k must be in \[1, 3\], the number of classes, got"):
        new().fit(X, Y).top_k(X, k)


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="NumPy 2")
def test_strings_of_variable_width_are_strings():
    y = Y.astype(np.dtypes.StringDType())
    want = new().fit(X, Y)
    assert new().fit(X, y).classes_.tolist() == want.classes_.tolist()
    assert new().partial_fit(X, y, classes=np.unique(y)).classes_.tolist() == want.classes_.tolist()
    assert want.score(X, y) == want.score(X, Y) == 1
    missing = y.astype(np.dtypes.StringDType(na_object=None))
    missing[7] = None
    with pytest.raises(ValueError, match="y must hold no missing labels, got one at index 7"):
        new().fit(X, missing)


def test_long_labels_do_not_multiply_memory(tmp_path):
    names = [f"class{i}" for i in range(3000)]
    names[7] = "A" * 5000
    eye = sp.eye_array(3000, format="csr", dtype=np.float32)
    model = new(epochs=1).fit(eye, np.array(names))
    assert model.classes_.dtype == object
    model.save(tmp_path / "m")
    again = HSoftmaxClassifier.load(tmp_path / "m")
    assert again.classes_.tolist() == model.classes_.tolist() == sorted(names)
    assert as_labels(["a\0", "b"]).tolist() == ["a\0", "b"]


def test_a_class_whose_rows_weigh_nothing_is_known_to_a_stream():
    weight = (Y != "ant").astype(float)
    model = new().partial_fit(X, Y, sample_weight=weight)
    assert model.classes_.tolist() == ["ant", "bee", "cat"]
    model.partial_fit(X, Y)
    assert new().fit(X, Y, sample_weight=weight).classes_.tolist() == ["bee", "cat"]


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ([], "classes must hold at least one label, got none"),
        ([0.0, np.nan], "classes must be finite, got nan"),
        ([[0, 1]], "classes must have 1 dimension, got 2"),
        (np.array([0, None], object), "classes must be labels of one kind"),
        (np.ma.array([0, 1], mask=[0, 1]), "classes must .* no masked entries"),
    ],
)
def test_classes_are_refused_by_name(classes, words):
    for call in (new().fit, new().partial_fit):
        with pytest.raises(ValueError, match=words):
            call(X[:2], [0, 1], classes=classes)


def test_classes_of_a_fit_make_log_loss_over_folds_finite():
    order = np.argsort(Y, kind="stable")  # every fold lacks a class
    classes = ["ant", "bee", "cat", "yak"]
    model = new().fit(X, Y, classes=classes)
    assert model.predict_proba(X).shape == (60, 4)
    assert model.classes_.tolist() == classes
    scores = cross_val_score(
        new(epochs=2),
        X[order],
        Y[order],
        cv=KFold(3),
        params={"classes": classes},
        scoring=make_scorer(log_loss, response_method="predict_proba", labels=classes),
    )
    assert np.isfinite(scores).all()
    with pytest.raises(ValueError, match="y must hold only labels of classes"):
        new().fit(X, Y, classes=["ant", "bee"])


def test_masked_arrays_are_refused():
    dense = np.ma.array(X.toarray(), mask=False)
    new().fit(dense, Y).predict(dense)
    dense.mask = np.eye(60, 3, dtype=bool)
    for call in (lambda: new().fit(dense, Y), lambda: new().fit(X.toarray(), Y).predict(dense)):
        with pytest.raises(ValueError, match="X must have no masked entries"):
            call()
    hidden = np.ma.array(Y, mask=Y == "ant")
    with pytest.raises(ValueError, match="y must have no masked entries"):
        new().fit(X, hidden)
    weight = np.ma.array(np.ones(60), mask=Y == "ant")
    with pytest.raises(ValueError, match="sample_weight must have no masked entries"):
        new().fit(X, Y, sample_weight=weight)


# ---- copies and pickles


def test_a_pickle_holds_the_weights_once_and_no_trainer():
    wide = sp.random_array((60, 4000), density=0.01, format="csr", rng=0, dtype=np.float32)
    model = HSoftmaxClassifier(50, random_state=0).fit(wide, Y)
    weights = sum(array.nbytes for array in model.model_.to_arrays().values())
    assert len(pickle.dumps(model)) < 1.05 * weights + 20_000
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(again.predict_proba(wide), model.predict_proba(wide))
        again.partial_fit(wide, Y)


def test_joblib_gives_smaller_files_and_maps_what_trains_on(tmp_path):
    joblib = pytest.importorskip("joblib")
    wide = sp.random_array((60, 4000), density=0.01, format="csr", rng=0, dtype=np.float32)
    model = HSoftmaxClassifier(50, random_state=0).fit(wide, Y)
    joblib.dump(model, tmp_path / "m")
    weights = sum(array.nbytes for array in model.model_.to_arrays().values())
    assert (tmp_path / "m").stat().st_size < 1.05 * weights + 40_000
    mapped = joblib.load(tmp_path / "m", mmap_mode="r")
    want = copy.deepcopy(model).partial_fit(wide, Y).predict_proba(wide)
    np.testing.assert_array_equal(mapped.partial_fit(wide, Y).predict_proba(wide), want)


def test_several_outputs_train_in_processes_and_again():
    y = np.column_stack([np.arange(60) % 3, np.arange(60) % 2])
    outputs = MultiOutputClassifier(new(num_threads=1), n_jobs=2)
    classes = [np.arange(3), np.arange(2)]
    for _ in range(2):
        outputs.partial_fit(X, y, classes=classes)
    assert outputs.predict(X).shape == (60, 2)


def test_a_file_orders_no_threads_and_is_the_same_whatever_their_number(tmp_path):
    for n, verbose in ((1024, 0), (1, 1), (None, 0)):
        new(num_threads=n, verbose=verbose, epochs=3).fit(X, Y).save(tmp_path / f"m{n}")
        assert HSoftmaxClassifier.load(tmp_path / f"m{n}").num_threads is None
    arrays, metadata = load_arrays(tmp_path / "m1")
    assert (tmp_path / "m1024").read_bytes() == (tmp_path / "m1").read_bytes()
    assert (tmp_path / "mNone").read_bytes() == (tmp_path / "m1").read_bytes()
    metadata["params"]["num_threads"] = 1024
    save_arrays(tmp_path / "forged", arrays, metadata)
    assert HSoftmaxClassifier.load(tmp_path / "forged").num_threads is None


def test_no_setting_of_numpy_reaches_a_prediction():
    model = new(lr=50.0, epochs=30).fit(X * 1e4, Y)
    with np.errstate(all="raise"):
        assert np.isfinite(model.predict_proba(X * 1e4)).all()
        model.top_k(X.toarray() * 1e4, 2)


# ---- what is given in place of rows and labels


@pytest.mark.parametrize(
    "text", [["a cat", "the dog"], np.array(["a cat", "the dog"]), "a cat", ("a cat", "the dog")]
)
def test_raw_text_is_told_what_to_do(text):
    with pytest.raises(ValueError, match=r"X must be numbers, got text, 'a cat' .*CountVectorizer"):
        new().fit(text, [0, 1])
    with pytest.raises(ValueError, match="X must be numbers, got text"):
        new().fit(X, Y).predict(text)


@pytest.mark.parametrize(
    "y",
    [
        [["a"], ["a", "b"]],
        [{"a"}, {"a", "b"}],
        np.array([[0, 1], [1, 0]]),
        sp.csr_array(np.eye(2)),
        np.array([["a"], ["a", "b"]], dtype=object),
    ],
)
def test_several_labels_a_row_are_told_what_to_do(y):
    for call in (new().fit, new().partial_fit):
        with pytest.raises(ValueError, match=r"y must hold one label a row, got several in row"):
            call([[0.0], [1.0]], y)


def test_without_scikit_learn_the_module_says_what_to_install(monkeypatch):
    for name in list(sys.modules):
        if name.partition(".")[0] == "sklearn" or name == "cython_sparseops.sklearn":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"needs scikit-learn: pip install 'cython-sparseops.skl"):
        importlib.import_module("cython_sparseops.sklearn")
