// SPDX-License-Identifier: BSD-3-Clause
// Trees by balanced 2-means.
#include "../cluster.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "../detail/csr_rows.hpp"
#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "bisect.hpp"
#include "shape.hpp"

namespace sparseops {
namespace {

using detail::require;

// A set of classes, order[begin .. end): first those with a vector, then the others.
struct Part {
    std::size_t begin = 0, vectors_end = 0, end = 0;
    int depth = 0;                    // bisections above it
    std::size_t left = 0, right = 0;  // its halves; 0: it has none

    std::size_t size() const noexcept { return end - begin; }
};

void require_options(const ClusterOptions& o, std::size_t classes) {
    require(classes >= 1, "vectors must not be empty");
    require(classes <= static_cast<std::size_t>(detail::max_classes), "vectors must have at most ", detail::max_classes, " rows, got ",
            classes);
    require(o.arity >= 2 && std::has_single_bit(static_cast<unsigned>(o.arity)), "arity must be a power of two, got ", o.arity);
    require(o.leaf >= 1, "leaf must be at least 1, got ", o.leaf);
    require(o.max_iter >= 1, "max_iter must be at least 1, got ", o.max_iter);
    require(o.balance != Balance::mass || !o.counts.empty(), "counts must be given for a balance by mass");
    if (o.counts.empty()) return;
    detail::require_counts(o.counts);
    require(o.counts.size() == classes, "counts must have ", classes, " entries, got ", o.counts.size());
}

bool by_mass(const ClusterOptions& o) {
    if (o.balance != Balance::automatic || o.counts.empty()) return o.balance == Balance::mass;
    const double all = std::accumulate(o.counts.begin(), o.counts.end(), 0.0);
    return all > 0 && *std::max_element(o.counts.begin(), o.counts.end()) > all / 20;
}

template <class Vectors>
class Clustering {
public:
    Clustering(const Vectors& vectors, const ClusterOptions& options, int num_threads)
        : z_(vectors), o_(options), scale_(vectors.classes()) {
        std::size_t entries = 0;
        for (std::size_t c = 0; c < z_.classes(); ++c) entries += z_.entries(c);
        threads_ = detail::team_size(num_threads, 20.0 * static_cast<double>(entries));
        if (by_mass(o_)) mass_ = o_.counts;
    }

    Hierarchy run() {
        measure();
        halve();
        return detail::complete(layers(), z_.classes(), true);
    }

private:
    void measure() {
        detail::FirstPlace overflown;
        detail::parallel_for(z_.classes(), threads_, [&](std::size_t c, std::size_t) {
            const double squares = z_.squares(c);
            scale_[c] = detail::inverse_norm(squares);
            if (squares > 0 && !(scale_[c] > 0 && std::isfinite(scale_[c]))) overflown.report(c);
        });
        if (overflown.any()) detail::refuse("vectors must have norms between 1e-38 and 1e38, got another at row ", overflown.place());
        order_.reserve(z_.classes());
        for (const bool zero : {false, true}) {
            for (std::size_t c = 0; c < z_.classes(); ++c) {
                if ((scale_[c] == 0) == zero) order_.push_back(static_cast<std::int32_t>(c));
            }
            if (!zero) with_vector_ = order_.size();
        }
    }

    // Whether a set is to be halved: until all have about `leaf` classes.
    bool is_wide(const Part& part) const {
        if (part.size() < 2) return false;
        const double times = static_cast<double>(z_.classes()) / static_cast<double>(o_.leaf);
        if (mass_.empty()) return part.depth < std::lround(std::log2(std::max(1.0, times)));
        return static_cast<double>(part.size()) > std::sqrt(2.0) * static_cast<double>(o_.leaf);
    }

    void halve() {
        parts_.push_back({0, with_vector_, z_.classes()});
        std::vector<detail::BisectScratch> scratch(static_cast<std::size_t>(std::max(1, threads_)), detail::BisectScratch(z_.features()));
        for (std::size_t first = 0; first < parts_.size();) {  // the parts of one depth
            const std::size_t last = parts_.size();
            std::vector<std::size_t> wide;
            for (std::size_t p = first; p < last; ++p) {
                if (is_wide(parts_[p])) wide.push_back(p);
            }
            std::vector<std::size_t> left(wide.size());  // how many classes with a vector go left
            const auto bisect = [&](std::size_t i, std::size_t worker, int threads) {
                left[i] = split(parts_[wide[i]], wide[i], threads, scratch[worker]);
            };
            if (wide.size() < static_cast<std::size_t>(threads_)) {
                for (std::size_t i = 0; i < wide.size(); ++i) bisect(i, 0, threads_);
            } else {
                detail::parallel_for(wide.size(), threads_, [&](std::size_t i, std::size_t worker) { bisect(i, worker, 1); });
            }
            for (std::size_t i = 0; i < wide.size(); ++i) append_halves(wide[i], left[i]);
            first = last;
        }
    }

    std::size_t split(const Part& part, std::size_t number, int threads, detail::BisectScratch& scratch) {
        const std::size_t n = part.vectors_end - part.begin;
        if (n < 2) return n;
        detail::Bisection<Vectors> bisection(z_, scale_, mass_, o_.max_iter, threads, scratch);
        // the number of a part is that of the level and the place in it: parts are numbered level by level
        return bisection.split(std::span(order_).subspan(part.begin, n), n / 2, detail::Draws(o_.seed, detail::Stream::cluster, number));
    }

    // Replaces [left vectors, right vectors, others] by [left vectors, left others, right vectors, right others].
    void append_halves(std::size_t p, std::size_t left_vectors) {
        const Part part = parts_[p];
        const std::size_t vectors = part.vectors_end - part.begin, others = part.end - part.vectors_end;
        const std::size_t floor_half = part.size() / 2 - std::min(part.size() / 2, left_vectors);
        const std::size_t left_others = mass_.empty() ? std::min(others, floor_half) : others / 2;
        const auto at = [&](std::size_t i) { return order_.begin() + static_cast<std::ptrdiff_t>(i); };
        std::rotate(at(part.begin + left_vectors), at(part.vectors_end), at(part.vectors_end + left_others));
        const std::size_t middle = part.begin + left_vectors + left_others;
        parts_[p].left = parts_.size();
        parts_.push_back({part.begin, part.begin + left_vectors, middle, part.depth + 1});
        parts_[p].right = parts_.size();
        parts_.push_back({middle, middle + (vectors - left_vectors), part.end, part.depth + 1});
    }

    // Every log2(arity) halvings are one layer of nodes; the last layer may be of fewer.
    detail::Shape layers() const {
        const int bits = std::countr_zero(static_cast<unsigned>(o_.arity));
        detail::Shape shape;
        std::vector<std::int32_t> made(parts_.size(), 0);
        std::vector<std::size_t> stack;
        for (std::size_t p = parts_.size(); p-- > 0;) {  // halves come after what they are halves of
            const Part& part = parts_[p];
            if (part.left == 0) {
                for (std::size_t i = part.begin; i < part.end && part.size() > 1; ++i) shape.child.push_back(~order_[i]);
                made[p] = part.size() > 1 ? shape.close_node() : ~order_[part.begin];
            } else if (part.depth % bits == 0) {
                stack.assign({part.right, part.left});
                while (!stack.empty()) {
                    const std::size_t below = stack.back();
                    stack.pop_back();
                    if (parts_[below].left == 0 || parts_[below].depth == part.depth + bits) {
                        shape.child.push_back(made[below]);
                    } else {
                        stack.push_back(parts_[below].right);
                        stack.push_back(parts_[below].left);
                    }
                }
                made[p] = shape.close_node();
            }
        }
        shape.root = made[0];
        return shape;
    }

    const Vectors& z_;
    const ClusterOptions& o_;
    int threads_ = 1;
    std::span<const double> mass_;
    std::vector<float> scale_;
    std::vector<std::int32_t> order_;
    std::size_t with_vector_ = 0;
    std::vector<Part> parts_;
};

}  // namespace

template <Index I>
Hierarchy cluster(CsrView<const float, I> vectors, const ClusterOptions& options, int num_threads) {
    detail::require_csr_rows(vectors, "vectors", num_threads);
    require_options(options, vectors.rows());
    return Clustering(detail::SparseVectors<I>{vectors}, options, num_threads).run();
}

Hierarchy cluster(MatrixView<const float> vectors, const ClusterOptions& options, int num_threads) {
    detail::require_data("vectors", vectors.data, vectors.size());
    for (std::size_t j = 0; j < vectors.size(); ++j) {
        require(std::isfinite(vectors.data[j]), "vectors must be finite, got ", vectors.data[j], " at row ", j / vectors.cols, ", column ",
                j % vectors.cols);
    }
    require_options(options, vectors.rows);
    return Clustering(detail::DenseVectors{vectors}, options, num_threads).run();
}

template Hierarchy cluster(CsrView<const float, std::int32_t>, const ClusterOptions&, int);
template Hierarchy cluster(CsrView<const float, std::int64_t>, const ClusterOptions&, int);

}  // namespace sparseops
