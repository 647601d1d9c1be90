from cython_sparseops._core.hierarchy cimport HierarchyView, Tree
from cython_sparseops._core.ndarray cimport take, use_numpy
from cython_sparseops._core.quantize cimport HalfRows, HalfView, Quantized, QuantizedView
from cython_sparseops._core.runtime cimport thread_pool_of_runtime
from cython_sparseops._core.types cimport (
    CsrView,
    MatrixView,
    as_const_csr,
    as_const_matrix,
    as_const_span,
    as_matrix,
    as_span,
    index,
    int64_t,
    real,
    share_thread_pool,
    span,
    uint64_t,
)
from cython_sparseops._core.update cimport Optimizer, Settings, count_steps, set_optimizer

from libcpp cimport bool as cbool

cdef extern from "<sparseops/detail/random.hpp>" namespace "sparseops::detail" nogil:
    void cpp_shuffled_order "sparseops::detail::shuffled_order"(uint64_t seed, uint64_t epoch, span[int64_t] order)

cdef extern from "<sparseops/bag.hpp>" namespace "sparseops" nogil:
    enum class BagMode:
        mean
        sum

    cppclass BagSchedule:
        size_t batch_size
        double decay
        int64_t done
        int64_t total
        cbool check_input
        double dropout
        int64_t replacement
        uint64_t seed
        uint64_t epoch
        span[const int64_t] place
        double label_smoothing

    void cpp_embedding_bag "sparseops::embedding_bag" [T, I](CsrView[const T, I] X, MatrixView[const T] E, BagMode mode, MatrixView[T] out,
            int num_threads) except +
    double cpp_bag_train "sparseops::bag_train" [T, I](const HierarchyView& h, CsrView[const T, I] X, span[const int64_t] labels, span[const T] sample_weight,
            span[const int64_t] order, BagMode mode, MatrixView[T] E, MatrixView[T] W, span[T] b, Optimizer[T]& E_optimizer, Optimizer[T]& W_optimizer,
            const BagSchedule& schedule, int num_threads) except +
    double cpp_dense_train "sparseops::dense_train" [T](const HierarchyView& h, MatrixView[const T] X, span[const int64_t] labels, span[const T] sample_weight,
            span[const int64_t] order, MatrixView[T] W, span[T] b, Optimizer[T]& W_optimizer, const BagSchedule& schedule, int num_threads) except +
    void cpp_embed_halves "sparseops::embedding_bag" [I](CsrView[const float, I] X, const QuantizedView& E, BagMode mode, MatrixView[float] out,
            int num_threads) except +
    double cpp_train_halves "sparseops::bag_train" [I](const HierarchyView& h, CsrView[const float, I] X, span[const int64_t] labels,
            span[const float] sample_weight, span[const int64_t] order, BagMode mode, const HalfView& E, const HalfView& W, span[float] b,
            Optimizer[float]& E_optimizer, Optimizer[float]& W_optimizer, const BagSchedule& schedule, int num_threads) except +
    double cpp_train_dense_halves "sparseops::dense_train"(const HierarchyView& h, MatrixView[const float] X, span[const int64_t] labels,
            span[const float] sample_weight, span[const int64_t] order, const HalfView& W, span[float] b, Optimizer[float]& W_optimizer,
            const BagSchedule& schedule, int num_threads) except +

share_thread_pool(thread_pool_of_runtime())
use_numpy()


def embedding_bag(const index[::1] indptr, const index[::1] indices, const real[::1] data, const real[:, ::1] E, bint mean, real[:, ::1] out, int num_threads):
    cdef BagMode mode = BagMode.mean if mean else BagMode.sum
    with nogil:
        cpp_embedding_bag(as_const_csr(&indptr[0], indptr.shape[0] - 1, &indices[0], &data[0], data.shape[0], E.shape[0]),
                          as_const_matrix(&E[0, 0], E.shape[0], E.shape[1]), mode,
                          as_matrix(&out[0, 0], out.shape[0], out.shape[1]), num_threads)


def embed_halves(const index[::1] indptr, const index[::1] indices, const float[::1] data, Quantized E not None, bint mean, float[:, ::1] out,
                 int num_threads):
    cdef BagMode mode = BagMode.mean if mean else BagMode.sum
    with nogil:
        cpp_embed_halves(as_const_csr(&indptr[0], indptr.shape[0] - 1, &indices[0], &data[0], data.shape[0], E.view.rows), E.view, mode,
                         as_matrix(&out[0, 0], out.shape[0], out.shape[1]), num_threads)


def shuffled_order(uint64_t seed, uint64_t epoch, int64_t[::1] order):
    with nogil:
        cpp_shuffled_order(seed, epoch, as_span(&order[0], order.shape[0]))


cdef class Schedule:
    """BagSchedule of <sparseops/bag.hpp> and the threads, by names."""
    cdef BagSchedule of
    cdef int num_threads
    cdef object kept

    def __init__(self, *, size_t batch_size, double decay, int64_t done, int64_t total, bint check_input, int num_threads,
                 double dropout, int64_t replacement, uint64_t seed, uint64_t epoch, double label_smoothing,
                 const int64_t[::1] place=None):
        self.of.batch_size, self.of.decay, self.of.done, self.of.total = batch_size, decay, done, total
        self.of.check_input, self.num_threads = check_input, num_threads
        self.of.dropout, self.of.replacement, self.of.seed, self.of.epoch = dropout, replacement, seed, epoch
        self.of.label_smoothing = label_smoothing
        if place is not None:
            self.kept = place
            self.of.place = as_const_span(&place[0], place.shape[0])


# Whatever interrupts a training, weights, counts and history belong together: no bytecode runs, and so no signal is noticed, between a
# call of C++ and count_steps and this.
cdef int keep(record, size_t examples, int64_t total, double nll) except -1:
    history, kind, epoch, done, lr = record
    history.append(tuple.__new__(kind, (epoch, done, total, nll / examples, lr)))
    return 0


def bag_train(Tree tree not None, const index[::1] indptr, const index[::1] indices, const real[::1] data, E, W, real[::1] b, *, bint mean,
              const int64_t[::1] labels, const real[::1] weight, const int64_t[::1] order, Settings E_optimizer not None,
              Settings W_optimizer not None, Schedule schedule not None, record):
    """E and W: arrays of the type of data, or HalfRows where that is float32."""
    cdef Optimizer[real] E_steps, W_steps
    cdef span[const real] weights
    cdef MatrixView[real] E_view, W_view
    cdef HalfView E_halves, W_halves
    cdef BagMode mode = BagMode.mean if mean else BagMode.sum
    cdef bint is_half = isinstance(E, HalfRows)
    cdef double nll = 0
    set_optimizer[real](&E_steps, E_optimizer)
    set_optimizer[real](&W_steps, W_optimizer)
    if weight is not None:
        weights = as_const_span(&weight[0], weight.shape[0])
    if is_half:
        E_halves, W_halves = (<HalfRows>E).view, (<HalfRows?>W).view
    else:
        take(E, E_view)
        take(W, W_view)
    try:
        with nogil:
            if not is_half:
                nll = cpp_bag_train(
                    tree.view[0], as_const_csr(&indptr[0], indptr.shape[0] - 1, &indices[0], &data[0], data.shape[0], E_view.rows),
                    as_const_span(&labels[0], labels.shape[0]), weights, as_const_span(&order[0], order.shape[0]), mode, E_view, W_view,
                    as_span(&b[0], b.shape[0]), E_steps, W_steps, schedule.of, schedule.num_threads)
            elif real is float:
                nll = cpp_train_halves(
                    tree.view[0], as_const_csr(&indptr[0], indptr.shape[0] - 1, &indices[0], &data[0], data.shape[0], E_halves.rows),
                    as_const_span(&labels[0], labels.shape[0]), weights, as_const_span(&order[0], order.shape[0]), mode, E_halves, W_halves,
                    as_span(&b[0], b.shape[0]), E_steps, W_steps, schedule.of, schedule.num_threads)
    finally:  # after a refusal too: steps before it were made
        count_steps(E_optimizer, E_steps.step)
        count_steps(W_optimizer, W_steps.step)
    keep(record, order.shape[0], schedule.of.total, nll)


def dense_train(Tree tree not None, const real[:, ::1] X, W, real[::1] b, *, const int64_t[::1] labels, const real[::1] weight,
                const int64_t[::1] order, Settings W_optimizer not None, Schedule schedule not None, record):
    """W as in `bag_train`."""
    cdef Optimizer[real] W_steps
    cdef span[const real] weights
    cdef MatrixView[real] W_view
    cdef HalfView W_halves
    cdef bint is_half = isinstance(W, HalfRows)
    cdef double nll = 0
    set_optimizer[real](&W_steps, W_optimizer)
    if weight is not None:
        weights = as_const_span(&weight[0], weight.shape[0])
    if is_half:
        W_halves = (<HalfRows>W).view
    else:
        take(W, W_view)
    try:
        with nogil:
            if not is_half:
                nll = cpp_dense_train(tree.view[0], as_const_matrix(&X[0, 0], X.shape[0], X.shape[1]),
                                      as_const_span(&labels[0], labels.shape[0]), weights, as_const_span(&order[0], order.shape[0]), W_view,
                                      as_span(&b[0], b.shape[0]), W_steps, schedule.of, schedule.num_threads)
            elif real is float:
                nll = cpp_train_dense_halves(tree.view[0], as_const_matrix(&X[0, 0], X.shape[0], X.shape[1]),
                                             as_const_span(&labels[0], labels.shape[0]), weights, as_const_span(&order[0], order.shape[0]),
                                             W_halves, as_span(&b[0], b.shape[0]), W_steps, schedule.of, schedule.num_threads)
    finally:
        count_steps(W_optimizer, W_steps.step)
    keep(record, order.shape[0], schedule.of.total, nll)
