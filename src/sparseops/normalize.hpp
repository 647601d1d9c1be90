// SPDX-License-Identifier: BSD-3-Clause
// Rows or columns of a matrix scaled to a norm.
#pragma once

#include <cstdint>
#include <span>

#include "types.hpp"

namespace sparseops {

struct Normalize {
    Norm ord = Norm::l2;
    double norm = 1;           // what a vector is scaled to
    bool max_norm = false;     // scale only what exceeds it
    double threshold = 0;      // above 0: entries with |w| <= threshold do not count and become 0
    bool check_finite = true;  // throw std::invalid_argument on NaN and infinity; otherwise their vector and its norm become NaN
};

// Each function writes out = W scaled and norms = the norms before. out may be W itself; nothing else may overlap.
// An all-zero vector stays zero. Sums are taken in double and rescaled where they would leave its range, and so is
// norm / size: zeros stay zero. They throw
// std::invalid_argument before anything of W is written; the result does not depend on num_threads.

// Rows of a CSR matrix (columns of CSC): out W.data.size() · norms W.rows() · W.indices not read. O(nnz).
template <Real T, Index I>
void normalize_rows(CsrView<const T, I> W, std::span<T> out, std::span<double> norms, const Normalize& options = {}, int num_threads = 0);

// Columns of a CSR matrix (rows of CSC): out W.data.size() · norms W.cols. O(nnz + blocks · cols), blocks <= 64 a function
// of nnz and cols: each block of entries has sums of its own, added in block order.
template <Real T, Index I>
void normalize_columns(CsrView<const T, I> W, std::span<T> out, std::span<double> norms, const Normalize& options = {},
                       int num_threads = 0);

// The same for a dense matrix: norms W.rows or W.cols.
template <Real T>
void normalize_rows(MatrixView<const T> W, MatrixView<T> out, std::span<double> norms, const Normalize& options = {}, int num_threads = 0);
template <Real T>
void normalize_columns(MatrixView<const T> W, MatrixView<T> out, std::span<double> norms, const Normalize& options = {},
                       int num_threads = 0);

// The rows of param named by `rows` (ascending, distinct, in range), l2, in place. T: float, double,
// float16 or bfloat16, the last two with float32 arithmetic. norms rows.size(). O(rows · cols). A row that is not finite is
// refused, or without check_finite NaN, and its norm.
template <class T>
void normalize_indexed_rows(MatrixView<T> param, std::span<const std::int64_t> rows, std::span<double> norms, double norm = 1,
                            bool max_norm = false, bool check_finite = true, int num_threads = 0);

// dx for upstream grad, l2: (g - u (u · g)) · norm / |w| with u = w / |w| for each vector w of W that is scaled and its part g of
// grad, g for the others, NaN where an entry of W is not finite. grad and dx have the entries of W; dx may be grad.
// options.threshold is not read: every entry counts. Columns are summed in blocks as in normalize_columns.
template <Real T, Index I>
void normalize_rows_gradient(CsrView<const T, I> W, std::span<const T> grad, std::span<T> dx, const Normalize& options = {},
                             int num_threads = 0);
template <Real T, Index I>
void normalize_columns_gradient(CsrView<const T, I> W, std::span<const T> grad, std::span<T> dx, const Normalize& options = {},
                                int num_threads = 0);
template <Real T>
void normalize_rows_gradient(MatrixView<const T> W, std::span<const T> grad, std::span<T> dx, const Normalize& options = {},
                             int num_threads = 0);
template <Real T>
void normalize_columns_gradient(MatrixView<const T> W, std::span<const T> grad, std::span<T> dx, const Normalize& options = {},
                                int num_threads = 0);

}  // namespace sparseops
