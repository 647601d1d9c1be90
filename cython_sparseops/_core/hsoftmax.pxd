from cython_sparseops._core.hierarchy cimport HierarchyView, Tree
from cython_sparseops._core.linear cimport SparseRowsView
from cython_sparseops._core.quantize cimport HalfView, QuantizedView
from cython_sparseops._core.types cimport CsrView, MatrixView, int32_t, int64_t, real, span, uint64_t

from libcpp cimport bool as cbool
from libcpp.memory cimport unique_ptr
from libcpp.optional cimport optional

cdef extern from "<sparseops/weights.hpp>" namespace "sparseops" nogil:
    cppclass Weights[T]:
        Weights()
        Weights(MatrixView[const T] rows)
        Weights(QuantizedView rows)
        Weights(SparseRowsView rows)

    QuantizedView as_quantized "static_cast<sparseops::QuantizedView>"(const HalfView& rows)

cdef extern from "<sparseops/hsoftmax.hpp>" namespace "sparseops" nogil:
    cppclass HSoftmaxPlan:
        HSoftmaxPlan(const HierarchyView& h, span[const int64_t] labels, optional[int64_t] ignore_index) except +
        size_t touched_rows()
        size_t n_logits()
        void write_rows(span[int64_t] rows) except +

    cppclass Examples[T]:
        Examples()
        Examples(MatrixView[const T] rows)
        size_t rows()
        size_t cols()

    Examples[float] examples_of_narrow "sparseops::Examples<float>"(CsrView[const float, int32_t] rows)
    Examples[float] examples_of_wide "sparseops::Examples<float>"(CsrView[const float, int64_t] rows)

    cppclass HSoftmaxInput[T]:
        Examples[T] X
        Weights[T] W
        span[const T] b
        span[const T] sample_weight
        cbool scale_loss
        double label_smoothing
        cbool check_finite
        span[const T] residuals

    void cpp_hsoftmax "sparseops::hsoftmax" [T](const HSoftmaxPlan& plan, const HSoftmaxInput[T]& inp, span[T] nll, span[T] residuals, int num_threads) except +
    void cpp_gradient "sparseops::hsoftmax_gradient" [T](const HSoftmaxPlan& plan, const HSoftmaxInput[T]& inp, span[T] nll, MatrixView[T] dX, MatrixView[T] dW, span[T] db, int num_threads) except +
    void cpp_gradient_dense "sparseops::hsoftmax_gradient_dense" [T](const HSoftmaxPlan& plan, const HSoftmaxInput[T]& inp, span[T] nll,
            MatrixView[T] dX, MatrixView[T] dW, span[T] db, int num_threads) except +
    void cpp_log_proba "sparseops::hsoftmax_log_proba" [T](const HierarchyView& h, const HSoftmaxInput[T]& inp, MatrixView[T] out, int num_threads) except +
    void cpp_log_proba_of "sparseops::hsoftmax_log_proba_of" [T](const HierarchyView& h, const HSoftmaxInput[T]& inp, MatrixView[const int64_t] classes,
            MatrixView[T] out, int num_threads) except +
    void cpp_node_log_proba "sparseops::hsoftmax_node_log_proba" [T](const HierarchyView& h, const HSoftmaxInput[T]& inp, MatrixView[T] out, int num_threads) except +
    void cpp_sample "sparseops::hsoftmax_sample" [T](const HierarchyView& h, const HSoftmaxInput[T]& inp, uint64_t seed, MatrixView[int64_t] out, int num_threads) except +


cdef class SparseExamples:
    """Rows of X as CSR (sparseops::Examples), float32, and the arrays that hold them."""
    cdef Examples[float] view
    cdef object kept
    cdef readonly object dtype
    cdef readonly tuple shape


cdef int make_plan(unique_ptr[HSoftmaxPlan]& plan, Tree tree, labels, ignore_index) except -1
# X is an array, or SparseExamples where W is Rows; W is an array, Quantized, HalfRows or Rows; b may be None.
cdef int set_input(HSoftmaxInput[real]* inp, Tree tree, X, W, b, bint check_finite) except -1
# W and b of them alone.
cdef int set_weights(HSoftmaxInput[real]* inp, Tree tree, W, b) except -1
# Of arguments as a user gave them: None, or -1, if they are no Hierarchy, or not True or False, and None or a number.
cdef Tree ready_tree(h)
cdef int ready_threads(check_finite, num_threads)
