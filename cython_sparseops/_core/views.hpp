// SPDX-License-Identifier: BSD-3-Clause
// Typed memoryviews, as pointer and sizes, made the views of <sparseops/types.hpp>.
#pragma once

#include <Python.h>

#include <span>
#include <sparseops/types.hpp>

namespace {

template <class T>
std::span<T> as_span(T* data, Py_ssize_t n) {
    return {data, static_cast<std::size_t>(n)};
}

template <class T>
std::span<const T> as_const_span(const T* data, Py_ssize_t n) {
    return {data, static_cast<std::size_t>(n)};
}

template <class T>
sparseops::MatrixView<T> as_matrix(T* data, Py_ssize_t rows, Py_ssize_t cols) {
    return {data, static_cast<std::size_t>(rows), static_cast<std::size_t>(cols)};
}

template <class T>
sparseops::MatrixView<const T> as_const_matrix(const T* data, Py_ssize_t rows, Py_ssize_t cols) {
    return {data, static_cast<std::size_t>(rows), static_cast<std::size_t>(cols)};
}

template <class T, class I>
sparseops::CsrView<const T, I> as_const_csr(const I* indptr, Py_ssize_t rows, const I* indices, const T* data, Py_ssize_t nnz,
                                            Py_ssize_t cols) {
    return {as_const_span(indptr, rows + 1), as_const_span(indices, nnz), as_const_span(data, nnz), static_cast<std::size_t>(cols)};
}

}  // namespace
