// SPDX-License-Identifier: BSD-3-Clause
#include "../model_file.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>

#include "../detail/require.hpp"
#include "crc32.hpp"
#include "json.hpp"
#include "mapped.hpp"

namespace sparseops {
namespace {

using detail::JsonReader;
using detail::refuse;
using detail::require;

constexpr std::string_view magic = "SPARSEOP";
constexpr std::uint32_t format_version = 1;
constexpr std::size_t preamble = 24, most_dimensions = 64;

struct DType {
    std::string_view code, name;
    std::size_t bytes;
};
constexpr DType dtypes[] = {{"|u1", "uint8", 1}, {"|i1", "int8", 1},    {"<i2", "int16", 2},   {"<u2", "uint16", 2}, {"<i4", "int32", 4},
                            {"<i8", "int64", 8}, {"<f2", "float16", 2}, {"<f4", "float32", 4}, {"<f8", "float64", 8}};

template <class T>
constexpr std::string_view name_of() {
    constexpr bool is_float = std::is_floating_point_v<T> || std::is_same_v<T, float16>;
    if constexpr (std::is_same_v<T, std::uint8_t>) return "uint8";
    if constexpr (sizeof(T) == 1) return "int8";
    if constexpr (std::is_same_v<T, std::uint16_t>) return "uint16";
    if constexpr (sizeof(T) == 2) return is_float ? "float16" : "int16";
    if constexpr (sizeof(T) == 4) return is_float ? "float32" : "int32";
    return is_float ? "float64" : "int64";
}

const DType* find_dtype(std::string_view code) {
    const auto* found = std::find_if(std::begin(dtypes), std::end(dtypes), [&](const DType& d) { return d.code == code; });
    return found == std::end(dtypes) ? nullptr : found;
}

std::uint64_t aligned(std::uint64_t n) { return (n + 63) / 64 * 64; }

template <class T>
T little(std::span<const std::byte> bytes, std::size_t at) {
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | static_cast<T>(bytes[at + i]) << 8 * i);
    return value;
}

// An array as the header describes it. Sizes are -1 where they are no whole numbers.
struct Entry {
    std::string name;
    std::optional<std::string> dtype;
    std::optional<std::vector<std::int64_t>> shape;
    std::optional<std::int64_t> offset, nbytes, crc32;

    bool whole() const { return dtype && shape && offset && nbytes && crc32; }
};

Entry read_entry(JsonReader& json, const std::string& name) {
    Entry entry;
    entry.name = name;
    json.object([&](const std::string& key) {
        if (key == "dtype") {
            entry.dtype = json.string();
        } else if (key == "shape") {
            entry.shape.emplace();
            json.list([&] { entry.shape->push_back(json.size()); });
        } else if (key == "offset") {
            entry.offset = json.size();
        } else if (key == "nbytes") {
            entry.nbytes = json.size();
        } else if (key == "crc32") {
            entry.crc32 = json.size();
        } else {
            json.skip();
        }
    });
    require(entry.whole(), "array ", name, " lacks dtype, shape, offset, nbytes or crc32");
    return entry;
}

struct Header {
    std::vector<Entry> entries;
    std::string metadata;
};

Header read_header(std::string_view text) {
    JsonReader json(text);
    std::optional<std::vector<Entry>> entries;
    std::optional<std::string> metadata;
    json.object([&](const std::string& key) {
        if (key == "arrays") {
            entries.emplace();
            json.object([&](const std::string& name) { entries->push_back(read_entry(json, name)); });
        } else if (key == "metadata") {
            metadata = json.skip();
        } else {
            json.skip();
        }
    });
    json.end();
    require(entries && metadata, "it lacks arrays or metadata");
    std::stable_sort(entries->begin(), entries->end(),
                     [](const Entry& a, const Entry& b) { return std::pair(*a.offset, *a.nbytes) < std::pair(*b.offset, *b.nbytes); });
    return {std::move(*entries), std::move(*metadata)};
}

// Why the header's entry cannot be, or nothing.
std::string entry_error(const Entry& e, std::uint64_t expected_offset) {
    const DType* dtype = find_dtype(*e.dtype);
    if (dtype == nullptr) return "array " + e.name + " has dtype " + *e.dtype;
    if (*e.offset < 0 || *e.nbytes < 0 || std::any_of(e.shape->begin(), e.shape->end(), [](std::int64_t n) { return n < 0; }))
        return "array " + e.name + " has a negative size";
    std::int64_t span = static_cast<std::int64_t>(dtype->bytes), nbytes = span;  // span: without the dimensions of size 0
    bool fits = e.shape->size() <= most_dimensions;
    for (const std::int64_t n : *e.shape) {
        fits = fits && (n == 0 || span <= std::numeric_limits<std::int64_t>::max() / n);
        if (!fits) break;
        span *= std::max<std::int64_t>(n, 1);
        nbytes = n == 0 ? 0 : nbytes * n;
    }
    fits = fits && nbytes == *e.nbytes && static_cast<std::uint64_t>(*e.offset) == expected_offset;
    return fits ? "" : "array " + e.name + " does not fit";
}

}  // namespace

ArrayFile ArrayFile::load(const std::filesystem::path& path) {
    auto mapped = detail::map_file(path);
    ArrayFile file;
    file.name_ = path.string();
    file.owner_ = std::move(mapped.owner);
    file.read(mapped.bytes);
    return file;
}

ArrayFile ArrayFile::load(std::span<const std::byte> bytes, std::string name) {
    detail::require_data("bytes", bytes);
    require(reinterpret_cast<std::uintptr_t>(bytes.data()) % 8 == 0, "bytes must start at a multiple of 8, got another place");
    ArrayFile file;
    file.name_ = std::move(name);
    file.read(bytes);
    return file;
}

void ArrayFile::read(std::span<const std::byte> bytes) {
    require(std::endian::native == std::endian::little, "the machine must be little-endian, as arrays are used where they lie");
    const auto damaged = [&](const auto&... why) { refuse("path must be an undamaged cython_sparseops file, got ", name_, ": ", why...); };
    if (bytes.size() < preamble) damaged("it is too short");
    if (std::memcmp(bytes.data(), magic.data(), magic.size()) != 0) damaged("it is not of this format");
    const auto version = little<std::uint32_t>(bytes, 8);
    if (version != format_version) damaged("its version is ", version, ", this library reads ", format_version);
    const auto length = little<std::uint64_t>(bytes, 16);
    if (length > bytes.size() - preamble) damaged("it is too short");
    const auto text = bytes.subspan(preamble, static_cast<std::size_t>(length));
    if (detail::crc32(text) != little<std::uint32_t>(bytes, 12)) damaged("its header does not match the checksum");
    Header header;
    try {
        header = read_header({reinterpret_cast<const char*>(text.data()), text.size()});
    } catch (const std::invalid_argument& error) {
        damaged("its header is malformed (", error.what(), ")");
    }

    const std::uint64_t size = bytes.size(), start = aligned(preamble + length);
    const auto zero = [&](std::uint64_t from, std::uint64_t to) {
        if (to > size) return false;
        const auto gap = bytes.subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(to - from));
        return std::all_of(gap.begin(), gap.end(), [](std::byte b) { return b == std::byte{0}; });
    };
    bool right = zero(preamble + length, start);
    std::uint64_t end = start;
    for (const Entry& e : header.entries) {
        if (const std::string why = entry_error(e, end - start); !why.empty()) damaged(why);
        const auto nbytes = static_cast<std::uint64_t>(*e.nbytes);
        right = right && nbytes <= size - end && zero(end + nbytes, aligned(end + nbytes));
        if (!right) break;
        end = aligned(end + nbytes);
    }
    if (!right || end != size) damaged("its size is wrong");
    for (const Entry& e : header.entries) {
        StoredArray array{find_dtype(*e.dtype)->name, {e.shape->begin(), e.shape->end()}, {}};
        array.bytes =
            bytes.subspan(static_cast<std::size_t>(start) + static_cast<std::size_t>(*e.offset), static_cast<std::size_t>(*e.nbytes));
        if (detail::crc32(array.bytes) != *e.crc32) damaged("array ", e.name, " does not match its checksum");
        arrays_.emplace(e.name, std::move(array));
    }
    metadata_ = std::move(header.metadata);
}

const StoredArray& ArrayFile::array(std::string_view name) const {
    if (const auto found = arrays_.find(name); found != arrays_.end()) return found->second;
    std::string names;
    for (const auto& [other, array] : arrays_) names += (names.empty() ? "" : ", ") + other;
    refuse("arrays must hold ", name, ", got ", names.empty() ? "none" : names);
}

template <class T>
const StoredArray& ArrayFile::array_of(std::string_view name, std::size_t dimensions) const {
    const StoredArray& array = this->array(name);
    require(array.dtype == name_of<T>() && array.shape.size() == dimensions, name, " must be a ", dimensions == 1 ? "vector" : "matrix",
            " of ", name_of<T>(), ", got ", array.dtype, " of ", array.shape.size(), " dimensions");
    return array;
}

template <class T>
std::span<const T> ArrayFile::vector(std::string_view name) const {
    const StoredArray& array = array_of<T>(name, 1);
    return {reinterpret_cast<const T*>(array.bytes.data()), array.shape[0]};
}

template <class T>
MatrixView<const T> ArrayFile::matrix(std::string_view name) const {
    const StoredArray& array = array_of<T>(name, 2);
    return {reinterpret_cast<const T*>(array.bytes.data()), array.shape[0], array.shape[1]};
}

StringsView ArrayFile::strings(std::string_view prefix) const {
    const StringsView strings{vector<std::uint8_t>(std::string(prefix) + ".utf8"), vector<std::int64_t>(std::string(prefix) + ".offsets")};
    const auto& offsets = strings.offsets;
    require(!offsets.empty() && offsets.front() == 0 && offsets.back() == static_cast<std::int64_t>(strings.utf8.size()) &&
                std::is_sorted(offsets.begin(), offsets.end()),
            "offsets must be non-decreasing from 0 to ", strings.utf8.size(), ", got ", offsets.empty() ? -1 : offsets.front(), " to ",
            offsets.empty() ? -1 : offsets.back());
    for (std::size_t i = 0; i < strings.size(); ++i)
        require(detail::is_utf8(strings[i]), "utf8 must hold UTF-8 text, got other bytes in string ", i);
    return strings;
}

template std::span<const std::uint8_t> ArrayFile::vector(std::string_view) const;
template std::span<const std::int8_t> ArrayFile::vector(std::string_view) const;
template std::span<const std::int16_t> ArrayFile::vector(std::string_view) const;
template std::span<const std::uint16_t> ArrayFile::vector(std::string_view) const;
template std::span<const std::int32_t> ArrayFile::vector(std::string_view) const;
template std::span<const std::int64_t> ArrayFile::vector(std::string_view) const;
template std::span<const float16> ArrayFile::vector(std::string_view) const;
template std::span<const float> ArrayFile::vector(std::string_view) const;
template std::span<const double> ArrayFile::vector(std::string_view) const;
template MatrixView<const std::uint8_t> ArrayFile::matrix(std::string_view) const;
template MatrixView<const std::int8_t> ArrayFile::matrix(std::string_view) const;
template MatrixView<const std::int16_t> ArrayFile::matrix(std::string_view) const;
template MatrixView<const std::uint16_t> ArrayFile::matrix(std::string_view) const;
template MatrixView<const std::int32_t> ArrayFile::matrix(std::string_view) const;
template MatrixView<const std::int64_t> ArrayFile::matrix(std::string_view) const;
template MatrixView<const float16> ArrayFile::matrix(std::string_view) const;
template MatrixView<const float> ArrayFile::matrix(std::string_view) const;
template MatrixView<const double> ArrayFile::matrix(std::string_view) const;

}  // namespace sparseops
