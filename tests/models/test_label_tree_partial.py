"""`LabelTreeClassifier.partial_fit`: going on with rows that the model has not seen."""

import numpy as np
import pytest

sparse = pytest.importorskip("scipy.sparse")
pytest.importorskip("sklearn")

from sklearn.feature_extraction.text import TfidfTransformer  # noqa: E402

from benchmarks.data import wordnet  # noqa: E402
from cython_sparseops.sklearn import LabelTreeClassifier  # noqa: E402


def topics(n=2_000, classes=150, words=1_000, seed=0):
    """Rows of words, most of them of the row's class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    own = rng.integers(0, words, (classes, 8))
    ids = np.concatenate(
        [own[y[:, None], rng.integers(0, 8, (n, 4))], rng.integers(0, words, (n, 6))], axis=1
    )
    ones = np.full(ids.size, 0.3, np.float32)
    X = sparse.csr_array((ones, ids.ravel(), np.arange(0, ids.size + 1, 10)), shape=(n, words))
    X.sum_duplicates()
    return X, y


@pytest.fixture(scope="module")
def data():
    X, y = topics()
    return X[:1_000], y[:1_000], X[1_000:], y[1_000:]


def several(y, classes=150):
    """Two labels a row."""
    Y = np.zeros((len(y), classes), np.int8)
    Y[np.arange(len(y)), y] = 1
    Y[np.arange(len(y)), (y * 7 + 1) % classes] = 1
    return sparse.csr_array(Y)


def parts(model):
    return [part.to_arrays() for tree in model.model_.trees for part in tree]


def same(a, b):
    pairs = zip(parts(a), parts(b), strict=True)
    return all(x[k].tobytes() == y[k].tobytes() for x, y in pairs for k in x)


# ---- what it learns


def test_on_wordnet_new_rows_raise_the_score_and_old_ones_are_not_lost():
    bags = wordnet()
    transformer = TfidfTransformer(sublinear_tf=True).fit(bags.X)
    X, X_test = transformer.transform(bags.X), transformer.transform(bags.X_test)
    order = np.random.default_rng(0).permutation(len(bags.y))
    old, new = np.array_split(order, 2)
    classes = np.arange(bags.n_classes)
    model = LabelTreeClassifier(random_state=0)
    model.partial_fit(X[old], bags.y[old], classes=classes)
    first, log_p = model.score(X_test, bags.y_test), loss(model, X_test, bags.y_test)
    model.partial_fit(X[new], bags.y[new])
    second, log_p_second = model.score(X_test, bags.y_test), loss(model, X_test, bags.y_test)
    all_rows = LabelTreeClassifier(random_state=0).fit(X, bags.y)
    third = all_rows.score(X_test, bags.y_test)
    # Of 2,901 test rows a share near 0.4 has a standard error of 0.009.
    assert first + 0.027 < second < third + 0.009
    assert log_p_second < log_p
    assert model.score(X[old[:2_000]], bags.y[old[:2_000]]) > 0.8


def loss(model, X, y):
    log_p = model.predict_log_proba(X[:500])
    return -log_p[np.arange(500), y[:500]].mean()


def test_a_class_without_rows_in_the_first_call_is_learnt(data):
    X, y, more, labels = data
    known = y != 3
    model = LabelTreeClassifier(random_state=0)
    model.partial_fit(X[known], y[known], classes=np.arange(150))
    before = model.predict_proba(more, classes=[3])[labels == 3].mean()
    model.partial_fit(more, labels)
    assert model.predict_proba(X, classes=[3])[y == 3].mean() > 10 * before


# ---- what it keeps


@pytest.mark.parametrize("kind", ["labels", "indicator"])
def test_the_first_call_is_a_fit(data, kind):
    X, y = data[0], data[1] if kind == "labels" else several(data[1])
    assert same(
        LabelTreeClassifier(n_trees=2, random_state=0).partial_fit(X, y),
        LabelTreeClassifier(n_trees=2, random_state=0).fit(X, y),
    )


@pytest.mark.parametrize("loss", ["squared_hinge", "softmax", "logistic"])
def test_nodes_off_the_paths_of_the_rows_keep_their_bytes(data, loss):
    X, y = data[:2]
    model = LabelTreeClassifier(n_trees=2, loss=loss, random_state=0).fit(X, y)
    before = model.model_.trees
    rows = np.flatnonzero(y == y[0])
    model.partial_fit(X[rows] * np.float32(2), y[rows])
    for (h, old), (h_after, W) in zip(before, model.model_.trees, strict=True):
        assert h == h_after
        np.testing.assert_array_equal(old.temperatures, W.temperatures)
        passed = h.path_node[h.path_ptr[y[0]] : h.path_ptr[y[0] + 1]]
        changed = [v for v in range(h.n_nodes) if node(old, v) != node(W, v)]
        assert changed
        assert set(changed) <= set(passed.tolist())
        lacking = np.ones(X.shape[1], bool)
        lacking[X[rows].indices] = False
        was, now = old.to_scipy().tocsc()[:, lacking], W.to_scipy().tocsc()[:, lacking]
        assert (was != now).nnz == 0


def node(W, v):
    a = W.to_arrays()
    features = slice(*a["feature_ptr"][v : v + 2])
    entries = slice(*a["entry_ptr"][[features.start, features.stop]])
    rows = slice(*a["row_ptr"][v : v + 2])
    sizes = np.diff(a["entry_ptr"][features.start : features.stop + 1])
    kept = (a["feature"][features], sizes, a["slot"][entries], a["weight"][entries])
    return [array.tobytes() for array in (*kept, a["bias"][rows])]


def test_threads_change_no_byte_and_a_loaded_model_goes_on_alike(data, tmp_path):
    X, y, more, labels = data
    models = []
    for threads in (1, 3):
        model = LabelTreeClassifier(random_state=0, num_threads=threads).fit(X, y)
        model.save(tmp_path / "model.sops")
        models.append(model.partial_fit(more, labels))
    models.append(LabelTreeClassifier.load(tmp_path / "model.sops").partial_fit(more, labels))
    assert same(models[0], models[1])
    assert same(models[0], models[2])


def test_strings_and_weights_do_as_in_fit(data):
    X, y, more, labels = data
    names = np.array([f"class {c:03d}" for c in range(150)])
    numbers = LabelTreeClassifier(random_state=0).fit(X, y)
    strings = LabelTreeClassifier(random_state=0).fit(X, names[y])
    weight = np.where(labels < 100, 2.0, 0.0)
    numbers.partial_fit(more, labels, sample_weight=weight)
    strings.partial_fit(more[labels < 100], names[labels[labels < 100]], None, weight[weight > 0])
    assert same(numbers, strings)


def test_an_indicator_matrix_goes_on(data):
    X, y, more, labels = data
    model = LabelTreeClassifier(n_trees=2, random_state=0).fit(X, several(y))
    Y = several(labels)

    def average_loss():
        p = np.clip(model.predict_proba(more), 1e-9, 1 - 1e-7)
        T = Y.toarray()
        return -(T * np.log(p) + (1 - T) * np.log1p(-p)).sum(axis=1).mean()

    before = average_loss()
    model.partial_fit(more, Y, classes=np.arange(150))
    assert average_loss() < before


# ---- rejections


def test_what_does_not_fit_the_first_call_is_refused_and_nothing_changes(data):
    X, y, more, labels = data
    model = LabelTreeClassifier(random_state=0).fit(X, y)
    kept = LabelTreeClassifier(random_state=0).fit(X, y)
    calls = [
        ((more, labels + 1), "y must hold classes of the first call, got 1 new: 150 "),
        ((more, np.array(["a", "b"] * 500)), "got 2 new: 'a', 'b'"),
        ((more, labels, np.arange(3)), "classes must be the same in every call"),
        ((more, several(labels)), "y must be labels, as in the first call"),
        ((more[:, :9], labels), "X has 9 features"),
        ((more, labels, None, np.zeros(1_000)), r"(?i)sample.weights? must"),
        ((more, labels, None, -np.ones(1_000)), "Negative values"),
    ]
    for arguments, words in calls:
        with pytest.raises(ValueError, match=words):
            model.partial_fit(*arguments)
        assert same(model, kept)
        assert not model.multilabel_
    tags = LabelTreeClassifier(random_state=0).fit(X, several(y))
    with pytest.raises(ValueError, match="an indicator matrix of 150 columns"):
        tags.partial_fit(more, several(labels, 200))
    with pytest.raises(ValueError, match="got labels"):
        tags.partial_fit(more, labels)
    with pytest.raises(ValueError, match="y must hold classes of the first call, got"):
        LabelTreeClassifier().partial_fit(X, y, classes=[0, 1])
