// SPDX-License-Identifier: BSD-3-Clause
#include "temperatures.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "../detail/parallel.hpp"
#include "../kernels/kernels.hpp"
#include "node_scores.hpp"

namespace sparseops::detail {
namespace {

// The loss is convex in the temperature: its minimum lies where the slope changes sign, between two of these.
constexpr std::size_t grid = 17;
float candidate(std::size_t g) noexcept { return std::exp2(static_cast<float>(g) / 2 - 2); }  // 1/4 … 64

constexpr std::size_t least_examples = 50;
constexpr std::size_t block = 64;

struct Slopes {
    std::array<double, grid> sum{};
    std::size_t examples = 0;
};

// A node on the way to some of an example's labels, and the child there.
struct Visit {
    std::int32_t node, depth, child;
};

// Adds the slopes of -log P(children) at one node. child: the positive ones, rising; exactly one unless the nodes are independent.
class NodeSlopes {
public:
    explicit NodeSlopes(std::size_t widest) : scaled_(widest), target_(widest), change_(widest) {}

    void add(const HierarchyView& h, std::size_t v, std::span<const float> scores, std::span<const Visit> positive, double weight,
             Slopes& slopes) {
        const std::size_t n = scores.size();
        const bool one_row = h.is_logistic(v), apart = one_row || h.independent;
        std::fill_n(target_.begin(), n, 0.0f);
        for (const Visit& p : positive) {
            if (one_row)
                target_[0] = static_cast<float>(p.child);
            else if (p.child >= 0)
                target_[static_cast<std::size_t>(p.child)] = 1;
        }
        for (std::size_t g = 0; g < grid; ++g) {
            for (std::size_t j = 0; j < n; ++j) scaled_[j] = scores[j] * candidate(g);
            if (apart) {
                kernels<float>().logistic_loss(scaled_.data(), target_.data(), n, scaled_.data(), change_.data());
            } else {
                kernels<float>().softmax_nll(scaled_.data(), n, nullptr, change_.data());
                for (std::size_t j = 0; j < n; ++j) change_[j] -= target_[j];
            }
            double slope = 0;
            for (std::size_t j = 0; j < n; ++j) slope += static_cast<double>(change_[j]) * static_cast<double>(scores[j]);
            slopes.sum[g] += weight * slope;
        }
        ++slopes.examples;
    }

private:
    std::vector<float> scaled_, target_, change_;
};

// The nodes that an example reaches, with their positive children: by node, then by child.
void visits_of(const HierarchyView& h, std::span<const std::int64_t> labels, std::vector<Visit>& visits) {
    visits.clear();
    for (const std::int64_t c : labels) {
        const auto nodes = h.path_nodes(static_cast<std::size_t>(c)), children = h.path_children(static_cast<std::size_t>(c));
        for (std::size_t d = 0; d < nodes.size(); ++d) visits.push_back({nodes[d], static_cast<std::int32_t>(d), children[d]});
    }
    if (labels.empty() && !h.preorder.empty()) visits.push_back({h.preorder.front(), 0, -1});
    const auto key = [](const Visit& v) { return std::pair(v.node, v.child); };
    std::sort(visits.begin(), visits.end(), [&](const Visit& a, const Visit& b) { return key(a) < key(b); });
}

float best_of(const Slopes& slopes, float otherwise) {
    if (slopes.examples < least_examples) return otherwise;
    std::size_t g = 0;
    while (g < grid && slopes.sum[g] < 0) ++g;
    if (g == 0) return candidate(0);
    if (g == grid) return candidate(grid - 1);
    const double before = slopes.sum[g - 1], after = slopes.sum[g];
    return candidate(g - 1) * static_cast<float>(std::exp2(0.5 * before / (before - after)));
}

}  // namespace

template <Index I>
std::vector<float> fit_temperatures(const HierarchyView& h, const SparseRowsView& W, const CsrView<const float, I>& X,
                                    const LabelsView& labels, std::span<const std::uint32_t> examples, std::span<const float> weight,
                                    std::span<const float> otherwise, int num_threads) {
    const std::size_t depth = otherwise.size(), blocks = (examples.size() + block - 1) / block;
    std::vector<std::vector<Slopes>> parts(blocks);  // each block's own, added up in their order
    parallel_for(blocks, num_threads, [&](std::size_t b, std::size_t) {
        std::vector<Slopes>& slopes = parts[b];
        slopes.resize(depth);
        NodeSlopes node_slopes(h.widest);
        std::vector<float> scores(h.widest);
        std::vector<Visit> visits;
        for (std::size_t e = b * block; e < std::min(examples.size(), (b + 1) * block); ++e) {
            const std::size_t i = examples[e];
            visits_of(h, labels.of(i), visits);
            for (std::size_t first = 0, last = 0; first < visits.size(); first = last) {
                while (last < visits.size() && visits[last].node == visits[first].node) ++last;
                const auto v = static_cast<std::size_t>(visits[first].node), d = static_cast<std::size_t>(visits[first].depth);
                node_scores(W, v, example(X, i), scores.data());
                node_slopes.add(h, v, std::span(scores).first(h.row_count(v)), std::span(visits).subspan(first, last - first),
                                static_cast<double>(weight[i]), slopes[d]);
            }
        }
    });
    std::vector<float> out(otherwise.begin(), otherwise.end());
    for (std::size_t d = 0; d < depth; ++d) {
        Slopes all;
        for (const auto& part : parts) {
            for (std::size_t g = 0; g < grid; ++g) all.sum[g] += part[d].sum[g];
            all.examples += part[d].examples;
        }
        out[d] = best_of(all, otherwise[d]);
    }
    return out;
}

template std::vector<float> fit_temperatures(const HierarchyView&, const SparseRowsView&, const CsrView<const float, std::int32_t>&,
                                             const LabelsView&, std::span<const std::uint32_t>, std::span<const float>,
                                             std::span<const float>, int);
template std::vector<float> fit_temperatures(const HierarchyView&, const SparseRowsView&, const CsrView<const float, std::int64_t>&,
                                             const LabelsView&, std::span<const std::uint32_t>, std::span<const float>,
                                             std::span<const float>, int);

}  // namespace sparseops::detail
