// SPDX-License-Identifier: BSD-3-Clause
// The size of a vector that may be too large or too small for a double, and what to multiply the vector by.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <vector>

#include "../kernels/stream.hpp"
#include "../types.hpp"

namespace sparseops::detail {

// The norm is value / scale, scale a power of two (nearly always 1). A value that is not finite says that an entry is not.
struct Size {
    double value = 0, scale = 1;
    double norm() const noexcept { return std::isfinite(value) ? value / scale : std::numeric_limits<double>::quiet_NaN(); }
};

// x becomes (x · 2^power) · factor, with the power nearly always 0: a quotient beyond the range of double keeps its digits.
struct Scaling {
    double factor = 1;
    int power = 0;
    bool same() const noexcept { return factor == 1 && power == 0; }
    double operator()(double x) const noexcept { return (power ? std::ldexp(x, power) : x) * factor; }
};

// x · 2^power as a scaling.
inline Scaling in_range(double x, int power) noexcept {
    int own = 0;
    const double digits = std::frexp(x, &own);
    const int near = std::clamp(own + power, -1000, 1000);
    return {std::ldexp(digits, near), own + power - near};
}

// Whether norm / size may have left the range of double.
inline bool doubtful_factor(double factor) noexcept { return !(factor >= std::numeric_limits<double>::min() && factor <= 1e300); }

inline bool is_scaled(Size s, double norm, bool max_norm) noexcept { return s.value != 0 && !(max_norm && s.value <= norm * s.scale); }

// What makes a vector of this size `norm` long: NaN if an entry is not finite, so that the whole vector says so.
inline Scaling scaling_of(Size s, double norm) noexcept {
    if (!std::isfinite(s.value)) return {std::numeric_limits<double>::quiet_NaN()};
    if (const double factor = norm / s.value; s.scale == 1 && !doubtful_factor(factor)) return {factor};
    int up = 0, down = 0;
    const double digits = std::frexp(norm, &up) / std::frexp(s.value, &down);
    return in_range(digits, up - down + std::ilogb(s.scale));
}

// Whether a sum of squares, or a sum or largest of sizes, of entries of type T may have left the range of double: then it is
// taken again of scaled entries. Zeros are looked at again too. Floats cannot leave the range.
template <class T>
bool doubtful_measure(double measure) noexcept {
    return std::is_same_v<std::remove_const_t<T>, double> && !(measure >= 1e-280 && measure <= 1e290);
}
template <class T>
bool doubtful_norm(double norm) noexcept {
    return std::is_same_v<std::remove_const_t<T>, double> && !(norm >= 1e-140 && norm <= 1e145);
}

// The scale for a vector whose largest entry is `largest`.
inline double rescale_by(double largest) noexcept {
    if (!(largest > 0) || !std::isfinite(largest)) return 1;
    return std::ldexp(1.0, std::clamp(-std::ilogb(largest), -1000, 1000));
}

// The size of x[0 .. n) by way of its largest entry.
template <Real T>
Size rescaled_size(const T* x, std::size_t n, Norm ord, T threshold) {
    const auto& k = norm_kernels<T>();
    const std::size_t all[2] = {0, n};
    double largest = 0, measure = 0;
    k.measure[static_cast<int>(Norm::max)](x, all, 1, threshold, &largest);
    if (largest == 0) return {};
    const double scale = rescale_by(largest);
    std::vector<T> scaled(n);
    k.scale(x, all, 1, threshold, &scale, scaled.data());
    k.measure[static_cast<int>(ord)](scaled.data(), all, 1, T(-1), &measure);
    return {ord == Norm::l2 ? std::sqrt(measure) : measure, scale};
}

// The norms of the segments x[offset[i] .. offset[i + 1]) and what makes them `norm` long, if they are in no doubt.
template <Real T>
void measure_segments(const T* x, const std::size_t* offset, std::size_t count, Norm ord, T threshold, double norm, bool max_norm,
                      double* norms, double* factor) {
    const auto& k = norm_kernels<T>();
    k.measure[static_cast<int>(ord)](x, offset, count, threshold, norms);
    k.settle(norms, count, ord == Norm::l2, norm, max_norm, norms, factor);
    if constexpr (std::is_same_v<T, double>) {
        for (std::size_t i = 0; i < count; ++i) {
            if (doubtful_norm<T>(norms[i])) norms[i] = rescaled_size(x + offset[i], offset[i + 1] - offset[i], ord, threshold).norm();
        }
    } else {
        for (std::size_t i = 0; i < count; ++i) norms[i] = std::isfinite(norms[i]) ? norms[i] : std::numeric_limits<double>::quiet_NaN();
    }
}

// out = x with its segments scaled by `factor` (count of them, changed here), which measure_segments or settle made of norms.
template <Real T>
void scale_segments(const T* x, const std::size_t* offset, std::size_t count, Norm ord, T threshold, double norm, bool max_norm,
                    const double* norms, double* factor, T* out) {
    const auto& k = norm_kernels<T>();
    std::vector<std::pair<std::size_t, Scaling>> again;
    if constexpr (std::is_same_v<T, double>) {
        for (std::size_t i = 0; i < count; ++i) {
            const bool lost = doubtful_norm<T>(norms[i]);
            if (!lost && !doubtful_factor(factor[i])) continue;
            const Size size = lost ? rescaled_size(x + offset[i], offset[i + 1] - offset[i], ord, threshold) : Size{norms[i]};
            const Scaling s = is_scaled(size, norm, max_norm) ? scaling_of(size, norm) : Scaling{};
            factor[i] = s.power ? 1 : s.factor;
            if (s.power) again.emplace_back(i, s);
        }
    }
    if (x == out && threshold < 0 && again.empty() && std::all_of(factor, factor + count, [](double f) { return f == 1; })) return;
    k.scale(x, offset, count, threshold, factor, out);
    for (const auto& [i, s] : again) std::transform(out + offset[i], out + offset[i + 1], out + offset[i], s);
}

}  // namespace sparseops::detail
