// SPDX-License-Identifier: BSD-3-Clause
// The state of a search for one row of X: its best results so far, and a bound on the likelihood of all it left out.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "../hierarchy.hpp"
#include "../search.hpp"
#include "../types.hpp"

namespace sparseops::detail {

// `key` orders: the log-probability as it is returned, rounded to T; `log_p` carries the digits on.
template <Real T>
struct Found {
    T key;
    std::int64_t id;
    double log_p;
};

// a before b in the result: likelier, or as likely with the lower id.
template <Real T>
struct Better {
    bool operator()(const Found<T>& a, const Found<T>& b) const noexcept { return a.key != b.key ? a.key > b.key : a.id < b.id; }
};

// Whether all children are classes.
inline bool all_classes(std::span<const std::int32_t> children) noexcept {
    std::int32_t signs = -1;
    for (const std::int32_t child : children) signs &= child;
    return signs < 0;
}

// An inner node that is not expanded yet.
template <Real T>
struct Open {
    double log_p;
    T key;
    std::int32_t node;
};

// a before b in a beam; NaN after all numbers, so that it is an order, whatever the keys.
template <Real T>
struct Likelier {
    bool operator()(const Open<T>& a, const Open<T>& b) const noexcept {
        if (const bool lost = a.key != a.key; lost != (b.key != b.key)) return !lost;
        return a.key > b.key || (!(a.key < b.key) && a.node < b.node);
    }
};

// A step from a node of this log-probability that is smaller leads below `worst`, rounding included. NaN, which none is below, if both
// are -inf.
template <Real T>
T least_step(T worst, double log_p) noexcept {
    const double slack = 4e-7 * (1 + std::abs(static_cast<double>(worst)) + std::abs(log_p));
    return static_cast<T>(static_cast<double>(worst) - log_p - slack);
}

// least = f(j) for the j in [0, n) of the groups of sixteen that have a step[j] not below `least`: most are passed over.
template <Real T, class F>
void each_not_below(const T* step, std::size_t n, T least, F f) {
    constexpr std::size_t some = 16;
    for (std::size_t from = 0; from < n; from += some) {
        const std::size_t end = std::min(n, from + some);
        std::uint32_t any = end - from < some;
        if (!any) {
            for (std::size_t j = 0; j < some; ++j) any |= !(step[from + j] < least);
        }
        for (std::size_t j = from; any && j < end; ++j) least = f(j);
    }
}

template <Real T>
class Results {
public:
    Results(const HierarchyView& h, const SearchOptions& options)
        : h_(h),
          options_(options),
          limit_(std::min(options.k, h.classes() + (options.nodes ? h.nodes() : 0))),
          least_step_(options.edge_beam ? -std::nextafter(*options.edge_beam, -1.0) : -std::numeric_limits<double>::infinity()) {}

    void clear() {
        found_.clear();
        best_left_ = worst_ = -std::numeric_limits<T>::infinity();
    }
    std::size_t limit() const noexcept { return limit_; }
    std::span<const Found<T>> found() const noexcept { return found_; }  // in no order
    T worst() const noexcept { return worst_; }                          // of as many results as are wanted; -inf while they are fewer

    // Few results so far are kept in order, best first, many as a heap with the worst on top.
    void offer(const Found<T>& candidate) {
        if (limit_ <= few) return insert(candidate);
        if (found_.size() == limit_) {
            if (!Better<T>()(candidate, found_.front())) return;
            std::pop_heap(found_.begin(), found_.end(), Better<T>());
            found_.back() = candidate;
        } else {
            found_.push_back(candidate);
        }
        std::push_heap(found_.begin(), found_.end(), Better<T>());
        if (found_.size() == limit_) worst_ = found_.front().key;
    }

    void leave(T key) { best_left_ = std::max(best_left_, key); }

    // A child of an expanded node becomes a result, is left, or goes to push(Open).
    template <class Push>
    void take_child(const Open<T>& node, std::int32_t child, T log_p, Push push) {
        const double step = static_cast<double>(log_p), total = node.log_p + step;
        const T key = static_cast<T>(total);
        if (!(step >= least_step_)) {  // without an edge beam a step of probability 0 stays
            leave(key);
        } else if (key < worst_) {  // neither it nor what lies below it can be a result
            if (child >= 0) leave(key);
        } else if (child < 0) {
            offer({key, ~child, total});
        } else {
            if (options_.nodes) offer({key, static_cast<std::int64_t>(h_.classes()) + child, total});
            push(Open<T>{total, key, child});
        }
    }

    // Children that are classes and whose step from this node is smaller need not be taken: they change nothing.
    T least(const Open<T>& node) const noexcept {
        return options_.edge_beam ? -std::numeric_limits<T>::infinity() : least_step(worst_, node.log_p);
    }

    // The k results, best first, and the bound; with min_prob, log_p(v) gives log P(child | x) of the children of v.
    template <class LogP>
    void write(std::int64_t* classes, T* log_probs, T* bound, LogP log_p) {
        if (limit_ > few) std::sort_heap(found_.begin(), found_.end(), Better<T>());
        if (options_.min_prob) climb(std::log(*options_.min_prob), log_p);
        for (std::size_t j = 0; j < options_.k; ++j) {
            classes[j] = j < found_.size() ? found_[j].id : -1;
            log_probs[j] = j < found_.size() ? found_[j].key : -std::numeric_limits<T>::infinity();
        }
        *bound = best_left_;
    }

private:
    static constexpr std::size_t few = 16;

    void insert(const Found<T>& candidate) {
        std::size_t at = found_.size();
        if (at < limit_)
            found_.push_back(candidate);
        else if (!Better<T>()(candidate, found_[--at]))
            return;
        for (; at > 0 && Better<T>()(candidate, found_[at - 1]); --at) found_[at] = found_[at - 1];
        found_[at] = candidate;
        if (found_.size() == limit_) worst_ = found_.back().key;
    }

    // Replaces each result by the deepest node above it, itself included, that is as likely as asked; repeats go.
    template <class LogP>
    void climb(double least, LogP log_p) {
        std::vector<Found<T>> kept;
        for (const Found<T>& found : found_) {
            const Found<T> at = found.log_p >= least ? found : ancestor(found, least, log_p);
            if (std::none_of(kept.begin(), kept.end(), [&](const Found<T>& other) { return other.id == at.id; })) kept.push_back(at);
        }
        std::sort(kept.begin(), kept.end(), Better<T>());  // what climbed further is likelier
        found_.swap(kept);
    }

    template <class LogP>
    Found<T> ancestor(const Found<T>& found, double least, LogP log_p) {
        const auto classes = static_cast<std::int64_t>(h_.classes());
        std::int32_t c = static_cast<std::int32_t>(found.id - classes);  // a class below the result
        if (found.id < classes) c = ~static_cast<std::int32_t>(found.id);
        while (c >= 0) c = h_.children(static_cast<std::size_t>(c)).front();
        const auto path = h_.path_nodes(static_cast<std::size_t>(~c)), steps = h_.path_children(static_cast<std::size_t>(~c));
        Found<T> at{T(0), classes + path[0], 0.0};
        for (std::size_t d = 0; d + 1 < path.size(); ++d) {
            const double below =
                at.log_p + static_cast<double>(log_p(static_cast<std::size_t>(path[d]))[static_cast<std::size_t>(steps[d])]);
            if (below < least) break;
            at = {static_cast<T>(below), classes + path[d + 1], below};
        }
        return at;
    }

    const HierarchyView& h_;
    const SearchOptions& options_;
    std::size_t limit_;
    double least_step_;  // log P of the least likely step that is looked at
    std::vector<Found<T>> found_;
    T best_left_ = 0, worst_ = 0;
};

}  // namespace sparseops::detail
