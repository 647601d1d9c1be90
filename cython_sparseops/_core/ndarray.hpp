// SPDX-License-Identifier: BSD-3-Clause
// NumPy's arrays as the views of <sparseops/types.hpp>, by NumPy's C API: a typed memoryview costs a fifth of a microsecond, and a
// call with one example would need ten of them.
#pragma once

#include <Python.h>

#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#include <numpy/arrayobject.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <sparseops/types.hpp>
#include <stdexcept>
#include <type_traits>
#include <vector>

namespace {

int use_numpy() {
    import_array1(-1);
    return 0;
}

// One of ours as the operators read it: of this very type, C-contiguous, aligned, in native byte order.
template <class T>
bool is_ready_for(PyObject* value, int ndim) {
    if (!PyArray_Check(value)) return false;
    const auto* array = reinterpret_cast<PyArrayObject*>(value);
    const bool kind = std::is_floating_point_v<T> ? PyTypeNum_ISFLOAT(PyArray_TYPE(array)) : PyTypeNum_ISSIGNED(PyArray_TYPE(array));
    return kind && PyArray_ITEMSIZE(array) == sizeof(T) && PyArray_NDIM(array) == ndim && PyArray_ISCARRAY_RO(array);
}

// Whether the type of an array, or of what stands for one, is float64; it is float32 otherwise.
bool is_float64(PyObject* value) { return PyArray_Check(value) && PyArray_TYPE(reinterpret_cast<PyArrayObject*>(value)) == NPY_FLOAT64; }

// Whether these are arrays (N, D), (R, D) and (R,), or None, of float32 or of float64 alone that need no conversion.
bool are_ready(PyObject* X, PyObject* W, PyObject* b) {
    if (!PyArray_CheckExact(X) || !PyArray_CheckExact(W) || (b != Py_None && !PyArray_CheckExact(b))) return false;
    const auto all = [&]<class T>(T) { return is_ready_for<T>(X, 2) && is_ready_for<T>(W, 2) && (b == Py_None || is_ready_for<T>(b, 1)); };
    return all(0.0f) || all(0.0);
}

// Whether this is a vector of n int64 that needs no conversion.
bool is_ready_vector(PyObject* value, std::size_t n) {
    return PyArray_CheckExact(value) && is_ready_for<std::int64_t>(value, 1) &&
           PyArray_DIM(reinterpret_cast<PyArrayObject*>(value), 0) == static_cast<npy_intp>(n);
}

bool is_writable(PyObject* value) { return PyArray_Check(value) && PyArray_ISWRITEABLE(reinterpret_cast<PyArrayObject*>(value)); }

// Whether two contiguous arrays have memory in common.
bool do_overlap(PyObject* a, PyObject* b) {
    const auto *x = reinterpret_cast<PyArrayObject*>(a), *y = reinterpret_cast<PyArrayObject*>(b);
    const char *from = PyArray_BYTES(x), *to = PyArray_BYTES(y);
    return std::less<>()(from, to + PyArray_NBYTES(y)) && std::less<>()(to, from + PyArray_NBYTES(x));
}

// The entries of an array that `_arrays.py` has prepared: what is refused here is a mistake of ours.
template <class T>
T* entries(PyObject* value, int ndim) {
    const auto* array = reinterpret_cast<PyArrayObject*>(value);
    if (!is_ready_for<std::remove_const_t<T>>(value, ndim) || (!std::is_const_v<T> && !PyArray_ISWRITEABLE(array)))
        throw std::runtime_error("an array is of another kind than was prepared");
    return static_cast<T*>(PyArray_DATA(array));
}

std::size_t length(PyObject* array, int axis) {
    return static_cast<std::size_t>(PyArray_DIM(reinterpret_cast<PyArrayObject*>(array), axis));
}

template <class T>
void set(PyObject* array, std::span<T>& to) {
    to = {entries<T>(array, 1), length(array, 0)};
}

template <class T>
void set(PyObject* array, sparseops::MatrixView<T>& to) {
    to = {entries<T>(array, 2), length(array, 0), length(array, 1)};
}

template <class View>
void take(PyObject* array, View& to) {
    set(array, to);
}

// Cython cannot put const into a template of fused types.
template <class T, class I>
using ConstCsr = sparseops::CsrView<const T, I>;

// CSR rows of three vectors.
template <class T, class I>
void take_rows(PyObject* indptr, PyObject* indices, PyObject* data, std::size_t cols, ConstCsr<T, I>& to) {
    set(indptr, to.indptr);
    set(indices, to.indices);
    set(data, to.data);
    to.cols = cols;
}

// One row of two vectors; `ends` becomes its indptr.
template <class T, class I>
void take_row(PyObject* indices, PyObject* data, std::size_t cols, I* ends, ConstCsr<T, I>& to) {
    set(indices, to.indices);
    set(data, to.data);
    ends[0] = 0;
    ends[1] = static_cast<I>(to.data.size());
    to.indptr = {ends, 2};
    to.cols = cols;
}

template <class T>
T* new_array(int ndim, npy_intp* shape, bool zeros, PyObject*& array) {
    constexpr int type = std::is_same_v<T, float> ? NPY_FLOAT32 : std::is_same_v<T, double> ? NPY_FLOAT64 : NPY_INT64;
    array = zeros ? PyArray_ZEROS(ndim, shape, type, 0) : PyArray_EMPTY(ndim, shape, type, 0);
    return array ? static_cast<T*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(array))) : nullptr;
}

template <class T>
PyObject* new_vector(std::size_t n, bool zeros, std::span<T>& to) {
    npy_intp shape[] = {static_cast<npy_intp>(n)};
    PyObject* array;
    if (T* data = new_array<T>(1, shape, zeros, array)) to = {data, n};
    return array;
}

template <class T>
PyObject* new_matrix(std::size_t rows, std::size_t cols, bool zeros, sparseops::MatrixView<T>& to) {
    npy_intp shape[] = {static_cast<npy_intp>(rows), static_cast<npy_intp>(cols)};
    PyObject* array;
    if (T* data = new_array<T>(2, shape, zeros, array)) to = {data, rows, cols};
    return array;
}

// A vector as an array; the vector is freed.
template <class T>
PyObject* taken_vector(std::vector<T>& from) {
    constexpr int type = std::is_same_v<T, float>          ? NPY_FLOAT32
                         : std::is_same_v<T, double>       ? NPY_FLOAT64
                         : std::is_same_v<T, std::int64_t> ? NPY_INT64
                         : std::is_same_v<T, std::int32_t> ? NPY_INT32
                         : std::is_same_v<T, std::uint8_t> ? NPY_UINT8
                                                           : NPY_UINT16;
    static_assert(type != NPY_UINT16 || std::is_same_v<T, std::uint16_t>);
    npy_intp shape[] = {static_cast<npy_intp>(from.size())};
    PyObject* array = PyArray_EMPTY(1, shape, type, 0);
    if (array && !from.empty()) std::memcpy(PyArray_DATA(reinterpret_cast<PyArrayObject*>(array)), from.data(), from.size() * sizeof(T));
    std::vector<T>().swap(from);
    return array;
}

// The first rows of a matrix whose size is rounded up by a quarter at most. Arrays that are nearly as large as those before do
// not fit where those were: malloc gives the pages back to the system and asks for new ones, which the system clears.
template <class T>
PyObject* new_roomy_matrix(std::size_t rows, std::size_t cols, sparseops::MatrixView<T>& to) {
    std::size_t step = 1;
    if (rows * cols >= std::size_t{1} << 15) {
        while (step * 8 <= rows) step *= 2;
    }
    PyObject* array = new_matrix<T>((rows + step - 1) / step * step, cols, false, to);
    if (!array || to.rows == rows) return array;
    PyObject* first = PySequence_GetSlice(array, 0, static_cast<Py_ssize_t>(rows));
    Py_DECREF(array);
    to.rows = rows;
    return first;
}

}  // namespace
