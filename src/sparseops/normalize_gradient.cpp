#include "detail/kernels.hpp"
#include "detail/parallel.hpp"
#include "detail/require.hpp"
#include "detail/sizes.hpp"
#include "normalize.hpp"

namespace sparseops {
namespace {

using detail::require;

constexpr std::size_t row_block = 64;

template <Real T>
void require_values(std::span<const T> x, std::span<const T> g, std::span<T> dx, const Normalize& o) {
    require(o.ord == Norm::l2, "ord must be l2 for the gradient");
    require(std::isfinite(o.norm) && o.norm >= 0, "norm must be finite and non-negative, got ", o.norm);
    require(g.size() == x.size(), "grad must have ", x.size(), " entries, got ", g.size());
    require(dx.size() == x.size(), "dx must have ", x.size(), " entries, got ", dx.size());
    if (!o.check_finite) return;
    const auto& k = detail::kernels<T>();
    std::size_t at = k.first_not_finite(x.data(), x.size());
    require(at == x.size(), "W must be finite, got ", at < x.size() ? x[at] : T(0), " at stored value ", at);
    at = k.first_not_finite(g.data(), g.size());
    require(at == g.size(), "grad must be finite, got ", at < g.size() ? g[at] : T(0), " at stored value ", at);
}

template <Real T, Index I>
void require_csr(CsrView<const T, I> x, bool indices) {
    require(!x.indptr.empty() && x.indptr[0] == 0, "W.indptr must start with 0");
    for (std::size_t i = 0; i < x.rows(); ++i) {
        require(x.indptr[i + 1] >= x.indptr[i], "W.indptr must not decrease, got ", x.indptr[i + 1], " after ", x.indptr[i], " at index ",
                i + 1);
    }
    require(static_cast<std::size_t>(x.indptr.back()) == x.data.size(), "W.indptr must end by ", x.data.size(), ", got ", x.indptr.back());
    require(x.indices.size() == x.data.size(), "W.indices must have ", x.data.size(), " entries, got ", x.indices.size());
    for (std::size_t e = 0; indices && e < x.indices.size(); ++e) {
        require(x.indices[e] >= 0 && static_cast<std::size_t>(x.indices[e]) < x.cols, "W.indices must be in [0, ", x.cols, "), got ",
                x.indices[e], " at index ", e);
    }
}

// One vector at a time, with u = x · toward: size first, then u · g, both sums in entry order.
struct Projection {
    double toward = 0, along = 0, factor = 1;
    bool scaled = false;

    void size(double measure, double scale, const Normalize& o) noexcept {
        const detail::Size s{std::sqrt(measure), scale};
        scaled = s.value > 0 && !(o.max_norm && s.value <= o.norm * scale);
        if (!scaled) return;
        toward = 1 / s.value;
        factor = o.norm * scale * toward;
    }
    double operator()(double x, double scale, double g) const noexcept { return scaled ? (g - x * scale * toward * along) * factor : g; }
};

// Row r is the entries [offset_of(r), offset_of(r + 1)).
template <Real T, class OffsetOf>
void by_rows(std::span<const T> x, std::span<const T> g, std::span<T> dx, std::size_t rows, const Normalize& o, OffsetOf offset_of) {
    const int threads = detail::team_size(o.num_threads, 4.0 * static_cast<double>(x.size()));
    detail::parallel_for((rows + row_block - 1) / row_block, threads, [&](std::size_t block, std::size_t) {
        for (std::size_t r = block * row_block; r < std::min(rows, (block + 1) * row_block); ++r) {
            const std::size_t from = offset_of(r), to = offset_of(r + 1);
            double largest = 0, measure = 0;
            for (std::size_t e = from; e < to; ++e) largest = std::max(largest, std::abs(static_cast<double>(x[e])));
            const double scale = detail::rescale_by(largest);
            for (std::size_t e = from; e < to; ++e) measure += (static_cast<double>(x[e]) * scale) * (static_cast<double>(x[e]) * scale);
            Projection p;
            p.size(measure, scale, o);
            for (std::size_t e = from; e < to; ++e) p.along += static_cast<double>(x[e]) * scale * p.toward * static_cast<double>(g[e]);
            for (std::size_t e = from; e < to; ++e) dx[e] = static_cast<T>(p(static_cast<double>(x[e]), scale, static_cast<double>(g[e])));
        }
    });
}

// Entry e is in column column_of(e). The sums run on one thread; the result is written by all.
template <Real T, class ColumnOf>
void by_columns(std::span<const T> x, std::span<const T> g, std::span<T> dx, std::size_t cols, const Normalize& o, ColumnOf column_of) {
    std::vector<double> scale(cols, 0.0), measure(cols, 0.0);
    for (std::size_t e = 0; e < x.size(); ++e) {
        double& largest = scale[column_of(e)];
        largest = std::max(largest, std::abs(static_cast<double>(x[e])));
    }
    for (double& s : scale) s = detail::rescale_by(s);
    for (std::size_t e = 0; e < x.size(); ++e) {
        const std::size_t c = column_of(e);
        const double v = static_cast<double>(x[e]) * scale[c];
        measure[c] += v * v;
    }
    std::vector<Projection> p(cols);
    for (std::size_t c = 0; c < cols; ++c) p[c].size(measure[c], scale[c], o);
    for (std::size_t e = 0; e < x.size(); ++e) {
        const std::size_t c = column_of(e);
        p[c].along += static_cast<double>(x[e]) * scale[c] * p[c].toward * static_cast<double>(g[e]);
    }
    constexpr std::size_t stretch = 65536;
    const int threads = detail::team_size(o.num_threads, 2.0 * static_cast<double>(x.size()));
    detail::parallel_for((x.size() + stretch - 1) / stretch, threads, [&](std::size_t block, std::size_t) {
        for (std::size_t e = block * stretch; e < std::min(x.size(), (block + 1) * stretch); ++e) {
            const std::size_t c = column_of(e);
            dx[e] = static_cast<T>(p[c](static_cast<double>(x[e]), scale[c], static_cast<double>(g[e])));
        }
    });
}

}  // namespace

template <Real T, Index I>
void normalize_rows_gradient(CsrView<const T, I> x, std::span<const T> g, std::span<T> dx, const Normalize& options) {
    require_csr(x, false);
    require_values(x.data, g, dx, options);
    by_rows(x.data, g, dx, x.rows(), options, [&](std::size_t r) { return static_cast<std::size_t>(x.indptr[r]); });
}

template <Real T, Index I>
void normalize_columns_gradient(CsrView<const T, I> x, std::span<const T> g, std::span<T> dx, const Normalize& options) {
    require_csr(x, true);
    require_values(x.data, g, dx, options);
    by_columns(x.data, g, dx, x.cols, options, [&](std::size_t e) { return static_cast<std::size_t>(x.indices[e]); });
}

template <Real T>
void normalize_rows_gradient(MatrixView<const T> x, std::span<const T> g, std::span<T> dx, const Normalize& options) {
    const std::span<const T> values(x.data, x.size());
    require_values(values, g, dx, options);
    by_rows(values, g, dx, x.rows, options, [&](std::size_t r) { return r * x.cols; });
}

template <Real T>
void normalize_columns_gradient(MatrixView<const T> x, std::span<const T> g, std::span<T> dx, const Normalize& options) {
    const std::span<const T> values(x.data, x.size());
    require_values(values, g, dx, options);
    by_columns(values, g, dx, x.cols, options, [&](std::size_t e) { return e % x.cols; });
}

template void normalize_rows_gradient(CsrView<const float, std::int32_t>, std::span<const float>, std::span<float>, const Normalize&);
template void normalize_rows_gradient(CsrView<const float, std::int64_t>, std::span<const float>, std::span<float>, const Normalize&);
template void normalize_rows_gradient(CsrView<const double, std::int32_t>, std::span<const double>, std::span<double>, const Normalize&);
template void normalize_rows_gradient(CsrView<const double, std::int64_t>, std::span<const double>, std::span<double>, const Normalize&);
template void normalize_columns_gradient(CsrView<const float, std::int32_t>, std::span<const float>, std::span<float>, const Normalize&);
template void normalize_columns_gradient(CsrView<const float, std::int64_t>, std::span<const float>, std::span<float>, const Normalize&);
template void normalize_columns_gradient(CsrView<const double, std::int32_t>, std::span<const double>, std::span<double>, const Normalize&);
template void normalize_columns_gradient(CsrView<const double, std::int64_t>, std::span<const double>, std::span<double>, const Normalize&);
template void normalize_rows_gradient(MatrixView<const float>, std::span<const float>, std::span<float>, const Normalize&);
template void normalize_rows_gradient(MatrixView<const double>, std::span<const double>, std::span<double>, const Normalize&);
template void normalize_columns_gradient(MatrixView<const float>, std::span<const float>, std::span<float>, const Normalize&);
template void normalize_columns_gradient(MatrixView<const double>, std::span<const double>, std::span<double>, const Normalize&);

}  // namespace sparseops
