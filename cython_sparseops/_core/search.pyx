from cython_sparseops._core.hierarchy cimport HierarchyView, Tree
from cython_sparseops._core.hsoftmax cimport Examples, HSoftmaxInput, ready_threads, ready_tree, set_input, set_weights
from cython_sparseops._core.ndarray cimport ConstCsr, PyArray_CheckExact, are_all_ready, is_float64, is_ready_for, new_matrix, new_vector, take, take_row, take_rows, use_numpy
from cython_sparseops._core.runtime cimport thread_pool_of_runtime
from cython_sparseops._core.types cimport (
    MatrixView,
    as_const_matrix,
    as_const_span,
    as_span,
    index,
    int32_t,
    int64_t,
    real,
    share_thread_pool,
    span,
)

from libcpp cimport bool as cbool
from libcpp.optional cimport optional
from libcpp.vector cimport vector

cdef extern from "<sparseops/bag.hpp>" namespace "sparseops" nogil:
    enum class BagMode:
        mean
        sum

cdef extern from "<sparseops/search.hpp>" namespace "sparseops" nogil:
    cppclass SearchOptions:
        size_t k
        optional[int64_t] beam
        optional[double] edge_beam
        cbool nodes
        optional[double] min_prob

    void cpp_search "sparseops::hsoftmax_search" [T](const HierarchyView& h, const HSoftmaxInput[T]& inp, const SearchOptions& options,
            MatrixView[int64_t] classes, MatrixView[T] log_probs, span[T] bound, int num_threads) except +

    Examples[float] examples_of "sparseops::Examples<float>"(ConstCsr[float, int32_t] rows)
    Examples[float] examples_of "sparseops::Examples<float>"(ConstCsr[float, int64_t] rows)
    void cpp_bag_search "sparseops::bag_search" [T, I](ConstCsr[T, I] X, MatrixView[const T] E, BagMode mode, const HierarchyView& h,
            const HSoftmaxInput[T]& inp, const SearchOptions& options, MatrixView[int64_t] classes, MatrixView[T] log_probs, span[T] bound,
            int num_threads) except +

    cppclass SearchTree:
        const HierarchyView* h
        HSoftmaxInput[float] inp "in"

    void cpp_search_mean "sparseops::hsoftmax_search_mean" (span[const SearchTree] trees, size_t k, optional[int64_t] beam,
            MatrixView[int64_t] classes, MatrixView[float] log_probs, int num_threads) except +
    void cpp_log_mean_exp "sparseops::log_mean_exp" (MatrixView[const float] log_p, span[float] out, int num_threads) except +

share_thread_pool(thread_pool_of_runtime())
use_numpy()


def search(Tree tree not None, X, W, b, size_t k, beam, edge_beam, bint nodes, min_prob, bint check_finite, int num_threads):
    """(classes, log_probs, bound)"""
    return search_with(tree, X, W, b, k, beam, edge_beam, nodes, min_prob, check_finite, num_threads)


def search_at_once(X, W, b, h, k, beam, edge_beam, nodes, min_prob, check_finite, num_threads, type kind not None):
    """The same as a `kind` of tuple, of the arguments as a user gave them; None where one is of another type than most."""
    cdef Tree tree = ready_tree(h)
    cdef int threads = ready_threads(check_finite, num_threads)
    if tree is None or threads < 0 or beam is not None or edge_beam is not None or nodes is not False or min_prob is not None:
        return None
    if type(k) is not int or not 0 < k < 0x7fffffff or not are_all_ready(X, W, b):
        return None
    return tuple.__new__(kind, search_with(tree, X, W, b, k, None, None, False, None, check_finite, threads))


cdef tuple search_with(Tree tree, X, W, b, size_t k, beam, edge_beam, bint nodes, min_prob, bint check_finite, int num_threads):
    cdef HSoftmaxInput[float] narrow
    cdef HSoftmaxInput[double] wide
    cdef SearchOptions options
    options.k = k
    options.nodes = nodes
    if beam is not None:
        options.beam = <int64_t>beam
    if edge_beam is not None:
        options.edge_beam = <double>edge_beam
    if min_prob is not None:
        options.min_prob = <double>min_prob
    if is_float64(X):
        set_input[double](&wide, tree, X, W, b, check_finite)
        return found(&wide, tree, options, num_threads)
    set_input[float](&narrow, tree, X, W, b, check_finite)
    return found(&narrow, tree, options, num_threads)


cdef tuple found(HSoftmaxInput[real]* inp, Tree tree, const SearchOptions& options, int num_threads):
    cdef MatrixView[int64_t] classes_view
    cdef MatrixView[real] log_probs_view
    cdef span[real] bound_view
    cdef size_t n = inp.X.rows()
    if options.k > (<size_t>1 << 59) / (n + 1):
        raise ValueError(f"k must be small enough for an array, got {options.k}")
    classes, log_probs = new_matrix(n, options.k, False, classes_view), new_matrix(n, options.k, False, log_probs_view)
    bound = new_vector(n, False, bound_view)
    with nogil:
        cpp_search(tree.view[0], inp[0], options, classes_view, log_probs_view, bound_view, num_threads)
    return classes, log_probs, bound


def search_mean(list trees not None, X, list weights not None, size_t k, beam, int num_threads):
    cdef vector[SearchTree] forest
    cdef MatrixView[int64_t] classes_view
    cdef MatrixView[float] log_probs_view
    cdef optional[int64_t] width
    cdef Tree tree
    cdef size_t t
    forest.resize(len(trees))
    for t in range(forest.size()):
        tree = trees[t]
        set_input[float](&forest[t].inp, tree, X, weights[t], None, True)
        forest[t].h = tree.view
    cdef size_t n = forest[0].inp.X.rows()
    if k > (<size_t>1 << 59) / (n + 1):
        raise ValueError(f"k must be small enough for an array, got {k}")
    classes, log_probs = new_matrix(n, k, False, classes_view), new_matrix(n, k, False, log_probs_view)
    if beam is not None:
        width = <int64_t>beam
    with nogil:
        cpp_search_mean(as_const_span(forest.data(), forest.size()), k, width, classes_view, log_probs_view, num_threads)
    return classes, log_probs


def bag_search(Tree tree not None, indptr, indices, data, E, bint mean, W, b, size_t k, int num_threads):
    """(classes, log_probs) of rows of features."""
    cdef ConstCsr[float, int32_t] narrow32
    cdef ConstCsr[float, int64_t] narrow64
    cdef ConstCsr[double, int32_t] wide32
    cdef ConstCsr[double, int64_t] wide64
    cdef BagMode mode = BagMode.mean if mean else BagMode.sum
    if is_float64(E):
        if is_ready_for[int32_t](indptr, 1):
            take_rows(indptr, indices, data, len(E), wide32)
            return found_of_bags(&wide32, tree, E, mode, W, b, k, num_threads)
        take_rows(indptr, indices, data, len(E), wide64)
        return found_of_bags(&wide64, tree, E, mode, W, b, k, num_threads)
    if is_ready_for[int32_t](indptr, 1):
        take_rows(indptr, indices, data, len(E), narrow32)
        return found_of_bags(&narrow32, tree, E, mode, W, b, k, num_threads)
    take_rows(indptr, indices, data, len(E), narrow64)
    return found_of_bags(&narrow64, tree, E, mode, W, b, k, num_threads)


cdef tuple found_of_bags(ConstCsr[real, index]* X, Tree tree, E, BagMode mode, W, b, size_t k, int num_threads):
    cdef HSoftmaxInput[real] inp
    cdef SearchOptions options
    cdef MatrixView[const real] E_view
    cdef MatrixView[int64_t] classes_view
    cdef MatrixView[real] log_probs_view
    cdef span[real] bound_view
    cdef size_t n = X.rows()
    options.k = k
    take(E, E_view)
    set_weights[real](&inp, tree, W, b)
    if k > (<size_t>1 << 59) / (n + 1):
        raise ValueError(f"k must be small enough for an array, got {k}")
    classes, log_probs = new_matrix(n, k, False, classes_view), new_matrix(n, k, False, log_probs_view)
    _bound = new_vector(n, False, bound_view)
    with nogil:
        cpp_bag_search(X[0], E_view, mode, tree.view[0], inp, options, classes_view, log_probs_view, bound_view, num_threads)
    return classes, log_probs


cdef class RowSearch:
    """A model that answers single rows of features: embeddings before one tree, or trees of sparse rows without embeddings.

    `kind`: a tuple of labels and log-probabilities, which it makes.
    """
    cdef list trees, weights
    cdef object E, b, labels
    cdef type kind
    cdef BagMode mode
    cdef bint wide
    cdef size_t features
    cdef int num_threads

    def __init__(self, list trees not None, list weights not None, b, E, bint mean, size_t features, labels not None, type kind not None,
                 int num_threads):
        self.trees, self.weights, self.E, self.b, self.labels, self.kind = trees, weights, E, b, labels, kind
        self.mode = BagMode.mean if mean else BagMode.sum
        self.wide, self.features, self.num_threads = is_float64(E), features, num_threads

    def __call__(self, ids, weights, k):
        """None unless these are vectors of integers and of the model's dtype of one length, and an integer in [1, C]."""
        if not (PyArray_CheckExact(ids) and PyArray_CheckExact(weights) and type(k) is int and 0 < k <= len(self.labels)):
            return None
        if len(ids) != len(weights):
            return None
        cdef size_t count = k
        cdef int32_t ends32[2]
        cdef int64_t ends64[2]
        cdef ConstCsr[float, int32_t] narrow32
        cdef ConstCsr[float, int64_t] narrow64
        cdef ConstCsr[double, int32_t] wide32
        cdef ConstCsr[double, int64_t] wide64
        if is_ready_for[int32_t](ids, 1) and len(ids) < 0x7fffffff:
            if self.wide and is_ready_for[double](weights, 1):
                take_row(ids, weights, self.features, ends32, wide32)
                return answer(&wide32, self, count)
            if not self.wide and is_ready_for[float](weights, 1):
                take_row(ids, weights, self.features, ends32, narrow32)
                return answer(&narrow32, self, count)
        elif is_ready_for[int64_t](ids, 1):
            if self.wide and is_ready_for[double](weights, 1):
                take_row(ids, weights, self.features, ends64, wide64)
                return answer(&wide64, self, count)
            if not self.wide and is_ready_for[float](weights, 1):
                take_row(ids, weights, self.features, ends64, narrow64)
                return answer(&narrow64, self, count)
        return None


cdef object answer(ConstCsr[real, index]* X, RowSearch model, size_t k):
    cdef HSoftmaxInput[real] inp
    cdef vector[SearchTree] forest
    cdef SearchOptions options
    cdef MatrixView[const real] E_view
    cdef MatrixView[int64_t] classes_view
    cdef MatrixView[real] log_probs_view
    cdef span[real] bound_view
    cdef Tree tree = model.trees[0]
    cdef size_t t
    cdef real bound
    bound_view = as_span(&bound, 1)
    options.k = k
    classes, log_probs = new_matrix(1, k, False, classes_view), new_matrix(1, k, False, log_probs_view)
    if model.E is not None:
        take(model.E, E_view)
        set_weights[real](&inp, tree, model.weights[0], model.b)
        with nogil:
            cpp_bag_search(X[0], E_view, model.mode, tree.view[0], inp, options, classes_view, log_probs_view, bound_view, model.num_threads)
    elif real is float:
        if len(model.trees) == 1:
            set_weights[real](&inp, tree, model.weights[0], None)
            inp.X = examples_of(X[0])
            with nogil:
                cpp_search(tree.view[0], inp, options, classes_view, log_probs_view, bound_view, model.num_threads)
        else:
            forest.resize(len(model.trees))
            for t in range(forest.size()):
                tree = model.trees[t]
                set_weights[float](&forest[t].inp, tree, model.weights[t], None)
                forest[t].inp.X = examples_of(X[0])
                forest[t].h = tree.view
            with nogil:
                cpp_search_mean(as_const_span(forest.data(), forest.size()), k, options.beam, classes_view, log_probs_view, model.num_threads)
    return tuple.__new__(model.kind, (model.labels[classes[0]].tolist(), log_probs[0].tolist()))


def log_mean_exp(const float[:, ::1] log_p, float[::1] out, int num_threads):
    cdef MatrixView[const float] rows = as_const_matrix(&log_p[0, 0], log_p.shape[0], log_p.shape[1])
    with nogil:
        cpp_log_mean_exp(rows, as_span(&out[0], out.shape[0]), num_threads)
