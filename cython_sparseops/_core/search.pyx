from cython_sparseops._core.hierarchy cimport HierarchyView, Tree
from cython_sparseops._core.hsoftmax cimport HSoftmaxInput, set_input
from cython_sparseops._core.ndarray cimport take, use_numpy
from cython_sparseops._core.runtime cimport thread_pool_of_runtime
from cython_sparseops._core.types cimport MatrixView, as_span, int64_t, real, share_thread_pool, span

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


def search(Tree tree not None, X, W, b, classes, log_probs, real[::1] bound, *, size_t k, beam, edge_beam, bint nodes, min_prob,
           bint check_finite, int num_threads):
    cdef HSoftmaxInput[real] inp
    cdef MatrixView[int64_t] classes_view
    cdef MatrixView[real] log_probs_view
    cdef SearchOptions options
    set_input[real](&inp, tree, X, W, b, check_finite)
    take(classes, classes_view)
    take(log_probs, log_probs_view)
    options.k = k
    options.nodes = nodes
    if beam is not None:
        options.beam = <int64_t>beam
    if edge_beam is not None:
        options.edge_beam = <double>edge_beam
    if min_prob is not None:
        options.min_prob = <double>min_prob
    with nogil:
        cpp_search(tree.view[0], inp, options, classes_view, log_probs_view, as_span(&bound[0], bound.shape[0]), num_threads)
