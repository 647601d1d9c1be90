// SPDX-License-Identifier: BSD-3-Clause
// Dropout as it is computed: masks of draws, and items as the bits that they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "../dropout.hpp"

namespace sparseops {

// Bit i of the n bits (from the lowest, 64 a word; bits has (n + 63) / 64 words) says whether draw drops.first + i drops;
// bits beyond n are 0. O(n). Nothing is checked.
void draw_drops(const Drops& drops, std::size_t n, std::span<std::uint64_t> bits) noexcept;

// y[i] = the replacement where draw i drops, x[i] elsewhere. U: unsigned integers of the items' width; y may be x.
// packed (empty or (n + 7) / 8) gets the mask, the first entry in the lowest bit; bools (empty or n) a byte each.
// Throws std::invalid_argument for a rate outside [0, 1], draws from 2⁶⁴ on, sizes that do not fit, and if `exponent` is not 0, for an x that
// has all its bits (a float that is not finite): in place before anything is written, else with y unspecified.
template <class U>
void dropout_bits(std::span<const U> x, const Drops& drops, Replacement<U> replacement, U exponent, std::span<U> y,
                  std::span<std::uint8_t> packed, std::span<std::uint8_t> bools, int num_threads);

}  // namespace sparseops
