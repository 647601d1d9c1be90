// SPDX-License-Identifier: BSD-3-Clause
// Writes files of arrays as storage.py does, right and wrong.
#pragma once

#include <cstring>
#include <map>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include <sparseops/types.hpp>

#include "../../src/sparseops/model_file/crc32.hpp"

namespace sparseops_test {

template <class... Parts>
std::string text_of(const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    return text.str();
}

// Bytes at a multiple of 8, as ArrayFile::load wants them.
struct Bytes {
    std::vector<std::uint64_t> words;
    std::size_t size = 0;

    explicit Bytes(const std::string& text) : words((text.size() + 7) / 8), size(text.size()) {
        if (size > 0) std::memcpy(words.data(), text.data(), size);
    }
    std::span<const std::byte> view() const { return std::as_bytes(std::span(words)).first(size); }
};

struct Part {
    std::string dtype, shape, bytes;
};
using Parts = std::map<std::string, Part>;

template <class T>
Part part(const char* dtype, const std::string& shape, const std::vector<T>& values) {
    return {dtype, shape, std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T))};
}
template <class T>
Part part(const char* dtype, const std::vector<T>& values) {
    return part(dtype, text_of("[", values.size(), "]"), values);
}

inline void pad(std::string& text) { text.resize((text.size() + 63) / 64 * 64); }

inline std::uint32_t crc_of(const std::string& text) { return sparseops::detail::crc32(std::as_bytes(std::span(text))); }

template <class T>
std::string raw(T value) {
    return {reinterpret_cast<const char*>(&value), sizeof(T)};
}

inline std::string with_header(const std::string& header, const std::string& arrays, std::uint32_t version = 1) {
    std::string file = "SPARSEOP" + raw(version) + raw(crc_of(header)) + raw(std::uint64_t{header.size()}) + header;
    pad(file);
    return file + arrays;
}

inline std::string write(const Parts& parts, const std::string& metadata) {
    std::string header, arrays;
    for (const auto& [name, p] : parts) {
        header += text_of(header.empty() ? "" : ", ", '"', name, R"(": {"dtype": ")", p.dtype, R"(", "shape": )", p.shape,
                          R"(, "offset": )", arrays.size(), R"(, "nbytes": )", p.bytes.size(), R"(, "crc32": )", crc_of(p.bytes), "}");
        arrays += p.bytes;
        pad(arrays);
    }
    return with_header(text_of(R"({"arrays": {)", header, R"(}, "metadata": )", metadata, "}"), arrays);
}

inline void add_tree(Parts& parts, const sparseops::Hierarchy& h, const std::string& prefix = "") {
    parts[prefix + "path_ptr"] = part("<i8", h.path_ptr);
    parts[prefix + "path_node"] = part("<i4", h.path_node);
    parts[prefix + "path_child"] = part("<i4", h.path_child);
    parts[prefix + "child_ptr"] = part("<i8", h.child_ptr);
    parts[prefix + "child"] = part("<i4", h.child);
    parts[prefix + "row_ptr"] = part("<i8", h.row_ptr);
}

inline const std::string damaged = "path must be an undamaged cython_sparseops file, got memory: ";

}  // namespace sparseops_test
