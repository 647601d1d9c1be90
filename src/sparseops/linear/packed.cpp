// SPDX-License-Identifier: BSD-3-Clause
#include "packed.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "../detail/index.hpp"
#include "../detail/require.hpp"

namespace sparseops::detail {
namespace {

template <class T>
void put(const T& value, std::vector<std::uint8_t>& to) {
    const std::size_t at = to.size();
    to.resize(at + sizeof(T));
    std::memcpy(to.data() + at, &value, sizeof(T));
}

template <class T>
void put(const std::vector<T>& values, std::vector<std::uint8_t>& to) {
    put(values.size(), to);
    const std::size_t at = to.size();
    to.resize(at + values.size() * sizeof(T));
    if (!values.empty()) std::memcpy(to.data() + at, values.data(), values.size() * sizeof(T));
}

void require_fits(bool fits) { require(fits, "trained must come from a trainer of the same input, got other bytes"); }

template <class T>
void get(std::span<const std::uint8_t>& from, T& value) {
    require_fits(from.size() >= sizeof(T));
    std::memcpy(&value, from.data(), sizeof(T));
    from = from.subspan(sizeof(T));
}

template <class T>
void get(std::span<const std::uint8_t>& from, std::vector<T>& values) {
    std::size_t n = 0;
    get(from, n);
    require_fits(n <= from.size() / sizeof(T));
    values.resize(n);
    if (n > 0) std::memcpy(values.data(), from.data(), n * sizeof(T));
    from = from.subspan(n * sizeof(T));
}

void require_rows(const NodeRows& rows, std::size_t count, std::size_t features) {
    require_fits(rows.bias.size() == count && rows.size.size() == rows.feature.size() && rows.slot.size() == rows.weight.size());
    std::int64_t entries = 0;
    for (std::size_t i = 0; i < rows.feature.size(); ++i) {
        require_fits(rows.feature[i] >= 0 && ix(rows.feature[i]) < features && (i == 0 || rows.feature[i - 1] < rows.feature[i]));
        require_fits(rows.size[i] >= 0);
        entries += rows.size[i];
    }
    require_fits(ix(entries) == rows.slot.size());
    require_fits(std::all_of(rows.slot.begin(), rows.slot.end(), [&](std::uint16_t slot) { return slot < count; }));
}

void require_held_out(const HeldOut& held, std::size_t count) {
    const std::size_t n = held.examples();
    require_fits(n == 0 || held.rows == count);
    require_fits(held.scores.size() == n * held.rows && (held.cosines.empty() || held.cosines.size() == n * held.rows));
    if (n == 0) return;
    require_fits(held.positive_ptr.size() == n + 1 && held.positive_ptr.front() == 0 && held.positive_ptr.back() == held.positive.size());
    require_fits(std::is_sorted(held.positive_ptr.begin(), held.positive_ptr.end()));
    require_fits(std::all_of(held.positive.begin(), held.positive.end(), [&](std::uint16_t slot) { return slot < count; }));
}

}  // namespace

void pack(const TrainedNode& trained, std::vector<std::uint8_t>& to) {
    const auto& [node, rows, held] = trained;
    put(node, to);
    put(rows.feature, to);
    put(rows.size, to);
    put(rows.slot, to);
    put(rows.weight, to);
    put(rows.bias, to);
    put(held.rows, to);
    put(static_cast<std::uint8_t>(held.apart), to);
    put(held.scores, to);
    put(held.cosines, to);
    put(held.cost, to);
    put(held.positive_ptr, to);
    put(held.positive, to);
}

TrainedNode unpack(std::span<const std::uint8_t>& from, const HierarchyView& h, std::size_t features) {
    TrainedNode trained;
    auto& [node, rows, held] = trained;
    std::uint8_t apart = 0;
    get(from, node);
    require_fits(node < h.nodes());
    get(from, rows.feature);
    get(from, rows.size);
    get(from, rows.slot);
    get(from, rows.weight);
    get(from, rows.bias);
    get(from, held.rows);
    get(from, apart);
    held.apart = apart != 0;
    get(from, held.scores);
    get(from, held.cosines);
    get(from, held.cost);
    get(from, held.positive_ptr);
    get(from, held.positive);
    require_rows(rows, h.row_count(node), features);
    require_held_out(held, h.row_count(node));
    return trained;
}

}  // namespace sparseops::detail
