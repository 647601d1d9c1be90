// SPDX-License-Identifier: BSD-3-Clause
// Kernels read and write their arrays and nothing else: every array lies against an unreadable page, at its end and at its
// start, and the rest of its own pages holds a pattern that must survive.
#include "check.hpp"
#include "fence.hpp"
#include "kernel_tables.hpp"

namespace {

using namespace sparseops_test;

template <class T>
class Bounds {
public:
    Bounds(const KernelTable& table, bool at_end) : table_(table), k_(of<T>(table)), at_end_(at_end), random_(5) {}

    void run(std::size_t n) {
        dots(n);
        weighted_sum(n);
        weighted_sums(n);
        path_kernels(n);
        node_kernels(n);
        optimiser_kernels(n);
    }

private:
    T* array(std::size_t i, std::size_t n, double low = -1, double high = 1) { return fences_[i].place<T>(n, at_end_, random_, low, high); }

    template <class F>
    void call(const char* kernel, std::size_t n, F f) {
        std::snprintf(at_work, sizeof at_work, "%s %s %s of %zu, %s", table_.name, type_name<T>, kernel, n,
                      at_end_ ? "at the end" : "at the start");
        f();
        for (const Fence& fence : fences_) check(fence.rest_untouched(), at_work, " should not write outside its arrays");
    }

    void dots(std::size_t n) {
        for (const std::size_t count : {1u, 4u, 6u, 13u}) {
            for (const bool gather : {false, true}) {
                const T* a = array(0, 2 * n);
                const T* b = array(1, count * n);
                auto* index = fences_[2].place<std::int32_t>(gather ? count : 0, at_end_, random_, 0, static_cast<double>(count) - 0.5);
                if (gather) index[count / 2] = static_cast<std::int32_t>(count - 1);  // the last row is read
                T* out = array(3, 2 * count);
                call("dots", n, [&] { k_.dots({a, n, nullptr}, 2, {b, n, gather ? index : nullptr}, count, n, out, count); });
            }
        }
    }

    void weighted_sum(std::size_t n) {
        for (const bool accumulate : {false, true}) {
            for (const std::size_t count : {0u, 1u, 5u}) {
                const bool gather = count == 5;
                const T* weight = array(0, count == 0 ? 0 : (count - 1) * 2 + 1);
                const T* rows = array(1, count * n);
                auto* index = fences_[2].place<std::int32_t>(gather ? count : 0, at_end_, random_, 0, 4.5);
                if (gather) index[0] = 4;
                T* out = array(3, n);
                call("weighted_sum", n,
                     [&] { k_.weighted_sum(weight, 2, {rows, n, gather ? index : nullptr}, count, n, accumulate, out); });
            }
        }
    }

    void weighted_sums(std::size_t n) {
        for (const bool accumulate : {false, true}) {
            constexpr std::size_t count = 5, outputs = 7;
            const T* weights = array(0, count * outputs);
            const T* rows = array(1, count * n);
            T* outs = array(3, outputs * n);
            const T* weight[outputs];
            T* out[outputs];
            for (std::size_t o = 0; o < outputs; ++o) {
                weight[o] = weights + o * count;
                out[o] = outs + o * n;
            }
            call("weighted_sums", n, [&] { k_.weighted_sums(weight, {rows, n, nullptr}, count, n, accumulate, out, outputs); });
        }
    }

    void path_kernels(std::size_t n) {
        for (const std::size_t count : {1u, 4u, 7u}) {
            const T* x = array(0, n);
            T* rows = array(1, count * n);
            auto* index = fences_[2].place<std::int32_t>(count, at_end_, random_, 0, static_cast<double>(count) - 0.5);
            index[count / 2] = static_cast<std::int32_t>(count - 1);
            T* dot = array(3, (count + 3) / 4 * 4);
            call("path_dots", n, [&] { k_.path_dots(x, rows, index, count, n, dot); });
            const T* weight = array(2, count);
            T* out[7];
            for (std::size_t j = 0; j < count; ++j) out[j] = rows + j * n;
            double* sum = fences_[3].place<double>(count, at_end_, random_, 0, 1);
            call("outer", n, [&] { k_.outer(weight, x, n, out, count / 2, count, sum); });
        }
    }

    void node_kernels(std::size_t n) {
        {
            const T* x = array(0, n);
            T* y = array(1, n);
            call("axpy", n, [&] { k_.axpy(T(0.5), x, y, n); });
            call("first_not_finite", n, [&] { check(k_.first_not_finite(x, n) == n, "all should be finite"); });
        }
        {
            const T* z = array(0, n, -20, 20);
            const T* target = array(1, n, 0, 1);
            T* loss = array(2, n);
            T* delta = array(3, n);
            call("logistic_loss", n, [&] { k_.logistic_loss(z, target, n, loss, delta); });
            call("logistic_loss without delta", n, [&] { k_.logistic_loss(z, target, n, loss, nullptr); });
            call("log_sigmoid", n, [&] { k_.log_sigmoid(z, n, loss, delta); });
            T* pairs = array(0, 2 * n, -20, 20);
            call("pair_loss", n, [&] { k_.pair_loss(pairs, target, n, loss, pairs); });
            call("pair_loss without delta", n, [&] { k_.pair_loss(pairs, target, n, loss, nullptr); });
        }
        if (n == 0) return;
        T* z = array(0, n, -20, 20);
        T* nll = array(1, n);
        T* probability = array(2, n);
        call("softmax_nll", n, [&] { k_.softmax_nll(z, n, nll, probability); });
        call("softmax_nll without probability", n, [&] { k_.softmax_nll(z, n, nll, nullptr); });
        call("softmax_nll without nll", n, [&] { k_.softmax_nll(z, n, nullptr, probability); });
        call("softmax_nll in place", n, [&] { k_.softmax_nll(z, n, nll, z); });
    }

    void optimiser_kernels(std::size_t n) {
        const T* grad = array(0, n);
        T* first = array(1, n, 0.1, 1);
        T* second = array(2, n, 0.1, 1);
        T* w = array(3, n);
        call("adagrad", n, [&] { k_.adagrad(grad, T(0.1), T(0.01), T(0.1), second, w, n); });
        call("adam", n, [&] { k_.adam(grad, T(0.1), T(1), T(0.9), T(0.1), T(0.99), T(0.01), T(0.01), T(0.1), first, second, w, n); });
        T* one = array(1, 1, 0.1, 1);
        call("rowwise_adagrad", n, [&] { k_.rowwise_adagrad(grad, T(0.1), T(0.01), T(0.1), one, w, n); });
    }

    const KernelTable& table_;
    const Kernels<T>& k_;
    bool at_end_;
    Random random_;
    Fence fences_[4];
};

template <class T>
void test_all() {
    for (const KernelTable* table : tables()) {
        for (const bool at_end : {true, false}) {
            Bounds<T> bounds(*table, at_end);
            for (std::size_t n = 0; n <= 70; ++n) bounds.run(n);
            for (const std::size_t n : {127u, 128u, 129u, 136u, 256u, 257u, 272u, 301u}) bounds.run(n);
        }
    }
}

// The same for the kernels that stream over stored values.
class StreamBounds {
public:
    StreamBounds(const NamedStream& stream, bool at_end) : name_(stream.name), k_(*stream.table), at_end_(at_end), random_(6) {}

    void run(std::size_t n) {
        norms<float>(n);
        norms<double>(n);
        selects<std::uint16_t>(n);
        selects<std::uint32_t>(n);
        selects<std::uint64_t>(n);
        halves(n);
        auto* bits = array<std::uint64_t>(0, n);
        call("draw_bits", n, [&] { k_.draw_bits(1, 2, 3, n, 4, bits, {}); });
    }

private:
    template <class T>
    T* array(std::size_t i, std::size_t n, double low = 0, double high = 1) {
        return fences_[i].place<T>(n, at_end_, random_, low, high);
    }
    template <class F>
    void call(const char* kernel, std::size_t n, F f) {
        std::snprintf(at_work, sizeof at_work, "%s %s of %zu, %s", name_, kernel, n, at_end_ ? "at the end" : "at the start");
        f();
        for (const Fence& fence : fences_) check(fence.rest_untouched(), at_work, " should not write outside its arrays");
    }

    template <class T>
    void norms(std::size_t n) {
        const NormKernels<T>& k = norms_of<T>(k_);
        const std::size_t count = 5;
        for (const T threshold : {T(-1), T(0.5)}) {
            const T* x = array<T>(0, n, -1, 1);
            auto* offset = array<std::size_t>(1, count + 1);
            for (std::size_t i = 0; i <= count; ++i)
                offset[i] = i == 0 ? 0 : i == count ? n : random_.below(n / count + 1) + (i - 1) * n / count;
            double* factor = array<double>(2, count, 0.5, 2);
            for (const auto measure : k.measure) call("measure", n, [&] { measure(x, offset, count, threshold, factor); });
            T* out = array<T>(3, n);
            call("scale", n, [&] { k.scale(x, offset, count, threshold, factor, out); });
            const T* g = array<T>(4, n, -1, 1);
            double* toward = array<double>(5, count, 0.5, 2);
            toward[1] = 0;
            call("project", n, [&] { k.project(x, g, offset, count, toward, factor, out); });
            const T* matrix = array<T>(0, 3 * n, -1, 1);
            array<std::size_t>(1, 0);
            double* sum = array<double>(2, n);
            for (const auto measure : k.measure_columns) call("measure_columns", n, [&] { measure(matrix, 3, n, threshold, sum); });
            T* scaled = array<T>(3, 3 * n);
            call("scale_columns", n, [&] { k.scale_columns(matrix, 3, n, threshold, sum, scaled); });
        }
        const double* measures = array<double>(0, n);
        double* size = array<double>(1, n);
        double* factor = array<double>(2, n);
        call("settle", n, [&] { k.settle(measures, n, true, 1, true, size, factor); });
    }

    template <class U>
    void selects(std::size_t n) {
        const SelectKernels<U>& k = select_of<U>(k_);
        for (const std::size_t stride : {std::size_t{0}, std::size_t{1}}) {
            const U* x = array<U>(0, n, 0, 60000);
            auto* bits = array<std::uint64_t>(1, (n + 63) / 64, 0, 0x1p63);
            const U* r = array<U>(2, stride ? n : 1, 0, 60000);
            U* y = array<U>(3, n);
            call("select", n, [&] { k.select(x, bits, r, stride, n, static_cast<U>(~U{0}), y); });
            call("any_with", n, [&] { k.any_with(x, n, static_cast<U>(~U{0})); });
        }
    }

    void halves(std::size_t n) {
        const auto* x = array<std::uint16_t>(0, n, 0, 60000);
        auto* f = array<float>(1, n);
        auto* back = array<std::uint16_t>(2, n);
        array<float>(3, 0);
        call("from_float16", n, [&] { k_.from_float16(x, n, f); });
        call("to_float16", n, [&] { k_.to_float16(f, n, back); });
        call("from_bfloat16", n, [&] { k_.from_bfloat16(x, n, f); });
        call("to_bfloat16", n, [&] { k_.to_bfloat16(f, n, back); });
    }

    const char* name_;
    const StreamTable& k_;
    bool at_end_;
    Random random_;
    Fence fences_[6];
};

void test_streams() {
    for (const NamedStream& stream : streams()) {
        for (const bool at_end : {true, false}) {
            StreamBounds bounds(stream, at_end);
            for (std::size_t n = 0; n <= 35; ++n) bounds.run(n);
            for (const std::size_t n : {63u, 64u, 65u, 127u, 129u, 256u, 513u, 1029u}) bounds.run(n);
        }
    }
}

}  // namespace

int main() {
    report_accesses();
    test_all<float>();
    test_all<double>();
    test_streams();
    return finish("kernel memory");
}
