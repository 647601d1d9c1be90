"""What every operator does with arrays of other kinds: masked, matrices, sparse formats, widths."""

import numpy as np
import pytest

import cython_sparseops as cso
from cython_sparseops import Hierarchy
from cython_sparseops._sparse import as_csr
from helpers.compressed import compress

VALUES = np.array([[3.0, 0.0, 4.0], [1.0, 2.0, 2.0]])
TREE = Hierarchy.balanced(2)
W, B = np.ones((1, 3)), np.zeros(1)


def masked(array, hidden=True):
    mask = np.zeros(array.shape, bool)
    mask.flat[-1] = hidden
    return np.ma.array(array.copy(), mask=mask)


def model(W=W, b=B):
    return cso.BagModel(TREE, None, W, b)


IN_PLACE = {
    "normalize": lambda a: cso.sparse_normalize(a, axis=1, copy=False),
    "normalize rows": lambda a: cso.sparse_normalize_rows(a, [0, 1]),
    "dropout": lambda a: cso.sparse_dropout_with_replacement(a, 1.0, 9.0, rng=0, copy=False),
}


@pytest.mark.parametrize("name", ["normalize", "normalize rows", "dropout"])
def test_masked_entries_are_refused_and_nothing_is_written(name):
    array = masked(VALUES)
    with pytest.raises(ValueError, match="must have no masked entries"):
        IN_PLACE[name](array)
    np.testing.assert_array_equal(array.data, VALUES)


@pytest.mark.parametrize("name", ["normalize", "normalize rows", "dropout"])
@pytest.mark.parametrize("wrap", [np.matrix, lambda a: masked(a, False)], ids=["matrix", "masked"])
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_a_subclass_is_taken_as_the_array_it_is(name, wrap):
    plain, other = VALUES.copy(), wrap(VALUES.copy())
    IN_PLACE[name](plain)
    IN_PLACE[name](other)
    np.testing.assert_array_equal(np.asarray(other), plain)


def test_masked_weights_biases_state_and_outputs_are_refused():
    X = np.ones((2, 3))
    for call in (
        lambda: cso.hsoftmax_update(X, masked(W), B.copy(), [0, 1], TREE, cso.SGD(0.1)),
        lambda: cso.hsoftmax_update(X, W.copy(), masked(B), [0, 1], TREE, cso.SGD(0.1)),
        lambda: cso.hsoftmax_log_proba(X, W, B, TREE, out=masked(np.zeros((2, 2)))),
        lambda: cso.hsoftmax(masked(X), W, B, [0, 1], TREE),
        lambda: model(masked(W)),
        lambda: model(W.copy(), masked(B)),
    ):
        with pytest.raises(ValueError, match=r"^(W|b|out|X) must have no masked entries"):
            call()


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_a_model_trains_the_memory_of_a_matrix():
    weights = np.matrix(W.copy())
    trained = model(weights, B.copy())
    list(cso.BagTrainer(trained, epochs=1).fit(VALUES, [0, 1]))
    assert not np.array_equal(weights, W)


# ---- sparse formats

FORMATS = ("coo", "lil", "dok", "dia", "bsr")
COMPRESSED = {
    "normalize": lambda m: cso.sparse_normalize(m),
    "normalize in place": lambda m: cso.sparse_normalize(m, copy=False),
    "normalize gradient": lambda m: cso.sparse_normalize_gradient(m, m),
    "dropout": lambda m: cso.sparse_dropout_with_replacement(m, 0.5, rng=0),
    "dropout in place": lambda m: cso.sparse_dropout_with_replacement(m, 0.5, rng=0, copy=False),
    "dropout gradient": lambda m: cso.sparse_dropout_gradient(m, np.ones(m.nnz, bool)),
    "embedding bag": lambda m: cso.embedding_bag(m, np.ones((3, 2))),
    "precision": lambda m: cso.precision_at_k(m, [[0], [1]], k=1),
}
DENSE = {
    "loss": lambda m: cso.hsoftmax(m, W, B, [0, 1], TREE),
    "loss, weights": lambda m: cso.hsoftmax(VALUES, m, B, [0, 1], TREE),
    "search": lambda m: cso.hsoftmax_search(m, W, B, TREE),
    "replacement": lambda m: cso.sparse_dropout_with_replacement(VALUES, 0.5, m),
    "labels": lambda m: cso.hsoftmax(VALUES, W, B, m, TREE),
    "counts": lambda m: Hierarchy.huffman(m),
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_row_taken_out_of_a_scipy_array_is_refused_by_its_name(name):
    """From SciPy 1.13 on ``A[0]`` has one dimension, in the COO format."""
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"must be a CSR .*matrix.*got coo"):
        COMPRESSED[name](sparse.coo_array(VALUES[0]))


def test_what_indexing_iterating_and_multiplying_give_in_scipy():
    """SciPy 1.18: ``A[0]`` is a COO of one dimension, iterating gives CSR of one, products COO."""
    pytest.importorskip("scipy", "1.15", reason="before, A[0] of an array was not implemented")
    sparse = pytest.importorskip("scipy.sparse")
    A, E = sparse.csr_array(VALUES), np.arange(6.0).reshape(3, 2)
    for i, row in enumerate(A):
        batch = cso.embedding_bag(A[[i]], E)
        assert cso.embedding_bag(row, E).tobytes() == batch.tobytes()
    product = A.multiply(np.ones((2, 3)))
    for call in COMPRESSED.values():
        for found in (A[0], product):
            if found.format == "coo":
                with pytest.raises(TypeError, match=r"must be a CSR .*matrix.*got coo"):
                    call(found)
    np.testing.assert_array_equal(cso.embedding_bag(product.tocsr(), E), cso.embedding_bag(A, E))


@pytest.mark.parametrize("name", COMPRESSED)
def test_indices_of_64_bits_give_the_same_bytes(name):
    sparse = pytest.importorskip("scipy.sparse")

    def result(index):
        m = sparse.csr_array(VALUES)
        m.indptr, m.indices = m.indptr.astype(index), m.indices.astype(index)
        found = COMPRESSED[name](m)
        found = getattr(found, "x", found)
        return np.asarray(getattr(found, "data", found)).tobytes()

    assert result(np.int64) == result(np.int32)


def test_indices_of_64_bits_are_not_copied():
    sparse = pytest.importorskip("scipy.sparse")
    m = sparse.csr_array(VALUES)
    m.indptr, m.indices = m.indptr.astype(np.int64), m.indices.astype(np.int64)
    parts = as_csr("X", m, None)
    assert np.shares_memory(parts.indptr, m.indptr)
    assert np.shares_memory(parts.indices, m.indices)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", COMPRESSED)
def test_another_sparse_format_is_refused_by_its_name(name, format):
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=f"must be a CSR .*matrix.*got {format}"):
        COMPRESSED[name](getattr(sparse, f"{format}_array")(VALUES))


@pytest.mark.parametrize("format", ["csr", "csc", *FORMATS])
@pytest.mark.parametrize("name", DENSE)
def test_a_sparse_matrix_for_a_dense_array_is_refused_by_that(name, format):
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=rf"must be a dense array, got a sparse matrix \({format}"):
        DENSE[name](getattr(sparse, f"{format}_array")(VALUES))


# ---- very many columns


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("columns", [2**31, 2**62])
def test_columns_without_entries_cost_nothing_and_change_no_bit(columns, axis):
    dense = np.random.default_rng(0).standard_normal((40, 70)) * (np.arange(70) % 3 > 0)
    narrow, wide = compress(dense, index=np.int64), compress(dense, index=np.int64)
    wide.indices = np.where(wide.indices == 69, columns - 1, wide.indices)
    wide.shape = (40, columns)
    for call in (
        lambda m: cso.sparse_normalize(m, axis=axis),
        lambda m: cso.sparse_normalize(m, axis=axis, max_norm=True, norm=0.3, ord="l1"),
        lambda m: cso.sparse_normalize_gradient(m, m.data[::-1].copy(), axis=axis),
        lambda m: cso.sparse_dropout_with_replacement(m, 0.5, "mean", per="column", rng=1),
        lambda m: cso.sparse_dropout_with_replacement(m, 0.5, "median", per="column", rng=1),
    ):
        assert call(wide).data.tobytes() == call(narrow).data.tobytes()
    wide.indices[3] = -1
    for call in (cso.sparse_normalize, lambda m: cso.sparse_normalize_gradient(m, m.data)):
        with pytest.raises(ValueError, match=r"W\.indices must be in"):
            call(wide)


# ---- integers, empty batches, the caller's settings


@pytest.mark.parametrize(
    "call",
    [
        lambda n: cso.hsoftmax_search(VALUES, W, B, TREE, n),
        lambda n: Hierarchy.balanced(n),
        lambda n: cso.set_num_threads(n),
        lambda n: cso.hsoftmax_sample(VALUES, W, B, TREE, n, rng=0),
        lambda n: cso.sparse_dropout_with_replacement(VALUES, 0.5, rng=n),
        lambda n: cso.BagTrainer(model(), epochs=n),
    ],
)
def test_true_is_no_number(call):
    with pytest.raises(TypeError, match=r"must be .*integer.*, got True"):
        call(True)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (0,)])
def test_an_empty_batch_takes_any_replacement(shape):
    x = np.empty(shape)
    for replacement in (1.0, np.empty(shape), np.empty((*shape[:-1], 1)), "mean", "median"):
        if np.shape(replacement) and shape == (0,):
            replacement = np.empty(0)
        y, mask = cso.sparse_dropout_with_replacement(x, 0.5, replacement, return_mask=True)
        assert y.shape == mask.shape == shape
        assert cso.sparse_dropout_gradient(y, mask, np.shape(replacement)).x.shape == shape
    if len(shape) == 2:
        m = compress(x)
        rows = np.empty((shape[0], 1))
        assert cso.sparse_dropout_with_replacement(m, 0.5, rows).data.shape == (0,)


@pytest.mark.parametrize(
    ("offsets", "words"),
    [
        ([0, 4, 2, 6], "offsets must not decrease, got 2 at index 2"),
        (np.array([0, 2**63 - 1, -(2**63) + 1, 6]), "offsets must not decrease"),
        ([0, 9], "offsets must go from 0 to 6"),
    ],
)
def test_offsets_are_refused_by_their_own_name(offsets, words):
    with pytest.raises(ValueError, match=words):
        cso.sparse_dropout_segments(np.zeros(6, int), None, 0.5, -1, offsets=offsets)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_no_setting_of_numpy_reaches_a_conversion(dtype):
    """Tiny and huge numbers of every width, where NumPy raises whatever it can."""
    tiny = np.array([[1e-45, 6e-8, 1.0], [1e-8, 0.0, 2.0]]).astype(dtype)
    wide = tiny.astype(np.float64) * 1e-300
    E = np.ones((3, 2), np.float32)
    sparse = compress(wide)
    h = Hierarchy.balanced(2)
    with np.errstate(all="raise"):
        for x in (tiny, wide):
            cso.sparse_normalize(x, axis=1)
            cso.sparse_normalize(x.copy(), axis=0, copy=False, threshold=1e-300)
            cso.sparse_dropout_with_replacement(tiny, 0.5, wide[:, :1], rng=0)
            cso.sparse_dropout_with_replacement(x, 0.5, "mean", per="column", rng=0)
            cso.sparse_dropout_gradient(x, np.ones(x.shape, bool), (2, 1))
            weights = np.zeros((1, 3), np.float32)
            cso.hsoftmax_update(x, weights, None, [0, 1], h, cso.SGD(0.1), sample_weight=wide[:, 0])
            cso.hsoftmax(x, weights, wide[0, :1], [0, 1], h, sample_weight=wide[:, 0])
            cso.hsoftmax_log_proba(x, cso.quantize(weights, "int8"), None, h)
        cso.embedding_bag(sparse, E)
        trainer = cso.BagTrainer(cso.BagModel.create(h, 3, hidden_dim=2, rng=0), epochs=1)
        list(trainer.fit(sparse, [0, 1], sample_weight=wide[:, 0]))
        Hierarchy.huffman(wide[0])
        Hierarchy.huffman(wide[0]).report(wide[0], dim=3)


# ---- arrays that need no conversion go to the core in one step: the answers of those that need one


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_what_needs_no_conversion_gives_the_bytes_of_what_does(dtype, n):
    rng = np.random.default_rng(0)
    h = Hierarchy.huffman(range(1, 30))
    W, b = rng.normal(size=(h.n_rows, 5)).astype(dtype), rng.normal(size=h.n_rows).astype(dtype)
    X, y = rng.normal(size=(n, 5)).astype(dtype), rng.integers(0, 29, n)
    at_once, apart = (X, W, b), (np.asfortranarray(X)[:, :], W[::1].view(), np.repeat(b, 2)[::2])
    assert not apart[2].flags.c_contiguous
    for bias in (True, False):
        a, c = (args if bias else (*args[:2], None) for args in (at_once, apart))
        if not bias:
            c = (np.repeat(X, 2, axis=1)[:, ::2], *c[1:])
        for options in ({}, {"label_smoothing": 0.1, "num_threads": 1, "check_finite": False}):
            fast = cso.hsoftmax_gradient(*a, y, h, **options)
            slow = cso.hsoftmax_gradient(*c, y.tolist(), h, **options)
            assert type(fast) is type(slow) is cso.HSoftmaxGradient
            assert [part.tobytes() for part in fast] == [part.tobytes() for part in slow]
            fast = cso.hsoftmax(*a, y, h, **options)
            assert fast.tobytes() == cso.hsoftmax(*c, y.tolist(), h, **options).tobytes()
            options.pop("label_smoothing", None)
            fast = cso.hsoftmax_search(*a, h, 3, **options)
            slow = cso.hsoftmax_search(*c, h, np.int64(3), **options)
            assert type(fast) is type(slow) is cso.SearchResult
            assert [part.tobytes() for part in fast] == [part.tobytes() for part in slow]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": np.array([2])}, ValueError, "labels must be in [0, 2), got 2 at index 0"),
        ({"labels": np.array([0, 1])}, ValueError, "labels must have one entry a row of X, 1"),
        ({"labels": np.array([0.0])}, TypeError, "labels must have an integer dtype"),
        ({"h": "tree"}, TypeError, "h must be a Hierarchy, got 'tree'"),
        ({"X": np.ones((1, 2))}, ValueError, "W must have shape (1, 2), got (1, 3)"),
        ({"X": np.full((1, 3), np.nan)}, ValueError, "X must be finite, got nan"),
        ({"b": np.zeros(2)}, ValueError, "b must have 1 entries, got 2"),
        ({"num_threads": 0}, ValueError, "num_threads must be at least 1, got 0"),
        ({"num_threads": True}, TypeError, "num_threads must be an integer"),
        ({"check_finite": 2}, TypeError, "check_finite must be True or False, got 2"),
        ({"label_smoothing": 1.0}, ValueError, "label_smoothing must be in [0, 1), got 1"),
        ({"label_smoothing": "no"}, TypeError, "label_smoothing must be a real number"),
    ],
)
def test_a_small_call_is_refused_as_a_large_one(change, error, message):
    call = {"X": np.ones((1, 3)), "W": W, "b": B, "labels": np.array([1]), "h": TREE} | change
    for operator in (cso.hsoftmax, cso.hsoftmax_gradient):
        with pytest.raises(error) as refusal:
            operator(**call)
        assert message in str(refusal.value)
    if "labels" in change or "label_smoothing" in change:
        return
    with pytest.raises(error) as refusal:
        cso.hsoftmax_search(**{name: value for name, value in call.items() if name != "labels"})
    assert message in str(refusal.value)
