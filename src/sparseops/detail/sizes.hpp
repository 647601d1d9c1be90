// The size of a vector that may be too large or too small for a double, and what to multiply the vector by.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <type_traits>
#include <vector>

#include "../types.hpp"
#include "kernels_stream.hpp"

namespace sparseops::detail {

// The norm is value / scale, scale a power of two (nearly always 1). A value that is not finite says that an entry is not.
struct Size {
    double value = 0, scale = 1;
    double norm() const noexcept { return value / scale; }
};

// x becomes (x · scale) · factor: with scale 1 and factor 1 nothing changes.
struct Scaling {
    double scale = 1, factor = 1;
};

inline Scaling scaling_of(Size s, double norm, bool max_norm) noexcept {
    if (s.value == 0 || (max_norm && s.value <= norm * s.scale)) return {};
    return {s.scale, norm / s.value};
}

// From a measure (kernels_stream.hpp) taken of x · scale.
inline Size size_of(double measure, Norm ord, double scale = 1) noexcept { return {ord == Norm::l2 ? std::sqrt(measure) : measure, scale}; }

// Whether a measure of entries of type T has to be taken again of scaled entries: it left the range where it is exact, or
// 1 / size would overflow. Floats cannot leave the range of double.
template <class T>
bool out_of_range(double measure) noexcept {
    return std::is_same_v<std::remove_const_t<T>, double> && !(measure >= 1e-280 && measure <= 1e290);
}

// The scale for a vector whose largest entry is `largest`.
inline double rescale_by(double largest) noexcept {
    if (!(largest > 0) || !std::isfinite(largest)) return 1;
    return std::ldexp(1.0, std::clamp(-std::ilogb(largest), -1000, 1000));
}

// The sizes of x[offset[i] .. offset[i + 1]), i < count.
template <Real T>
void measure_segments(const T* x, const std::size_t* offset, std::size_t count, Norm ord, T threshold, Size* out) {
    const auto& k = norm_kernels<T>();
    constexpr std::size_t stretch = 128;
    double measure[stretch];
    for (std::size_t from = 0; from < count; from += stretch) {
        const std::size_t n = std::min(stretch, count - from);
        k.measure[static_cast<int>(ord)](x, offset + from, n, threshold, measure);
        for (std::size_t i = 0; i < n; ++i) out[from + i] = size_of(measure[i], ord);
        if constexpr (std::is_same_v<T, double>) {
            for (std::size_t i = 0; i < n; ++i) {
                if (!out_of_range<T>(measure[i])) [[likely]] continue;
                const std::size_t* o = offset + from + i;
                double largest = 0;
                k.measure[static_cast<int>(Norm::max)](x, o, 1, threshold, &largest);
                if (largest == 0) continue;
                const double scale = rescale_by(largest);
                std::vector<double> scaled(o[1] - o[0]);
                const std::size_t all[2] = {0, scaled.size()};
                k.scale(x + o[0], all, 1, threshold, &scale, scaled.data());
                k.measure[static_cast<int>(ord)](scaled.data(), all, 1, T(-1), &measure[i]);
                out[from + i] = size_of(measure[i], ord, scale);
            }
        }
    }
}

}  // namespace sparseops::detail
