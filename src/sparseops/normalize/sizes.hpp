// SPDX-License-Identifier: BSD-3-Clause
// The size of a vector that may be too large or too small for a double, and what to multiply the vector by.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>

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

// The scaling that makes a vector of this size `norm` long: NaN if an entry is not finite, so that the whole vector says so.
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

template <Real T>
T drop_small(T x, T threshold) noexcept {
    return std::abs(x) <= threshold ? T(0) : x;
}

// The measures as in the kernels; a largest that meets a NaN or an infinity becomes NaN and stays so.
inline double join(Norm ord, double sum, double x) noexcept {
    if (ord == Norm::l2) return sum + x * x;
    if (ord == Norm::l1) return sum + std::abs(x);
    const double size = std::abs(x) + (x - x);
    return size <= sum ? sum : size + (sum - sum);
}
inline double combine(Norm ord, double a, double b) noexcept { return ord == Norm::max ? join(ord, a, b) : a + b; }

// The size of x[0 .. n) by way of its largest entry. Without memory of its own: where x is scaled in place, rows before this one
// may be done.
template <Real T>
Size rescaled_size(const T* x, std::size_t n, Norm ord, T threshold) {
    const auto& k = norm_kernels<T>();
    const std::size_t all[2] = {0, n};
    double largest = 0, measure = 0, part = 0;
    k.measure[static_cast<int>(Norm::max)](x, all, 1, threshold, &largest);
    if (largest == 0) return {};
    const double scale = rescale_by(largest);
    constexpr std::size_t block = 512;
    T scaled[block];
    for (std::size_t i = 0; i < n; i += block) {
        const std::size_t some[2] = {0, std::min(block, n - i)};
        k.scale(x + i, some, 1, threshold, &scale, scaled);
        k.measure[static_cast<int>(ord)](scaled, some, 1, T(-1), &part);
        measure = combine(ord, measure, part);
    }
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
    std::size_t done = 0;  // segments
    const auto scale_until = [&](std::size_t end) {
        if (x == out && threshold < 0 && std::all_of(factor + done, factor + end, [](double f) { return f == 1; })) return;
        k.scale(x, offset + done, end - done, threshold, factor + done, out);
    };
    if constexpr (std::is_same_v<T, double>) {
        for (std::size_t i = 0; i < count; ++i) {
            const bool lost = doubtful_norm<T>(norms[i]);
            if (!lost && !doubtful_factor(factor[i])) continue;
            const Size size = lost ? rescaled_size(x + offset[i], offset[i + 1] - offset[i], ord, threshold) : Size{norms[i]};
            const Scaling s = is_scaled(size, norm, max_norm) ? scaling_of(size, norm) : Scaling{};
            factor[i] = s.factor;
            if (!s.power) continue;
            scale_until(i);
            for (std::size_t e = offset[i]; e < offset[i + 1]; ++e) out[e] = s(drop_small(x[e], threshold));
            done = i + 1;
        }
    }
    scale_until(count);
}

}  // namespace sparseops::detail
