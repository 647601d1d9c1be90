from cython_sparseops._core.ndarray cimport are_all_ready, is_float64, is_ready_vector, new_matrix, new_roomy_matrix, new_vector, take, use_numpy
from cython_sparseops._core.linear cimport Rows
from cython_sparseops._core.quantize cimport HalfRows, Quantized
from cython_sparseops._core.runtime cimport thread_pool_of_runtime
from cython_sparseops._core.types cimport as_const_csr, as_const_span, as_matrix, share_thread_pool

share_thread_pool(thread_pool_of_runtime())
use_numpy()

cdef int make_plan(unique_ptr[HSoftmaxPlan]& plan, Tree tree, labels, ignore_index) except -1:
    cdef span[const int64_t] view
    cdef optional[int64_t] ignored
    take(labels, view)
    if ignore_index is not None:
        ignored = <int64_t>ignore_index
    with nogil:
        plan.reset(new HSoftmaxPlan(tree.view[0], view, ignored))
    return 0


cdef class SparseExamples:
    def __cinit__(self, indptr not None, indices not None, data not None, tuple shape not None):
        cdef const float[::1] values = data
        cdef const int32_t[::1] narrow_ptr, narrow
        cdef const int64_t[::1] wide_ptr, wide
        cdef CsrView[const float, int32_t] narrow_view
        cdef CsrView[const float, int64_t] wide_view
        if indptr.itemsize == 4:
            narrow_ptr, narrow = indptr, indices
            self.kept = (values, narrow_ptr, narrow)
            narrow_view = as_const_csr(&narrow_ptr[0], narrow_ptr.shape[0] - 1, &narrow[0], &values[0], values.shape[0], shape[1])
            self.view = examples_of_narrow(narrow_view)
        else:
            wide_ptr, wide = indptr, indices
            self.kept = (values, wide_ptr, wide)
            wide_view = as_const_csr(&wide_ptr[0], wide_ptr.shape[0] - 1, &wide[0], &values[0], values.shape[0], shape[1])
            self.view = examples_of_wide(wide_view)
        self.dtype = data.dtype
        self.shape = shape

    def __len__(self):
        return self.view.rows()


cdef int set_input(HSoftmaxInput[real]* inp, Tree tree, X, W, b, bint check_finite) except -1:
    cdef MatrixView[const real] X_view
    if isinstance(X, SparseExamples):
        if real is float:
            inp.X = (<SparseExamples>X).view
    else:
        take(X, X_view)
        inp.X = Examples[real](X_view)
    set_weights[real](inp, tree, W, b)
    inp.check_finite = check_finite
    return 0


cdef int set_weights(HSoftmaxInput[real]* inp, Tree tree, W, b) except -1:
    cdef MatrixView[const real] W_view
    if isinstance(W, Rows):
        inp.W = Weights[real]((<Rows>W).of(tree))
    elif isinstance(W, Quantized):
        inp.W = Weights[real]((<Quantized>W).view)
    elif isinstance(W, HalfRows):
        inp.W = Weights[real](as_quantized((<HalfRows>W).view))
    else:
        take(W, W_view)
        inp.W = Weights[real](W_view)
    if b is not None:
        take(b, inp.b)
    return 0


# A batch of one costs little more than its call. So what needs no conversion is found out here, where that is a matter of
# nanoseconds: a function *_at_once takes the arguments as a user gave them, and returns None where one is of another type than most.

cdef Tree ready_tree(h):
    """The tree of a Hierarchy."""
    tree = getattr(h, "_tree", None)
    return <Tree>tree if type(tree) is Tree else None


cdef int ready_threads(check_finite, num_threads):
    """For a compiled call: the number, 0 for None; -1 if one is of another type."""
    if check_finite is not True and check_finite is not False:
        return -1
    if num_threads is None:
        return 0
    return num_threads if type(num_threads) is int and 0 < num_threads < 0x7fffffff else -1


def hsoftmax_at_once(X, W, b, labels, h, weight, ignore_index, label_smoothing, return_residuals, check_finite, num_threads):
    """The losses."""
    cdef Tree tree = ready_tree(h)
    cdef int threads = ready_threads(check_finite, num_threads)
    if tree is None or threads < 0 or weight is not None or ignore_index is not None or return_residuals is not False:
        return None
    if type(label_smoothing) is not float or not are_all_ready(X, W, b) or not is_ready_vector(labels, len(X)):
        return None
    return loss(tree, X, W, b, labels, None, None, label_smoothing, check_finite, False, threads)[0]


def gradient_at_once(X, W, b, labels, h, grad_output, residuals, sparse, ignore_index, label_smoothing, check_finite, num_threads,
                     type kind not None):
    """The sparse gradient, as a `kind` of tuple."""
    cdef Tree tree = ready_tree(h)
    cdef int threads = ready_threads(check_finite, num_threads)
    if tree is None or threads < 0 or grad_output is not None or residuals is not None or sparse is not True or ignore_index is not None:
        return None
    if type(label_smoothing) is not float or not are_all_ready(X, W, b) or not is_ready_vector(labels, len(X)):
        return None
    return tuple.__new__(kind, gradients(tree, X, W, b, labels, None, None, label_smoothing, None, check_finite, True, threads))


def hsoftmax(Tree tree not None, X, W, b, labels, ignore_index, weight, double label_smoothing, bint check_finite, bint return_residuals,
             int num_threads):
    """(nll, residuals), None if those are not wanted."""
    return loss(tree, X, W, b, labels, ignore_index, weight, label_smoothing, check_finite, return_residuals, num_threads)


cdef tuple loss(Tree tree, X, W, b, labels, ignore_index, weight, double label_smoothing, bint check_finite, bint return_residuals,
                int num_threads):
    cdef HSoftmaxInput[float] narrow
    cdef HSoftmaxInput[double] wide
    if is_float64(X):
        set_input[double](&wide, tree, X, W, b, check_finite)
        return loss_of(&wide, tree, labels, ignore_index, weight, label_smoothing, return_residuals, num_threads)
    set_input[float](&narrow, tree, X, W, b, check_finite)
    return loss_of(&narrow, tree, labels, ignore_index, weight, label_smoothing, return_residuals, num_threads)


cdef tuple loss_of(HSoftmaxInput[real]* inp, Tree tree, labels, ignore_index, weight, double label_smoothing, bint return_residuals,
                   int num_threads):
    cdef unique_ptr[HSoftmaxPlan] plan
    cdef span[real] nll_view, residuals_view
    inp.label_smoothing = label_smoothing
    if weight is not None:
        take(weight, inp.sample_weight)
    make_plan(plan, tree, labels, ignore_index)
    nll, residuals = new_vector(inp.X.rows(), False, nll_view), None
    if return_residuals:
        residuals = new_vector(plan.get().n_logits(), False, residuals_view)
    with nogil:
        cpp_hsoftmax(plan.get()[0], inp[0], nll_view, residuals_view, num_threads)
    return nll, residuals


def gradient(Tree tree not None, X, W, b, labels, ignore_index, grad_output, double label_smoothing, residuals, bint check_finite,
             bint sparse, int num_threads):
    """(nll, dX, rows, dW, db); if not sparse, rows is None and dW, db are of all of them."""
    return gradients(tree, X, W, b, labels, ignore_index, grad_output, label_smoothing, residuals, check_finite, sparse, num_threads)


cdef tuple gradients(Tree tree, X, W, b, labels, ignore_index, grad_output, double label_smoothing, residuals, bint check_finite, bint sparse,
                     int num_threads):
    cdef HSoftmaxInput[float] narrow
    cdef HSoftmaxInput[double] wide
    if is_float64(X):
        set_input[double](&wide, tree, X, W, b, check_finite)
        return gradient_of(&wide, tree, labels, ignore_index, grad_output, label_smoothing, residuals, sparse, num_threads)
    set_input[float](&narrow, tree, X, W, b, check_finite)
    return gradient_of(&narrow, tree, labels, ignore_index, grad_output, label_smoothing, residuals, sparse, num_threads)


cdef tuple gradient_of(HSoftmaxInput[real]* inp, Tree tree, labels, ignore_index, grad_output, double label_smoothing, residuals, bint sparse,
                       int num_threads):
    cdef unique_ptr[HSoftmaxPlan] plan
    cdef span[real] nll_view, db_view
    cdef MatrixView[real] dX_view, dW_view
    cdef span[int64_t] rows_view
    cdef size_t count
    inp.label_smoothing = label_smoothing
    inp.scale_loss = False
    if grad_output is not None:
        take(grad_output, inp.sample_weight)
    if residuals is not None:
        take(residuals, inp.residuals)
    make_plan(plan, tree, labels, ignore_index)
    nll, dX, rows = new_vector(inp.X.rows(), False, nll_view), new_matrix(inp.X.rows(), inp.X.cols(), False, dX_view), None
    if sparse:
        count = plan.get().touched_rows()
        rows = new_vector(count, False, rows_view)
        dW, db = new_roomy_matrix(count, inp.X.cols(), dW_view), new_vector(count, False, db_view)
        with nogil:
            plan.get().write_rows(rows_view)
            cpp_gradient(plan.get()[0], inp[0], nll_view, dX_view, dW_view, db_view, num_threads)
    else:
        dW, db = new_matrix(tree.view.rows(), inp.X.cols(), True, dW_view), new_vector(tree.view.rows(), True, db_view)
        with nogil:
            cpp_gradient_dense(plan.get()[0], inp[0], nll_view, dX_view, dW_view, db_view, num_threads)
    return nll, dX, rows, dW, db


def log_proba(Tree tree not None, X, W, b, bint check_finite, real[:, ::1] out, int num_threads):
    cdef HSoftmaxInput[real] inp
    set_input[real](&inp, tree, X, W, b, check_finite)
    with nogil:
        cpp_log_proba(tree.view[0], inp, as_matrix(&out[0, 0], out.shape[0], out.shape[1]), num_threads)


def log_proba_of(Tree tree not None, X, W, b, bint check_finite, classes, real[:, ::1] out, int num_threads):
    cdef HSoftmaxInput[real] inp
    cdef MatrixView[const int64_t] wanted
    take(classes, wanted)
    set_input[real](&inp, tree, X, W, b, check_finite)
    with nogil:
        cpp_log_proba_of(tree.view[0], inp, wanted, as_matrix(&out[0, 0], out.shape[0], out.shape[1]), num_threads)


def node_log_proba(Tree tree not None, X, W, b, bint check_finite, real[:, ::1] out, int num_threads):
    cdef HSoftmaxInput[real] inp
    set_input[real](&inp, tree, X, W, b, check_finite)
    with nogil:
        cpp_node_log_proba(tree.view[0], inp, as_matrix(&out[0, 0], out.shape[0], out.shape[1]), num_threads)


def sample(Tree tree not None, X, W, const real[::1] b, bint check_finite, uint64_t seed, out, int num_threads):
    cdef HSoftmaxInput[real] inp
    cdef MatrixView[int64_t] to
    take(out, to)
    set_input[real](&inp, tree, X, W, None, check_finite)
    if b is not None:
        inp.b = as_const_span(&b[0], b.shape[0])
    with nogil:
        cpp_sample(tree.view[0], inp, seed, to, num_threads)
