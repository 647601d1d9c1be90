"""The trial that decides loss and C: what it looks at, what it finds, that it leaves nothing."""

import numpy as np
import pytest

sparse = pytest.importorskip("scipy.sparse")
pytest.importorskip("sklearn")

import cython_sparseops as cso  # noqa: E402
from cython_sparseops._models import pilot  # noqa: E402
from cython_sparseops.sklearn import LabelTreeClassifier  # noqa: E402

CLASSES, ROWS = 400, 9_000


def task(alike=False):
    """Unit rows of four words of their class and four others; four classes may share their words,
    so that nothing tells them apart."""
    rng = np.random.default_rng(0)
    y = np.concatenate([np.arange(CLASSES), rng.integers(0, CLASSES, ROWS - CLASSES)])
    own = rng.integers(0, 1_000, (CLASSES, 8))
    ids = np.concatenate(
        [own[y[:, None], rng.integers(0, 8, (ROWS, 4))], rng.integers(0, 1_000, (ROWS, 4))], axis=1
    )
    X = sparse.csr_array((np.ones(ids.size), ids.ravel(), np.arange(0, ids.size + 1, 8)))
    X.sum_duplicates()
    if alike:
        y = y // 4 * 4 + rng.integers(0, 4, ROWS)
    return cso.sparse_normalize(X.astype(np.float32), axis=1), y


def test_the_branches_are_those_of_the_tree():
    _, y = task()
    h = cso.Hierarchy.balanced(CLASSES, arity=8)
    branch = pilot.find_branch(y, h, 3)
    np.testing.assert_array_equal(branch.classes[branch.labels], y[branch.rows])
    assert pilot.LEAST_ROWS * 0.8 < len(branch.rows) < 1.5 * pilot.LEAST_ROWS
    assert 0.05 < branch.held_out.mean() <= pilot.HELD_OUT
    steps = [h.path_child[h.path_ptr[c] : h.path_ptr[c + 1]].tolist() for c in branch.classes]
    ptr, child = branch.tree.path_ptr, branch.tree.path_child
    own = [child[ptr[c] : ptr[c + 1]].tolist() for c in range(branch.tree.n_classes)]
    assert [one[1:] for one in own] == [one[1:] for one in steps]
    drawn = sorted({one[0] for one in steps})
    assert [drawn[one[0]] for one in own] == [one[0] for one in steps]


def test_one_branch_is_its_own_tree():
    branch = pilot.find_branch(
        np.arange(CLASSES).repeat(200), cso.Hierarchy.balanced(CLASSES, arity=20), 0
    )
    assert branch.tree == cso.Hierarchy.balanced(20, arity=20)


def test_there_may_be_none():
    _, y = task()
    assert pilot.find_branch(y, cso.Hierarchy.two_level(CLASSES, n_groups=1), 0) is None
    assert pilot.find_branch(y[:1_000], cso.Hierarchy.balanced(CLASSES, arity=8), 0) is None
    assert pilot.find_branch(np.arange(9_000), cso.Hierarchy.balanced(9_000, arity=8), 0) is None


def test_classes_that_nothing_tells_apart_get_another_loss():
    found = [LabelTreeClassifier(random_state=0).fit(*task(alike)) for alike in (False, True)]
    assert [one.loss_ for one in found] == ["squared_hinge", "logistic"]
    hinge = LabelTreeClassifier(loss="squared_hinge", random_state=0).fit(*task(alike=True))
    assert hinge.loss_ == "squared_hinge"
    assert hinge.C_ in (0.3, 1.0)


def test_what_is_given_is_not_tried(monkeypatch):
    monkeypatch.setattr(pilot, "find_branch", None)
    X, y = task()
    for given, wanted in (
        ({"C": 2.0}, ("squared_hinge", 2.0)),
        ({"loss": "softmax"}, ("softmax", 10.0)),
        ({"loss": "logistic", "C": 4.0}, ("logistic", 4.0)),
    ):
        model = LabelTreeClassifier(random_state=0, **given).fit(X[:2_000], y[:2_000])
        assert (model.loss_, model.C_) == wanted


def test_the_trees_are_those_of_the_settings_it_found(tmp_path):
    X, y = task(alike=True)
    model = LabelTreeClassifier(n_trees=2, random_state=5, num_threads=1).fit(X, y)
    told = LabelTreeClassifier(n_trees=2, random_state=5, loss=model.loss_, C=model.C_).fit(X, y)
    many = LabelTreeClassifier(n_trees=2, random_state=5, num_threads=3).fit(X, y)
    for other in (told, many):
        for one, two in zip(model.model_.trees, other.model_.trees, strict=True):
            assert one.hierarchy == two.hierarchy
            for name, array in one.weights.to_arrays().items():
                assert array.tobytes() == two.weights.to_arrays()[name].tobytes()
    model.save(tmp_path / "model")
    again = LabelTreeClassifier.load(tmp_path / "model")
    assert (again.loss, again.C, again.loss_, again.C_) == ("auto", None, model.loss_, model.C_)
    rows = X[:50], y[:50]
    assert again.partial_fit(*rows).model_.nnz == model.partial_fit(*rows).model_.nnz
