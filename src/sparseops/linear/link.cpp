// SPDX-License-Identifier: BSD-3-Clause
#include "link.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "../detail/index.hpp"
#include "../kernels/kernels.hpp"

namespace sparseops::detail {
namespace {

constexpr std::size_t least_examples = 50;
constexpr std::size_t enough_examples = 200;  // a depth with fewer is fitted together with the one above
constexpr double least_temperature = 0.25, most_temperature = 64, most_term = 1024;

// A term must lower the mean loss of the examples by this much. One fitted to a few hundred of them gains less by chance.
constexpr double least_gain = 0.01;

// The held-out examples are easier than new ones for a tree that was clustered with them, and they say nothing of nodes off their
// path, where a class of the wrong node should not look too likely. On training rows of WordNet that the tree did not know either, 0.9
// of what they ask for has the least loss, and 0.8 a P@1 that is 0.8 points higher for 0.05 of loss.
constexpr double caution = 0.8;

struct Point {
    double temperature, term;
};

// The weighted -log P of examples, and its derivatives in temperature and term. It is convex.
struct Loss {
    double value = 0, slope[2] = {0, 0}, curve[3] = {0, 0, 0};
};

// Adds up nodes; keeps its scratch from call to call.
class Objective {
public:
    explicit Objective(std::vector<const HeldOut*> nodes) : nodes_(std::move(nodes)) {
        for (const HeldOut* node : nodes_) {
            for (const float c : node->cost) cost_ += static_cast<double>(c);
            has_terms_ = has_terms_ || !node->cosines.empty();
        }
    }
    double cost() const noexcept { return cost_; }
    bool has_terms() const noexcept { return has_terms_; }

    Loss at(const Point& point) {
        Loss sum;
        for (const HeldOut* node : nodes_) {
            for (std::size_t i = 0; i < node->examples(); ++i) add(*node, i, point, sum);
        }
        return sum;
    }

private:
    void add(const HeldOut& node, std::size_t i, const Point& point, Loss& sum) {
        const std::size_t n = node.rows;
        const float* const score = node.scores.data() + i * n;
        const float* const cosine = node.cosines.empty() ? nullptr : node.cosines.data() + i * n;
        logit_.resize(n);
        loss_.resize(n);
        chance_.resize(n);
        for (std::size_t k = 0; k < n; ++k) {
            logit_[k] = point.temperature * static_cast<double>(score[k]);
            if (cosine) logit_[k] += point.term * static_cast<double>(cosine[k]);
        }
        target_.assign(n, 0.0);
        for (std::size_t p = node.positive_ptr[i]; p < node.positive_ptr[i + 1]; ++p) target_[node.positive[p]] = 1;
        double value = 0;
        if (node.apart) {
            kernels<double>().logistic_loss(logit_.data(), target_.data(), n, loss_.data(), chance_.data());
            for (std::size_t k = 0; k < n; ++k) value += loss_[k], chance_[k] += target_[k];
        } else {
            kernels<double>().softmax_nll(logit_.data(), n, loss_.data(), chance_.data());
            for (std::size_t p = node.positive_ptr[i]; p < node.positive_ptr[i + 1]; ++p) value += loss_[node.positive[p]];
        }
        const double cost = static_cast<double>(node.cost[i]);
        double slope[2] = {0, 0}, mean[2] = {0, 0}, curve[3] = {0, 0, 0};
        for (std::size_t k = 0; k < n; ++k) {
            const double s = static_cast<double>(score[k]), t = cosine ? static_cast<double>(cosine[k]) : 0, p = chance_[k];
            const double weight = node.apart ? p * (1 - p) : p;
            slope[0] += (p - target_[k]) * s;
            slope[1] += (p - target_[k]) * t;
            mean[0] += p * s;
            mean[1] += p * t;
            curve[0] += weight * s * s;
            curve[1] += weight * s * t;
            curve[2] += weight * t * t;
        }
        if (!node.apart) {
            curve[0] -= mean[0] * mean[0];
            curve[1] -= mean[0] * mean[1];
            curve[2] -= mean[1] * mean[1];
        }
        sum.value += cost * value;
        for (int j = 0; j < 2; ++j) sum.slope[j] += cost * slope[j];
        for (int j = 0; j < 3; ++j) sum.curve[j] += cost * curve[j];
    }

    std::vector<const HeldOut*> nodes_;
    std::vector<double> logit_, loss_, chance_, target_;
    double cost_ = 0;
    bool has_terms_ = false;
};

Point inside(Point p) { return {std::clamp(p.temperature, least_temperature, most_temperature), std::clamp(p.term, 0.0, most_term)}; }

// The Newton step of the loss, along the temperature alone or both.
Point newton_step(const Loss& loss, bool both) {
    const double small = 1e-9 * (loss.curve[0] + loss.curve[2]), a = loss.curve[0] + small, c = loss.curve[2] + small;
    if (!(a > 0)) return {0, 0};
    if (!both) return {loss.slope[0] / a, 0};
    const double b = loss.curve[1], determinant = a * c - b * b;
    if (!(determinant > 0)) return {loss.slope[0] / a, 0};
    return {(c * loss.slope[0] - b * loss.slope[1]) / determinant, (a * loss.slope[1] - b * loss.slope[0]) / determinant};
}

struct Minimum {
    Point point;
    double loss;
};

// Newton's method with halved steps, inside the bounds.
Minimum minimize(Objective& objective, Point start, bool both) {
    constexpr int most_steps = 50, most_halvings = 30;
    Point at = start;
    Loss loss = objective.at(at);
    for (int step = 0; step < most_steps; ++step) {
        const Point d = newton_step(loss, both);
        double scale = 1;
        Point next = at;
        Loss lower = loss;
        for (int halving = 0; halving < most_halvings; ++halving, scale /= 2) {
            next = inside({at.temperature - scale * d.temperature, at.term - scale * d.term});
            lower = objective.at(next);
            if (lower.value < loss.value) break;
        }
        if (!(lower.value < loss.value)) break;
        const bool near = loss.value - lower.value < 1e-9 * loss.value;
        at = next;
        loss = lower;
        if (near) break;
    }
    return {at, loss.value};
}

Link fit(Objective& objective, double factor) {
    const Minimum plain = minimize(objective, {3, 0}, false);
    Minimum best = plain;
    if (objective.has_terms()) {
        const Minimum with = minimize(objective, plain.point, true);
        if (plain.loss - with.loss > least_gain * objective.cost()) best = with;
    }
    return {static_cast<float>(factor * best.point.temperature), static_cast<float>(factor * best.point.term)};
}

}  // namespace

HeldOut held_out_scores(const HierarchyView& h, std::size_t v, const NodeProblem& problem, const std::vector<SolvedRows>& blocks,
                        double share) {
    HeldOut out;
    out.rows = h.row_count(v);
    out.apart = out.rows == 1 || h.independent;
    const std::size_t n = scored_examples(problem, share);
    out.scores.reserve(n * out.rows);
    out.positive_ptr.push_back(0);
    for (std::size_t i = 0; i < n; ++i) {
        for (const SolvedRows& block : blocks) {
            const auto first = block.held_out.begin() + static_cast<std::ptrdiff_t>(i * block.bias.size());
            out.scores.insert(out.scores.end(), first, first + static_cast<std::ptrdiff_t>(block.bias.size()));
        }
        const std::size_t example = problem.training_examples() + i;
        out.cost.push_back(problem.view().cost[example]);
        const auto positives = problem.positives(example);
        out.positive.insert(out.positive.end(), positives.begin(), positives.end());
        out.positive_ptr.push_back(out.positive.size());
    }
    return out;
}

std::vector<Link> fit_links(const HierarchyView& h, std::span<const HeldOut* const> nodes, std::span<const float> usual, bool clustered) {
    std::vector<std::vector<const HeldOut*>> at(usual.size());
    std::vector<std::size_t> examples(usual.size(), 0);
    for (std::size_t v = 0; v < nodes.size(); ++v) {
        const std::size_t d = ix(h.level[v]);
        at[d].push_back(nodes[v]);
        examples[d] += nodes[v]->examples();
    }
    std::vector<Link> links;
    for (const float temperature : usual) links.push_back({temperature, 0});
    for (std::size_t end = usual.size(); end > 0;) {
        std::size_t first = end - 1, together = examples[first];
        std::vector<const HeldOut*> group = at[first];
        while (together < enough_examples && first > 0) {
            --first;
            together += examples[first];
            group.insert(group.end(), at[first].begin(), at[first].end());
        }
        if (together >= least_examples) {
            Objective objective(std::move(group));
            std::fill(links.begin() + static_cast<std::ptrdiff_t>(first), links.begin() + static_cast<std::ptrdiff_t>(end),
                      fit(objective, clustered ? caution : 1));
        }
        end = first;
    }
    return links;
}

}  // namespace sparseops::detail
