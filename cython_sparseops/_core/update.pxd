from cython_sparseops._core.hsoftmax cimport HSoftmaxInput, HSoftmaxPlan
from cython_sparseops._core.types cimport MatrixView, int64_t, real, span

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

    void cpp_update "sparseops::hsoftmax_update" [T](const HSoftmaxPlan& plan, const HSoftmaxInput[T]& inp, MatrixView[T] W, span[T] b,
            const Optimizer[T]& optimizer, span[T] nll, MatrixView[T] dX) except +


cdef class Settings:
    """The numbers of an optimiser; its state comes with each call."""
    cdef Method method
    cdef public double lr, weight_decay, eps, beta1, beta2, max_norm
    cdef public int64_t step


cdef int set_optimizer(Optimizer[real]* o, Settings settings, first, second, b_first, b_second) except -1
