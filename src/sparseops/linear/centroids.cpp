// SPDX-License-Identifier: BSD-3-Clause
#include "centroids.hpp"

#include <algorithm>
#include <cmath>

#include "../detail/index.hpp"

namespace sparseops::detail {
namespace {

struct Entry {
    std::int32_t feature;
    std::uint16_t slot;
    float weight;
};

}  // namespace

template <Index I>
template <class F>
void Centroids<I>::each_row(std::size_t v, F f) const {
    const bool one_row = h_.row_count(v) == 1;
    reach_.each_child(h_, v, [&](std::size_t child, std::span<const std::uint32_t> examples) {
        f(one_row ? std::size_t{0} : child, one_row && child == 0 ? -1.0f : 1.0f, examples);
    });
}

template <Index I>
void Centroids<I>::build(std::span<const std::uint32_t> examples, std::span<const std::uint8_t> held_out) {
    for (const std::int32_t f : touched_) sum_[ix(f)] = 0;
    touched_.clear();
    for (const std::uint32_t i : examples) {
        if (!held_out.empty() && held_out[i]) continue;
        for (auto j = ix(X_.indptr[i]); j < ix(X_.indptr[i + 1]); ++j) {
            double& sum = sum_[ix(X_.indices[j])];
            if (sum == 0) touched_.push_back(static_cast<std::int32_t>(X_.indices[j]));
            sum += static_cast<double>(cost_[i]) * static_cast<double>(X_.data[j]);
        }
    }
    std::sort(touched_.begin(), touched_.end());
    touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());  // a sum may come back to 0
    double squares = 0;
    for (const std::int32_t f : touched_) squares += sum_[ix(f)] * sum_[ix(f)];
    const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
    for (const std::int32_t f : touched_) sum_[ix(f)] *= scale;
}

template <Index I>
double Centroids<I>::dot(std::size_t row) const noexcept {
    double sum = 0;
    for (auto j = ix(X_.indptr[row]); j < ix(X_.indptr[row + 1]); ++j) sum += static_cast<double>(X_.data[j]) * sum_[ix(X_.indices[j])];
    return sum;
}

template <Index I>
std::vector<float> Centroids<I>::cosines(std::size_t v, const NodeProblem& problem, std::span<const std::uint8_t> held_out, std::size_t n) {
    const std::size_t rows = h_.row_count(v);
    std::vector<float> out(n * rows, 0.0f);
    if (n == 0) return out;
    each_row(v, [&](std::size_t row, float sign, std::span<const std::uint32_t> examples) {
        build(examples, held_out);
        if (touched_.empty()) return;
        for (std::size_t i = 0; i < n; ++i) {
            out[i * rows + row] += sign * static_cast<float>(dot(problem.row(problem.training_examples() + i)));
        }
    });
    return out;
}

template <Index I>
NodeRows Centroids<I>::add_to(const NodeRows& rows, std::size_t v, float scale, float threshold) {
    std::vector<Entry> entries;
    std::size_t entry = 0;
    for (std::size_t f = 0; f < rows.feature.size(); ++f) {
        for (std::int32_t i = 0; i < rows.size[f]; ++i, ++entry) entries.push_back({rows.feature[f], rows.slot[entry], rows.weight[entry]});
    }
    each_row(v, [&](std::size_t row, float sign, std::span<const std::uint32_t> examples) {
        build(examples, {});
        for (const std::int32_t f : touched_) {
            entries.push_back({f, static_cast<std::uint16_t>(row), sign * scale * static_cast<float>(sum_[ix(f)])});
        }
    });
    std::stable_sort(entries.begin(), entries.end(),
                     [](const Entry& a, const Entry& b) { return a.feature != b.feature ? a.feature < b.feature : a.slot < b.slot; });
    NodeRows out;
    out.bias = rows.bias;
    for (std::size_t e = 0; e < entries.size();) {
        const Entry first = entries[e];
        float weight = 0;
        for (; e < entries.size() && entries[e].feature == first.feature && entries[e].slot == first.slot; ++e) weight += entries[e].weight;
        if (!(std::abs(weight) > threshold)) continue;
        if (out.feature.empty() || out.feature.back() != first.feature) {
            out.feature.push_back(first.feature);
            out.size.push_back(0);
        }
        ++out.size.back();
        out.slot.push_back(first.slot);
        out.weight.push_back(weight);
    }
    return out;
}

template class Centroids<std::int32_t>;
template class Centroids<std::int64_t>;

}  // namespace sparseops::detail
