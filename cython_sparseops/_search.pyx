from cython_sparseops._hierarchy cimport HierarchyView, Tree
from cython_sparseops._hsoftmax cimport HSoftmaxInput, as_scored_input
from cython_sparseops._ndarray cimport take, use_numpy
from cython_sparseops._runtime cimport thread_pool_of_runtime
from cython_sparseops._types cimport MatrixView, int64_t, real, share_thread_pool, span

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
            MatrixView[int64_t] classes, MatrixView[T] log_probs, span[T] bound) except +

share_thread_pool(thread_pool_of_runtime())
use_numpy()


def search(Tree tree not None, const real[:, ::1] X, W, b, bint check_finite, size_t k, beam, edge_beam, bint nodes, min_prob,
           classes, log_probs, bound, int num_threads):
    cdef HSoftmaxInput[real] inp = as_scored_input[real](X, W, b, check_finite, num_threads)
    cdef MatrixView[int64_t] found
    cdef MatrixView[real] how_likely
    cdef span[real] left
    cdef SearchOptions options
    take(classes, found)
    take(log_probs, how_likely)
    take(bound, left)
    options.k = k
    options.nodes = nodes
    if beam is not None:
        options.beam = <int64_t>beam
    if edge_beam is not None:
        options.edge_beam = <double>edge_beam
    if min_prob is not None:
        options.min_prob = <double>min_prob
    with nogil:
        cpp_search(tree.view[0], inp, options, found, how_likely, left)
