from cython_sparseops._hsoftmax cimport Plan, as_input
from cython_sparseops._runtime cimport thread_pool_of_runtime
from cython_sparseops._types cimport as_const_span, as_matrix, as_span, share_thread_pool

share_thread_pool(thread_pool_of_runtime())


cdef class Settings:
    def __init__(self, str method, double lr, double weight_decay=0, double eps=0, double beta1=0, double beta2=0, int64_t step=1):
        if method == "adagrad":
            self.method = Method.adagrad
        elif method == "rowwise_adagrad":
            self.method = Method.rowwise_adagrad
        elif method == "adam":
            self.method = Method.adam
        else:
            self.method = Method.sgd
        self.lr, self.weight_decay, self.eps, self.beta1, self.beta2, self.step = lr, weight_decay, eps, beta1, beta2, step


cdef Optimizer[real] as_optimizer(Settings settings, real[:, ::1] first, real[:, ::1] second, real[::1] b_first, real[::1] b_second):
    cdef Optimizer[real] o
    o.method = settings.method
    o.lr, o.weight_decay, o.eps = settings.lr, settings.weight_decay, settings.eps
    o.max_norm = settings.max_norm
    o.beta1, o.beta2, o.step = settings.beta1, settings.beta2, settings.step
    if first is not None:
        o.first = as_matrix(&first[0, 0], first.shape[0], first.shape[1])
    if second is not None:
        o.second = as_matrix(&second[0, 0], second.shape[0], second.shape[1])
    if b_first is not None:
        o.b_first = as_span(&b_first[0], b_first.shape[0])
    if b_second is not None:
        o.b_second = as_span(&b_second[0], b_second.shape[0])
    return o


def update(Plan plan not None, const real[:, ::1] X, real[:, ::1] W, real[::1] b, const real[::1] weight, double label_smoothing, bint check_finite,
           Settings settings not None, real[:, ::1] first, real[:, ::1] second, real[::1] b_first, real[::1] b_second,
           real[::1] nll, real[:, ::1] dX, int num_threads):
    cdef HSoftmaxInput[real] inp = as_input[real](X, W, b, check_finite, num_threads)
    cdef Optimizer[real] optimizer = as_optimizer[real](settings, first, second, b_first, b_second)
    cdef span[real] bias
    inp.label_smoothing = label_smoothing
    if weight is not None:
        inp.scale = as_const_span(&weight[0], weight.shape[0])
    if b is not None:
        bias = as_span(&b[0], b.shape[0])
    with nogil:
        cpp_update(plan.plan[0], inp, as_matrix(&W[0, 0], W.shape[0], W.shape[1]), bias, optimizer, as_span(&nll[0], nll.shape[0]),
                   as_matrix(&dX[0, 0], dX.shape[0], dX.shape[1]))
