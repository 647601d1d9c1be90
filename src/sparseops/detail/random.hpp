// SPDX-License-Identifier: BSD-3-Clause
// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a block of
// four random words is a function of (key, counter) alone, so a draw belongs to an index, never to a thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <span>
#include <utility>

namespace sparseops::detail {

using PhiloxBlock = std::array<std::uint32_t, 4>;

inline PhiloxBlock philox(std::uint64_t key, std::uint64_t counter_low, std::uint64_t counter_high) noexcept {
    std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
    PhiloxBlock c{static_cast<std::uint32_t>(counter_low), static_cast<std::uint32_t>(counter_low >> 32),
                  static_cast<std::uint32_t>(counter_high), static_cast<std::uint32_t>(counter_high >> 32)};
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t p = std::uint64_t{0xD2511F53u} * c[0], q = std::uint64_t{0xCD9E8D57u} * c[2];
        c = {static_cast<std::uint32_t>(q >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(q),
             static_cast<std::uint32_t>(p >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p)};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

// A double in [0, 1) from two words, 53 bits.
inline double unit_double(std::uint32_t high, std::uint32_t low) noexcept {
    return static_cast<double>(((std::uint64_t{high} << 32) | low) >> 11) * 0x1p-53;
}

// The high half of the counter names the use of a stream, so that no two uses of one seed share numbers.
enum class Stream : std::uint64_t {
    sample = 1,
    shuffle = 2,
    init = 3,
    dropout = 4,
    segments = 5,
    dropout_ids = 6,
    cluster = 7,
    linear = 8,
    held_out = 9,
    round_rows = 10,      // of W to 16 bits
    round_features = 11,  // of E
};

// Another number in each process, which nobody can foresee. For checks: no result may depend on it.
inline std::uint64_t secret_number() {
    static const std::uint64_t number = [] {
        std::random_device device;
        return std::uint64_t{device()} << 32 | device();
    }();
    return number;
}

// A permutation of 0 … n-1 that depends on (seed, epoch) alone (Fisher-Yates).
inline void shuffled_order(std::uint64_t seed, std::uint64_t epoch, std::span<std::int64_t> order) {
    std::iota(order.begin(), order.end(), std::int64_t{0});
    const std::uint64_t stream = (static_cast<std::uint64_t>(Stream::shuffle) << 56) | epoch;
    for (std::size_t i = order.size(); i > 1; --i) {
        const auto words = philox(seed, i, stream);
        const auto j = static_cast<std::size_t>(unit_double(words[0], words[1]) * static_cast<double>(i));
        std::swap(order[i - 1], order[j]);
    }
}

// One number after another, from a key and the high half of the counter: the stream, and what in it this is for.
class Draws {
public:
    Draws(std::uint64_t key, Stream stream, std::uint64_t use) noexcept
        : key_(key), use_((static_cast<std::uint64_t>(stream) << 56) | use) {}

    std::uint32_t bits() noexcept {
        if (next_ == block_.size()) {
            block_ = philox(key_, counter_++, use_);
            next_ = 0;
        }
        return block_[next_++];
    }
    // In [0, n). n must not be 0.
    std::size_t below(std::size_t n) noexcept {
        return static_cast<std::size_t>((std::uint64_t{bits()} * static_cast<std::uint64_t>(n)) >> 32);
    }

private:
    std::uint64_t key_, use_, counter_ = 0;
    PhiloxBlock block_{};
    std::size_t next_ = 4;
};

}  // namespace sparseops::detail
