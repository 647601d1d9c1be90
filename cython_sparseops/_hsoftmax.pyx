from cython_sparseops._quantize cimport Quantized
from cython_sparseops._runtime cimport thread_pool_of_runtime
from cython_sparseops._types cimport as_const_matrix, as_const_span, as_matrix, as_span, share_thread_pool

share_thread_pool(thread_pool_of_runtime())


cdef class Plan:
    def __cinit__(self, Tree tree not None, const int64_t[::1] labels, ignore_index):
        cdef optional[int64_t] ignored
        if ignore_index is not None:
            ignored = <int64_t>ignore_index
        cdef span[const int64_t] view = as_const_span(&labels[0], labels.shape[0])
        self.tree = tree
        with nogil:
            self.plan = new HSoftmaxPlan(tree.view[0], view, ignored)

    def __dealloc__(self):
        del self.plan

    @property
    def touched_rows(self):
        return self.plan.touched_rows()

    @property
    def n_logits(self):
        return self.plan.n_logits()

    def write_rows(self, int64_t[::1] rows):
        self.plan.write_rows(as_span(&rows[0], rows.shape[0]))


cdef HSoftmaxInput[real] as_input(const real[:, ::1] X, const real[:, ::1] W, const real[::1] b, bint check_finite, int num_threads) noexcept:
    cdef HSoftmaxInput[real] inp
    inp.X = as_const_matrix(&X[0, 0], X.shape[0], X.shape[1])
    inp.W = as_const_matrix(&W[0, 0], W.shape[0], W.shape[1])
    if b is not None:
        inp.b = as_const_span(&b[0], b.shape[0])
    inp.check_finite = check_finite
    inp.num_threads = num_threads
    return inp


# W is a matrix, or Quantized.
cdef HSoftmaxInput[real] as_scored_input(const real[:, ::1] X, W, const real[::1] b, bint check_finite, int num_threads) except *:
    cdef HSoftmaxInput[real] inp
    cdef Quantized quantized
    if not isinstance(W, Quantized):
        return as_input[real](X, W, b, check_finite, num_threads)
    quantized = W
    inp = as_input[real](X, X, b, check_finite, num_threads)
    inp.W = as_const_matrix(<const real*>NULL, quantized.view.rows, quantized.view.cols)
    inp.quantized = quantized.view
    return inp


def hsoftmax(Plan plan not None, const real[:, ::1] X, W, const real[::1] b, const real[::1] weight, double label_smoothing,
             bint check_finite, real[::1] nll, real[::1] residuals, int num_threads):
    cdef HSoftmaxInput[real] inp = as_scored_input[real](X, W, b, check_finite, num_threads)
    cdef span[real] kept
    inp.label_smoothing = label_smoothing
    if weight is not None:
        inp.scale = as_const_span(&weight[0], weight.shape[0])
    if residuals is not None:
        kept = as_span(&residuals[0], residuals.shape[0])
    with nogil:
        cpp_hsoftmax(plan.plan[0], inp, as_span(&nll[0], nll.shape[0]), kept)


def gradient(Plan plan not None, const real[:, ::1] X, const real[:, ::1] W, const real[::1] b, const real[::1] grad_output, double label_smoothing,
             const real[::1] residuals, bint check_finite, real[::1] nll, real[:, ::1] dX, real[:, ::1] dW, real[::1] db, bint sparse, int num_threads):
    cdef HSoftmaxInput[real] inp = as_input(X, W, b, check_finite, num_threads)
    inp.label_smoothing = label_smoothing
    inp.scale_loss = False
    if grad_output is not None:
        inp.scale = as_const_span(&grad_output[0], grad_output.shape[0])
    if residuals is not None:
        inp.residuals = as_const_span(&residuals[0], residuals.shape[0])
    with nogil:
        if sparse:
            cpp_gradient(plan.plan[0], inp, as_span(&nll[0], nll.shape[0]), as_matrix(&dX[0, 0], dX.shape[0], dX.shape[1]),
                         as_matrix(&dW[0, 0], dW.shape[0], dW.shape[1]), as_span(&db[0], db.shape[0]))
        else:
            cpp_gradient_dense(plan.plan[0], inp, as_span(&nll[0], nll.shape[0]), as_matrix(&dX[0, 0], dX.shape[0], dX.shape[1]),
                               as_matrix(&dW[0, 0], dW.shape[0], dW.shape[1]), as_span(&db[0], db.shape[0]))


def log_proba(Tree tree not None, const real[:, ::1] X, W, const real[::1] b, bint check_finite, real[:, ::1] out, int num_threads):
    cdef HSoftmaxInput[real] inp = as_scored_input[real](X, W, b, check_finite, num_threads)
    with nogil:
        cpp_log_proba(tree.view[0], inp, as_matrix(&out[0, 0], out.shape[0], out.shape[1]))


def log_proba_of(Tree tree not None, const real[:, ::1] X, W, const real[::1] b, bint check_finite,
                 const int64_t[:, ::1] classes, real[:, ::1] out, int num_threads):
    cdef HSoftmaxInput[real] inp = as_scored_input[real](X, W, b, check_finite, num_threads)
    with nogil:
        cpp_log_proba_of(tree.view[0], inp, as_const_matrix(&classes[0, 0], classes.shape[0], classes.shape[1]),
                         as_matrix(&out[0, 0], out.shape[0], out.shape[1]))


def node_log_proba(Tree tree not None, const real[:, ::1] X, W, const real[::1] b, bint check_finite, real[:, ::1] out, int num_threads):
    cdef HSoftmaxInput[real] inp = as_scored_input[real](X, W, b, check_finite, num_threads)
    with nogil:
        cpp_node_log_proba(tree.view[0], inp, as_matrix(&out[0, 0], out.shape[0], out.shape[1]))


def sample(Tree tree not None, const real[:, ::1] X, W, const real[::1] b, bint check_finite, uint64_t seed,
           int64_t[:, ::1] out, int num_threads):
    cdef HSoftmaxInput[real] inp = as_scored_input[real](X, W, b, check_finite, num_threads)
    with nogil:
        cpp_sample(tree.view[0], inp, seed, as_matrix(&out[0, 0], out.shape[0], out.shape[1]))
