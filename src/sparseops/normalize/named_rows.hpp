// SPDX-License-Identifier: BSD-3-Clause
// Rows picked by number, and the step that keeps one of them short.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "../normalize.hpp"

namespace sparseops {

// The distinct values of rows, ascending, to the front of `out` (rows.size()); returns how many.
// Throws if one is outside [0, size).
std::size_t distinct_rows(std::span<const std::int64_t> rows, std::size_t size, std::span<std::int64_t> out);

// Scales w (n) down to l2 norm `norm` if it is longer. What normalize_indexed_rows does to a row; nothing is checked.
template <Real T>
void limit_row(T* w, std::size_t n, double norm);

}  // namespace sparseops
