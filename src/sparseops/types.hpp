// SPDX-License-Identifier: BSD-3-Clause
// Views that every operator takes: they own nothing and copy nothing.
#pragma once

#if (defined(_MSVC_LANG) ? _MSVC_LANG : __cplusplus) <= 201703L
// A file that is missing ends the compilation, and with it all that an older standard would find in the headers that follow.
#define SPARSEOPS_LANGUAGE "sparseops needs C++20: compile with -std=c++20 or a later standard"
#include SPARSEOPS_LANGUAGE
#endif

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace sparseops {

template <class T>
concept Real = std::same_as<std::remove_const_t<T>, float> || std::same_as<std::remove_const_t<T>, double>;

template <class I>
concept Index = std::same_as<std::remove_const_t<I>, std::int32_t> || std::same_as<std::remove_const_t<I>, std::int64_t>;

// 16-bit floats as they lie in memory; arithmetic on them is done in float32.
struct float16 {
    std::uint16_t bits;
};
struct bfloat16 {
    std::uint16_t bits;
};

// Σ|x|, the root of Σx², or max|x|.
enum class Norm { l1, l2, max };

// A row-major matrix, rows · cols elements without gaps.
template <class T>
struct MatrixView {
    T* data = nullptr;
    std::size_t rows = 0;
    std::size_t cols = 0;

    T* row(std::size_t i) const noexcept { return data + i * cols; }
    std::size_t size() const noexcept { return rows * cols; }
    operator MatrixView<const T>() const noexcept requires(!std::is_const_v<T>) { return {data, rows, cols}; }
};

// A compressed sparse row matrix: row i holds indices[indptr[i] .. indptr[i+1]) and the data of the same places.
// A CSC matrix is the CSR view of its transpose.
template <class T, Index I>
struct CsrView {
    std::span<const I> indptr = {};   // rows + 1, non-decreasing from 0
    std::span<const I> indices = {};  // in [0, cols)
    std::span<T> data = {};
    std::size_t cols = 0;

    std::size_t rows() const noexcept { return indptr.empty() ? 0 : indptr.size() - 1; }
};

// A compressed sparse row matrix, owned.
template <class T, Index I>
struct CsrMatrix {
    std::vector<I> indptr = {}, indices = {};
    std::vector<T> data = {};
    std::size_t cols = 0;

    CsrView<const T, I> view() const noexcept { return {indptr, indices, data, cols}; }
};

// The classes of N examples: one each, label[i], if ptr is empty; otherwise label[ptr[i] .. ptr[i+1]), none twice.
struct LabelsView {
    std::span<const std::int64_t> ptr = {}, label = {};

    bool single() const noexcept { return ptr.empty(); }
    std::size_t rows() const noexcept { return single() ? label.size() : ptr.size() - 1; }
    std::span<const std::int64_t> of(std::size_t i) const noexcept {
        if (single()) return label.subspan(i, 1);
        return label.subspan(static_cast<std::size_t>(ptr[i]), static_cast<std::size_t>(ptr[i + 1] - ptr[i]));
    }
};

// Strings one after the other: string i is utf8[offsets[i] .. offsets[i+1]).
struct StringsView {
    std::span<const std::uint8_t> utf8;
    std::span<const std::int64_t> offsets;

    std::size_t size() const noexcept { return offsets.empty() ? 0 : offsets.size() - 1; }
    std::string_view operator[](std::size_t i) const noexcept {
        const auto from = static_cast<std::size_t>(offsets[i]);
        return {reinterpret_cast<const char*>(utf8.data()) + from, static_cast<std::size_t>(offsets[i + 1]) - from};
    }
};

// The arrays that define a class tree (hierarchy.hpp says what they mean), owned: what the builders return.
struct Hierarchy {
    std::vector<std::int64_t> path_ptr = {};
    std::vector<std::int32_t> path_node = {}, path_child = {};
    std::vector<std::int64_t> child_ptr = {};
    std::vector<std::int32_t> child = {};
    std::vector<std::int64_t> row_ptr = {};
    bool independent = false;
};

}  // namespace sparseops
