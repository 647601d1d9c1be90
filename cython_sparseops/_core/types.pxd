# Names shared by the compiled modules: fused types and the views of <sparseops/types.hpp>.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t

# Every module holds its own copy of the core; share_thread_pool(thread_pool_of_runtime()) gives all of them one team.
cdef extern from "<sparseops/detail/parallel.hpp>" namespace "sparseops::detail" nogil:
    void share_thread_pool(void* other)

ctypedef fused real:
    float
    double

ctypedef fused index:
    int32_t
    int64_t

cdef extern from "<sparseops/types.hpp>" namespace "sparseops" nogil:
    cppclass span "std::span" [T]:
        span()

    cppclass MatrixView[T]:
        MatrixView()
        size_t rows
        size_t cols

    cppclass CsrView[T, I]:
        CsrView()

    cppclass LabelsView:
        LabelsView()
        span[const int64_t] ptr
        span[const int64_t] label

cdef extern from "views.hpp" nogil:
    span[T] as_span[T](T* data, Py_ssize_t n)
    span[const T] as_const_span[T](const T* data, Py_ssize_t n)
    MatrixView[T] as_matrix[T](T* data, Py_ssize_t rows, Py_ssize_t cols)
    MatrixView[const T] as_const_matrix[T](const T* data, Py_ssize_t rows, Py_ssize_t cols)
    CsrView[const T, I] as_const_csr[T, I](const I* indptr, Py_ssize_t rows, const I* indices, const T* data, Py_ssize_t nnz, Py_ssize_t cols)
