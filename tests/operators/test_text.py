"""Text in compiled code: scikit-learn's terms for any text, and the same bytes for any threads."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sklearn")

from scipy.sparse import csr_matrix
from sklearn.feature_extraction import text

from cython_sparseops._models.text import _PLANES, Terms, TextFeatures
from cython_sparseops._text import FastTextCounter, Hashing, Strings

ODD = "aB_é\u0130ΣΑςß\u01c5ǆ\u0345\u00ad'.: \t\n\x00\x1c\x85\xa0\u3000\u2028\u0301"
ODD += "٣Ⅷ中\U0001d400\U0001f600-"
words = st.text(st.one_of(st.sampled_from(ODD), st.characters(codec="utf-8")), max_size=12)
lines = st.lists(st.one_of(words, st.text(st.sampled_from(ODD), max_size=30)), max_size=6)


# ---- agrees with scikit-learn


def rows_of(matrix):
    matrix.sort_indices()
    return matrix.indptr.tolist(), matrix.indices.tolist(), matrix.data.tolist()


@given(lines, lines, st.booleans(), st.integers(1, 3))
def test_words_are_those_of_scikit_learn(train, new, lowercase, longest):
    peer = text.CountVectorizer(ngram_range=(1, longest), lowercase=lowercase, dtype=np.float32)
    try:
        want = peer.fit_transform(train)
    except ValueError:
        with pytest.raises(ValueError, match="at least one token"):
            TextFeatures.fit(train, Terms("words", lowercase, longest))
        return
    features, X = TextFeatures.fit(train, Terms("words", lowercase, longest))
    assert features.vocabulary == peer.get_feature_names_out().tolist()
    assert rows_of(want) == tuple(part.tolist() for part in X[:3])
    found = features.transform(new)
    assert rows_of(peer.transform(new)) == tuple(part.tolist() for part in found[:3])


@given(lines, st.booleans(), st.integers(1, 3), st.integers(0, 2))
def test_runs_of_characters_are_those_of_scikit_learn(train, lowercase, least, more):
    span = (least, least + more)
    peer = text.CountVectorizer(
        analyzer="char_wb", ngram_range=span, lowercase=lowercase, dtype=np.float32
    )
    try:
        want = peer.fit_transform(train)
    except ValueError:
        return
    features, X = TextFeatures.fit(train, Terms("words", lowercase, 0, span))
    assert features.vocabulary == peer.get_feature_names_out().tolist()
    assert rows_of(want) == tuple(part.tolist() for part in X[:3])


@given(lines)
def test_weights_are_those_of_scikit_learn(train):
    peer = text.TfidfVectorizer(sublinear_tf=True, dtype=np.float32)
    try:
        want = peer.fit_transform(train)
    except ValueError:
        return
    features, X = TextFeatures.fit(train, Terms("words", True), tfidf=True)
    want.sort_indices()
    assert want.indices.tolist() == X.indices.tolist()
    np.testing.assert_allclose(X.data, want.data, rtol=4 * np.finfo(np.float32).eps)
    for line, row in zip(train, want, strict=True):
        ids, weights = features.row(line)
        assert ids.tolist() == row.indices.tolist()
        np.testing.assert_allclose(weights, row.data, rtol=4 * np.finfo(np.float32).eps)


@given(lines)
def test_hashed_words_are_those_of_scikit_learn(train):
    """Columns of a `HashingVectorizer` are sums of ours: its tokens are the same."""
    peer = text.HashingVectorizer(n_features=1 << 20, alternate_sign=False, norm=None)
    try:
        features, X = TextFeatures.fit(train, Terms("words", True))
    except ValueError:
        assert peer.transform(train or [""]).nnz == 0
        return
    single = peer.transform(features.vocabulary)
    assert (single.sum(axis=1) == 1).all()
    found = csr_matrix((X.data, X.indices, X.indptr), X.shape).sum(axis=1)
    assert (peer.transform(train).sum(axis=1) == found).all()


def test_every_character_is_a_letter_where_it_is_one_in_python():
    """Each in a word of its own, in upper case; those that are spaces or half surrogates too."""
    assert not any(chr(c).isalnum() for c in range(_PLANES, sys.maxunicode + 1))
    characters = [chr(c) for c in range(_PLANES)]
    for lowercase in (False, True):
        terms = Terms("words", lowercase)
        train = [f"a{c}b" for c in characters if lowercase or c.isalnum()]
        want = {one for line in train for one in terms.words(line.lower() if lowercase else line)}
        features, _ = TextFeatures.fit(train, terms)
        assert features.vocabulary == sorted(want)
    spaces = [f"x{chr(c)}y" for c in range(0x3100)]
    features, _ = TextFeatures.fit(spaces, Terms("words", word_ngrams=0, char_ngrams=(5, 5)))
    want = {f" {word} " for line in spaces for word in line.split()}
    assert features.vocabulary == sorted(want)


# ---- edges and rejections


def test_terms_that_repeat_are_refused():
    with pytest.raises(ValueError, match="words must differ, got 'a' again at index 1"):
        TextFeatures(Terms(), ["a", "a"])


def test_no_lines_are_no_rows():
    features, _ = TextFeatures.fit(["a"])
    assert features.transform([]).shape == (0, 1)


# ---- promises


def test_threads_change_no_byte():
    rng = np.random.default_rng(0)
    found = [
        " ".join(f"w\u00c9{i}" if i % 3 else f"W{i}" for i in rng.zipf(1.3, 20) % 5000)
        for _ in range(3000)
    ]
    block = Strings.of(line.encode() for line in found)
    terms = Terms("words", True, 2, (2, 3))
    seen = [TextFeatures.fit_blocks([block], terms, num_threads=n) for n in (1, 2, 3)]
    for features, X in seen[1:]:
        assert features.vocabulary == seen[0][0].vocabulary
        assert all(a.tobytes() == b.tobytes() for a, b in zip(X[:3], seen[0][1][:3], strict=True))
    raw = "\n".join(f"__label__{i % 7} {line}" for i, line in enumerate(found)).encode()
    counted = []
    for n in (1, 2, 3):
        counter = FastTextCounter(Hashing(2, 2, 3, 9999), num_threads=n)
        counter.add(raw)
        features = counter.vocabulary(2, 1).features
        rows = features.examples(raw, labeled_only=True, num_threads=n)
        arrays = [*features.to_arrays().values(), *rows.X[:3], rows.labels, rows.ends]
        counted.append([array.tobytes() for array in arrays])
    assert counted[0] == counted[1] == counted[2]
