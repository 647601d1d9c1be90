// SPDX-License-Identifier: BSD-3-Clause
// The loss of one example on a tree with softmax nodes, from its logits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../hierarchy.hpp"
#include "../kernels/kernels.hpp"
#include "../types.hpp"
#include "child_log_p.hpp"

namespace sparseops::detail {

// Target of a logistic node on the way to its child.
template <Real T>
T soft_target(std::int32_t child, double smoothing) {
    return static_cast<T>(static_cast<double>(child) * (1 - smoothing) + smoothing / 2);
}

// Probabilities to probabilities minus target; 1 - p from its logarithm where p is near 1 would lose digits.
template <Real T>
void softmax_delta(T* p, std::size_t k, std::size_t j, double smoothing) {
    if (smoothing > 0) {
        const auto share = static_cast<T>(smoothing / static_cast<double>(k));
        for (std::size_t i = 0; i < k; ++i) p[i] -= share;
        p[j] -= static_cast<T>(1 - smoothing);
        return;
    }
    if (p[j] < T(0.5)) {
        p[j] -= T(1);
        return;
    }
    T others = 0;
    for (std::size_t i = 0; i < k; ++i) others += i == j ? T(0) : p[i];
    p[j] = -others;
}

// z: the logits of the path's nodes, root first; with `gradient`, made their gradients. nll: scratch for the widest node, two at
// least. Independent nodes have neither gradients nor soft targets.
template <Real T>
double path_loss(const Kernels<T>& kernels, const HierarchyView& h, std::size_t label, double smoothing, bool gradient, T* z, T* nll) {
    const auto nodes = h.path_nodes(label), children = h.path_children(label);
    double sum = 0;
    for (std::size_t d = 0; d < nodes.size(); ++d) {
        const std::size_t k = h.row_count(static_cast<std::size_t>(nodes[d])), j = static_cast<std::size_t>(children[d]);
        if (!gradient && smoothing == 0) {
            child_log_p(kernels, h, k, z, nll);
            sum -= static_cast<double>(nll[j]);
        } else if (k == 1) {
            const T target = soft_target<T>(children[d], smoothing);
            kernels.logistic_loss(z, &target, 1, nll, gradient ? z : nullptr);
            sum += static_cast<double>(nll[0]);
        } else {
            kernels.softmax_nll(z, k, nll, gradient ? z : nullptr);
            double mean = 0;
            if (smoothing > 0) {
                for (std::size_t i = 0; i < k; ++i) mean += static_cast<double>(nll[i]);
                mean /= static_cast<double>(k);
            }
            sum += (1 - smoothing) * static_cast<double>(nll[j]) + smoothing * mean;
            if (gradient) softmax_delta(z, k, j, smoothing);
        }
        z += k;
    }
    return sum;
}

}  // namespace sparseops::detail
