// SPDX-License-Identifier: BSD-3-Clause
// Random bits by Philox4x32-10, several blocks at a time.
//
// Included by stream_isa.cpp alone, after simd.hpp, under the same rules.
#pragma once

#include "prefetch.hpp"
#include "simd.hpp"
#include "simd_words.hpp"
#include "stream.hpp"

namespace {

using sparseops::detail::Ahead;

// Moves pairs of bits apart: bits 2l, 2l + 1 of x go to 4l, 4l + 1.
SPARSEOPS_INLINE std::uint64_t spread_pairs(std::uint64_t x) {
#if defined(__AVX512F__)  // every processor that has it deposits bits in one cycle
    return _pdep_u64(x, 0x3333333333333333u);
#else
    x = (x | (x << 16)) & 0x0000ffff0000ffffu;
    x = (x | (x << 8)) & 0x00ff00ff00ff00ffu;
    x = (x | (x << 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (x | (x << 2)) & 0x3333333333333333u;
#endif
}

// Philox4x32-10 (detail/random.hpp has it one block at a time): a lane is a block. The 16 blocks of a group differ in the low
// word of the counter alone, as do all groups up to the next multiple of 2²⁸: half of the first two rounds is done once for them.
struct Philox {
    static constexpr std::uint64_t m0 = 0xD2511F53u, m1 = 0xCD9E8D57u;
    Words k0[10], k1[10], w0, w1, c3_k1, q0_k0, p1_low, p1_k1, limit;
};

// The bits of G groups; p is m0 times the counters of the first lanes. A chain of ten multiplications leaves room for others beside it.
template <int G>
SPARSEOPS_INLINE void draw_groups(const Philox& k, Words p0, std::uint64_t* bits) {
    constexpr int parts = 16 / word_lanes, at_once = parts < 2 ? parts : 2, chains = G * at_once;
    std::uint64_t even[G] = {}, odd[G] = {};  // words 0, 1 and words 2, 3 of the 16 blocks
    for (int part = 0; part < parts; part += at_once) {
        Words c0[chains], c1[chains], c2[chains], c3[chains];
        for (int u = 0; u < chains; ++u) {
            const int block = 16 * (u / at_once) + word_lanes * (part + u % at_once);
            const Words p = add(p0, words(Philox::m0 * static_cast<std::uint64_t>(block))),
                        q = multiply_low(exclusive_or(high_half(p), k.c3_k1), k.w1);
            c0[u] = exclusive_or(high_half(q), k.q0_k0);
            c1[u] = q;
            c2[u] = exclusive_or(p, k.p1_k1);
            c3[u] = k.p1_low;
        }
#pragma GCC unroll 8
        for (int r = 2; r < 10; ++r) {
#pragma GCC unroll 4
            for (int u = 0; u < chains; ++u) {
                const Words p = multiply_low(c0[u], k.w0), q = multiply_low(c2[u], k.w1);
                c0[u] = exclusive_or(high_half(q), c1[u], k.k0[r]);
                c2[u] = exclusive_or(high_half(p), c3[u], k.k1[r]);
                c1[u] = q;
                c3[u] = p;
            }
        }
        for (int u = 0; u < chains; ++u) {
            const int shift = 2 * word_lanes * (part + u % at_once);
            even[u / at_once] |= below(c0[u], c1[u], k.limit) << shift;
            odd[u / at_once] |= below(c2[u], c3[u], k.limit) << shift;
        }
    }
    for (int g = 0; g < G; ++g) bits[g] = spread_pairs(even[g]) | (spread_pairs(odd[g]) << 2);
}

SPARSEOPS_INLINE void ask(const Ahead& ahead, std::size_t g, std::size_t groups) {
    if (ahead.read) sparseops::detail::prefetch(ahead.read + g * ahead.bytes, groups * ahead.bytes);
    if (ahead.write) sparseops::detail::prefetch_to_write(ahead.write + g * ahead.bytes, groups * ahead.bytes);
}

void draw_bits(std::uint64_t key, std::uint64_t high, std::uint64_t first, std::size_t groups, std::uint32_t threshold, std::uint64_t* bits,
               Ahead ahead) {
    constexpr std::size_t G = word_lanes < 8 ? 1 : 2;  // at once: more would not fit the registers
    constexpr std::uint64_t low_word = 0xffffffffu, alike = std::uint64_t{1} << 28;
    const auto key0 = static_cast<std::uint32_t>(key), key1 = static_cast<std::uint32_t>(key >> 32);
    const std::uint64_t q0 = Philox::m1 * (high & low_word);
    Philox k;
    for (std::uint32_t r = 0; r < 10; ++r) {
        k.k0[r] = words(key0 + r * 0x9E3779B9u);
        k.k1[r] = words(key1 + r * 0xBB67AE85u);
    }
    k.w0 = words(Philox::m0);
    k.w1 = words(Philox::m1);
    k.c3_k1 = words((high >> 32) ^ key1);
    k.q0_k0 = words(q0 ^ (key0 + 0x9E3779B9u));
    k.limit = words((static_cast<std::uint64_t>(threshold) << 32) | threshold);
    for (std::size_t g = 0; g < groups;) {
        const std::uint64_t here = first + g, left = alike - here % alike;
        const std::size_t end = groups - g < left ? groups : g + left;
        const std::uint64_t p1 = Philox::m0 * (((q0 >> 32) ^ (here / alike) ^ key) & low_word);
        k.p1_low = words(p1);
        k.p1_k1 = words((p1 >> 32) ^ (key1 + 0xBB67AE85u));
        Words p = multiply_low(count_up(here * 16), k.w0);
        for (; g + G <= end; g += G) {
            ask(ahead, g, G);
            draw_groups<G>(k, p, bits + g);
            p = add(p, words(Philox::m0 * 16 * G));
        }
        for (; g < end; ++g) {
            ask(ahead, g, 1);
            draw_groups<1>(k, p, bits + g);
            p = add(p, words(Philox::m0 * 16));
        }
    }
}

}  // namespace
