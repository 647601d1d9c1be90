// SPDX-License-Identifier: BSD-3-Clause
#include "assemble.hpp"

#include <algorithm>
#include <numeric>

namespace sparseops::detail {

NodeRows assemble_node(const NodeProblem& problem, std::vector<SolvedRows>& blocks) {
    std::vector<std::size_t> begin(problem.features() + 1, 0);  // of each feature's entries, in the order of the problem
    for (const SolvedRows& block : blocks) {
        for (const std::int32_t f : block.feature) ++begin[static_cast<std::size_t>(f) + 1];
    }
    std::vector<std::int32_t> used;
    for (std::size_t f = 0; f < problem.features(); ++f) {
        if (begin[f + 1] > 0) used.push_back(static_cast<std::int32_t>(f));
    }
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    std::vector<std::uint16_t> slot(begin.back());
    std::vector<float> weight(begin.back());
    std::vector<std::size_t> at(begin.begin(), begin.end() - 1);
    NodeRows out;
    for (SolvedRows& block : blocks) {
        for (std::size_t e = 0; e < block.feature.size(); ++e) {
            const std::size_t to = at[static_cast<std::size_t>(block.feature[e])]++;
            slot[to] = block.slot[e];
            weight[to] = block.weight[e];
        }
        out.bias.insert(out.bias.end(), block.bias.begin(), block.bias.end());
        block = {};
    }
    const auto feature = [&](std::int32_t f) { return problem.feature(static_cast<std::size_t>(f)); };
    std::sort(used.begin(), used.end(), [&](std::int32_t a, std::int32_t b) { return feature(a) < feature(b); });
    out.slot.reserve(slot.size());
    out.weight.reserve(weight.size());
    for (const std::int32_t f : used) {
        const auto first = static_cast<std::ptrdiff_t>(begin[static_cast<std::size_t>(f)]);
        const auto last = static_cast<std::ptrdiff_t>(begin[static_cast<std::size_t>(f) + 1]);
        out.feature.push_back(feature(f));
        out.size.push_back(static_cast<std::int32_t>(last - first));
        out.slot.insert(out.slot.end(), slot.begin() + first, slot.begin() + last);
        out.weight.insert(out.weight.end(), weight.begin() + first, weight.begin() + last);
    }
    return out;
}

SparseRows assemble_tree(const HierarchyView& h, std::vector<NodeRows>& nodes, std::size_t features) {
    std::size_t places = 0, entries = 0;
    for (const NodeRows& node : nodes) {
        places += node.feature.size();
        entries += node.slot.size();
    }
    SparseRows W;
    W.features = features;
    W.row_ptr.assign(h.row_ptr.begin(), h.row_ptr.end());
    W.feature_ptr.reserve(nodes.size() + 1);
    W.feature.reserve(places);
    W.entry_ptr.reserve(places + 1);
    W.slot.reserve(entries);
    W.weight.reserve(entries);
    W.bias.reserve(h.rows());
    W.feature_ptr.push_back(0);
    W.entry_ptr.push_back(0);
    for (NodeRows& node : nodes) {
        W.feature.insert(W.feature.end(), node.feature.begin(), node.feature.end());
        for (const std::int32_t size : node.size) W.entry_ptr.push_back(W.entry_ptr.back() + size);
        W.slot.insert(W.slot.end(), node.slot.begin(), node.slot.end());
        W.weight.insert(W.weight.end(), node.weight.begin(), node.weight.end());
        W.bias.insert(W.bias.end(), node.bias.begin(), node.bias.end());
        W.feature_ptr.push_back(static_cast<std::int64_t>(W.feature.size()));
        node = {};
    }
    return W;
}

}  // namespace sparseops::detail
