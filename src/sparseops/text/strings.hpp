// SPDX-License-Identifier: BSD-3-Clause
// Strings that differ, numbered as they came.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "../detail/require.hpp"

namespace sparseops::detail {

// Open addressing beside one array of all bytes. Whoever adds and finds brings the same hash for the same string.
class StringTable {
public:
    std::size_t size() const noexcept { return hashes_.size(); }
    std::string_view operator[](std::size_t i) const noexcept {
        return {bytes_.data() + starts_[i], static_cast<std::size_t>(starts_[i + 1] - starts_[i])};
    }
    std::uint32_t hash(std::size_t i) const noexcept { return hashes_[i]; }

    // The number of a string, or -1.
    std::int32_t find(std::string_view text, std::uint32_t hash) const noexcept {
        if (slots_.empty()) return -1;
        for (std::size_t at = hash & mask_; slots_[at].number >= 0; at = (at + 1) & mask_) {
            if (slots_[at].hash == hash && (*this)[static_cast<std::size_t>(slots_[at].number)] == text) return slots_[at].number;
        }
        return -1;
    }

    // The number of a string, and whether it is new.
    std::pair<std::int32_t, bool> add(std::string_view text, std::uint32_t hash) {
        if (const std::int32_t known = find(text, hash); known >= 0) return {known, false};
        require(size() < static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()),
                "texts must hold fewer than 2**31 tokens, got more");
        if ((size() + 1) * 2 > slots_.size()) grow(std::max<std::size_t>(64, slots_.size() * 2));
        const auto number = static_cast<std::int32_t>(size());
        bytes_.insert(bytes_.end(), text.begin(), text.end());
        starts_.push_back(static_cast<std::int64_t>(bytes_.size()));
        hashes_.push_back(hash);
        place({hash, number});
        return {number, true};
    }

    void reserve(std::size_t strings) {
        std::size_t capacity = 64;
        while (capacity < strings * 2) capacity *= 2;
        if (capacity > slots_.size()) grow(capacity);
    }

private:
    struct Slot {
        std::uint32_t hash = 0;
        std::int32_t number = -1;
    };

    void place(Slot slot) noexcept {
        std::size_t at = slot.hash & mask_;
        while (slots_[at].number >= 0) at = (at + 1) & mask_;
        slots_[at] = slot;
    }

    void grow(std::size_t capacity) {
        slots_.assign(capacity, Slot{});
        mask_ = capacity - 1;
        for (std::size_t i = 0; i < size(); ++i) place({hashes_[i], static_cast<std::int32_t>(i)});
    }

    std::vector<char> bytes_ = {};
    std::vector<std::int64_t> starts_ = {0};
    std::vector<std::uint32_t> hashes_ = {};
    std::vector<Slot> slots_ = {};
    std::size_t mask_ = 0;
};

}  // namespace sparseops::detail
