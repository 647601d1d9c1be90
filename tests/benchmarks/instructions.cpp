// SPDX-License-Identifier: BSD-3-Clause
// One case of each operator, on one thread and on fixed input, for instructions.py to count under callgrind.
//
//   count_instructions          runs every case once
//   count_instructions --list   their names
//   count_instructions NAME     one
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <sparseops/sparseops.hpp>
#include <string>
#include <utility>
#include <vector>

using namespace sparseops;

namespace {

constexpr std::size_t classes = 20'000, dim = 128, batch = 256, features = 5'000, entries = 24;

// Numbers in [-1, 1) that are the same everywhere.
class Numbers {
public:
    std::uint32_t next() { return static_cast<std::uint32_t>((state_ = state_ * 6364136223846793005u + 1442695040888963407u) >> 33); }
    std::int64_t below(std::size_t n) { return static_cast<std::int64_t>(next() % n); }
    std::vector<float> floats(std::size_t n) {
        std::vector<float> out(n);
        for (float& x : out) x = static_cast<float>(next()) * 0x1p-30f - 1;
        return out;
    }

private:
    std::uint64_t state_ = 1;
};

std::vector<double> counts() {
    std::vector<double> out(classes);
    for (std::size_t c = 0; c < classes; ++c) out[c] = 1e6 / static_cast<double>(c + 1);
    return out;
}

CsrMatrix<float, std::int32_t> rows_of_features(Numbers& numbers, std::size_t rows, std::size_t cols) {
    CsrMatrix<float, std::int32_t> out{{0}, {}, {}, cols};
    for (std::size_t i = 0; i < rows; ++i) {
        std::vector<std::int32_t> row(entries);
        for (std::int32_t& f : row) f = static_cast<std::int32_t>(numbers.below(cols));
        std::sort(row.begin(), row.end());
        row.erase(std::unique(row.begin(), row.end()), row.end());
        out.indices.insert(out.indices.end(), row.begin(), row.end());
        out.indptr.push_back(static_cast<std::int32_t>(out.indices.size()));
    }
    out.data = numbers.floats(out.indices.size());
    for (float& x : out.data) x = std::abs(x) + 0.1f;
    return out;
}

// Everything that the cases take, made before anything is counted.
struct Input {
    Numbers numbers;
    HierarchyIndex huffman{sparseops::huffman(counts())}, wide{two_level(classes, counts(), 141)};
    std::vector<std::int64_t> labels = [this] {
        std::vector<std::int64_t> out(batch);
        for (std::int64_t& y : out) y = numbers.below(classes);
        return out;
    }();
    std::vector<float> X = numbers.floats(batch * dim), b = std::vector<float>(2 * classes, 0.0f);
    std::vector<float> W = [this] {
        std::vector<float> out = numbers.floats((classes + 200) * dim);
        for (float& w : out) w *= 0.1f;
        return out;
    }();
    std::vector<float> state = std::vector<float>((classes + 200) * dim, 1.0f), b_state = std::vector<float>(2 * classes, 1.0f);
    std::vector<float> nll = std::vector<float>(batch), dX = std::vector<float>(batch * dim);
    CsrMatrix<float, std::int32_t> bags = rows_of_features(numbers, 2'000, features);
    std::vector<std::int64_t> bag_labels = [this] {
        std::vector<std::int64_t> out(2'000);
        for (std::int64_t& y : out) y = numbers.below(classes);
        return out;
    }();

    HSoftmaxInput<float> on(const HierarchyIndex& h) {
        const std::size_t rows = h.view().rows();
        return {.X = {X.data(), batch, dim}, .W = {W.data(), rows, dim}, .b = std::span<const float>(b).first(rows)};
    }
    MatrixView<float> weights(const HierarchyIndex& h) { return {W.data(), h.view().rows(), dim}; }
    std::span<float> bias(const HierarchyIndex& h) { return std::span(b).first(h.view().rows()); }
    Optimizer<float> adagrad(const HierarchyIndex& h) {
        Optimizer<float> out{.method = Method::adagrad, .lr = 0.1, .eps = 1e-10};
        out.first = {state.data(), h.view().rows(), dim};
        out.b_first = std::span(b_state).first(h.view().rows());
        return out;
    }
};

void loss(Input& in, const HierarchyIndex& h) { hsoftmax<float>(HSoftmaxPlan(h.view(), in.labels), in.on(h), in.nll, {}, 1); }

void gradient(Input& in, const HierarchyIndex& h) {
    const HSoftmaxPlan plan(h.view(), in.labels);
    std::vector<float> dW(plan.touched_rows() * dim), db(plan.touched_rows());
    hsoftmax_gradient<float>(plan, in.on(h), in.nll, {in.dX.data(), batch, dim}, {dW.data(), plan.touched_rows(), dim}, db, 1);
}

void update(Input& in, const HierarchyIndex& h, const Optimizer<float>& optimizer) {
    const HSoftmaxPlan plan(h.view(), in.labels);
    hsoftmax_update<float>(plan, in.on(h), in.weights(h), in.bias(h), optimizer, in.nll, {in.dX.data(), batch, dim}, 1);
}

void search(Input& in, const HierarchyIndex& h, const Weights<float>& W, const SearchOptions& options) {
    HSoftmaxInput<float> input = in.on(h);
    input.W = W;
    std::vector<std::int64_t> found(batch * options.k);
    std::vector<float> log_p(batch * options.k), bound(batch);
    hsoftmax_search<float>(h.view(), input, options, {found.data(), batch, options.k}, {log_p.data(), batch, options.k}, bound, 1);
}

using Case = std::function<std::function<void()>(Input&)>;  // prepares, and gives what is counted

const std::vector<std::pair<std::string, Case>>& cases() {
    static const std::vector<std::pair<std::string, Case>> all = {
        {"loss, Huffman", [](Input& in) { return [&] { loss(in, in.huffman); }; }},
        {"loss, two levels", [](Input& in) { return [&] { loss(in, in.wide); }; }},
        {"gradient, Huffman", [](Input& in) { return [&] { gradient(in, in.huffman); }; }},
        {"gradient, two levels", [](Input& in) { return [&] { gradient(in, in.wide); }; }},
        {"SGD step, Huffman", [](Input& in) { return [&] { update(in, in.huffman, {.method = Method::sgd, .lr = 0.1}); }; }},
        {"Adagrad step, Huffman", [](Input& in) { return [&] { update(in, in.huffman, in.adagrad(in.huffman)); }; }},
        {"top 5, exact, Huffman", [](Input& in) { return [&] { search(in, in.huffman, in.weights(in.huffman), {.k = 5}); }; }},
        {"top 5, beam 10, two levels", [](Input& in) { return [&] { search(in, in.wide, in.weights(in.wide), {.k = 5, .beam = 10}); }; }},
        {"top 5, exact, two levels, int8",
         [](Input& in) {
             const std::size_t rows = in.wide.view().rows();
             std::vector<std::int8_t> data(rows * dim);
             std::vector<float> scale(rows);
             quantize(in.weights(in.wide), QuantizedKind::int8, data.data(), scale, 1);
             return [&in, rows, data = std::move(data), scale = std::move(scale)] {
                 search(in, in.wide, QuantizedView{QuantizedKind::int8, data.data(), scale, rows, dim}, {.k = 5});
             };
         }},
        {"log-probabilities of all classes, Huffman",
         [](Input& in) {
             return [&in, out = std::vector<float>(16 * classes)]() mutable {
                 HSoftmaxInput<float> input = in.on(in.huffman);
                 input.X = {in.X.data(), 16, dim};
                 hsoftmax_log_proba<float>(in.huffman.view(), input, {out.data(), 16, classes}, 1);
             };
         }},
        {"embedding bag and step",
         [](Input& in) {
             std::vector<std::int64_t> order(in.bag_labels.size());
             for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i);
             return [&in, order = std::move(order), E = in.numbers.floats(features * dim),
                     state = std::vector<float>(features * dim, 1.0f)]() mutable {
                 Optimizer<float> first{.method = Method::adagrad, .lr = 0.1, .eps = 1e-10}, second = in.adagrad(in.huffman);
                 first.first = {state.data(), features, dim};
                 const BagSchedule schedule{.batch_size = batch, .total = 2'000};
                 bag_train<float, std::int32_t>(in.huffman.view(), in.bags.view(), in.bag_labels, {}, order, BagMode::mean,
                                                {E.data(), features, dim}, in.weights(in.huffman), in.bias(in.huffman), first, second,
                                                schedule, 1);
             };
         }},
        {"training of sparse rows",
         [](Input& in) {
             return [&in, h = std::make_shared<const HierarchyIndex>(balanced(classes, 64, false))] {
                 linear_train<std::int32_t>(h->view(), in.bags.view(), {.label = in.bag_labels}, {}, 1);
             };
         }},
        {"normalize rows, CSR",
         [](Input& in) {
             return [&in, out = std::vector<float>(in.bags.data.size()), norms = std::vector<double>(2'000)]() mutable {
                 normalize_rows<float, std::int32_t>(in.bags.view(), out, norms, {}, 1);
             };
         }},
        {"normalize columns, CSR",
         [](Input& in) {
             return [&in, out = std::vector<float>(in.bags.data.size()), norms = std::vector<double>(features)]() mutable {
                 normalize_columns<float, std::int32_t>(in.bags.view(), out, norms, {}, 1);
             };
         }},
        {"normalize rows, dense",
         [](Input& in) {
             return [&in, out = std::vector<float>(in.X.size()), norms = std::vector<double>(batch)]() mutable {
                 normalize_rows<float>(MatrixView<const float>{in.X.data(), batch, dim}, {out.data(), batch, dim}, norms, {}, 1);
             };
         }},
        {"dropout", [](Input& in) {
             return [&in, out = std::vector<float>(in.W.size()), zero = std::vector<float>(1)]() mutable {
                 dropout<float>(in.W, {.seed = 1, .rate = 0.3}, {.values = zero, .repeat = in.W.size()}, out, {}, {}, true, 1);
             };
         }}};
    return all;
}

}  // namespace

// By this name callgrind begins and ends to count.
extern "C" __attribute__((noinline)) void counted(const std::function<void()>& run) { run(); }

int main(int argc, char** argv) {
    const std::string wanted = argc > 1 ? argv[1] : "";
    bool found = wanted.empty();
    for (const auto& [name, prepare] : cases()) {
        if (wanted == "--list") std::puts(name.c_str());
        if (!wanted.empty() && name != wanted) continue;
        Input input;
        const auto run = prepare(input);
        if (!wanted.empty()) run();  // the first call chooses kernels and touches memory
        counted(run);
        found = true;
    }
    return found || wanted == "--list" ? 0 : 2;
}
