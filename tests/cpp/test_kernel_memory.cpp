// Kernels read and write their arrays and nothing else: every array lies against an unreadable page, at its end and at its
// start, and the rest of its own pages holds a pattern that must survive.
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "check.hpp"
#include "kernel_tables.hpp"

namespace {

using namespace sparseops_test;

char at_work[128] = "";  // what runs, for the message of a crash

void out_of_bounds(int) {
    static const char text[] = "failed: an access outside the arrays of ";
    (void)!write(2, text, sizeof text - 1);
    (void)!write(2, at_work, std::strlen(at_work));
    (void)!write(2, "\n", 1);
    _exit(1);
}

// Some pages between two that may not be touched.
class Fence {
public:
    Fence() : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))), room_((32768 + page_ - 1) / page_ * page_) {
        void* all = mmap(nullptr, room_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED) std::abort();
        inside_ = static_cast<unsigned char*>(all) + page_;
        if (mprotect(inside_, room_, PROT_READ | PROT_WRITE) != 0) std::abort();
    }
    ~Fence() { munmap(inside_ - page_, room_ + 2 * page_); }
    Fence(const Fence&) = delete;
    Fence& operator=(const Fence&) = delete;

    template <class T>
    T* place(std::size_t n, bool at_end, Random& random, double low, double high) {
        bytes_ = n * sizeof(T);
        if (bytes_ > room_) std::abort();
        std::memset(inside_, pattern, room_);
        start_ = at_end ? room_ - bytes_ : 0;
        T* array = reinterpret_cast<T*>(inside_ + start_);
        for (std::size_t i = 0; i < n; ++i) array[i] = static_cast<T>(random.uniform(low, high));
        return array;
    }
    bool rest_untouched() const {
        for (std::size_t i = 0; i < room_; ++i) {
            if ((i < start_ || i >= start_ + bytes_) && inside_[i] != pattern) return false;
        }
        return true;
    }

private:
    static constexpr unsigned char pattern = 0xa5;
    std::size_t page_, room_, start_ = 0, bytes_ = 0;
    unsigned char* inside_ = nullptr;
};

template <class T>
class Bounds {
public:
    Bounds(const KernelTable& table, bool at_end) : table_(table), k_(of<T>(table)), at_end_(at_end), random_(5) {}

    void run(std::size_t n) {
        dots(n);
        weighted_sum(n);
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

}  // namespace

int main() {
    std::signal(SIGSEGV, out_of_bounds);
    std::signal(SIGBUS, out_of_bounds);
    test_all<float>();
    test_all<double>();
    return finish("kernel memory");
}
