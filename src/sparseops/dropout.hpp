// SPDX-License-Identifier: BSD-3-Clause
// Sparse dropout with replacement: entries or segments give way to a replacement, by Philox numbers of their own.
#pragma once

#include <cstdint>
#include <span>

#include "types.hpp"

namespace sparseops {

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

// Cells of a replacement: entry i takes value (i / repeat) % values.size().
template <class T>
struct Replacement {
    std::span<const T> values = {};
    std::size_t repeat = 1;
};

// y[i] = the replacement where draw i drops, x[i] elsewhere; y may be x. T: float, double, std::int32_t or std::int64_t.
// packed (empty or (n + 7) / 8) gets the mask, the first entry in the lowest bit; bools (empty or n) a byte each. O(n).
// Throws std::invalid_argument for a rate outside [0, 1], draws from 2⁶⁴ on, sizes that do not fit, and with check_finite for a
// float that is not finite: in place before anything is written, else with y unspecified.
template <class T>
void dropout(std::span<const T> x, const Drops& drops, Replacement<T> replacement, std::span<T> y, std::span<std::uint8_t> packed = {},
             std::span<std::uint8_t> bools = {}, bool check_finite = true, int num_threads = 0);

// dx[i] = 0 where the packed mask has a 1, grad[i] elsewhere; d_replacement (zeroed here) gets the sums of grad where it has,
// by cell (i / repeat) % size, in double: in fixed blocks of entries, added in block order. dx may be grad.
template <Real T>
void dropout_gradient(std::span<const T> grad, std::span<const std::uint8_t> mask, std::span<T> dx, std::size_t repeat,
                      std::span<T> d_replacement, int num_threads = 0);

// The mean or the median of the entries of each segment x[offsets[s] .. offsets[s + 1]) that are not zero; 0 if there is none.
// The mean is summed in double in fixed blocks; the median of an even number is the mean of the middle two.
enum class Center { mean, median };
template <Real T>
void nonzero_centers(std::span<const T> x, std::span<const std::int64_t> offsets, Center center, std::span<T> out, int num_threads = 0);

// Segment form. First the new lengths: 1 where the segment's draw drops (empty segments too), else lengths[s]. Returns their
// sum. Throws if a length is negative, if they do not add up to `ids`, and for a rate and draws as above.
std::size_t dropout_lengths(std::span<const std::int64_t> lengths, std::size_t ids, const Drops& drops,
                            std::span<std::int64_t> new_lengths);
// Then the new ids, as many as that sum. Throws for the same lengths, and if new_ids has no room for them, before it writes.
template <Index I>
void dropout_ids(std::span<const I> ids, std::span<const std::int64_t> lengths, const Drops& drops, I replacement, std::span<I> new_ids);

}  // namespace sparseops
