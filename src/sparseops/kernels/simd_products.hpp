// SPDX-License-Identifier: BSD-3-Clause
// Dot products and weighted sums of rows, several at a time so that what is loaded is used more than once.
//
// Included by kernel units alone; internal linkage, as in simd.hpp.
#pragma once

#include "kernels.hpp"
#include "simd.hpp"

namespace {

using sparseops::detail::Rows;

#if defined(__AVX512F__)
constexpr int dot_rows = 2;    // rows of a in one tile of dot products: their accumulators fill the registers
constexpr int sum_block = 8;   // vectors of the output kept in registers
constexpr int sums_block = 4;  // the same, of four outputs at once
#else
constexpr int dot_rows = 1;
constexpr int sum_block = 4;
constexpr int sums_block = 1;
#endif

// ---- dot products -------------------------------------------------------------------------------------------
// One dot product is two virtual accumulators, even and odd vectors, then their sum, then its lanes by halves;
// the same for every tile shape.

template <class T>
SPARSEOPS_INLINE T dot1(const T* a, const T* b, std::size_t n) {
    typedef Vec<T> V;
    constexpr std::size_t L = lanes<T>;
    V p{}, q{};
    std::size_t i = 0;
    for (; i + 2 * L <= n; i += 2 * L) {
        p = fma(load<V>(a + i), load<V>(b + i), p);
        q = fma(load<V>(a + i + L), load<V>(b + i + L), q);
    }
    if (i + L <= n) {
        p = fma(load<V>(a + i), load<V>(b + i), p);
        i += L;
        if (i < n) q = fma(load_n(a + i, n - i, T(0)), load_n(b + i, n - i, T(0)), q);
    } else if (i < n) {
        p = fma(load_n(a + i, n - i, T(0)), load_n(b + i, n - i, T(0)), p);
    }
    return sum_lanes(p + q);
}

// A rows against B, four or two; a load of b serves all A, a load of a all B.
template <class T, int A, int B = 4>
SPARSEOPS_INLINE void dot_tile(const T* const* a, const T* const* b, std::size_t n, T* const* out) {
    typedef Vec<T> V;
    constexpr std::size_t L = lanes<T>;
    V even[A][B] = {}, odd[A][B] = {};
    const auto add = [a, b](V(&sum)[A][B], std::size_t i, std::size_t m) __attribute__((always_inline)) {
        V x[A];
#pragma GCC unroll 4
        for (int r = 0; r < A; ++r) x[r] = load_m(a[r] + i, m, T(0));
#pragma GCC unroll 4
        for (int c = 0; c < B; ++c) {
            const V y = load_m(b[c] + i, m, T(0));
#pragma GCC unroll 4
            for (int r = 0; r < A; ++r) sum[r][c] = fma(x[r], y, sum[r][c]);
        }
    };
    std::size_t i = 0;
    for (; i + 4 * L <= n; i += 4 * L) {
        add(even, i, L);
        add(odd, i + L, L);
        add(even, i + 2 * L, L);
        add(odd, i + 3 * L, L);
    }
    if (i + 2 * L <= n) {
        add(even, i, L);
        add(odd, i + L, L);
        i += 2 * L;
    }
    if (i + L <= n) {
        add(even, i, L);
        i += L;
        if (i < n) add(odd, i, n - i);
    } else if (i < n) {
        add(even, i, n - i);
    }
#pragma GCC unroll 4
    for (int r = 0; r < A; ++r) {
        if constexpr (B == 4) {
            sum_lanes4(even[r][0] + odd[r][0], even[r][1] + odd[r][1], even[r][2] + odd[r][2], even[r][3] + odd[r][3], out[r]);
        } else {
            T both[4];
            sum_lanes4(even[r][0] + odd[r][0], even[r][1] + odd[r][1], V{}, V{}, both);
            std::memcpy(out[r], both, 2 * sizeof(T));
        }
    }
}

// One row against many.
template <class T>
void dots_of_one(const T* x, const Rows<T>& b, std::size_t nb, std::size_t n, T* out) {
    std::size_t j = 0;
    for (; j + 4 <= nb; j += 4) {
        const T* const four[4] = {b[j], b[j + 1], b[j + 2], b[j + 3]};
        dot_tile<T, 1>(&x, four, n, &out);
        out += 4;
    }
    if (j == nb) return;
    if (j + 1 == nb) {
        *out = dot1(x, b[j], n);
        return;
    }
    if (j + 2 == nb) {
        const T* const two[2] = {b[j], b[j + 1]};
        return dot_tile<T, 1, 2>(&x, two, n, &out);
    }
    T result[4];  // of three rows; the last fills the tile
    T* to = result;
    const T* const four[4] = {b[j], b[j + 1], b[j + 2], b[j + 2]};
    dot_tile<T, 1>(&x, four, n, &to);
    std::memcpy(out, result, (nb - j) * sizeof(T));
}

template <class T>
void path_dots(const T* x, const T* rows, const std::int32_t* index, std::size_t count, std::size_t n, T* out) {
    for (std::size_t j = 0; j < count; j += 4) {
        const std::size_t last = count - 1;
        const T* const four[4] = {rows + static_cast<std::size_t>(index[j]) * n,
                                  rows + static_cast<std::size_t>(index[j + 1 < last ? j + 1 : last]) * n,
                                  rows + static_cast<std::size_t>(index[j + 2 < last ? j + 2 : last]) * n,
                                  rows + static_cast<std::size_t>(index[j + 3 < last ? j + 3 : last]) * n};
        T* const to = out + j;
        dot_tile<T, 1>(&x, four, n, &to);
    }
}

// All of a against B rows of b.
template <class T, int B>
SPARSEOPS_INLINE void dots_of_all(const Rows<T>& a, std::size_t na, const T* const* b, std::size_t n, T* out, std::size_t out_stride) {
    std::size_t i = 0;
    if constexpr (dot_rows == 2) {
        for (; i + 2 <= na; i += 2) {
            const T* const rows[2] = {a[i], a[i + 1]};
            T* const to[2] = {out + i * out_stride, out + (i + 1) * out_stride};
            dot_tile<T, 2, B>(rows, b, n, to);
        }
    }
    for (; i < na; ++i) {
        const T* const row = a[i];
        T* const to = out + i * out_stride;
        dot_tile<T, 1, B>(&row, b, n, &to);
    }
}

// Four rows of b at a time against all of a, so that b is read from far away once.
template <class T>
void dots(const Rows<T>& a, std::size_t na, const Rows<T>& b, std::size_t nb, std::size_t n, T* out, std::size_t out_stride) {
    if (na == 1) return dots_of_one(a[0], b, nb, n, out);
    std::size_t j = 0;
    for (; j + 4 <= nb; j += 4) {
        const T* const four[4] = {b[j], b[j + 1], b[j + 2], b[j + 3]};
        dots_of_all<T, 4>(a, na, four, n, out + j, out_stride);
    }
    if (j + 2 <= nb) {
        const T* const two[2] = {b[j], b[j + 1]};
        dots_of_all<T, 2>(a, na, two, n, out + j, out_stride);
        j += 2;
    }
    for (std::size_t i = 0; j < nb && i < na; ++i) out[i * out_stride + j] = dot1(a[i], b[j], n);
}

// Calls f<B, m == lanes>(at, m) for stretches of B vectors, as many as Most, the last of which has m elements.
template <class T, int Most, class F>
SPARSEOPS_INLINE void last_stretch(std::size_t at, std::size_t n, F f) {
    constexpr std::size_t before = (Most - 1) * lanes<T>;
    if (n - at > before) {
        if (n - at == before + lanes<T>)
            f.template operator()<Most, true>(at, lanes<T>);
        else
            f.template operator()<Most, false>(at, n - at - before);
    } else if constexpr (Most > 1) {
        last_stretch<T, Most - 1>(at, n, f);
    }
}
template <class T, int Most, class F>
SPARSEOPS_INLINE void each_stretch(std::size_t n, F f) {
    std::size_t at = 0;
    for (; at + Most * lanes<T> < n; at += Most * lanes<T>) f.template operator()<Most, true>(at, lanes<T>);
    last_stretch<T, Most>(at, n, f);
}

// How rows are read: those of T itself. `some`: the m < lanes elements at p, then zeros; `before` elements of the row come before them.
template <class T>
struct Plain {
    typedef T Element;
    static inline __attribute__((always_inline)) Vec<T> of(const T* p) { return load<Vec<T>>(p); }
    static inline __attribute__((always_inline)) Vec<T> some(const T* p, std::size_t m, std::size_t) { return load_n(p, m, T(0)); }
};

// Vector v of a stretch that starts at `at`, the last of which may be partial.
template <class From, class T, int Block, bool Whole>
SPARSEOPS_INLINE Vec<T> read_of(const typename From::Element* p, std::size_t at, int v, std::size_t m) {
    at += static_cast<std::size_t>(v) * lanes<T>;
    return Whole || v + 1 < Block ? From::of(p + at) : From::some(p + at, m, at);
}
template <int Block, bool Whole, class T>
SPARSEOPS_INLINE Vec<T> load_of(const T* p, int v, std::size_t m) {
    return read_of<Plain<T>, T, Block, Whole>(p, 0, v, m);
}
template <int Block, bool Whole, class T>
SPARSEOPS_INLINE void store_of(T* p, int v, std::size_t m, Vec<T> x) {
    p += static_cast<std::size_t>(v) * lanes<T>;
    if (Whole || v + 1 < Block)
        store(p, x);
    else
        store_n(p, m, x);
}

// ---- weighted sums of rows ----------------------------------------------------------------------------------

template <class T, class From = Plain<T>>
void weighted_sum(const T* weight, std::size_t weight_stride, const Rows<typename From::Element>& rows, std::size_t count, std::size_t n,
                  bool accumulate, T* out) {
    typedef Vec<T> V;
    each_stretch<T, sum_block>(n, [&]<int Block, bool Whole>(std::size_t at, std::size_t m) __attribute__((always_inline)) {
        V s[Block];
#pragma GCC unroll 8
        for (int v = 0; v < Block; ++v) s[v] = accumulate ? load_of<Block, Whole>(out + at, v, m) : V{};
        for (std::size_t j = 0; j < count; ++j) {
            const V w = splat<V>(weight[j * weight_stride]);
            const auto* row = rows[j];
#pragma GCC unroll 8
            for (int v = 0; v < Block; ++v) s[v] = fma(w, read_of<From, T, Block, Whole>(row, at, v, m), s[v]);
        }
#pragma GCC unroll 8
        for (int v = 0; v < Block; ++v) store_of<Block, Whole>(out + at, v, m, s[v]);
    });
}

// Columns [at, at + Block vectors) of four sums; a load of a row serves all four.
template <class T, class From, int Block>
SPARSEOPS_INLINE void sum_columns4(const T* const* weight, const Rows<typename From::Element>& rows, std::size_t count, std::size_t at,
                                   std::size_t m, bool accumulate, T* const* out) {
    typedef Vec<T> V;
    constexpr std::size_t L = lanes<T>;
    V s[4][Block];
#pragma GCC unroll 4
    for (int o = 0; o < 4; ++o) {
#pragma GCC unroll 4
        for (int v = 0; v < Block; ++v) s[o][v] = accumulate ? load_m(out[o] + at + static_cast<std::size_t>(v) * L, m, T(0)) : V{};
    }
    for (std::size_t j = 0; j < count; ++j) {
        const auto* row = rows[j];
        V x[Block];
#pragma GCC unroll 4
        for (int v = 0; v < Block; ++v)
            x[v] = m == L ? read_of<From, T, Block, true>(row, at, v, m) : read_of<From, T, 1, false>(row, at, v, m);
#pragma GCC unroll 4
        for (int o = 0; o < 4; ++o) {
            const V w = splat<V>(weight[o][j]);
#pragma GCC unroll 4
            for (int v = 0; v < Block; ++v) s[o][v] = fma(w, x[v], s[o][v]);
        }
    }
#pragma GCC unroll 4
    for (int o = 0; o < 4; ++o) {
#pragma GCC unroll 4
        for (int v = 0; v < Block; ++v) store_m(out[o] + at + static_cast<std::size_t>(v) * L, m, s[o][v]);
    }
}

template <class T, class From = Plain<T>>
void weighted_sums(const T* const* weight, const Rows<typename From::Element>& rows, std::size_t count, std::size_t n, bool accumulate,
                   T* const* out, std::size_t n_out) {
    constexpr std::size_t L = lanes<T>;
    std::size_t o = 0;
    for (; o + 4 <= n_out; o += 4) {
        std::size_t at = 0;
        for (; at + sums_block * L <= n; at += sums_block * L)
            sum_columns4<T, From, sums_block>(weight + o, rows, count, at, L, accumulate, out + o);
        for (; at + L <= n; at += L) sum_columns4<T, From, 1>(weight + o, rows, count, at, L, accumulate, out + o);
        if (at < n) sum_columns4<T, From, 1>(weight + o, rows, count, at, n - at, accumulate, out + o);
    }
    for (; o < n_out; ++o) weighted_sum<T, From>(weight[o], 1, rows, count, n, accumulate, out[o]);
}

// ---- outer product ------------------------------------------------------------------------------------------

template <class T>
void outer(const T* weight, const T* x, std::size_t n, T* const* out, std::size_t kept, std::size_t count, double* sum) {
    typedef Vec<T> V;
    each_stretch<T, sum_block>(n, [&]<int Block, bool Whole>(std::size_t at, std::size_t m) __attribute__((always_inline)) {
        V piece[Block];  // of x, in registers
#pragma GCC unroll 8
        for (int v = 0; v < Block; ++v) piece[v] = load_of<Block, Whole>(x + at, v, m);
        for (std::size_t j = 0; j < kept; ++j) {
            if (at == 0) sum[j] += static_cast<double>(weight[j]);
            const V w = splat<V>(weight[j]);
            T* const to = out[j] + at;
#pragma GCC unroll 8
            for (int v = 0; v < Block; ++v) store_of<Block, Whole>(to, v, m, fma(w, piece[v], load_of<Block, Whole>(to, v, m)));
        }
        for (std::size_t j = kept; j < count; ++j) {
            if (at == 0) sum[j] = static_cast<double>(weight[j]);
            const V w = splat<V>(weight[j]);
            T* const to = out[j] + at;
#pragma GCC unroll 8
            for (int v = 0; v < Block; ++v) store_of<Block, Whole>(to, v, m, fma(w, piece[v], V{}));
        }
    });
}

}  // namespace
