from cython_sparseops._core.hsoftmax cimport HSoftmaxInput, HSoftmaxPlan
from cython_sparseops._core.quantize cimport HalfView
from cython_sparseops._core.types cimport MatrixView, int64_t, real, span, uint64_t

cdef extern from "<sparseops/update.hpp>" namespace "sparseops" nogil:
    enum class Method:
        sgd
        adagrad
        rowwise_adagrad
        adam

    cppclass Optimizer[T]:
        Method method
        double lr
        double weight_decay
        double eps
        double beta1
        double beta2
        double max_norm
        int64_t step
        MatrixView[T] first
        MatrixView[T] second
        span[T] b_first
        span[T] b_second
        HalfView half_first

    void cpp_update "sparseops::hsoftmax_update" [T](const HSoftmaxPlan& plan, const HSoftmaxInput[T]& inp, MatrixView[T] W, span[T] b,
            const Optimizer[T]& optimizer, span[T] nll, MatrixView[T] dX, int num_threads) except +
    void cpp_update_halves "sparseops::hsoftmax_update"(const HSoftmaxPlan& plan, const HSoftmaxInput[float]& inp, const HalfView& W, span[float] b,
            const Optimizer[float]& optimizer, uint64_t seed, span[float] nll, MatrixView[float] dX, int num_threads) except +

    void cpp_step_rows "sparseops::step_rows" [T](span[const int64_t] rows, MatrixView[const T] dW, span[const T] db, MatrixView[T] W, span[T] b,
            const Optimizer[T]& optimizer, int num_threads) except +


cdef class Settings:
    """An optimizer for one call: its numbers, and its state for W and b, (first, second, b_first, b_second), each None or an array."""
    cdef Method method
    cdef readonly double lr, weight_decay, eps, beta1, beta2
    cdef readonly int64_t step
    cdef public double max_norm
    cdef public tuple state
    cdef object owner


cdef int set_optimizer(Optimizer[real]* o, Settings settings) except -1
# The owner's count after a call: `step` is the next one.
cdef int count_steps(Settings settings, int64_t step) except -1
