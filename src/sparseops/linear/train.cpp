// SPDX-License-Identifier: BSD-3-Clause
// Tasks, their order, and what becomes of their results.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <vector>

#include "../detail/csr_rows.hpp"
#include "../detail/labels.hpp"
#include "../detail/parallel.hpp"
#include "../detail/random.hpp"
#include "../detail/require.hpp"
#include "../linear.hpp"
#include "assemble.hpp"
#include "centroids.hpp"
#include "link.hpp"
#include "packed.hpp"
#include "problem.hpp"
#include "solve.hpp"
#include "start.hpp"

namespace sparseops {

using detail::require;

// The trainer behind LinearTrainer, for either width of the indices.
class LinearTrainer::Work {
public:
    Work() = default;
    Work(const Work&) = delete;
    Work& operator=(const Work&) = delete;
    virtual ~Work() = default;
    virtual std::size_t tasks() const noexcept = 0;
    virtual std::size_t done() const noexcept = 0;
    virtual double progress() const noexcept = 0;
    virtual std::size_t piece() const noexcept = 0;
    virtual void run(std::size_t n) = 0;
    virtual void keep_share(std::size_t share, std::size_t shares) = 0;
    virtual std::vector<std::uint8_t> trained() = 0;
    virtual void take(std::span<const std::uint8_t> trained) = 0;
    virtual SparseRows finish() = 0;
};

namespace {

constexpr std::size_t most_held_out = 5000, least_held_out = 200;
constexpr double most_scores = 1 << 24;      // of held-out examples, kept until all nodes are trained: 128 MiB with their cosines
constexpr double largest_softmax = 1 << 30;  // probabilities of one node: 4 GiB

void require_options(const HierarchyView& h, const LabelsView& labels, const LinearOptions& o) {
    require(h.independent || labels.single(), "labels must be one a row unless the nodes of the tree are independent, got several");
    require(o.loss != LinearLoss::softmax || !h.independent, "loss must be squared_hinge or logistic for independent nodes, got softmax");
    require(std::isfinite(o.C) && o.C >= 1e-6 && o.C <= 1e6, "C must be in [1e-6, 1e6], got ", o.C);
    require(std::isfinite(o.threshold) && o.threshold >= 0, "threshold must be finite and non-negative, got ", o.threshold);
    require(std::isfinite(o.tol) && o.tol >= 0, "tol must be finite and non-negative, got ", o.tol);
    require(o.max_iter >= 1, "max_iter must be at least 1, got ", o.max_iter);
    require(o.validation >= 0 && o.validation < 1, "validation must be in [0, 1), got ", o.validation);
    for (std::size_t v = 0; v < h.nodes(); ++v) {
        require(h.row_count(v) <= max_sparse_rows_of_node, "h must have nodes of at most ", max_sparse_rows_of_node, " rows, got ",
                h.row_count(v), " at node ", v);
    }
}

void require_weight(std::span<const float> weight, std::size_t n, const char* name) {
    require(weight.empty() || weight.size() == n, name, " must have ", n, " entries, got ", weight.size());
    detail::require_data(name, weight);
    for (std::size_t i = 0; i < weight.size(); ++i) {
        require(weight[i] >= 0 && weight[i] <= 1e6f, name, " must be in [0, 1e6], got ", weight[i], " at index ", i);
    }
}

// C times the weight of each example.
std::vector<float> costs(const LabelsView& labels, const LinearOptions& o) {
    std::vector<float> cost(labels.rows());
    for (std::size_t i = 0; i < cost.size(); ++i) {
        double weight = o.sample_weight.empty() ? 1 : static_cast<double>(o.sample_weight[i]);
        const auto own = labels.of(i);
        if (!o.class_weight.empty() && !own.empty()) {
            double sum = 0;
            for (const std::int64_t c : own) sum += static_cast<double>(o.class_weight[static_cast<std::size_t>(c)]);
            weight *= sum / static_cast<double>(own.size());
        }
        cost[i] = static_cast<float>(o.C * weight);
    }
    return cost;
}

// Marks a sample of the examples that count (selection sampling; Knuth, The Art of Computer Programming 2, 3.4.2).
std::vector<std::uint8_t> hold_out(std::span<const float> cost, const LinearOptions& o) {
    const auto counting = static_cast<std::size_t>(std::count_if(cost.begin(), cost.end(), [](float c) { return c > 0; }));
    std::size_t wanted = std::min(most_held_out, static_cast<std::size_t>(o.validation * static_cast<double>(counting)));
    std::vector<std::uint8_t> held(cost.size(), 0);
    if (wanted < least_held_out) return held;
    detail::Draws draws(o.seed, detail::Stream::held_out, 0);
    std::size_t left = counting;
    for (std::size_t i = 0; wanted > 0; ++i) {
        if (!(cost[i] > 0)) continue;
        if (draws.below(left--) >= wanted) continue;
        held[i] = 1;
        --wanted;
    }
    return held;
}

// The rows with rising indices and each of them once, duplicates added up.
template <Index I>
CsrMatrix<float, I> in_order(const CsrView<const float, I>& X) {
    CsrMatrix<float, I> out;
    out.cols = X.cols;
    out.indptr.reserve(X.rows() + 1);
    out.indptr.push_back(0);
    out.indices.reserve(X.indices.size());
    out.data.reserve(X.data.size());
    std::vector<std::pair<I, float>> row;
    for (std::size_t i = 0; i < X.rows(); ++i) {
        row.clear();
        for (std::size_t j = detail::row_begin(X, i); j < detail::row_begin(X, i) + detail::row_size(X, i); ++j) {
            row.emplace_back(X.indices[j], X.data[j]);
        }
        std::stable_sort(row.begin(), row.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
        for (const auto& [f, x] : row) {
            if (static_cast<I>(out.indices.size()) > out.indptr.back() && out.indices.back() == f) {
                out.data.back() += x;
            } else {
                out.indices.push_back(f);
                out.data.push_back(x);
            }
        }
        out.indptr.push_back(static_cast<I>(out.indices.size()));
    }
    return out;
}

template <Index I>
void require_row_norms(const CsrView<const float, I>& X, int num_threads) {
    detail::FirstPlace long_row;
    detail::each_row_block(X, num_threads, [&](std::size_t first, std::size_t end) {
        for (std::size_t i = first; i < end; ++i) {
            double squares = 0;
            for (std::size_t j = detail::row_begin(X, i); j < detail::row_begin(X, i) + detail::row_size(X, i); ++j) {
                squares += static_cast<double>(X.data[j]) * static_cast<double>(X.data[j]);
            }
            if (!(squares <= 1e12)) long_row.report(i);
        }
    });
    if (long_row.any()) detail::refuse("X must have rows of norm 1e6 at most, got a longer one at row ", long_row.place());
}

// Some blocks of a node, done by one thread.
struct Task {
    std::uint32_t node, first_block, blocks;
    double cost;
};

template <Index I>
class TypedWork final : public LinearTrainer::Work {
public:
    TypedWork(const HierarchyView& h, CsrView<const float, I> X, const LabelsView& labels, const LinearOptions& options, int num_threads)
        : h_(h), X_(X), labels_(labels), o_(options) {
        require(X.rows() < std::size_t{1} << 31, "X must have fewer than 2**31 rows, got ", X.rows());
        if (!detail::require_csr_rows(X, "X", num_threads)) {
            own_ = in_order(X);
            X_ = own_.view();
        }
        require_row_norms(X_, num_threads);
        detail::require_labels(labels, X.rows(), h.classes());
        require_options(h, labels, options);
        require_weight(options.sample_weight, X.rows(), "sample_weight");
        require_weight(options.class_weight, h.classes(), "class_weight");
        if (o_.start) {
            require(std::ranges::equal(o_.start->row_ptr, h.row_ptr),
                    "start must have the rows of the tree's nodes, got rows of another tree");
            require_sparse_rows(*o_.start, h);
            require(o_.start->features == X.cols, "start must have a column for each of X, ", X.cols, ", got ", o_.start->features);
        }
        cost_ = costs(labels, options);
        held_out_ = o_.start ? std::vector<std::uint8_t>(cost_.size(), 0) : hold_out(cost_, options);
        reach_.emplace(h, labels, cost_);
        states_ = std::vector<NodeState>(h.nodes());
        list_tasks();
        scored_share_ = share_to_score();
        threads_ = detail::team_size(num_threads, 20 * static_cast<double>(X_.indices.size()));
        workers_.resize(static_cast<std::size_t>(std::max(1, threads_)));
    }

    std::size_t tasks() const noexcept override { return tasks_.size(); }
    std::size_t done() const noexcept override { return done_; }
    double progress() const noexcept override { return total_ > 0 ? done_cost_ / total_ : 1; }

    std::size_t piece() const noexcept override {
        if (done_ == tasks_.size()) return 0;
        const double wanted = std::max(total_ / 32, static_cast<double>(threads_) * tasks_[done_].cost);
        double cost = 0;
        std::size_t n = 0;
        while (done_ + n < tasks_.size() && cost < wanted) cost += tasks_[done_ + n++].cost;
        return n;
    }

    void run(std::size_t n) override {
        n = std::min(n, tasks_.size() - done_);
        detail::parallel_for(n, threads_, [&](std::size_t i, std::size_t worker) { train(tasks_[done_ + i], worker); });
        for (std::size_t i = 0; i < n; ++i) done_cost_ += tasks_[done_ + i].cost;
        done_ += n;
    }

    // Node by node, the most expensive first, to the share that has the least work.
    void keep_share(std::size_t share, std::size_t shares) override {
        require(shares >= 1 && share < shares, "share must be below shares, ", shares, ", got ", share);
        require(done_ == 0, "share must be chosen before the first task, got ", done_, " done");
        std::vector<std::size_t> nodes(states_.size());
        std::iota(nodes.begin(), nodes.end(), std::size_t{0});
        std::stable_sort(nodes.begin(), nodes.end(), [&](std::size_t a, std::size_t b) { return cost_of(a) > cost_of(b); });
        std::vector<double> load(shares, 0);
        std::vector<std::uint8_t> mine(states_.size(), 0);
        for (const std::size_t v : nodes) {
            const auto least = static_cast<std::size_t>(std::min_element(load.begin(), load.end()) - load.begin());
            load[least] += cost_of(v);
            mine[v] = least == share;
        }
        drop_tasks([&](const Task& task) { return mine[task.node] == 0; });
    }

    std::vector<std::uint8_t> trained() override {
        std::vector<std::uint8_t> packed;
        std::vector<std::uint8_t> seen(states_.size(), 0);
        for (std::size_t i = 0; i < done_; ++i) {
            const std::size_t v = tasks_[i].node;
            if (seen[v] || states_[v].left > 0) continue;
            seen[v] = 1;
            detail::pack({v, std::move(states_[v].rows), std::move(states_[v].held_out)}, packed);
        }
        return packed;
    }

    void take(std::span<const std::uint8_t> trained) override {
        require(done_ == 0, "trained must be taken before the first task, got ", done_, " done");
        detail::require_data("trained", trained);
        std::vector<std::uint8_t> taken(states_.size(), 0);
        while (!trained.empty()) {
            auto [v, rows, held_out] = detail::unpack(trained, h_, X_.cols);
            states_[v].rows = std::move(rows);
            states_[v].held_out = std::move(held_out);
            taken[v] = 1;
        }
        drop_tasks([&](const Task& task) { return taken[task.node] == 1; });
    }

    SparseRows finish() override {
        require(done_ == tasks_.size(), "tasks must all be done, got ", done_, " of ", tasks_.size());
        workers_.clear();
        std::vector<detail::NodeRows> nodes(states_.size());
        for (std::size_t v = 0; v < nodes.size(); ++v) nodes[v] = stays(v) ? detail::stored_rows(*o_.start, v) : std::move(states_[v].rows);
        std::vector<float> temperature;
        if (o_.start) {
            temperature.assign(o_.start->temperature.begin(), o_.start->temperature.end());
        } else {
            const std::vector<detail::Link> links = fit_links();
            for (const detail::Link& link : links) temperature.push_back(link.temperature);
            add_terms(links, nodes);
        }
        SparseRows W = detail::assemble_tree(h_, nodes, X_.cols);
        W.temperature = std::move(temperature);
        return W;
    }

private:
    struct NodeState {
        std::vector<detail::SolvedRows> blocks;
        std::atomic<std::uint32_t> left{0};  // tasks
        detail::NodeRows rows;
        detail::HeldOut held_out;
    };
    struct Worker {
        explicit Worker(const TypedWork& work) : problem(work.X_.cols), centroids(work.h_, work.X_, *work.reach_, work.cost_) {}
        detail::NodeProblem problem;
        detail::SolveScratch scratch;
        detail::Centroids<I> centroids;
    };

    template <class Drop>
    void drop_tasks(Drop drop) {
        std::erase_if(tasks_, drop);
        total_ = 0;
        for (const Task& task : tasks_) total_ += task.cost;
    }

    // Whether the rows of the node compete, so that they are trained together.
    bool together(std::size_t v) const noexcept { return o_.loss == LinearLoss::softmax && h_.row_count(v) > 1; }

    // Whether the node keeps the rows that it has.
    bool stays(std::size_t v) const noexcept { return o_.start && reach_->listed(v) == 0; }

    std::size_t blocks_of(std::size_t v) const noexcept {
        return together(v) ? 1 : (h_.row_count(v) + detail::linear_lanes - 1) / detail::linear_lanes;
    }

    double cost_of(std::size_t v) const noexcept {
        const auto vectors = static_cast<double>((h_.row_count(v) + detail::linear_lanes - 1) / detail::linear_lanes);
        return (static_cast<double>(reach_->listed(v)) + 16) * vectors;
    }

    // The blocks of a node share its problem, so they stay together, unless that would leave other threads idle at the end.
    void list_tasks() {
        for (std::size_t v = 0; v < h_.nodes(); ++v) {
            if (stays(v)) continue;
            total_ += cost_of(v);
            const auto listed = static_cast<double>(reach_->listed(v));
            require(!together(v) || listed * static_cast<double>(h_.row_count(v)) <= largest_softmax,
                    "h must have nodes with examples times rows of at most 2**30 for the softmax loss, got ",
                    listed * static_cast<double>(h_.row_count(v)), " at node ", v);
        }
        for (std::size_t v = 0; v < h_.nodes(); ++v) {
            if (stays(v)) continue;
            const std::size_t blocks = blocks_of(v);
            const double cost = cost_of(v), parts = std::ceil(64 * cost / total_);
            const std::size_t groups = std::clamp(static_cast<std::size_t>(parts), std::size_t{1}, blocks);
            states_[v].blocks.resize(blocks);
            states_[v].left = static_cast<std::uint32_t>(groups);
            for (std::size_t g = 0; g < groups; ++g) {
                const std::size_t first = blocks * g / groups, last = blocks * (g + 1) / groups;
                tasks_.push_back({static_cast<std::uint32_t>(v), static_cast<std::uint32_t>(first),
                                  static_cast<std::uint32_t>(last - first),
                                  cost * static_cast<double>(last - first) / static_cast<double>(blocks)});
            }
        }
        std::stable_sort(tasks_.begin(), tasks_.end(), [](const Task& a, const Task& b) { return a.cost > b.cost; });
    }

    // The share of the held-out examples that keeps the scores of all nodes together in bounds.
    double share_to_score() const {
        const auto held = static_cast<double>(std::count(held_out_.begin(), held_out_.end(), 1));
        double scores = 0;
        for (std::size_t v = 0; v < h_.nodes(); ++v) {
            scores += static_cast<double>(reach_->listed(v)) * static_cast<double>(h_.row_count(v));
        }
        scores *= held / static_cast<double>(std::max<std::size_t>(1, X_.rows()));
        return scores > most_scores ? most_scores / scores : 1;
    }

    bool may_have_term(std::size_t v) const noexcept {
        const auto children = h_.children(v);
        return o_.class_term && (!o_.clustered || std::all_of(children.begin(), children.end(), [](std::int32_t c) { return c < 0; }));
    }

    std::vector<detail::Link> fit_links() const {
        std::vector<float> usual(static_cast<std::size_t>(h_.depth), o_.loss == LinearLoss::squared_hinge ? 3.0f : 1.0f);
        if (!usual.empty() && o_.loss == LinearLoss::squared_hinge && !h_.independent) usual.back() = 8;
        std::vector<const detail::HeldOut*> held_out;
        for (const NodeState& state : states_) held_out.push_back(&state.held_out);
        return detail::fit_links(h_, held_out, usual, o_.clustered);
    }

    void add_terms(const std::vector<detail::Link>& links, std::vector<detail::NodeRows>& nodes) const {
        if (std::all_of(links.begin(), links.end(), [](const detail::Link& link) { return link.term == 0; })) return;
        std::vector<std::unique_ptr<detail::Centroids<I>>> centroids(static_cast<std::size_t>(std::max(1, threads_)));
        detail::parallel_for(nodes.size(), threads_, [&](std::size_t v, std::size_t worker) {
            const detail::Link& link = links[static_cast<std::size_t>(h_.level[v])];
            if (link.term == 0 || !may_have_term(v)) return;
            if (!centroids[worker]) centroids[worker] = std::make_unique<detail::Centroids<I>>(h_, X_, *reach_, cost_);
            nodes[v] = centroids[worker]->add_to(nodes[v], v, link.term / link.temperature, o_.threshold);
        });
    }

    void train(const Task& task, std::size_t worker) {
        if (!workers_[worker]) workers_[worker] = std::make_unique<Worker>(*this);
        auto& [problem, scratch, centroids] = *workers_[worker];
        const std::size_t v = task.node, rows = h_.row_count(v);
        NodeState& state = states_[v];
        problem.build(h_, X_, *reach_, cost_, held_out_, v, o_.seed);
        const bool hinge = o_.loss == LinearLoss::squared_hinge;
        // a row that is to say no to most examples starts from a score of -1, where the squared hinge of a no is zero
        std::optional<detail::NodeStart> start;
        if (o_.start) start.emplace(*o_.start, v, problem);
        const detail::SolveOptions solve{hinge ? LinearLoss::squared_hinge : LinearLoss::logistic,
                                         o_.threshold,
                                         hinge && rows > 1 ? -1.0f : 0.0f,
                                         o_.tol,
                                         o_.max_iter,
                                         o_.seed,
                                         scored_share_,
                                         start ? &*start : nullptr};
        for (std::size_t b = task.first_block; b < task.first_block + task.blocks; ++b) {
            state.blocks[b] = together(v) ? detail::solve_softmax(problem, v, rows, solve, scratch)
                                          : detail::solve_block(problem, v, rows, b, solve, scratch);
        }
        if (state.left.fetch_sub(1) == 1) {
            state.held_out = detail::held_out_scores(h_, v, problem, state.blocks, scored_share_);
            if (may_have_term(v)) state.held_out.cosines = centroids.cosines(v, problem, held_out_, state.held_out.examples());
            state.rows = detail::assemble_node(problem, state.blocks);
            if (start) state.rows = start->with_rest(state.rows);
            state.blocks = {};
        }
    }

    const HierarchyView h_;
    CsrView<const float, I> X_;
    CsrMatrix<float, I> own_;
    const LabelsView labels_;
    const LinearOptions o_;
    std::vector<float> cost_;
    std::vector<std::uint8_t> held_out_;  // 1 for the examples that are
    std::optional<detail::Reach> reach_;
    std::vector<NodeState> states_;
    std::vector<Task> tasks_;
    std::size_t done_ = 0;
    double scored_share_ = 1;  // of the held-out examples of each node
    double total_ = 0, done_cost_ = 0;
    int threads_ = 1;
    std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace

template <Index I>
LinearTrainer::LinearTrainer(const HierarchyView& h, CsrView<const float, I> X, const LabelsView& labels, const LinearOptions& options,
                             int num_threads)
    : work_(std::make_unique<TypedWork<I>>(h, X, labels, options, num_threads)) {}
LinearTrainer::LinearTrainer(LinearTrainer&&) noexcept = default;
LinearTrainer& LinearTrainer::operator=(LinearTrainer&&) noexcept = default;
LinearTrainer::~LinearTrainer() = default;

std::size_t LinearTrainer::tasks() const noexcept { return work_->tasks(); }
std::size_t LinearTrainer::done() const noexcept { return work_->done(); }
double LinearTrainer::progress() const noexcept { return work_->progress(); }
std::size_t LinearTrainer::piece() const noexcept { return work_->piece(); }
void LinearTrainer::run(std::size_t n) { work_->run(n); }
void LinearTrainer::keep_share(std::size_t share, std::size_t shares) { work_->keep_share(share, shares); }
std::vector<std::uint8_t> LinearTrainer::trained() { return work_->trained(); }
void LinearTrainer::take(std::span<const std::uint8_t> trained) { work_->take(trained); }
SparseRows LinearTrainer::finish() { return work_->finish(); }

template <Index I>
SparseRows linear_train(const HierarchyView& h, CsrView<const float, I> X, const LabelsView& labels, const LinearOptions& options,
                        int num_threads) {
    LinearTrainer trainer(h, X, labels, options, num_threads);
    trainer.run(trainer.tasks());
    return trainer.finish();
}

template LinearTrainer::LinearTrainer(const HierarchyView&, CsrView<const float, std::int32_t>, const LabelsView&, const LinearOptions&,
                                      int);
template LinearTrainer::LinearTrainer(const HierarchyView&, CsrView<const float, std::int64_t>, const LabelsView&, const LinearOptions&,
                                      int);
template SparseRows linear_train(const HierarchyView&, CsrView<const float, std::int32_t>, const LabelsView&, const LinearOptions&, int);
template SparseRows linear_train(const HierarchyView&, CsrView<const float, std::int64_t>, const LabelsView&, const LinearOptions&, int);

}  // namespace sparseops
