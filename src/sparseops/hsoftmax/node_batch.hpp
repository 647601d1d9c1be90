// SPDX-License-Identifier: BSD-3-Clause
// A batch on a tree with wide nodes, or with sparse W: one node after the other, with all examples of a chunk that pass it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "batch.hpp"
#include "node_sums.hpp"

namespace sparseops::detail {

template <Real T>
class NodeBatch {
public:
    explicit NodeBatch(Batch<T>& batch)
        : batch_(batch), h_(batch.h), chunk_(examples_together(batch)), workers_(ix(std::max(1, batch.threads))) {
        std::size_t most_nodes = 0;
        for (std::size_t c = 0; c < chunks(); ++c) {
            std::size_t nodes = 0;
            for (std::size_t s = c * chunk_; s < last(c); ++s) nodes += batch.path(s).size() - shared_steps(s, c);
            most_nodes = std::max(most_nodes, nodes);
        }
        for (Worker& worker : workers_) {
            worker.products.resize(std::max(batch.in.W.sparse() ? 2 : chunk_ * row_tile_, h_.widest));
            worker.sparse = batch.score.sparse();
            worker.open.reserve(ix(h_.depth) + 1);
            worker.nodes.reserve(most_nodes);
        }
        batch.allocate(batch.out.gradient, chunk_, workers_);
    }

    std::size_t chunks() const { return (batch_.size + chunk_ - 1) / chunk_; }
    std::size_t workers() const { return workers_.size(); }
    Scratch<T>& scratch(std::size_t worker) { return workers_[worker]; }

    void score(std::size_t c, std::size_t w) {
        Worker& worker = workers_[w];
        batch_.begin_part(c * chunk_, worker);
        find_nodes(c, worker);
        if (batch_.in.residuals.empty()) worker.sparse ? sparse_logits(c, worker) : dense_logits(worker);
        if (!batch_.check(c * chunk_, last(c), worker)) return;
        if (!batch_.out.residuals.empty()) return;  // losses overwrite logits, so they wait until these are copied
        batch_.losses(c * chunk_, last(c), worker);
        if (batch_.out.gradient) input_gradients(worker);
    }

    void losses(std::size_t c, std::size_t w) {
        batch_.begin_part(c * chunk_, workers_[w]);
        batch_.losses(c * chunk_, last(c), workers_[w]);
    }

    void sum_rows(const GradientSink<T>& sink) { NodeSums<T>(batch_.plan, batch_.X, batch_.kept_logits.get(), batch_.threads).run(sink); }

private:
    static constexpr std::size_t dense_chunk_ = 32;         // examples whose products with a node are taken together
    static constexpr std::size_t sparse_chunk_ = 512;       // more: a node's features are spread over a table once for all of them,
    static constexpr std::size_t sparse_logits_ = 1 << 20;  // but their logits should stay in a few MiB
    static constexpr std::size_t row_tile_ = 64;            // rows of a node that all examples of a chunk meet while they are in the caches
    static constexpr std::size_t prefetch_distance_ = 4;    // in nodes

    struct Node {
        std::int32_t node, first, last, z;  // the chunk's examples [first, last) pass it; its logits start at place z of theirs
    };
    struct Worker : Scratch<T> {
        std::vector<Node> open, nodes;  // of `open`, `last` is the place among the nodes
        std::optional<SparseScorer> sparse;
    };

    static std::size_t examples_together(const Batch<T>& batch) {
        if (!batch.in.W.sparse()) return dense_chunk_;
        return std::clamp(sparse_logits_ / std::max<std::size_t>(1, batch.longest_path()), dense_chunk_, sparse_chunk_);
    }

    std::size_t last(std::size_t c) const { return std::min(batch_.size, (c + 1) * chunk_); }
    // Steps that example s has in common with the one before it in chunk c.
    std::size_t shared_steps(std::size_t s, std::size_t c) const { return s == c * chunk_ ? 0 : ix(batch_.plan.shared()[s]); }
    std::int32_t rows_of(std::int32_t node) const { return static_cast<std::int32_t>(h_.row_count(ix(node))); }
    T* logits(std::size_t s, const Node& node, const Worker& worker) const { return batch_.logits(s, worker) + ix(node.z); }

    // The nodes that the examples of a chunk pass, parents first.
    void find_nodes(std::size_t c, Worker& worker) {
        worker.nodes.clear();
        worker.open.clear();
        const auto close = [&](std::size_t keep, std::size_t s) {
            for (; worker.open.size() > keep; worker.open.pop_back())
                worker.nodes[ix(worker.open.back().last)].last = static_cast<std::int32_t>(s);
        };
        for (std::size_t s = c * chunk_; s < last(c); ++s) {
            const auto nodes = batch_.path(s);
            const std::size_t shared = shared_steps(s, c);
            close(shared, s);
            std::int32_t z = 0;
            if (shared > 0) z = worker.open.back().z + rows_of(worker.open.back().node);
            for (std::size_t d = shared; d < nodes.size(); ++d) {
                const auto first = static_cast<std::int32_t>(s);
                worker.open.push_back({nodes[d], first, static_cast<std::int32_t>(worker.nodes.size()), z});
                worker.nodes.push_back({nodes[d], first, 0, z});
                z += rows_of(nodes[d]);
            }
        }
        close(0, last(c));
    }

    void sparse_logits(std::size_t c, Worker& worker) {
        if constexpr (std::is_same_v<T, float>) {
            const std::size_t from = c * chunk_;
            worker.sparse->gather(last(c) - from, [&](std::size_t i) { return batch_.example(from + i); });
            for (const Node& node : worker.nodes) {
                worker.sparse->open(ix(node.node), ix(node.last - node.first));
                for (std::size_t s = ix(node.first); s < ix(node.last); ++s) worker.sparse->logits(s - from, logits(s, node, worker));
                worker.sparse->close();
            }
        }
    }

    void dense_logits(Worker& worker) {
        T* products = worker.products.data();
        const std::span<const T> b = batch_.in.b;
        for (std::size_t i = 0; i < worker.nodes.size(); ++i) {
            if (i + prefetch_distance_ < worker.nodes.size()) prefetch_node(ix(worker.nodes[i + prefetch_distance_].node));
            const Node& node = worker.nodes[i];
            const std::size_t first = ix(node.first), m = ix(node.last) - first, k = h_.row_count(ix(node.node));
            for (std::size_t j = 0; j < k; j += row_tile_) {
                const std::size_t n = std::min(row_tile_, k - j), row = h_.row(ix(node.node)) + j;
                batch_.score({0, batch_.plan.order().data() + first}, m, {row}, n, products, n);
                for (std::size_t s = 0; s < m; ++s) {
                    T* z = logits(first + s, node, worker) + j;
                    for (std::size_t r = 0; r < n; ++r) z[r] = products[s * n + r] + (b.empty() ? T(0) : b[row + r]);
                }
            }
        }
    }

    void prefetch_node(std::size_t v) const {
        constexpr std::size_t most = 4;  // rows: the hardware sees by then that they follow each other
        const std::size_t first = h_.row(v), end = first + std::min(most, h_.row_count(v));
        for (std::size_t row = first; row < end; ++row) batch_.score.prefetch(row);
    }

    void input_gradients(const Worker& worker) {
        const T* delta[dense_chunk_];
        T* out[dense_chunk_];
        const std::size_t dim = batch_.dim;
        for (const Node& node : worker.nodes) {
            const std::size_t first = ix(node.first), m = ix(node.last) - first, k = h_.row_count(ix(node.node));
            for (std::size_t s = 0; s < m; ++s) {
                delta[s] = logits(first + s, node, worker);
                out[s] = batch_.out.dX + batch_.example(first + s) * dim;
            }
            for (std::size_t j = 0; j < k; j += row_tile_) {
                const std::size_t n = std::min(row_tile_, k - j);
                batch_.score.row_sums(delta, h_.row(ix(node.node)) + j, n, node.z > 0 || j > 0, out, m);
                for (std::size_t s = 0; s < m; ++s) delta[s] += n;
            }
        }
    }

    Batch<T>& batch_;
    const HierarchyView& h_;
    const std::size_t chunk_;  // examples a worker takes at once
    std::vector<Worker> workers_;
};

}  // namespace sparseops::detail
