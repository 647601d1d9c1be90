// SPDX-License-Identifier: BSD-3-Clause
// Vectors of integers of 2, 4 or 8 bytes, and selects by bits, where an instruction set has them.
//
// Included by stream_isa.cpp alone, after simd.hpp, under the same rules.
#pragma once

#include "simd.hpp"

namespace {

// One vector of items: those with a set bit from r, the others from x; *bad collects the items that are not finite.
#if defined(__AVX512BW__)
typedef __m512i Items;
SPARSEOPS_INLINE Items items(std::uint16_t u) { return _mm512_set1_epi16(static_cast<short>(u)); }
SPARSEOPS_INLINE Items items(std::uint32_t u) { return _mm512_set1_epi32(static_cast<int>(u)); }
SPARSEOPS_INLINE Items items(std::uint64_t u) { return _mm512_set1_epi64(static_cast<long long>(u)); }
SPARSEOPS_INLINE Items select_items(std::uint64_t bits, Items x, Items r, std::uint16_t) {
    return _mm512_mask_blend_epi16(static_cast<__mmask32>(bits), x, r);
}
SPARSEOPS_INLINE Items select_items(std::uint64_t bits, Items x, Items r, std::uint32_t) {
    return _mm512_mask_blend_epi32(static_cast<__mmask16>(bits), x, r);
}
SPARSEOPS_INLINE Items select_items(std::uint64_t bits, Items x, Items r, std::uint64_t) {
    return _mm512_mask_blend_epi64(static_cast<__mmask8>(bits), x, r);
}
SPARSEOPS_INLINE std::uint64_t equal_items(Items a, Items b, std::uint16_t) { return _mm512_cmpeq_epi16_mask(a, b); }
SPARSEOPS_INLINE std::uint64_t equal_items(Items a, Items b, std::uint32_t) { return _mm512_cmpeq_epi32_mask(a, b); }
SPARSEOPS_INLINE std::uint64_t equal_items(Items a, Items b, std::uint64_t) { return _mm512_cmpeq_epi64_mask(a, b); }
SPARSEOPS_INLINE Items and_items(Items a, Items b) { return _mm512_and_si512(a, b); }
SPARSEOPS_INLINE Items load_items(const void* p) { return _mm512_loadu_si512(p); }
SPARSEOPS_INLINE void store_items(void* p, Items v) { _mm512_storeu_si512(p, v); }
#elif defined(__AVX2__)
typedef __m256i Items;
SPARSEOPS_INLINE Items items(std::uint16_t u) { return _mm256_set1_epi16(static_cast<short>(u)); }
SPARSEOPS_INLINE Items items(std::uint32_t u) { return _mm256_set1_epi32(static_cast<int>(u)); }
SPARSEOPS_INLINE Items items(std::uint64_t u) { return _mm256_set1_epi64x(static_cast<long long>(u)); }
SPARSEOPS_INLINE Items and_items(Items a, Items b) { return _mm256_and_si256(a, b); }
SPARSEOPS_INLINE Items equal_vector(Items a, Items b, std::uint16_t) { return _mm256_cmpeq_epi16(a, b); }
SPARSEOPS_INLINE Items equal_vector(Items a, Items b, std::uint32_t) { return _mm256_cmpeq_epi32(a, b); }
SPARSEOPS_INLINE Items equal_vector(Items a, Items b, std::uint64_t) { return _mm256_cmpeq_epi64(a, b); }
SPARSEOPS_INLINE Items lane_bits(std::uint16_t) {
    return _mm256_set_epi16(-0x8000, 0x4000, 0x2000, 0x1000, 0x800, 0x400, 0x200, 0x100, 0x80, 0x40, 0x20, 0x10, 8, 4, 2, 1);
}
SPARSEOPS_INLINE Items lane_bits(std::uint32_t) { return _mm256_set_epi32(0x80, 0x40, 0x20, 0x10, 8, 4, 2, 1); }
SPARSEOPS_INLINE Items lane_bits(std::uint64_t) { return _mm256_set_epi64x(8, 4, 2, 1); }
template <class U>
SPARSEOPS_INLINE Items select_items(std::uint64_t bits, Items x, Items r, U u) {
    const Items lane = lane_bits(u);
    return _mm256_blendv_epi8(x, r, equal_vector(and_items(items(static_cast<U>(bits)), lane), lane, u));
}
template <class U>
SPARSEOPS_INLINE std::uint64_t equal_items(Items a, Items b, U u) {
    return static_cast<unsigned>(_mm256_movemask_epi8(equal_vector(a, b, u)));
}
SPARSEOPS_INLINE Items load_items(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
SPARSEOPS_INLINE void store_items(void* p, Items v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
#endif

}  // namespace
