// SPDX-License-Identifier: BSD-3-Clause
// What training made of a node as bytes, for another process of the same machine type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "assemble.hpp"
#include "link.hpp"

namespace sparseops::detail {

struct TrainedNode {
    std::size_t node = 0;
    NodeRows rows;
    HeldOut held_out;
};

// Appends the node.
void pack(const TrainedNode& trained, std::vector<std::uint8_t>& to);

// Takes one node off the front. Throws std::invalid_argument if the bytes are no node of this tree over `features` columns.
TrainedNode unpack(std::span<const std::uint8_t>& from, const HierarchyView& h, std::size_t features);

}  // namespace sparseops::detail
