"""`choose`: held-out rows decide, the budget limits, and the same figures give the same choice."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.sparse import csr_array

from cython_sparseops import Hierarchy
from cython_sparseops._sklearn import choose as room
from cython_sparseops.sklearn import HSoftmaxClassifier, LabelTreeClassifier, choose


def task(n=400, classes=6, several=False, seed=0):
    """Rows of unit norm in which some columns belong to a class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    X = (rng.random((n, 8 * classes)) < 0.05).astype(np.float32)
    X[np.arange(n)[:, None], 8 * y[:, None] + rng.integers(0, 8, (n, 2))] += 1
    Y = np.zeros((n, classes), int)
    Y[np.arange(n), y] = 1
    Y[np.arange(n // 2), rng.integers(0, classes, n // 2)] = 1
    X /= np.maximum(1, np.linalg.norm(X, axis=1, keepdims=True))
    return csr_array(X), Y if several else y


def test_the_best_of_the_held_out_rows_is_trained_on_all():
    X, y = task()
    classifier, report = choose(X, y, random_state=0)
    tried = [one for one in report.candidates if not one.note and one.name != room.YARDSTICK]
    best = max(tried, key=lambda one: one.ndcg_at_5)
    assert report.chosen == best.name
    assert report.held_out == 40
    assert classifier.n_features_in_ == X.shape[1]
    again, other = choose(X, y, random_state=0)
    assert other.chosen == report.chosen
    assert np.array_equal(classifier.top_k(X, 3).log_probs, again.top_k(X, 3).log_probs)
    for one, two in zip(report.candidates, other.candidates, strict=True):
        assert one[:6] == two[:6] or np.isnan(one.nll)


def test_the_same_figures_give_the_same_choice(monkeypatch):
    """Ties go to what was tried first, whatever the clock says."""
    X, y = task(100)
    monkeypatch.setattr(room, "_figures", lambda *_: (0.5, 0.1, 0.5, 0.5))
    assert choose(X, y, random_state=1)[1].chosen == "linear, 1 tree"
    names = iter([0.1, 0.2, 0.1, 0.9, 0.3, 0.3, 0.2, 0.0])
    monkeypatch.setattr(room, "_figures", lambda *_: (0, 0, 0, next(names)))
    classifier, report = choose(X, y, random_state=1)
    assert report.chosen == "linear, 1 tree, logistic loss, C=10"
    assert classifier.loss == "logistic"
    assert any(one.name == "linear, 3 trees, logistic loss, C=10" for one in report.candidates)


def test_an_embedding_can_win(monkeypatch):
    X, y = task(100)
    figures = iter([0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1, 0.1])
    monkeypatch.setattr(room, "_figures", lambda *_: (0, 0, 0, next(figures)))
    classifier, report = choose(X, y, random_state=1)
    assert isinstance(classifier, HSoftmaxClassifier)
    assert report.chosen == "embedding, cluster"


def test_the_budget_limits_what_is_tried():
    X, y = task()
    classifier, report = choose(X, y, time_budget=1e-9, random_state=0)
    assert isinstance(classifier, LabelTreeClassifier)
    assert report.chosen == "linear, 1 tree"
    left_out = [one for one in report.candidates if one.note]
    assert len(left_out) >= 4
    assert "left out: no time" in str(report)


def test_few_rows_are_not_split():
    classifier, report = choose(np.eye(3), ["a", "b", "c"], random_state=0)
    assert report.held_out == 0
    assert "too few rows" in str(report)
    assert classifier.predict(np.eye(3)).tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("sparse", [False, True])
def test_several_labels_a_row(sparse):
    X, Y = task(several=True)
    classifier, report = choose(X, csr_array(Y) if sparse else Y, random_state=0)
    assert classifier.multilabel_
    assert all(one.name.startswith("linear") for one in report.candidates)
    assert classifier.predict(X).shape == Y.shape
    assert Y[np.arange(len(Y)), classifier.top_k(X, 1).labels[:, 0]].mean() > 0.9


def test_dense_rows_and_string_labels_will_do():
    X, y = task()
    names = np.array([f"class {i}" for i in y])
    classifier, report = choose(X.toarray(), names, random_state=0, time_budget=30)
    assert classifier.score(X.toarray(), names) > 0.8
    assert room.YARDSTICK not in [one.name for one in report.candidates]


def test_the_tree_that_is_given_is_used():
    X, y = task()
    tree = Hierarchy.balanced(6, arity=3)
    classifier, report = choose(X, y, hierarchy=tree, random_state=0)
    assert report.candidates
    found = getattr(classifier, "hierarchy_", None) or classifier.model_.trees[0].hierarchy
    assert found == tree
    _, report = choose(X, y, hierarchy="adaptive", random_state=0)
    assert not [one for one in report.candidates if one.name.startswith("embedding")]


def test_it_tells_what_it_does(capsys):
    X, y = task(100)
    choose(X, y, random_state=0, verbose=1)
    err = capsys.readouterr().err
    assert "trying linear, 1 tree\n" in err
    assert "on all rows" in err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"time_budget": 0}, "time_budget must be positive"),
        ({"time_budget": np.inf}, "time_budget must be positive"),
        ({"validation_fraction": 0}, r"validation_fraction must be in \(0, 0.5\]"),
        ({"validation_fraction": 0.6}, "validation_fraction must be in"),
        ({"hierarchy": "oak"}, "hierarchy must be one of"),
        ({"verbose": -1}, "verbose must be"),
    ],
)
def test_settings_are_refused(settings, words):
    X, y = task(100)
    with pytest.raises(ValueError, match=words):
        choose(X, y, **settings)


@pytest.mark.parametrize("several", [False, True])
def test_other_rows_can_judge(several):
    X, y = task(several=several)
    judges = task(150, several=several, seed=1)
    classifier, report = choose(X, y, validation=judges, random_state=3)
    assert report.held_out == 150
    seed = classifier.random_state
    again = LabelTreeClassifier(C=classifier.C, random_state=seed).fit(X, y)
    if report.chosen.startswith("linear, 1 tree") and "loss" not in report.chosen:
        assert np.array_equal(classifier.top_k(X, 3).log_probs, again.top_k(X, 3).log_probs)
    assert classifier.n_features_in_ == X.shape[1]
    with pytest.raises(ValueError, match="validation must have the columns of X"):
        choose(X, y, validation=(judges[0][:, :3], judges[1]))
    with pytest.raises(ValueError, match="validation must have one row per entry"):
        choose(X, y, validation=(judges[0], judges[1][:3]))


def test_rows_that_do_not_fit_are_refused():
    X, y = task(100)
    with pytest.raises(ValueError, match="X must have one row per entry of y"):
        choose(X, y[:-1])


def test_several_trees_stand_beside_a_tree_that_was_given():
    X, y = task()
    _, report = choose(X, y, hierarchy=Hierarchy.balanced(6), random_state=0)
    assert any(one.name.startswith("linear, 3 trees") for one in report.candidates)
    made = room._Choice(room._as_rows("X", X, y), None, 60, 0.1, Hierarchy.balanced(6), 0, 1, 0)
    trees = made._linear(hierarchy=[made.hierarchy, *room.BESIDE])().fit(X, y).model_.trees
    assert len(trees) == 3
