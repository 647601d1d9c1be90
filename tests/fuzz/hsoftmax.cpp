// SPDX-License-Identifier: BSD-3-Clause
// The loss, its gradient and update, distributions, search and samples on hostile numbers and shapes: refused, or what the
// textbook and a sort of all classes say.
#include <algorithm>
#include <numeric>
#include <optional>

#include <sparseops/search.hpp>
#include <sparseops/update.hpp>

#include "tree_oracle.hpp"
#include "trees.hpp"

namespace {

using namespace sparseops_fuzz;
using sparseops::HSoftmaxInput;
using sparseops::HSoftmaxPlan;
using sparseops::MatrixView;

template <class T>
struct Case {
    Hierarchy tree;
    HierarchyIndex index;
    std::size_t n, dim;
    bool wild;
    std::vector<T> X, W, b;
    HSoftmaxInput<T> input;
    int num_threads;

    explicit Case(Input& in) : tree(some_tree(in)), index(tree), n(in.upto(4)), dim(in.upto(20)), wild(in.flag()) {
        X = in.reals<T>(n * dim, wild);
        W = in.reals<T>(h().rows() * dim, wild);
        if (in.flag()) b = in.reals<T>(in.size_near(h().rows()), wild);
        input.X = {X.data(), n, dim};
        MatrixView<const T> view{W.data(), h().rows(), dim};
        if (in.rarely() && dim > 0) view.cols = dim - 1;
        if (in.rarely() && h().rows() > 0) view.rows = h().rows() - 1;
        input.W = view;
        input.b = b;
        input.check_finite = !in.rarely();
        num_threads = static_cast<int>(in.below(4));
    }
    const HierarchyView& h() const { return index.view(); }
    bool fits() const { return input.W.rows() == h().rows() && input.W.cols() == dim && (b.empty() || b.size() == h().rows()); }
    // Whether logits of row s stay well inside the range of T: then nothing may be refused.
    bool tame(std::size_t s) const {
        const auto most = [](const T* from, std::size_t count) {
            long double m = 0;
            for (std::size_t i = 0; i < count; ++i) {
                if (!std::isfinite(from[i])) return std::numeric_limits<long double>::infinity();
                m = std::max(m, std::abs(static_cast<long double>(from[i])));
            }
            return m;
        };
        const long double x = most(X.data() + s * dim, dim), w = most(W.data(), W.size()), bias = most(b.data(), b.size());
        return x < HUGE_VALL && w < HUGE_VALL && x * w * static_cast<long double>(dim) + bias < std::numeric_limits<T>::max() / 64;
    }
    bool all_tame() const {
        for (std::size_t s = 0; s < n; ++s) {
            if (!tame(s)) return false;
        }
        return true;
    }
    sparseops_test::Example<T> example(std::size_t s) const { return {X.data() + s * dim, {W.data(), h().rows(), dim}, b}; }
};

template <class T>
std::vector<T> table(const HierarchyView& h, const Case<T>& c, bool nodes, bool& no) {
    const std::size_t cols = nodes ? h.nodes() : h.classes();
    std::vector<T> out(c.input.X.rows() * cols, T(7));
    const MatrixView<T> view{out.data(), c.input.X.rows(), cols};
    no = refused(
        [&] { nodes ? hsoftmax_node_log_proba(h, c.input, view, c.num_threads) : hsoftmax_log_proba(h, c.input, view, c.num_threads); });
    return out;
}

template <class T>
void train(Input& in) {
    Case<T> c(in);
    const HierarchyView& h = c.h();
    std::optional<std::int64_t> ignore;
    if (in.flag()) ignore = in.integer<std::int64_t>(-1, static_cast<std::int64_t>(h.classes()));
    const auto labels = in.integers<std::int64_t>(in.size_near(c.n), 0, static_cast<std::int64_t>(h.classes()) - 1);
    bool known = true;
    for (const std::int64_t l : labels) known = known && ((l >= 0 && l < static_cast<std::int64_t>(h.classes())) || l == ignore);
    std::optional<HSoftmaxPlan> plan;
    must(refused([&] { plan.emplace(h, labels, ignore); }) == !known, "labels are refused out of range");
    if (!known) return;
    must(plan->order().size() + static_cast<std::size_t>(ignore ? std::count(labels.begin(), labels.end(), *ignore) : 0) == labels.size(),
         "every example is in the plan or ignored");

    HSoftmaxInput<T>& input = c.input;
    const auto sample_weight = in.flag() ? std::vector<T>() : in.reals<T>(in.size_near(c.n), in.rarely());
    input.sample_weight = sample_weight;
    input.scale_loss = in.flag();
    input.label_smoothing = in.pick({0.0, 0.0, 0.1, 0.999, 1.0, -0.1, std::nan("")});
    const bool fits = c.fits() && labels.size() == c.n && (sample_weight.empty() || sample_weight.size() == c.n) &&
                      input.label_smoothing >= 0 && input.label_smoothing < 1;
    const std::size_t logits = plan->n_logits(), rows = plan->touched_rows();
    std::vector<T> nll(c.n, T(7)), residuals(logits);
    const bool no = refused([&] { hsoftmax(*plan, input, std::span<T>(nll), std::span<T>(residuals), c.num_threads); });
    must(fits || no, "shapes that do not fit are refused");
    must(!no || !fits || !c.all_tame(), "numbers in range are not refused");
    if (!no && input.check_finite) {
        for (std::size_t s = 0; s < c.n; ++s) {
            if (labels[s] == ignore) {
                must(nll[s] == 0, "an ignored example has loss 0");
                continue;
            }
            if (!sample_weight.empty() && input.scale_loss) continue;
            must(nll[s] >= 0, "a loss is not negative, got ", nll[s]);
            if (!c.tame(s)) continue;
            const auto want = c.example(s).nll(h, static_cast<std::size_t>(labels[s]), input.label_smoothing);
            must(std::abs(static_cast<double>(nll[s]) - want.value) <= want.bound + 1e-300, "the loss of row ", s, " is ", want.value,
                 " ± ", want.bound, ", got ", nll[s]);
        }
    }

    std::vector<T> loss(c.n, T(7)), dX(c.n * c.dim, T(7)), dW(rows * c.dim, T(7)), db(rows, T(7));
    const MatrixView<T> dX_view{dX.data(), c.n, c.dim};
    const bool no_gradient = refused(
        [&] { hsoftmax_gradient(*plan, input, std::span<T>(loss), dX_view, {dW.data(), rows, c.dim}, std::span<T>(db), c.num_threads); });
    must(no_gradient == no, "the gradient is refused as the loss is");
    std::vector<std::int64_t> touched(rows);
    plan->write_rows(touched);
    must(std::is_sorted(touched.begin(), touched.end()) && std::adjacent_find(touched.begin(), touched.end()) == touched.end(),
         "rows rise");
    if (!no && input.check_finite) {
        must(same_bytes(loss, nll), "the gradient's loss is the loss");
        std::vector<T> all(h.rows() * c.dim, T(0)), all_b(h.rows(), T(0)), want = all, want_b = all_b;
        hsoftmax_gradient_dense(*plan, input, std::span<T>(loss), dX_view, {all.data(), h.rows(), c.dim}, std::span<T>(all_b),
                                c.num_threads);
        for (std::size_t u = 0; u < rows; ++u) {
            const auto row = static_cast<std::size_t>(touched[u]);
            want_b[row] = db[u];
            std::copy_n(dW.begin() + static_cast<std::ptrdiff_t>(u * c.dim), c.dim,
                        want.begin() + static_cast<std::ptrdiff_t>(row * c.dim));
        }
        must(same_bytes(all, want) && same_bytes(all_b, want_b), "the dense gradient is the sparse one");
        if (!c.wild) {
            for (const T g : dW) must(std::isfinite(g) || !sample_weight.empty(), "the gradient is finite");
        }
        input.residuals = residuals;
        std::vector<T> again(c.n, T(7));
        hsoftmax_gradient(*plan, input, std::span<T>(again), dX_view, {dW.data(), rows, c.dim}, std::span<T>(db), c.num_threads);
        must(same_bytes(again, nll), "residuals give the same loss");
        input.residuals = {};
    }

    sparseops::Optimizer<T> o;
    using sparseops::Method;
    o.method = in.pick({Method::sgd, Method::adagrad, Method::rowwise_adagrad, Method::adam});
    o.lr = in.pick({0.1, 0.0, 1e30, -1.0, std::nan("")}), o.eps = in.pick({1e-8, 0.0}), o.max_norm = in.pick({0.0, 0.0, 1.0, -1.0});
    o.weight_decay = in.pick({0.0, 0.01, 1e30}), o.beta1 = in.pick({0.9, 0.0, 1.0}), o.beta2 = 0.99, o.step = in.pick({1, 1, 1000, 0});
    const std::size_t width = o.method == Method::rowwise_adagrad ? 1 : c.dim, state_rows = in.size_near(h.rows());
    std::vector<T> first(state_rows * width, T(0)), second = first, b_first(c.b.size(), T(0)), b_second = b_first;
    o.first = {first.data(), state_rows, width}, o.second = {second.data(), state_rows, width}, o.b_first = b_first, o.b_second = b_second;
    const auto W = c.W, b = c.b;
    const bool no_step = refused([&] {
        hsoftmax_update(*plan, input, MatrixView<T>{c.W.data(), input.W.rows(), input.W.cols()}, std::span<T>(c.b), o, std::span<T>(loss),
                        dX_view, c.num_threads);
    });
    must(no_step || !no, "the update is refused as the loss is");
    if (no_step) {
        must(same_bytes(W, c.W) && same_bytes(b, c.b), "a refused update leaves the weights");
        const auto zero = [](const std::vector<T>& v) { return std::all_of(v.begin(), v.end(), [](T x) { return x == 0; }); };
        must(zero(first) && zero(second) && zero(b_first) && zero(b_second), "and the state");
    }
}

template <class T>
struct Result {
    T log_p;
    std::int64_t id;
};

template <class T>
void search(Input& in) {
    Case<T> c(in);
    const HierarchyView& h = c.h();
    bool no_classes = false, no_nodes = false;
    const auto of_class = table(h, c, false, no_classes), of_node = table(h, c, true, no_nodes);
    must(c.fits() || (no_classes && no_nodes), "shapes that do not fit are refused");
    must(no_classes == no_nodes, "classes and nodes are refused alike");
    must(!no_classes || !c.fits() || !c.all_tame(), "numbers in range are not refused");
    const bool trusted = !no_classes && c.input.check_finite;  // there are probabilities to compare with
    for (std::size_t s = 0; s < c.n && trusted; ++s) {
        double sum = 0;
        for (std::size_t k = 0; k < h.classes(); ++k) {
            const T p = of_class[s * h.classes() + k];
            must(p <= 0, "log-probabilities are at most 0, got ", p);
            sum += std::exp(static_cast<double>(p));
        }
        const double depth = h.depth + 1;
        must(std::abs(sum - 1) <= 16 * depth * static_cast<double>(std::numeric_limits<T>::epsilon()) * 8, "probabilities sum to 1, got ",
             sum);
    }

    sparseops::SearchOptions o;
    o.k = in.rarely() ? 0 : 1 + in.below(30);
    if (in.flag()) o.beam = in.integer<std::int64_t>(1, 30);
    if (in.rarely()) o.edge_beam = in.pick<double>({0, 0.7, 5, -1, NAN, HUGE_VAL});
    o.nodes = in.flag();
    if (in.rarely()) o.min_prob = in.pick({0.5, 1.0, 1e-300, 0.0, 1.5, std::nan("")});
    const bool good = o.k >= 1 && (!o.beam || *o.beam >= 1) && (!o.edge_beam || *o.edge_beam >= 0) &&
                      (!o.min_prob || (*o.min_prob > 0 && *o.min_prob <= 1));
    std::vector<std::int64_t> ids(c.n * o.k, -7);
    std::vector<T> log_p(c.n * o.k, T(7)), bound(in.size_near(c.n), T(7));
    const bool no = refused([&] {
        hsoftmax_search(h, c.input, o, MatrixView<std::int64_t>{ids.data(), c.n, o.k}, MatrixView<T>{log_p.data(), c.n, o.k},
                        std::span<T>(bound), c.num_threads);
    });
    must(no || (good && c.fits() && bound.size() == c.n), "a search that is not valid is refused");
    must(!no || !good || !c.fits() || bound.size() != c.n || no_classes, "a search that is valid is not");
    if (no) return;
    const auto limit = static_cast<std::int64_t>(h.classes() + (o.nodes || o.min_prob ? h.nodes() : 0));
    for (const std::int64_t id : ids) must(id >= -1 && id < limit, "results are classes, or nodes if asked, got ", id);
    if (!trusted) return;
    const bool exact = !o.edge_beam && !o.min_prob && (!o.beam || *o.beam >= static_cast<std::int64_t>(h.nodes()));
    for (std::size_t s = 0; s < c.n; ++s) {
        std::vector<Result<T>> all;
        for (std::size_t k = 0; k < h.classes(); ++k) all.push_back({of_class[s * h.classes() + k], static_cast<std::int64_t>(k)});
        for (std::size_t v = 0; v < h.nodes() && o.nodes; ++v) {
            if (static_cast<std::int32_t>(v) != h.preorder[0])
                all.push_back({of_node[s * h.nodes() + v], static_cast<std::int64_t>(h.classes() + v)});
        }
        std::sort(all.begin(), all.end(),
                  [](const auto& a, const auto& b) { return a.log_p != b.log_p ? a.log_p > b.log_p : a.id < b.id; });
        const std::span found(ids.data() + s * o.k, o.k);
        const std::span found_p(log_p.data() + s * o.k, o.k);
        for (std::size_t j = 0; j < o.k && exact; ++j) {
            const Result<T> want = j < all.size() ? all[j] : Result<T>{-std::numeric_limits<T>::infinity(), -1};
            must(found[j] == want.id && std::memcmp(&found_p[j], &want.log_p, sizeof(T)) == 0, "result ", j, " of row ", s, " is ", want.id,
                 " with ", want.log_p, ", got ", found[j], " with ", found_p[j]);
        }
        if (o.min_prob) {
            for (std::size_t j = 0; j < o.k; ++j)
                must(found[j] < 0 || static_cast<double>(found_p[j]) >= std::log(*o.min_prob) * (1 + 1e-6) - 1e-12,
                     "results have min_prob, got ", found_p[j]);
            continue;
        }
        const T last = found[o.k - 1] >= 0 ? found_p[o.k - 1] : -std::numeric_limits<T>::infinity();
        for (const Result<T>& r : all) {
            const auto at = std::find(found.begin(), found.end(), r.id);
            if (at != found.end())
                must(found_p[static_cast<std::size_t>(at - found.begin())] == r.log_p, "a result has its probability");
            else
                must(r.log_p <= std::max(bound[s], last), "what is not found is within the bound ", bound[s], ", got ", r.log_p);
        }
    }
}

template <class T>
void draw(Input& in) {
    Case<T> c(in);
    const HierarchyView& h = c.h();
    bool no = false;
    const auto of_class = table(h, c, false, no);
    const std::size_t draws = in.upto(5);
    std::vector<std::int64_t> out(c.n * draws, -7);
    const bool no_draw = refused([&] { hsoftmax_sample(h, c.input, in.bits<std::uint64_t>(), {out.data(), c.n, draws}, c.num_threads); });
    must(!no_draw || no, "samples are refused only where a distribution is");
    std::vector<T> log_p(out.size(), T(7));
    if (no_draw) return;
    for (const std::int64_t k : out) must(k >= 0 && k < static_cast<std::int64_t>(h.classes()), "samples are classes, got ", k);
    const bool no_lookup = refused([&] {
        hsoftmax_log_proba_of(h, c.input, MatrixView<const std::int64_t>{out.data(), c.n, draws}, MatrixView<T>{log_p.data(), c.n, draws},
                              c.num_threads);
    });
    must(!no_lookup, "the path of a sample is scored as it was drawn");
    if (no || !c.input.check_finite) return;
    for (std::size_t i = 0; i < out.size(); ++i) {
        const T want = of_class[i / draws * h.classes() + static_cast<std::size_t>(out[i])];
        must(std::memcmp(&log_p[i], &want, sizeof(T)) == 0, "a class has the same log-probability by itself, ", want, ", got ", log_p[i]);
        must(want > -std::numeric_limits<T>::infinity(), "what is drawn is possible");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    constexpr void (*runs[])(Input&) = {train<float>,  train<double>, search<float>, search<double>,
                                        search<float>, draw<float>,   draw<double>};
    runs[in.below(std::size(runs))](in);
    return 0;
}
