"""Text into rows: equal to scikit-learn's vectorizers, and read back without it."""

import json

import numpy as np
import pytest

from cython_sparseops._models.file import pack_strings, prefixed
from cython_sparseops._models.text import Terms, TextFeatures, tokens

LINES = [
    "A cat  purrs, a CAT sleeps; x",
    "the dog barks\tat the cat",
    "",
    "na\u00efve caf\u00e9 \u00c9t\u00e9 \u0130x 42 a_b don't",
    "..  ! ab abc abcd ab",
    "the the the cat_1 zz\u00a0yy",
] * 3 + [f"word{i % 7} shared the{i % 3}" for i in range(40)]
NEW = ["the unknown cat abc", "", "zz the", "\u00c9t\u00e9 \u0130x purr"]
CASES = [
    Terms(),
    Terms("words", lowercase=True),
    Terms("words", lowercase=True, word_ngrams=3),
    Terms("words", lowercase=True, word_ngrams=2, char_ngrams=(2, 4)),
    Terms("words", word_ngrams=0, char_ngrams=(1, 5)),
    Terms("blanks", lowercase=True, word_ngrams=2),
]


def of_scikit_learn(terms, tfidf):
    """The same rows by scikit-learn, and their columns."""
    text = pytest.importorskip("sklearn.feature_extraction.text")
    from sklearn.pipeline import FeatureUnion, Pipeline

    parts = []
    shared = {"lowercase": terms.lowercase, "dtype": np.float32}
    if terms.word_ngrams:
        split = {"tokenizer": tokens, "token_pattern": None} if terms.tokens == "blanks" else {}
        words = text.CountVectorizer(ngram_range=(1, terms.word_ngrams), **shared, **split)
        parts.append(("words", words))
    if terms.char_ngrams[1]:
        chars = text.CountVectorizer(analyzer="char_wb", ngram_range=terms.char_ngrams, **shared)
        parts.append(("chars", chars))
    steps = [("counts", FeatureUnion(parts))]
    if tfidf:
        steps.append(("weights", text.TfidfTransformer(sublinear_tf=True)))
    return Pipeline(steps)


@pytest.mark.parametrize("tfidf", [False, True])
@pytest.mark.parametrize("terms", CASES)
def test_rows_are_those_of_scikit_learn(terms, tfidf):
    peer = of_scikit_learn(terms, tfidf)
    want = peer.fit_transform(LINES).tocsr()
    features, X = TextFeatures.fit(LINES, terms, tfidf=tfidf)
    names = [name.partition("__")[2] for name in peer[0].get_feature_names_out()]
    assert features.vocabulary == names
    for found, rows in ((X, want), (features.transform(NEW), peer.transform(NEW).tocsr())):
        rows.sort_indices()
        assert found.shape == rows.shape
        assert np.array_equal(found.indptr, rows.indptr)
        assert np.array_equal(found.indices, rows.indices)
        assert found.data.dtype == rows.data.dtype == np.float32
        np.testing.assert_array_max_ulp(found.data, rows.data, maxulp=1)


@pytest.mark.parametrize("terms", CASES)
def test_what_fit_returns_is_what_transform_makes(terms):
    features, X = TextFeatures.fit(LINES, terms, tfidf=True, min_count=2)
    for found, again in zip(X, features.transform(LINES), strict=True):
        assert np.array_equal(found, again)


def test_blocks_of_lines_change_nothing(monkeypatch):
    from cython_sparseops._models import text

    whole, X = TextFeatures.fit(LINES, CASES[3], tfidf=True)
    monkeypatch.setattr(text, "BLOCK", 5)
    parts, Y = TextFeatures.fit(LINES, CASES[3], tfidf=True)
    assert whole.vocabulary == parts.vocabulary
    assert all(np.array_equal(a, b) for a, b in zip(X, Y, strict=True))


def test_min_count_counts_occurrences_over_all_lines():
    features, X = TextFeatures.fit(["a a b", "b c"], min_count=2)
    assert features.vocabulary == ["a", "b"]
    assert X.data.tolist() == [2, 1, 1]


@pytest.mark.parametrize("tfidf", [False, True])
def test_what_is_stored_is_read_back(tfidf):
    features, _ = TextFeatures.fit(LINES, CASES[3], tfidf=tfidf)
    again = TextFeatures.from_arrays(
        features.to_arrays(), json.loads(json.dumps(features.settings()))
    )
    for want, found in zip(features.transform(NEW), again.transform(NEW), strict=True):
        assert np.array_equal(want, found)


def test_files_say_what_their_text_is():
    features, _ = TextFeatures.fit(LINES, CASES[3], tfidf=True)
    source = {"format": "fasttext", "text": features.settings()}
    again = TextFeatures.of_file(prefixed("text", features.to_arrays()), {"input": source})
    assert again.vocabulary == features.vocabulary
    assert again.terms == features.terms
    old = prefixed("vocabulary", pack_strings(["a", "b"]))
    counted = TextFeatures.of_file(old, {"input": {"format": "fasttext", "prefix": "__label__"}})
    assert counted.transform(["b B b"]).data.tolist() == [2]
    assert TextFeatures.of_file({}, {"input": {"format": "svmlight"}}) is None
    assert TextFeatures.of_file({}, {}) is None


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("tokens", "letters", "tokens must be one of"),
        ("lowercase", 1, "lowercase must be True or False"),
        ("word_ngrams", -1, "word_ngrams must be in"),
        ("char_ngrams", [3, 2], "char_ngrams must rise"),
        ("char_ngrams", [0, 2], "char_ngrams must be at least 1"),
        ("n_words", 10**6, "n_words must be in"),
    ],
)
def test_settings_of_a_stranger_are_checked(key, value, words):
    features, _ = TextFeatures.fit(LINES, CASES[3])
    with pytest.raises(ValueError, match=words):
        TextFeatures.from_arrays(features.to_arrays(), features.settings() | {key: value})


def test_idf_of_a_stranger_is_checked():
    features, _ = TextFeatures.fit(LINES, tfidf=True)
    arrays = features.to_arrays()
    for idf in (arrays["idf"][:-1], arrays["idf"] * np.nan, arrays["idf"].astype(float)):
        with pytest.raises(ValueError, match="idf must"):
            TextFeatures.from_arrays(arrays | {"idf": idf}, features.settings())


@pytest.mark.parametrize(("lines", "least", "words"), [(["", " "], 1, "token"), (["a"], 2, "min_")])
def test_texts_without_terms_are_refused(lines, least, words):
    with pytest.raises(ValueError, match=words):
        TextFeatures.fit(lines, min_count=least)


def test_nothing_but_numpy_is_needed(child):
    child.run(
        [
            "-c",
            "from cython_sparseops._models.text import TextFeatures\n"
            "import sys\n"
            "f, _ = TextFeatures.fit(['a b'], tfidf=True); f.transform(['b'])\n"
            "assert not {'sklearn', 'scipy'} & set(sys.modules)",
        ]
    )
