from cython_sparseops._core.ndarray cimport taken_vector, use_numpy
from cython_sparseops._core.runtime cimport thread_pool_of_runtime
from cython_sparseops._core.types cimport (
    CsrView,
    LabelsView,
    MatrixView,
    as_const_csr,
    as_const_matrix,
    as_const_span,
    as_matrix,
    index,
    int64_t,
    real,
    share_thread_pool,
)

from libcpp cimport bool as cbool
from libcpp.vector cimport vector

cdef extern from "<sparseops/cluster.hpp>" namespace "sparseops" nogil:
    cppclass CsrMatrix[T, I]:
        vector[I] indptr
        vector[I] indices
        vector[T] data

    CsrMatrix[T, I] cpp_centroids "sparseops::class_centroids" [T, I](CsrView[const T, I] X, const LabelsView& labels, int64_t n_classes, cbool normalize,
                                                                     int num_threads) except +
    void cpp_dense_centroids "sparseops::class_centroids" [T](MatrixView[const T] X, const LabelsView& labels, cbool normalize, MatrixView[T] out,
                                                             int num_threads) except +

use_numpy()
share_thread_pool(thread_pool_of_runtime())


cdef LabelsView as_labels(const int64_t[::1] ptr, const int64_t[::1] label):
    cdef LabelsView labels
    labels.ptr = as_const_span(&ptr[0], ptr.shape[0])
    labels.label = as_const_span(&label[0], label.shape[0])
    return labels


def centroids(const index[::1] indptr, const index[::1] indices, const real[::1] data, Py_ssize_t cols, const int64_t[::1] label_ptr,
              const int64_t[::1] label, int64_t n_classes, bint normalize, int num_threads):
    cdef LabelsView labels = as_labels(label_ptr, label)
    cdef CsrMatrix[real, index] result
    with nogil:
        result = cpp_centroids(as_const_csr(&indptr[0], indptr.shape[0] - 1, &indices[0], &data[0], data.shape[0], cols), labels, n_classes, normalize,
                               num_threads)
    return taken_vector(result.indptr), taken_vector(result.indices), taken_vector(result.data)


def dense_centroids(const real[:, ::1] X, const int64_t[::1] label_ptr, const int64_t[::1] label, bint normalize, real[:, ::1] out, int num_threads):
    cdef LabelsView labels = as_labels(label_ptr, label)
    with nogil:
        cpp_dense_centroids(as_const_matrix(&X[0, 0], X.shape[0], X.shape[1]), labels, normalize, as_matrix(&out[0, 0], out.shape[0], out.shape[1]),
                            num_threads)
