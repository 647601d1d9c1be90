// SPDX-License-Identifier: BSD-3-Clause
// Checks of what callers hand over: `<name> must <rule>, got <value>`, thrown before anything is written.
#pragma once

#include <cstddef>
#include <sstream>
#include <stdexcept>
#include <string>

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

}  // namespace sparseops::detail
