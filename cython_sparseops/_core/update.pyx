from cython_sparseops._core.hierarchy cimport Tree
from cython_sparseops._core.hsoftmax cimport make_plan, set_input
from cython_sparseops._core.ndarray cimport new_matrix, new_vector, take, use_numpy
from cython_sparseops._core.runtime cimport thread_pool_of_runtime
from cython_sparseops._core.types cimport as_const_span, share_thread_pool

from libcpp.memory cimport unique_ptr

share_thread_pool(thread_pool_of_runtime())
use_numpy()


cdef class Settings:
    def __init__(self, str method, double lr, double weight_decay=0, double eps=0, double beta1=0, double beta2=0, int64_t step=1):
        if method == "adagrad":
            self.method = Method.adagrad
        elif method == "rowwise_adagrad":
            self.method = Method.rowwise_adagrad
        elif method == "adam":
            self.method = Method.adam
        elif method == "sgd":
            self.method = Method.sgd
        else:
            raise ValueError(f"method must be sgd, adagrad, rowwise_adagrad or adam, got {method}")
        self.lr, self.weight_decay, self.eps, self.beta1, self.beta2, self.step = lr, weight_decay, eps, beta1, beta2, step


cdef int set_optimizer(Optimizer[real]* o, Settings settings, first, second, b_first, b_second) except -1:
    o.method = settings.method
    o.lr, o.weight_decay, o.eps = settings.lr, settings.weight_decay, settings.eps
    o.max_norm = settings.max_norm
    o.beta1, o.beta2, o.step = settings.beta1, settings.beta2, settings.step
    if first is not None:
        take(first, o.first)
    if second is not None:
        take(second, o.second)
    if b_first is not None:
        take(b_first, o.b_first)
    if b_second is not None:
        take(b_second, o.b_second)
    return 0


def update(Tree tree not None, X, W, b, labels, ignore_index, const real[::1] weight, double label_smoothing, bint check_finite,
           Settings settings not None, first, second, b_first, b_second, int num_threads, owner, step):
    """(nll, dX); W, b and the state are stepped, and so is owner's count: no interrupt comes in between."""
    cdef unique_ptr[HSoftmaxPlan] plan
    cdef HSoftmaxInput[real] inp
    cdef Optimizer[real] optimizer
    cdef MatrixView[real] W_view, dX_view
    cdef span[real] b_view, nll_view
    set_input[real](&inp, X, W, b, check_finite, num_threads)
    take(W, W_view)
    if b is not None:
        take(b, b_view)
    set_optimizer[real](&optimizer, settings, first, second, b_first, b_second)
    inp.label_smoothing = label_smoothing
    if weight is not None:
        inp.scale = as_const_span(&weight[0], weight.shape[0])
    make_plan(plan, tree, labels, ignore_index)
    nll, dX = new_vector(inp.X.rows(), False, nll_view), new_matrix(inp.X.rows(), inp.X.cols(), False, dX_view)
    with nogil:
        cpp_update(plan.get()[0], inp, W_view, b_view, optimizer, nll_view, dX_view)
    owner.step_count = step
    return nll, dX
