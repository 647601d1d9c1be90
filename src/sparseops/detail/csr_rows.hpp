// SPDX-License-Identifier: BSD-3-Clause
// The checks of a CSR matrix that operators take: its shape, its indices and its values.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "../types.hpp"
#include "csr.hpp"
#include "parallel.hpp"
#include "require.hpp"

namespace sparseops::detail {

template <class T, Index I>
std::size_t row_begin(const CsrView<T, I>& x, std::size_t i) noexcept {
    return static_cast<std::size_t>(x.indptr[i]);
}
template <class T, Index I>
std::size_t row_size(const CsrView<T, I>& x, std::size_t i) noexcept {
    return static_cast<std::size_t>(x.indptr[i + 1] - x.indptr[i]);
}

// f(first, end) for fixed blocks of the rows of x.
template <class T, Index I, class F>
void each_row_block(const CsrView<T, I>& x, int num_threads, const F& f) {
    constexpr std::size_t block = 1024;
    const std::size_t rows = x.rows();
    const int threads = team_size(num_threads, static_cast<double>(x.indices.size()));
    parallel_for((rows + block - 1) / block, threads,
                 [&](std::size_t item, std::size_t) { f(item * block, std::min(rows, (item + 1) * block)); });
}

// Refuses a matrix that is not CSR, an index out of range, and, if that is to be checked, a number that is not finite. Returns
// whether the indices rise in every row, so that none comes twice.
template <Real T, Index I>
bool require_csr_rows(const CsrView<const T, I>& x, const char* name, int num_threads, bool check_finite = true) {
    require_csr(x, name);
    require(x.cols <= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()), name, " must have fewer than 2**31 columns, got ",
            x.cols);
    FirstPlace outside, infinite, unordered;
    each_row_block(x, num_threads, [&](std::size_t first, std::size_t end) {
        for (std::size_t i = first; i < end; ++i) {
            const std::size_t begin = row_begin(x, i), n = row_size(x, i);
            for (std::size_t j = begin; j < begin + n; ++j) {
                const I f = x.indices[j];
                if (f < 0 || static_cast<std::size_t>(f) >= x.cols) outside.report(j);
                if (check_finite && !std::isfinite(x.data[j])) infinite.report(j);
                if (j > begin && f <= x.indices[j - 1]) unordered.report(j);
            }
        }
    });
    if (outside.any()) {
        refuse(name, ".indices must be in [0, ", x.cols, "), got ", x.indices[outside.place()], " at index ", outside.place());
    }
    if (infinite.any()) refuse(name, " must be finite, got ", x.data[infinite.place()], " at stored value ", infinite.place());
    return !unordered.any();
}

}  // namespace sparseops::detail
