// SPDX-License-Identifier: BSD-3-Clause
// Normalise and its gradient over hostile matrices: refused with nothing written, or what long double says.
#include <algorithm>
#include <map>

#include <sparseops/normalize/named_rows.hpp>

#include "input.hpp"

namespace {

using namespace sparseops_fuzz;
using sparseops::CsrView;
using sparseops::MatrixView;
using sparseops::Norm;
using sparseops::Normalize;

using Real = long double;

struct Options : Normalize {
    int num_threads = 0;
};

Options some_options(Input& in) {
    Options o;
    o.ord = in.pick({Norm::l2, Norm::l1, Norm::max});
    o.norm = in.flag() ? 1 : in.pick({0.0, 0.25, 3.0, 1e-20, 1e20, -1.0, std::nan(""), HUGE_VAL});
    o.max_norm = in.flag();
    o.threshold = in.flag() ? 0 : in.pick({0.25, 1.0, 1e-320, 1e30, -0.5, std::nan(""), HUGE_VAL});
    o.check_finite = !in.rarely();
    o.num_threads = static_cast<int>(in.below(4));
    return o;
}
bool valid(const Normalize& o) { return o.norm >= 0 && std::isfinite(o.norm) && o.threshold >= 0 && std::isfinite(o.threshold); }

template <class T>
bool all_finite(const T* x, std::size_t n) {
    return std::all_of(x, x + n, [](T v) { return std::isfinite(v); });
}

// One row or column: the places of its entries.
using Vector = std::vector<std::size_t>;

template <class T>
T counted(T x, const Normalize& o) {
    return o.threshold > 0 && std::abs(x) <= static_cast<T>(o.threshold) ? T(0) : x;
}

template <class T>
Real size_of(const Vector& entries, const T* x, const Normalize& o) {
    Real sum = 0;
    for (const std::size_t e : entries) {
        const Real v = std::abs(static_cast<Real>(counted(x[e], o)));
        sum = o.ord == Norm::max ? std::max(sum, v) : sum + (o.ord == Norm::l2 ? v * v : v);
    }
    return o.ord == Norm::l2 ? std::sqrt(sum) : sum;
}

bool close(Real got, Real want, Real relative, Real absolute) {
    return got == want || std::abs(got - want) <= relative * std::abs(want) + absolute;
}

template <class T>
void must_be_normalized(const std::vector<Vector>& vectors, const T* x, const T* out, const std::vector<double>& norms,
                        const Normalize& o) {
    using Limits = std::numeric_limits<T>;
    for (std::size_t i = 0; i < vectors.size(); ++i) {
        const Vector& entries = vectors[i];
        if (!std::all_of(entries.begin(), entries.end(), [&](std::size_t e) { return std::isfinite(x[e]); })) continue;
        const Real size = size_of(entries, x, o), norm = static_cast<Real>(o.norm);
        if (size <= static_cast<Real>(std::numeric_limits<double>::max()))
            must(close(norms[i], size, 1e-13L, 2 * std::numeric_limits<double>::denorm_min()), "norm ", i, " is ", size, ", got ",
                 norms[i]);
        const bool scaled = size > 0 && !(o.max_norm && size <= norm);
        const bool doubt = o.max_norm && close(size, norm, 1e-12L, 0);  // at the limit either way is right
        for (const std::size_t e : entries) {
            const Real whole = static_cast<Real>(counted(x[e], o)), want = scaled ? whole / size * norm : whole;
            if (std::abs(want) > static_cast<Real>(Limits::max())) {
                must(std::abs(out[e]) >= Limits::max() / 2, "entry ", e, " is too large to be held, got ", out[e]);
                continue;
            }
            // x is brought near 1, where it may lose what is too small to count beside the norm, and then to the norm
            const Real step = static_cast<Real>(Limits::denorm_min()) * std::max<Real>(1, norm), eps = static_cast<Real>(Limits::epsilon());
            const bool near = close(static_cast<Real>(out[e]), want, 8 * eps, step);
            must(near || (doubt && close(static_cast<Real>(out[e]), whole, 8 * eps, step)), "entry ", e, " is ", want, ", got ", out[e]);
        }
    }
}

template <class T>
void must_be_gradient(const std::vector<Vector>& vectors, const T* x, const T* g, const T* dx, const Normalize& o) {
    for (const Vector& entries : vectors) {
        bool tame = true;  // numbers whose products stay in the range of T
        Real along = 0, most = 0;
        for (const std::size_t e : entries) {
            const auto within = [](T v) { return v == 0 || (std::abs(v) > T(1e-15) && std::abs(v) < T(1e15)); };
            tame = tame && within(x[e]) && within(g[e]);
            most = std::max(most, std::abs(static_cast<Real>(g[e])));
        }
        if (!tame) continue;
        const Real size = size_of(entries, x, o), norm = static_cast<Real>(o.norm);
        if (o.max_norm && close(size, norm, 1e-12L, 0)) continue;
        const bool scaled = size > 0 && !(o.max_norm && size <= norm);
        for (const std::size_t e : entries) along += scaled ? static_cast<Real>(x[e]) / size * static_cast<Real>(g[e]) : 0;
        for (const std::size_t e : entries) {
            const Real want =
                scaled ? (static_cast<Real>(g[e]) - static_cast<Real>(x[e]) / size * along) * norm / size : static_cast<Real>(g[e]);
            const Real unit = scaled ? most * norm / size * static_cast<Real>(entries.size()) : 0;
            if (std::abs(want) > static_cast<Real>(std::numeric_limits<T>::max())) continue;
            must(close(static_cast<Real>(dx[e]), want, 2 * static_cast<Real>(std::numeric_limits<T>::epsilon()),
                       1e-14L * unit + static_cast<Real>(std::numeric_limits<T>::denorm_min())),
                 "gradient ", e, " is ", want, ", got ", dx[e]);
        }
    }
}

template <class T, class I>
void sparse(Input& in) {
    const std::size_t rows = in.upto(6), cols = in.upto(5), nnz = in.upto(20);
    std::vector<I> indptr(rows + 1, 0);
    for (std::size_t i = 1; i <= rows; ++i)
        indptr[i] = i == rows ? static_cast<I>(nnz)
                              : static_cast<I>(std::min<std::size_t>(nnz, static_cast<std::size_t>(indptr[i - 1]) + in.below(8)));
    if (rows == 0 && nnz > 0) indptr.assign(1, 0);
    if (in.rarely()) indptr[in.below(indptr.size())] = in.integer<I>(-1, static_cast<std::int64_t>(nnz) + 1);
    if (in.rarely()) indptr.clear();
    const auto indices = in.integers<I>(in.size_near(nnz), 0, std::max<std::int64_t>(0, static_cast<std::int64_t>(cols) - 1));
    const auto x = in.reals<T>(nnz, in.flag());
    const Options o = some_options(in);
    const bool by_rows = in.flag(), gradient = in.flag(), in_place = in.flag();

    bool ordered = !indptr.empty() && indptr[0] == 0;
    for (std::size_t i = 1; ordered && i < indptr.size(); ++i) ordered = indptr[i] >= indptr[i - 1];
    ordered = ordered && indices.size() == nnz && static_cast<std::size_t>(indptr.back()) <= nnz;
    const std::size_t used = ordered ? static_cast<std::size_t>(indptr.back()) : 0;
    bool good = ordered && valid(o);
    for (std::size_t e = 0; e < used && !by_rows; ++e) good = good && indices[e] >= 0 && static_cast<std::size_t>(indices[e]) < cols;
    good = good && (!o.check_finite || all_finite(x.data(), used));
    std::vector<Vector> vectors;
    const auto list = [&] {  // of a good matrix
        vectors.resize(by_rows ? indptr.size() - 1 : cols);
        for (std::size_t i = 0; i + 1 < indptr.size(); ++i) {
            for (auto e = static_cast<std::size_t>(indptr[i]); e < static_cast<std::size_t>(indptr[i + 1]); ++e)
                vectors[by_rows ? i : static_cast<std::size_t>(indices[e])].push_back(e);
        }
    };
    if (gradient) {
        const auto g = in.reals<T>(in.size_near(nnz), in.rarely());
        std::vector<T> dx(in_place ? g : std::vector<T>(in.size_near(nnz), T(7)));
        const auto before = dx;
        const bool fits = good && used == nnz && o.ord == Norm::l2 && g.size() == nnz && dx.size() == nnz &&
                          (!o.check_finite || all_finite(g.data(), nnz));
        const CsrView<const T, I> view{indptr, indices, x, cols};
        const std::span<const T> from = in_place ? std::span<const T>(dx) : std::span<const T>(g);
        const bool no = refused([&] {
            by_rows ? normalize_rows_gradient(view, from, std::span<T>(dx), o, o.num_threads)
                    : normalize_columns_gradient(view, from, std::span<T>(dx), o, o.num_threads);
        });
        Normalize plain = o;
        plain.threshold = 0;  // the gradient does not read it
        const bool unread = valid(plain) && !valid(o);
        must(unread || no == !fits, "the gradient refuses what is not valid");
        if (no) must(same_bytes(dx, before), "a refused call writes nothing");
        if (no || !fits) return;
        list();
        must_be_gradient(vectors, x.data(), g.data(), dx.data(), plain);
        return;
    }
    std::vector<T> out(in_place ? x : std::vector<T>(in.size_near(nnz), T(7)));
    const auto before = out;
    std::vector<double> norms(in.size_near(by_rows ? (indptr.empty() ? 0 : indptr.size() - 1) : cols), 0);
    good = good && out.size() == nnz && norms.size() == (by_rows ? indptr.size() - 1 : cols);
    const CsrView<const T, I> view{indptr, indices, in_place ? std::span<const T>(out) : std::span<const T>(x), cols};
    const bool no = refused([&] {
        by_rows ? normalize_rows(view, std::span<T>(out), norms, o, o.num_threads)
                : normalize_columns(view, std::span<T>(out), norms, o, o.num_threads);
    });
    must(no == !good, "normalise refuses what is not valid");
    if (no) {
        if (in_place) must(same_bytes(out, before), "a refused call writes nothing in place");
        return;
    }
    list();
    must_be_normalized(vectors, x.data(), out.data(), norms, o);
    for (std::size_t e = used; e < nnz; ++e) must(std::memcmp(&out[e], &before[e], sizeof(T)) == 0, "what is beyond the rows stays");
}

template <class T>
void dense(Input& in) {
    const std::size_t rows = in.upto(6), cols = in.upto(40), n = rows * cols;
    const auto x = in.reals<T>(n, in.flag());
    const Options o = some_options(in);
    const bool by_rows = in.flag(), in_place = in.flag();
    std::vector<T> out(in_place ? x : std::vector<T>(n, T(7)));
    const auto before = out;
    std::vector<double> norms(in.size_near(by_rows ? rows : cols), 0);
    const bool good = valid(o) && norms.size() == (by_rows ? rows : cols) && (!o.check_finite || all_finite(x.data(), n));
    const MatrixView<const T> from{in_place ? out.data() : x.data(), rows, cols};
    const MatrixView<T> to{out.data(), rows, cols};
    const bool no = refused(
        [&] { by_rows ? normalize_rows(from, to, norms, o, o.num_threads) : normalize_columns(from, to, norms, o, o.num_threads); });
    must(no == !good, "normalise refuses what is not valid");
    if (no) {
        if (in_place) must(same_bytes(out, before), "a refused call writes nothing in place");
        return;
    }
    std::vector<Vector> vectors(by_rows ? rows : cols);
    for (std::size_t e = 0; e < n; ++e) vectors[by_rows ? e / cols : e % cols].push_back(e);
    must_be_normalized(vectors, x.data(), out.data(), norms, o);
}

// Rows of a table by number; T: float, double, or the bits of a 16-bit float, of which only the sizes are checked.
template <class T>
void indexed(Input& in) {
    constexpr bool half = sizeof(T) == 2;
    const std::size_t rows = 1 + in.below(6), cols = in.upto(40) + half;
    std::vector<T> table(rows * cols);
    for (T& x : table) {
        if constexpr (half)
            x = {in.bits<std::uint16_t>()};
        else
            x = in.real<T>(true);
    }
    auto named = in.integers<std::int64_t>(in.upto(6), 0, static_cast<std::int64_t>(rows) - 1);
    bool good = std::all_of(named.begin(), named.end(), [&](std::int64_t r) { return r >= 0 && static_cast<std::size_t>(r) < rows; });
    if (in.flag()) {
        std::vector<std::int64_t> distinct(in.size_near(named.size()), -1);
        std::size_t count = 0;
        const bool fits = good && distinct.size() == named.size();
        must(refused([&] { count = sparseops::distinct_rows(named, rows, distinct); }) == !fits, "distinct_rows refuses what is not valid");
        if (!fits) return;
        std::sort(named.begin(), named.end());
        named.erase(std::unique(named.begin(), named.end()), named.end());
        distinct.resize(count);
        must(distinct == named, "distinct_rows gives each once, ascending");
    }
    for (std::size_t i = 1; i < named.size(); ++i) good = good && named[i] > named[i - 1];
    const Options o = some_options(in);
    good = good && o.norm >= 0 && std::isfinite(o.norm);
    std::vector<double> norms(in.size_near(named.size()), 0);
    good = good && norms.size() == named.size();
    if constexpr (!half) {
        for (const std::int64_t r : good&& o.check_finite ? named : std::vector<std::int64_t>())
            good = good && all_finite(table.data() + static_cast<std::size_t>(r) * cols, cols);
    }
    const auto before = table;
    const bool no = refused([&] {
        normalize_indexed_rows(MatrixView<T>{table.data(), rows, cols}, named, norms, o.norm, o.max_norm, o.check_finite, o.num_threads);
    });
    must(half ? good || no : no == !good, "normalise of named rows refuses what is not valid");
    if (no) must(same_bytes(table, before), "a refused call writes nothing");
    if (no) return;
    for (std::size_t r = 0; r < rows; ++r) {
        if (std::find(named.begin(), named.end(), static_cast<std::int64_t>(r)) == named.end())
            must(cols == 0 || std::memcmp(&table[r * cols], &before[r * cols], cols * sizeof(T)) == 0, "row ", r,
                 " is not named and stays");
    }
    if constexpr (!half) {
        std::vector<Vector> vectors(named.size());
        for (std::size_t i = 0; i < named.size(); ++i) {
            for (std::size_t j = 0; j < cols; ++j) vectors[i].push_back(static_cast<std::size_t>(named[i]) * cols + j);
        }
        Normalize plain = o;
        plain.ord = Norm::l2, plain.threshold = 0;
        must_be_normalized(vectors, before.data(), table.data(), norms, plain);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    constexpr void (*runs[])(Input&) = {sparse<float, std::int32_t>,
                                        sparse<float, std::int64_t>,
                                        sparse<double, std::int32_t>,
                                        sparse<double, std::int64_t>,
                                        dense<float>,
                                        dense<double>,
                                        indexed<float>,
                                        indexed<double>,
                                        indexed<sparseops::float16>,
                                        indexed<sparseops::bfloat16>};
    runs[in.below(std::size(runs))](in);
    return 0;
}
