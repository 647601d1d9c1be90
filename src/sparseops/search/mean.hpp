// SPDX-License-Identifier: BSD-3-Clause
// The logarithm of the mean of probabilities.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "../kernels/kernels.hpp"

namespace sparseops::detail {

// out[i] = log of the mean over t of exp(log_p[t * stride + i]), trees >= 1 of them; of one tree its own bits.
inline void log_mean_exp(const float* log_p, std::size_t trees, std::size_t stride, std::size_t n, float* out) noexcept {
    if (trees == 1) {
        std::copy_n(log_p, n, out);
        return;
    }
    constexpr std::size_t some = 256;
    double total[some], apart[some], none[some];
    const double log_trees = std::log(static_cast<double>(trees));
    for (std::size_t from = 0; from < n; from += some) {
        const std::size_t m = std::min(some, n - from);
        std::copy_n(log_p + from, m, total);
        for (std::size_t t = 1; t < trees; ++t) {
            const float* const other = log_p + t * stride + from;
            for (std::size_t i = 0; i < m; ++i) apart[i] = std::abs(total[i] - static_cast<double>(other[i]));
            for (std::size_t i = 0; i < m; ++i) total[i] = std::max(total[i], static_cast<double>(other[i]));
            kernels<double>().log_sigmoid(apart, m, none, apart);  // -log(1 + exp(-apart))
            for (std::size_t i = 0; i < m; ++i) total[i] -= total[i] > -HUGE_VAL ? apart[i] : 0.0;
        }
        for (std::size_t i = 0; i < m; ++i) out[from + i] = static_cast<float>(total[i] - log_trees);
    }
}

}  // namespace sparseops::detail
