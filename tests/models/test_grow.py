"""New classes for a trained model: the tree, the rows of W, the optimizer's state."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.sparse import csr_array

from cython_sparseops import BagModel, Hierarchy, hsoftmax_log_proba, init_weights
from cython_sparseops._models.grow import grow_model, grow_tree
from cython_sparseops.sklearn import HSoftmaxClassifier

BUILDERS = {
    "huffman": lambda n: Hierarchy.huffman(np.arange(1, n + 1)),
    "four children": lambda n: Hierarchy.huffman(np.arange(1, n + 1), arity=4),
    "two softmax children": lambda n: Hierarchy.balanced(n, logistic=False),
    "two levels": lambda n: Hierarchy.two_level(n),
    "clusters": lambda n: Hierarchy.cluster(np.eye(n, 3), arity=2, leaf=2),
}


@pytest.fixture(scope="module")
def bags():
    """Sparse counts in which every class has three words of its own among 60."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 14, 700)
    X = rng.poisson(0.1, (700, 60))
    for word in range(3):
        X[np.arange(700), 4 * y + word] += rng.poisson(2, 700)
    return csr_array(X.astype(np.float32)), y


def grown_model(h, new, rng):
    """A model on h with random weights, and what `new` classes beside random ones make of it."""
    n = h.n_classes
    W, b = init_weights(h, 5, rng=0)
    W[:] = rng.standard_normal(W.shape)
    b[:] = rng.standard_normal(b.shape)
    model = BagModel(h, None, W, b)
    numbers = np.sort(rng.permutation(n + new)[:n])
    added = np.setdiff1d(np.arange(n + new), numbers)
    siblings = {int(c): int(rng.integers(n)) for c in added}
    grown = grow_tree(h, numbers, siblings)
    return model, grow_model(model, grown), grown, numbers, siblings


def below(h, node):
    """The classes below a node."""
    paths = [h.path_node[h.path_ptr[c] : h.path_ptr[c + 1]] for c in range(h.n_classes)]
    return {c for c, path in enumerate(paths) if node in path}


# ---- agrees with the reference


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("new", [1, 2, 9])
@pytest.mark.parametrize("n", [2, 3, 12])
def test_every_row_keeps_its_bytes_and_its_meaning(builder, new, n):
    rng = np.random.default_rng(n * 10 + new)
    h = BUILDERS[builder](n)
    model, larger, grown, numbers, siblings = grown_model(h, new, rng)
    assert larger.hierarchy.n_classes == n + new
    assert larger.W[grown.rows].tobytes() == model.W.tobytes()
    assert larger.b[grown.rows].tobytes() == model.b.tobytes()
    assert len(np.unique(grown.rows)) == h.n_rows
    fresh = np.setdiff1d(np.arange(grown.hierarchy.n_rows), grown.rows)
    assert len(fresh) == grown.hierarchy.n_rows - h.n_rows
    # what is new shares the probability of the leaf nodes and leaves it went to, and of no other
    X = rng.standard_normal((20, 5)).astype(np.float32)
    before = np.exp(hsoftmax_log_proba(X, model.W, model.b, h).astype(np.float64))
    after = np.exp(hsoftmax_log_proba(X, larger.W, larger.b, larger.hierarchy).astype(np.float64))
    assert np.allclose(after.sum(axis=1), 1, atol=1e-5)
    family = np.arange(n)  # classes whose leaf node grew are one family, and so is a split leaf
    touched = set()
    for sibling in siblings.values():
        node = h.path_node[h.path_ptr[sibling + 1] - 1]
        split = h.row_ptr[node + 1] - h.row_ptr[node] == 1
        touched |= {sibling} if split else below(h, node)
    kept = [c for c in family if c not in touched]
    assert np.allclose(before[:, kept], after[:, numbers[kept]], rtol=1e-4, atol=1e-7)


# ---- mathematics


def test_a_new_class_of_a_wide_node_is_never_the_likeliest():
    rng = np.random.default_rng(0)
    _, larger, _, numbers, _ = grown_model(Hierarchy.two_level(30), 6, rng)
    X = rng.standard_normal((200, 5)).astype(np.float32)
    best = hsoftmax_log_proba(X, larger.W, larger.b, larger.hierarchy).argmax(axis=1)
    assert set(best.tolist()) <= set(numbers.tolist())


# ---- edges


def test_a_tree_of_one_class_grows():
    grown = grow_tree(Hierarchy.balanced(1), np.array([1]), {0: 0})
    assert grown.hierarchy.n_classes == 2
    assert grown.hierarchy.path_child.tolist() == [1, 0]
    grown = grow_tree(Hierarchy.balanced(1), np.array([1]), {0: 0, 2: 0})
    assert grown.hierarchy.n_rows == 3


def test_new_strings_are_sorted_in(bags):
    X, y = bags
    names = np.array([f"{'zyxwvutsrqponm'[c]} {c}" for c in range(14)])
    known = y < 9
    classifier = HSoftmaxClassifier(hidden_dim=16, random_state=0).fit(X[known], names[y[known]])
    classifier.partial_fit(X, names[y])
    assert classifier.classes_.tolist() == sorted(names.tolist())
    for _ in range(30):
        classifier.partial_fit(X, names[y])
    assert classifier.score(X, names[y]) > 0.95
    wide = "a name that is longer than all before"
    classifier.partial_fit(X[:2], [wide, wide])
    assert classifier.classes_[0] == wide


@pytest.mark.parametrize("tree", ["auto", "huffman", "two_level", "balanced", "cluster"])
def test_what_was_known_is_still_known(bags, tree):
    X, y = bags
    known = y < 13
    classifier = HSoftmaxClassifier(hidden_dim=16, hierarchy=tree, random_state=0)
    classifier.fit(X[known], y[known])
    before = classifier.score(X[known], y[known])
    classifier.partial_fit(X, y)
    assert classifier.classes_.tolist() == list(range(14))
    assert classifier.score(X[known], y[known]) > before - 0.03
    for _ in range(20):
        classifier.partial_fit(X, y)
    assert classifier.score(X, y) > 0.95


def test_classes_may_be_announced_before_their_rows(bags):
    X, y = bags
    classifier = HSoftmaxClassifier(hidden_dim=8, random_state=0).partial_fit(X, y)
    classifier.partial_fit(X, y, classes=[*range(14), 40, 50])
    assert classifier.classes_.tolist() == [*range(14), 40, 50]
    proba = classifier.predict_proba(X)
    assert proba.shape == (700, 16)
    assert np.allclose(proba.sum(axis=1), 1, atol=1e-5)


def test_a_number_type_grows_with_its_numbers(bags):
    X, y = bags
    classifier = HSoftmaxClassifier(hidden_dim=4).partial_fit(X, y.astype(np.uint8))
    classifier.partial_fit(X[:1], np.array([300]))
    assert classifier.classes_.tolist() == [*range(14), 300]


def test_a_row_without_weight_brings_no_class(bags):
    X, y = bags
    classifier = HSoftmaxClassifier(hidden_dim=4).partial_fit(X, y)
    classifier.partial_fit(X[:2], [3, 99], sample_weight=[1, 0])
    assert classifier.classes_.tolist() == list(range(14))


# ---- rejections


def test_what_cannot_grow_is_refused_and_changes_nothing(bags):
    X, y = bags
    classifier = HSoftmaxClassifier(hidden_dim=4).partial_fit(X, y)
    before = pickle.dumps(classifier)
    with pytest.raises(ValueError, match="y must hold numbers, as the labels before, got 'ant'"):
        classifier.partial_fit(X[:1], ["ant"])
    with pytest.raises(ValueError, match="classes must hold those of the calls before, got none"):
        classifier.partial_fit(X[:1], [1], classes=[1, 2])
    with pytest.raises(ValueError, match="must keep gradients"):  # of the step, after the growth
        classifier.partial_fit(X[:1], [77], sample_weight=[1e38])
    assert pickle.dumps(classifier) == before
    h = Hierarchy.from_table(["cat", "dog", "animal"], ["animal", "animal", None])
    named = HSoftmaxClassifier(hierarchy=h).fit([[-1.0], [1.0]], ["cat", "dog"])
    with pytest.raises(ValueError, match="y must hold names of the hierarchy, got 'emu'"):
        named.partial_fit([[1.0]], ["emu"])


# ---- promises


@pytest.mark.parametrize("optimizer", ["adagrad", "rowwise_adagrad", "sgd", "adam"])
def test_only_the_rows_on_the_paths_trained_change(bags, optimizer):
    X, y = bags
    classifier = HSoftmaxClassifier(
        hidden_dim=8, hierarchy="huffman", optimizer=optimizer, random_state=0
    ).partial_fit(X, y)
    old, W = classifier.hierarchy_, classifier.model_.W.copy()
    state = {name: a.copy() for name, a in classifier._trainer.W_optimizer.state.items()}
    classifier.partial_fit(X[:1], [99])
    new = classifier.hierarchy_
    assert new.n_rows == old.n_rows + 1
    path = set(new.path_node[new.path_ptr[14] : new.path_ptr[15]].tolist())
    still = [row for row in range(old.n_rows) if row not in path]  # one row a node, by its number
    assert len(still) > 5
    assert classifier.model_.W[still].tobytes() == W[still].tobytes()
    for name, before in state.items():
        after = classifier._trainer.W_optimizer.state[name]
        assert after[still].tobytes() == before[still].tobytes()


def test_a_grown_model_is_the_same_from_a_file_and_a_pickle(bags, tmp_path):
    X, y = bags
    classifier = HSoftmaxClassifier(hidden_dim=8, random_state=0).fit(X[y < 9], y[y < 9])
    classifier.partial_fit(X, y)
    classifier.save(tmp_path / "model")
    for again in (
        HSoftmaxClassifier.load(tmp_path / "model"),
        pickle.loads(pickle.dumps(classifier)),
    ):
        assert np.array_equal(again.predict_proba(X), classifier.predict_proba(X))
        again.partial_fit(X, y + 1)
        assert again.classes_.tolist() == list(range(15))


def test_threads_change_no_bit_of_growth(bags):
    X, y = bags
    found = set()
    for threads in (1, 2, 3):
        classifier = HSoftmaxClassifier(hidden_dim=8, random_state=0, num_threads=threads)
        classifier.fit(X[y < 9], y[y < 9]).partial_fit(X, y)
        found.add(b"".join(a.tobytes() for a in classifier.model_.to_arrays().values()))
    assert len(found) == 1
