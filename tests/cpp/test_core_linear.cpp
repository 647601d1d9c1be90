// SPDX-License-Identifier: BSD-3-Clause
// Training of sparse rows: its kernels against one lane written out, its solutions against their optimality conditions.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include <sparseops/cluster.hpp>
#include <sparseops/hsoftmax/node_scores.hpp>
#include <sparseops/hsoftmax/open_node.hpp>
#include <sparseops/kernels/linear.hpp>
#include <sparseops/linear.hpp>

#include "check.hpp"
#include "kernel_tables.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;
using detail::linear_lanes;
using detail::LinearEntry;
using detail::LinearKernels;

struct NamedLinear {
    std::string name;
    const LinearKernels* table;
    bool fma;
};

std::vector<NamedLinear> linear_tables() {
    std::vector<NamedLinear> list;
    [[maybe_unused]] const auto add = [&](const char* name, const LinearKernels& table) {
        if (can_run(name)) list.push_back({name, &table, std::string(name) != "baseline"});
    };
#if defined(SPARSEOPS_HAS_BASELINE)
    add("baseline", detail::linear_baseline);
#endif
#if defined(SPARSEOPS_HAS_AVX2)
    add("avx2", detail::linear_avx2);
#endif
#if defined(SPARSEOPS_HAS_AVX512)
    add("avx512", detail::linear_avx512);
#endif
#if defined(SPARSEOPS_HAS_NEON)
    add("neon", detail::linear_neon);
#endif
    return list;
}

// Random examples of a node, and what a kernel changes.
struct NodeData {
    std::size_t features = 40, examples = 150, width = linear_lanes;
    std::vector<std::size_t> ptr{0};
    std::vector<LinearEntry> entries;
    std::vector<float> squares, cost;
    std::vector<std::uint16_t> positive;
    std::vector<std::int32_t> target, visit;
    std::vector<float> memory;
    float *weights = nullptr, *dual = nullptr, *bias = nullptr, *scratch = nullptr;

    explicit NodeData(std::size_t lanes, std::uint64_t seed) : width(lanes) {
        Random random(seed);
        for (std::size_t i = 0; i < examples; ++i) {
            float sum = 1;
            const std::size_t n = random.below(9), first = random.below(features);
            for (std::size_t e = 0; e < n; ++e) {  // no feature twice
                const auto x = static_cast<float>(random.uniform(-1, 1));
                entries.push_back({static_cast<std::int32_t>((first + 3 * e) % features), x});
                sum += x * x;
            }
            ptr.push_back(entries.size());
            squares.push_back(sum);
            cost.push_back(static_cast<float>(random.uniform(0.5, 2)));
            positive.push_back(static_cast<std::uint16_t>(random.below(3) == 0 ? random.bits() : 1u << random.below(16)));
            target.push_back(static_cast<std::int32_t>(random.below(width)));
        }
        visit.resize(examples);
        std::iota(visit.begin(), visit.end(), 0);
        memory.assign((features + examples + 6) * width + 16, 0.0f);
        weights = memory.data() + (16 - reinterpret_cast<std::uintptr_t>(memory.data()) / 4 % 16) % 16;
        dual = weights + features * width;
        bias = dual + examples * width;
        scratch = bias + width;
    }
    detail::LinearExamples view() const { return {ptr.data(), entries.data(), squares.data(), cost.data()}; }
    detail::LinearBlock block(std::size_t live) { return {positive.data(), weights, dual, bias, -1.0f, live}; }
    detail::LinearSoftmax softmax(std::size_t live) { return {target.data(), weights, dual, bias, scratch, width, live}; }
    std::vector<float> result() const { return {weights, scratch}; }
};

float mul_add(bool fused, float a, float b, float c) { return fused ? std::fma(a, b, c) : a * b + c; }

// One pass of squared_hinge, lane by lane.
void reference_pass(NodeData& data, bool fused, float leave, std::size_t live, float& lowest, float& highest) {
    for (std::int32_t& place : data.visit) {
        const auto i = static_cast<std::size_t>(place);
        const float ridge = 0.5f / data.cost[i], inverse = 1.0f / (data.squares[i] + ridge);
        bool at_work = false;
        for (std::size_t l = 0; l < linear_lanes; ++l) {
            float even = 0, odd = 0;
            const std::size_t first = data.ptr[i], last = data.ptr[i + 1];
            for (std::size_t e = first; e < last; ++e) {
                const float w = data.weights[static_cast<std::size_t>(data.entries[e].feature) * linear_lanes + l];
                float& sum = (e - first) % 2 == 0 ? even : odd;
                sum = mul_add(fused, w, data.entries[e].value, sum);
            }
            float& alpha = data.dual[i * linear_lanes + l];
            const float sign = data.positive[i] >> l & 1 ? 1.0f : -1.0f, score = (even + odd) + (data.bias[l] + -1.0f);
            float gradient = mul_add(fused, sign, score, mul_add(fused, alpha, ridge, -1.0f));
            if (l >= live) gradient = std::numeric_limits<float>::infinity();
            const float projected = alpha > 0 ? gradient : std::min(gradient, 0.0f);
            lowest = std::min(lowest, projected);
            highest = std::max(highest, projected);
            at_work = at_work || alpha > 0 || !(gradient > leave);
            const float updated = std::max(mul_add(fused, gradient, -inverse, alpha), 0.0f), step = (updated - alpha) * sign;
            alpha = updated;
            data.bias[l] += step;
            for (std::size_t e = first; e < last; ++e) {
                float& w = data.weights[static_cast<std::size_t>(data.entries[e].feature) * linear_lanes + l];
                w = mul_add(fused, step, data.entries[e].value, w);
            }
        }
        if (!at_work) place = ~place;
    }
}

void the_squared_hinge_is_each_lane_written_out() {
    std::size_t left = 0;
    for (const NamedLinear& isa : linear_tables()) {
        for (const std::size_t live : {1u, 7u, 16u}) {
            NodeData data(linear_lanes, live), wanted(linear_lanes, live);
            for (const float leave : {std::numeric_limits<float>::infinity(), 0.1f, 0.0f}) {
                const std::size_t before = left;
                float low[2] = {1e30f, 1e30f}, high[2] = {-1e30f, -1e30f};
                isa.table->squared_hinge(data.view(), data.block(live), data.visit.data(), data.visit.size(), leave, &low[0], &high[0]);
                reference_pass(wanted, isa.fma, leave, live, low[1], high[1]);
                check(same_bytes(data.result(), wanted.result()), isa.name, ": weights of ", live, " lanes");
                check(data.visit == wanted.visit, isa.name, ": examples that leave, ", live, " lanes");
                check(low[0] == low[1] && high[0] == high[1], isa.name, ": projected gradients of ", live, " lanes");
                const auto gone = [](std::int32_t i) { return i < 0; };
                left += static_cast<std::size_t>(std::count_if(data.visit.begin(), data.visit.end(), gone));
                std::erase_if(data.visit, gone);
                std::erase_if(wanted.visit, gone);
                check(!std::isinf(leave) || left == before, "no example leaves in the first pass");
            }
        }
    }
    check(left > 0, "some examples leave later");
}

void sets_with_fma_agree_and_the_baseline_nearly() {
    for (const std::size_t live : {3u, 16u, 40u}) {
        std::vector<float> first_hinge, first_softmax;
        for (const NamedLinear& isa : linear_tables()) {
            NodeData data(linear_lanes, 7), node((live + 15) / 16 * 16, 8);
            for (std::int32_t& t : node.target) t %= static_cast<std::int32_t>(live);
            double residual = 0, start = 0;
            for (int pass = 0; pass < 60; ++pass) {
                isa.table->logistic(data.view(), data.block(std::min<std::size_t>(live, 16)), data.visit.data(), data.visit.size(),
                                    pass == 0);
                if (pass == 1) start = residual;
                residual = isa.table->softmax(node.view(), node.softmax(live), node.visit.data(), node.visit.size(), pass == 0);
            }
            check(residual < start / 20, isa.name, ": the softmax converges, from ", start, " to ", residual);
            for (auto [mine, first] : {std::pair(data.result(), &first_hinge), std::pair(node.result(), &first_softmax)}) {
                if (!isa.fma) continue;
                if (first->empty()) *first = mine;
                check(same_bytes(mine, *first), isa.name, ": the bytes of the other sets, ", live, " rows");
            }
        }
    }
}

// Bags of words around a taste of each class, unit rows; each example has one class or, if `several`, up to three.
struct Corpus {
    std::vector<std::int32_t> indptr{0}, indices;
    std::vector<float> data;
    std::vector<std::int64_t> label_ptr{0}, label;
    std::size_t features, classes;

    Corpus(std::size_t n, std::size_t f, std::size_t c, bool several) : features(f), classes(c) {
        Random random(n);
        for (std::size_t i = 0; i < n; ++i) {
            std::vector<std::int64_t> own;
            for (std::size_t k = several ? random.below(4) : 1; k > 0; --k) own.push_back(static_cast<std::int64_t>(random.below(classes)));
            std::sort(own.begin(), own.end());
            own.erase(std::unique(own.begin(), own.end()), own.end());
            std::vector<float> row(features, 0.0f);
            for (const std::int64_t k : own) {
                for (int draw = 0; draw < 4; ++draw) row[(static_cast<std::size_t>(k) * 5 + random.below(7)) % features] += 1;
            }
            row[random.below(features)] += 1;
            double squares = 0;
            for (const float x : row) squares += static_cast<double>(x) * static_cast<double>(x);
            for (std::size_t j = 0; j < features; ++j) {
                if (row[j] == 0) continue;
                indices.push_back(static_cast<std::int32_t>(j));
                data.push_back(static_cast<float>(static_cast<double>(row[j]) / std::sqrt(squares)));
            }
            indptr.push_back(static_cast<std::int32_t>(indices.size()));
            label.insert(label.end(), own.begin(), own.end());
            label_ptr.push_back(static_cast<std::int64_t>(label.size()));
        }
    }
    CsrView<const float, std::int32_t> X() const { return {indptr, indices, data, features}; }
    LabelsView several() const { return {label_ptr, label}; }
    LabelsView one() const { return {{}, label}; }
};

bool equal(const SparseRows& a, const SparseRows& b) {
    return a.feature_ptr == b.feature_ptr && a.feature == b.feature && a.entry_ptr == b.entry_ptr && a.slot == b.slot &&
           same_bytes(a.weight, b.weight) && same_bytes(a.bias, b.bias) && same_bytes(a.temperature, b.temperature);
}

void pieces_and_threads_change_nothing() {
    const Corpus corpus(6000, 200, 90, false);
    ClusterOptions shape;
    shape.arity = 4;
    shape.leaf = 20;
    const Hierarchy tree = cluster(class_centroids(corpus.X(), corpus.one(), 90, true, 1).view(), shape);
    const HierarchyIndex h(tree);
    for (const LinearLoss loss : {LinearLoss::squared_hinge, LinearLoss::softmax, LinearLoss::logistic}) {
        LinearOptions options;
        options.loss = loss;
        const SparseRows wanted = linear_train(h.view(), corpus.X(), corpus.one(), options, 1);
        require_sparse_rows(wanted.view());
        for (const int threads : {1, 3}) {
            LinearTrainer trainer(h.view(), corpus.X(), corpus.one(), options, threads);
            double before = 0;
            while (trainer.done() < trainer.tasks()) {
                trainer.run(threads == 1 ? 1 : trainer.piece());
                check(trainer.progress() > before, "progress rises");
                before = trainer.progress();
            }
            check(std::fabs(before - 1) < 1e-9, "progress ends with 1, it is ", before);
            check(equal(trainer.finish(), wanted), "task by task, ", threads, " threads");
        }
        const SparseRows pruned = prune(wanted.view(), 0.2f);
        require_sparse_rows(pruned.view());
        check(pruned.weight.size() < wanted.weight.size(), "pruning leaves fewer weights");
    }
    LinearTrainer unfinished(h.view(), corpus.X(), corpus.one(), {});
    check_refused("tasks must all be done, got 0 of " + std::to_string(unfinished.tasks()), [&] { unfinished.finish(); });
}

// Every row of a tree of independent nodes is a squared hinge of its own over the examples that reach its node: the gradient of
// ½|w|² + ½(b + 1)² + C Σ max(0, 1 - y s)² is zero.
void independent_nodes_train_each_child_on_its_own() {
    const Corpus corpus(500, 60, 24, true);
    const Hierarchy tree = balanced(24, 5, false);
    HierarchyIndex index(tree);
    HierarchyView h = index.view();
    h.independent = true;
    LinearOptions options;
    options.tol = 1e-6;
    options.max_iter = 3000;
    options.threshold = 0;
    options.validation = 0;
    const SparseRows W = linear_train(h, corpus.X(), corpus.several(), options);
    std::vector<std::vector<std::size_t>> reaches(h.nodes());
    std::vector<std::vector<std::uint8_t>> yes(corpus.X().rows(), std::vector<std::uint8_t>(h.rows(), 0));
    for (std::size_t i = 0; i < corpus.X().rows(); ++i) {
        reaches[0].push_back(i);
        for (const std::int64_t c : corpus.several().of(i)) {
            const auto nodes = h.path_nodes(static_cast<std::size_t>(c)), children = h.path_children(static_cast<std::size_t>(c));
            for (std::size_t d = 0; d < nodes.size(); ++d) {
                const auto v = static_cast<std::size_t>(nodes[d]);
                if (reaches[v].empty() || reaches[v].back() != i) reaches[v].push_back(i);
                yes[i][h.row(v) + static_cast<std::size_t>(children[d])] = 1;
            }
        }
    }
    for (std::size_t v = 0; v < h.nodes(); ++v) {
        const std::size_t k = h.row_count(v);
        std::vector<double> gradient(k * (corpus.features + 1), 0);
        std::vector<float> scores(k);
        for (const std::size_t i : reaches[v]) {
            const auto x = detail::example(corpus.X(), i);
            detail::node_scores(W.view(), v, x, scores.data());
            for (std::size_t j = 0; j < k; ++j) {
                const double y = yes[i][h.row(v) + j] ? 1 : -1, slack = std::max(0.0, 1 - y * static_cast<double>(scores[j]));
                double* const g = gradient.data() + j * (corpus.features + 1);
                for (std::size_t e = 0; e < x.size; ++e) g[x.index[e]] -= 2 * y * slack * static_cast<double>(x.value[e]);
                g[corpus.features] -= 2 * y * slack;
            }
        }
        for (auto f = static_cast<std::size_t>(W.feature_ptr[v]); f < static_cast<std::size_t>(W.feature_ptr[v + 1]); ++f) {
            for (auto e = static_cast<std::size_t>(W.entry_ptr[f]); e < static_cast<std::size_t>(W.entry_ptr[f + 1]); ++e) {
                gradient[W.slot[e] * (corpus.features + 1) + static_cast<std::size_t>(W.feature[f])] += static_cast<double>(W.weight[e]);
            }
        }
        for (std::size_t j = 0; j < k; ++j)
            gradient[j * (corpus.features + 1) + corpus.features] += static_cast<double>(W.bias[h.row(v) + j]) + 1;
        double worst = 0;
        for (const double g : gradient) worst = std::max(worst, std::fabs(g));
        check(worst < 1e-3, "the gradient at node ", v, " is ", worst);
    }
    options.loss = LinearLoss::softmax;
    check_refused("loss must be squared_hinge or logistic for independent nodes, got softmax",
                  [&] { linear_train(h, corpus.X(), corpus.several(), options); });
    check_refused("labels must be one a row unless the nodes of the tree are independent, got several",
                  [&] { linear_train(index.view(), corpus.X(), corpus.several(), {}); });
}

void independent_nodes_have_temperatures_too() {
    const Corpus corpus(6000, 60, 24, true);
    const Hierarchy tree = balanced(24, 5, false);
    HierarchyIndex index(tree);
    HierarchyView h = index.view();
    h.independent = true;
    for (const LinearLoss loss : {LinearLoss::squared_hinge, LinearLoss::logistic}) {
        LinearOptions options;
        options.loss = loss;
        const SparseRows wanted = linear_train(h, corpus.X(), corpus.several(), options, 1);
        const float usual = loss == LinearLoss::squared_hinge ? 3.0f : 1.0f;
        for (const float t : wanted.temperature) check(t > 0.25f && t < 16 && t != usual, "a temperature is ", t);
        check(equal(linear_train(h, corpus.X(), corpus.several(), options, 3), wanted), "several labels, three threads");
    }
}

void training_goes_on_from_stored_rows() {
    const Corpus old(2000, 80, 30, false), fresh(500, 80, 30, false);
    const Hierarchy tree = balanced(30, 6, false);
    const HierarchyIndex h(tree);
    const SparseRows first = linear_train(h.view(), old.X(), old.one(), {});
    const SparseRowsView start = first.view();
    LinearOptions options;
    options.start = &start;
    const SparseRows W = linear_train(h.view(), fresh.X(), fresh.one(), options, 1);
    require_sparse_rows(W.view(), h.view());
    check(!equal(W, first) && same_bytes(W.temperature, first.temperature), "new rows change weights, not temperatures");
    check(equal(linear_train(h.view(), fresh.X(), fresh.one(), options, 3), W), "going on, three threads");
    const std::vector<float> nothing(500, 0.0f);
    options.sample_weight = nothing;
    check(equal(linear_train(h.view(), fresh.X(), fresh.one(), options), first), "rows of weight 0 change nothing");
    SparseRowsView other = start;
    other.features = 81;
    options.start = &other;
    check_refused("start must have a column for each of X, 80, got 81", [&] { linear_train(h.view(), fresh.X(), fresh.one(), options); });
    const HierarchyIndex flat(balanced(30, 30, false));
    options.start = &start;
    check_refused("start must have the rows of the tree's nodes, got rows of another tree",
                  [&] { linear_train(flat.view(), fresh.X(), fresh.one(), options); });
}

void galloping_and_the_table_of_an_open_node_agree() {
    const Corpus corpus(800, 120, 30, false);
    const Hierarchy tree = balanced(30, 6, false);
    const HierarchyIndex h(tree);
    const SparseRows W = linear_train(h.view(), corpus.X(), corpus.one(), {});
    detail::OpenNode table;
    detail::GatheredExamples examples;
    std::vector<float> a(6), b(16), found;
    Random random(5);
    constexpr std::size_t n = 200;
    std::vector<std::vector<std::int32_t>> index(n);
    std::vector<std::vector<float>> value(n);
    for (std::size_t i = 0; i < n; ++i) {  // in any order, some twice
        index[i] = random.indices<std::int32_t>(random.below(12), corpus.features);
        if (i % 2 == 0) std::sort(index[i].begin(), index[i].end());
        value[i] = random.vector<float>(index[i].size());
    }
    const auto example = [&](std::size_t i) {
        return detail::SparseExample<std::int32_t>{index[i].data(), value[i].data(), index[i].size()};
    };
    for (const std::size_t first : {std::size_t{0}, n / 2}) {
        examples.gather(corpus.features, n / 2, [&](std::size_t i) { return example(first + i); });
        for (std::size_t v = 0; v < h.view().nodes(); ++v) {
            table.open(W.view(), v, examples);
            for (std::size_t i = 0; i < n / 2; ++i) {
                const auto x = example(first + i);
                detail::node_scores(W.view(), v, x, a.data());
                table.scores(W.view(), examples, i, x.value, x.size, b.data());
                found.assign(b.begin(), b.begin() + static_cast<std::ptrdiff_t>(h.view().row_count(v)));
                check(same_bytes(std::vector<float>(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(found.size())), found),
                      "scores of node ", v);
            }
            table.close();
        }
    }
}

void the_log_softmax_of_a_node_is_the_loss_of_each_child() {
    const float infinity = std::numeric_limits<float>::infinity();
    Random random(7);
    for (const auto& [name, table, fma] : linear_tables()) {
        const auto others = tables();
        const auto same_set = std::find_if(others.begin(), others.end(), [&, own = name](const auto* one) { return one->name == own; });
        for (const std::size_t n : {2u, 3u, 15u, 16u, 17u, 31u, 33u, 64u, 151u}) {
            for (const float temperature : {1.0f, 0.3f, 8.0f}) {
                for (const bool ties : {false, true}) {
                    std::vector<float> z = random.vector<float>(n), logits(n), nll(n);
                    for (float& x : z) x = ties ? std::round(2 * x) : 4 * x;
                    for (std::size_t j = 0; j < n; ++j) logits[j] = z[j] * temperature;
                    (*same_set)->f32.softmax_nll(logits.data(), n, nll.data(), nullptr);
                    for (float& x : nll) x = -x;
                    const float least = nll[n / 2];
                    std::vector<detail::Line> lines(n / linear_lanes + 1);
                    std::vector<std::uint16_t> above(lines.size() + 1, 0xabcd);
                    float* const out = lines.front().values;
                    std::copy(z.begin(), z.end(), out);
                    check(table->log_softmax(out, n, temperature, least, above.data()), name, ": all are finite");
                    check(same_bytes(std::vector<float>(out, out + n), nll), name, ": log_softmax of ", n);
                    for (std::size_t j = 0; j < (n + linear_lanes - 1) / linear_lanes * linear_lanes; ++j) {
                        const bool bit = (above[j / linear_lanes] >> (j % linear_lanes) & 1) != 0;
                        check(bit == (j < n && !(nll[j] < least)), name, ": lane ", j, " of ", n);
                    }
                    check(above.back() == 0xabcd, name, ": nothing is written behind the lanes");
                    for (const float odd : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN()}) {
                        lines.assign(lines.size(), {});
                        std::copy(z.begin(), z.end(), out);
                        out[n - 1] = odd;
                        check(!table->log_softmax(out, n, temperature, least, above.data()), name, ": one is not finite");
                        check(same_bytes(std::vector<float>(out, out + n - 1), std::vector<float>(logits.begin(), logits.end() - 1)), name,
                              ": logits stay where one is not finite");
                    }
                }
            }
        }
    }
}

}  // namespace

int main() {
    the_log_softmax_of_a_node_is_the_loss_of_each_child();
    the_squared_hinge_is_each_lane_written_out();
    sets_with_fma_agree_and_the_baseline_nearly();
    pieces_and_threads_change_nothing();
    independent_nodes_train_each_child_on_its_own();
    independent_nodes_have_temperatures_too();
    training_goes_on_from_stored_rows();
    galloping_and_the_table_of_an_open_node_agree();
    return finish("linear");
}
