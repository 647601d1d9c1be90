"""load_fasttext against an oracle that reads the format slowly, and files that are none.

The files are written here, so that fastText itself is not needed; test_fasttext_peer.py compares
with it.
"""

import os
import pickle
import struct

import numpy as np
import pytest

import cython_sparseops as cso
from helpers import fasttext_model as oracle

KINDS = {
    "words": {},
    "two_labels": {"n_labels": 2},
    "one_label": {"n_labels": 1},
    "bigrams": {"word_ngrams": 2, "bucket": 50},
    "five_words": {"word_ngrams": 5, "bucket": 97},
    "characters": {"minn": 2, "maxn": 4, "bucket": 60},
    "single_characters": {"minn": 1, "maxn": 2, "bucket": 60},
    "from_no_character": {"minn": 0, "maxn": 3, "bucket": 60},
    "both": {"word_ngrams": 3, "minn": 3, "maxn": 6, "bucket": 211},
    "pruned": {"word_ngrams": 2, "minn": 2, "maxn": 3, "bucket": 80, "pruned": 33},
    "pruned_to_nothing": {"word_ngrams": 2, "bucket": 80, "pruned": 0},
    "quantized": {"word_ngrams": 2, "bucket": 80, "width": 2},
    "quantized_norms": {"minn": 2, "maxn": 3, "bucket": 80, "pruned": 9, "width": 4, "norms": True},
    "quantized_odd": {"dim": 7, "width": 2, "norms": True},
    "quantized_wide": {"dim": 5, "width": 5},
}


@pytest.fixture(params=KINDS)
def model(request):
    return oracle.random_model(len(request.param), **KINDS[request.param])


def written(path, model, content=None):
    path.write_bytes(oracle.file_bytes(model) if content is None else content)
    return path


@pytest.fixture
def loaded(model, tmp_path):
    return cso.load_fasttext(written(tmp_path / "model.bin", model))


# ---- agrees with the reference


def test_features_are_those_of_the_oracle(model, loaded):
    pytest.importorskip("scipy")
    X = loaded.transform(oracle.TEXTS)
    assert X.shape == (len(oracle.TEXTS), len(model.E))
    assert X.dtype == np.float32
    assert X.has_canonical_format
    for row, text in zip(X.toarray(), oracle.TEXTS, strict=True):
        counts = np.bincount(oracle.columns(model, text), minlength=len(model.E))
        np.testing.assert_array_equal(row, counts)


def test_weights_and_tree_are_those_of_the_file(model, loaded):
    np.testing.assert_array_equal(loaded.E, model.E)
    np.testing.assert_array_equal(loaded.W, model.output[:-1])
    assert loaded.labels.tolist() == [label for label, _ in model.labels]
    h = loaded.hierarchy
    for i, path in enumerate(oracle.paths([count for _, count in model.labels])):
        part = slice(h.path_ptr[i], h.path_ptr[i + 1])
        assert [*zip(h.path_node[part], h.path_child[part], strict=True)] == path


def test_probabilities_are_those_of_the_oracle(model, loaded):
    k = len(model.labels)
    found = loaded.top_k(oracle.TEXTS, k)
    offset = loaded.offset_log_proba(oracle.TEXTS, found.labels)
    for i, text in enumerate(oracle.TEXTS):
        assert sorted(found.labels[i]) == sorted(label for label, _ in model.labels)
        assert (np.diff(found.log_probs[i]) <= 0).all()
        for scores, added in ((found.log_probs, 0), (offset, 1e-5)):
            right = oracle.log_probs(model, text, added)
            wanted = [right[label] for label in found.labels[i]]
            np.testing.assert_allclose(scores[i], wanted, rtol=2e-5, atol=2e-5)


# ---- as a classifier


def test_a_classifier_gives_the_same_answers(model, loaded, tmp_path):
    pytest.importorskip("sklearn")
    classifier, X = loaded.to_classifier(), loaded.transform(oracle.TEXTS)
    k = len(model.labels)
    assert classifier.classes_.tolist() == sorted(label for label, _ in model.labels)
    found, wanted = classifier.top_k(X, k), loaded.top_k(oracle.TEXTS, k)
    np.testing.assert_array_equal(found.log_probs, wanted.log_probs)
    np.testing.assert_array_equal(found.labels, wanted.labels)
    classifier.save(tmp_path / "model.sops")
    again = type(classifier).load(tmp_path / "model.sops")
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))


def test_training_a_classifier_on_leaves_the_model_alone(tmp_path):
    pytest.importorskip("sklearn")
    model = oracle.random_model(1, word_ngrams=2, bucket=20)
    loaded = cso.load_fasttext(written(tmp_path / "model.bin", model))
    classifier, X = loaded.to_classifier(), loaded.transform(oracle.TEXTS)
    before = classifier.predict_proba(X)
    classifier.partial_fit(X, loaded.labels[np.arange(len(oracle.TEXTS)) % 3])
    assert (classifier.predict_proba(X) != before).any()
    np.testing.assert_array_equal(loaded.E, model.E)
    np.testing.assert_array_equal(loaded.W, model.output[:-1])


# ---- edges


def test_no_texts_at_all(loaded):
    assert loaded.transform([]).shape == (0, len(loaded.E))
    assert loaded.top_k([], 1).labels.shape == (0, 1)
    assert loaded.offset_log_proba([], []).shape == (0,)


def test_files_of_version_11_know_no_characters_of_words(tmp_path):
    model = oracle.random_model(4, minn=2, maxn=3, bucket=40, version=11)
    loaded = cso.load_fasttext(written(tmp_path / "model.bin", model))
    without = cso.load_fasttext(written(tmp_path / "other.bin", model._replace(maxn=0, version=12)))
    found, wanted = (one.top_k(oracle.TEXTS, 3) for one in (loaded, without))
    np.testing.assert_array_equal(found.log_probs, wanted.log_probs)


def test_labels_that_are_no_utf8_survive(tmp_path):
    pytest.importorskip("sklearn")
    model = oracle.random_model(2, n_labels=3)
    content = oracle.file_bytes(model).replace(b"__label__z0", b"__label__\xff0")
    loaded = cso.load_fasttext(written(tmp_path / "model.bin", model, content))
    assert loaded.labels[0].encode("utf-8", "surrogateescape") == b"__label__\xff0"
    loaded.to_classifier().save(tmp_path / "model.sops")


def test_a_dictionary_longer_than_what_is_read_at_a_time(tmp_path):
    words = [f"word{i:07}" for i in range(80_000)]
    E = np.zeros((len(words), 1), np.float32)
    E[-1] = 1
    model = oracle.random_model(3, n_labels=2, dim=1)._replace(words=words, E=E)
    loaded = cso.load_fasttext(written(tmp_path / "model.bin", model))
    assert loaded.transform([words[-1], words[54321]]).indices.tolist() == [79_999, 54_321]


# ---- rejections


def refused(path, model, content, said):
    with pytest.raises(ValueError, match=said) as error:
        cso.load_fasttext(written(path, model, content))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_file_that_is_cut_off_anywhere_is_refused(model, tmp_path):
    content = oracle.file_bytes(model)
    for size in [*range(0, min(400, len(content)), 3), *range(400, len(content), 211)]:
        refused(tmp_path / "cut.bin", model, content[:size], " must .*, got ")
    refused(tmp_path / "long.bin", model, content + b"\0", "end behind the output, got 1 bytes")


def test_a_damaged_byte_gives_one_clear_error_or_another_model(model, tmp_path):
    content = bytearray(oracle.file_bytes(model))
    rng, path, refusals = np.random.default_rng(0), tmp_path / "flipped.bin", 0
    places = [*range(0, min(420, len(content)), 2), *rng.integers(0, len(content), 100).tolist()]
    for at in places:
        changed = content.copy()
        changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        said = refusal(path)
        if said is not None:
            assert said.startswith(str(path))
            assert " must " in said
            refusals += 1
    assert refusals > 20


def refusal(path):
    try:
        cso.load_fasttext(path).top_k(["a cat purrs", "日本 fox"])
    except ValueError as error:
        return str(error)
    return None


def field(model, at, layout, value):
    """The file with one number of its head replaced."""
    content = bytearray(oracle.file_bytes(model))
    struct.pack_into(layout, content, at, value)
    return bytes(content)


@pytest.mark.parametrize(
    ("at", "layout", "value", "said"),
    [
        (0, "<i", 1, "be a model of fastText .* got a file of another kind"),
        (4, "<i", 13, "version 11 or 12, got version 13"),
        (8, "<i", 0, "a dim of at least 1, got 0"),
        (8, "<i", 2**31 - 1, "11 rows and 2147483647 columns"),
        (28, "<i", -1, "word_ngrams of at least 0"),
        (28, "<i", 2, "buckets must be at least 1 for n-grams, got 0"),
        (32, "<i", 2, "loss hs .* got loss ns"),
        (32, "<i", 3, "loss hs .* got loss softmax"),
        (32, "<i", 4, "loss hs .* got loss ova"),
        (36, "<i", 1, "a supervised model, .* got model cbow"),
        (36, "<i", 2, "a supervised model, .* got model skipgram"),
        (40, "<i", 2**31 - 1, "have an input of 2147483658 rows"),
        (64, "<i", 19, "as many entries as words and labels"),
        (68, "<i", -1, "as many entries as words and labels"),
        (84, "<q", 2**62, "pruned buckets"),
        (84, "<q", -2, "at least -1 pruned buckets, got -2"),
    ],
)
def test_foreign_and_absurd_heads_are_refused(at, layout, value, said, tmp_path):
    model = oracle.random_model(5)
    refused(tmp_path / "model.bin", model, field(model, at, layout, value), said)


def test_as_many_words_as_the_numbers_can_say_are_refused_at_once(tmp_path):
    model = oracle.random_model(5)
    content = bytearray(oracle.file_bytes(model))
    struct.pack_into("<3i", content, 64, 2**31 - 1, 2**31 - 8, 7)
    refused(tmp_path / "model.bin", model, bytes(content), "bytes of words and labels, got")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": [("__label__a", 1), ("__label__b", 2)]}, "labels by falling counts, got 2"),
        ({"labels": [("__label__a", 1), ("__label__b", 0)]}, "labels by falling counts, got 0"),
        ({"labels": [("__label__a", 10**15), ("__label__b", 1)]}, "labels by falling counts"),
        ({"labels": [("__label__a", 2), ("__label__a", 2)]}, "have labels that differ"),
        ({"labels": [("cat", 2), ("__label__a", 2)]}, "words and labels must differ, got 'cat'"),
        ({"words": ["a"] * 11}, "have words that differ"),
        ({"bucket": 5, "kept": [7]}, r"have buckets in \[0, 5\), got 7"),
        ({"output": np.full((2, 6), np.nan)}, "have a finite output"),
        ({"output": np.zeros((3, 6))}, "have an output of 2 rows"),
    ],
)
def test_contents_that_contradict_themselves_are_refused(change, said, tmp_path):
    model = oracle.random_model(6, n_labels=2)
    if "kept" in change:
        change |= {"E": np.zeros((12, 6), np.float32)}
    refused(tmp_path / "model.bin", model._replace(**change), None, said)


def test_what_is_no_regular_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="path must be a regular file"):
        cso.load_fasttext(tmp_path)
    with pytest.raises(FileNotFoundError):
        cso.load_fasttext(tmp_path / "none.bin")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="path must be a regular file"):
            cso.load_fasttext(tmp_path / "pipe")


def test_a_reader_of_our_files_says_who_reads_those_of_fasttext(model, tmp_path):
    path = written(tmp_path / "model.bin", model)
    with pytest.raises(ValueError, match="it is fastText's, for load_fasttext and"):
        cso.load_arrays(path)


def test_parts_that_do_not_fit_make_no_model():
    tree, E, W = cso.Hierarchy.balanced(3), np.zeros((5, 2)), np.zeros((2, 2))
    settings = {"word_ngrams": 2, "buckets": 4}
    cso.FastTextModel(tree, E, W, ["a", "b", "c"], ["x"], counts=[3, 2, 1], **settings)
    for change, said in (
        ({"labels": ["a", "b"]}, "labels must number 3, got 2"),
        ({"counts": [1, 2]}, "counts must number 3, got 2"),
        ({"words": ["x", "y"]}, r"shapes \(6, 2\) and \(2, 2\), got \(5, 2\)"),
        ({"words": ["x", "x"]}, "words and labels must differ, got 'x' again at index 1"),
        ({"W": np.zeros((3, 2))}, r"and \(3, 2\)"),
        ({"kept": [4]}, r"kept must be in \[0, 4\), got 4 at index 0"),
        ({"kept": [2**32]}, r"kept must be in \[0, 4\), got"),
        ({"buckets": 0}, "buckets must be at least 1 for n-grams, got 0"),
        ({"buckets": 2**31}, r"buckets must be below 2\*\*31"),
        ({"min_chars": -1}, "min_chars must be at least 0, got -1"),
    ):
        parts = {"hierarchy": tree, "E": E, "W": W, "labels": ["a", "b", "c"], "words": ["x"]}
        with pytest.raises(ValueError, match=said):
            cso.FastTextModel(**{**parts, **settings, **change})


def test_arguments_that_break_a_rule_are_refused(tmp_path):
    model = oracle.random_model(7)
    loaded = cso.load_fasttext(written(tmp_path / "model.bin", model))
    for texts, said in (("a cat", "got one text"), ([1], "got 1 at index 0"), (3, "got 3")):
        with pytest.raises(TypeError, match=f"texts must be .*{said}"):
            loaded.transform(texts)
    for k in (0, 8):
        with pytest.raises(ValueError, match="k must be at"):
            loaded.top_k(["a cat"], k)
    with pytest.raises(ValueError, match="labels must have a row for each of 2 texts"):
        loaded.offset_log_proba(["a", "b"], ["__label__z0"])
    with pytest.raises(ValueError, match="labels must be labels of the model, got 'z0'"):
        loaded.offset_log_proba(["a"], ["z0"])


# ---- promises


def test_the_same_bytes_for_any_number_of_threads(model, loaded):
    texts = [oracle.TEXTS[i % len(oracle.TEXTS)] for i in range(3000)]
    first = loaded.transform(texts, num_threads=1)
    for threads in (2, 3):
        other = loaded.transform(texts, num_threads=threads)
        for part in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(getattr(first, part), getattr(other, part))
    scores = [loaded.top_k(texts, 1, num_threads=n).log_probs.tobytes() for n in (1, 2, 3)]
    assert len(set(scores)) == 1


def test_a_pickled_model_gives_the_same_answers(model, loaded):
    again = pickle.loads(pickle.dumps(loaded))
    found, wanted = again.top_k(oracle.TEXTS), loaded.top_k(oracle.TEXTS)
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_array_equal(found.log_probs, wanted.log_probs)
