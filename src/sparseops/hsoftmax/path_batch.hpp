// SPDX-License-Identifier: BSD-3-Clause
// A batch on a tree with narrow nodes: one example after the other, with all rows on its path.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "../kernels/prefetch.hpp"
#include "batch.hpp"
#include "node_sums.hpp"
#include "walk_sums.hpp"

namespace sparseops::detail {

// Rows of the widest node up to which examples are scored path by path. Up to 12 takes the same time.
constexpr std::size_t max_path_rows = 8;

template <Real T>
class PathBatch {
public:
    explicit PathBatch(Batch<T>& batch)
        : batch_(batch),
          h_(batch.h),
          chunk_(std::clamp<std::size_t>(batch.size / (16 * block_) * block_, 32, 128)),
          workers_(ix(std::max(1, batch.threads))) {
        const std::size_t longest = batch.longest_path();
        if (batch.out.gradient) sums_.emplace(batch.plan, chunk_, batch.dim, longest, batch.threads, !batch.out.sink);
        if (sums_ && !sums_->fits()) sums_.reset();
        takes_rows_ = sums_ && batch.out.sink;
        for (Worker& worker : workers_) {
            worker.products.resize(longest + 3);  // as many as `Scorer::path` may overwrite
            worker.rows.resize(h_.logistic ? 0 : longest * block_);
        }
        if (batch.out.gradient && batch.in.residuals.empty() && batch.score.has_half_rows()) make_room_for_widened(longest);
        batch.allocate(batch.out.gradient && !takes_rows_, batch.out.residuals.empty() ? block_ : chunk_, workers_);
    }

    std::size_t chunks() const { return (batch_.size + chunk_ - 1) / chunk_; }
    std::size_t workers() const { return workers_.size(); }
    Scratch<T>& scratch(std::size_t worker) { return workers_[worker]; }

    void score(std::size_t c, std::size_t w) {
        Worker& worker = workers_[w];
        if (takes_rows_) sums_->begin(c, w);
        for (std::size_t first = c * chunk_; first < last(c); first += block_) {
            const std::size_t end = std::min(last(c), first + block_);
            batch_.begin_part(first, worker);
            list_rows(first, end, worker);
            if (batch_.in.residuals.empty()) compute_logits(first, end, worker);
            if (!batch_.check(first, end, worker)) return;
            if (!batch_.out.residuals.empty()) continue;  // losses overwrite logits, so they wait until these are copied
            batch_.losses(first, end, worker);
            if (batch_.out.gradient) input_gradients(first, end, worker);
            for (std::size_t s = first; s < end && takes_rows_; ++s) add(c, s, first, *batch_.out.sink, w);
        }
        if (takes_rows_) sums_->end(c, *batch_.out.sink, w);
    }

    void losses(std::size_t c, std::size_t w) {
        batch_.begin_part(c * chunk_, workers_[w]);
        batch_.losses(c * chunk_, last(c), workers_[w]);
    }

    void sum_rows(const GradientSink<T>& sink) {
        if (!sums_) return NodeSums<T>(batch_.plan, batch_.X, batch_.kept_logits.get(), batch_.threads).run(sink);
        if (!takes_rows_) parallel_for(chunks(), batch_.threads, [&](std::size_t c, std::size_t w) { sum_chunk(c, w, sink); });
        sums_->join(sink);
    }

private:
    static constexpr std::size_t block_ = 16;             // examples that go through all steps while what they read is in the caches
    static constexpr std::size_t prefetch_distance_ = 4;  // in examples: a path's rows take as long to come as four paths to score

    struct Worker : Scratch<T> {
        std::vector<std::int32_t> rows;  // on the paths of a block
        // Rows of 16 bits that several examples of a block pass are widened once: those rows, and which are on its paths.
        std::unique_ptr<T[]> widened;
        std::vector<std::int32_t> place;
    };

    void make_room_for_widened(std::size_t longest) {
        std::size_t most = 0;
        for (std::size_t first = 0; first < batch_.size; first += block_) {
            std::size_t rows = batch_.at(std::min(batch_.size, first + block_)) - batch_.at(first);
            for (std::size_t s = first + 1; s < std::min(batch_.size, first + block_); ++s) rows -= ix(batch_.plan.shared_rows()[s]);
            most = std::max(most, rows);
        }
        for (Worker& worker : workers_) {
            worker.widened = std::make_unique_for_overwrite<T[]>(most * batch_.dim);
            worker.place.resize(longest * block_);
        }
        widens_ = true;
    }

    // Widens the rows on the way of example s that are not on that of the one before; returns the places of all of them. `next`: of
    // the first that is free.
    const std::int32_t* widen_path(std::size_t s, std::size_t first, std::span<const std::int32_t> rows, std::size_t& next,
                                   Worker& worker) {
        std::int32_t* const place = worker.place.data() + (batch_.at(s) - batch_.at(first));
        std::size_t d = 0;
        if (s > first) {
            d = ix(batch_.plan.shared_rows()[s]);
            std::memcpy(place, worker.place.data() + (batch_.at(s - 1) - batch_.at(first)), d * sizeof *place);
        }
        for (; d < rows.size(); ++d, ++next) {
            place[d] = static_cast<std::int32_t>(next);
            batch_.score.widen(ix(rows[d]), worker.widened.get() + next * batch_.dim);
        }
        return place;
    }

    std::size_t last(std::size_t c) const { return std::min(batch_.size, (c + 1) * chunk_); }

    // The rows on the paths of a block's examples. Where all nodes are logistic, row v belongs to node v.
    void list_rows(std::size_t first, std::size_t end, Worker& worker) const {
        if (h_.logistic) return;
        std::int32_t* to = worker.rows.data();
        for (std::size_t s = first; s < end; ++s) {
            for (const std::int32_t v : batch_.path(s)) {
                for (std::size_t j = 0; j < h_.row_count(ix(v)); ++j) *to++ = static_cast<std::int32_t>(h_.row(ix(v)) + j);
            }
        }
    }
    std::span<const std::int32_t> path_rows(std::size_t s, std::size_t first, const Worker& worker) const {
        if (h_.logistic) return batch_.path(s);
        return {worker.rows.data() + (batch_.at(s) - batch_.at(first)), batch_.at(s + 1) - batch_.at(s)};
    }

    void compute_logits(std::size_t first, std::size_t end, Worker& worker) {
        T* products = worker.products.data();
        const std::span<const T> b = batch_.in.b;
        std::size_t widened = 0;
        for (std::size_t s = first; s < end; ++s) {
            prefetch_path(s + prefetch_distance_);
            const auto rows = path_rows(s, first, worker);
            T* z = batch_.logits(s, worker);
            if (widens_)
                batch_.k.path_dots(batch_.X.row(batch_.example(s)), worker.widened.get(), widen_path(s, first, rows, widened, worker),
                                   rows.size(), batch_.dim, products);
            else
                batch_.score.path(batch_.example(s), rows.data(), rows.size(), products);
            if (b.empty())
                std::memcpy(z, products, rows.size() * sizeof(T));
            else
                for (std::size_t d = 0; d < rows.size(); ++d) z[d] = products[d] + b[ix(rows[d])];
        }
    }

    void input_gradients(std::size_t first, std::size_t end, const Worker& worker) {
        const std::size_t dim = batch_.dim;
        for (std::size_t s = first; s < end; ++s) {
            const auto rows = path_rows(s, first, worker);
            T* const dX = batch_.out.dX + batch_.example(s) * dim;
            if (widens_)
                batch_.k.weighted_sum(batch_.logits(s, worker), 1,
                                      {worker.widened.get(), dim, worker.place.data() + (batch_.at(s) - batch_.at(first))}, rows.size(),
                                      dim, false, dX);
            else
                batch_.score.path_sum(batch_.logits(s, worker), rows.data(), rows.size(), dX);
        }
    }

    // Memory of example s that the one before it does not touch; and the path of an example as far ahead again.
    void prefetch_path(std::size_t s) const {
        if (s >= batch_.size) return;
        const std::size_t later = batch_.label(std::min(batch_.size - 1, s + prefetch_distance_));
        prefetch(h_.path_nodes(later).data(), h_.path_nodes(later).size());
        prefetch(h_.path_children(later).data(), h_.path_children(later).size());
        batch_.score.prefetch_input(batch_.example(s));
        if (batch_.out.gradient) prefetch_to_write(batch_.out.dX + batch_.example(s) * batch_.dim, batch_.dim);
        each_new_row(s, [&](std::size_t row) {
            batch_.score.prefetch(row);
            if (!batch_.in.b.empty()) prefetch_line(batch_.in.b.data() + row);
        });
    }

    void prefetch_step(std::size_t s, const GradientSink<T>& sink) const {
        if (s >= batch_.size) return;
        prefetch(batch_.X.row(batch_.example(s)), batch_.dim);
        if (sink.soon) each_new_row(s, [&](std::size_t row) { sink.soon(sink.self, row); });
    }

    template <class F>
    void each_new_row(std::size_t s, F f) const {
        const auto nodes = batch_.path(s).subspan(ix(batch_.plan.shared()[s]));
        if (h_.logistic) {
            for (const std::int32_t row : nodes) f(ix(row));
            return;
        }
        for (const std::int32_t v : nodes) {
            for (std::size_t row = h_.row(ix(v)); row < h_.row(ix(v) + 1); ++row) f(row);
        }
    }

    void sum_chunk(std::size_t c, std::size_t w, const GradientSink<T>& sink) {
        sums_->begin(c, w);
        for (std::size_t first = c * chunk_; first < last(c); first += block_) {
            const std::size_t end = std::min(last(c), first + block_);
            batch_.begin_part(first, workers_[w]);
            list_rows(first, end, workers_[w]);
            for (std::size_t s = first; s < end; ++s) {
                prefetch_step(s + prefetch_distance_, sink);
                add(c, s, first, sink, w);
            }
        }
        sums_->end(c, sink, w);
    }

    void add(std::size_t c, std::size_t s, std::size_t first, const GradientSink<T>& sink, std::size_t w) {
        sums_->add(c, s, path_rows(s, first, workers_[w]), batch_.logits(s, workers_[w]), batch_.X.row(batch_.example(s)), sink, w);
    }

    Batch<T>& batch_;
    const HierarchyView& h_;
    const std::size_t chunk_;  // examples a worker takes at once
    std::vector<Worker> workers_;
    std::optional<WalkSums<T>> sums_;  // of a gradient, if they fit
    bool takes_rows_ = false;          // `score` hands rows to the sink as it goes
    bool widens_ = false;              // see Worker
};

}  // namespace sparseops::detail
