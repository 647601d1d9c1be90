// SPDX-License-Identifier: BSD-3-Clause
// The work before the arithmetic: labels sorted for the tree, arrays checked.
#include <algorithm>
#include <array>
#include <numeric>

#include "../detail/index.hpp"
#include "../detail/require.hpp"
#include "../hsoftmax.hpp"
#include "../kernels/kernels.hpp"
#include "../kernels/prefetch.hpp"
#include "backward.hpp"
#include "score.hpp"

namespace sparseops {
namespace {

using detail::ix;

struct Keyed {
    std::uint32_t rank;
    std::int32_t example;
};

constexpr std::size_t prefetch_distance = 8;  // in examples: each takes little time here, and its path is one or two lines

// Stable sort by rank < limit: insertion for a handful, else radix.
void sort_by_rank(std::vector<Keyed>& items, std::uint32_t limit) {
    if (items.size() <= 32) {
        for (std::size_t i = 1; i < items.size(); ++i) {
            const Keyed item = items[i];
            std::size_t j = i;
            for (; j > 0 && items[j - 1].rank > item.rank; --j) items[j] = items[j - 1];
            items[j] = item;
        }
        return;
    }
    constexpr unsigned bits = 10;
    std::vector<Keyed> other(items.size());
    for (unsigned shift = 0; shift < 32 && (limit - 1) >> shift; shift += bits) {
        std::array<std::uint32_t, (1u << bits) + 1> start{};
        for (const Keyed& k : items) ++start[((k.rank >> shift) & ((1u << bits) - 1)) + 1];
        for (std::size_t d = 1; d < start.size(); ++d) start[d] += start[d - 1];
        for (const Keyed& k : items) other[start[(k.rank >> shift) & ((1u << bits) - 1)]++] = k;
        items.swap(other);
    }
}

}  // namespace

HSoftmaxPlan::HSoftmaxPlan(const HierarchyView& h, std::span<const std::int64_t> labels, std::optional<std::int64_t> ignore_index)
    : h_(h), examples_(labels.size()) {
    detail::require(labels.size() < (std::size_t{1} << 31), "labels must have fewer than 2**31 entries, got ", labels.size());
    detail::require_data("labels", labels);
    sort(labels, ignore_index);
    segment();
}

void HSoftmaxPlan::sort(std::span<const std::int64_t> labels, std::optional<std::int64_t> ignore_index) {
    const std::size_t classes = h_.classes();
    std::vector<Keyed> items;
    items.reserve(labels.size());
    for (std::size_t i = 0; i < labels.size(); ++i) {
        if (ignore_index && labels[i] == *ignore_index) continue;
        const auto c = ix(labels[i]);
        detail::require(c < classes, "labels must be in [0, ", classes, "), got ", labels[i], " at index ", i);
        items.push_back({static_cast<std::uint32_t>(h_.leaf_rank[c]), static_cast<std::int32_t>(i)});
    }
    sort_by_rank(items, static_cast<std::uint32_t>(classes));
    order_.resize(items.size());
    label_.resize(items.size());
    for (std::size_t s = 0; s < items.size(); ++s) {
        order_[s] = items[s].example;
        label_[s] = static_cast<std::int32_t>(labels[ix(items[s].example)]);
    }
}

void HSoftmaxPlan::segment() {
    const std::size_t n = order_.size();
    shared_.resize(n);
    if (!h_.logistic) shared_rows_.resize(n);
    logit_ptr_.assign(n + 1, 0);
    const auto usual_depth = ix(std::clamp(h_.depth, 0, 64));  // a skewed tree's own may be that of all classes
    segments_.reserve(n * 4 + usual_depth);
    std::vector<std::size_t> open;  // segment of each node on the way to the example at hand
    open.reserve(usual_depth);
    const auto rows = [&](std::int32_t v) { return h_.logistic ? 1 : static_cast<std::int32_t>(h_.row_count(ix(v))); };
    std::span<const std::int32_t> before;
    for (std::size_t s = 0; s < n; ++s) {
        if (s + prefetch_distance < n) {  // first the place of the path, then the path
            detail::prefetch_line(h_.path_ptr.data() + label_[std::min(n - 1, s + 2 * prefetch_distance)]);
            detail::prefetch_line(h_.path_nodes(ix(label_[s + prefetch_distance])).data());
        }
        const auto path = h_.path_nodes(ix(label_[s]));
        std::size_t common = 0;
        if (s > 0 && label_[s] == label_[s - 1]) {
            common = path.size();
        } else {
            while (common < before.size() && common < path.size() && before[common] == path[common]) ++common;
        }
        shared_[s] = static_cast<std::int32_t>(common);
        for (; open.size() > common; open.pop_back()) segments_[open.back()].last = static_cast<std::int32_t>(s);
        std::int32_t z = 0;
        if (common > 0) {
            const Segment& above = segments_[open.back()];
            z = above.z + rows(above.node);
        }
        if (!h_.logistic) shared_rows_[s] = z;
        for (std::size_t d = common; d < path.size(); ++d) {
            open.push_back(segments_.size());
            segments_.push_back({path[d], static_cast<std::int32_t>(s), 0, z});
            z += rows(path[d]);
        }
        logit_ptr_[s + 1] = logit_ptr_[s] + z;
        before = path;
    }
    for (const std::size_t at : open) segments_[at].last = static_cast<std::int32_t>(n);
    std::vector<std::int32_t> place;  // of the segments as they began, if their nodes do not rise so
    if (!h_.ordered) {
        std::vector<std::int32_t> by_node(segments_.size());
        std::iota(by_node.begin(), by_node.end(), 0);
        std::sort(by_node.begin(), by_node.end(), [this](auto a, auto b) { return segments_[ix(a)].node < segments_[ix(b)].node; });
        std::vector<Segment> sorted(segments_.size());
        place.resize(segments_.size());
        for (std::size_t u = 0; u < sorted.size(); ++u) {
            const auto began = ix(by_node[u]);
            sorted[u] = segments_[began];
            place[began] = static_cast<std::int32_t>(u);
        }
        segments_.swap(sorted);
    }
    slot_ptr_.resize(segments_.size() + 1);
    slot_ptr_[0] = 0;
    for (std::size_t u = 0; u < segments_.size(); ++u) slot_ptr_[u + 1] = slot_ptr_[u] + rows(segments_[u].node);
    opened_.reserve(place.empty() ? 0 : touched_rows());
    for (const std::int32_t u : place) {
        for (std::int64_t slot = slot_ptr_[ix(u)]; slot < slot_ptr_[ix(u) + 1]; ++slot) opened_.push_back(static_cast<std::int32_t>(slot));
    }
}

void HSoftmaxPlan::write_rows(std::span<std::int64_t> rows) const {
    detail::require(rows.size() == touched_rows(), "rows must have ", touched_rows(), " entries, got ", rows.size());
    detail::require_data("rows", rows);
    std::size_t at = 0;
    for (const Segment& segment : segments_) {
        const auto v = ix(segment.node);
        if (h_.logistic) {  // row v belongs to node v
            rows[at++] = segment.node;
            continue;
        }
        for (std::int64_t row = h_.row_ptr[v]; row < h_.row_ptr[v + 1]; ++row) rows[at++] = row;
    }
}

template <Real T>
void require_shapes(const HierarchyView& h, const HSoftmaxInput<T>& in) {
    detail::require(in.W.rows() == h.rows() && in.W.cols() == in.X.cols(), "W must have shape (", h.rows(), ", ", in.X.cols(), "), got (",
                    in.W.rows(), ", ", in.W.cols(), ")");
    if (const SparseRowsView* W = in.W.sparse()) {
        detail::require(W->row_ptr.size() == h.row_ptr.size() &&
                            (W->row_ptr.data() == h.row_ptr.data() || std::equal(W->row_ptr.begin(), W->row_ptr.end(), h.row_ptr.begin())),
                        "W must have the rows of the tree's nodes, got rows of another tree");
        detail::require(W->temperature.empty() || W->temperature.size() == ix(h.depth), "temperature must have one entry a depth, ",
                        h.depth, ", got ", W->temperature.size());
        detail::require(in.b.empty(), "b must be empty with sparse weights, whose biases are part of them, got ", in.b.size(), " entries");
    }
    detail::require(in.b.empty() || in.b.size() == h.rows(), "b must have ", h.rows(), " entries, got ", in.b.size());
    detail::require_data("b", in.b);
    if (const auto* X = in.X.dense()) detail::require_data("X", X->data, X->size());
    if (const auto* W = in.W.dense()) detail::require_data("W", W->data, W->size());
    if (const QuantizedView* q = in.W.quantized()) {
        detail::require_data("W", q->data, q->rows * q->cols);
        detail::require(q->kind != QuantizedKind::int8 || q->scale.size() == q->rows, "scale must have ", q->rows, " entries, got ",
                        q->scale.size());
        detail::require_data("scale", q->scale);
        detail::require_data("scale", q->scale);
    }
}

template <Real T>
void require_finite(const HSoftmaxInput<T>& in) {
    if (!in.check_finite) return;
    const auto finite = [](const auto* X) {
        const auto end = X->indptr.empty() ? std::int64_t{0} : static_cast<std::int64_t>(X->indptr.back());
        const std::size_t used = std::min(X->data.size(), static_cast<std::size_t>(std::max<std::int64_t>(0, end)));
        const std::size_t bad = detail::kernels<T>().first_not_finite(X->data.data(), used);
        if (bad < used) detail::refuse("X must be finite, got ", X->data[bad], " at stored value ", bad);
    };
    if (const auto* rows32 = in.X.template sparse<std::int32_t>()) return finite(rows32);
    if (const auto* wide = in.X.template sparse<std::int64_t>()) return finite(wide);
    const MatrixView<const T> X = *in.X.dense();
    const std::size_t bad = detail::kernels<T>().first_not_finite(X.data, X.size());
    if (bad < X.size()) detail::refuse("X must be finite, got ", X.data[bad], " at row ", bad / X.cols, ", column ", bad % X.cols);
}

template void require_shapes(const HierarchyView&, const HSoftmaxInput<float>&);
template void require_shapes(const HierarchyView&, const HSoftmaxInput<double>&);
template void require_finite(const HSoftmaxInput<float>&);
template void require_finite(const HSoftmaxInput<double>&);

}  // namespace sparseops
