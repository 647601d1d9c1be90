// SPDX-License-Identifier: BSD-3-Clause
#include "../normalize.hpp"

#include "../detail/csr.hpp"
#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "../kernels/kernels.hpp"
#include "columns.hpp"

namespace sparseops {
namespace {

using detail::require;
using detail::Scaling;
using detail::Size;

constexpr std::size_t row_block = 256;      // rows per kernel call
constexpr std::size_t entry_block = 65536;  // entries per work item of the passes that write

void require_options(const Normalize& o) {
    require(std::isfinite(o.norm) && o.norm >= 0, "norm must be finite and non-negative, got ", o.norm);
    require(std::isfinite(o.threshold) && o.threshold >= 0, "threshold must be finite and non-negative, got ", o.threshold);
}

template <Real T>
T limit_of(const Normalize& o) noexcept {  // never an infinity, which would let infinities through as zeros
    return o.threshold > 0 ? static_cast<T>(std::min(o.threshold, static_cast<double>(std::numeric_limits<T>::max()))) : T(-1);
}

template <Real T, Index I>
void require_csr(CsrView<const T, I> x, std::span<T> out) {
    detail::require_csr(x, "W");
    require(out.size() == x.data.size(), "out must have ", x.data.size(), " entries, got ", out.size());
    detail::require_data("out", out);
}

template <Real T>
[[noreturn]] void refuse_not_finite(std::span<const T> x) {
    const std::size_t at = detail::kernels<T>().first_not_finite(x.data(), x.size());
    detail::refuse("W must be finite, got ", x[at], " at stored value ", at);
}

double work(std::size_t entries) { return 2 * static_cast<double>(entries); }

// ---- rows: contiguous segments ------------------------------------------------------------------------------

// offset_of(i) is where row i starts; offset_of(rows) the end.
template <Real T, class OffsetOf>
class Rows {
public:
    Rows(std::span<const T> x, std::span<T> out, std::size_t rows, const Normalize& options, int num_threads, OffsetOf offset_of)
        : x_(x),
          out_(out),
          rows_(rows),
          options_(options),
          offset_of_(offset_of),
          threads_(detail::team_size(num_threads, work(x.size()))) {}

    void run(std::span<double> norms) {
        require(norms.size() == rows_, "norms must have ", rows_, " entries, got ", norms.size());
        detail::require_data("norms", norms);
        const Normalize& o = options_;
        const T threshold = limit_of<T>(o);
        const bool two_passes = o.check_finite && x_.data() == out_.data();  // in place, all is measured before anything is written
        std::vector<char> bad((rows_ + row_block - 1) / row_block, 0);
        each_block([&](std::size_t from, std::size_t count, const std::size_t* offset, double* factor) {
            double* own = norms.data() + from;
            detail::measure_segments(x_.data(), offset, count, o.ord, threshold, o.norm, o.max_norm, own, factor);
            bad[from / row_block] = std::any_of(own, own + count, [](double v) { return std::isnan(v); });
            if (!two_passes)
                detail::scale_segments(x_.data(), offset, count, o.ord, threshold, o.norm, o.max_norm, own, factor, out_.data());
        });
        if (o.check_finite && std::find(bad.begin(), bad.end(), 1) != bad.end()) refuse_not_finite(x_);
        if (!two_passes) return;
        each_block([&](std::size_t from, std::size_t count, const std::size_t* offset, double* factor) {
            double* own = norms.data() + from;
            detail::norm_kernels<T>().settle(own, count, false, o.norm, o.max_norm, own, factor);
            detail::scale_segments(x_.data(), offset, count, o.ord, threshold, o.norm, o.max_norm, own, factor, out_.data());
        });
    }

private:
    template <class F>
    void each_block(F f) {
        detail::parallel_for((rows_ + row_block - 1) / row_block, threads_, [&](std::size_t block, std::size_t) {
            const std::size_t from = block * row_block, count = std::min(row_block, rows_ - from);
            std::size_t offset[row_block + 1];
            double factor[row_block];
            for (std::size_t i = 0; i <= count; ++i) offset[i] = offset_of_(from + i);
            f(from, count, offset, factor);
        });
    }

    std::span<const T> x_;
    std::span<T> out_;
    std::size_t rows_;
    const Normalize& options_;
    OffsetOf offset_of_;
    int threads_;
};

// ---- columns ------------------------------------------------------------------------------------------------

// The scalings of columns of these sizes; their norms take the place of the measures.
struct Columns {
    std::unique_ptr<double[]> factor;
    std::vector<int> power;  // of Scaling; empty: all 0
    bool same = true, finite = true;

    Columns(const detail::ColumnSizes& sizes, std::span<double> norms, const Normalize& o, int threads)
        : factor(std::make_unique_for_overwrite<double[]>(norms.size())) {
        const auto scaling = [&](Size size) {
            return detail::is_scaled(size, o.norm, o.max_norm) ? detail::scaling_of(size, o.norm) : Scaling{};
        };
        struct Seen {
            bool same = true, finite = true, power = false;
        };
        std::vector<Seen> seen(detail::column_ranges(norms.size()));
        detail::parallel_ranges(norms.size(), threads, [&](std::size_t from, std::size_t to, std::size_t range) {
            Seen own;
            for (std::size_t c = from; c < to; ++c) {
                const Size size = sizes[c];
                const Scaling s = scaling(size);
                factor[c] = s.factor;
                own.power |= s.power != 0;
                own.same &= s.same();
                own.finite &= std::isfinite(size.value);
            }
            seen[range] = own;
        });
        bool powers = false;
        for (const Seen& s : seen) {
            same &= s.same;
            finite &= s.finite;
            powers |= s.power;
        }
        if (powers) {
            power.resize(norms.size());
            for (std::size_t c = 0; c < norms.size(); ++c) power[c] = scaling(sizes[c]).power;
        }
        if (finite && sizes.scale.empty()) return;
        for (std::size_t c = 0; c < norms.size(); ++c) norms[c] = sizes[c].norm();
    }

    template <Real T>
    T scaled(std::size_t c, T x) const noexcept {
        return static_cast<T>(Scaling{factor[c], power.empty() ? 0 : power[c]}(static_cast<double>(x)));
    }
};

// The entries are n; returns the first whose index is out of range, or n.
template <Norm Ord, bool Threshold, Real T, Index I>
std::size_t sum_entries(const I* index, const T* x, std::size_t n, std::size_t cols, T threshold, double* sum) {
    return detail::each_entry(index, 0, n, sum, cols, [&](std::size_t e) {
        const auto c = static_cast<std::size_t>(static_cast<std::make_unsigned_t<I>>(index[e]));
        if (c >= cols) [[unlikely]]
            return false;
        sum[c] = detail::join(Ord, sum[c], static_cast<double>(Threshold ? detail::drop_small(x[e], threshold) : x[e]));
        return true;
    });
}

template <Real T, Index I>
auto sum_entries_of(Norm ord, bool threshold) {
    if (ord == Norm::l1) return threshold ? sum_entries<Norm::l1, true, T, I> : sum_entries<Norm::l1, false, T, I>;
    if (ord == Norm::l2) return threshold ? sum_entries<Norm::l2, true, T, I> : sum_entries<Norm::l2, false, T, I>;
    return threshold ? sum_entries<Norm::max, true, T, I> : sum_entries<Norm::max, false, T, I>;
}

}  // namespace

template <Real T, Index I>
void normalize_rows(CsrView<const T, I> W, std::span<T> out, std::span<double> norms, const Normalize& options, int num_threads) {
    require_options(options);
    require_csr(W, out);
    const std::size_t nnz = static_cast<std::size_t>(W.indptr.back());
    Rows(W.data.first(nnz), out.first(nnz), W.rows(), options, num_threads, [&](std::size_t i) {
        return static_cast<std::size_t>(W.indptr[i]);
    }).run(norms);
}

template <Real T>
void normalize_rows(MatrixView<const T> W, MatrixView<T> out, std::span<double> norms, const Normalize& options, int num_threads) {
    require_options(options);
    detail::require_data("W", W.data, W.size());
    detail::require_matrix("out", out, W.rows, W.cols);
    Rows(std::span(W.data, W.size()), std::span(out.data, out.size()), W.rows, options, num_threads, [&](std::size_t i) {
        return i * W.cols;
    }).run(norms);
}

template <Real T, Index I>
void normalize_columns(CsrView<const T, I> W, std::span<T> out, std::span<double> norms, const Normalize& options, int num_threads) {
    require_options(options);
    require_csr(W, out);
    require(norms.size() == W.cols, "norms must have ", W.cols, " entries, got ", norms.size());
    detail::require_data("norms", norms);
    const std::size_t nnz = static_cast<std::size_t>(W.indptr.back()), cols = W.cols;
    const T threshold = limit_of<T>(options);
    const int threads = detail::team_size(num_threads, 2 * work(nnz));
    const std::size_t blocks = detail::column_blocks(nnz, cols), length = (nnz + blocks - 1) / blocks;
    std::vector<std::size_t> bad(blocks, nnz);
    const auto sum = sum_entries_of<T, I>(options.ord, threshold >= 0);
    detail::sum_blocks(blocks, options.ord, threads, norms, [&](std::size_t b, double* own) {
        const std::size_t from = std::min(nnz, b * length), n = std::min(length, nnz - from);
        const std::size_t done = sum(W.indices.data() + from, W.data.data() + from, n, cols, threshold, own);
        if (done < n) bad[b] = from + done;
    });
    const std::size_t first_bad = *std::min_element(bad.begin(), bad.end());
    if (first_bad < nnz) detail::refuse("W.indices must be in [0, ", cols, "), got ", W.indices[first_bad], " at index ", first_bad);
    const Columns columns(detail::column_sizes(W.data.first(nnz), norms, options.ord, threshold, threads,
                                               [&](auto f) {
                                                   for (std::size_t e = 0; e < nnz; ++e)
                                                       f(static_cast<std::size_t>(W.indices[e]), W.data[e]);
                                               }),
                          norms, options, threads);
    if (options.check_finite && !columns.finite) refuse_not_finite(W.data.first(nnz));
    if (columns.same && threshold < 0 && W.data.data() == out.data()) return;
    detail::parallel_for((nnz + entry_block - 1) / entry_block, threads, [&](std::size_t block, std::size_t) {
        const std::size_t to = std::min(nnz, (block + 1) * entry_block);
        const double* factor = columns.factor.get();
        if (!columns.power.empty() || threshold >= 0) {
            for (std::size_t e = block * entry_block; e < to; ++e)
                out[e] = columns.scaled(static_cast<std::size_t>(W.indices[e]), detail::drop_small(W.data[e], threshold));
            return;
        }
        detail::each_entry(W.indices.data(), block * entry_block, to, factor, cols, [&](std::size_t e) {
            out[e] = static_cast<T>(static_cast<double>(W.data[e]) * factor[static_cast<std::size_t>(W.indices[e])]);
            return true;
        });
    });
}

template <Real T>
void normalize_columns(MatrixView<const T> W, MatrixView<T> out, std::span<double> norms, const Normalize& options, int num_threads) {
    require_options(options);
    detail::require_data("W", W.data, W.size());
    detail::require_matrix("out", out, W.rows, W.cols);
    require(norms.size() == W.cols, "norms must have ", W.cols, " entries, got ", norms.size());
    detail::require_data("norms", norms);
    const auto& k = detail::norm_kernels<T>();
    const T threshold = limit_of<T>(options);
    const int threads = detail::team_size(num_threads, 2 * work(W.size()));
    const std::size_t blocks = std::clamp<std::size_t>(W.rows / 64, 1, 64), length = (W.rows + blocks - 1) / blocks;
    detail::sum_blocks(blocks, options.ord, threads, norms, [&](std::size_t b, double* own) {
        const std::size_t from = std::min(W.rows, b * length), n = std::min(length, W.rows - from);
        k.measure_columns[static_cast<int>(options.ord)](W.row(from), n, W.cols, threshold, own);
    });
    const Columns columns(detail::column_sizes(std::span(W.data, W.size()), norms, options.ord, threshold, threads,
                                               [&](auto f) {
                                                   for (std::size_t e = 0; e < W.size(); ++e) f(e % W.cols, W.data[e]);
                                               }),
                          norms, options, threads);
    if (options.check_finite && !columns.finite) refuse_not_finite(std::span(W.data, W.size()));
    if (columns.same && threshold < 0 && W.data == out.data) return;
    const std::size_t rows_a_block = std::max<std::size_t>(1, entry_block / (W.cols + 1)),
                      count = (W.rows + rows_a_block - 1) / rows_a_block;
    detail::parallel_for(count, threads, [&](std::size_t block, std::size_t) {
        const std::size_t from = block * rows_a_block, n = std::min(rows_a_block, W.rows - from);
        if (columns.power.empty()) return k.scale_columns(W.row(from), n, W.cols, threshold, columns.factor.get(), out.row(from));
        for (std::size_t e = from * W.cols; e < (from + n) * W.cols; ++e)
            out.data[e] = columns.scaled(e % W.cols, detail::drop_small(W.data[e], threshold));
    });
}

template void normalize_rows(CsrView<const float, std::int32_t>, std::span<float>, std::span<double>, const Normalize&, int);
template void normalize_rows(CsrView<const float, std::int64_t>, std::span<float>, std::span<double>, const Normalize&, int);
template void normalize_rows(CsrView<const double, std::int32_t>, std::span<double>, std::span<double>, const Normalize&, int);
template void normalize_rows(CsrView<const double, std::int64_t>, std::span<double>, std::span<double>, const Normalize&, int);
template void normalize_columns(CsrView<const float, std::int32_t>, std::span<float>, std::span<double>, const Normalize&, int);
template void normalize_columns(CsrView<const float, std::int64_t>, std::span<float>, std::span<double>, const Normalize&, int);
template void normalize_columns(CsrView<const double, std::int32_t>, std::span<double>, std::span<double>, const Normalize&, int);
template void normalize_columns(CsrView<const double, std::int64_t>, std::span<double>, std::span<double>, const Normalize&, int);
template void normalize_rows(MatrixView<const float>, MatrixView<float>, std::span<double>, const Normalize&, int);
template void normalize_rows(MatrixView<const double>, MatrixView<double>, std::span<double>, const Normalize&, int);
template void normalize_columns(MatrixView<const float>, MatrixView<float>, std::span<double>, const Normalize&, int);
template void normalize_columns(MatrixView<const double>, MatrixView<double>, std::span<double>, const Normalize&, int);

}  // namespace sparseops
