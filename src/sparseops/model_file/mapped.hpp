// SPDX-License-Identifier: BSD-3-Clause
// A whole file as bytes that are read as they are touched.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

namespace sparseops::detail {

struct MappedFile {
    std::span<const std::byte> bytes;   // starts on a page, where files can be mapped, and at a multiple of 16 anywhere
    std::shared_ptr<const void> owner;  // the bytes live as long as it does
};

// Throws std::system_error if the file cannot be read. Where files cannot be mapped (not POSIX) it is read at once.
MappedFile map_file(const std::filesystem::path& path);

}  // namespace sparseops::detail
