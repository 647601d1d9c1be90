// SPDX-License-Identifier: BSD-3-Clause
// Rows that were made in parts, as one matrix.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "../text.hpp"

namespace sparseops::detail {

// Sorts numbers in [0, limit): by bytes, from the lowest, where there are enough for that to be faster.
inline void sort_ids(std::vector<std::int32_t>& ids, std::vector<std::int32_t>& other, std::size_t limit) {
    constexpr std::size_t few = 40;
    if (ids.size() < few) {
        std::sort(ids.begin(), ids.end());
        return;
    }
    other.resize(ids.size());
    for (unsigned shift = 0; shift < 32 && (limit - 1) >> shift; shift += 8) {
        std::array<std::uint32_t, 257> start{};
        for (const std::int32_t id : ids) ++start[((static_cast<std::uint32_t>(id) >> shift) & 255) + 1];
        for (std::size_t i = 1; i < 256; ++i) start[i] += start[i - 1];
        for (const std::int32_t id : ids) other[start[(static_cast<std::uint32_t>(id) >> shift) & 255]++] = id;
        ids.swap(other);
    }
}

// Some rows, one after the other.
struct Part {
    std::vector<std::int32_t> indices = {}, labels = {};
    std::vector<float> data = {};
    std::vector<std::int64_t> lengths = {}, n_labels = {};

    // A row that has a column as often as `ids` has; `ids` and `other` are used up.
    void add(std::vector<std::int32_t>& ids, std::vector<std::int32_t>& other, std::size_t cols) {
        sort_ids(ids, other, cols);
        const std::size_t before = indices.size();
        for (std::size_t from = 0, to = 0; from < ids.size(); from = to) {
            while (to < ids.size() && ids[to] == ids[from]) ++to;
            indices.push_back(ids[from]);
            data.push_back(static_cast<float>(to - from));
        }
        lengths.push_back(static_cast<std::int64_t>(indices.size() - before));
    }

    void add_labels(const std::vector<std::int32_t>& numbers) {
        labels.insert(labels.end(), numbers.begin(), numbers.end());
        n_labels.push_back(static_cast<std::int64_t>(numbers.size()));
    }
};

// The values of all parts in one list; each part is given back as soon as it is copied.
template <class P, class T>
std::vector<T> joined(std::vector<P>& parts, std::vector<T> P::* values) {
    std::size_t size = 0;
    for (const P& part : parts) size += (part.*values).size();
    std::vector<T> all;
    all.reserve(size);
    for (P& part : parts) {
        all.insert(all.end(), (part.*values).begin(), (part.*values).end());
        std::vector<T>().swap(part.*values);
    }
    return all;
}

template <class P>
std::vector<std::int64_t> ends(std::vector<P>& parts, std::vector<std::int64_t> P::* lengths) {
    std::vector<std::int64_t> all = joined(parts, lengths);
    all.insert(all.begin(), 0);
    std::partial_sum(all.begin(), all.end(), all.begin());
    return all;
}

inline TextRows rows_of(std::vector<Part>& parts, std::size_t cols) {
    TextRows rows;
    rows.indptr = ends(parts, &Part::lengths);
    rows.indices = joined(parts, &Part::indices);
    rows.data = joined(parts, &Part::data);
    rows.cols = cols;
    return rows;
}

}  // namespace sparseops::detail
