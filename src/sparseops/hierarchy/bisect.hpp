// SPDX-License-Identifier: BSD-3-Clause
// One balanced bisection of a set of class vectors by spherical 2-means.
//
// Every sum has an order that depends on the data alone, and no multiply-add is fused: the same halves on every machine.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "../detail/parallel.hpp"
#include "../detail/random.hpp"
#include "../types.hpp"

namespace sparseops::detail {

// Eight sums side by side, so that none waits for the last, and their total in a fixed tree.
template <class T>
struct Sums8 {
    std::array<T, 8> part{};

    T total() const noexcept { return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7])); }
};

inline double sum_of_squares(const float* x, std::size_t n) noexcept {
    double sum = 0;
    for (std::size_t j = 0; j < n; ++j) sum += static_cast<double>(x[j]) * static_cast<double>(x[j]);
    return sum;
}

// Σ x[j] v[index[j]] for j < n.
template <class I>
float sparse_dot(const float* x, const I* index, std::size_t n, const float* v) noexcept {
    std::array<float, 4> sum{};
    std::size_t j = 0;
    for (; j + 4 <= n; j += 4) {
        for (std::size_t l = 0; l < 4; ++l) sum[l] += x[j + l] * v[index[j + l]];
    }
    for (std::size_t l = 0; j < n; ++j, ++l) sum[l] += x[j] * v[index[j]];
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

// v[index[j]] += scale x[j] for j < n.
template <class I>
void sparse_add(const float* x, const I* index, std::size_t n, float scale, float* v) noexcept {
    for (std::size_t j = 0; j < n; ++j) v[index[j]] += x[j] * scale;
}

// Sparse rows as class vectors.
template <Index I>
struct SparseVectors {
    CsrView<const float, I> rows;

    std::size_t classes() const noexcept { return rows.rows(); }
    std::size_t features() const noexcept { return rows.cols; }
    std::size_t entries(std::size_t c) const noexcept { return end(c) - begin(c); }
    double squares(std::size_t c) const noexcept { return sum_of_squares(rows.data.data() + begin(c), entries(c)); }
    float dot(std::size_t c, const float* v) const noexcept {
        return sparse_dot(rows.data.data() + begin(c), rows.indices.data() + begin(c), entries(c), v);
    }
    void add(std::size_t c, float scale, float* v) const noexcept {
        sparse_add(rows.data.data() + begin(c), rows.indices.data() + begin(c), entries(c), scale, v);
    }
    // f(feature, value) for each entry, in order.
    template <class F>
    void each_entry(std::size_t c, F f) const {
        for (std::size_t j = begin(c); j < end(c); ++j) f(static_cast<std::size_t>(rows.indices[j]), rows.data[j]);
    }

private:
    std::size_t begin(std::size_t c) const noexcept { return static_cast<std::size_t>(rows.indptr[c]); }
    std::size_t end(std::size_t c) const noexcept { return static_cast<std::size_t>(rows.indptr[c + 1]); }
};

// Dense rows as class vectors.
struct DenseVectors {
    MatrixView<const float> rows;

    std::size_t classes() const noexcept { return rows.rows; }
    std::size_t features() const noexcept { return rows.cols; }
    std::size_t entries(std::size_t) const noexcept { return rows.cols; }
    double squares(std::size_t c) const noexcept { return sum_of_squares(rows.row(c), rows.cols); }
    float dot(std::size_t c, const float* v) const noexcept {
        Sums8<float> sum;
        const float* x = rows.row(c);
        std::size_t j = 0;
        for (; j + 8 <= rows.cols; j += 8) {
            for (std::size_t l = 0; l < 8; ++l) sum.part[l] += x[j + l] * v[j + l];
        }
        for (std::size_t l = 0; j < rows.cols; ++j, ++l) sum.part[l] += x[j] * v[j];
        return sum.total();
    }
    void add(std::size_t c, float scale, float* v) const noexcept {
        const float* x = rows.row(c);
        for (std::size_t j = 0; j < rows.cols; ++j) v[j] += x[j] * scale;
    }
    template <class F>
    void each_entry(std::size_t c, F f) const {
        for (std::size_t j = 0; j < rows.cols; ++j) f(j, rows.row(c)[j]);
    }
};

// A copy of some sparse vectors, one after the other, whose features are numbered anew in the order in which they are met.
struct NearVectors {
    std::vector<std::size_t> ptr;
    std::vector<std::uint32_t> index;
    std::vector<float> data;
    std::vector<std::int32_t> number;  // of every feature; -1, and all between bisections: it is not met
    std::vector<std::size_t> met;      // features by their number

    float dot(std::size_t q, const float* v) const noexcept { return sparse_dot(data.data() + ptr[q], index.data() + ptr[q], size(q), v); }
    void add(std::size_t q, float scale, float* v) const noexcept {
        sparse_add(data.data() + ptr[q], index.data() + ptr[q], size(q), scale, v);
    }

private:
    std::size_t size(std::size_t q) const noexcept { return ptr[q + 1] - ptr[q]; }
};

// One thread's scratch. All of `direction` and `other` is zero between bisections.
struct BisectScratch {
    std::vector<float> direction, other, score;
    std::vector<std::uint8_t> right;
    std::vector<std::int32_t> ranked, moved;
    NearVectors near;

    explicit BisectScratch(std::size_t features) : direction(features, 0.0f), other(features, 0.0f) { near.number.assign(features, -1); }
};

// 1 / |v|, or 0 of a zero vector.
inline float inverse_norm(double squares) noexcept { return squares > 0 ? static_cast<float>(1 / std::sqrt(squares)) : 0.0f; }

template <class Vectors>
class Bisection {
public:
    // scale[c]: what gives vector c unit norm. mass: of each class, or empty for halves of equal numbers of classes.
    // With threads > 1 the parts of one bisection run in parallel.
    Bisection(const Vectors& vectors, std::span<const float> scale, std::span<const double> mass, int max_iter, int threads,
              BisectScratch& scratch)
        : z_(vectors), scale_(scale), mass_(mass), max_iter_(max_iter), threads_(threads), s_(scratch) {}

    // Splits `classes` (two at least) in two sets, each in the order it had, the left one first. Returns the size of the left one:
    // `half`, unless it is by mass.
    std::size_t split(std::span<std::int32_t> classes, std::size_t half, Draws draws) {
        classes_ = classes;
        const std::size_t m = classes.size();
        s_.score.resize(m);
        s_.right.resize(m);
        std::size_t entries = 0;
        for (const std::int32_t c : classes) entries += z_.entries(static_cast<std::size_t>(c));
        sweep_ = entries > z_.features();
        if (!sweep_) gather();
        seed(draws);
        double best = -std::numeric_limits<double>::infinity();
        for (int round = 1;; ++round) {
            score();
            clear();
            half = choose(half);
            const double gained = margin();
            if (round >= max_iter_ || gained - best <= 1e-4 * std::fabs(gained)) break;
            best = gained;
            aim();
        }
        for (const std::size_t f : s_.near.met) s_.near.number[f] = -1;
        s_.near.met.clear();
        return partition();
    }

private:
    std::size_t class_at(std::size_t q) const noexcept { return static_cast<std::size_t>(classes_[q]); }

    // Few entries beside the features: a copy in which they lie together serves all rounds.
    void gather() {
        NearVectors& near = s_.near;
        near.ptr.assign(1, 0);
        near.index.clear();
        near.data.clear();
        for (std::size_t q = 0; q < classes_.size(); ++q) {
            z_.each_entry(class_at(q), [&](std::size_t f, float x) {
                if (near.number[f] < 0) {
                    near.number[f] = static_cast<std::int32_t>(near.met.size());
                    near.met.push_back(f);
                }
                near.index.push_back(static_cast<std::uint32_t>(near.number[f]));
                near.data.push_back(x);
            });
            near.ptr.push_back(near.index.size());
        }
    }
    float dot(std::size_t q, const float* v) const noexcept { return sweep_ ? z_.dot(class_at(q), v) : s_.near.dot(q, v); }
    void add(std::size_t q, float scale, float* v) const noexcept { sweep_ ? z_.add(class_at(q), scale, v) : s_.near.add(q, scale, v); }
    std::size_t features() const noexcept { return sweep_ ? z_.features() : s_.near.met.size(); }

    // From the vector least like it among some random ones to a random one.
    void seed(Draws& draws) {
        const std::size_t m = classes_.size(), first = draws.below(m);
        std::size_t second = (first + 1) % m;
        float* const v = s_.direction.data();
        add(first, scale_[class_at(first)], v);
        float least = std::numeric_limits<float>::infinity();
        for (std::size_t tries = std::min<std::size_t>(m, 32); tries > 0; --tries) {
            const std::size_t q = draws.below(m);
            if (q == first) continue;
            const float likeness = dot(q, v) * scale_[class_at(q)];
            if (likeness < least) {
                least = likeness;
                second = q;
            }
        }
        add(second, -scale_[class_at(second)], v);
    }

    void score() {
        constexpr std::size_t block = 512;
        const std::size_t m = classes_.size();
        parallel_for((m + block - 1) / block, threads_, [&](std::size_t item, std::size_t) {
            for (std::size_t q = item * block; q < std::min(m, (item + 1) * block); ++q) {
                s_.score[q] = dot(q, s_.direction.data()) * scale_[class_at(q)];
            }
        });
    }

    void clear() { std::fill_n(s_.direction.begin(), features(), 0.0f); }

    // Marks which go right: those of the lowest scores; among equals, the later ones. Returns how many go left.
    std::size_t choose(std::size_t half) {
        const std::size_t m = classes_.size();
        s_.ranked.resize(m);
        for (std::size_t q = 0; q < m; ++q) s_.ranked[q] = static_cast<std::int32_t>(q);
        const auto before = [&](std::int32_t a, std::int32_t b) {
            const float x = s_.score[static_cast<std::size_t>(a)], y = s_.score[static_cast<std::size_t>(b)];
            return x > y || (x == y && a < b);
        };
        if (mass_.empty()) {
            std::nth_element(s_.ranked.begin(), s_.ranked.begin() + static_cast<std::ptrdiff_t>(half), s_.ranked.end(), before);
        } else {
            std::sort(s_.ranked.begin(), s_.ranked.end(), before);
            half = half_of_mass();
        }
        for (std::size_t i = 0; i < m; ++i) s_.right[static_cast<std::size_t>(s_.ranked[i])] = i >= half;
        return half;
    }

    // How many of the ranked classes hold about half of the mass; a sixteenth of the classes at least, so that depth has a bound.
    std::size_t half_of_mass() const {
        const std::size_t m = classes_.size(), least = std::max<std::size_t>(1, m / 16);
        const auto mass = [&](std::size_t i) { return mass_[class_at(static_cast<std::size_t>(s_.ranked[i]))]; };
        double all = 0, left = 0;
        for (std::size_t i = 0; i < m; ++i) all += mass(i);
        std::size_t half = 0;
        while (half < m && left + mass(half) / 2 < all / 2) left += mass(half++);
        return std::clamp(half, least, m - least);
    }

    // The mean distance of the scores from the plane between the halves, but for a constant.
    double margin() const {
        double sum = 0;
        for (std::size_t q = 0; q < classes_.size(); ++q)
            sum += s_.right[q] ? -static_cast<double>(s_.score[q]) : static_cast<double>(s_.score[q]);
        return sum / static_cast<double>(classes_.size());
    }

    // direction = the unit mean of the left less that of the right.
    void aim() {
        float* const side[2] = {s_.direction.data(), s_.other.data()};
        parallel_for(2, sweep_ ? threads_ : 1, [&](std::size_t right, std::size_t) {
            for (std::size_t q = 0; q < classes_.size(); ++q) {
                if (s_.right[q] == right) add(q, scale_[class_at(q)], side[right]);
            }
        });
        const std::size_t n = features();
        Sums8<double> left, right;
        for (std::size_t i = 0; i < n; ++i) {
            const double a = static_cast<double>(s_.direction[i]), b = static_cast<double>(s_.other[i]);
            left.part[i % 8] += a * a;
            right.part[i % 8] += b * b;
        }
        const float a = inverse_norm(left.total()), b = inverse_norm(right.total());
        for (std::size_t i = 0; i < n; ++i) {
            s_.direction[i] = s_.direction[i] * a - s_.other[i] * b;
            s_.other[i] = 0;
        }
    }

    std::size_t partition() {
        const std::size_t m = classes_.size();
        s_.moved.clear();
        for (const bool right : {false, true}) {
            for (std::size_t q = 0; q < m; ++q) {
                if ((s_.right[q] != 0) == right) s_.moved.push_back(classes_[q]);
            }
        }
        std::copy(s_.moved.begin(), s_.moved.end(), classes_.begin());
        return m - static_cast<std::size_t>(std::count(s_.right.begin(), s_.right.end(), std::uint8_t{1}));
    }

    const Vectors& z_;
    std::span<const float> scale_;
    std::span<const double> mass_;
    int max_iter_, threads_;
    BisectScratch& s_;
    std::span<std::int32_t> classes_;
    bool sweep_ = false;
};

}  // namespace sparseops::detail
