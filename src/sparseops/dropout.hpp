// SPDX-License-Identifier: BSD-3-Clause
// Sparse dropout with replacement: entries or segments give way to a replacement, by Philox numbers of their own.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "types.hpp"

namespace sparseops {

// The four words of a block of Philox4x32-10.
std::array<std::uint32_t, 4> philox4x32_10(std::uint64_t key, std::uint64_t counter_low, std::uint64_t counter_high) noexcept;

// Which of the draws first, first + 1, … of a seed drop. Draw d is word d % 4 of the Philox block with key `seed` and
// counter (d / 4, purpose · 2⁵⁶ + part); it drops if the word is below rate · 2³², rounded to a whole number, which for a
// rate strictly between 0 and 1 is at least 1 and at most 2³² - 1. Rates 0 and 1 are exact.
enum class DropPurpose : std::uint64_t { entries = 4, segments = 5, ids = 6 };
struct Drops {
    std::uint64_t seed = 0, first = 0;
    double rate = 0;
    DropPurpose purpose = DropPurpose::entries;
    std::uint64_t part = 0;  // an epoch, say; below 2⁵⁶
};

// Bit i of the n bits (from the lowest, 64 a word; bits has (n + 63) / 64 words) says whether draw drops.first + i drops;
// bits beyond n are 0. O(n). Nothing is checked.
void draw_drops(const Drops& drops, std::size_t n, std::span<std::uint64_t> bits) noexcept;

// Cells of a replacement: entry i takes value (i / repeat) % values.size().
template <class U>
struct Replacement {
    std::span<const U> values;
    std::size_t repeat = 1;
};

// y[i] = the replacement where draw i drops, x[i] elsewhere. U: unsigned integers of the items' width; y may be x.
// packed (empty or (n + 7) / 8) gets the mask, the first entry in the lowest bit; bools (empty or n) a byte each.
// Throws std::invalid_argument for a rate outside [0, 1], draws from 2⁶⁴ on, sizes that do not fit, and if `exponent` is not 0, for an x that
// has all its bits (a float that is not finite): in place before anything is written, else with y unspecified.
template <class U>
void dropout(std::span<const U> x, const Drops& drops, Replacement<U> replacement, U exponent, std::span<U> y,
             std::span<std::uint8_t> packed, std::span<std::uint8_t> bools, int num_threads);

// dx[i] = 0 where the packed mask has a 1, grad[i] elsewhere; d_replacement (zeroed here) gets the sums of grad where it has,
// by cell (i / repeat) % size, in double: in fixed blocks of entries, added in block order. dx may be grad.
template <Real T>
void dropout_gradient(std::span<const T> grad, std::span<const std::uint8_t> packed, std::span<T> dx, std::size_t repeat,
                      std::span<T> d_replacement, int num_threads);

// The mean or the median of the entries of each segment x[offsets[s] .. offsets[s + 1]) that are not zero; 0 if there is none.
// The mean is summed in double in fixed blocks; the median of an even number is the mean of the middle two.
enum class Center { mean, median };
template <Real T>
void nonzero_centers(std::span<const T> x, std::span<const std::int64_t> offsets, Center center, std::span<T> out, int num_threads);

// Segment form. First the new lengths: 1 where the segment's draw drops (empty segments too), else lengths[s]. Returns their
// sum. Throws if a length is negative, if they do not add up to `ids`, and for a rate and draws as above.
std::size_t dropout_lengths(std::span<const std::int64_t> lengths, std::size_t ids, const Drops& drops,
                            std::span<std::int64_t> new_lengths);
// Then the new ids, as many as that sum. Throws for the same lengths, and if new_ids has no room for them, before it writes.
template <Index I>
void dropout_ids(std::span<const I> ids, std::span<const std::int64_t> lengths, const Drops& drops, I replacement, std::span<I> new_ids);

}  // namespace sparseops
