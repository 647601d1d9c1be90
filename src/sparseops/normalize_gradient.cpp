#include "detail/columns.hpp"
#include "detail/csr.hpp"
#include "detail/kernels.hpp"
#include "detail/parallel.hpp"
#include "detail/require.hpp"
#include "normalize.hpp"

namespace sparseops {
namespace {

using detail::require;

constexpr std::size_t row_block = 64;
constexpr std::size_t stretch = 65536;  // entries a work item

// The first of the places [0, n) that find(from, to) finds, which gives `to` if there is none.
template <class Find>
std::size_t first_found(std::size_t n, int threads, Find find) {
    std::vector<std::size_t> found((n + stretch - 1) / stretch, n);
    detail::parallel_for(found.size(), threads, [&](std::size_t i, std::size_t) {
        const std::size_t to = std::min(n, (i + 1) * stretch), at = find(i * stretch, to);
        if (at < to) found[i] = at;
    });
    return found.empty() ? n : *std::min_element(found.begin(), found.end());
}

template <Real T>
void require_finite(const char* name, std::span<const T> x, int threads) {
    const std::size_t at = first_found(x.size(), threads, [&](std::size_t from, std::size_t to) {
        return from + detail::kernels<T>().first_not_finite(x.data() + from, to - from);
    });
    require(at == x.size(), name, " must be finite, got ", at < x.size() ? x[at] : T(0), " at stored value ", at);
}

template <Real T>
int require_values(std::span<const T> x, std::span<const T> g, std::span<T> dx, const Normalize& o) {
    require(o.ord == Norm::l2, "ord must be l2 for the gradient");
    require(std::isfinite(o.norm) && o.norm >= 0, "norm must be finite and non-negative, got ", o.norm);
    require(g.size() == x.size(), "grad must have ", x.size(), " entries, got ", g.size());
    require(dx.size() == x.size(), "dx must have ", x.size(), " entries, got ", dx.size());
    const int threads = detail::team_size(o.num_threads, 4.0 * static_cast<double>(x.size()));
    if (!o.check_finite) return threads;
    require_finite("W", x, threads);
    require_finite("grad", g, threads);
    return threads;
}

template <Real T, Index I>
void require_csr(CsrView<const T, I> x) {
    detail::require_csr(x);
    require(static_cast<std::size_t>(x.indptr.back()) == x.data.size(), "W.indptr must end by ", x.data.size(), ", got ", x.indptr.back());
}

// One vector: with u = x · toward, first its size, then u · g.
struct Projection {
    double toward = 0, scale = 1, along = 0;
    detail::Scaling factor;
    bool scaled = false;

    Projection(detail::Size s, const Normalize& o) noexcept : scale(s.scale), scaled(detail::is_scaled(s, o.norm, o.max_norm)) {
        if (!scaled) return;
        toward = 1 / s.value;
        factor.factor = o.norm * scale * toward;
        if (!std::isfinite(s.value)) {
            factor = detail::scaling_of(s, o.norm);
        } else if (detail::doubtful_factor(factor.factor)) {
            int power = 0;
            const double digits = std::frexp(o.norm, &power);
            factor = detail::in_range(digits * toward, power + std::ilogb(scale));
        }
    }
    double term(double x, double g) const noexcept { return x * scale * toward * g; }
    double operator()(double x, double g) const noexcept { return scaled ? factor(g - x * scale * toward * along) : g; }
};

// Row r is the entries [offset_of(r), offset_of(r + 1)); sums are taken in their order.
template <Real T, class OffsetOf>
void by_rows(std::span<const T> x, std::span<const T> g, std::span<T> dx, std::size_t rows, const Normalize& o, int threads,
             OffsetOf offset_of) {
    detail::parallel_for((rows + row_block - 1) / row_block, threads, [&](std::size_t block, std::size_t) {
        for (std::size_t r = block * row_block; r < std::min(rows, (block + 1) * row_block); ++r) {
            const std::size_t from = offset_of(r), to = offset_of(r + 1);
            double largest = 0, measure = 0;
            for (std::size_t e = from; e < to; ++e) largest = std::max(largest, std::abs(static_cast<double>(x[e])));
            const double scale = detail::rescale_by(largest);
            for (std::size_t e = from; e < to; ++e) measure += (static_cast<double>(x[e]) * scale) * (static_cast<double>(x[e]) * scale);
            Projection p({std::sqrt(measure), scale}, o);
            for (std::size_t e = from; e < to; ++e) p.along += p.term(static_cast<double>(x[e]), static_cast<double>(g[e]));
            for (std::size_t e = from; e < to; ++e) dx[e] = static_cast<T>(p(static_cast<double>(x[e]), static_cast<double>(g[e])));
        }
    });
}

// each_column(from, to, f) calls f(e, column of e) for the entries [from, to); sums are taken in fixed blocks of them.
template <Real T, class EachColumn>
void by_columns(std::span<const T> x, std::span<const T> g, std::span<T> dx, std::size_t cols, const Normalize& o, int threads,
                EachColumn each_column) {
    const std::size_t n = x.size(), blocks = detail::column_blocks(n, cols), length = (n + blocks - 1) / blocks;
    const auto each_of = [&](std::size_t block, auto f) { each_column(std::min(n, block * length), std::min(n, (block + 1) * length), f); };
    std::vector<double> sum(cols);
    detail::sum_blocks(blocks, Norm::l2, threads, sum, [&](std::size_t b, double* own) {
        each_of(b, [&](std::size_t e, std::size_t c) { own[c] = detail::join(Norm::l2, own[c], static_cast<double>(x[e])); });
    });
    const auto sizes = detail::column_sizes(x, std::span(sum), Norm::l2, T(-1), threads,
                                            [&](auto f) { each_column(0, n, [&](std::size_t e, std::size_t c) { f(c, x[e]); }); });
    std::vector<Projection> p;
    p.reserve(cols);
    for (std::size_t c = 0; c < cols; ++c) p.emplace_back(sizes[c], o);
    detail::sum_blocks(blocks, Norm::l1, threads, sum, [&](std::size_t b, double* own) {
        each_of(b, [&](std::size_t e, std::size_t c) { own[c] += p[c].term(static_cast<double>(x[e]), static_cast<double>(g[e])); });
    });
    for (std::size_t c = 0; c < cols; ++c) p[c].along = sum[c];
    detail::parallel_for((n + stretch - 1) / stretch, threads, [&](std::size_t i, std::size_t) {
        each_column(i * stretch, std::min(n, (i + 1) * stretch), [&](std::size_t e, std::size_t c) {
            dx[e] = static_cast<T>(p[c](static_cast<double>(x[e]), static_cast<double>(g[e])));
        });
    });
}

}  // namespace

template <Real T, Index I>
void normalize_rows_gradient(CsrView<const T, I> x, std::span<const T> g, std::span<T> dx, const Normalize& options) {
    require_csr(x);
    const int threads = require_values(x.data, g, dx, options);
    by_rows(x.data, g, dx, x.rows(), options, threads, [&](std::size_t r) { return static_cast<std::size_t>(x.indptr[r]); });
}

template <Real T, Index I>
void normalize_columns_gradient(CsrView<const T, I> x, std::span<const T> g, std::span<T> dx, const Normalize& options) {
    require_csr(x);
    const int threads = require_values(x.data, g, dx, options);
    const auto outside = [&](I c) { return c < 0 || static_cast<std::size_t>(c) >= x.cols; };
    const std::size_t n = x.indices.size(), at = first_found(n, threads, [&](std::size_t from, std::size_t to) {
                                                const I* all = x.indices.data();
                                                return static_cast<std::size_t>(std::find_if(all + from, all + to, outside) - all);
                                            });
    require(at == n, "W.indices must be in [0, ", x.cols, "), got ", at < n ? x.indices[at] : I(0), " at index ", at);
    by_columns(x.data, g, dx, x.cols, options, threads, [&](std::size_t from, std::size_t to, auto f) {
        for (std::size_t e = from; e < to; ++e) f(e, static_cast<std::size_t>(x.indices[e]));
    });
}

template <Real T>
void normalize_rows_gradient(MatrixView<const T> x, std::span<const T> g, std::span<T> dx, const Normalize& options) {
    const std::span<const T> values(x.data, x.size());
    const int threads = require_values(values, g, dx, options);
    by_rows(values, g, dx, x.rows, options, threads, [&](std::size_t r) { return r * x.cols; });
}

template <Real T>
void normalize_columns_gradient(MatrixView<const T> x, std::span<const T> g, std::span<T> dx, const Normalize& options) {
    const std::span<const T> values(x.data, x.size());
    const int threads = require_values(values, g, dx, options);
    by_columns(values, g, dx, x.cols, options, threads, [&](std::size_t from, std::size_t to, auto f) {
        for (std::size_t e = from, c = from < to ? from % x.cols : 0; e < to; ++e) {
            f(e, c);
            if (++c == x.cols) c = 0;
        }
    });
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
