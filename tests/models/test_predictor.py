"""The light object of single rows: the classifier's bytes from every kind of row and of model."""

import copy
import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

sparse = pytest.importorskip("scipy.sparse")
pytest.importorskip("sklearn")

from sklearn.feature_extraction.text import (  # noqa: E402
    CountVectorizer,
    HashingVectorizer,
    TfidfVectorizer,
)
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import MaxAbsScaler  # noqa: E402

import cython_sparseops as cso  # noqa: E402
from cython_sparseops._models.text import Terms, TextFeatures  # noqa: E402
from cython_sparseops.sklearn import HSoftmaxClassifier, LabelTreeClassifier  # noqa: E402

WORDS = [f"{a}{b}" for a in "bcdfghklmn" for b in "aeiou"]


def texts(n=200, classes=12, seed=0):
    """Lines of words of their class's and of all, and labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    own = rng.integers(0, len(WORDS), (classes, 4))
    lines = [
        " ".join([WORDS[at] for at in own[c, rng.integers(0, 4, 5)]] + list(rng.choice(WORDS, 4)))
        for c in y
    ]
    return lines, np.array([f"class {c}" for c in y])


LINES, LABELS = texts()
NEW, _ = texts(40, seed=1)
MODELS = {
    "embedding": HSoftmaxClassifier(hidden_dim=8, epochs=3, random_state=0),
    "dense": HSoftmaxClassifier(epochs=3, random_state=0),
    "one tree": LabelTreeClassifier(random_state=0),
    "three trees": LabelTreeClassifier(n_trees=3, random_state=0),
}


def rows_of(name, lines=LINES, dtype=np.float32):
    X = fitted_vectorizer(TfidfVectorizer()).transform(lines).astype(dtype)
    return X.toarray() if name == "dense" else X


def fitted_vectorizer(vectorizer):
    return vectorizer.fit(LINES)


@pytest.fixture(scope="module", params=list(MODELS))
def fitted(request):
    """A classifier, rows it has not seen, and what it says of them."""
    name = request.param
    classifier = MODELS[name].fit(rows_of(name), LABELS)
    X = rows_of(name, NEW)
    return classifier, sparse.csr_array(X), classifier.top_k(X, 5)


def require_same(found, expected):
    assert [one.labels for one in found] == expected.labels.tolist()
    assert [one.log_probs for one in found] == expected.log_probs.tolist()


def entries(X, i):
    part = slice(X.indptr[i], X.indptr[i + 1])
    return X.indices[part], X.data[part]


def test_every_form_of_a_row_gets_the_bytes_of_the_classifier(fitted):
    classifier, X, expected = fitted
    predictor = classifier.predictor()
    each = range(X.shape[0])
    arrays = [entries(X, i) for i in each]
    require_same([predictor.top_k(row) for row in arrays], expected)
    pairs = [zip(*(a.tolist() for a in row), strict=True) for row in arrays]
    mixed = [dict(reversed(list(row))) for row in pairs]
    require_same([predictor.top_k(row) for row in mixed], expected)
    require_same([predictor.top_k(X[[i]]) for i in each], expected)
    require_same([predictor.top_k(row) for row in X], expected)  # of one dimension
    require_same([predictor.top_k(row) for row in X.toarray()], expected)
    require_same([predictor.top_k(row.tolist()) for row in X.toarray().astype(float)], expected)
    require_same(predictor.top_k_rows(X), expected)
    require_same(predictor.top_k_rows(arrays), expected)
    require_same(predictor.top_k_rows(X.toarray()), expected)
    assert predictor.top_k_rows([]) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["embedding", "dense"])
def test_a_model_of_either_dtype(name, dtype):
    classifier = MODELS[name].fit(rows_of(name, dtype=dtype), LABELS)
    X = rows_of(name, NEW, dtype)
    require_same(classifier.predictor().top_k_rows(X), classifier.top_k(X))


def test_several_labels_a_row():
    Y = np.eye(12, dtype=int)[[int(label.split()[1]) for label in LABELS]]
    classifier = LabelTreeClassifier(random_state=0).fit(rows_of("one tree"), Y)
    X = rows_of("one tree", NEW)
    require_same(classifier.predictor().top_k_rows(X, 3), classifier.top_k(X, 3))


def test_a_prediction_is_labels_and_their_probabilities(fitted):
    classifier, X, _ = fitted
    found = classifier.predictor().top_k(X[[0]], k=12)
    assert sorted(found.labels) == classifier.classes_.tolist()
    assert found.log_probs == sorted(found.log_probs, reverse=True)
    assert sum(found.probabilities) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found.probabilities, np.exp(found.log_probs), rtol=1e-15)
    assert {type(label) for label in found.labels} == {str}


VECTORIZERS = {
    "counts": CountVectorizer(),
    "binary": CountVectorizer(binary=True, dtype=np.float32),
    "n-grams": CountVectorizer(ngram_range=(1, 2), min_df=2),
    "characters": CountVectorizer(analyzer="char_wb", ngram_range=(2, 3), lowercase=False),
    "function": CountVectorizer(analyzer=str.split),
    "TF-IDF": TfidfVectorizer(),
    "sublinear": TfidfVectorizer(sublinear_tf=True, dtype=np.float32),
    "l1": TfidfVectorizer(norm="l1"),
    "no norm": TfidfVectorizer(norm=None, use_idf=False, dtype=np.float32),
    "stop words": TfidfVectorizer(stop_words=WORDS[:9], strip_accents="unicode"),
    "hashes": HashingVectorizer(n_features=64),
    "pipeline": make_pipeline(CountVectorizer(), MaxAbsScaler()),
}


@pytest.mark.parametrize("name", list(VECTORIZERS))
def test_text_is_what_the_vectorizer_makes_of_it(name):
    vectorizer = VECTORIZERS[name]
    X = vectorizer.fit_transform(LINES)
    classifier = LabelTreeClassifier(random_state=0).fit(X, LABELS)
    predictor = classifier.predictor(vectorizer)
    lines = [*NEW, "", "zzz", "BA BA be", NEW[0] * 9]
    require_same(
        [predictor.top_k(line) for line in lines], classifier.top_k(vectorizer.transform(lines))
    )


@pytest.mark.parametrize("steps", [slice(1), slice(2)])
def test_the_steps_of_a_pipeline_make_the_row(steps):
    """One vectorizer, or several steps that end in the classifier."""
    pipeline = make_pipeline(
        TfidfVectorizer(), *[MaxAbsScaler()][: steps.stop - 1], LabelTreeClassifier(random_state=0)
    ).fit(LINES, LABELS)
    before = pipeline[0] if steps.stop == 1 else pipeline[:-1]
    predictor = pipeline[-1].predictor(before)
    expected = pipeline[-1].top_k(pipeline[:-1].transform(NEW))
    require_same([predictor.top_k(line) for line in NEW], expected)
    assert [one.labels[0] for one in predictor.top_k_rows(NEW, 1)] == pipeline.predict(NEW).tolist()


@pytest.mark.parametrize("terms", [Terms(), Terms("words", True, 2), Terms(char_ngrams=(2, 4))])
@pytest.mark.parametrize("tfidf", [False, True])
def test_text_features_of_one_line_are_those_of_many(terms, tfidf):
    features, _ = TextFeatures.fit(LINES, terms, tfidf=tfidf)
    for line in [*NEW, "", "zzz", "BA ba be", NEW[0] * 9]:
        ids, weights = features.row(line)
        X = features.transform([line])
        assert (ids.tolist(), weights.tobytes()) == (X.indices.tolist(), X.data.tobytes())
        words = [at for at in ids.tolist() if at < features.n_words]
        assert [features.columns[features.vocabulary[at]] for at in words] == words


def test_names_of_features(fitted):
    classifier, X, expected = fitted
    vectorizer = fitted_vectorizer(TfidfVectorizer())
    names = vectorizer.get_feature_names_out()
    predictor = classifier.predictor(vectorizer)
    rows = [
        {str(names[at]): weight for at, weight in zip(*entries(X, i), strict=True)} | {"zzz": 9.0}
        for i in range(X.shape[0])
    ]
    require_same([predictor.top_k(row) for row in rows], expected)


def test_names_of_the_columns_of_a_frame(fitted, tmp_path):
    """As scikit-learn keeps them of a frame."""
    classifier, X, expected = copy.copy(fitted[0]), *fitted[1:]
    classifier.feature_names_in_ = np.array([f"column {at}" for at in range(50)], object)
    classifier.save(tmp_path / "model.sops")
    rows = [
        {f"column {at}": weight for at, weight in zip(*entries(X, i), strict=True)}
        for i in range(X.shape[0])
    ]
    for predictor in (classifier.predictor(), cso.Predictor.load(tmp_path / "model.sops")):
        require_same([predictor.top_k(row) for row in rows], expected)


PREDICT = """
import json, sys
import cython_sparseops as cso
path, rows = sys.argv[1], [tuple(row) for row in json.loads(sys.argv[2])]
found = cso.Predictor.load(path).top_k_rows(rows)
assert not {"sklearn", "scipy", "multiprocessing"} & set(sys.modules)
print(json.dumps(found))
"""


def test_a_file_is_read_without_scikit_learn_and_scipy(fitted, tmp_path, child):
    classifier, X, expected = fitted
    classifier.save(tmp_path / "model.sops")
    rows = [[part.tolist() for part in entries(X, i)] for i in range(X.shape[0])]
    said = child.run(PREDICT, tmp_path / "model.sops", json.dumps(rows)).stdout
    require_same([cso.Prediction(*one) for one in json.loads(said)], expected)


def test_a_file_of_another_kind_is_refused(tmp_path):
    cso.Hierarchy.balanced(3).save(tmp_path / "tree.sops")
    with pytest.raises(ValueError, match="saved HSoftmaxClassifier or LabelTreeClassifier, got"):
        cso.Predictor.load(tmp_path / "tree.sops")


def test_it_cannot_be_changed(fitted):
    classifier, X, expected = fitted
    predictor = classifier.predictor()
    for name in ("_head", "_labels", "new"):
        with pytest.raises(AttributeError, match="cannot be changed"):
            setattr(predictor, name, None)
    with pytest.raises(AttributeError, match="cannot be changed"):
        del predictor._head
    for other in (
        copy.copy(predictor),
        copy.deepcopy(predictor),
        pickle.loads(pickle.dumps(predictor)),
    ):
        require_same(other.top_k_rows(X), expected)
    more = copy.deepcopy(classifier)
    before = more.predictor()
    dense = isinstance(more, HSoftmaxClassifier) and more.model_.E is None
    more.partial_fit(rows_of("dense" if dense else "sparse"), LABELS)
    require_same(before.top_k_rows(X), expected)
    assert more.top_k(X).log_probs.tobytes() != expected.log_probs.tobytes()


def test_any_number_of_threads_may_ask(fitted):
    """Eight at once, all kinds of rows, from the first call on."""
    classifier, X, expected = fitted
    vectorizer = fitted_vectorizer(TfidfVectorizer())
    predictor = classifier.predictor(vectorizer)
    start = threading.Barrier(8)

    def ask(number):
        start.wait()
        for step in range(200):
            i = (number * 31 + step) % X.shape[0]
            row = entries(X, i) if step % 3 else NEW[i]
            found = predictor.top_k(row if step % 2 else X[[i]])
            assert found.labels == expected.labels[i].tolist()
            assert found.log_probs == expected.log_probs[i].tolist()
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == list(range(8))


BAD_ROWS = {
    "a text": ("ba be", "row must be numbers where there is no vectorizer, got 'ba be'"),
    "names": (
        {"ba": 1.0},
        "row must have column numbers as keys, the model has no names, got 'ba'",
    ),
    "three arrays": (([1], [1.0], [2]), "row must be a tuple of ids and weights, got 3"),
    "lengths": (([1, 2], [1.0]), "weights must number 2, as ids, got 1"),
    "a large id": (([50], [1.0]), "must be in|must be below|50"),
    "a negative id": ({-1: 1.0}, "-1"),
    "NaN": (([1], [np.nan]), "finite"),
    "infinity": ({1: np.inf}, "finite"),
    "width": ([1.0, 2.0], "row must have 50 features, got 2"),
    "width of CSR": (sparse.csr_array(np.ones((1, 3))), "row must have 50 columns, got 3"),
    "two rows": (sparse.csr_array((2, 50)), "row must be one row, got 2"),
}


@pytest.mark.parametrize("kind", list(BAD_ROWS))
def test_a_bad_row_is_refused_in_one_sentence(fitted, kind):
    row, message = BAD_ROWS[kind]
    with pytest.raises(ValueError, match=message):
        fitted[0].predictor().top_k(row)


@pytest.mark.parametrize("k", [0, 13, -1])
def test_k_is_a_number_of_classes(fitted, k):
    with pytest.raises(ValueError, match=r"k must be in \[1, 12\], the number of classes, got"):
        fitted[0].predictor().top_k([0.0] * 50, k=k)


def test_rows_are_several(fitted):
    predictor = fitted[0].predictor()
    for one in ("ba be", {1: 1.0}):
        with pytest.raises(TypeError, match="rows must be several"):
            predictor.top_k_rows(one)


def test_a_vectorizer_of_another_model_is_refused(fitted):
    with pytest.raises(
        ValueError, match="vectorizer must have the 50 features of the model, got 2"
    ):
        fitted[0].predictor(CountVectorizer().fit(["ba be"]))
    with pytest.raises(TypeError, match="vectorizer must have a transform"):
        fitted[0].predictor(str.split)


# ---- one row by one compiled call: the same answers and refusals as the other ways


def test_ids_and_weights_of_every_type_are_one_row(fitted):
    classifier, X, expected = fitted
    predictor = classifier.predictor()
    for i in range(5):
        ids, weights = entries(X, i)
        for kind in (np.int64, np.int32, np.uint8, np.int16):
            for weight in (weights, weights.astype(np.float64), weights.tolist()):
                for k in (5, np.int64(5)):
                    found = predictor.top_k((ids.astype(kind), weight), k)
                    assert type(found) is cso.Prediction
                    assert found.labels == expected.labels[i].tolist()
                    assert found.log_probs == expected.log_probs[i].tolist()
        turned = np.ascontiguousarray(ids[::-1]), np.ascontiguousarray(weights[::-1])
        assert set(predictor.top_k(turned).labels) == set(expected.labels[i].tolist())
        gaps = np.repeat(ids, 2)[::2], np.repeat(weights, 2)[::2]
        assert predictor.top_k(gaps).log_probs == expected.log_probs[i].tolist()


@pytest.mark.parametrize("kind", [np.int32, np.int64])
@pytest.mark.parametrize(
    ("ids", "weights", "k", "error", "message"),
    [
        ([99_999], [1], 5, ValueError, "must be in"),
        ([-1], [1], 5, ValueError, "must be in"),
        ([0], [np.nan], 5, ValueError, "finite"),
        ([0], [np.inf], 5, ValueError, "finite"),
        ([0, 1], [1], 5, ValueError, "weights must number 2, as ids, got 1"),
        ([0], [1], 0, ValueError, "k must be in"),
        ([0], [1], 10**30, ValueError, "k must be"),
        ([0], [1], True, TypeError, "k must be an integer"),
        ([0], [1], 2.0, TypeError, "k must be an integer"),
    ],
)
def test_a_row_of_arrays_is_refused_as_others_are(fitted, kind, ids, weights, k, error, message):
    predictor = fitted[0].predictor()
    with pytest.raises(error, match=message):
        predictor.top_k((np.array(ids, kind), np.array(weights, np.float32)), k)


def test_rows_far_longer_than_the_lists_of_nodes():
    rng = np.random.default_rng(0)
    X = sparse.random_array((300, 500), density=0.4, rng=rng, dtype=np.float32, format="csr")
    y = rng.integers(0, 40, 300)
    classifier = LabelTreeClassifier(random_state=0, C=10.0).fit(X, y)
    together, predictor = classifier.top_k(X, 6), classifier.predictor()
    for i in range(0, 300, 30):
        found = predictor.top_k(entries(X, i), 6)
        assert found.labels == together.labels[i].tolist()
        assert found.log_probs == together.log_probs[i].tolist()
