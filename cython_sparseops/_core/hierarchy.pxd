from cython_sparseops._core.types cimport CsrView, MatrixView, int32_t, int64_t, span, uint8_t, uint64_t

from libcpp cimport bool as cbool
from libcpp.optional cimport optional
from libcpp.vector cimport vector

cdef extern from "<sparseops/hierarchy.hpp>" namespace "sparseops" nogil:
    cppclass CppHierarchy "sparseops::Hierarchy":
        vector[int64_t] path_ptr
        vector[int32_t] path_node
        vector[int32_t] path_child
        vector[int64_t] child_ptr
        vector[int32_t] child
        vector[int64_t] row_ptr

    cppclass HierarchyView:
        span[const int64_t] path_ptr
        span[const int32_t] path_node
        span[const int32_t] path_child
        span[const int64_t] child_ptr
        span[const int32_t] child
        span[const int64_t] row_ptr
        cbool independent
        int32_t depth
        size_t rows()

    cppclass CppPiece "sparseops::Piece":
        CppHierarchy tree
        vector[int64_t] nodes
        vector[int64_t] rows
        vector[int64_t] exits
        vector[int64_t] places
        double work

    cppclass CppPieces "sparseops::Pieces":
        vector[CppPiece] pieces
        vector[int64_t] class_place

    cppclass HierarchyIndex:
        HierarchyIndex()
        HierarchyIndex(const HierarchyView& arrays) except +
        const HierarchyView& view()

    enum class PruneBy:
        min_count
        max_nodes
        max_depth

    CppHierarchy cpp_huffman "sparseops::huffman"(span[const double] counts, int arity, optional[int] max_depth, cbool logistic) except +
    CppHierarchy cpp_balanced "sparseops::balanced"(int64_t n_classes, int arity, cbool logistic) except +
    CppHierarchy cpp_two_level "sparseops::two_level"(int64_t n_classes, span[const double] counts, int64_t n_groups, cbool logistic) except +
    CppHierarchy cpp_from_parents "sparseops::from_parents"(span[const int64_t] parents, span[const int64_t] classes, span[const double] counts, int max_children, cbool logistic) except +
    CppHierarchy cpp_from_paths "sparseops::from_paths"(span[const int64_t] path_ptr, span[const int64_t] path_node, span[const int64_t] path_child, span[const uint8_t] logistic) except +
    CppHierarchy cpp_optimal_codes "sparseops::optimal_codes"(const HierarchyView& h, span[const double] counts) except +
    CppHierarchy cpp_prune "sparseops::prune"(const HierarchyView& h, span[const double] counts, PruneBy by, double limit) except +
    CppPieces cpp_split "sparseops::split"(const HierarchyView& h, span[const double] counts, int64_t n_parts) except +

cdef extern from "<sparseops/cluster.hpp>" namespace "sparseops" nogil:
    enum class Balance:
        automatic
        classes
        mass

    cppclass ClusterOptions:
        int arity
        int64_t leaf
        span[const double] counts
        Balance balance
        uint64_t seed

    CppHierarchy cpp_cluster "sparseops::cluster" [I](CsrView[const float, I] vectors, const ClusterOptions& options, int num_threads) except +
    CppHierarchy cpp_cluster_dense "sparseops::cluster"(MatrixView[const float] vectors, const ClusterOptions& options, int num_threads) except +


cdef class Tree:
    """A checked tree for the compiled operators; keeps the arrays that it looks at alive."""
    cdef object arrays
    cdef HierarchyIndex index
    cdef const HierarchyView* view
