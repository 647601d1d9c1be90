// SPDX-License-Identifier: BSD-3-Clause
// A project that uses every public header once, as it would: temporaries, designated initializers, defaults.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <sparseops/sparseops.hpp>

namespace {

using namespace sparseops;

// A tree of its own: made of a temporary it must not point to what is gone.
static_assert(std::is_constructible_v<HierarchyIndex, Hierarchy&&>);
static_assert(!std::is_convertible_v<const Hierarchy&, HierarchyView>, "a view of a temporary would dangle");
static_assert(std::is_nothrow_move_constructible_v<HierarchyIndex> && !std::is_copy_constructible_v<HierarchyIndex>);

// The number of threads is no option of an operator: it is the last argument of the function, which has a default.
template <class Options>
concept NamesThreads = requires(Options options) { options.num_threads; };
static_assert(!NamesThreads<HSoftmaxInput<float>> && !NamesThreads<SearchOptions> && !NamesThreads<Normalize>);
static_assert(!NamesThreads<BagSchedule> && !NamesThreads<ClusterOptions> && !NamesThreads<LinearOptions>);

int failures = 0;
void expect(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "failed: %s\n", what);
    ++failures;
}

template <class F>
void expect_refused(const char* message, const F& f) {
    try {
        f();
    } catch (const std::invalid_argument& error) {
        if (std::string(error.what()) == message) return;
        std::fprintf(stderr, "refused by '%s'\n", error.what());
    }
    expect(false, message);
}

const std::vector<double> counts{5, 3, 1, 1};
constexpr std::size_t N = 2, D = 3, C = 4;

struct Problem {
    HierarchyIndex tree{huffman(counts)};
    std::vector<float> x{1, 0, 2, 0, 1, -1}, w, b;
    std::vector<std::int64_t> labels{0, 3};

    Problem() : w(tree.view().rows() * D, 0.5f), b(tree.view().rows(), 0.1f) {}
    std::size_t rows() const { return tree.view().rows(); }
    HSoftmaxInput<float> input() const { return {.X = {x.data(), N, D}, .W = {w.data(), rows(), D}, .b = b}; }
};

void trees() {
    HierarchyIndex index(huffman(counts));
    expect(index.view().classes() == C && index.view().rows() == 3, "a tree made of a temporary is whole");
    const HierarchyIndex moved = std::move(index);
    expect(moved.view().path_nodes(3).size() == 3, "so is one that was moved");
    const Hierarchy arrays = balanced(8);
    const HierarchyIndex copied(arrays);
    expect(prune(copied.view(), std::vector<double>(8, 1), PruneBy::max_depth, 1).row_ptr.back() == 8, "pruned to one node");
    const std::vector<float> vectors{1, 0, 0, 1, -1, 0, 0, -1};
    expect(HierarchyIndex(cluster({vectors.data(), C, 2}, {.arity = 2, .leaf = 2}, 1)).view().classes() == C, "a tree by clustering");
}

void loss_and_training() {
    Problem p;
    const HSoftmaxPlan plan(p.tree.view(), p.labels);
    std::vector<float> nll(N), dX(N * D), dW(plan.touched_rows() * D), db(plan.touched_rows());
    hsoftmax<float>(plan, p.input(), nll, {});
    hsoftmax_gradient<float>(plan, p.input(), nll, {dX.data(), N, D}, {dW.data(), plan.touched_rows(), D}, db);
    expect(std::isfinite(nll[0]) && nll[0] > 0, "a loss");
    const Optimizer<float> sgd{.method = Method::sgd, .lr = 0.1};
    const float before = nll[0] + nll[1];
    hsoftmax_update<float>(plan, p.input(), {p.w.data(), p.rows(), D}, p.b, sgd, nll, {dX.data(), N, D}, 1);
    hsoftmax<float>(plan, p.input(), nll, {}, 1);
    expect(nll[0] + nll[1] < before, "a step makes the loss smaller");
    expect_refused("dX must have shape (2, 3), got (2, 2)",
                   [&] { hsoftmax_gradient<float>(plan, p.input(), nll, {dX.data(), N, 2}, {dW.data(), plan.touched_rows(), D}, db); });
    expect_refused("dX must point to 6 values, got a null pointer",
                   [&] { hsoftmax_gradient<float>(plan, p.input(), nll, {nullptr, N, D}, {dW.data(), plan.touched_rows(), D}, db); });
    expect_refused("W must have shape (3, 3), got (2, 3)",
                   [&] { hsoftmax_update<float>(plan, p.input(), {p.w.data(), 2, D}, p.b, sgd, nll, {dX.data(), N, D}); });
}

void search_and_kinds() {
    const Problem p;
    std::vector<std::int64_t> classes(N * C);
    std::vector<float> log_probs(N * C), bound(N), quarter(N * C);
    HSoftmaxInput<float> in = p.input();
    hsoftmax_search<float>(p.tree.view(), in, {.k = C}, {classes.data(), N, C}, {log_probs.data(), N, C}, bound);
    std::vector<std::uint8_t> data(p.w.size());
    std::vector<float> scale(p.rows());
    quantize({p.w.data(), p.rows(), D}, QuantizedKind::int8, data.data(), scale);
    in.W = QuantizedView{.kind = QuantizedKind::int8, .data = data.data(), .scale = scale, .rows = p.rows(), .cols = D};
    hsoftmax_search<float>(p.tree.view(), in, {.k = C}, {classes.data(), N, C}, {quarter.data(), N, C}, bound, 1);
    expect(std::fabs(log_probs[0] - quarter[0]) < 0.01f, "int8 rows are near");
    in.W = {nullptr, p.rows(), D};
    expect_refused("W must point to 9 values, got a null pointer",
                   [&] { hsoftmax_search<float>(p.tree.view(), in, {.k = C}, {classes.data(), N, C}, {quarter.data(), N, C}, bound); });
}

void sparse_operators() {
    const std::vector<std::int64_t> indptr{0, 2, 3};
    const std::vector<std::int64_t> indices{0, 2, 1};
    std::vector<float> values{3, 4, 2}, out(3);
    std::vector<double> norms(2);
    const CsrView<const float, std::int64_t> x{.indptr = indptr, .indices = indices, .data = values, .cols = 3};
    normalize_rows<float, std::int64_t>(x, out, norms, {.norm = 1}, 1);
    expect(norms[0] == 5 && out[0] == 0.6f, "rows of unit norm");
    const std::vector<float> zero{0};
    dropout<float>(values, {.seed = 1, .rate = 1}, {.values = zero}, out);
    expect(out == std::vector<float>(3, 0), "all dropped");
    std::vector<float> E(3 * 2, 1), hidden(2 * 2);
    embedding_bag<float, std::int64_t>(x, {E.data(), 3, 2}, BagMode::sum, {hidden.data(), 2, 2});
    expect(hidden[0] == 7, "a bag's sum");
}

void linear_rows() {
    const HierarchyIndex tree(balanced(2));
    const std::vector<std::int32_t> indptr{0, 1, 2}, indices{0, 1};
    const std::vector<float> values{1, 1};
    const std::vector<std::int64_t> label{0, 1};
    const SparseRows rows = linear_train<std::int32_t>(tree.view(), {.indptr = indptr, .indices = indices, .data = values, .cols = 2},
                                                       {.label = label}, {.threshold = 0, .validation = 0}, 1);
    expect(rows.view().rows() == tree.view().rows() && rows.view().cols() == 2, "sparse rows");
}

void text() {
    const std::vector<std::uint8_t> words{'p', 'u', 'r', 'r', 's'}, lines{'i', 't', ' ', 'p', 'u', 'r', 'r', 's'};
    const std::vector<std::int64_t> word_ends{0, 5}, no_labels{0}, line_ends{0, 8};
    const TextDictionary dictionary({words, word_ends}, {{}, no_labels}, {}, {.word_ngrams = 2, .buckets = 10});
    const TextRows rows = dictionary.rows({lines, line_ends}, 1);
    expect(dictionary.cols() == 11 && rows.indices[0] == 0, "rows of text");
}

void files_and_runtime() {
    set_num_threads(2);
    expect(get_num_threads() == 2 && !active_isa().empty() && std::string(version()).size() >= 5, "the runtime");
    const auto path = std::filesystem::temp_directory_path() / "sparseops_every_header.txt";
    std::ofstream(path) << "no model";
    try {
        (void)Model::load(path);
        expect(false, "a text file is no model");
    } catch (const std::invalid_argument&) {}
    std::filesystem::remove(path);
}

}  // namespace

int main() {
    trees();
    loss_and_training();
    search_and_kinds();
    sparse_operators();
    linear_rows();
    text();
    files_and_runtime();
    return failures;
}
