// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <concepts>
#include <cstddef>

namespace sparseops::detail {

// A stored number, signed or narrow, as an index. It must not be negative.
constexpr std::size_t ix(std::integral auto i) noexcept { return static_cast<std::size_t>(i); }

}  // namespace sparseops::detail
