// SPDX-License-Identifier: BSD-3-Clause
// Compiled once per instruction set with -DSPARSEOPS_ISA_NAME=…; exports its table and nothing else.
#include "linear.hpp"

#include "prefetch.hpp"
#include "simd.hpp"
#include "simd_convert.hpp"
#include "simd_math.hpp"
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace {

using sparseops::detail::linear_lanes;
using sparseops::detail::LinearBlock;
using sparseops::detail::LinearEntry;
using sparseops::detail::LinearExamples;
using sparseops::detail::LinearSoftmax;
using sparseops::detail::prefetch_line;
using sparseops::detail::prefetch_line_to_write;

typedef Vec<float> V;
static_assert(lanes<float> == linear_lanes);

// Bit l: a < b in lane l.
SPARSEOPS_INLINE unsigned less_mask(f32x4 a, f32x4 b) {
#if defined(__SSE2__)
    return static_cast<unsigned>(_mm_movemask_ps((__m128)(a < b)));
#else
    unsigned mask = 0;
    for (int l = 0; l < 4; ++l) mask |= static_cast<unsigned>(a[l] < b[l]) << l;
    return mask;
#endif
}
#if defined(__AVX2__)
SPARSEOPS_INLINE unsigned less_mask(f32x8 a, f32x8 b) { return static_cast<unsigned>(_mm256_movemask_ps((__m256)(a < b))); }
#endif
#if defined(__AVX512F__)
SPARSEOPS_INLINE unsigned less_mask(f32x16 a, f32x16 b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ); }
#endif
template <class H>
SPARSEOPS_INLINE unsigned less_mask(Pair<H> a, Pair<H> b) {
    return less_mask(a.lo, b.lo) | less_mask(a.hi, b.hi) << (sizeof(H) / sizeof(float));
}

SPARSEOPS_INLINE V absolute(V x) { return max_of(x, V{} - x); }

// Row l has 1 in lane l and -1 elsewhere; row 16 has -1 everywhere.
struct Signs {
    alignas(64) float row[linear_lanes + 1][linear_lanes];
};
constexpr Signs make_signs() {
    Signs s{};
    for (std::size_t i = 0; i <= linear_lanes; ++i) {
        for (std::size_t l = 0; l < linear_lanes; ++l) s.row[i][l] = i == l ? 1.0f : -1.0f;
    }
    return s;
}
constexpr Signs signs = make_signs();

// 1 in the lanes of the mask, -1 in the others.
SPARSEOPS_INLINE V signs_of(unsigned mask) {
    V sign = load<V>(signs.row[__builtin_ctz(mask | 1u << linear_lanes)]);  // no branch: whether there is a 1 is hard to foresee
    while ((mask &= mask - 1) != 0) sign = max_of(sign, load<V>(signs.row[__builtin_ctz(mask)]));
    return sign;
}

// `in` in the first `live` lanes, `out` in the others.
SPARSEOPS_INLINE V first_lanes(std::size_t live, float in, float out) {
    float lane[linear_lanes];
    for (std::size_t l = 0; l < linear_lanes; ++l) lane[l] = l < live ? in : out;
    return load<V>(lane);
}

// An example's entries.
struct Entries {
    const LinearEntry *first, *last;
};
SPARSEOPS_INLINE Entries entries_of(const LinearExamples& x, std::size_t i) { return {x.entries + x.ptr[i], x.entries + x.ptr[i + 1]}; }

// Asks for what the examples after visit[q] need: the entries and dual variables four ahead, the weights one ahead.
SPARSEOPS_INLINE void prefetch_ahead(const LinearExamples& x, const std::int32_t* visit, std::size_t q, std::size_t count, float* weights,
                                     float* dual, std::size_t width) {
    const std::size_t later = static_cast<std::size_t>(visit[q + 4 < count ? q + 4 : count - 1]);
    const Entries far = entries_of(x, later);
    for (const LinearEntry* e = far.first; e < far.last; e += 64 / sizeof(LinearEntry)) prefetch_line(e);
    for (std::size_t k = 0; k < width; k += 16) prefetch_line_to_write(dual + later * width + k);
    const Entries near = entries_of(x, static_cast<std::size_t>(visit[q + 1 < count ? q + 1 : count - 1]));
    for (const LinearEntry* e = near.first; e < near.last; ++e) {
        for (std::size_t k = 0; k < width; k += 16) prefetch_line_to_write(weights + static_cast<std::size_t>(e->feature) * width + k);
    }
}

SPARSEOPS_INLINE float* weights_at(float* weights, const LinearEntry& e) {
    return weights + static_cast<std::size_t>(e.feature) * linear_lanes;
}

// Σ x_f w_f of sixteen rows, in two sums: of the entries in even and in odd places.
SPARSEOPS_INLINE V scores(float* weights, Entries x) {
    V even{}, odd{};
    const LinearEntry* e = x.first;
    for (; e + 2 <= x.last; e += 2) {
        even = fma(load<V>(weights_at(weights, e[0])), splat<V>(e[0].value), even);
        odd = fma(load<V>(weights_at(weights, e[1])), splat<V>(e[1].value), odd);
    }
    if (e < x.last) even = fma(load<V>(weights_at(weights, *e)), splat<V>(e->value), even);
    return even + odd;
}

SPARSEOPS_INLINE void add_example(float* weights, Entries x, V step) {
    for (const LinearEntry* e = x.first; e < x.last; ++e) {
        float* const w = weights_at(weights, *e);
        store(w, fma(step, splat<V>(e->value), load<V>(w)));
    }
}

// Hsieh et al., "A dual coordinate descent method for large-scale linear SVM", ICML 2008, with a quadratic penalty.
void squared_hinge(const LinearExamples& x, const LinearBlock& block, std::int32_t* visit, std::size_t count, float leave, float* lowest,
                   float* highest) {
    const V zero{}, one = splat<V>(1.0f), limit = splat<V>(leave), offset = splat<V>(block.offset);
    // an idle lane has a gradient so large that its dual variable stays zero and lets the example go
    const V idle = first_lanes(block.live, 0.0f, __builtin_inff());
    V bias = load<V>(block.bias), low = splat<V>(__builtin_inff()), high = zero - low;
    for (std::size_t q = 0; q < count; ++q) {
        prefetch_ahead(x, visit, q, count, block.weights, block.dual, linear_lanes);
        const auto i = static_cast<std::size_t>(visit[q]);
        const Entries entries = entries_of(x, i);
        const float ridge = 0.5f / x.cost[i], inverse = 1.0f / (x.squares[i] + ridge);
        const V sign = signs_of(block.positive[i]), score = scores(block.weights, entries) + (bias + offset);
        float* const dual = block.dual + i * linear_lanes;
        const V old = load<V>(dual);
        const V gradient = fma(sign, score, fma(old, splat<V>(ridge), zero - one)) + idle;
        const V projected = select_less(zero, old, gradient, min_of(gradient, zero));
        low = min_of(low, projected);
        high = max_of(high, projected);
        const V updated = max_of(fma(gradient, splat<V>(-inverse), old), zero);
        const V step = (updated - old) * sign;
        if (less_mask(zero, absolute(step)) != 0) {
            store(dual, updated);
            add_example(block.weights, entries, step);
            bias = bias + step;
        }
        if (less_mask(limit, gradient) == 0xffff && less_mask(zero, old) == 0) visit[q] = ~visit[q];
    }
    store(block.bias, bias);
    float lane[linear_lanes];
    store(lane, low);
    for (const float g : lane) *lowest = g < *lowest ? g : *lowest;
    store(lane, high);
    for (const float g : lane) *highest = g > *highest ? g : *highest;
}

// σ(x)
SPARSEOPS_INLINE V sigmoid(V x) {
    const V zero{}, one = splat<V>(1.0f);
    const V u = exp_nonpositive<float>(min_of(x, zero - x));
    return select_less(x, zero, u, one) / (one + u);
}

// Yu, Huang and Lin, "Dual coordinate descent methods for logistic regression and maximum entropy models", 2011: the dual variable is
// C q, and the root of logit q + A q = A q_old - y s is found by Newton's method on the logit, where it is well conditioned.
float logistic(const LinearExamples& x, const LinearBlock& block, const std::int32_t* visit, std::size_t count, bool first) {
    const V zero{}, one = splat<V>(1.0f), most = splat<V>(4.0f), offset = splat<V>(block.offset);
    const V live = first_lanes(block.live, 1.0f, 0.0f);
    V bias = load<V>(block.bias), largest = zero;
    for (std::size_t at = 0; at < count; ++at) {
        prefetch_ahead(x, visit, at, count, block.weights, block.dual, linear_lanes);
        const auto i = static_cast<std::size_t>(visit[at]);
        const Entries entries = entries_of(x, i);
        const V curvature = splat<V>(x.cost[i] * x.squares[i]), sign = signs_of(block.positive[i]);
        const V margin = sign * (scores(block.weights, entries) + (bias + offset));
        float* const dual = block.dual + i * linear_lanes;
        const V before = first ? zero - margin : load<V>(dual);
        const V old = first ? zero : sigmoid(before), wanted = fma(curvature, old, zero - margin);
        V logit = before, q = sigmoid(before);
        for (int step = 0; step < 3; ++step) {
            const V residual = fma(curvature, q, logit) - wanted;
            const V change = residual / fma(curvature * q, one - q, one);
            logit = logit - max_of(min_of(change, most), zero - most);
            q = sigmoid(logit);
        }
        store(dual, logit);
        largest = max_of(largest, absolute(logit - before) * live);
        const V step = sign * splat<V>(x.cost[i]) * (q - old) * live;
        add_example(block.weights, entries, step);
        bias = bias + step;
    }
    store(block.bias, bias);
    float lane[linear_lanes], result = 0;
    store(lane, largest);
    for (const float g : lane) result = g > result ? g : result;
    return result;
}

// ---- softmax ------------------------------------------------------------------------------------------------

// out[k] = bias + Σ x_f w_f of all rows of a node, four vectors at a time.
SPARSEOPS_INLINE void softmax_scores(const LinearSoftmax& node, Entries x, float* out) {
    std::size_t k = 0;
    const auto some = [&]<std::size_t N>(const float (&)[N]) __attribute__((always_inline)) {
        V sum[N];
#pragma GCC unroll 4
        for (std::size_t v = 0; v < N; ++v) sum[v] = load<V>(node.bias + k + 16 * v);
        for (const LinearEntry* e = x.first; e < x.last; ++e) {
            const float* const w = node.weights + static_cast<std::size_t>(e->feature) * node.width + k;
            const V value = splat<V>(e->value);
#pragma GCC unroll 4
            for (std::size_t v = 0; v < N; ++v) sum[v] = fma(load<V>(w + 16 * v), value, sum[v]);
        }
#pragma GCC unroll 4
        for (std::size_t v = 0; v < N; ++v) store(out + k + 16 * v, sum[v]);
        k += 16 * N;
    };
    constexpr float four[4] = {}, one[1] = {};
    while (k + 64 <= node.width) some(four);
    while (k < node.width) some(one);
}

SPARSEOPS_INLINE float largest_of(const float* z, std::size_t n) {
    V top = load<V>(z);
    for (std::size_t k = 16; k < n; k += 16) top = max_of(top, load<V>(z + k));
    float lane[linear_lanes], best;
    store(lane, top);
    best = lane[0];
    for (const float x : lane) best = x > best ? x : best;
    return best;
}

constexpr float lowest_log = -30.0f;  // of a probability, so that none becomes zero for ever

// log_q -= log Σ e^log_q, at least lowest_log, and q = e^log_q; the lanes from `live` on get q = 0.
SPARSEOPS_INLINE void normalize(const LinearSoftmax& node, float* log_q, float* q) {
    const float top = largest_of(log_q, node.width);
    const V shift = splat<V>(top);
    V sum{};
    for (std::size_t k = 0; k < node.width; k += 16) {
        const std::size_t live = node.live - k < 16 ? node.live - k : 16;
        const V e = exp_nonpositive<float>(load<V>(log_q + k) - shift) * first_lanes(live, 1.0f, 0.0f);
        store(q + k, e);
        sum = sum + e;
    }
    const float all = sum_lanes(sum);
    const V inverse = splat<V>(1.0f / all), log_all = splat<V>(top + log1p_any(all > 1.0f ? all - 1.0f : 0.0f));
    for (std::size_t k = 0; k < node.width; k += 16) {
        store(q + k, load<V>(q + k) * inverse);
        store(log_q + k, max_of(load<V>(log_q + k) - log_all, splat<V>(lowest_log)));
    }
}

// One example: the q with log q_k + A q_k = s_k + A q_old,k - τ, by Newton steps whose τ keeps Σ q at 1.
SPARSEOPS_INLINE float softmax_step(const LinearSoftmax& node, float curvature, const float* s, const float* old, float* log_q, float* q,
                                    float* residual) {
    const V A = splat<V>(curvature), one = splat<V>(1.0f), most = splat<V>(3.0f);
    float size = 0;
    for (int step = 0; step < 3; ++step) {
        V weights{}, weighted{};
        for (std::size_t k = 0; k < node.width; k += 16) {
            const V p = load<V>(q + k), r = fma(A, load<V>(old + k) - p, load<V>(s + k)) - load<V>(log_q + k);
            const V h = p / fma(A, p, one);
            store(residual + k, r);
            weights = weights + h;
            weighted = fma(h, r, weighted);
        }
        const V tau = splat<V>(sum_lanes(weighted) / sum_lanes(weights));
        V sum{};
        for (std::size_t k = 0; k < node.width; k += 16) {
            const V p = load<V>(q + k), r = load<V>(residual + k) - tau;
            sum = fma(p, absolute(r), sum);
            const V change = max_of(min_of(r / fma(A, p, one), most), V{} - most);
            store(log_q + k, load<V>(log_q + k) + change);
        }
        if (step == 0) size = sum_lanes(sum);
        normalize(node, log_q, q);
    }
    return size;
}

double softmax(const LinearExamples& x, const LinearSoftmax& node, const std::int32_t* visit, std::size_t count, bool first) {
    float* const s = node.scratch;
    float *const old = s + node.width, *const q = old + node.width, *const residual = q + node.width;
    double total = 0;
    for (std::size_t at = 0; at < count; ++at) {
        prefetch_ahead(x, visit, at, count, node.weights, node.dual, node.width);
        const auto i = static_cast<std::size_t>(visit[at]);
        const Entries entries = entries_of(x, i);
        float* const log_q = node.dual + i * node.width;
        softmax_scores(node, entries, s);
        for (std::size_t k = node.live; k < node.width; ++k) s[k] = -1e4f;
        if (first) std::memcpy(log_q, s, node.width * sizeof(float));
        normalize(node, log_q, q);
        if (first) {
            std::memset(old, 0, node.width * sizeof(float));
            old[node.target[i]] = 1;
        } else {
            std::memcpy(old, q, node.width * sizeof(float));
        }
        total += static_cast<double>(softmax_step(node, x.cost[i] * x.squares[i], s, old, log_q, q, residual));
        for (std::size_t k = 0; k < node.width; k += 16) {
            const V step = splat<V>(x.cost[i]) * (load<V>(old + k) - load<V>(q + k));
            store(residual + k, step);
            store(node.bias + k, load<V>(node.bias + k) + step);
        }
        for (const LinearEntry* e = entries.first; e < entries.last; ++e) {
            float* const w = node.weights + static_cast<std::size_t>(e->feature) * node.width;
            const V value = splat<V>(e->value);
            for (std::size_t k = 0; k < node.width; k += 16) store(w + k, fma(load<V>(residual + k), value, load<V>(w + k)));
        }
    }
    return total;
}

void large_scores(const LinearExamples& x, const float* weights, std::size_t vectors, const float* bias, float threshold, std::size_t first,
                  std::size_t last, float* out) {
    const V limit = splat<V>(threshold);
    for (std::size_t i = first; i < last; ++i) {
        const Entries entries = entries_of(x, i);
        for (std::size_t k = 0; k < vectors * linear_lanes; k += linear_lanes) {
            V sum = load<V>(bias + k);
            for (const LinearEntry* e = entries.first; e < entries.last; ++e) {
                const V w = load<V>(weights + static_cast<std::size_t>(e->feature) * vectors * linear_lanes + k);
                sum = fma(select_less(limit, absolute(w), w, V{}), splat<V>(e->value), sum);
            }
            store(out + k, sum);
        }
        out += vectors * linear_lanes;
    }
}

void add_rows(const float* rows, std::size_t width, const std::int32_t* index, const float* x, std::size_t n, float* z) {
    std::size_t k = 0;
    const auto some = [&]<std::size_t N>(const float (&)[N]) __attribute__((always_inline)) {
        V sum[N];
#pragma GCC unroll 4
        for (std::size_t v = 0; v < N; ++v) sum[v] = load<V>(z + k + 16 * v);
        for (std::size_t j = 0; j < n; ++j) {
            const float* const row = rows + static_cast<std::size_t>(index[j]) * width + k;
            const V value = splat<V>(x[j]);
#pragma GCC unroll 4
            for (std::size_t v = 0; v < N; ++v) sum[v] = sum[v] + load<V>(row + 16 * v) * value;
        }
#pragma GCC unroll 4
        for (std::size_t v = 0; v < N; ++v) store(z + k + 16 * v, sum[v]);
        k += 16 * N;
    };
    constexpr float four[4] = {}, one[1] = {};
    while (k + 64 <= width) some(four);
    while (k < width) some(one);
}

// Which lane has what: row l is 0 in lane l and 1 elsewhere; from edge + 16 - n the first n lanes are infinite, the others minus infinite.
struct Lanes {
    alignas(64) float without[linear_lanes][linear_lanes];
    alignas(64) float edge[2 * linear_lanes];
};
constexpr Lanes make_lanes() {
    Lanes s{};
    for (std::size_t i = 0; i < linear_lanes; ++i) {
        for (std::size_t l = 0; l < linear_lanes; ++l) s.without[i][l] = i == l ? 0.0f : 1.0f;
        s.edge[i] = __builtin_inff();
        s.edge[linear_lanes + i] = -__builtin_inff();
    }
    return s;
}
constexpr Lanes some_lanes = make_lanes();

bool log_softmax(float* z, std::size_t n, float temperature, float least, std::uint16_t* above) {
    const std::size_t last = (n - 1) / linear_lanes * linear_lanes;
    const V by = splat<V>(temperature), edge = load<V>(some_lanes.edge + linear_lanes - (n - last));
    V most = splat<V>(-__builtin_inff()), odd{};
    for (std::size_t k = 0; k <= last; k += linear_lanes) {
        V x = load<V>(z + k) * by;
        odd = odd + (x - x);
        if (k == last) x = min_of(x, edge);
        store(z + k, x);
        most = max_of(most, x);
    }
    if (sum_lanes(odd) != 0) return false;
    float lane[linear_lanes];
    store(lane, most);
    float largest = lane[0];
    for (const float x : lane) largest = x > largest ? x : largest;
    const V top = splat<V>(largest);
    std::size_t first = 0;  // of the vector with the first that is the largest, which the sum leaves out
    while (less_mask(load<V>(z + first), top) == 0xffff) first += linear_lanes;
    const V without = load<V>(some_lanes.without[__builtin_ctz(~less_mask(load<V>(z + first), top))]);
    Vec<double> sum{};
    for (std::size_t k = 0; k <= last; k += linear_lanes) {
        const V e = exp_nonpositive<float>(load<V>(z + k) - top);
        store(lane, k == first ? e * without : e);
        for (std::size_t j = 0; j < linear_lanes; j += lanes<double>) sum = sum + load_doubles(lane + j, lanes<double>);
    }
    const double rest = sum_lanes(sum);
    float log_high, log_low = 0;
    if (rest > 1) {
        const double log = log1p_any(rest);
        log_high = static_cast<float>(log);
        log_low = static_cast<float>(log - static_cast<double>(log_high));
    } else {
        log_high = log1p_unit<float, float>(static_cast<float>(rest));
    }
    const V high = splat<V>(log_high), low = splat<V>(log_low), limit = splat<V>(least);
    for (std::size_t k = 0; k <= last; k += linear_lanes) {
        const V log_p = -(((top - load<V>(z + k)) + low) + high);
        store(z + k, log_p);
        above[k / linear_lanes] = static_cast<std::uint16_t>(~less_mask(log_p, limit));
    }
    above[last / linear_lanes] = static_cast<std::uint16_t>(above[last / linear_lanes] & ((1u << (n - last)) - 1));
    return true;
}

void above(const float* weights, std::size_t features, float threshold, std::uint16_t* mask) {
    const V limit = splat<V>(threshold);
    for (std::size_t f = 0; f < features; ++f)
        mask[f] = static_cast<std::uint16_t>(less_mask(limit, absolute(load<V>(weights + f * linear_lanes))));
}

#define SPARSEOPS_JOIN_(a, b) a##b
#define SPARSEOPS_JOIN(a, b) SPARSEOPS_JOIN_(a, b)

}  // namespace

namespace sparseops::detail {
extern const LinearKernels SPARSEOPS_JOIN(linear_, SPARSEOPS_ISA_NAME);
const LinearKernels SPARSEOPS_JOIN(linear_, SPARSEOPS_ISA_NAME) = {squared_hinge, logistic,    softmax, large_scores,
                                                                   add_rows,      log_softmax, above};
}  // namespace sparseops::detail
