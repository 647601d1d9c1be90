// SPDX-License-Identifier: BSD-3-Clause
// The kernels of a path, against the ones that go row by row: the same bytes, on every table.
#include <cmath>
#include <limits>

#include <sparseops/hsoftmax/path_loss.hpp>

#include "check.hpp"
#include "kernel_tables.hpp"

namespace {

using namespace sparseops_test;

std::vector<std::size_t> sizes() {
    std::vector<std::size_t> list;
    for (std::size_t n = 0; n <= 70; ++n) list.push_back(n);
    for (const std::size_t n : {127u, 128u, 129u, 257u, 515u}) list.push_back(n);
    return list;
}

template <class T>
void test_path_dots(Random& random) {
    for (const std::size_t n : sizes()) {
        for (const std::size_t count : {0u, 1u, 2u, 3u, 4u, 11u}) {
            const auto x = random.vector<T>(n), rows = random.vector<T>(n * 12);
            const auto index = random.indices<std::int32_t>(count, 12);
            for (const KernelTable* table : tables()) {
                const Kernels<T>& k = of<T>(*table);
                std::vector<T> alone(count), out(count + 3);
                for (std::size_t j = 0; j < count; ++j) k.dots({x.data(), n, nullptr}, 1, {rows.data(), n, &index[j]}, 1, n, &alone[j], 1);
                k.path_dots(x.data(), rows.data(), index.data(), count, n, out.data());
                out.resize(count);
                check(same_bytes(alone, out), table->name, " path_dots of ", n, " should have the bytes of dots");
            }
        }
    }
}

template <class T>
void test_outer(Random& random) {
    for (const std::size_t n : sizes()) {
        for (const std::size_t count : {1u, 4u, 9u}) {
            for (const std::size_t kept : {std::size_t{0}, count / 2, count}) {
                const auto x = random.vector<T>(n), weight = random.vector<T>(count), before = random.vector<T>(n * count);
                for (const KernelTable* table : tables()) {
                    const Kernels<T>& k = of<T>(*table);
                    std::vector<T> together = before, alone = before;
                    std::vector<T*> out(count);
                    std::vector<double> sum(count, 0.5);
                    for (std::size_t j = 0; j < count; ++j) {
                        out[j] = together.data() + j * n;
                        k.weighted_sum(&weight[j], 1, {x.data(), n, nullptr}, 1, n, j < kept, alone.data() + j * n);
                    }
                    k.outer(weight.data(), x.data(), n, out.data(), kept, count, sum.data());
                    check(same_bytes(alone, together), table->name, " outer of ", n, " should have the bytes of weighted_sum");
                    for (std::size_t j = 0; n > 0 && j < count; ++j)
                        check(sum[j] == (j < kept ? 0.5 : 0.0) + static_cast<double>(weight[j]), table->name,
                              " outer should add up weights");
                }
            }
        }
    }
}

// Steps between two children: as softmax_nll one by one, ties, large gaps and what is not finite (as NaN) too.
template <class T>
void test_pair_loss(Random& random) {
    const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
    const T special[][2] = {{0, 0}, {T(-0.0), 0}, {3, 3}, {200, -200}, {-5000, 5000}, {inf, 1}, {-inf, 1}, {1, nan}, {nan, 1}, {inf, inf}};
    for (const std::size_t n : sizes()) {
        for (const double spread : {0.01, 3.0, 60.0, 900.0}) {
            auto z = random.vector<T>(2 * n, -spread, spread);
            std::vector<T> target;
            for (std::size_t i = 0; i < n; ++i) {
                target.push_back(T(random.bits() % 2));
                if (i % 5 == 3) std::copy_n(special[i / 5 % std::size(special)], 2, &z[2 * i]);
            }
            for (const KernelTable* table : tables()) {
                const Kernels<T>& k = of<T>(*table);
                std::vector<T> alone(n), delta = z, loss(n), only(n), together = z;
                for (std::size_t i = 0; i < n; ++i) {
                    T nll[2];
                    k.softmax_nll(&z[2 * i], 2, nll, &delta[2 * i]);
                    const auto child = static_cast<std::size_t>(target[i]);
                    alone[i] = nll[child];
                    sparseops::detail::softmax_delta(&delta[2 * i], 2, child, 0.0);
                }
                k.pair_loss(z.data(), target.data(), n, only.data(), nullptr);
                k.pair_loss(together.data(), target.data(), n, loss.data(), together.data());
                for (std::vector<T>* all : {&alone, &delta, &loss, &only, &together}) {  // one NaN is as good as another
                    for (T& v : *all) v = std::isnan(v) ? nan : v;
                }
                check(same_bytes(alone, loss) && same_bytes(alone, only) && same_bytes(delta, together), table->name, " ", type_name<T>,
                      " pair_loss of ", n, " should have the bytes of softmax_nll");
            }
        }
    }
}

}  // namespace

int main() {
    Random random(11);
    test_path_dots<float>(random);
    test_path_dots<double>(random);
    test_outer<float>(random);
    test_outer<double>(random);
    test_pair_loss<float>(random);
    test_pair_loss<double>(random);
    return finish("kernels of a path");
}
