"""Sparse rows trained at the nodes of a tree, and the weights that come out."""

import hashlib
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

pytest.importorskip("sklearn")

from scipy.sparse import csr_array
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

import cython_sparseops as cso
from cython_sparseops import Hierarchy, SparseWeights, class_centroids, linear_train
from helpers.compressed import Compressed

EXACT = {"tol": 1e-6, "max_iter": 3000, "threshold": 0.0, "validation": 0.0}


def documents(n=600, features=60, classes=12, seed=0, per_row=8):
    """Unit rows of a few features, drawn with a distribution a class; their classes."""
    rng = np.random.default_rng(seed)
    taste = rng.dirichlet(np.full(features, 0.1), size=classes)
    labels = rng.integers(0, classes, n)
    D = np.array([rng.multinomial(per_row, taste[c]) for c in labels], np.float32)
    D = np.log1p(D)
    D /= np.linalg.norm(D, axis=1, keepdims=True)
    return csr_array(D), labels


def flat(classes):
    return Hierarchy.two_level(classes, n_groups=1, logistic=False)


def dense_rows(W):
    return W.to_scipy().toarray().astype(float), W.bias.astype(float)


def arrays_equal(a, b):
    a, b = a.to_arrays(), b.to_arrays()
    return all(a[name].tobytes() == b[name].tobytes() for name in a)


def log_proba(W, X, h):
    """log P(class | x) by the definition: a log-softmax a node, with its temperature."""
    rows, bias = dense_rows(W)
    scores = X.toarray().astype(float) @ rows.T + bias
    out = np.zeros((X.shape[0], h.n_classes))
    for c in range(h.n_classes):
        steps = slice(h.path_ptr[c], h.path_ptr[c + 1])
        for depth, (v, child) in enumerate(
            zip(h.path_node[steps], h.path_child[steps], strict=True)
        ):
            z = W.temperatures[depth] * scores[:, h.row_ptr[v] : h.row_ptr[v + 1]]
            if z.shape[1] == 1:
                z = np.hstack([np.zeros_like(z), z])
            out[:, c] += log_softmax(z, axis=1)[:, child]
    return out


# ---- agrees with the reference ------------------------------------------------------------------


def hinge_objective(w, b, X, y, C, offset):
    margin = np.maximum(0, 1 - y * (X @ w + b + offset))
    return 0.5 * (w @ w + b * b) + C * margin @ margin


@pytest.mark.parametrize("C", [0.3, 1.0, 10.0])
def test_squared_hinge_reaches_the_optimum_of_linear_svc(C):
    """A logistic node has no offset, so that its row is LinearSVC's problem to the letter."""
    X, labels = documents(classes=2, n=400)
    W = linear_train(X, labels, Hierarchy.balanced(2), C=C, **EXACT)
    w, b = dense_rows(W)
    svc = LinearSVC(loss="squared_hinge", dual=True, C=C, tol=1e-9, max_iter=100_000)
    svc.fit(X, labels)
    assert_allclose(w[0], svc.coef_[0], atol=2e-4)
    assert_allclose(b[0], svc.intercept_[0], atol=2e-4)


def test_squared_hinge_of_a_wide_node_is_each_child_against_the_rest():
    """Scores start at -1, so that b + 1 is what is penalized."""
    X, labels = documents()
    W = linear_train(X, labels, flat(12), **EXACT)
    rows, bias = dense_rows(W)
    D = X.toarray().astype(float)
    for c in range(12):
        y = np.where(labels == c, 1.0, -1.0)
        own = hinge_objective(rows[c], bias[c] + 1, D, y, 1.0, -1.0)
        margin = np.maximum(0, 1 - y * (D @ rows[c] + bias[c]))
        gradient = rows[c] - 2 * D.T @ (y * margin)
        assert np.abs(gradient).max() < 2e-4
        assert abs(bias[c] + 1 - 2 * y @ margin) < 2e-4
        for other in range(12):
            shifted = rows[c] + 0.01 * rows[other]
            assert own <= hinge_objective(shifted, bias[c] + 1, D, y, 1.0, -1.0) + 1e-6


@pytest.mark.parametrize("C", [1.0, 10.0])
def test_softmax_reaches_the_optimum_of_logistic_regression(C):
    """A column of ones in place of the intercept, which is penalized here."""
    X, labels = documents(classes=20)
    W = linear_train(X, labels, flat(20), loss="softmax", C=C, **EXACT)
    rows, bias = dense_rows(W)
    ones = np.hstack([X.toarray().astype(float), np.ones((X.shape[0], 1))])
    peer = LogisticRegression(C=C, fit_intercept=False, tol=1e-9, max_iter=20_000)
    peer.fit(ones, labels)
    ours = log_softmax(ones @ np.column_stack([rows, bias]).T, axis=1)
    theirs = log_softmax(ones @ peer.coef_.T, axis=1)
    assert_allclose(ours, theirs, atol=2e-3)


def test_logistic_is_logistic_regression_of_each_child_against_the_rest():
    X, labels = documents(classes=5)
    W = linear_train(X, labels, flat(5), loss="logistic", C=2.0, **EXACT)
    rows, bias = dense_rows(W)
    ones = np.hstack([X.toarray().astype(float), np.ones((X.shape[0], 1))])
    for c in range(5):
        peer = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-9, max_iter=20_000)
        peer.fit(ones, labels == c)
        assert_allclose(np.append(rows[c], bias[c]), peer.coef_[0], atol=2e-3)


def test_a_node_sees_the_rows_below_it_alone():
    X, labels = documents(n=1500, classes=24)
    h = Hierarchy.cluster(class_centroids(X, labels, 24), arity=4, leaf=6)
    rows, bias = dense_rows(linear_train(X, labels, h, **EXACT))
    last = [v for v in range(h.n_nodes) if (h.child[h.child_ptr[v] : h.child_ptr[v + 1]] < 0).all()]
    assert last
    for v in last:
        below = ~h.child[h.child_ptr[v] : h.child_ptr[v + 1]]
        mine = np.flatnonzero(np.isin(labels, below))
        slot = np.array([np.flatnonzero(below == c)[0] for c in labels[mine]])
        own, own_bias = dense_rows(linear_train(X[mine], slot, flat(len(below)), **EXACT))
        of_node = slice(h.row_ptr[v], h.row_ptr[v + 1])
        assert_allclose(rows[of_node], own, atol=5e-4)
        assert_allclose(bias[of_node], own_bias, atol=5e-4)


# ---- mathematics --------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["squared_hinge", "softmax", "logistic"])
def test_it_learns_and_its_probabilities_are_calibrated(loss):
    X, labels = documents(n=8000, classes=30, features=100)
    h = Hierarchy.cluster(class_centroids(X, labels, 30), arity=4, leaf=8)
    train, test = slice(0, 6000), slice(6000, None)
    W = linear_train(X[train], labels[train], h, loss=loss)
    log_p = log_proba(W, X[test], h)
    assert_allclose(np.exp(log_p).sum(axis=1), 1, rtol=1e-9)
    nll = -log_p[np.arange(2000), labels[test]].mean()
    right = (log_p.argmax(axis=1) == labels[test]).mean()
    assert right > 0.5
    assert nll < 0.6 * np.log(30)
    for factor in (0.5 / 0.8, 2 / 0.8):  # half and twice the fitted ones, before they are lowered
        arrays = W.to_arrays()
        arrays["temperature"] = (arrays["temperature"] * factor).astype("f")
        other = log_proba(SparseWeights.from_arrays(arrays), X[test], h)
        assert -other[np.arange(2000), labels[test]].mean() > nll


def test_a_weight_is_a_row_repeated_and_none_a_row_left_out():
    X, labels = documents(classes=6)
    times = np.random.default_rng(1).integers(0, 4, X.shape[0])
    weighted = linear_train(X, labels, flat(6), sample_weight=times, **EXACT)
    rows = np.repeat(np.arange(X.shape[0]), times)
    repeated = linear_train(X[rows], labels[rows], flat(6), **EXACT)
    for a, b in zip(dense_rows(weighted), dense_rows(repeated), strict=True):
        assert_allclose(a, b, atol=1e-3)
    of_classes = np.array([0, 1, 2, 1, 0.5, 3], "f")
    a = linear_train(X, labels, flat(6), class_weight=of_classes)
    b = linear_train(X, labels, flat(6), sample_weight=of_classes[labels])
    assert arrays_equal(a, b)


def test_duplicates_and_unsorted_indices_stand_for_their_sum():
    X, labels = documents(n=300, classes=5)
    indices, data = [], []
    for i in range(X.shape[0]):
        own = slice(X.indptr[i], X.indptr[i + 1])
        indices += [*X.indices[own][::-1], *X.indices[own]]
        data += [*(X.data[own][::-1] / 2), *(X.data[own] / 2)]
    tangled = Compressed(2 * X.indptr, np.array(indices), np.array(data, "f"), X.shape)
    assert arrays_equal(linear_train(tangled, labels, flat(5)), linear_train(X, labels, flat(5)))


def test_pruned_weights_are_the_large_ones():
    X, labels = documents()
    everything = linear_train(X, labels, flat(12), threshold=0.0)
    some = linear_train(X, labels, flat(12), threshold=0.3)
    assert arrays_equal(everything.prune(0.3), some)
    kept = everything.to_scipy().toarray()
    kept[np.abs(kept) <= np.float32(0.3)] = 0
    assert_array_equal(some.to_scipy().toarray(), kept)
    assert some.nnz < everything.nnz
    assert some.nbytes < everything.nbytes


# ---- edges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["squared_hinge", "softmax", "logistic"])
@pytest.mark.parametrize("classes", [1, 2, 15, 16, 17, 33])
def test_any_number_of_classes(loss, classes):
    X, _ = documents(n=50)
    labels = np.arange(50) % classes
    for h in (Hierarchy.balanced(classes), Hierarchy.balanced(classes, arity=64, logistic=False)):
        W = linear_train(X, labels, h, loss=loss)
        assert W.shape == (h.n_rows, X.shape[1])
        assert len(W.temperatures) == h.depth


def test_no_rows_no_features_and_classes_never_seen():
    h = Hierarchy.balanced(6, arity=3)
    W = linear_train(csr_array((0, 7)), np.zeros(0, int), h)
    assert (W.nnz, W.shape) == (0, (h.n_rows, 7))
    assert linear_train(csr_array((3, 0)), [0, 1, 2], h).nnz == 0
    X, _ = documents(n=40)
    log_p = log_proba(linear_train(X, np.zeros(40, int), h), X, h)
    assert (log_p.argmax(axis=1) == 0).all()
    nothing = linear_train(X, np.zeros(40, int), h, sample_weight=np.zeros(40))
    assert nothing.nnz == 0


def test_temperatures_are_fitted_where_there_are_enough_rows():
    X, labels = documents(n=3900)
    assert linear_train(X, labels, flat(12)).temperatures.tolist() == [8]
    assert linear_train(X, labels, flat(12), loss="softmax").temperatures.tolist() == [1]
    h = Hierarchy.cluster(class_centroids(X, labels, 12), arity=2, leaf=3)
    assert linear_train(X, labels, h).temperatures.tolist() == [3, 3, 8]
    fitted = linear_train(X, labels, flat(12), validation=0.1).temperatures
    assert fitted[0] not in (1, 3, 8)


# ---- rejections ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"loss": "hinge"}, "loss must be one of squared_hinge, softmax, logistic, got 'hinge'"),
        ({"C": 0.0}, "C must be in [1e-6, 1e6], got 0"),
        ({"C": np.nan}, "C must be in [1e-6, 1e6], got nan"),
        ({"threshold": -1.0}, "threshold must be finite and non-negative, got -1"),
        ({"tol": -1.0}, "tol must be finite and non-negative, got -1"),
        ({"max_iter": 0}, "max_iter must be at least 1, got 0"),
        ({"validation": 1.0}, "validation must be in [0, 1), got 1"),
        ({"sample_weight": np.full(600, -1)}, "sample_weight must be finite and non-negative, "),
        ({"sample_weight": np.full(600, 1e7)}, "sample_weight must be in [0, 1e6], got 10000000 "),
        ({"class_weight": np.ones(3)}, "class_weight must have 12 entries, got 3"),
        ({"rng": -1}, "rng must be in [0, 2**64), got -1"),
    ],
)
def test_options_are_refused(change, text):
    X, labels = documents()
    with pytest.raises(ValueError) as error:
        linear_train(X, labels, flat(12), **change)
    assert str(error.value).startswith(text)


def test_malformed_input_is_refused():
    X, labels = documents()
    h = flat(12)

    def refused(X, labels, text, h=h, error=ValueError):
        with pytest.raises(error, match=text):
            linear_train(X, labels, h)

    bad = X.copy()
    bad.indices[7] = -1
    refused(bad, labels, r"^X.indices must be in \[0, 60\), got -1 at index 7$")
    bad = X.copy()
    bad.data[7] = np.inf
    refused(bad, labels, r"^X must be finite, got inf at stored value 7$")
    bad = X.copy()
    bad.data[bad.indptr[3]] = 2e6
    refused(bad, labels, r"^X must have rows of norm 1e6 at most, got a longer one at row 3$")
    refused(X, labels + 1, r"^labels must be in \[0, 12\), got 12 at index \d+$")
    refused(X, labels[1:], r"^labels must have one entry a row of X, 600, got 599$")
    refused(X.toarray(), labels, r"^X must be a CSR matrix, got ndarray$", error=TypeError)
    refused(X, labels, r"^h must be a Hierarchy, got None$", h=None, error=TypeError)
    one_hot = csr_array((np.ones(600), labels, np.arange(601)), shape=(600, 12))
    refused(X, one_hot, r"^labels must be one a row unless the nodes of the tree are independent")
    refused(X, labels % 2, r"^h must have nodes of at most 65535 rows, got 65536", h=flat(1 << 16))


def corrupted():
    """One array of good weights changed at a time: name, new array, and the refusal's words."""
    X, labels = documents(n=3000, classes=24)
    h = Hierarchy.cluster(class_centroids(X, labels, 24), arity=4, leaf=6)
    a = linear_train(X, labels, h).to_arrays()

    def put(name, at, value):
        array = a[name].copy()
        array[at] = value
        return name, array

    return a, [
        (*put("row_ptr", 0, 1), "row_ptr must start with 0"),
        (*put("row_ptr", 1, 100_000), "row_ptr must not decrease"),
        (*put("feature_ptr", -1, 10**9), "feature_ptr must end with"),
        (*put("feature_ptr", 1, -5), "feature_ptr must not decrease"),
        (*put("entry_ptr", 3, 1 << 40), "entry_ptr must not decrease"),
        ("entry_ptr", a["entry_ptr"][:-1], "entry_ptr must have"),
        (*put("feature", 1, a["feature"][0]), "feature must rise within a node"),
        (*put("feature", 0, 60), r"feature must be in \[0, 60\)"),
        (*put("feature", 0, -1), r"feature must be in \[0, 60\)"),
        (*put("slot", 0, 65535), "slot must be below the"),
        (*put("weight", 2, np.nan), "weight must be finite"),
        ("weight", a["weight"][1:], "weight must have"),
        (*put("bias", 0, np.inf), "bias must be finite"),
        ("bias", a["bias"][1:], "shape must begin with"),
        (*put("temperature", 0, 0.0), "temperature must be positive"),
        (*put("shape", 1, -1), "shape must be two lengths"),
        (*put("shape", 1, 1 << 31), r"shape must be two lengths below 2\*\*31"),
        ("slot", a["slot"].astype(np.int64), "slot must be a vector of uint16"),
    ]


def test_a_strangers_arrays_are_refused():
    good, changes = corrupted()
    SparseWeights.from_arrays(good)
    for name, array, text in changes:
        with pytest.raises(ValueError, match=f"^{text}"):
            SparseWeights.from_arrays({**good, name: array})
    for name in good:
        rest = {other: array for other, array in good.items() if other != name}
        with pytest.raises(ValueError, match=f"^arrays must hold {name}, got"):
            SparseWeights.from_arrays(rest)
    with pytest.raises(TypeError, match=r"^SparseWeights must be made by linear_train"):
        SparseWeights()


# ---- promises -----------------------------------------------------------------------------------


def trained(loss):
    X, labels = documents(n=9000, features=300, classes=200)
    h = Hierarchy.cluster(class_centroids(X, labels, 200), arity=8, leaf=20)
    return X, labels, h, linear_train(X, labels, h, loss=loss, num_threads=1)


@pytest.mark.parametrize("loss", ["squared_hinge", "softmax", "logistic"])
def test_threads_never_change_a_bit(loss):
    X, labels, h, W = trained(loss)
    for threads in (2, 3):
        assert arrays_equal(linear_train(X, labels, h, loss=loss, num_threads=threads), W)
    assert not arrays_equal(linear_train(X, labels, h, loss=loss, rng=1), W)


def print_digests():
    """Of weights by each loss, in a process of another instruction set."""
    for loss in ("squared_hinge", "softmax", "logistic"):
        arrays = trained(loss)[3].to_arrays()
        print(loss, hashlib.sha256(b"".join(a.tobytes() for a in arrays.values())).hexdigest())


def test_instruction_sets_with_fma_give_the_same_bytes(child, fma_isas):
    said = {child.run(print_digests, isa=isa).stdout for isa in fma_isas}
    assert len(said) <= 1
    if fma_isas:
        assert next(iter(said)).count("\n") == 3


def test_weights_survive_files_and_pickles(tmp_path):
    W = trained("squared_hinge")[3]
    W.save(tmp_path / "w.sops")
    for mmap in (False, True):
        assert arrays_equal(SparseWeights.load(tmp_path / "w.sops", mmap=mmap), W)
    assert arrays_equal(pickle.loads(pickle.dumps(W)), W)
    cso.Hierarchy.balanced(3).save(tmp_path / "h.sops")
    with pytest.raises(ValueError, match=r"^path must hold SparseWeights, got"):
        SparseWeights.load(tmp_path / "h.sops")


def wide_weights():
    """Two nodes; one with 300 rows, features far apart, and one feature of all rows."""
    arrays = {
        "row_ptr": np.array([0, 2, 302]),
        "feature_ptr": np.array([0, 2, 5]),
        "feature": np.array([0, 255, 0, 256, 70_000], np.int32),
        "entry_ptr": np.array([0, 1, 3, 303, 304, 306]),
        "slot": np.r_[1, 0, 1, :300, 299, 3, 4].astype(np.uint16),
        "weight": np.linspace(-2, 2, 306, dtype=np.float32),
        "bias": np.arange(302, dtype=np.float32),
        "temperature": np.array([3, 8], np.float32),
        "shape": np.array([302, 70_001]),
    }
    return SparseWeights.from_arrays(arrays)


def test_compact_files_hold_the_same_weights(tmp_path):
    narrow = trained("squared_hinge")[3]
    for W in (narrow, wide_weights(), wide_weights().prune(9)):
        for name, compact in (("w.sops", False), ("c.sops", True), ("w.safetensors", True)):
            W.save(tmp_path / name, compact=compact)
            for mmap in (False, True):
                assert arrays_equal(SparseWeights.load(tmp_path / name, mmap=mmap), W)
    narrow.save(tmp_path / "w.sops")
    narrow.save(tmp_path / "c.sops", compact=True)
    assert (tmp_path / "c.sops").stat().st_size < 0.75 * (tmp_path / "w.sops").stat().st_size
    assert narrow.to_arrays(compact=True)["slot"].dtype == np.uint8
    assert wide_weights().to_arrays(compact=True)["slot"].dtype == np.uint16
    assert wide_weights().to_arrays(compact=True)["far"].tolist() == [255, 256, 69_744]
    assert wide_weights().to_arrays(compact=True)["many"].tolist() == [300]


def test_weights_of_16_bits_need_two_bytes_in_a_compact_file():
    W = trained("squared_hinge")[3]
    half = W.prune(0, dtype="float16")
    old, new = W.to_arrays()["weight"], half.to_arrays()["weight"]
    assert (np.abs(new - old) <= np.abs(old) * 2.0**-11).all()
    assert (new != old).any()
    assert W.to_arrays(compact=True)["weight"].dtype == np.float32
    assert half.to_arrays(compact=True)["weight"].dtype == np.float16
    assert arrays_equal(SparseWeights.from_arrays(half.to_arrays(compact=True)), half)
    with pytest.raises(ValueError, match=r"^dtype must be float32 or float16, got 'int8'$"):
        W.prune(0, dtype="int8")
    large = W.to_arrays() | {"weight": old + np.float32(1e5)}
    with pytest.raises(ValueError, match=r"^dtype must hold every weight, got float16 for 1\d+"):
        SparseWeights.from_arrays(large).prune(0, dtype="float16")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"far": np.array([255, 256], np.int32)}, "far must have 3 entries, got 2"),
        ({"many": np.array([-1], np.int32)}, "step and size must be as many, and not negative"),
        ({"size": np.array([1], np.uint8), "many": np.zeros(0, np.int32)}, "step and size must"),
        ({"step": np.zeros(5, np.uint8), "far": np.zeros(0, np.int32)}, "feature must be in"),
        ({"far": np.full(3, 2**31 - 1, np.int32)}, "step must lead to features below"),
        ({"feature_ptr": np.array([0, 9, 5])}, "feature_ptr must rise from 0 to 5"),
        ({"feature_ptr": np.array([1, 2, 5])}, "feature_ptr must rise from 0 to 5"),
        ({"many": np.array([301], np.int32)}, "entry_ptr must end with 306, got 307"),
        ({"step": np.zeros(5)}, "step must be a vector of uint8"),
        ({"slot": None}, "arrays must hold slot"),
    ],
)
def test_damaged_compact_weights_are_refused(change, message):
    arrays = wide_weights().to_arrays(compact=True) | change
    arrays = {name: array for name, array in arrays.items() if array is not None}
    with pytest.raises(ValueError, match="^" + message):
        SparseWeights.from_arrays(arrays)


def test_progress_is_shown_when_asked_for(capsys):
    X, labels = documents()
    linear_train(X, labels, flat(12))
    assert capsys.readouterr().err == ""
    linear_train(X, labels, flat(12), verbose=1)
    assert "100%" in capsys.readouterr().err
