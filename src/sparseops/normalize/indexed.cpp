// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <vector>

#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "../kernels/prefetch.hpp"
#include "../normalize.hpp"
#include "named_rows.hpp"
#include "sizes.hpp"

namespace sparseops {
namespace {

using detail::require;

constexpr std::size_t index_block = 256;      // named rows per work item
constexpr std::size_t prefetch_distance = 8;  // in rows: short ones are done before the next has come

// A row as arithmetic wants it: itself, or the floats of 16-bit storage in a buffer of the worker.
template <class T>
struct Storage {
    using Real = T;
    static const T* load(const T* row, std::size_t, T*) noexcept { return row; }
    static T* target(T* row, T*) noexcept { return row; }
    static void store(const T*, std::size_t, T*) noexcept {}
};
template <class T, auto From, auto To>
struct Storage16 {
    using Real = float;
    static const float* load(const T* row, std::size_t n, float* buffer) noexcept {
        (detail::stream_kernels().*From)(&row->bits, n, buffer);
        return buffer;
    }
    static float* target(T*, float* buffer) noexcept { return buffer; }
    static void store(const float* buffer, std::size_t n, T* row) noexcept { (detail::stream_kernels().*To)(buffer, n, &row->bits); }
};
using Table = detail::StreamTable;
template <>
struct Storage<float16> : Storage16<float16, &Table::from_float16, &Table::to_float16> {};
template <>
struct Storage<bfloat16> : Storage16<bfloat16, &Table::from_bfloat16, &Table::to_bfloat16> {};

// The norm of a row, and whether to change it; then the change.
template <Real T>
double measure_row(const T* row, std::size_t n, double norm, bool max_norm, double& factor) {
    const std::size_t all[2] = {0, n};
    double size = 0;
    detail::measure_segments(row, all, 1, Norm::l2, T(-1), norm, max_norm, &size, &factor);
    return size;
}
template <Real T>
void scale_row(const T* row, std::size_t n, double norm, bool max_norm, double size, double factor, T* out) {
    const std::size_t all[2] = {0, n};
    detail::scale_segments(row, all, 1, Norm::l2, T(-1), norm, max_norm, &size, &factor, out);
}

}  // namespace

std::size_t distinct_rows(std::span<const std::int64_t> rows, std::size_t size, std::span<std::int64_t> out) {
    require(out.size() == rows.size(), "out must have ", rows.size(), " entries, got ", out.size());
    detail::require_data("rows", rows);
    detail::require_data("out", out);
    for (std::size_t i = 0; i < rows.size(); ++i) {
        require(rows[i] >= 0 && static_cast<std::size_t>(rows[i]) < size, "rows must be in [0, ", size, "), got ", rows[i], " at index ",
                i);
    }
    if (size / 64 > 8 * rows.size()) {
        std::copy(rows.begin(), rows.end(), out.begin());
        std::sort(out.begin(), out.end());
        return static_cast<std::size_t>(std::unique(out.begin(), out.end()) - out.begin());
    }
    std::vector<std::uint64_t> named(size / 64 + 1, 0);
    for (const std::int64_t row : rows) named[static_cast<std::size_t>(row) / 64] |= std::uint64_t{1} << (row % 64);
    std::size_t count = 0;
    for (std::size_t word = 0; word < named.size(); ++word) {
        for (std::uint64_t bits = named[word]; bits; bits &= bits - 1) {
            out[count++] = static_cast<std::int64_t>(word * 64) + __builtin_ctzll(bits);
        }
    }
    return count;
}

template <class T>
void normalize_indexed_rows(MatrixView<T> param, std::span<const std::int64_t> rows, std::span<double> norms, double norm, bool max_norm,
                            bool check_finite, int num_threads) {
    using R = typename Storage<T>::Real;
    require(std::isfinite(norm) && norm >= 0, "norm must be finite and non-negative, got ", norm);
    detail::require_data("param", param.data, param.size());
    require(norms.size() == rows.size(), "norms must have ", rows.size(), " entries, got ", norms.size());
    detail::require_data("rows", rows);
    detail::require_data("norms", norms);
    for (std::size_t i = 0; i < rows.size(); ++i) {
        require(rows[i] >= 0 && static_cast<std::size_t>(rows[i]) < param.rows, "rows must be in [0, ", param.rows, "), got ", rows[i],
                " at index ", i);
        require(i == 0 || rows[i] > rows[i - 1], "rows must ascend, got ", rows[i], " at index ", i);
    }
    const std::size_t n = param.cols, count = rows.size();
    if (n == 0) {
        std::fill(norms.begin(), norms.end(), 0.0);
        return;
    }
    const int threads = detail::team_size(num_threads, 8.0 * static_cast<double>(count) * static_cast<double>(n));
    const bool converts = !std::is_same_v<R, T>;
    detail::PerWorker<R> buffers(converts ? n : 0, threads);
    std::vector<double> factor(count);
    const auto row = [&](std::size_t i) { return param.row(static_cast<std::size_t>(rows[i])); };
    const auto each_row = [&](auto f) {
        detail::parallel_for((count + index_block - 1) / index_block, threads, [&](std::size_t block, std::size_t worker) {
            R* buffer = converts ? buffers[worker] : nullptr;
            for (std::size_t i = block * index_block; i < std::min(count, (block + 1) * index_block); ++i) f(i, buffer);
        });
    };
    const auto scale = [&](std::size_t i, R* buffer) {
        if (factor[i] == 1 && !detail::doubtful_norm<R>(norms[i])) return;
        R* target = Storage<T>::target(row(i), buffer);
        scale_row(Storage<T>::load(row(i), n, buffer), n, norm, max_norm, norms[i], factor[i], target);
        Storage<T>::store(target, n, row(i));
    };
    each_row([&](std::size_t i, R* buffer) {
        if (i + prefetch_distance < count) detail::prefetch(row(i + prefetch_distance), n);
        norms[i] = measure_row(Storage<T>::load(row(i), n, buffer), n, norm, max_norm, factor[i]);
        if (!check_finite) scale(i, buffer);
    });
    if (!check_finite) return;
    for (std::size_t i = 0; i < count; ++i) require(!std::isnan(norms[i]), "param must be finite, got nan or inf in row ", rows[i]);
    each_row([&](std::size_t i, R* buffer) {
        if (i + prefetch_distance < count && factor[i + prefetch_distance] != 1) detail::prefetch(row(i + prefetch_distance), n);
        scale(i, buffer);
    });
}

template <Real T>
void limit_row(T* w, std::size_t n, double norm) {
    double factor = 1;
    const double size = measure_row(w, n, norm, true, factor);
    if (factor != 1 || detail::doubtful_norm<T>(size)) scale_row(w, n, norm, true, size, factor, w);
}

template void normalize_indexed_rows(MatrixView<float>, std::span<const std::int64_t>, std::span<double>, double, bool, bool, int);
template void normalize_indexed_rows(MatrixView<double>, std::span<const std::int64_t>, std::span<double>, double, bool, bool, int);
template void normalize_indexed_rows(MatrixView<float16>, std::span<const std::int64_t>, std::span<double>, double, bool, bool, int);
template void normalize_indexed_rows(MatrixView<bfloat16>, std::span<const std::int64_t>, std::span<double>, double, bool, bool, int);
template void limit_row(float*, std::size_t, double);
template void limit_row(double*, std::size_t, double);

}  // namespace sparseops
