"""Trees of several origins in one classifier, and the class term inside one."""

import numpy as np
import pytest

sparse = pytest.importorskip("scipy.sparse")
pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402

import cython_sparseops as cso  # noqa: E402
from cython_sparseops.sklearn import LabelTreeClassifier  # noqa: E402

CLASSES = 600


@pytest.fixture(scope="module")
def data():
    """Unit rows of few words of their class's, enough for 200 to be held out; then new rows."""
    rng = np.random.default_rng(0)
    n, words = 5_200, 1_500
    y = np.concatenate([np.arange(CLASSES), rng.integers(0, CLASSES, n - CLASSES)])
    own = rng.integers(0, words, (CLASSES, 12))
    ids = np.concatenate(
        [own[y[:, None], rng.integers(0, 12, (n, 4))], rng.integers(0, words, (n, 4))], axis=1
    )
    X = sparse.csr_array(
        (np.ones(ids.size, np.float32), ids.ravel(), np.arange(0, ids.size + 1, 8)), (n, words)
    )
    X.sum_duplicates()
    X = cso.sparse_normalize(X, axis=1)
    return X[:4_800], y[:4_800], X[4_800:], y[4_800:]


@pytest.fixture(scope="module")
def shapes():
    return [cso.Hierarchy.balanced(CLASSES, arity=8), "cluster", "huffman"]


@pytest.fixture(scope="module")
def model(data, shapes):
    return LabelTreeClassifier(hierarchy=shapes, C=1.0, random_state=3).fit(*data[:2])


def test_they_are_trained_apart_and_averaged(data, shapes, model):
    X, y, X_test, _ = data
    counts = np.bincount(y).astype(float)
    seeds = np.random.RandomState(3).randint(2**31 - 1, size=3)
    proba = []
    for shape, tree, seed in zip(shapes, model.model_.trees, seeds, strict=True):
        h = shape
        if shape == "cluster":
            vectors = cso.class_centroids(X, y, CLASSES)
            h = cso.Hierarchy.cluster(vectors, counts=counts, rng=int(seed))
        elif shape == "huffman":
            h = cso.Hierarchy.huffman(counts, arity=16)
        assert h == tree.hierarchy
        W = cso.linear_train(X, y, h, clustered=shape == "cluster", rng=int(seed))
        for name, array in W.to_arrays().items():
            assert array.tobytes() == tree.weights.to_arrays()[name].tobytes()
        proba.append(np.exp(cso.hsoftmax_log_proba(X_test, W, None, h), dtype=float))
    np.testing.assert_allclose(model.predict_proba(X_test), np.mean(proba, axis=0), rtol=1e-4)
    found = model.top_k(X_test, 3).labels
    np.testing.assert_array_equal(found, np.argsort(-np.mean(proba, axis=0), axis=1)[:, :3])


def test_the_average_is_better_than_each(data, shapes, model):
    X, y, X_test, y_test = data

    def nll(model):
        return -model.predict_log_proba(X_test)[np.arange(len(y_test)), y_test].mean()

    alone = [LabelTreeClassifier(hierarchy=one, random_state=3).fit(X, y) for one in shapes]
    assert nll(model) < min(nll(one) for one in alone)


def test_each_may_have_several_trees(data):
    model = LabelTreeClassifier(hierarchy=("cluster", "two_level"), n_trees=2, random_state=0)
    trees = [tree.hierarchy for tree in model.fit(*data[:2]).model_.trees]
    assert trees[0] != trees[1]
    assert trees[2] == trees[3]
    assert trees[2] == cso.Hierarchy.two_level(np.bincount(data[1]).astype(float))


def test_a_file_keeps_them(data, shapes, model, tmp_path):
    model.save(tmp_path / "m.sops")
    again = LabelTreeClassifier.load(tmp_path / "m.sops")
    assert again.hierarchy == shapes
    np.testing.assert_array_equal(again.predict_proba(data[2]), model.predict_proba(data[2]))
    refitted = clone(again).set_params(random_state=3).fit(*data[:2])
    np.testing.assert_array_equal(refitted.predict_proba(data[2]), model.predict_proba(data[2]))
    twice = LabelTreeClassifier(hierarchy=shapes, n_trees=2, random_state=0).fit(*data[:2])
    twice.save(tmp_path / "m.sops")
    assert LabelTreeClassifier.load(tmp_path / "m.sops").hierarchy == shapes


def test_several_labels_of_a_row_take_them_too(data, shapes):
    X, y = data[:2]
    Y = sparse.csr_array((np.ones(len(y), np.int8), (np.arange(len(y)), y)), (len(y), CLASSES))
    model = LabelTreeClassifier(hierarchy=shapes, random_state=0).fit(X, Y)
    assert [tree.hierarchy.is_independent for tree in model.model_.trees] == [True] * 3


@pytest.mark.parametrize(
    ("hierarchy", "words"),
    [
        ([], "hierarchy must hold at least one tree, got an empty list"),
        (["cluster", "oak"], "hierarchy must be one of .*, a Hierarchy or a list of them, got 'oa"),
        (["cluster", cso.Hierarchy.balanced(CLASSES), cso.Hierarchy.balanced(CLASSES + 1)],
         f"hierarchy must have the {CLASSES} classes of y, got {CLASSES + 1}"),
    ],
)  # fmt: skip
def test_a_bad_list_is_refused(data, hierarchy, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        LabelTreeClassifier(hierarchy=hierarchy).fit(*data[:2])


def test_an_explanation_holds_the_class_term(data, model):
    """What the features of a row add up to, with biases, is the score of the path."""
    X, y, X_test, _ = data
    h, W = model.model_.trees[1]
    plain = cso.linear_train(
        X, y, h, class_term=False, rng=int(np.random.RandomState(3).randint(2**31 - 1, size=3)[1])
    )
    assert np.abs((W.to_scipy() - plain.to_scipy()).toarray()).max() > 0.1
    c = model.predict(X_test[:20])
    parts = model.explain(X_test[:20], c).sum(axis=1)
    wanted = np.zeros(20)
    for h, W in model.model_.trees:
        scores = X_test[:20].toarray() @ W.to_scipy().toarray().T
        for i, one in enumerate(c):
            steps = slice(h.path_ptr[one], h.path_ptr[one + 1])
            for d, (v, k) in enumerate(zip(h.path_node[steps], h.path_child[steps], strict=True)):
                one_row = h.row_ptr[v + 1] - h.row_ptr[v] == 1
                row, sign = h.row_ptr[v] + (0 if one_row else k), -1 if one_row and k == 0 else 1
                wanted[i] += sign * W.temperatures[d] * scores[i, row] / 3
    np.testing.assert_allclose(parts, wanted, rtol=1e-4, atol=1e-4)


def test_a_tree_may_be_clustered_by_the_guidance_of_another(data):
    """Classes whose rows are nothing alike come together where the taxonomy says so."""
    X, y, X_test, _ = data
    taxonomy = cso.Hierarchy.balanced(CLASSES, arity=8)
    model = LabelTreeClassifier(hierarchy=[taxonomy, "guided", "cluster"], random_state=3).fit(X, y)
    _, guided, alone = (tree.hierarchy for tree in model.model_.trees)

    def neighbors(h):
        """Of consecutive classes the share that hang below one node."""
        node = h.path_node[h.path_ptr[1:] - 1]
        return np.mean(node[1:] == node[:-1])

    assert neighbors(guided) > 0.8 > 0.4 > neighbors(alone)
    again = clone(model).set_params(num_threads=2).fit(X, y)
    assert again.model_.trees[1].hierarchy == guided
    assert model.predict_proba(X_test).sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_guidance_needs_a_tree():
    for wrong in ("guided", ["cluster", "guided"]):
        with pytest.raises(ValueError, match="hierarchy must be a list that holds a Hierarchy"):
            LabelTreeClassifier(hierarchy=wrong).fit(np.eye(3), [0, 1, 2])


def test_guided_trees_are_saved(data, tmp_path):
    X, y, X_test, _ = data
    shapes = [cso.Hierarchy.balanced(CLASSES, arity=8), "guided"]
    model = LabelTreeClassifier(hierarchy=shapes, random_state=3).fit(X, y)
    model.save(tmp_path / "model")
    again = LabelTreeClassifier.load(tmp_path / "model")
    assert again.hierarchy == shapes
    assert again.predict_proba(X_test).tobytes() == model.predict_proba(X_test).tobytes()
