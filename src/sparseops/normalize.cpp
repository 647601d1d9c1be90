#include "normalize.hpp"

#include <memory>

#include "detail/kernels.hpp"
#include "detail/parallel.hpp"
#include "detail/require.hpp"
#include "detail/sizes.hpp"

namespace sparseops {
namespace {

using detail::require;
using detail::Scaling;
using detail::Size;

constexpr std::size_t row_block = 256;      // rows a kernel call
constexpr std::size_t entry_block = 65536;  // entries a work item of the passes that write

void require_options(const Normalize& o) {
    require(std::isfinite(o.norm) && o.norm >= 0, "norm must be finite and non-negative, got ", o.norm);
    require(std::isfinite(o.threshold) && o.threshold >= 0, "threshold must be finite and non-negative, got ", o.threshold);
}

template <Real T>
T limit_of(const Normalize& o) noexcept {
    return o.threshold > 0 ? static_cast<T>(o.threshold) : T(-1);
}

template <Real T, Index I>
void require_csr(CsrView<const T, I> x, std::size_t out) {
    require(!x.indptr.empty() && x.indptr[0] == 0, "W.indptr must start with 0");
    require(x.indices.size() == x.data.size(), "W.indices must have ", x.data.size(), " entries, got ", x.indices.size());
    for (std::size_t i = 0; i < x.rows(); ++i) {
        require(x.indptr[i + 1] >= x.indptr[i], "W.indptr must not decrease, got ", x.indptr[i + 1], " after ", x.indptr[i], " at index ",
                i + 1);
    }
    require(static_cast<std::size_t>(x.indptr.back()) <= x.data.size(), "W.indptr must end by ", x.data.size(), ", got ", x.indptr.back());
    require(out == x.data.size(), "out must have ", x.data.size(), " entries, got ", out);
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
    Rows(std::span<const T> x, std::span<T> out, std::size_t rows, const Normalize& options, OffsetOf offset_of)
        : x_(x),
          out_(out),
          rows_(rows),
          options_(options),
          offset_of_(offset_of),
          threads_(detail::team_size(options.num_threads, work(x.size()))) {}

    void run(std::span<double> norms) {
        require(norms.size() == rows_, "norms must have ", rows_, " entries, got ", norms.size());
        const Normalize& o = options_;
        const T threshold = limit_of<T>(o);
        const bool two_passes = o.check_finite && x_.data() == out_.data();  // in place, all is measured before anything is written
        each_block([&](std::size_t from, std::size_t count, const std::size_t* offset, double* factor) {
            double* own = norms.data() + from;
            detail::measure_segments(x_.data(), offset, count, o.ord, threshold, o.norm, o.max_norm, own, factor);
            if (!two_passes)
                detail::scale_segments(x_.data(), offset, count, o.ord, threshold, o.norm, o.max_norm, own, factor, out_.data());
        });
        if (o.check_finite && !std::all_of(norms.begin(), norms.end(), [](double v) { return !std::isnan(v); })) refuse_not_finite(x_);
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

template <Real T>
T drop_small(T x, T threshold) noexcept {
    return std::abs(x) <= threshold ? T(0) : x;
}

// The measures as in the kernels; a largest that meets a NaN or an infinity becomes NaN and stays so.
double join(Norm ord, double sum, double x) noexcept {
    if (ord == Norm::l2) return sum + x * x;
    if (ord == Norm::l1) return sum + std::abs(x);
    const double size = std::abs(x) + (x - x);
    return size <= sum ? sum : size + (sum - sum);
}
double combine(Norm ord, double a, double b) noexcept { return ord == Norm::max ? join(ord, a, b) : a + b; }

// Sums of `blocks` blocks, each by measure_block(block, sums of its own), added in block order.
template <class MeasureBlock>
void sum_blocks(std::size_t blocks, Norm ord, int threads, std::span<double> sum, MeasureBlock measure_block) {
    const std::size_t cols = sum.size();
    const auto own = std::make_unique_for_overwrite<double[]>((blocks - 1) * cols);
    const auto of = [&](std::size_t b) { return b == 0 ? sum.data() : own.get() + (b - 1) * cols; };
    detail::parallel_for(blocks, threads, [&](std::size_t b, std::size_t) {
        std::fill_n(of(b), cols, 0.0);
        measure_block(b, of(b));
    });
    constexpr std::size_t width = 4096;
    detail::parallel_for((cols + width - 1) / width, threads, [&](std::size_t part, std::size_t) {
        const std::size_t from = part * width, to = std::min(cols, from + width);
        for (std::size_t b = 1; b < blocks; ++b) {
            for (std::size_t c = from; c < to; ++c) sum[c] = combine(ord, sum[c], of(b)[c]);
        }
    });
}

// Whether the square of an entry underflows: then a sum of 0 does not say that all entries are 0.
template <Real T>
bool has_tiny(std::span<const T> x) noexcept {
    bool found = false;
    if constexpr (std::is_same_v<T, double>) {
        for (const double v : x) found |= std::abs(v) < 1e-140 && v != 0;
    }
    return found;
}

// Turns measures into norms (in place) and scalings; each_entry(f) calls f(column, x) for every entry, to measure again
// what left the range of double.
struct Columns {
    std::vector<double> factor, scale;  // scale empty: all 1
    bool same = true, finite = true;
};
template <Real T, class EachEntry>
Columns settle_columns(std::span<const T> x, std::span<double> measure, const Normalize& o, EachEntry each_entry) {
    const std::size_t cols = measure.size();
    Columns out;
    const bool lost = std::any_of(measure.begin(), measure.end(), [](double m) { return m != 0 && detail::doubtful_measure<T>(m); });
    const bool zero = !lost && o.ord == Norm::l2 && std::find(measure.begin(), measure.end(), 0.0) != measure.end();
    if (lost || (zero && has_tiny(x))) {
        const T threshold = limit_of<T>(o);
        std::vector<double> largest(cols, 0.0);
        each_entry([&](std::size_t c, T x) { largest[c] = join(Norm::max, largest[c], static_cast<double>(drop_small(x, threshold))); });
        out.scale.assign(cols, 1.0);
        for (std::size_t c = 0; c < cols; ++c) {
            if (!detail::doubtful_measure<T>(measure[c])) continue;
            out.scale[c] = detail::rescale_by(largest[c]);
            measure[c] = std::isfinite(largest[c]) ? 0 : largest[c];
        }
        each_entry([&](std::size_t c, T x) {
            if (out.scale[c] != 1) measure[c] = join(o.ord, measure[c], static_cast<double>(drop_small(x, threshold)) * out.scale[c]);
        });
    }
    out.factor.resize(cols);
    for (std::size_t c = 0; c < cols; ++c) {
        const Size size{o.ord == Norm::l2 ? std::sqrt(measure[c]) : measure[c], out.scale.empty() ? 1 : out.scale[c]};
        const Scaling s = detail::scaling_of(size, o.norm, o.max_norm);
        measure[c] = size.norm();
        out.factor[c] = s.factor;
        if (!out.scale.empty()) out.scale[c] = s.scale;
        out.same = out.same && s.same();
        out.finite = out.finite && std::isfinite(size.value);
    }
    return out;
}

template <Norm Ord, bool Threshold, Real T, Index I>
std::size_t sum_entries(const I* index, const T* x, std::size_t n, std::size_t cols, T threshold, double* sum) {
    for (std::size_t e = 0; e < n; ++e) {
        const auto c = static_cast<std::size_t>(static_cast<std::make_unsigned_t<I>>(index[e]));
        if (c >= cols) [[unlikely]]
            return e;
        sum[c] = join(Ord, sum[c], static_cast<double>(Threshold ? drop_small(x[e], threshold) : x[e]));
    }
    return n;
}

template <Real T, Index I>
auto sum_entries_of(Norm ord, bool threshold) {
    if (ord == Norm::l1) return threshold ? sum_entries<Norm::l1, true, T, I> : sum_entries<Norm::l1, false, T, I>;
    if (ord == Norm::l2) return threshold ? sum_entries<Norm::l2, true, T, I> : sum_entries<Norm::l2, false, T, I>;
    return threshold ? sum_entries<Norm::max, true, T, I> : sum_entries<Norm::max, false, T, I>;
}

}  // namespace

template <Real T, Index I>
void normalize_rows(CsrView<const T, I> x, std::span<T> out, std::span<double> norms, const Normalize& options) {
    require_options(options);
    require_csr(x, out.size());
    const std::size_t nnz = static_cast<std::size_t>(x.indptr.back());
    Rows(x.data.first(nnz), out.first(nnz), x.rows(), options, [&](std::size_t i) {
        return static_cast<std::size_t>(x.indptr[i]);
    }).run(norms);
}

template <Real T>
void normalize_rows(MatrixView<const T> x, MatrixView<T> out, std::span<double> norms, const Normalize& options) {
    require_options(options);
    require(out.rows == x.rows && out.cols == x.cols, "out must have shape (", x.rows, ", ", x.cols, "), got (", out.rows, ", ", out.cols,
            ")");
    Rows(std::span(x.data, x.size()), std::span(out.data, out.size()), x.rows, options, [&](std::size_t i) {
        return i * x.cols;
    }).run(norms);
}

template <Real T, Index I>
void normalize_columns(CsrView<const T, I> x, std::span<T> out, std::span<double> norms, const Normalize& options) {
    require_options(options);
    require_csr(x, out.size());
    require(norms.size() == x.cols, "norms must have ", x.cols, " entries, got ", norms.size());
    const std::size_t nnz = static_cast<std::size_t>(x.indptr.back()), cols = x.cols;
    const T threshold = limit_of<T>(options);
    const int threads = detail::team_size(options.num_threads, 2 * work(nnz));
    const std::size_t blocks = std::clamp<std::size_t>(nnz / (16 * cols + entry_block), 1, 64), length = (nnz + blocks - 1) / blocks;
    std::vector<std::size_t> bad(blocks, nnz);
    const auto sum = sum_entries_of<T, I>(options.ord, threshold >= 0);
    sum_blocks(blocks, options.ord, threads, norms, [&](std::size_t b, double* own) {
        const std::size_t from = std::min(nnz, b * length), n = std::min(length, nnz - from);
        const std::size_t done = sum(x.indices.data() + from, x.data.data() + from, n, cols, threshold, own);
        if (done < n) bad[b] = from + done;
    });
    const std::size_t first_bad = *std::min_element(bad.begin(), bad.end());
    if (first_bad < nnz) detail::refuse("W.indices must be in [0, ", cols, "), got ", x.indices[first_bad], " at index ", first_bad);
    const Columns columns = settle_columns<T>(x.data.first(nnz), norms, options, [&](auto f) {
        for (std::size_t e = 0; e < nnz; ++e) f(static_cast<std::size_t>(x.indices[e]), x.data[e]);
    });
    if (options.check_finite && !columns.finite) refuse_not_finite(x.data.first(nnz));
    if (columns.same && threshold < 0 && x.data.data() == out.data()) return;
    detail::parallel_for((nnz + entry_block - 1) / entry_block, threads, [&](std::size_t block, std::size_t) {
        const std::size_t to = std::min(nnz, (block + 1) * entry_block);
        const double* factor = columns.factor.data();
        if (!columns.scale.empty() || threshold >= 0) {
            for (std::size_t e = block * entry_block; e < to; ++e) {
                const auto c = static_cast<std::size_t>(x.indices[e]);
                const double scale = columns.scale.empty() ? 1 : columns.scale[c];
                out[e] = static_cast<T>(static_cast<double>(drop_small(x.data[e], threshold)) * scale * factor[c]);
            }
            return;
        }
        for (std::size_t e = block * entry_block; e < to; ++e) {
            out[e] = static_cast<T>(static_cast<double>(x.data[e]) * factor[static_cast<std::size_t>(x.indices[e])]);
        }
    });
}

template <Real T>
void normalize_columns(MatrixView<const T> x, MatrixView<T> out, std::span<double> norms, const Normalize& options) {
    require_options(options);
    require(out.rows == x.rows && out.cols == x.cols, "out must have shape (", x.rows, ", ", x.cols, "), got (", out.rows, ", ", out.cols,
            ")");
    require(norms.size() == x.cols, "norms must have ", x.cols, " entries, got ", norms.size());
    const auto& k = detail::norm_kernels<T>();
    const T threshold = limit_of<T>(options);
    const int threads = detail::team_size(options.num_threads, 2 * work(x.size()));
    const std::size_t blocks = std::clamp<std::size_t>(x.rows / 64, 1, 64), length = (x.rows + blocks - 1) / blocks;
    sum_blocks(blocks, options.ord, threads, norms, [&](std::size_t b, double* own) {
        const std::size_t from = std::min(x.rows, b * length), n = std::min(length, x.rows - from);
        k.measure_columns[static_cast<int>(options.ord)](x.row(from), n, x.cols, threshold, own);
    });
    const Columns columns = settle_columns<T>(std::span(x.data, x.size()), norms, options, [&](auto f) {
        for (std::size_t e = 0; e < x.size(); ++e) f(e % x.cols, x.data[e]);
    });
    if (options.check_finite && !columns.finite) refuse_not_finite(std::span(x.data, x.size()));
    if (columns.same && threshold < 0 && x.data == out.data) return;
    const std::size_t rows_a_block = std::max<std::size_t>(1, entry_block / (x.cols + 1)),
                      count = (x.rows + rows_a_block - 1) / rows_a_block;
    detail::parallel_for(count, threads, [&](std::size_t block, std::size_t) {
        const std::size_t from = block * rows_a_block, n = std::min(rows_a_block, x.rows - from);
        if (columns.scale.empty()) return k.scale_columns(x.row(from), n, x.cols, threshold, columns.factor.data(), out.row(from));
        k.scale_columns(x.row(from), n, x.cols, threshold, columns.scale.data(), out.row(from));
        k.scale_columns(out.row(from), n, x.cols, T(-1), columns.factor.data(), out.row(from));
    });
}

template void normalize_rows(CsrView<const float, std::int32_t>, std::span<float>, std::span<double>, const Normalize&);
template void normalize_rows(CsrView<const float, std::int64_t>, std::span<float>, std::span<double>, const Normalize&);
template void normalize_rows(CsrView<const double, std::int32_t>, std::span<double>, std::span<double>, const Normalize&);
template void normalize_rows(CsrView<const double, std::int64_t>, std::span<double>, std::span<double>, const Normalize&);
template void normalize_columns(CsrView<const float, std::int32_t>, std::span<float>, std::span<double>, const Normalize&);
template void normalize_columns(CsrView<const float, std::int64_t>, std::span<float>, std::span<double>, const Normalize&);
template void normalize_columns(CsrView<const double, std::int32_t>, std::span<double>, std::span<double>, const Normalize&);
template void normalize_columns(CsrView<const double, std::int64_t>, std::span<double>, std::span<double>, const Normalize&);
template void normalize_rows(MatrixView<const float>, MatrixView<float>, std::span<double>, const Normalize&);
template void normalize_rows(MatrixView<const double>, MatrixView<double>, std::span<double>, const Normalize&);
template void normalize_columns(MatrixView<const float>, MatrixView<float>, std::span<double>, const Normalize&);
template void normalize_columns(MatrixView<const double>, MatrixView<double>, std::span<double>, const Normalize&);

}  // namespace sparseops
