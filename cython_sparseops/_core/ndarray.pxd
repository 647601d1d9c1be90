# NumPy's arrays as the views of <sparseops/types.hpp>, by NumPy's C API: a typed memoryview costs a fifth of a microsecond, and a
# call with one example would need ten of them. A module that cimports this one calls use_numpy() first.
from cython_sparseops._core.types cimport MatrixView, span

from libcpp.vector cimport vector

cdef extern from "ndarray.hpp":
    int use_numpy() except -1
    bint PyArray_CheckExact(object value)
    bint is_ready_for[T](object value, int ndim)
    bint is_float64(object value)
    bint are_all_ready "are_ready"(object X, object W, object b)
    bint is_ready_vector(object value, size_t n)
    bint is_writable(object value)
    bint do_overlap(object a, object b)
    void take[View](object array, View& to) except +  # View: span or MatrixView
    cppclass ConstCsr[T, I]:
        size_t rows()
    void take_rows[T, I](object indptr, object indices, object data, size_t cols, ConstCsr[T, I]& to) except +
    void take_row[T, I](object indices, object data, size_t cols, I* ends, ConstCsr[T, I]& to) except +
    object new_vector[T](size_t n, bint zeros, span[T]& to)
    object new_matrix[T](size_t rows, size_t cols, bint zeros, MatrixView[T]& to)
    object taken_vector[T](vector[T]& from_vector)
    object new_roomy_matrix[T](size_t rows, size_t cols, MatrixView[T]& to)
