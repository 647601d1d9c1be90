// SPDX-License-Identifier: BSD-3-Clause
// Vectors of the 32-bit words that Philox4x32-10 multiplies, one block a lane.
//
// Included by stream_isa.cpp, under the rules of simd.hpp.
#pragma once

#include "simd.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

// Vectors of 64-bit lanes whose low halves are 32-bit words: what Philox multiplies. One instruction set, one width.
// The content of the high halves means nothing. high_half shuffles where it can: shifts would wait for the unit that multiplies.
#if defined(__AVX512F__)
struct Words {
    __m512i v;
};
constexpr int word_lanes = 8;
SPARSEOPS_INLINE Words words(std::uint64_t x) { return {_mm512_set1_epi64(static_cast<long long>(x))}; }
SPARSEOPS_INLINE Words count_up(std::uint64_t x) { return {_mm512_add_epi64(words(x).v, _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0))}; }
SPARSEOPS_INLINE Words add(Words a, Words b) { return {_mm512_add_epi64(a.v, b.v)}; }
SPARSEOPS_INLINE Words multiply_low(Words a, Words b) { return {_mm512_mul_epu32(a.v, b.v)}; }
SPARSEOPS_INLINE Words high_half(Words a) { return {_mm512_shuffle_epi32(a.v, _MM_PERM_DDBB)}; }
SPARSEOPS_INLINE Words exclusive_or(Words a, Words b, Words c) { return {_mm512_ternarylogic_epi64(a.v, b.v, c.v, 0x96)}; }
SPARSEOPS_INLINE Words exclusive_or(Words a, Words b) { return {_mm512_xor_si512(a.v, b.v)}; }
// Bit 2l: the low half of even's lane l is below that of t; bit 2l + 1: the same for odd.
SPARSEOPS_INLINE std::uint64_t below(Words even, Words odd, Words t) {
    const __m512i both = _mm512_mask_shuffle_epi32(even.v, 0xaaaa, odd.v, _MM_PERM_CCAA);
    return _mm512_cmplt_epu32_mask(both, t.v);
}
#elif defined(__AVX2__)
struct Words {
    __m256i v;
};
constexpr int word_lanes = 4;
SPARSEOPS_INLINE Words words(std::uint64_t x) { return {_mm256_set1_epi64x(static_cast<long long>(x))}; }
SPARSEOPS_INLINE Words count_up(std::uint64_t x) { return {_mm256_add_epi64(words(x).v, _mm256_set_epi64x(3, 2, 1, 0))}; }
SPARSEOPS_INLINE Words add(Words a, Words b) { return {_mm256_add_epi64(a.v, b.v)}; }
SPARSEOPS_INLINE Words multiply_low(Words a, Words b) { return {_mm256_mul_epu32(a.v, b.v)}; }
SPARSEOPS_INLINE Words high_half(Words a) { return {_mm256_shuffle_epi32(a.v, 0xf5)}; }
SPARSEOPS_INLINE Words exclusive_or(Words a, Words b, Words c) { return {_mm256_xor_si256(_mm256_xor_si256(a.v, b.v), c.v)}; }
SPARSEOPS_INLINE Words exclusive_or(Words a, Words b) { return {_mm256_xor_si256(a.v, b.v)}; }
SPARSEOPS_INLINE std::uint64_t below(Words even, Words odd, Words t) {
    const __m256i both = _mm256_blend_epi32(even.v, _mm256_slli_epi64(odd.v, 32), 0xaa);
    const __m256i not_below = _mm256_cmpeq_epi32(_mm256_max_epu32(both, t.v), both);
    return static_cast<std::uint64_t>(~_mm256_movemask_ps(_mm256_castsi256_ps(not_below))) & 0xff;
}
#elif defined(__SSE4_1__)
struct Words {
    __m128i v;
};
constexpr int word_lanes = 2;
SPARSEOPS_INLINE Words words(std::uint64_t x) { return {_mm_set1_epi64x(static_cast<long long>(x))}; }
SPARSEOPS_INLINE Words count_up(std::uint64_t x) { return {_mm_add_epi64(words(x).v, _mm_set_epi64x(1, 0))}; }
SPARSEOPS_INLINE Words add(Words a, Words b) { return {_mm_add_epi64(a.v, b.v)}; }
SPARSEOPS_INLINE Words multiply_low(Words a, Words b) { return {_mm_mul_epu32(a.v, b.v)}; }
SPARSEOPS_INLINE Words high_half(Words a) { return {_mm_shuffle_epi32(a.v, 0xf5)}; }
SPARSEOPS_INLINE Words exclusive_or(Words a, Words b, Words c) { return {_mm_xor_si128(_mm_xor_si128(a.v, b.v), c.v)}; }
SPARSEOPS_INLINE Words exclusive_or(Words a, Words b) { return {_mm_xor_si128(a.v, b.v)}; }
SPARSEOPS_INLINE std::uint64_t below(Words even, Words odd, Words t) {
    const __m128i both = _mm_blend_epi16(even.v, _mm_slli_epi64(odd.v, 32), 0xcc);
    const __m128i not_below = _mm_cmpeq_epi32(_mm_max_epu32(both, t.v), both);
    return static_cast<std::uint64_t>(~_mm_movemask_ps(_mm_castsi128_ps(not_below))) & 0xf;
}
#else  // GCC and Clang turn these into vmull and friends where there are any
typedef std::uint64_t u64x2 __attribute__((vector_size(16)));
struct Words {
    u64x2 v;
};
constexpr int word_lanes = 2;
SPARSEOPS_INLINE Words words(std::uint64_t x) { return {u64x2{x, x}}; }
SPARSEOPS_INLINE Words count_up(std::uint64_t x) { return {u64x2{x, x + 1}}; }
SPARSEOPS_INLINE Words add(Words a, Words b) { return {a.v + b.v}; }
#if defined(__ARM_NEON)
SPARSEOPS_INLINE Words multiply_low(Words a, Words b) { return {(u64x2)vmull_u32(vmovn_u64((uint64x2_t)a.v), vmovn_u64((uint64x2_t)b.v))}; }
#else
SPARSEOPS_INLINE Words multiply_low(Words a, Words b) { return {(a.v & 0xffffffffu) * (b.v & 0xffffffffu)}; }
#endif
SPARSEOPS_INLINE Words high_half(Words a) { return {a.v >> 32}; }
SPARSEOPS_INLINE Words exclusive_or(Words a, Words b, Words c) { return {a.v ^ b.v ^ c.v}; }
SPARSEOPS_INLINE Words exclusive_or(Words a, Words b) { return {a.v ^ b.v}; }
SPARSEOPS_INLINE std::uint64_t below(Words even, Words odd, Words t) {
    std::uint64_t bits = 0;
    for (int l = 0; l < 2; ++l) {
        const auto limit = static_cast<std::uint32_t>(t.v[l]);
        bits |= static_cast<std::uint64_t>(static_cast<std::uint32_t>(even.v[l]) < limit) << (2 * l);
        bits |= static_cast<std::uint64_t>(static_cast<std::uint32_t>(odd.v[l]) < limit) << (2 * l + 1);
    }
    return bits;
}
#endif

}  // namespace
