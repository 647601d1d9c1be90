// SPDX-License-Identifier: BSD-3-Clause
// Checks of what callers hand over: `<name> must <rule>, got <value>`, thrown before anything is written.
#pragma once

#include <cstddef>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>

#include "../types.hpp"

namespace sparseops::detail {

template <class... Parts>
[[noreturn, gnu::cold]] void refuse(const Parts&... parts) {
    std::ostringstream text;
    text.precision(9);
    (text << ... << parts);
    throw std::invalid_argument(text.str());
}

template <class... Parts>
inline void require(bool holds, const Parts&... parts) {
    if (!holds) [[unlikely]]
        refuse(parts...);
}

// `part` is what follows the name: the member of a view.
inline void require_data(const char* name, const void* data, std::size_t size, const char* part = "") {
    require(data || size == 0, name, part, " must point to ", size, " values, got a null pointer");
}

template <class T>
void require_data(const char* name, std::span<T> values, const char* part = "") {
    require_data(name, values.data(), values.size(), part);
}

template <class T>
void require_matrix(const char* name, const MatrixView<T>& m, std::size_t rows, std::size_t cols) {
    require(m.rows == rows && m.cols == cols, name, " must have shape (", rows, ", ", cols, "), got (", m.rows, ", ", m.cols, ")");
    require_data(name, m.data, m.size());
}

}  // namespace sparseops::detail
