from cython_sparseops._core.hierarchy cimport HierarchyView, Tree
from cython_sparseops._core.types cimport CsrView, LabelsView, int32_t, int64_t, span, uint8_t, uint16_t, uint64_t

from libcpp.memory cimport unique_ptr
from libcpp.vector cimport vector

cdef extern from "<algorithm>" nogil:
    bint same_entries "std::ranges::equal"(span[const int64_t] a, span[const int64_t] b)

cdef extern from "<sparseops/weights.hpp>" namespace "sparseops" nogil:
    cppclass SparseRowsView:
        span[const int64_t] row_ptr
        span[const int64_t] feature_ptr
        span[const int32_t] feature
        span[const int64_t] entry_ptr
        span[const uint16_t] slot
        span[const float] weight
        span[const float] bias
        span[const float] temperature
        size_t features

    cppclass SparseRows:
        vector[int64_t] row_ptr
        vector[int64_t] feature_ptr
        vector[int32_t] feature
        vector[int64_t] entry_ptr
        vector[uint16_t] slot
        vector[float] weight
        vector[float] bias
        vector[float] temperature

    void require_sparse_rows(const SparseRowsView& W) except +
    SparseRows cpp_prune "sparseops::prune"(const SparseRowsView& W, float threshold) except +

cdef extern from "<sparseops/linear.hpp>" namespace "sparseops" nogil:
    enum class LinearLoss:
        squared_hinge
        softmax
        logistic

    cppclass LinearOptions:
        LinearLoss loss
        double C
        float threshold
        double tol
        int max_iter
        span[const float] sample_weight
        span[const float] class_weight
        double validation
        bint clustered
        bint class_term
        uint64_t seed
        const SparseRowsView* start

    cppclass LinearTrainer:
        size_t tasks()
        size_t done()
        double progress()
        size_t piece()
        void run(size_t n) except +
        void keep_share(size_t share, size_t shares) except +
        vector[uint8_t] trained() except +
        void take(span[const uint8_t] trained) except +
        SparseRows finish() except +

cdef extern from "linear.hpp" nogil:
    unique_ptr[LinearTrainer] new_trainer[I](const HierarchyView& h, CsrView[const float, I] X, const LabelsView& labels,
                                             const LinearOptions& options, int num_threads) except +


cdef class Rows:
    """Checked sparse rows (sparseops::SparseRowsView), and the arrays that hold them."""
    cdef SparseRowsView view
    cdef object kept
    cdef Tree tree  # the last one that was found to have these rows
    cdef SparseRowsView of(self, Tree tree)
