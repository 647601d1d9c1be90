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
    double threshold = 0;      // above 0: entries with |x| <= threshold do not count and become 0
    bool check_finite = true;  // throw std::invalid_argument on NaN and infinity; otherwise their vector and its norm become NaN
    int num_threads = 0;
};

// Each function writes out = x scaled and norms = the norms before. out may be x itself; nothing else may overlap.
// An all-zero vector stays zero. Sums are taken in double and rescaled where they would leave its range, and so is
// norm / size: zeros stay zero. They throw
// std::invalid_argument before anything of x is written; the result does not depend on num_threads.

// Rows of a CSR matrix (columns of CSC): out x.data.size() · norms x.rows() · x.indices not read. O(nnz).
template <Real T, Index I>
void normalize_rows(CsrView<const T, I> x, std::span<T> out, std::span<double> norms, const Normalize& options = {});

// Columns of a CSR matrix (rows of CSC): out x.data.size() · norms x.cols. O(nnz + blocks · cols), blocks <= 64 a function
// of nnz and cols: each block of entries has sums of its own, added in block order.
template <Real T, Index I>
void normalize_columns(CsrView<const T, I> x, std::span<T> out, std::span<double> norms, const Normalize& options = {});

// The same for a dense matrix: norms x.rows or x.cols.
template <Real T>
void normalize_rows(MatrixView<const T> x, MatrixView<T> out, std::span<double> norms, const Normalize& options = {});
template <Real T>
void normalize_columns(MatrixView<const T> x, MatrixView<T> out, std::span<double> norms, const Normalize& options = {});

// The rows of param named by `rows` (ascending, distinct, in range), l2, in place. T: float, double,
// float16 or bfloat16, the last two with float32 arithmetic. norms rows.size(). O(rows · cols). A row that is not finite is
// refused, or without check_finite NaN, and its norm.
template <class T>
void normalize_indexed_rows(MatrixView<T> param, std::span<const std::int64_t> rows, std::span<double> norms, double norm = 1,
                            bool max_norm = false, bool check_finite = true, int num_threads = 0);

// dx for upstream g, l2: (g - u (u · g)) · norm / |x| with u = x / |x| for each vector that is scaled, g for the others, NaN
// where an entry of x is not finite. g and dx have the entries of x; dx may be g. options.threshold is not read: every entry
// counts. Columns are summed in blocks as in normalize_columns.
template <Real T, Index I>
void normalize_rows_gradient(CsrView<const T, I> x, std::span<const T> g, std::span<T> dx, const Normalize& options = {});
template <Real T, Index I>
void normalize_columns_gradient(CsrView<const T, I> x, std::span<const T> g, std::span<T> dx, const Normalize& options = {});
template <Real T>
void normalize_rows_gradient(MatrixView<const T> x, std::span<const T> g, std::span<T> dx, const Normalize& options = {});
template <Real T>
void normalize_columns_gradient(MatrixView<const T> x, std::span<const T> g, std::span<T> dx, const Normalize& options = {});

}  // namespace sparseops
