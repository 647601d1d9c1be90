from cython_sparseops._core.hierarchy cimport HierarchyView, Tree
from cython_sparseops._core.hsoftmax cimport HSoftmaxInput, set_input
from cython_sparseops._core.ndarray cimport is_float64, new_matrix, new_vector, use_numpy
from cython_sparseops._core.runtime cimport thread_pool_of_runtime
from cython_sparseops._core.types cimport MatrixView, as_const_matrix, as_const_span, as_span, int64_t, real, share_thread_pool, span

from libcpp cimport bool as cbool
from libcpp.optional cimport optional
from libcpp.vector cimport vector

cdef extern from "<sparseops/search.hpp>" namespace "sparseops" nogil:
    cppclass SearchOptions:
        size_t k
        optional[int64_t] beam
        optional[double] edge_beam
        cbool nodes
        optional[double] min_prob

    void cpp_search "sparseops::hsoftmax_search" [T](const HierarchyView& h, const HSoftmaxInput[T]& inp, const SearchOptions& options,
            MatrixView[int64_t] classes, MatrixView[T] log_probs, span[T] bound, int num_threads) except +

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


def log_mean_exp(const float[:, ::1] log_p, float[::1] out, int num_threads):
    cdef MatrixView[const float] rows = as_const_matrix(&log_p[0, 0], log_p.shape[0], log_p.shape[1])
    with nogil:
        cpp_log_mean_exp(rows, as_span(&out[0], out.shape[0]), num_threads)
