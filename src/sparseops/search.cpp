// SPDX-License-Identifier: BSD-3-Clause
#include "search.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>
#include <vector>

#include "detail/parallel.hpp"
#include "detail/require.hpp"
#include "hsoftmax/backward.hpp"
#include "hsoftmax/child_log_p.hpp"
#include "hsoftmax/score.hpp"
#include "kernels/kernels.hpp"
#include "search/levels.hpp"
#include "search/results.hpp"

namespace sparseops {
namespace {

using detail::Open;
using detail::require;

constexpr std::size_t most_together = 16;  // nodes whose rows are scored in one pass over x
constexpr std::size_t least_together = 4;  // fewer cost as much: nodes of nearby lists join them
constexpr std::size_t lists = 32;          // of open nodes
constexpr std::int32_t none = -1;

// One worker's search, its memory kept from query to query.
template <Real T>
class alignas(detail::apart) Searcher {
public:
    Searcher(const HierarchyView& h, const HSoftmaxInput<T>& in, const SearchOptions& options)
        : h_(h),
          in_(in),
          score_(h, in.X, in.W),
          options_(options),
          k_(detail::kernels<T>()),
          results_(h, options),
          nearby_(h.logistic && results_.limit() > 1 ? 2 : 0),
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
            search_levels(static_cast<std::size_t>(*options_.beam));
        else
            search_best_first();
        results_.write(classes, log_probs, bound, [&](std::size_t v) {
            score_children(v);
            return log_p_.data();
        });
        return finite_ || !in_.check_finite;
    }

private:
    struct Waiting {
        Open<T> open;
        std::int32_t next;
    };

    // Open nodes lie in lists, those of one up to e times less likely than those of the list before it. The first list is
    // expanded some nodes at a time, their rows scored in one pass over x, until it stays empty; no node is looked at before its
    // turn. Whatever is expanded beyond need only looks at more; what decides is the key.
    void search_best_first() {
        waiting_.clear();
        first_of_.fill(none);
        likeliest_ = 0;
        per_nat_ = 1;
        put({0.0, T(0), h_.preorder[0]});
        const auto push = [&](const Open<T>& inner) {
            prefetch(static_cast<std::size_t>(inner.node));
            put(inner);
        };
        do {
            for (std::size_t list = 0; list < lists; ++list) {
                while (first_of_[list] != none) expand(take(list), push);  // children may be as likely as their parents
            }
        } while (spread());
    }

    std::span<const Open<T>> take(std::size_t list) {
        std::size_t n = 0;
        const auto from = [&](std::int32_t& first, std::size_t most) {
            for (; n < most && first != none; first = next(first)) {
                batch_[n] = waiting_[static_cast<std::size_t>(first)].open;
                if (batch_[n].key < results_.worst())  // one as likely as the worst may hide the same key, lower id
                    results_.leave(batch_[n].key);
                else
                    ++n;
            }
        };
        from(first_of_[list], batch_.size());
        for (std::size_t at = list + 1; at < std::min(lists, list + 1 + nearby_); ++at) from(first_of_[at], least_together);
        return {batch_.data(), n};
    }

    // Spreads the nodes that were too unlikely for all lists over them, twice as many nats to a list: however far down they reach,
    // it takes a few times. False if there are none.
    bool spread() {
        std::int32_t i = std::exchange(first_of_[lists], none);
        if (i == none) return false;
        per_nat_ /= 2;
        likeliest_ = -std::numeric_limits<T>::infinity();
        for (std::int32_t j = i; j != none; j = next(j)) likeliest_ = std::max(likeliest_, waiting_[static_cast<std::size_t>(j)].open.key);
        while (i != none) link(std::exchange(i, next(i)));
        return true;
    }

    std::int32_t next(std::int32_t i) const { return waiting_[static_cast<std::size_t>(i)].next; }

    void put(const Open<T>& node) {
        waiting_.push_back({node, none});
        link(static_cast<std::int32_t>(waiting_.size() - 1));
    }

    void link(std::int32_t i) {
        Waiting& node = waiting_[static_cast<std::size_t>(i)];
        const T down = std::min(T(lists), std::max(T(0), (likeliest_ - node.open.key) * per_nat_));  // NaN: 0
        std::int32_t& first = first_of_[static_cast<std::size_t>(static_cast<std::int32_t>(down))];
        node.next = std::exchange(first, i);
    }

    void prefetch(std::size_t node) const {
        if (!h_.logistic) return score_.prefetch(h_.row(node));
        score_.prefetch(node);
        detail::prefetch_line(h_.child.data() + 2 * node);
        if (!in_.b.empty()) detail::prefetch_line(in_.b.data() + node);
    }

    void search_levels(std::size_t width) {
        open_.push_back({0.0, T(0), h_.preorder[0]});
        std::vector<Open<T>> next;
        while (!open_.empty()) {
            next.clear();
            expand(open_, [&](const Open<T>& inner) { next.push_back(inner); });
            if (next.size() > width) {
                std::partial_sort(next.begin(), next.begin() + static_cast<std::ptrdiff_t>(width), next.end(), detail::likelier<T>);
                for (std::size_t i = width; i < next.size(); ++i) results_.leave(next[i].key);
                next.resize(width);
            }
            open_.swap(next);
        }
    }

    template <class Push>
    void expand(std::span<const Open<T>> nodes, Push push) {
        if (!h_.logistic || score_.sparse()) {
            for (const Open<T>& node : nodes) {
                score_children(static_cast<std::size_t>(node.node));
                const auto children = h_.children(static_cast<std::size_t>(node.node));
                for (std::size_t j = 0; j < children.size(); ++j) results_.take_child(node, children[j], log_p_[j], push);
            }
            return;
        }
        const std::int32_t* const child = h_.child.data();  // logistic: two a node, and the row of a node is its number
        for (std::size_t from = 0; from < nodes.size(); from += most_together) {
            const std::size_t n = std::min(most_together, nodes.size() - from);
            const Open<T>* const node = nodes.data() + from;
            std::int32_t rows[most_together];
            T z[most_together], log_p[2 * most_together], odd = 0;
            for (std::size_t i = 0; i < n; ++i) rows[i] = node[i].node;
            score_({x_}, 1, {0, rows}, n, z, n);
            if (!in_.b.empty()) {
                for (std::size_t i = 0; i < n; ++i) z[i] += in_.b[static_cast<std::size_t>(rows[i])];
            }
            for (std::size_t i = 0; i < n; ++i) odd += z[i] - z[i];  // not 0 if one is not finite
            finite_ = finite_ && odd == 0;
            k_.log_sigmoid(z, n, log_p, log_p + most_together);
            for (std::size_t i = 0; i < n; ++i) {
                const std::int32_t* const two = child + 2 * static_cast<std::size_t>(rows[i]);
                results_.take_child(node[i], two[0], log_p[i], push);
                results_.take_child(node[i], two[1], log_p[most_together + i], push);
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
        detail::child_log_p(k_, h_, k, z_.data(), log_p_.data());
    }

    const HierarchyView& h_;
    const HSoftmaxInput<T>& in_;
    detail::Scorer<T> score_;
    const SearchOptions& options_;
    const detail::Kernels<T>& k_;
    detail::Results<T> results_;
    std::size_t nearby_;  // lists; the one best class is rarely below their nodes, and a wider node costs more
    std::vector<T> log_p_, z_;
    std::vector<Open<T>> open_;
    std::array<Open<T>, most_together> batch_{};
    std::vector<Waiting> waiting_;                    // every open node, in lists
    std::array<std::int32_t, lists + 1> first_of_{};  // list j: down to e^(j + 1) times less likely than the likeliest; the last: even less
    T likeliest_ = 0, per_nat_ = 1;
    std::size_t x_ = 0;
    bool finite_ = true;
};

void require_options(const SearchOptions& o) {
    require(o.k >= 1, "k must be at least 1, got ", o.k);
    require(!o.beam || *o.beam >= 1, "beam must be at least 1, got ", o.beam.value_or(0));
    require(!o.edge_beam || *o.edge_beam >= 0, "edge_beam must be at least 0, got ", o.edge_beam.value_or(0));
    require(!o.min_prob || (*o.min_prob > 0 && *o.min_prob <= 1), "min_prob must be in (0, 1], got ", o.min_prob.value_or(0));
}

}  // namespace

template <Real T>
void hsoftmax_search(const HierarchyView& h, const HSoftmaxInput<T>& in, const SearchOptions& options, MatrixView<std::int64_t> classes,
                     MatrixView<T> log_probs, std::span<T> bound) {
    require_options(options);
    const std::size_t n = in.X.rows();
    detail::require_matrix("classes", classes, n, options.k);
    detail::require_matrix("log_probs", log_probs, n, options.k);
    require(bound.size() == n, "bound must have ", n, " entries, got ", bound.size());
    require_input(h, in);
    if constexpr (std::is_same_v<T, float>) {
        if (in.W.sparse() && options.beam && h.nodes() > 0) return detail::search_levels(h, in, options, classes, log_probs, bound);
    }
    const double scored =
        static_cast<double>(std::min(options.k, h.classes())) * static_cast<double>(h.depth) + static_cast<double>(h.widest);
    const int threads = detail::team_size(in.num_threads, static_cast<double>(n) * scored * (detail::entries_per_row(in.X) + 16));
    std::vector<Searcher<T>> searchers(static_cast<std::size_t>(std::max(1, threads)), Searcher<T>(h, in, options));
    constexpr std::size_t block = 16;
    detail::FirstPlace bad;
    detail::parallel_for((n + block - 1) / block, threads, [&](std::size_t item, std::size_t worker) {
        for (std::size_t i = item * block; i < std::min(n, (item + 1) * block); ++i) {
            if (!searchers[worker].run(i, classes.row(i), log_probs.row(i), &bound[i])) bad.report(i);
        }
    });
    detail::require_finite_logits(bad);
}

template void hsoftmax_search(const HierarchyView&, const HSoftmaxInput<float>&, const SearchOptions&, MatrixView<std::int64_t>,
                              MatrixView<float>, std::span<float>);
template void hsoftmax_search(const HierarchyView&, const HSoftmaxInput<double>&, const SearchOptions&, MatrixView<std::int64_t>,
                              MatrixView<double>, std::span<double>);

}  // namespace sparseops
