from libc.stdint cimport uint16_t
from libcpp cimport bool as cbool

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
)

cdef extern from "<sparseops/normalize/named_rows.hpp>" namespace "sparseops" nogil:
    size_t cpp_distinct_rows "sparseops::distinct_rows"(span[const int64_t] rows, size_t size, span[int64_t] out) except +

cdef extern from "<sparseops/normalize.hpp>" namespace "sparseops" nogil:
    cppclass float16:
        pass

    cppclass bfloat16:
        pass

    enum class Norm:
        l1
        l2
        max

    cppclass Normalize:
        Norm ord
        double norm
        cbool max_norm
        double threshold
        cbool check_finite

    void cpp_csr_rows "sparseops::normalize_rows" [T, I](CsrView[const T, I] W, span[T] out, span[double] norms, const Normalize& options, int num_threads) except +
    void cpp_csr_columns "sparseops::normalize_columns" [T, I](CsrView[const T, I] W, span[T] out, span[double] norms, const Normalize& options, int num_threads) except +
    void cpp_dense_rows "sparseops::normalize_rows" [T](MatrixView[const T] W, MatrixView[T] out, span[double] norms, const Normalize& options, int num_threads) except +
    void cpp_dense_columns "sparseops::normalize_columns" [T](MatrixView[const T] W, MatrixView[T] out, span[double] norms, const Normalize& options, int num_threads) except +
    void cpp_indexed_rows "sparseops::normalize_indexed_rows" [T](MatrixView[T] param, span[const int64_t] rows, span[double] norms, double norm,
                                                                cbool max_norm, cbool check_finite, int num_threads) except +
    void cpp_csr_rows_gradient "sparseops::normalize_rows_gradient" [T, I](CsrView[const T, I] W, span[const T] grad, span[T] dx, const Normalize& options, int num_threads) except +
    void cpp_csr_columns_gradient "sparseops::normalize_columns_gradient" [T, I](CsrView[const T, I] W, span[const T] grad, span[T] dx, const Normalize& options, int num_threads) except +
    void cpp_dense_rows_gradient "sparseops::normalize_rows_gradient" [T](MatrixView[const T] W, span[const T] grad, span[T] dx, const Normalize& options, int num_threads) except +
    void cpp_dense_columns_gradient "sparseops::normalize_columns_gradient" [T](MatrixView[const T] W, span[const T] grad, span[T] dx, const Normalize& options, int num_threads) except +

share_thread_pool(thread_pool_of_runtime())


cdef Normalize as_options(int ord, double norm, bint max_norm, double threshold, bint check_finite) noexcept:
    cdef Normalize o
    o.ord = Norm.l1 if ord == 0 else Norm.l2 if ord == 1 else Norm.max
    o.norm, o.max_norm, o.threshold = norm, max_norm, threshold
    o.check_finite = check_finite
    return o


def csr(const index[::1] indptr, const index[::1] indices, const real[::1] data, Py_ssize_t cols, bint columns, real[::1] out, double[::1] norms,
        int ord, double norm, bint max_norm, double threshold, bint check_finite, int num_threads):
    cdef Normalize options = as_options(ord, norm, max_norm, threshold, check_finite)
    cdef CsrView[const real, index] x = as_const_csr(&indptr[0], indptr.shape[0] - 1, &indices[0], &data[0], data.shape[0], cols)
    with nogil:
        if columns:
            cpp_csr_columns(x, as_span(&out[0], out.shape[0]), as_span(&norms[0], norms.shape[0]), options, num_threads)
        else:
            cpp_csr_rows(x, as_span(&out[0], out.shape[0]), as_span(&norms[0], norms.shape[0]), options, num_threads)


def dense(const real[:, ::1] x, bint columns, real[:, ::1] out, double[::1] norms,
          int ord, double norm, bint max_norm, double threshold, bint check_finite, int num_threads):
    cdef Normalize options = as_options(ord, norm, max_norm, threshold, check_finite)
    cdef MatrixView[const real] view = as_const_matrix(&x[0, 0], x.shape[0], x.shape[1])
    with nogil:
        if columns:
            cpp_dense_columns(view, as_matrix(&out[0, 0], out.shape[0], out.shape[1]), as_span(&norms[0], norms.shape[0]), options, num_threads)
        else:
            cpp_dense_rows(view, as_matrix(&out[0, 0], out.shape[0], out.shape[1]), as_span(&norms[0], norms.shape[0]), options, num_threads)


def distinct_rows(const int64_t[::1] rows, size_t size, int64_t[::1] out):
    cdef size_t count
    with nogil:
        count = cpp_distinct_rows(as_const_span(&rows[0], rows.shape[0]), size, as_span(&out[0], out.shape[0]))
    return count


def indexed_rows(real[:, ::1] param, const int64_t[::1] rows, double[::1] norms, double norm, bint max_norm, bint check_finite, int num_threads):
    with nogil:
        cpp_indexed_rows(as_matrix(&param[0, 0], param.shape[0], param.shape[1]), as_const_span(&rows[0], rows.shape[0]),
                         as_span(&norms[0], norms.shape[0]), norm, max_norm, check_finite, num_threads)


def indexed_rows_16(uint16_t[:, ::1] param, bint bfloat, const int64_t[::1] rows, double[::1] norms, double norm, bint max_norm, bint check_finite,
                    int num_threads):
    cdef span[const int64_t] index_span = as_const_span(&rows[0], rows.shape[0])
    cdef span[double] norm_span = as_span(&norms[0], norms.shape[0])
    with nogil:
        if bfloat:
            cpp_indexed_rows(as_matrix(<bfloat16*>&param[0, 0], param.shape[0], param.shape[1]), index_span, norm_span, norm, max_norm, check_finite, num_threads)
        else:
            cpp_indexed_rows(as_matrix(<float16*>&param[0, 0], param.shape[0], param.shape[1]), index_span, norm_span, norm, max_norm, check_finite, num_threads)


def csr_gradient(const index[::1] indptr, const index[::1] indices, const real[::1] data, Py_ssize_t cols, bint columns, const real[::1] grad,
                 real[::1] dx, double norm, bint max_norm, bint check_finite, int num_threads):
    cdef Normalize options = as_options(1, norm, max_norm, 0, check_finite)
    cdef CsrView[const real, index] x = as_const_csr(&indptr[0], indptr.shape[0] - 1, &indices[0], &data[0], data.shape[0], cols)
    with nogil:
        if columns:
            cpp_csr_columns_gradient(x, as_const_span(&grad[0], grad.shape[0]), as_span(&dx[0], dx.shape[0]), options, num_threads)
        else:
            cpp_csr_rows_gradient(x, as_const_span(&grad[0], grad.shape[0]), as_span(&dx[0], dx.shape[0]), options, num_threads)


def dense_gradient(const real[:, ::1] x, bint columns, const real[::1] grad, real[::1] dx, double norm, bint max_norm, bint check_finite,
                   int num_threads):
    cdef Normalize options = as_options(1, norm, max_norm, 0, check_finite)
    cdef MatrixView[const real] view = as_const_matrix(&x[0, 0], x.shape[0], x.shape[1])
    with nogil:
        if columns:
            cpp_dense_columns_gradient(view, as_const_span(&grad[0], grad.shape[0]), as_span(&dx[0], dx.shape[0]), options, num_threads)
        else:
            cpp_dense_rows_gradient(view, as_const_span(&grad[0], grad.shape[0]), as_span(&dx[0], dx.shape[0]), options, num_threads)
