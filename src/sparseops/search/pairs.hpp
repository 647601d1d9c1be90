// SPDX-License-Identifier: BSD-3-Clause
// Nodes wanted by rows, sorted so that a node's weights are read for all its rows while they are near.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "../detail/index.hpp"
#include "results.hpp"

namespace sparseops::detail {

struct Pair {
    Open<float> open;
    std::int32_t row;  // of the block
};

class SortByNode {
public:
    explicit SortByNode(std::size_t nodes) : count_(nodes, 0) {}

    // By counting; the rows of a node stay in their order.
    void operator()(std::vector<Pair>& pairs) {
        touched_.clear();
        for (const Pair& pair : pairs) {
            if (count_[ix(pair.open.node)]++ == 0) touched_.push_back(pair.open.node);
        }
        std::sort(touched_.begin(), touched_.end());
        std::uint32_t before = 0;
        for (const std::int32_t node : touched_) before += std::exchange(count_[ix(node)], before);
        sorted_.resize(pairs.size());
        for (const Pair& pair : pairs) sorted_[count_[ix(pair.open.node)]++] = pair;
        for (const std::int32_t node : touched_) count_[ix(node)] = 0;
        pairs.swap(sorted_);
    }

private:
    std::vector<Pair> sorted_;
    std::vector<std::uint32_t> count_;   // of each node's pairs, while they are sorted; otherwise 0
    std::vector<std::int32_t> touched_;  // nodes of pairs
};

}  // namespace sparseops::detail
