// SPDX-License-Identifier: BSD-3-Clause
// A symbol that this module exports: by it threadpoolctl tells the module from another of its name.
#pragma once

#include <sparseops/runtime.hpp>

extern "C" __attribute__((visibility("default"), used)) inline int sparseops_get_num_threads() noexcept {
    return sparseops::get_num_threads();
}
