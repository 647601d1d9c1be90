"""Trees with names: tables in any order, labels matched by name, answers by name."""

import copy
import pickle
import warnings

import numpy as np
import pytest

from cython_sparseops import Hierarchy, load_arrays, save_arrays

TABLE = [
    ("cat", "mammal"),
    ("dog", "mammal"),
    ("whale", "mammal"),
    ("mammal", "animal"),
    ("bee", "animal"),
    ("oak", "tree"),
    ("elm", "tree"),
    ("tree", "plant"),  # a chain: the only child
    ("plant", "thing"),
    ("animal", "thing"),
]


def build(table=TABLE, **options):
    return Hierarchy.from_table(*zip(*table, strict=True), **options)


def classes_below(h):
    """node name -> names of the classes below it, by the paths alone."""
    below = {}
    for c, name in enumerate(h.class_names):
        for node in h.path_node[h.path_ptr[c] : h.path_ptr[c + 1]]:
            below.setdefault(h.node_names[node], set()).add(name)
    return below


BELOW = {
    "thing": {"bee", "cat", "dog", "elm", "oak", "whale"},
    "animal": {"bee", "cat", "dog", "whale"},
    "mammal": {"cat", "dog", "whale"},
    "tree": {"elm", "oak"},
}


@pytest.mark.parametrize("seed", range(6))
def test_a_table_in_any_order_is_the_same_tree(seed):
    rows = [TABLE[i] for i in np.random.default_rng(seed).permutation(len(TABLE))]
    h = build([*rows, rows[0]])
    assert h.class_names == ("bee", "cat", "dog", "elm", "oak", "whale")
    assert classes_below(h) == BELOW


def test_columns_may_be_arrays_and_series():
    child, parent = (np.array(column, object) for column in zip(*TABLE, strict=True))
    assert Hierarchy.from_table(child, parent.astype(str)) == build()
    assert Hierarchy.from_table(iter(child), iter(parent)) == build()


@pytest.mark.parametrize("root", [None, "", np.nan, "thing"])
def test_a_root_may_be_listed(root):
    assert build([*TABLE, ("thing", root)]) == build()


def test_several_roots_are_joined_if_they_are_listed():
    h = build([*TABLE[:-2], ("animal", None), ("plant", None)])
    assert classes_below(h) == {("" if name == "thing" else name): c for name, c in BELOW.items()}


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([("cat", "plant")], ValueError, "one a child, got 'mammal' and 'plant' for 'cat' at inde"),
        ([("thing", "cat")], ValueError, "parent must lead to one root|must have"),
        ([("x", "y")], ValueError, "must lead to one root, got 2: 'thing', 'y' .*list each"),
        ([(3, "tree")], TypeError, "child must hold names .str., got 3 at index 10"),
        ([("fir", 3)], TypeError, "parent must hold names .str., got 3 at index 10"),
    ],
)
def test_a_table_that_is_no_tree_is_refused_by_name(rows, error, words):
    with pytest.raises(error, match=words):
        build([*TABLE, *rows])


@pytest.mark.parametrize("column", [np.array("x"), 3, "cat", None, np.zeros((2, 2)), object()])
def test_what_is_no_column_is_refused(column):
    for call in (
        lambda: Hierarchy.from_table(column, ["a"]),
        lambda: Hierarchy.from_table(["a"], column),
        lambda: Hierarchy.from_parents([2, 2, -1], names=3 if column is None else column),
    ):
        with pytest.raises((TypeError, ValueError), match=r"^(child|parent|names) must "):
            call()


def test_names_of_parents():
    names = ["b", "a", "x", "c", "root"]
    h = Hierarchy.from_parents([2, 2, 4, 4, -1], names=names)
    assert h.class_names == ("b", "a", "c")
    assert classes_below(h) == {"root": {"a", "b", "c"}, "x": {"a", "b"}}
    h = Hierarchy.from_parents([2, 2, 4, 4, -1], names=names, classes=[3, 1, 0])
    assert h.class_names == ("c", "a", "b")
    for wrong, words in (
        (names[:4], "one entry a node, 5, got 4"),
        (["a"] * 5, "names must differ, got 'a' again at index 1"),
        ([1, 2, 3, 4, 5], "names must hold names"),
        ("abcde", "names must be a column of names"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            Hierarchy.from_parents([2, 2, 4, 4, -1], names=wrong)
    with pytest.raises(TypeError, match=r"numbers of nodes, got names .Hierarchy\.from_table"):
        Hierarchy.from_parents(["root", "a", "a"])


def test_what_is_split_has_the_name_of_the_whole():
    rows = [(f"c{i:02}", "wide") for i in range(20)] + [("d", "root"), ("wide", "root")]
    h = build(rows, max_children=2, counts={"c03": 9})
    assert set(h.node_names) == {"root", "wide"}
    assert classes_below(h)["wide"] == {f"c{i:02}" for i in range(20)}
    assert h.path_ptr[4] - h.path_ptr[3] < 20


def test_names_are_kept(tmp_path):
    h = build(max_children=2)
    h.save(tmp_path / "tree")
    for again in (
        Hierarchy.load(tmp_path / "tree"),
        Hierarchy.from_arrays(h.to_arrays()),
        pickle.loads(pickle.dumps(h)),
        copy.deepcopy(h),
        h.prune(np.ones(6), max_depth=20),
    ):
        assert again.class_names == h.class_names
        assert classes_below(again) == BELOW
    assert h.optimal_codes([1, 2, 3, 4, 5, 6]).class_names == h.class_names
    assert Hierarchy.balanced(3).class_names is Hierarchy.balanced(3).node_names is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("names.parents", np.arange(11)),
        ("names.leaf", np.zeros(6, int)),
        ("names.leaf", np.arange(6) + 2**40),
        ("names.offsets", np.arange(12)[::-1]),
        ("names.offsets", np.zeros(3, int)),
        ("names.utf8", np.full(3, 255, np.uint8)),
        ("names.options", np.zeros(3, int)),
        ("names.options", np.zeros(2)),
    ],
)
def test_names_of_a_forged_file_are_refused(tmp_path, name, value):
    build().save(tmp_path / "tree")
    arrays, metadata = load_arrays(tmp_path / "tree")
    save_arrays(tmp_path / "tree", {**arrays, name: value}, metadata)
    with pytest.raises(ValueError, match="must"):
        Hierarchy.load(tmp_path / "tree")


# ---- in the classifier

ANIMALS = ("whale", "dog", "cat", "bee")


@pytest.fixture
def classifier():
    pytest.importorskip("sklearn")
    from cython_sparseops.sklearn import HSoftmaxClassifier

    return HSoftmaxClassifier


@pytest.fixture
def data():
    y = np.array(ANIMALS)[np.arange(80) % 4]
    return np.eye(4)[np.arange(80) % 4] * 3, y


def test_labels_are_matched_by_name(classifier, data):
    X, y = data
    names = ["whale", "oak", "mammal", "cat", "animal", "dog", "bee", "elm", "tree", "thing"]
    parents = [2, 8, 4, 2, 9, 2, 4, 8, 9, -1]
    h = Hierarchy.from_parents(parents, names=names)
    model = classifier(hierarchy=h, random_state=0).fit(X, y)
    assert model.classes_.tolist() == ["bee", "cat", "dog", "elm", "oak", "whale"]
    assert model.hierarchy_.class_names == tuple(model.classes_)
    assert classes_below(model.hierarchy_) == BELOW
    assert model.score(X, y) == 1
    again = classifier(hierarchy=build(), random_state=0).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), again.predict_proba(X), atol=0.05)


def test_folds_and_streams_may_lack_classes(classifier, data):
    X, y = data
    model_selection = pytest.importorskip("sklearn.model_selection")
    order = np.argsort(y, kind="stable")
    cv = model_selection.KFold(4)
    estimator = classifier(hierarchy=build(), random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model_selection.cross_val_predict(estimator, X[order], y[order], cv=cv)
        grid = {"lr": [0.1, 0.3]}
        search = model_selection.GridSearchCV(estimator, grid, cv=cv).fit(X[order], y[order])
    assert set(found) <= set(BELOW["thing"])
    assert len(search.best_estimator_.classes_) == 6
    stream = classifier(hierarchy=build()).partial_fit(X[:2], y[:2])
    assert len(stream.partial_fit(X, y).classes_) == 6


def test_rows_may_be_labeled_with_an_inner_category(classifier, data, tmp_path):
    X, y = data
    y = np.where(np.arange(80) % 8 == 0, "mammal", np.where(y == "bee", "plant", y))
    model = classifier(hierarchy=build(), random_state=0, epochs=50).fit(X, y)
    assert model.classes_.tolist() == [
        "bee", "cat", "dog", "elm", "mammal", "oak", "plant", "whale",
    ]  # fmt: skip
    below = classes_below(model.hierarchy_)
    assert below["mammal"] == {"mammal", "cat", "dog", "whale"}
    assert below["plant"] == {"plant", "elm", "oak"}
    assert set(model.predict(X)) <= set(model.classes_)
    assert model.predict(X[3:4]).tolist() == ["plant"]
    model.save(tmp_path / "m")
    again = classifier.load(tmp_path / "m")
    assert again.hierarchy_.node_names == model.hierarchy_.node_names
    np.testing.assert_array_equal(again.predict_nodes(X).labels, model.predict_nodes(X).labels)
    assert again.fit(X, y).classes_.tolist() == model.classes_.tolist()


def test_nodes_are_answered_by_name(classifier, data):
    X, y = data
    model = classifier(hierarchy=build(), random_state=0).fit(X, y)
    sure, unsure = model.predict_nodes(X[:4], 0.5), model.predict_nodes(np.zeros((1, 4)), 0.99)
    assert sure.labels.tolist() == list(ANIMALS)
    assert unsure.labels[0] in {"animal", "thing"}
    assert (sure.log_probs >= np.log(0.5)).all()
    assert unsure.log_probs[0] >= np.log(0.99)
    with pytest.raises(ValueError, match="hierarchy must have names"):
        classifier(random_state=0).fit(X, y).predict_nodes(X)


@pytest.mark.parametrize("label", ["unicorn", ""])
def test_a_label_that_is_no_name_is_refused(classifier, data, label):
    X, y = data
    with pytest.raises(ValueError, match=f"y must hold names of the hierarchy, got '{label}'"):
        classifier(hierarchy=build()).fit(X, np.where(y == "bee", label, y))
    with pytest.raises(ValueError, match="y must hold names of the hierarchy, got 0"):
        classifier(hierarchy=build()).fit(X, np.arange(80) % 4)
    with pytest.raises(ValueError, match="classes must hold names of the hierarchy, got 'x'"):
        classifier(hierarchy=build()).fit(X, y, classes=["x", *ANIMALS])


def test_a_tree_without_names_says_what_it_takes_strings_for(classifier, data):
    X, y = data
    h = Hierarchy.from_parents([4, 4, 5, 5, 6, 6, -1])
    with pytest.warns(UserWarning, match="class i is taken to be the i-th label .* 0 is 'bee' and"):
        classifier(hierarchy=h).fit(X, y)
    with pytest.raises(ValueError, match=r"Hierarchy\.from_table matches by name"):
        classifier(hierarchy=Hierarchy.balanced(5)).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier(hierarchy=h).fit(X, np.arange(80) % 4)
