// SPDX-License-Identifier: BSD-3-Clause
#include "quantize.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "detail/parallel.hpp"
#include "detail/require.hpp"
#include "kernels/quantized.hpp"

namespace sparseops {
namespace {

using detail::require;

constexpr std::size_t block_rows = 256;

std::uint16_t to_bfloat16(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Of |x| <= 65504.
std::uint16_t to_float16(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t size = bits & 0x7fffffff, sign = (bits >> 16) & 0x8000;
    if (size < 0x38800000) {  // below 2^-14 half precision has steps of 2^-24, as float32 has from 1/2 to 1
        const float rounded = std::bit_cast<float>(size) + 0.5f;
        return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(rounded) - std::bit_cast<std::uint32_t>(0.5f)));
    }
    return static_cast<std::uint16_t>(sign | ((size - (112u << 23) + 0xfff + ((size >> 13) & 1)) >> 13));
}

float from_bfloat16(std::uint16_t h) { return std::bit_cast<float>(static_cast<std::uint32_t>(h) << 16); }

float from_float16(std::uint16_t h) {
    const std::uint32_t size = (h & 0x7fffu) << 13, sign = (h & 0x8000u) << 16;
    const float value = std::bit_cast<float>(size) * 0x1p112f;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
}

// f(first, end) for blocks of rows.
template <class F>
void each_block(std::size_t rows, std::size_t cols, int num_threads, const F& f) {
    const int threads = detail::team_size(num_threads, static_cast<double>(rows) * static_cast<double>(cols));
    detail::parallel_for((rows + block_rows - 1) / block_rows, threads,
                         [&](std::size_t item, std::size_t) { f(item * block_rows, std::min(rows, (item + 1) * block_rows)); });
}

void require_within(MatrixView<const float> W, QuantizedKind kind, int num_threads) {
    // the largest number that does not round to infinity
    const float limit = kind == QuantizedKind::float16    ? 65504.0f
                        : kind == QuantizedKind::bfloat16 ? std::bit_cast<float>(0x7f7f7fffu)
                                                          : std::bit_cast<float>(0x7f7fffffu);
    detail::FirstPlace bad;
    each_block(W.rows, W.cols, num_threads, [&](std::size_t first, std::size_t end) {
        const auto outside = [&](float w) { return !(std::fabs(w) <= limit); };
        const float* from = W.row(first);
        bool any = false;
        for (std::size_t i = 0; i < (end - first) * W.cols; ++i) any |= outside(from[i]);
        if (!any) return;
        bad.report(static_cast<std::size_t>(std::find_if(from, W.row(end), outside) - W.data));
    });
    if (!bad.any()) return;
    const std::size_t at = bad.place();
    const float w = W.data[at];
    const char* rule = !std::isfinite(w)                ? "be finite"
                       : kind == QuantizedKind::float16 ? "be in [-65504, 65504] for float16"
                                                        : "be in ±3.39e38 for bfloat16";
    detail::refuse("W must ", rule, ", got ", w, " at row ", at / W.cols, ", column ", at % W.cols);
}

}  // namespace

void quantize(MatrixView<const float> W, QuantizedKind kind, void* data, std::span<float> scale, int num_threads) {
    const std::size_t scales = kind == QuantizedKind::int8 ? W.rows : 0;
    require(scale.size() == scales, "scale must have ", scales, " entries, got ", scale.size());
    detail::require_data("scale", scale);
    detail::require_data("W", W.data, W.size());
    detail::require_data("data", data, W.size());
    require_within(W, kind, num_threads);
    each_block(W.rows, W.cols, num_threads, [&](std::size_t first, std::size_t end) {
        if (kind == QuantizedKind::int8) {
            auto* to = static_cast<std::int8_t*>(data);
            for (std::size_t r = first; r < end; ++r) scale[r] = detail::quantized_kernels().int8_row(W.row(r), W.cols, to + r * W.cols);
            return;
        }
        auto* to = static_cast<std::uint16_t*>(data) + first * W.cols;
        if (kind == QuantizedKind::bfloat16)
            std::transform(W.row(first), W.row(end), to, to_bfloat16);
        else
            std::transform(W.row(first), W.row(end), to, to_float16);
    });
}

void dequantize(const QuantizedView& W, MatrixView<float> out, int num_threads) {
    detail::require_data("W", W.data, W.rows * W.cols);
    detail::require_matrix("out", out, W.rows, W.cols);
    require(W.kind != QuantizedKind::int8 || W.scale.size() == W.rows, "scale must have ", W.rows, " entries, got ", W.scale.size());
    detail::require_data("scale", W.scale);
    each_block(W.rows, W.cols, num_threads, [&](std::size_t first, std::size_t end) {
        if (W.kind == QuantizedKind::int8) {
            const auto* from = static_cast<const std::int8_t*>(W.data);
            for (std::size_t r = first; r < end; ++r) {
                for (std::size_t j = 0; j < W.cols; ++j) out.row(r)[j] = static_cast<float>(from[r * W.cols + j]) * W.scale[r];
            }
            return;
        }
        const auto* from = static_cast<const std::uint16_t*>(W.data);
        std::transform(from + first * W.cols, from + end * W.cols, out.row(first),
                       W.kind == QuantizedKind::bfloat16 ? from_bfloat16 : from_float16);
    });
}

}  // namespace sparseops
