// SPDX-License-Identifier: BSD-3-Clause
// Search of one row of X after the other, for W that is not sparse.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "../detail/index.hpp"
#include "../detail/parallel.hpp"
#include "../hsoftmax/child_log_p.hpp"
#include "../hsoftmax/score.hpp"
#include "../kernels/kernels.hpp"
#include "results.hpp"

namespace sparseops::detail {

// One worker's search, its memory kept from query to query.
template <Real T>
class alignas(cache_gap) Searcher {
public:
    Searcher(const HierarchyView& h, const HSoftmaxInput<T>& in, const SearchOptions& options)
        : h_(h),
          in_(in),
          score_(h, in.X, in.W),
          options_(options),
          k_(kernels<T>()),
          results_(h, options),
          joined_buckets_(h.logistic && results_.limit() > 1 ? 2 : 0),
          log_p_(std::max<std::size_t>(2, h.widest)),
          z_(std::max<std::size_t>(2, h.widest)) {}

    // False if a logit was not finite.
    bool run(std::size_t x, std::int64_t* classes, T* log_probs, T* bound) {
        x_ = score_.place(x);
        finite_ = true;
        results_.clear();
        open_.clear();
        if (h_.nodes() == 0)
            results_.offer({T(0), 0, 0.0});
        else if (options_.beam)
            search_levels(ix(*options_.beam));
        else
            search_best_first();
        results_.write(classes, log_probs, bound, [&](std::size_t v) {
            score_children(v);
            return log_p_.data();
        });
        return finite_ || !in_.check_finite;
    }

private:
    static constexpr std::size_t max_nodes_per_pass = 16;  // nodes whose rows are scored in one pass over x
    static constexpr std::size_t min_nodes_per_pass = 4;   // fewer cost as much: nodes of the next buckets join them
    static constexpr std::size_t n_buckets = 32;           // of open nodes
    static constexpr std::size_t queued_share = 8;         // one node of so many, but
    static constexpr std::size_t min_queued = 4096;        // at least these, come from the queue; the others depth first
    static constexpr std::int32_t none = -1;

    struct Waiting {
        Open<T> open;
        std::int32_t next;
    };

    // Best first, with a bucket queue (Dial 1969) by log-probability: a bucket spans a nat at first, and its nodes are expanded some at a
    // time, in any order, their rows scored in one pass over x. Nodes expanded beyond need cost time; results depend on keys alone.
    void search_best_first() {
        waiting_.clear();
        first_in_.fill(none);
        likeliest_ = 0;
        per_nat_ = 1;
        std::size_t left = std::max(min_queued, h_.nodes() / queued_share);
        put({0.0, T(0), h_.preorder[0]});
        const auto push = [&](const Open<T>& inner) {
            prefetch(ix(inner.node));
            put(inner);
        };
        do {
            for (std::size_t bucket = 0; bucket < n_buckets; ++bucket) {
                while (first_in_[bucket] != none) {  // children may be as likely as their parents
                    const auto nodes = take(bucket);
                    expand(nodes, push);
                    if (nodes.size() > left) return search_depth_first();
                    left -= nodes.size();
                }
            }
        } while (spread());
    }

    // What the queue still holds. If so many nodes were as likely as the results, most are, and the order saves less than it costs.
    void search_depth_first() {
        for (std::size_t bucket = n_buckets + 1; bucket-- > 0;) {
            for (std::int32_t i = first_in_[bucket]; i != none; i = next(i)) open_.push_back(waiting_[ix(i)].open);
        }
        const auto push = [&](const Open<T>& inner) {
            prefetch(ix(inner.node));
            open_.push_back(inner);
        };
        while (!open_.empty()) {
            std::size_t n = 0;
            for (; n < batch_.size() && !open_.empty(); open_.pop_back()) {
                if (open_.back().key < results_.worst())
                    results_.leave(open_.back().key);
                else
                    batch_[n++] = open_.back();
            }
            expand({batch_.data(), n}, push);
        }
    }

    std::span<const Open<T>> take(std::size_t bucket) {
        std::size_t n = 0;
        const auto from = [&](std::int32_t& first, std::size_t most) {
            for (; n < most && first != none; first = next(first)) {
                batch_[n] = waiting_[ix(first)].open;
                if (batch_[n].key < results_.worst())  // one as likely as the worst may hide the same key, lower id
                    results_.leave(batch_[n].key);
                else
                    ++n;
            }
        };
        from(first_in_[bucket], batch_.size());
        for (std::size_t at = bucket + 1; at < std::min(n_buckets, bucket + 1 + joined_buckets_); ++at)
            from(first_in_[at], min_nodes_per_pass);
        return {batch_.data(), n};
    }

    // Refills the buckets, each twice as wide, with the nodes that were too unlikely for any: doubling reaches any depth in a few
    // rounds. False if there are none.
    bool spread() {
        std::int32_t i = std::exchange(first_in_[n_buckets], none);
        if (i == none) return false;
        per_nat_ /= 2;
        likeliest_ = -std::numeric_limits<T>::infinity();
        for (std::int32_t j = i; j != none; j = next(j)) likeliest_ = std::max(likeliest_, waiting_[ix(j)].open.key);
        while (i != none) link(std::exchange(i, next(i)));
        return true;
    }

    std::int32_t next(std::int32_t i) const { return waiting_[ix(i)].next; }

    void put(const Open<T>& node) {
        waiting_.push_back({node, none});
        link(static_cast<std::int32_t>(waiting_.size() - 1));
    }

    void link(std::int32_t i) {
        Waiting& node = waiting_[ix(i)];
        const T down = std::min(T(n_buckets), std::max(T(0), (likeliest_ - node.open.key) * per_nat_));  // NaN: 0
        std::int32_t& first = first_in_[ix(static_cast<std::int32_t>(down))];
        node.next = std::exchange(first, i);
    }

    void prefetch(std::size_t node) const {
        if (!h_.logistic) return score_.prefetch(h_.row(node));
        score_.prefetch(node);
        prefetch_line(h_.child.data() + 2 * node);
        if (!in_.b.empty()) prefetch_line(in_.b.data() + node);
    }

    void search_levels(std::size_t width) {
        open_.push_back({0.0, T(0), h_.preorder[0]});
        std::vector<Open<T>> next;
        while (!open_.empty()) {
            next.clear();
            expand(open_, [&](const Open<T>& inner) { next.push_back(inner); });
            if (next.size() > width) {
                std::partial_sort(next.begin(), next.begin() + static_cast<std::ptrdiff_t>(width), next.end(), Likelier<T>());
                for (std::size_t i = width; i < next.size(); ++i) results_.leave(next[i].key);
                next.resize(width);
            }
            open_.swap(next);
        }
    }

    template <class Push>
    void expand(std::span<const Open<T>> nodes, Push push) {
        if (!h_.logistic) {
            for (const Open<T>& node : nodes) {
                score_children(ix(node.node));
                const auto children = h_.children(ix(node.node));
                for (std::size_t j = 0; j < children.size(); ++j) results_.take_child(node, children[j], log_p_[j], push);
            }
            return;
        }
        const std::int32_t* const child = h_.child.data();  // logistic: two per node, whose row has its number
        for (std::size_t from = 0; from < nodes.size(); from += max_nodes_per_pass) {
            const std::size_t n = std::min(max_nodes_per_pass, nodes.size() - from);
            const Open<T>* const node = nodes.data() + from;
            std::int32_t rows[max_nodes_per_pass];
            T z[max_nodes_per_pass], log_p[2 * max_nodes_per_pass], odd = 0;
            for (std::size_t i = 0; i < n; ++i) rows[i] = node[i].node;
            score_({x_}, 1, {0, rows}, n, z, n);
            if (!in_.b.empty()) {
                for (std::size_t i = 0; i < n; ++i) z[i] += in_.b[ix(rows[i])];
            }
            for (std::size_t i = 0; i < n; ++i) odd += z[i] - z[i];  // not 0 if one is not finite
            finite_ = finite_ && odd == 0;
            k_.log_sigmoid(z, n, log_p, log_p + max_nodes_per_pass);
            for (std::size_t i = 0; i < n; ++i) {
                const std::int32_t* const two = child + 2 * ix(rows[i]);
                results_.take_child(node[i], two[0], log_p[i], push);
                results_.take_child(node[i], two[1], log_p[max_nodes_per_pass + i], push);
            }
        }
    }

    void score_children(std::size_t v) {
        const std::size_t k = h_.row_count(v), row = h_.row(v);
        score_.node(x_, v, z_.data());
        if (!in_.b.empty()) {
            for (std::size_t j = 0; j < k; ++j) z_[j] += in_.b[row + j];
        }
        finite_ = finite_ && k_.first_not_finite(z_.data(), k) == k;
        child_log_p(k_, h_, k, z_.data(), log_p_.data());
    }

    const HierarchyView& h_;
    const HSoftmaxInput<T>& in_;
    Scorer<T> score_;
    const SearchOptions& options_;
    const Kernels<T>& k_;
    Results<T> results_;
    std::size_t joined_buckets_;  // 0 where it does not pay: for one class, rarely below their nodes, and for wide nodes
    std::vector<T> log_p_, z_;
    std::vector<Open<T>> open_;
    std::array<Open<T>, max_nodes_per_pass> batch_{};
    std::vector<Waiting> waiting_;  // all open nodes, linked bucket by bucket
    // Bucket j: up to e^(j + 1) times less likely than the likeliest; the last: all others.
    std::array<std::int32_t, n_buckets + 1> first_in_{};
    T likeliest_ = 0, per_nat_ = 1;
    std::size_t x_ = 0;
    bool finite_ = true;
};

}  // namespace sparseops::detail
