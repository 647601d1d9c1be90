"""load_gensim: of a real Word2Vec model where gensim is installed, and of what looks like one."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import cython_sparseops as cso
from helpers.texts import labeled_lines


def sentences(n):
    return [line.split(" ")[1:] for line in labeled_lines(n, 10, 3, n_words=80)]


def stand_in(n_words=9, dim=4, seed=0):
    """A model whose paths are those of a tree of ours."""
    rng = np.random.default_rng(seed)
    h = cso.Hierarchy.huffman(np.arange(n_words, 0, -1))
    parts = [slice(*h.path_ptr[i : i + 2]) for i in range(n_words)]
    paths = {
        "point": [h.path_node[part].astype(np.uint32) for part in parts],
        "code": [(1 - h.path_child[part]).astype(np.uint8) for part in parts],
    }
    words = [f"word{i}" for i in range(n_words)]
    wv = SimpleNamespace(index_to_key=words, expandos=paths)
    syn1 = rng.normal(size=(n_words, dim)).astype(np.float32)
    return SimpleNamespace(wv=wv, hs=1, syn1=syn1), h


def slow_log_proba(model, x, i):
    """gensim's formula for word i: the sum of log σ(±syn1·x), minus where the code is 1."""
    point, code = (model.wv.expandos[name][i] for name in ("point", "code"))
    logits = model.syn1[np.asarray(point)].astype(float) @ x.astype(float)
    return -np.log1p(np.exp(-np.where(np.asarray(code) == 1, -1, 1) * logits)).sum()


def check(model, X):
    h, W, words = cso.load_gensim(model)
    assert words == list(model.wv.index_to_key)
    found = cso.hsoftmax_log_proba(X, W, None, h)
    for i in range(len(words)):
        wanted = [slow_log_proba(model, x, i) for x in X]
        np.testing.assert_allclose(found[:, i], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.exp(found.astype(float)).sum(axis=1), 1, atol=1e-6)


def test_an_object_with_the_attributes_of_a_model_will_do():
    model, h = stand_in()
    found = cso.load_gensim(model)
    assert found.hierarchy == h
    np.testing.assert_array_equal(found.W, model.syn1[:-1])
    check(model, np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32))


def test_paths_that_are_told_word_by_word_will_do():
    model, h = stand_in()
    paths, number = model.wv.expandos, {word: i for i, word in enumerate(model.wv.index_to_key)}
    model.wv = SimpleNamespace(
        index_to_key=model.wv.index_to_key,
        get_vecattr=lambda word, name: paths[name][number[word]],
    )
    assert cso.load_gensim(model).hierarchy == h


@pytest.mark.parametrize("skip_gram", [0, 1])
def test_scores_are_those_of_gensim_without_its_table(skip_gram, tmp_path):
    models = pytest.importorskip("gensim.models")
    model = models.Word2Vec(
        sentences(300),
        vector_size=8,
        hs=1,
        negative=0,
        sg=skip_gram,
        min_count=1,
        workers=1,
        seed=1,
    )
    check(model, model.wv.vectors[:20])
    model.save(str(tmp_path / "words.model"))
    for path in (tmp_path / "words.model", str(tmp_path / "words.model")):
        again = cso.load_gensim(path)
        assert again.hierarchy == cso.load_gensim(model).hierarchy
        np.testing.assert_array_equal(again.W, model.syn1[:-1])


def test_its_own_score_of_a_sentence_is_near_but_not_equal():
    """Its table has 83 steps a unit instead of 83.33: sums come out up to 2 % too low."""
    models = pytest.importorskip("gensim.models")
    lines = sentences(300)
    model = models.Word2Vec(
        lines, vector_size=8, hs=1, negative=0, sg=1, min_count=1, workers=1, seed=1, epochs=20
    )
    h, W, words = cso.load_gensim(model)
    number = {word: i for i, word in enumerate(words)}
    line = next(line for line in lines if len(line) == 4)
    ids = [number[word] for word in line]
    pairs = [(a, b) for i, a in enumerate(ids) for j, b in enumerate(ids) if i != j]
    given, target = (np.array(side) for side in zip(*pairs, strict=True))
    exact = -cso.hsoftmax(model.wv.vectors[given], W, None, target, h).sum(dtype=float)
    own = float(model.score([line], total_sentences=1)[0])
    assert exact == pytest.approx(own, rel=0.03)
    assert exact != pytest.approx(own, rel=1e-4)


def test_what_is_no_such_model_is_refused():
    for value in (None, 3, SimpleNamespace(), np.zeros(3)):
        with pytest.raises(TypeError, match="path_or_model must be a path or a Word2Vec model"):
            cso.load_gensim(value)
    model, _ = stand_in()
    for change in ({"hs": 0}, {"syn1": None}):
        other = SimpleNamespace(**{**vars(model), **change})
        with pytest.raises(ValueError, match="trained with hs=1, got a model without"):
            cso.load_gensim(other)
    bare = SimpleNamespace(index_to_key=model.wv.index_to_key, expandos={})
    with pytest.raises(ValueError, match="without a point a word"):
        cso.load_gensim(SimpleNamespace(wv=bare, hs=1, syn1=model.syn1))
    with pytest.raises(ValueError, match="syn1 must have a row for each of 8 nodes, got 7"):
        cso.load_gensim(SimpleNamespace(wv=model.wv, hs=1, syn1=model.syn1[:7]))
    model.wv.expandos["code"][0] = model.wv.expandos["code"][0][:-1]
    with pytest.raises(ValueError, match="a point for each code of 9 words"):
        cso.load_gensim(model)


def test_a_path_without_gensim_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(ImportError, match=r"load_gensim needs gensim .* pip install gensim"):
        cso.load_gensim(tmp_path / "words.model")
