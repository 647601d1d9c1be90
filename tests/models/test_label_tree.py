"""The label tree classifier: one label per row or several, one tree or more."""

import pickle

import numpy as np
import pytest

sparse = pytest.importorskip("scipy.sparse")
pytest.importorskip("sklearn")

from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.metrics import log_loss  # noqa: E402
from sklearn.model_selection import cross_val_score  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

import cython_sparseops as cso  # noqa: E402
from cython_sparseops.sklearn import LabelTreeClassifier, TopK  # noqa: E402


def topics(n=3_000, classes=300, words=2_000, seed=0):
    """Rows of unit norm with words of their class's and some of all; labels of Zipf frequency."""
    rng = np.random.default_rng(seed)
    p = 1 / np.arange(1, classes + 1)
    y = rng.choice(classes, n, p=p / p.sum())
    own = rng.integers(0, words, (classes, 8))
    ids = np.concatenate(
        [own[y[:, None], rng.integers(0, 8, (n, 4))], rng.integers(0, words, (n, 6))], axis=1
    )
    X = sparse.csr_array(
        (np.ones(ids.size, np.float32), ids.ravel(), np.arange(0, ids.size + 1, 10)),
        shape=(n, words),
    )
    X.sum_duplicates()
    return cso.sparse_normalize(X, axis=1), y


@pytest.fixture(scope="module")
def data():
    X, y = topics()
    return X[:2_400], y[:2_400], X[2_400:], y[2_400:]


@pytest.fixture(scope="module")
def several():
    """Two labels per row, most times."""
    X, y = topics(2_000, 60)
    other = np.random.default_rng(1).permutation(len(y))
    both = X + X[other]
    Y = np.zeros((len(y), 60), np.int8)
    Y[np.arange(len(y)), y] = 1
    Y[np.arange(len(y)), y[other]] = 1
    return cso.sparse_normalize(sparse.csr_array(both), axis=1), sparse.csr_array(Y)


@pytest.fixture(scope="module")
def three_trees(data):
    return LabelTreeClassifier(n_trees=3, random_state=0).fit(*data[:2])


def digest(model):
    return b"".join(
        array.tobytes()
        for tree in model.model_.trees
        for part in tree
        for array in part.to_arrays().values()
    )


# ---- agrees with the reference


def test_on_few_classes_it_is_as_accurate_as_a_flat_linear_model():
    X, y = topics(3_000, 20)
    flat = LogisticRegression(C=10, max_iter=300).fit(X[:2_000], y[:2_000])
    ours = LabelTreeClassifier(random_state=0).fit(X[:2_000], y[:2_000])
    # 1,000 test rows: two standard errors of a difference of proportions near 0.8 are 0.036
    assert ours.score(X[2_000:], y[2_000:]) > flat.score(X[2_000:], y[2_000:]) - 0.036


# A row of weight 2 has twice the cost: two rows at the optimum, and nearly so in a fit.
# Rows of weight 0 are left out exactly, as a test below shows.
NOT_AS_REPEATED = {
    f"check_sample_weight_equivalence_on_{kind}_data": "weights scale C, as in LinearSVC"
    for kind in ("dense", "sparse")
}


@parametrize_with_checks(
    [LabelTreeClassifier(random_state=0)], expected_failed_checks=lambda _: NOT_AS_REPEATED
)
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


# ---- mathematics


@pytest.mark.parametrize("loss", ["squared_hinge", "softmax", "logistic"])
@pytest.mark.parametrize("hierarchy", ["cluster", "huffman", "balanced", "two_level", "adaptive"])
def test_probabilities_sum_to_1_and_the_best_are_first(data, loss, hierarchy):
    model = LabelTreeClassifier(hierarchy=hierarchy, loss=loss, random_state=0).fit(*data[:2])
    X = data[2][:100]
    p = model.predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    top = model.top_k(X, 7)
    assert isinstance(top, TopK)
    order = np.lexsort((np.broadcast_to(np.arange(p.shape[1]), p.shape), -p))[:, :7]
    assert (np.take_along_axis(p, order, 1) == np.exp(top.log_probs, dtype=float)).all()
    assert (model.predict(X) == top.labels[:, 0]).all()


def test_several_trees_give_the_average_and_its_exact_top_k(data, three_trees):
    X = data[2]
    alone = [
        np.exp(cso.hsoftmax_log_proba(X, W, None, h).astype(float))
        for h, W in three_trees.model_.trees
    ]
    p = three_trees.predict_proba(X)
    np.testing.assert_allclose(p, np.mean(alone, axis=0), rtol=1e-5, atol=1e-12)
    for k in (1, 5, 40):
        top = three_trees.top_k(X, k)
        log_p = three_trees.predict_log_proba(X)
        order = np.lexsort((np.broadcast_to(np.arange(p.shape[1]), p.shape), -log_p))[:, :k]
        np.testing.assert_array_equal(top.labels, three_trees.classes_[order])
        np.testing.assert_array_equal(top.log_probs, np.take_along_axis(log_p, order, 1))


def test_three_trees_have_a_lower_loss_than_one(data, three_trees):
    X, y, test_X, test_y = data
    one = LabelTreeClassifier(random_state=0).fit(X, y)
    seen = np.isin(test_y, one.classes_)
    losses = [
        log_loss(test_y[seen], model.predict_proba(test_X[seen]), labels=model.classes_)
        for model in (one, three_trees)
    ]
    assert losses[1] < losses[0]


def test_an_explanation_adds_up_to_the_scores_of_the_path(data):
    model = LabelTreeClassifier(hierarchy="two_level", random_state=0).fit(*data[:2])
    (h, W), X = model.model_.trees[0], data[2][:20]
    labels = model.predict(X)
    got = model.explain(X, labels)
    assert got.shape == X.shape
    dense = W.to_scipy().toarray().astype(float)
    for i, c in enumerate(np.searchsorted(model.classes_, labels)):
        steps = range(h.path_ptr[c], h.path_ptr[c + 1])
        want = np.zeros(X.shape[1])
        for depth, s in enumerate(steps):
            v, child = h.path_node[s], h.path_child[s]
            one_row = h.row_ptr[v + 1] - h.row_ptr[v] == 1
            row = h.row_ptr[v] + (0 if one_row else child)
            sign = -1 if one_row and child == 0 else 1
            want += sign * W.temperatures[depth] * dense[row] * X[[i]].toarray()[0]
        np.testing.assert_allclose(got[[i]].toarray()[0], want, rtol=1e-4, atol=1e-5)


# ---- several labels


def test_several_labels_are_ranked_and_predicted(several):
    X, Y = several
    model = LabelTreeClassifier(random_state=0).fit(X[:1_500], Y[:1_500])
    assert model.multilabel_
    top = model.top_k(X[1_500:], 2)
    precision = cso.precision_at_k(Y[1_500:], top.labels, 2)
    by_count = np.argsort(-np.asarray(Y[:1_500].sum(axis=0)).ravel())[:2]
    guess = cso.precision_at_k(Y[1_500:], np.tile(by_count, (500, 1)), 2)
    assert precision > 2 * guess
    p = model.predict_proba(X[1_500:1_600])
    predicted = model.predict(X[1_500:1_600])
    assert (predicted.toarray() == (p >= 0.5)).all()
    dense = LabelTreeClassifier(random_state=0).fit(X[:1_500], Y[:1_500].toarray())
    assert digest(dense) == digest(model)
    assert (dense.predict(X[1_500:1_600]) == predicted.toarray()).all()


# ---- edges


def test_string_labels_and_numbers_give_the_same_model(data):
    X, y = data[:2]
    names = np.array([f"class {c:03d}" for c in range(300)])
    numbers = LabelTreeClassifier(random_state=0).fit(X, y)
    strings = LabelTreeClassifier(random_state=0).fit(X, names[y])
    assert digest(numbers) == digest(strings)
    assert (strings.predict(X[:50]) == names[numbers.predict(X[:50])]).all()


def test_rows_of_weight_0_are_as_if_they_were_not_there(data):
    X, y, *_ = data
    keep = np.random.default_rng(2).random(len(y)) < 0.7
    keep |= ~np.isin(y, np.unique(y[keep]))
    weighted = LabelTreeClassifier(random_state=0)
    weighted.fit(X, y, sample_weight=keep.astype(float))
    without = LabelTreeClassifier(random_state=0).fit(X[keep], y[keep], np.ones(keep.sum()))
    assert digest(weighted) == digest(without)


def test_a_class_whose_rows_all_weigh_0_is_known(data):
    X, y = data[:2]
    model = LabelTreeClassifier(random_state=0).fit(X, y, sample_weight=(y != y[0]).astype(float))
    assert y[0] in model.classes_


def test_folds_that_lack_classes_are_scored(data):
    with pytest.warns(UserWarning, match="least populated class"):
        scores = cross_val_score(LabelTreeClassifier(random_state=0), data[0], data[1], cv=3)
    assert (scores > 0.3).all()


def test_given_classes_are_scored_alone(data, three_trees):
    X = data[2][:30]
    wanted = three_trees.classes_[[7, 3, 50]]
    full = three_trees.predict_proba(X)
    np.testing.assert_array_equal(three_trees.predict_proba(X, wanted), full[:, [7, 3, 50]])


def test_a_taxonomy_with_classes_without_rows_is_taken(data):
    X, y = data[:2]
    h = cso.Hierarchy.balanced(310, arity=8)
    model = LabelTreeClassifier(hierarchy=h, random_state=0).fit(X, y)
    assert (model.classes_ == np.arange(310)).all()
    assert model.predict_proba(X[:3]).shape == (3, 310)


# ---- rejections


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_trees": 0}, "n_trees must be at least 1, got 0"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"hierarchy": "oak"}, "hierarchy must be one of"),
        ({"C": -1.0}, "C must"),
        ({"threshold": -0.1}, "threshold must"),
    ],
)
def test_a_bad_parameter_is_refused_and_the_fitted_model_stays(data, settings, words):
    model = LabelTreeClassifier(random_state=0).fit(*data[:2])
    before = digest(model)
    model.set_params(**settings)
    with pytest.raises(ValueError, match=words):
        model.fit(*data[:2])
    assert digest(model) == before


def test_bad_calls_are_refused(data, three_trees):
    X = data[2][:4]
    with pytest.raises(ValueError, match=r"k must be in \[1, "):
        three_trees.top_k(X, 0)
    with pytest.raises(ValueError, match="classes must hold labels of fit, got 12345"):
        three_trees.predict_proba(X, [12345])
    with pytest.raises(ValueError, match="classes must number the rows of X, 4, got 1"):
        three_trees.explain(X, three_trees.classes_[:1])
    with pytest.raises(ValueError, match="y must hold one label per row"):
        LabelTreeClassifier().fit(X, np.array([[0, 2], [3, 1], [5, 0], [1, 1]]))


# ---- promises


def test_threads_and_jobs_never_change_a_byte(data):
    X, y = data[:2]
    settings = [{"num_threads": 1}, {"num_threads": 3}, {"n_jobs": 2, "num_threads": 1}]
    models = [LabelTreeClassifier(n_trees=2, random_state=5, **s).fit(X, y) for s in settings]
    assert len({digest(model) for model in models}) == 1
    tops = [model.top_k(data[2], 5) for model in models]
    assert len({top.labels.tobytes() + top.log_probs.tobytes() for top in tops}) == 1


@pytest.mark.parametrize("how", ["file", "file, read", "file, compact", "pickle"])
def test_a_saved_model_answers_as_before(data, several, three_trees, tmp_path, how):
    for model, X in ((three_trees, data[2]), (LabelTreeClassifier().fit(*several), several[0])):
        if how == "pickle":
            again = pickle.loads(pickle.dumps(model))
        else:
            model.save(tmp_path / "model.sops", compact=how == "file, compact")
            again = LabelTreeClassifier.load(tmp_path / "model.sops", mmap=how == "file")
        assert digest(again) == digest(model)
        assert again.multilabel_ == model.multilabel_
        old, new = model.top_k(X[:50], 3), again.top_k(X[:50], 3)
        assert (old.labels == new.labels).all()
        assert (old.log_probs == new.log_probs).all()


def test_a_file_of_another_kind_or_damaged_is_refused(data, three_trees, tmp_path):
    path = tmp_path / "model.sops"
    cso.Hierarchy.balanced(4).save(path)
    with pytest.raises(ValueError, match="path must hold a saved LabelTreeClassifier"):
        LabelTreeClassifier.load(path)
    arrays = three_trees.model_.to_arrays()
    for name in list(arrays)[::5]:
        fewer = {key: value for key, value in arrays.items() if key != name}
        cso.save_arrays(path, fewer, {"kind": "LabelTreeClassifier", "n_trees": 3, "params": {}})
        with pytest.raises(ValueError, match="path must hold a"):
            LabelTreeClassifier.load(path)
