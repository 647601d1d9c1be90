// SPDX-License-Identifier: BSD-3-Clause
// Rows and columns scaled to a norm, and the gradient of that.
#include <algorithm>
#include <cmath>
#include <limits>

#include <sparseops/kernels/stream.hpp>
#include <sparseops/normalize.hpp>

#include "check.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;
using Long = long double;

constexpr Long u64 = 0x1p-53L;  // the relative error of one rounding in double
template <class T>
constexpr Long unit = static_cast<Long>(std::numeric_limits<T>::epsilon()) / 2;
template <class T>
constexpr Long least = static_cast<Long>(std::numeric_limits<T>::denorm_min());

// A matrix stored by rows, and a dense one of the same entries if it has no gaps.
template <class T, class I>
struct Matrix {
    std::vector<I> indptr{0}, indices;
    std::vector<T> data;
    std::size_t cols = 0;

    CsrView<const T, I> view() const { return {indptr, indices, data, cols}; }
    std::size_t rows() const { return indptr.size() - 1; }
    MatrixView<const T> dense() const { return {data.data(), rows(), cols}; }
    // The row or the column of each entry.
    std::vector<std::size_t> vectors(bool by_rows) const {
        std::vector<std::size_t> v(data.size());
        for (std::size_t e = 0, r = 0; e < v.size(); ++e) {
            while (static_cast<std::size_t>(indptr[r + 1]) <= e) ++r;
            v[e] = by_rows ? r : static_cast<std::size_t>(indices[e]);
        }
        return v;
    }
};

// Rows of 0 .. most entries in columns of any order, or dense ones; some entries are 0, some the threshold 0.5.
template <class T, class I>
Matrix<T, I> make(Random& random, std::size_t rows, std::size_t cols, std::size_t most, bool dense) {
    Matrix<T, I> m;
    m.cols = cols;
    for (std::size_t r = 0; r < rows; ++r) {
        const std::size_t n = dense ? cols : random.below(most + 1);
        for (std::size_t e = 0; e < n; ++e) {
            const std::size_t kind = random.below(10);
            m.indices.push_back(static_cast<I>(dense ? e : random.below(cols)));
            m.data.push_back(kind == 0 ? T(0) : kind == 1 ? T(-0.5) : static_cast<T>(random.uniform(-2, 2)));
        }
        m.indptr.push_back(static_cast<I>(m.indices.size()));
    }
    return m;
}

enum class Form { csr, dense };

template <class T, class I>
void normalize(Form form, bool by_rows, const Matrix<T, I>& m, std::span<T> out, std::span<double> norms, const Normalize& o,
               int num_threads = 0) {
    const MatrixView<T> out_view{out.data(), m.rows(), m.cols};
    if (form == Form::csr)
        return by_rows ? normalize_rows(m.view(), out, norms, o, num_threads) : normalize_columns(m.view(), out, norms, o, num_threads);
    return by_rows ? normalize_rows(m.dense(), out_view, norms, o, num_threads)
                   : normalize_columns(m.dense(), out_view, norms, o, num_threads);
}
template <class T, class I>
void gradient(Form form, bool by_rows, const Matrix<T, I>& m, std::span<const T> g, std::span<T> dx, const Normalize& o,
              int num_threads = 0) {
    if (form == Form::csr)
        return by_rows ? normalize_rows_gradient(m.view(), g, dx, o, num_threads)
                       : normalize_columns_gradient(m.view(), g, dx, o, num_threads);
    return by_rows ? normalize_rows_gradient(m.dense(), g, dx, o, num_threads)
                   : normalize_columns_gradient(m.dense(), g, dx, o, num_threads);
}

std::string named(Form form, bool by_rows, const Normalize& o) {
    static const char* const ord[] = {"l1", "l2", "max"};
    return std::string(ord[static_cast<int>(o.ord)]) + (by_rows ? " of rows" : " of columns") +
           (form == Form::csr ? " (csr)" : " (dense)") + (o.max_norm ? " at most " : " to ") + std::to_string(o.norm) + " above " +
           std::to_string(o.threshold);
}

template <class T, class I, class F>
void each_way(const Matrix<T, I>& m, bool dense, F f) {
    for (const bool by_rows : {true, false}) {
        f(Form::csr, by_rows, by_rows ? m.rows() : m.cols);
        if (dense) f(Form::dense, by_rows, by_rows ? m.rows() : m.cols);
    }
}

template <class T, class I>
void check_against_reference(const Matrix<T, I>& m, bool dense, const Normalize& o) {
    each_way(m, dense, [&](Form form, bool by_rows, std::size_t count) {
        const std::string name = named(form, by_rows, o);
        const auto vector = m.vectors(by_rows);
        std::vector<Long> size(count, 0), terms(count, 0);
        const auto used = [&](std::size_t e) { return std::abs(m.data[e]) <= T(o.threshold) ? T(0) : m.data[e]; };
        for (std::size_t e = 0; e < m.data.size(); ++e) {
            const Long v = std::fabs(static_cast<Long>(used(e)));
            Long& own = size[vector[e]];
            own = o.ord == Norm::max ? std::max(own, v) : own + (o.ord == Norm::l2 ? v * v : v);
            ++terms[vector[e]];
        }
        for (Long& s : size) s = o.ord == Norm::l2 ? std::sqrt(s) : s;
        std::vector<T> out(m.data.size(), T(7)), in_place = m.data;
        std::vector<double> norms(count, -7), norms_in_place(count);
        normalize(form, by_rows, m, std::span(out), norms, o);
        // A sum of n terms and its parts (64 blocks of a column at most, the lanes of a row), products, the root.
        const auto relative = [&](std::size_t v) { return o.ord == Norm::max ? 0 : (terms[v] + 70) * u64; };
        for (std::size_t v = 0; v < count; ++v) {
            const Long error = std::fabs(static_cast<Long>(norms[v]) - size[v]);
            check(error <= relative(v) * size[v], name, ": norm ", v, " is ", norms[v], ", exact ", size[v]);
        }
        for (std::size_t e = 0; e < out.size(); ++e) {
            const std::size_t v = vector[e];
            const bool kept = size[v] == 0 || (o.max_norm && norms[v] <= o.norm);
            const Long x = static_cast<Long>(used(e)), exact = kept ? x : x * static_cast<Long>(o.norm) / size[v];
            const Long bound = kept ? 0 : (relative(v) + 3 * u64 + unit<T>)*std::fabs(exact) + least<T>;
            check(std::fabs(static_cast<Long>(out[e]) - exact) <= bound, name, ": entry ", e, " is ", out[e], ", exact ", exact);
        }
        auto source = m;
        normalize(form, by_rows, source, std::span(source.data), norms_in_place, o);
        check(same_bytes(out, source.data) && same_bytes(norms, norms_in_place), name, " in place should give the same bytes");
        Normalize unchecked = o;
        unchecked.check_finite = false;
        source.data = m.data;
        normalize(form, by_rows, source, std::span(source.data), norms_in_place, unchecked);
        check(same_bytes(out, source.data) && same_bytes(norms, norms_in_place), name, " unchecked should give the same bytes");
    });
}

template <class T, class I>
void test_values(Random& random) {
    for (const bool dense : {false, true}) {
        for (const auto& [rows, cols] : {std::pair<std::size_t, std::size_t>{0, 0}, {0, 5}, {3, 0}, {1, 1}, {7, 3}, {300, 37}, {5, 600}}) {
            const auto m = make<T, I>(random, rows, cols, cols ? 40 : 0, dense);
            for (const Norm ord : {Norm::l1, Norm::l2, Norm::max}) {
                for (const double threshold : {0.0, 0.5}) {
                    check_against_reference(m, dense, {.ord = ord, .norm = 3, .threshold = threshold});
                    check_against_reference(m, dense, {.ord = ord, .norm = 1.75, .max_norm = true, .threshold = threshold});
                    check_against_reference(m, dense, {.ord = ord, .norm = 0, .max_norm = true, .threshold = threshold});
                }
            }
        }
    }
}

// Entries times a power of two: the same result, and the norms times it. A norm times a power of two: the result times it,
// where norm / size may be beyond the range of double; zeros stay zero.
template <class T>
void test_range(Random& random, const std::vector<int>& powers, const std::vector<int>& norm_powers) {
    auto m = make<T, std::int32_t>(random, 40, 24, 0, true);
    for (T& v : m.data) v = static_cast<T>(std::floor(static_cast<double>(v) * 64));  // exact as subnormals too
    auto g = random.vector<T>(m.data.size());
    for (std::size_t e = 0; e < g.size(); e += 3) g[e] = m.data[e] = 0;
    const auto near = [](T x, T plain, int power) {
        const T exact = std::ldexp(plain, power);
        return x == exact ||
               std::abs(x - exact) <= std::abs(exact) * 8 * std::numeric_limits<T>::epsilon() + std::numeric_limits<T>::denorm_min();
    };
    for (const Norm ord : {Norm::l1, Norm::l2, Norm::max}) {
        const Normalize o{.ord = ord, .norm = 1.5};
        each_way(m, true, [&](Form form, bool by_rows, std::size_t count) {
            std::vector<T> plain(m.data.size()), plain_dx(plain), out(plain), dx(plain);
            std::vector<double> plain_norms(count), norms(count);
            normalize(form, by_rows, m, std::span(plain), plain_norms, o);
            if (ord == Norm::l2) gradient(form, by_rows, m, std::span<const T>(g), std::span(plain_dx), o);
            for (const int power : powers) {
                auto scaled = m;
                for (T& v : scaled.data) v = std::ldexp(v, power);
                for (const int norm_power : norm_powers) {
                    const Normalize other{.ord = ord, .norm = std::ldexp(1.5, norm_power)};
                    const std::string name = named(form, by_rows, other) + " times 2^" + std::to_string(power);
                    normalize(form, by_rows, scaled, std::span(out), norms, other);
                    for (std::size_t v = 0; v < count; ++v) {
                        const double exact = std::ldexp(plain_norms[v], power);
                        check(norms[v] == exact || std::abs(norms[v] - exact) <= 4e-15 * exact + 5e-324, name, ": norm ", v, " is ",
                              norms[v], ", should be ", exact);
                    }
                    for (std::size_t e = 0; e < out.size(); ++e)
                        check(near(out[e], plain[e], norm_power), name, ": entry ", e, " is ", out[e], ", should be that of ", plain[e]);
                    if (ord != Norm::l2) continue;
                    gradient(form, by_rows, scaled, std::span<const T>(g), std::span(dx), other);
                    for (std::size_t e = 0; e < dx.size(); ++e) {
                        const bool zero = plain_norms[by_rows ? e / m.cols : e % m.cols] == 0;
                        check(near(dx[e], plain_dx[e], zero ? 0 : norm_power - power), name, ": gradient ", e, " is ", dx[e],
                              ", should be that of ", plain_dx[e]);
                    }
                }
                const std::string name = named(form, by_rows, o) + " times 2^" + std::to_string(power);
                normalize(form, by_rows, scaled, std::span(scaled.data), norms, o);
                out = scaled.data;
                Normalize limit{.ord = ord, .norm = 2, .max_norm = true};
                normalize(form, by_rows, scaled, std::span(scaled.data), norms, limit);
                check(same_bytes(scaled.data, out), name, ": what is short enough should stay as it is");
            }
        });
    }
}

// A threshold beyond T's range drops what is finite and lets nothing else through.
template <class T>
void test_large_threshold(Random& random) {
    const Normalize checked{.threshold = 1e308}, unchecked{.threshold = 1e308, .check_finite = false};
    for (const double odd : {1.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
        auto m = make<T, std::int32_t>(random, 6, 5, 0, true);
        m.data[7] = static_cast<T>(odd);
        m.data[8] = sizeof(T) == 4 ? std::numeric_limits<T>::max() : T(1);
        each_way(m, true, [&](Form form, bool by_rows, std::size_t count) {
            std::vector<T> out(m.data.size());
            std::vector<double> norms(count);
            const std::string name = named(form, by_rows, checked);
            normalize(form, by_rows, m, std::span(out), norms, unchecked);
            for (std::size_t e = 0; e < out.size(); ++e) {
                const bool lost = !std::isfinite(odd) && (by_rows ? e / m.cols == 1 : e % m.cols == 2);
                check(lost ? std::isnan(out[e]) : out[e] == 0, name, ": entry ", e, " beside ", odd, " is ", out[e]);
            }
            if (std::isfinite(odd)) return;
            std::ostringstream text;
            text << "W must be finite, got " << odd << " at stored value 7";
            check_refused(text.str(), [&] { normalize(form, by_rows, m, std::span(out), norms, checked); });
        });
    }
}

// The vectors with a NaN or an infinity become NaN, the others stay as they are.
template <class T>
void test_not_finite(Random& random) {
    const auto clean = make<T, std::int32_t>(random, 30, 21, 0, true);
    for (const T odd : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()}) {
        for (const Norm ord : {Norm::l1, Norm::l2, Norm::max}) {
            each_way(clean, true, [&](Form form, bool by_rows, std::size_t count) {
                const Normalize checked{.ord = ord, .norm = 2}, unchecked{.ord = ord, .norm = 2, .check_finite = false};
                const std::string name = named(form, by_rows, checked);
                auto m = clean;
                const std::size_t at = 5 * m.cols + 9, vector = by_rows ? 5 : 9;
                m.data[at] = odd;
                std::ostringstream text;
                text << "W must be finite, got " << odd << " at stored value " << at;
                std::vector<T> plain(m.data.size()), out(m.data.size());
                std::vector<double> plain_norms(count), norms(count);
                const auto before = m.data;
                check_refused(text.str(), [&] { normalize(form, by_rows, m, std::span(m.data), norms, checked); });
                check(same_bytes(before, m.data), name, " refused in place should leave the entries");
                check_refused(text.str(), [&] { normalize(form, by_rows, m, std::span(out), norms, checked); });
                normalize(form, by_rows, clean, std::span(plain), plain_norms, unchecked);
                normalize(form, by_rows, m, std::span(out), norms, unchecked);
                check(std::isnan(norms[vector]), name, ": ", odd, " should show in its norm");
                if (ord == Norm::l2) {
                    const std::vector<T> g(m.data.size(), T(1));
                    std::vector<T> plain_dx(g), dx(g);
                    gradient(form, by_rows, clean, std::span(g), std::span(plain_dx), unchecked);
                    gradient(form, by_rows, m, std::span(g), std::span(dx), unchecked);
                    for (std::size_t e = 0; e < dx.size(); ++e) {
                        const std::size_t v = by_rows ? e / m.cols : e % m.cols;
                        check(v == vector ? std::isnan(dx[e]) : dx[e] == plain_dx[e], name, ": ", odd,
                              " should make the gradient of its vector NaN, entry ", e, " is ", dx[e]);
                    }
                }
                for (std::size_t v = 0; v < count; ++v)
                    check(v == vector || norms[v] == plain_norms[v], name, ": ", odd, " should leave norm ", v);
                for (std::size_t e = 0; e < out.size(); ++e) {
                    const std::size_t v = by_rows ? e / m.cols : e % m.cols;
                    check(v == vector ? std::isnan(out[e]) : std::memcmp(&out[e], &plain[e], sizeof(T)) == 0, name, ": ", odd,
                          " should make its vector NaN and leave the others, entry ", e, " is ", out[e]);
                }
            });
        }
    }
}

// g and dx as doubles; the error of both sums, of u and of the last products.
template <class T, class I>
void test_gradient(Random& random) {
    for (const bool dense : {false, true}) {
        const auto m = make<T, I>(random, 90, 17, 30, dense);
        const auto g = random.vector<T>(m.data.size());
        for (const Normalize& o : {Normalize{.norm = 3}, Normalize{.norm = 4, .max_norm = true}, Normalize{.norm = 0}}) {
            each_way(m, dense, [&](Form form, bool by_rows, std::size_t count) {
                const std::string name = "gradient of " + named(form, by_rows, o);
                const auto vector = m.vectors(by_rows);
                std::vector<Long> size(count, 0), along(count, 0), spread(count, 0), terms(count, 0);
                for (std::size_t e = 0; e < g.size(); ++e) {
                    const Long x = static_cast<Long>(m.data[e]), term = x * static_cast<Long>(g[e]);
                    size[vector[e]] += x * x;
                    along[vector[e]] += term;
                    spread[vector[e]] += std::fabs(term);
                    ++terms[vector[e]];
                }
                std::vector<T> dx(g.size(), T(7)), in_place = g;
                gradient(form, by_rows, m, std::span(g), std::span(dx), o);
                for (std::size_t e = 0; e < g.size(); ++e) {
                    const std::size_t v = vector[e];
                    const Long norm = std::sqrt(size[v]), own = static_cast<Long>(g[e]), x = static_cast<Long>(m.data[e]);
                    Long exact = own, bound = 0;
                    if (norm > 0 && !(o.max_norm && norm <= static_cast<Long>(o.norm))) {
                        const Long factor = static_cast<Long>(o.norm) / norm;
                        exact = (own - x * along[v] / size[v]) * factor;
                        bound = factor * (std::fabs(own) + std::fabs(x) * spread[v] / size[v]) * (2 * terms[v] + 20) * u64 +
                                unit<T> * std::fabs(exact) * 1.001L + least<T>;
                    }
                    check(std::fabs(static_cast<Long>(dx[e]) - exact) <= bound, name, ": entry ", e, " is ", dx[e], ", exact ", exact);
                }
                gradient(form, by_rows, m, std::span<const T>(in_place), std::span(in_place), o);
                check(same_bytes(dx, in_place), name, " over g should give the same bytes");
            });
        }
    }
}

template <class T>
void test_threads(Random& random) {
    for (const bool dense : {false, true}) {
        const auto m = make<T, std::int32_t>(random, 9000, 100, 200, dense);
        const auto g = random.vector<T>(m.data.size());
        each_way(m, dense, [&](Form form, bool by_rows, std::size_t count) {
            for (const double threshold : {0.0, 0.5}) {
                std::vector<T> first, first_dx;
                std::vector<double> first_norms;
                for (const int threads : {1, 2, 3}) {
                    const Normalize o{.norm = 2, .threshold = threshold};
                    std::vector<T> out(m.data.size()), dx(m.data.size());
                    std::vector<double> norms(count);
                    normalize(form, by_rows, m, std::span(out), norms, o, threads);
                    gradient(form, by_rows, m, std::span(g), std::span(dx), o, threads);
                    if (threads == 1) first = out, first_dx = dx, first_norms = norms;
                    check(same_bytes(first, out) && same_bytes(first_norms, norms) && same_bytes(first_dx, dx), named(form, by_rows, o),
                          " on ", threads, " threads should give the bytes of one");
                }
            }
        });
    }
}

void test_refusals() {
    const std::vector<std::int32_t> indptr{0, 2, 3}, indices{0, 2, 1}, falls{0, 2, 1}, late{1, 2, 3}, far{0, 2, 4}, beyond{0, 3, 1},
        negative{0, 2, -1};
    std::vector<float> data{1, 2, 3}, out{7, 7, 7};
    std::vector<double> norms{-7, -7, -7};
    const auto csr = [&](const auto& ptr, const auto& index) { return CsrView<const float, std::int32_t>{ptr, index, data, 3}; };
    const auto good = csr(indptr, indices);
    const std::span<float> o(out);
    const std::span<double> two = std::span(norms).first(2), three(norms);
    const double inf = std::numeric_limits<double>::infinity();
    const auto both = [&](const std::string& text, CsrView<const float, std::int32_t> x, std::span<float> to, const Normalize& options) {
        check_refused(text, [&] { normalize_rows(x, to, two, options); });
        check_refused(text, [&] { normalize_columns(x, to, three, options); });
    };
    both("norm must be finite and non-negative, got -1", good, o, {.norm = -1});
    both("norm must be finite and non-negative, got inf", good, o, {.norm = inf});
    both("threshold must be finite and non-negative, got -0.5", good, o, {.threshold = -0.5});
    both("threshold must be finite and non-negative, got inf", good, o, {.threshold = inf});
    both("W.indptr must start with 0", csr(late, indices), o, {});
    both("W.indptr must start with 0", csr(std::vector<std::int32_t>{}, indices), o, {});
    both("W.indptr must not decrease, got 1 after 2 at index 2", csr(falls, indices), o, {});
    both("W.indptr must end by 3, got 4", csr(far, indices), o, {});
    both("W.indices must have 3 entries, got 2", csr(indptr, std::vector<std::int32_t>{0, 1}), o, {});
    both("out must have 3 entries, got 2", good, o.first(2), {});
    check_refused("norms must have 2 entries, got 3", [&] { normalize_rows(good, o, three, {}); });
    check_refused("norms must have 3 entries, got 2", [&] { normalize_columns(good, o, two, {}); });
    check_refused("W.indices must be in [0, 3), got 3 at index 1", [&] { normalize_columns(csr(indptr, beyond), o, three, {}); });
    check_refused("W.indices must be in [0, 3), got -1 at index 2", [&] { normalize_columns(csr(indptr, negative), o, three, {}); });
    normalize_rows(csr(indptr, beyond), o, two, {});  // indices not read
    out = {7, 7, 7};
    const MatrixView<const float> dense{data.data(), 1, 3};
    for (const bool by_rows : {true, false}) {
        const auto call = [&](MatrixView<float> to, std::span<double> n, const Normalize& options) {
            by_rows ? normalize_rows(dense, to, n, options) : normalize_columns(dense, to, n, options);
        };
        const std::span<double> fit = by_rows ? std::span(norms).first(1) : three;
        check_refused("out must have shape (1, 3), got (3, 1)", [&] { call({out.data(), 3, 1}, fit, {}); });
        check_refused(by_rows ? "norms must have 1 entries, got 2" : "norms must have 3 entries, got 2",
                      [&] { call({out.data(), 1, 3}, two, {}); });
        check_refused("norm must be finite and non-negative, got nan",
                      [&] { call({out.data(), 1, 3}, fit, {.norm = std::numeric_limits<double>::quiet_NaN()}); });
    }
    const auto grads = [&](const std::string& text, CsrView<const float, std::int32_t> x, std::span<const float> g, std::span<float> dx,
                           const Normalize& options) {
        check_refused(text, [&] { normalize_rows_gradient(x, g, dx, options); });
        check_refused(text, [&] { normalize_columns_gradient(x, g, dx, options); });
    };
    const std::vector<float> g{1, 1, 1}, odd{1, static_cast<float>(inf), 1};
    grads("ord must be l2 for the gradient", good, g, o, {.ord = Norm::l1});
    grads("norm must be finite and non-negative, got -1", good, g, o, {.norm = -1});
    grads("grad must have 3 entries, got 2", good, std::span(g).first(2), o, {});
    grads("dx must have 3 entries, got 2", good, g, o.first(2), {});
    grads("grad must be finite, got inf at stored value 1", good, odd, o, {});
    grads("W.indptr must end by 3, got 4", csr(far, indices), g, o, {});
    check_refused("W.indices must be in [0, 3), got 3 at index 1",
                  [&] { normalize_columns_gradient(csr(indptr, beyond), std::span(g), o, {}); });
    check(out == std::vector<float>(3, 7) && data == std::vector<float>{1, 2, 3}, "a refusal should leave the outputs");
}

template <class T>
void test_all(Random& random) {
    test_values<T, std::int32_t>(random);
    test_values<T, std::int64_t>(random);
    test_not_finite<T>(random);
    test_gradient<T, std::int32_t>(random);
    test_gradient<T, std::int64_t>(random);
    test_threads<T>(random);
}

}  // namespace

int main() {
    Random random(20240612);
    test_all<float>(random);
    test_all<double>(random);
    test_range<float>(random, {90, 100, 118, -100, -149}, {0, -100, 100, 127, 900, 1020, -900, -1050});
    test_range<double>(random, {100, 400, 500, 510, 600, 900, 1010, -100, -400, -500, -540, -800, -1010, -1074},
                       {0, 300, 600, 900, 1000, 1022, -300, -600, -900, -1000, -1050});
    test_large_threshold<float>(random);
    test_large_threshold<double>(random);
    test_refusals();
    return finish("normalize");
}
