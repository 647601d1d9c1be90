from cython_sparseops._core.hierarchy cimport HierarchyView, Tree
from cython_sparseops._core.hsoftmax cimport HSoftmaxInput, set_input
from cython_sparseops._core.ndarray cimport is_float64, new_matrix, new_vector, use_numpy
from cython_sparseops._core.runtime cimport thread_pool_of_runtime
from cython_sparseops._core.types cimport MatrixView, int64_t, real, share_thread_pool, span

from libcpp cimport bool as cbool
from libcpp.optional cimport optional

cdef extern from "<sparseops/search.hpp>" namespace "sparseops" nogil:
    cppclass SearchOptions:
        size_t k
        optional[int64_t] beam
        optional[double] edge_beam
        cbool nodes
        optional[double] min_prob

    void cpp_search "sparseops::hsoftmax_search" [T](const HierarchyView& h, const HSoftmaxInput[T]& inp, const SearchOptions& options,
            MatrixView[int64_t] classes, MatrixView[T] log_probs, span[T] bound, int num_threads) except +

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
