from cython_sparseops._core.hierarchy cimport Tree
from cython_sparseops._core.hsoftmax cimport make_plan, set_input
from cython_sparseops._core.ndarray cimport is_float64, new_matrix, new_vector, take, use_numpy
from cython_sparseops._core.quantize cimport HalfRows, HalfView
from cython_sparseops._core.runtime cimport thread_pool_of_runtime
from cython_sparseops._core.types cimport share_thread_pool, uint64_t

from libcpp.memory cimport unique_ptr

share_thread_pool(thread_pool_of_runtime())
use_numpy()


cdef dict METHODS = {"sgd": Method.sgd, "adagrad": Method.adagrad, "rowwise_adagrad": Method.rowwise_adagrad, "adam": Method.adam}


cdef class Settings:
    """`owner.step_count` follows the steps that are made; `step`: the next one, from 1."""

    def __init__(self, str method, owner, int64_t step, double lr, double weight_decay, double eps, double beta1, double beta2):
        if method not in METHODS:
            raise ValueError(f"method must be sgd, adagrad, rowwise_adagrad or adam, got {method}")
        self.method, self.owner, self.step = METHODS[method], owner, step
        self.lr, self.weight_decay, self.eps, self.beta1, self.beta2 = lr, weight_decay, eps, beta1, beta2


cdef int set_optimizer(Optimizer[real]* o, Settings settings) except -1:
    o.method = settings.method
    o.lr, o.weight_decay, o.eps = settings.lr, settings.weight_decay, settings.eps
    o.max_norm = settings.max_norm
    o.beta1, o.beta2, o.step = settings.beta1, settings.beta2, settings.step
    first, second, b_first, b_second = settings.state
    if isinstance(first, HalfRows):
        o.half_first = (<HalfRows>first).view
    elif first is not None:
        take(first, o.first)
    if second is not None:
        take(second, o.second)
    if b_first is not None:
        take(b_first, o.b_first)
    if b_second is not None:
        take(b_second, o.b_second)
    return 0


cdef int count_steps(Settings settings, int64_t step) except -1:
    settings.owner.step_count = step - 1
    return 0


def update(Tree tree not None, X, W, b, labels, ignore_index, weight, bint scale_loss, double label_smoothing,
           Settings optimizer not None, uint64_t seed, bint check_finite, int num_threads):
    """(nll, dX); W, b and the state are stepped, and so is the owner's count: no interrupt comes in between. W: an array, or HalfRows,
    which are rounded by the seed."""
    cdef HSoftmaxInput[float] narrow
    cdef HSoftmaxInput[double] wide
    if is_float64(X):
        set_input[double](&wide, tree, X, W, b, check_finite)
        wide.scale_loss = scale_loss
        return step(&wide, tree, W, b, labels, ignore_index, weight, label_smoothing, optimizer, seed, num_threads)
    set_input[float](&narrow, tree, X, W, b, check_finite)
    narrow.scale_loss = scale_loss
    return step(&narrow, tree, W, b, labels, ignore_index, weight, label_smoothing, optimizer, seed, num_threads)


cdef tuple step(HSoftmaxInput[real]* inp, Tree tree, W, b, labels, ignore_index, weight, double label_smoothing, Settings optimizer,
                uint64_t seed, int num_threads):
    cdef unique_ptr[HSoftmaxPlan] plan
    cdef Optimizer[real] steps
    cdef MatrixView[real] W_view, dX_view
    cdef HalfView halves
    cdef span[real] b_view, nll_view
    cdef bint is_half = isinstance(W, HalfRows)
    if is_half:
        halves = (<HalfRows>W).view
    else:
        take(W, W_view)
    if b is not None:
        take(b, b_view)
    set_optimizer[real](&steps, optimizer)
    inp.label_smoothing = label_smoothing
    if weight is not None:
        take(weight, inp.sample_weight)
    make_plan(plan, tree, labels, ignore_index)
    nll, dX = new_vector(inp.X.rows(), False, nll_view), new_matrix(inp.X.rows(), inp.X.cols(), False, dX_view)
    with nogil:
        if not is_half:
            cpp_update(plan.get()[0], inp[0], W_view, b_view, steps, nll_view, dX_view, num_threads)
        elif real is float:
            cpp_update_halves(plan.get()[0], inp[0], halves, b_view, steps, seed, nll_view, dX_view, num_threads)
    count_steps(optimizer, steps.step + 1)
    return nll, dX


def step_rows(rows, dW, db, W, b, Settings optimizer not None, int num_threads):
    """Rows of W and b, and the state, are stepped by dW and db, and the owner counts; without rows all are."""
    cdef Optimizer[float] narrow
    cdef Optimizer[double] wide
    if is_float64(W):
        step_by(&wide, rows, dW, db, W, b, optimizer, num_threads)
    else:
        step_by(&narrow, rows, dW, db, W, b, optimizer, num_threads)


cdef int step_by(Optimizer[real]* steps, rows, dW, db, W, b, Settings optimizer, int num_threads) except -1:
    cdef span[const int64_t] rows_view
    cdef MatrixView[const real] dW_view
    cdef MatrixView[real] W_view
    cdef span[const real] db_view
    cdef span[real] b_view
    if rows is not None:
        take(rows, rows_view)
    if b is not None:
        take(db, db_view)
        take(b, b_view)
    take(dW, dW_view)
    take(W, W_view)
    set_optimizer[real](steps, optimizer)
    with nogil:
        cpp_step_rows(rows_view, dW_view, db_view, W_view, b_view, steps[0], num_threads)
    return count_steps(optimizer, steps.step + 1)
