"""AveragedClassifier: the mean of probabilities, and its exact best k."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.sparse import csr_array

from cython_sparseops import load_arrays, save_arrays
from cython_sparseops.sklearn import AveragedClassifier, HSoftmaxClassifier, LabelTreeClassifier


@pytest.fixture(scope="module")
def rows():
    """Words of 300 classes, most of them noise, so that members disagree."""
    rng = np.random.default_rng(0)
    y = np.concatenate([np.arange(300), rng.integers(0, 300, 900)])
    X = rng.poisson(0.01, (1200, 400)).astype(np.float32)
    X[np.arange(1200), y] += rng.poisson(0.8, 1200)
    return csr_array(X), y


@pytest.fixture(scope="module")
def members(rows):
    embeddings = [
        HSoftmaxClassifier(hidden_dim=8, epochs=3, hierarchy=tree, random_state=seed).fit(*rows)
        for seed, tree in enumerate(["cluster", "huffman"])
    ]
    return [*embeddings, LabelTreeClassifier(n_trees=2, random_state=0).fit(*rows)]


def test_probabilities_are_means(members, rows):
    X = rows[0][:50]
    expected = np.mean([m.predict_proba(X).astype(np.float64) for m in members], axis=0)
    found = AveragedClassifier(members).predict_proba(X)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("k", [1, 5, 40, 300])
def test_the_best_k_are_the_best_of_all_classes(members, rows, k):
    average = AveragedClassifier(members)
    log_proba = average.predict_log_proba(rows[0])
    expected = -np.sort(-log_proba, axis=1)[:, :k]
    labels, log_probs = average.top_k(rows[0], k)
    np.testing.assert_allclose(log_probs, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(log_proba, labels, axis=1), log_probs, rtol=1e-5)
    assert all(len(set(row)) == k for row in labels.tolist())
    if k == 1:
        assert np.array_equal(average.predict(rows[0]), labels[:, 0])
        assert average.score(*rows) == np.mean(labels[:, 0] == rows[1])


def test_rows_that_candidates_do_not_settle_are_searched_wider(members, rows, monkeypatch):
    """Otherwise the bound would not be tested."""
    widths = {}
    best = AveragedClassifier._best

    def counted(self, parts, k, width):
        widths[width] = parts[0].shape[0]
        return best(self, parts, k, width)

    monkeypatch.setattr(AveragedClassifier, "_best", counted)
    AveragedClassifier(members).top_k(rows[0], 8)
    assert widths[16] == 1200 > widths[64] > 0


def test_members_that_do_not_fit_are_refused(members, rows):
    X, y = rows
    with pytest.raises(ValueError, match="classifiers must hold at least one, got none"):
        AveragedClassifier([])
    with pytest.raises(TypeError, match=r"classifiers must be .* got .* at index 1"):
        AveragedClassifier([members[0], "tree"])
    fewer = HSoftmaxClassifier(hidden_dim=4, epochs=1).fit(X[:9], y[:9])
    with pytest.raises(ValueError, match="classifiers must have the same classes, got others at"):
        AveragedClassifier([members[0], fewer])
    several = LabelTreeClassifier().fit(X[:300], csr_array(np.eye(300, dtype=int)))
    with pytest.raises(ValueError, match="classifiers must have one label a row"):
        AveragedClassifier([several])
    for k in (0, 301, 1.5):
        with pytest.raises(ValueError, match=r"k must be in \[1, 300\]"):
            AveragedClassifier(members).top_k(X, k)


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("name", ["mean.sops", "mean.safetensors"])
def test_a_file_holds_every_member(members, rows, tmp_path, mmap, name):
    average = AveragedClassifier(members)
    average.save(tmp_path / name)
    loaded = AveragedClassifier.load(tmp_path / name, mmap=mmap)
    assert [type(one) for one in loaded.classifiers] == [type(one) for one in members]
    for found, expected in zip(loaded.top_k(rows[0], 5), average.top_k(rows[0], 5), strict=True):
        assert np.array_equal(found, expected)
    assert np.array_equal(loaded.predict_proba(rows[0]), average.predict_proba(rows[0]))


def test_files_of_something_else_are_refused(members, tmp_path):
    path = tmp_path / "mean.sops"
    members[0].save(path)
    with pytest.raises(ValueError, match="path must hold a saved AveragedClassifier, got"):
        AveragedClassifier.load(path)
    AveragedClassifier(members).save(path)
    arrays, metadata = load_arrays(path, mmap=False)
    spoilt = [
        {},
        {"members": []},
        {"members": {"0": metadata["members"][0]}},
        {"members": [1]},
        {"members": [{**metadata["members"][0], "kind": "KNeighborsClassifier"}]},
        {"members": metadata["members"][1:]},
        {"members": [*metadata["members"], metadata["members"][0]]},
    ]
    for change in spoilt:
        save_arrays(path, arrays, {"kind": "AveragedClassifier", **change})
        with pytest.raises(ValueError, match="path must hold a"):
            AveragedClassifier.load(path)
    bytes_ = path.read_bytes()
    path.write_bytes(bytes_[: len(bytes_) // 2])
    with pytest.raises(ValueError, match="path must be an undamaged"):
        AveragedClassifier.load(path)
