// SPDX-License-Identifier: BSD-3-Clause
// CRC-32 as in zlib and PNG (ISO 3309), eight bytes per step (slicing by 8, Kounavis & Berry 2005).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace sparseops::detail {

inline constexpr auto crc32_tables = [] {
    std::array<std::array<std::uint32_t, 256>, 8> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t crc = i;
        for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
        table[0][i] = crc;
    }
    for (std::size_t step = 1; step < 8; ++step) {
        for (std::size_t i = 0; i < 256; ++i) table[step][i] = table[step - 1][i] >> 8 ^ table[0][table[step - 1][i] & 0xff];
    }
    return table;
}();

inline std::uint32_t crc32(std::span<const std::byte> bytes) noexcept {
    const auto& table = crc32_tables;
    const auto at = [&](std::size_t i) { return std::to_integer<std::uint32_t>(bytes[i]); };
    std::uint32_t crc = 0xffffffffu;
    std::size_t i = 0;
    for (; i + 8 <= bytes.size(); i += 8) {
        crc ^= at(i) | at(i + 1) << 8 | at(i + 2) << 16 | at(i + 3) << 24;
        crc = table[7][crc & 0xff] ^ table[6][crc >> 8 & 0xff] ^ table[5][crc >> 16 & 0xff] ^ table[4][crc >> 24] ^ table[3][at(i + 4)] ^
              table[2][at(i + 5)] ^ table[1][at(i + 6)] ^ table[0][at(i + 7)];
    }
    for (; i < bytes.size(); ++i) crc = crc >> 8 ^ table[0][(crc ^ at(i)) & 0xff];
    return ~crc;
}

}  // namespace sparseops::detail
