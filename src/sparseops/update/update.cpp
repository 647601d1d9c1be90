// SPDX-License-Identifier: BSD-3-Clause
#include "../update.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <type_traits>
#include <utility>

#include "../detail/require.hpp"
#include "../hsoftmax/backward.hpp"
#include "../kernels/half.hpp"
#include "../kernels/kernels.hpp"
#include "../kernels/prefetch.hpp"
#include "../normalize/named_rows.hpp"
#include "steps.hpp"

namespace sparseops {
namespace {

using detail::require;

template <Real T>
constexpr double largest_of = static_cast<double>(std::numeric_limits<T>::max());

// Where a number of T comes from one that T may not hold.
template <Real T>
T within(double value) {
    return static_cast<T>(std::min(value, largest_of<T>));
}

// The least number whose square is normal.
template <Real T>
constexpr double least_root = sizeof(T) == 4 ? 0x1p-63 : 0x1p-511;
static_assert(least_root<float> * least_root<float> == static_cast<double>(std::numeric_limits<float>::min()));
static_assert(least_root<double> * least_root<double> == std::numeric_limits<double>::min());

// With 0 a step of nothing would be 0 / 0.
template <Real T>
T least_eps(const Optimizer<T>& o) {
    return static_cast<T>(std::max(o.eps, least_root<T>));
}

// By norms. Only with that bound unmet are the largest entries asked for.
template <Real T>
bool surely_has_room(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, const Optimizer<T>& optimizer) {
    const MatrixView<const T> X = *in.X.dense();
    double gradient = 0;
    for (const std::int32_t example : plan.order()) {
        const auto i = static_cast<std::size_t>(example);
        const double weight = in.sample_weight.empty() ? 1 : std::abs(static_cast<double>(in.sample_weight[i]));
        gradient += weight * std::max(1.0, norm_bound(X.row(i), X.cols));
    }
    return std::isfinite(gradient) && has_room_for(optimizer, gradient, X.cols);
}

template <Real T>
void require_room(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, const Optimizer<T>& optimizer) {
    if (surely_has_room(plan, in, optimizer)) return;
    const MatrixView<const T> X = *in.X.dense();
    double weights = 0, gradient = 0, largest = 0;
    for (const std::int32_t example : plan.order()) {
        const auto i = static_cast<std::size_t>(example);
        const double weight = in.sample_weight.empty() ? 1 : std::abs(static_cast<double>(in.sample_weight[i]));
        const auto x = static_cast<double>(largest_magnitude(X.row(i), X.cols));
        if (!std::isfinite(x)) return;  // in.check_finite says whether that is refused
        weights += weight;
        gradient += weight * std::max(1.0, x);
        largest = std::max(largest, x);
    }
    if (has_room_for(optimizer, gradient, X.cols)) return;
    constexpr const char* rule = sizeof(T) == 4 ? " must keep gradients and their squares within float32, got "
                                                : " must keep gradients and their squares within float64, got ";
    const char* name = in.scale_loss ? "sample_weight" : "grad_output";
    if (!(weights <= static_cast<double>(plan.order().size()))) detail::refuse(name, rule, "weights that sum to ", weights);
    detail::refuse("X", rule, "entries of up to ", largest);
}

// The rows that a step changes: of T, or of 16 bits with what they are rounded by.
struct HalfRows {
    const HalfView& W;
    detail::RoundingKey key;
};
template <Real T>
void step_one(const Optimizer<T>& o, std::size_t row, T* grad, MatrixView<T> W) {
    step_row(o, row, grad, W.row(row), W.cols);
}
void step_one(const Optimizer<float>& o, std::size_t row, float* grad, const HalfRows& rows) { step_row(o, row, grad, rows.W, rows.key); }
template <Real T>
void prefetch_one(const Optimizer<T>& o, std::size_t row, MatrixView<T> W) {
    prefetch_row(o, row, W);
}
void prefetch_one(const Optimizer<float>& o, std::size_t row, const HalfRows& rows) { prefetch_row(o, row, rows.W); }

template <Real T, class Rows>
struct Stepper {
    const Optimizer<T>& optimizer;
    Rows W;
    std::span<T> b;
    const HSoftmaxPlan& plan;
    const HSoftmaxInput<T>& in;
    const std::function<void()>& check;

    static T* target(void*, std::size_t, std::size_t) { return nullptr; }
    static void done(void* self, std::size_t, std::size_t row, T* grad, T bias) {
        auto& s = *static_cast<Stepper*>(self);
        step_one(s.optimizer, row, grad, s.W);
        if (!s.b.empty()) step_bias(s.optimizer, row, bias, s.b.data());
    }
    static void ready(void* self) {
        const auto& s = *static_cast<const Stepper*>(self);
        require_room(s.plan, s.in, s.optimizer);
        if (s.check) s.check();
    }
    static void soon(void* self, std::size_t row) {
        const auto& s = *static_cast<const Stepper*>(self);
        prefetch_one(s.optimizer, row, s.W);
        if (s.b.empty()) return;
        for (const std::span<T> bias : {s.b, s.optimizer.b_first, s.optimizer.b_second}) {
            if (!bias.empty()) detail::prefetch_line_to_write(bias.data() + row);
        }
    }
};

// Whatever the rows are stored as. W: they, as a shape.
template <Real T, class Rows, class View>
void update_rows(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, const Rows& rows, const View& W, std::span<T> b,
                 const Optimizer<T>& optimizer, std::span<T> nll, MatrixView<T> dX, const std::function<void()>& ready, int num_threads) {
    const std::size_t expected = plan.hierarchy().rows(), dim = in.X.cols();
    require(W.rows == expected && W.cols == dim, "W must have shape (", expected, ", ", dim, "), got (", W.rows, ", ", W.cols, ")");
    detail::require_data("W", W.data, W.size());
    require(b.size() == in.b.size(), "b must have ", in.b.size(), " entries, got ", b.size());
    detail::require_data("b", b);
    require_optimizer(optimizer, W.rows, W.cols, !b.empty(), std::is_same_v<Rows, HalfRows>);
    using S = Stepper<T, Rows>;
    S stepper{optimizer, rows, b, plan, in, ready};
    hsoftmax_backward(plan, in, nll, dX, GradientSink<T>{&stepper, S::target, S::done, S::soon, false, S::ready}, num_threads);
}

// What corrects Adam's moments for bias: two powers, which cost as much as a short row, and are the same for all rows of a call.
template <Real T>
struct AdamCorrections {
    double lr = 0, beta1 = 0, beta2 = 0;
    std::int64_t at = 0;
    T step = 0, root = 0;
};
template <Real T>
std::pair<T, T> adam_corrections(const Optimizer<T>& o) {
    thread_local AdamCorrections<T> last;
    if (last.at != o.step || last.lr != o.lr || last.beta1 != o.beta1 || last.beta2 != o.beta2) {
        const auto t = static_cast<double>(o.step);
        last = {o.lr,
                o.beta1,
                o.beta2,
                o.step,
                within<T>(o.lr / (1 - std::pow(o.beta1, t))),
                static_cast<T>(1 / std::sqrt(1 - std::pow(o.beta2, t)))};
    }
    return {last.step, last.root};
}

template <class K, Real T, class Row>
void step_adam(const K& k, const Optimizer<T>& o, T* grad, double decay, T* m, T* v, Row* w, std::size_t n) {
    const auto [step, root] = adam_corrections(o);
    k.adam(grad, step, root, static_cast<T>(o.beta1), static_cast<T>(1 - o.beta1), static_cast<T>(o.beta2), static_cast<T>(1 - o.beta2),
           least_eps(o), static_cast<T>(decay), m, v, w, n);
}

}  // namespace

template <Real T>
void require_optimizer(const Optimizer<T>& o, std::size_t rows, std::size_t cols, bool bias, bool half_rows) {
    require(o.lr >= 0 && o.lr <= largest_of<T>, "lr must be finite in W's type and non-negative, got ", o.lr);
    require(o.weight_decay >= 0 && o.weight_decay <= largest_of<T>, "weight_decay must be finite in W's type and non-negative, got ",
            o.weight_decay);
    require(std::isfinite(o.max_norm) && o.max_norm >= 0, "max_norm must be finite and non-negative, got ", o.max_norm);
    if (o.method == Method::sgd) return;
    require(o.eps >= 0 && o.eps <= largest_of<T>, "eps must be finite in W's type and non-negative, got ", o.eps);
    const std::size_t width = o.method == Method::rowwise_adagrad ? 1 : cols;
    const auto require_state = [&](const auto& state) {
        require(state.rows == rows && state.cols == width, "optimizer must have state of shape (", rows, ", ", width, "), got (",
                state.rows, ", ", state.cols, ")");
        detail::require_data("optimizer state", state.data, state.size());
    };
    if (o.half_first.data) {
        require(half_rows && o.method == Method::adagrad && o.half_first.kind == QuantizedKind::bfloat16,
                "optimizer must have state of 16 bits in bfloat16, of adagrad on rows of 16 bits alone");
        require_state(o.half_first);
    } else {
        require_state(o.first);
    }
    require(!bias || o.b_first.size() == rows, "optimizer must have bias state of ", rows, " entries, got ", o.b_first.size());
    detail::require_data("optimizer bias state", o.b_first);
    if (o.method != Method::adam) return;
    require(o.beta1 >= 0 && o.beta1 < 1 && o.beta2 >= 0 && o.beta2 < 1, "betas must be in [0, 1), got ", o.beta1, " and ", o.beta2);
    require(o.step >= 1, "step must be at least 1, got ", o.step);
    require(o.second.rows == rows && o.second.cols == cols, "optimizer must have state of shape (", rows, ", ", cols, "), got (",
            o.second.rows, ", ", o.second.cols, ")");
    detail::require_data("optimizer state", o.second.data, o.second.size());
    require(!bias || o.b_second.size() == rows, "optimizer must have bias state of ", rows, " entries, got ", o.b_second.size());
    detail::require_data("optimizer bias state", o.b_second);
}

namespace {

template <Real T>
void step_sgd(const detail::Kernels<T>& k, T* grad, T lr, T decay, T* w, std::size_t n) {
    if (decay != 0) k.axpy(decay, w, grad, n);
    k.axpy(-lr, grad, w, n);
}
void step_sgd(const detail::HalfKernels& k, float* grad, float lr, float decay, const std::uint16_t* w, std::size_t n) {
    k.sgd(grad, lr, decay, w, n);
}

// Row: T as kernels K of float rows change it, or 16 bits.
template <class K, Real T, class Row>
void step_freely(const K& k, const Optimizer<T>& o, std::size_t row, T* grad, Row* w, std::size_t cols) {
    const T lr = static_cast<T>(o.lr), decay = static_cast<T>(o.weight_decay);
    switch (o.method) {
    case Method::sgd:
        step_sgd(k, grad, lr, decay, w, cols);
        return;
    case Method::adagrad:
        k.adagrad(grad, lr, least_eps(o), decay, o.first.row(row), w, cols);
        return;
    case Method::rowwise_adagrad:
        k.rowwise_adagrad(grad, lr, least_eps(o), decay, o.first.row(row), w, cols);
        return;
    case Method::adam:
        step_adam(k, o, grad, o.weight_decay, o.first.row(row), o.second.row(row), w, cols);
        return;
    }
}

template <Real T>
void prefetch_state(const Optimizer<T>& o, std::size_t row) {
    if (o.first.data) detail::prefetch_to_write(o.first.row(row), o.first.cols);
    if (o.half_first.data) detail::prefetch_to_write(o.half_first.row(row), o.half_first.cols);
    if (o.second.data) detail::prefetch_to_write(o.second.row(row), o.second.cols);
}

}  // namespace

template <Real T>
void prefetch_row(const Optimizer<T>& o, std::size_t row, MatrixView<T> W) {
    detail::prefetch_to_write(W.row(row), W.cols);
    prefetch_state(o, row);
}
void prefetch_row(const Optimizer<float>& o, std::size_t row, const HalfView& W) {
    detail::prefetch_to_write(W.row(row), W.cols);
    prefetch_state(o, row);
}

template <Real T>
void step_row(const Optimizer<T>& o, std::size_t row, T* grad, T* w, std::size_t cols) {
    step_freely(detail::kernels<T>(), o, row, grad, w, cols);
    if (o.max_norm > 0) limit_row(w, cols, o.max_norm);
}
void step_row(const Optimizer<float>& o, std::size_t row, float* grad, const HalfView& W, const detail::RoundingKey& key) {
    const auto& k = detail::half_kernels(W.kind);
    const std::uint64_t unit = std::uint64_t{row} * ((W.cols + detail::rounding_unit - 1) / detail::rounding_unit);
    if (o.half_first.data) {
        k.adagrad_half(grad, static_cast<float>(o.lr), least_eps(o), static_cast<float>(o.weight_decay), o.half_first.row(row), key, unit,
                       W.row(row), W.cols);
    } else {
        step_freely(k, o, row, grad, W.row(row), W.cols);
    }
    if (o.max_norm > 0) limit_row(grad, W.cols, o.max_norm);
    k.round(grad, W.cols, key, unit, W.row(row));
}

detail::RoundingKey rounding_key(std::uint64_t seed, detail::Stream stream, std::int64_t step) {
    const std::uint64_t high = (static_cast<std::uint64_t>(stream) << 56) | (static_cast<std::uint64_t>(step) & 0xffffffffffffffu);
    detail::RoundingKey key;
    for (std::size_t block = 0; block < 4; ++block) {
        const auto add = detail::philox(seed, 2 * block, high), multiply = detail::philox(seed, 2 * block + 1, high);
        for (std::size_t i = 0; i < 4; ++i) {
            key.add[4 * block + i] = add[i];
            key.multiply[4 * block + i] = multiply[i] | 1;
        }
    }
    return key;
}

template <Real T>
void step_bias(const Optimizer<T>& o, std::size_t row, T grad, T* b) {
    const auto& k = detail::kernels<T>();
    const T lr = static_cast<T>(o.lr), eps = least_eps(o);
    switch (o.method) {
    case Method::sgd:
        b[row] -= lr * grad;
        return;
    case Method::adagrad:
    case Method::rowwise_adagrad:
        k.adagrad(&grad, lr, eps, T(0), &o.b_first[row], b + row, 1);
        return;
    case Method::adam:
        step_adam(k, o, &grad, 0, &o.b_first[row], &o.b_second[row], b + row, 1);
        return;
    }
}

template <Real T>
T largest_magnitude(const T* x, std::size_t n) {
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    Bits most = 0;  // magnitudes are ordered as their bits are
    for (std::size_t i = 0; i < n; ++i) most = std::max(most, std::bit_cast<Bits>(x[i]) << 1);
    return std::bit_cast<T>(most >> 1);
}

template <Real T>
double norm_bound(const T* x, std::size_t n) {
    constexpr double rounding = 1.01;  // more than the sum of squares may be off
    const detail::Rows<T> row{x, n, nullptr};
    T square = 0;
    detail::kernels<T>().dots(row, 1, row, 1, n, &square, 1);
    return std::max(rounding * std::sqrt(static_cast<double>(square)), least_root<T>);  // in this order NaN stays
}

template <Real T>
bool has_room_for(const Optimizer<T>& o, double largest, std::size_t cols) {
    constexpr double most = largest_of<T> / (1 << 20);
    if (!(largest * std::max(1.0, o.lr) <= most)) return false;
    const double terms = o.method == Method::rowwise_adagrad ? static_cast<double>(cols) : 1;
    return o.method == Method::sgd || largest <= std::sqrt(most / terms);
}

template <Real T>
void hsoftmax_update(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, MatrixView<T> W, std::span<T> b, const Optimizer<T>& optimizer,
                     std::span<T> nll, MatrixView<T> dX, const std::function<void()>& ready, int num_threads) {
    update_rows(plan, in, W, W, b, optimizer, nll, dX, ready, num_threads);
}
void hsoftmax_update(const HSoftmaxPlan& plan, const HSoftmaxInput<float>& in, const HalfView& W, std::span<float> b,
                     const Optimizer<float>& optimizer, std::uint64_t seed, std::span<float> nll, MatrixView<float> dX,
                     const std::function<void()>& ready, int num_threads) {
    require(W.kind != QuantizedKind::int8, "W must be bfloat16 or float16 to be stepped, got int8");
    require(optimizer.step >= 1, "step must be at least 1, got ", optimizer.step);
    const HalfRows rows{W, rounding_key(seed, detail::Stream::round_rows, optimizer.step)};
    update_rows(plan, in, rows, W, b, optimizer, nll, dX, ready, num_threads);
}

template <Real T>
void hsoftmax_update(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, MatrixView<T> W, std::span<T> b, const Optimizer<T>& optimizer,
                     std::span<T> nll, MatrixView<T> dX, int num_threads) {
    hsoftmax_update(plan, in, W, b, optimizer, nll, dX, {}, num_threads);
}
void hsoftmax_update(const HSoftmaxPlan& plan, const HSoftmaxInput<float>& in, const HalfView& W, std::span<float> b,
                     const Optimizer<float>& optimizer, std::uint64_t seed, std::span<float> nll, MatrixView<float> dX, int num_threads) {
    hsoftmax_update(plan, in, W, b, optimizer, seed, nll, dX, {}, num_threads);
}

template void require_optimizer(const Optimizer<float>&, std::size_t, std::size_t, bool, bool);
template void require_optimizer(const Optimizer<double>&, std::size_t, std::size_t, bool, bool);
template void prefetch_row(const Optimizer<float>&, std::size_t, MatrixView<float>);
template void prefetch_row(const Optimizer<double>&, std::size_t, MatrixView<double>);
template void step_row(const Optimizer<float>&, std::size_t, float*, float*, std::size_t);
template void step_row(const Optimizer<double>&, std::size_t, double*, double*, std::size_t);
template void step_bias(const Optimizer<float>&, std::size_t, float, float*);
template void step_bias(const Optimizer<double>&, std::size_t, double, double*);
template void hsoftmax_update(const HSoftmaxPlan&, const HSoftmaxInput<float>&, MatrixView<float>, std::span<float>,
                              const Optimizer<float>&, std::span<float>, MatrixView<float>, int);
template void hsoftmax_update(const HSoftmaxPlan&, const HSoftmaxInput<float>&, MatrixView<float>, std::span<float>,
                              const Optimizer<float>&, std::span<float>, MatrixView<float>, const std::function<void()>&, int);
template void hsoftmax_update(const HSoftmaxPlan&, const HSoftmaxInput<double>&, MatrixView<double>, std::span<double>,
                              const Optimizer<double>&, std::span<double>, MatrixView<double>, int);
template void hsoftmax_update(const HSoftmaxPlan&, const HSoftmaxInput<double>&, MatrixView<double>, std::span<double>,
                              const Optimizer<double>&, std::span<double>, MatrixView<double>, const std::function<void()>&, int);
template bool has_room_for(const Optimizer<float>&, double, std::size_t);
template bool has_room_for(const Optimizer<double>&, double, std::size_t);
template double norm_bound(const float*, std::size_t);
template double norm_bound(const double*, std::size_t);
template float largest_magnitude(const float*, std::size_t);
template double largest_magnitude(const double*, std::size_t);

}  // namespace sparseops
