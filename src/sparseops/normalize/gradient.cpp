// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <memory>

#include "../detail/csr.hpp"
#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "../kernels/kernels.hpp"
#include "../normalize.hpp"
#include "columns.hpp"

namespace sparseops {
namespace {

using detail::require;

constexpr std::size_t row_block = 256;      // rows per kernel call
constexpr std::size_t entry_block = 65536;  // entries per work item

// The first of the places [0, n) that find(from, to) finds, which gives `to` if there is none.
template <class Find>
std::size_t first_found(std::size_t n, int threads, Find find) {
    std::vector<std::size_t> found((n + entry_block - 1) / entry_block, n);
    detail::parallel_for(found.size(), threads, [&](std::size_t i, std::size_t) {
        const std::size_t to = std::min(n, (i + 1) * entry_block), at = find(i * entry_block, to);
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
int require_values(std::span<const T> x, std::span<const T> g, std::span<T> dx, const Normalize& o, int num_threads) {
    require(o.ord == Norm::l2, "ord must be l2 for the gradient");
    require(std::isfinite(o.norm) && o.norm >= 0, "norm must be finite and non-negative, got ", o.norm);
    require(g.size() == x.size(), "grad must have ", x.size(), " entries, got ", g.size());
    require(dx.size() == x.size(), "dx must have ", x.size(), " entries, got ", dx.size());
    detail::require_data("grad", g);
    detail::require_data("dx", dx);
    const int threads = detail::team_size(num_threads, 4.0 * static_cast<double>(x.size()));
    if (!o.check_finite) return threads;
    require_finite("W", x, threads);
    require_finite("grad", g, threads);
    return threads;
}

template <Real T, Index I>
void require_csr(CsrView<const T, I> x) {
    detail::require_csr(x, "W");
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

// The gradient of a single entry among zeros is 0, its direction cannot change: where a vector is scaled by more than this, what
// rounding leaves of g - u (u · g) could grow beyond all numbers.
constexpr double large_factor = 1e30;

// The place of the only entry that is not 0, or n.
template <Real T>
std::size_t single_entry(const T* x, std::size_t n) noexcept {
    const auto found = [](T v) { return v != 0; };
    const T* const first = std::find_if(x, x + n, found);
    return first < x + n && std::none_of(first + 1, x + n, found) ? static_cast<std::size_t>(first - x) : n;
}

// One row whose norm or factor may leave the range of double. buffer: n numbers. dx may be g, and rows before this one done: it asks
// for no memory. Returns whether the row was scaled, to a finite size.
bool project_row(const double* x, const double* g, std::size_t n, const Normalize& o, double* buffer, double* dx) {
    const detail::Size size = detail::rescaled_size(x, n, Norm::l2, -1.0);
    if (!detail::is_scaled(size, o.norm, o.max_norm)) {
        if (dx != g) std::copy_n(g, n, dx);
        return false;
    }
    const std::size_t all[2] = {0, n};
    const double toward = 1 / size.value, one = 1;
    std::transform(x, x + n, buffer, [&](double v) { return v * size.scale; });
    detail::norm_kernels<double>().project(buffer, g, all, 1, &toward, &one, dx);
    std::transform(dx, dx + n, dx, detail::scaling_of(size, o.norm));
    return std::isfinite(size.value);
}

// Row r is the entries [offset_of(r), offset_of(r + 1)).
template <Real T, class OffsetOf>
void by_rows(std::span<const T> x, std::span<const T> g, std::span<T> dx, std::size_t rows, const Normalize& o, int threads,
             OffsetOf offset_of) {
    const auto& k = detail::norm_kernels<T>();
    std::size_t longest = 0;
    for (std::size_t i = 0; i < rows && std::is_same_v<T, double>; ++i) longest = std::max(longest, offset_of(i + 1) - offset_of(i));
    const std::size_t stride = detail::padded_stride<double>(longest);
    const auto buffers = std::make_unique_for_overwrite<double[]>(stride * static_cast<std::size_t>(std::max(1, threads)));
    detail::parallel_for((rows + row_block - 1) / row_block, threads, [&](std::size_t block, std::size_t worker) {
        const std::size_t from = block * row_block, count = std::min(row_block, rows - from);
        std::size_t offset[row_block + 1];
        double size[row_block], factor[row_block], toward[row_block];
        bool again[row_block];
        for (std::size_t i = 0; i <= count; ++i) offset[i] = offset_of(from + i);
        k.measure[static_cast<int>(Norm::l2)](x.data(), offset, count, T(-1), size);
        k.settle(size, count, true, o.norm, o.max_norm, size, factor);
        for (std::size_t i = 0; i < count; ++i) {
            again[i] = detail::doubtful_norm<T>(size[i]) || (std::is_same_v<T, double> && detail::doubtful_factor(factor[i]));
            toward[i] = again[i] || !detail::is_scaled({size[i]}, o.norm, o.max_norm) ? 0
                        : std::isfinite(size[i])                                      ? 1 / size[i]
                                                                                      : std::numeric_limits<double>::quiet_NaN();
        }
        k.project(x.data(), g.data(), offset, count, toward, factor, dx.data());
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t at = offset[i], n = offset[i + 1] - at;
            bool large = factor[i] > large_factor;
            if constexpr (std::is_same_v<T, double>) {
                if (again[i]) large = project_row(x.data() + at, g.data() + at, n, o, &buffers[worker * stride], dx.data() + at);
            }
            if (!large) continue;
            if (const std::size_t j = single_entry(x.data() + at, n); j < n) dx[at + j] = 0;
        }
    });
}

// each_column(from, to, table, f) calls f(e, column of e) for the entries [from, to), which go to the table; sums are taken in
// fixed blocks of them.
template <Real T, class EachColumn>
class ByColumns {
public:
    ByColumns(std::span<const T> x, std::span<const T> g, std::span<T> dx, std::size_t cols, const Normalize& o, int threads,
              EachColumn each_column)
        : x_(x), g_(g), dx_(dx), cols_(cols), o_(o), threads_(threads), each_column_(each_column) {}

    void run() {
        if constexpr (std::is_same_v<T, float>)
            in_range();
        else
            in_any_range();
    }

private:
    struct Sums {
        double squares, products;
    };
    struct Pull {
        double factor, along;  // 0: g as it is
        double operator()(double x, double g) const noexcept { return factor * (along == 0 ? g : g - x * along); }
    };

    // Of floats, squares and products are exact in double, and nothing leaves its range: both sums in one pass.
    void in_range() {
        std::vector<double> sums(2 * cols_), size(cols_), factor(cols_);
        std::vector<Pull> pull(cols_);
        sum<Sums>(sums, [](double* own, std::size_t c, double x, double g) {
            own[2 * c] += x * x;
            own[2 * c + 1] += x * g;
        });
        detail::parallel_ranges(cols_, threads_, [&](std::size_t from, std::size_t to, std::size_t) {
            for (std::size_t c = from; c < to; ++c) size[c] = sums[2 * c];
            detail::norm_kernels<T>().settle(&size[from], to - from, true, o_.norm, o_.max_norm, &size[from], &factor[from]);
            for (std::size_t c = from; c < to; ++c) {
                const double toward = detail::is_scaled({size[c]}, o_.norm, o_.max_norm) ? 1 / size[c] : 0;
                pull[c] = {factor[c], toward == 0 ? 0 : toward * (toward * sums[2 * c + 1])};
            }
        });
        write(pull, entries_of([&](std::size_t c) { return factor[c] > large_factor; }));
    }

    void in_any_range() {
        std::vector<double> sums(cols_);
        sum<double>(sums, [](double* own, std::size_t c, double x, double) { own[c] += x * x; });
        const auto sizes = detail::column_sizes(x_, std::span(sums), Norm::l2, T(-1), threads_, [&](auto f) {
            each_column_(0, x_.size(), sums.data(), [&](std::size_t e, std::size_t c) { f(c, x_[e]); });
        });
        std::vector<Projection> p;
        p.reserve(cols_);
        for (std::size_t c = 0; c < cols_; ++c) p.emplace_back(sizes[c], o_);
        sum<double>(sums, [&](double* own, std::size_t c, double x, double g) { own[c] += p[c].term(x, g); });
        for (std::size_t c = 0; c < cols_; ++c) p[c].along = sums[c];
        write(p, entries_of([&](std::size_t c) {
                  const detail::Scaling s = p[c].factor;
                  return p[c].scaled && std::isfinite(s.factor) && (s.power > 0 || s.factor > large_factor);
              }));
    }

    // How many entries that are not 0 the columns have that are_large(c), 2 for more and for other columns; empty if no column is.
    template <class AreLarge>
    std::vector<char> entries_of(AreLarge are_large) const {
        std::vector<char> count(cols_, 2);
        bool any = false;
        for (std::size_t c = 0; c < cols_; ++c) {
            if (!are_large(c)) continue;
            count[c] = 0;
            any = true;
        }
        if (!any) return {};
        each_column_(0, x_.size(), count.data(), [&](std::size_t e, std::size_t c) {
            if (x_[e] != 0 && count[c] < 2) ++count[c];
        });
        return count;
    }

    // add(own, c, x, g) for all entries, in blocks with sums of their own, a Cell a column.
    template <class Cell, class Add>
    void sum(std::span<double> sums, Add add) const {
        const std::size_t n = x_.size(), blocks = detail::column_blocks(n, cols_), length = (n + blocks - 1) / blocks;
        detail::sum_blocks(blocks, Norm::l1, threads_, sums, [&](std::size_t b, double* own) {
            const auto* table = reinterpret_cast<const Cell*>(own);  // prefetched, not read
            each_column_(std::min(n, b * length), std::min(n, (b + 1) * length), table,
                         [&](std::size_t e, std::size_t c) { add(own, c, static_cast<double>(x_[e]), static_cast<double>(g_[e])); });
        });
    }

    template <class Cell>
    void write(const std::vector<Cell>& table, const std::vector<char>& entries) const {
        const std::size_t n = x_.size();
        detail::parallel_for((n + entry_block - 1) / entry_block, threads_, [&](std::size_t i, std::size_t) {
            each_column_(i * entry_block, std::min(n, (i + 1) * entry_block), table.data(), [&](std::size_t e, std::size_t c) {
                dx_[e] = static_cast<T>(table[c](static_cast<double>(x_[e]), static_cast<double>(g_[e])));
                if (!entries.empty() && entries[c] == 1 && x_[e] != 0) dx_[e] = 0;  // see single_entry
            });
        });
    }

    const std::span<const T> x_, g_;
    const std::span<T> dx_;
    const std::size_t cols_;
    const Normalize& o_;
    const int threads_;
    const EachColumn each_column_;
};

}  // namespace

template <Real T, Index I>
void normalize_rows_gradient(CsrView<const T, I> W, std::span<const T> grad, std::span<T> dx, const Normalize& options, int num_threads) {
    require_csr(W);
    const int threads = require_values(W.data, grad, dx, options, num_threads);
    by_rows(W.data, grad, dx, W.rows(), options, threads, [&](std::size_t r) { return static_cast<std::size_t>(W.indptr[r]); });
}

template <Real T, Index I>
void normalize_columns_gradient(CsrView<const T, I> W, std::span<const T> grad, std::span<T> dx, const Normalize& options,
                                int num_threads) {
    require_csr(W);
    const int threads = require_values(W.data, grad, dx, options, num_threads);
    const auto outside = [&](I c) { return c < 0 || static_cast<std::size_t>(c) >= W.cols; };
    const std::size_t n = W.indices.size(), at = first_found(n, threads, [&](std::size_t from, std::size_t to) {
                                                const I* all = W.indices.data();
                                                return static_cast<std::size_t>(std::find_if(all + from, all + to, outside) - all);
                                            });
    require(at == n, "W.indices must be in [0, ", W.cols, "), got ", at < n ? W.indices[at] : I(0), " at index ", at);
    ByColumns(W.data, grad, dx, W.cols, options, threads, [&](std::size_t from, std::size_t to, const auto* table, auto f) {
        detail::each_entry(W.indices.data(), from, to, table, W.cols, [&](std::size_t e) {
            f(e, static_cast<std::size_t>(W.indices[e]));
            return true;
        });
    }).run();
}

template <Real T>
void normalize_rows_gradient(MatrixView<const T> W, std::span<const T> grad, std::span<T> dx, const Normalize& options, int num_threads) {
    const std::span<const T> values(W.data, W.size());
    detail::require_data("W", W.data, W.size());
    const int threads = require_values(values, grad, dx, options, num_threads);
    by_rows(values, grad, dx, W.rows, options, threads, [&](std::size_t r) { return r * W.cols; });
}

template <Real T>
void normalize_columns_gradient(MatrixView<const T> W, std::span<const T> grad, std::span<T> dx, const Normalize& options,
                                int num_threads) {
    const std::span<const T> values(W.data, W.size());
    detail::require_data("W", W.data, W.size());
    const int threads = require_values(values, grad, dx, options, num_threads);
    ByColumns(values, grad, dx, W.cols, options, threads, [&](std::size_t from, std::size_t to, const auto*, auto f) {
        for (std::size_t e = from, c = from < to ? from % W.cols : 0; e < to; ++e) {
            f(e, c);
            if (++c == W.cols) c = 0;
        }
    }).run();
}

template void normalize_rows_gradient(CsrView<const float, std::int32_t>, std::span<const float>, std::span<float>, const Normalize&, int);
template void normalize_rows_gradient(CsrView<const float, std::int64_t>, std::span<const float>, std::span<float>, const Normalize&, int);
template void normalize_rows_gradient(CsrView<const double, std::int32_t>, std::span<const double>, std::span<double>, const Normalize&,
                                      int);
template void normalize_rows_gradient(CsrView<const double, std::int64_t>, std::span<const double>, std::span<double>, const Normalize&,
                                      int);
template void normalize_columns_gradient(CsrView<const float, std::int32_t>, std::span<const float>, std::span<float>, const Normalize&,
                                         int);
template void normalize_columns_gradient(CsrView<const float, std::int64_t>, std::span<const float>, std::span<float>, const Normalize&,
                                         int);
template void normalize_columns_gradient(CsrView<const double, std::int32_t>, std::span<const double>, std::span<double>, const Normalize&,
                                         int);
template void normalize_columns_gradient(CsrView<const double, std::int64_t>, std::span<const double>, std::span<double>, const Normalize&,
                                         int);
template void normalize_rows_gradient(MatrixView<const float>, std::span<const float>, std::span<float>, const Normalize&, int);
template void normalize_rows_gradient(MatrixView<const double>, std::span<const double>, std::span<double>, const Normalize&, int);
template void normalize_columns_gradient(MatrixView<const float>, std::span<const float>, std::span<float>, const Normalize&, int);
template void normalize_columns_gradient(MatrixView<const double>, std::span<const double>, std::span<double>, const Normalize&, int);

}  // namespace sparseops
