// The kernels of a path, against the ones that go row by row: the same bytes, on every table.
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

}  // namespace

int main() {
    Random random(11);
    test_path_dots<float>(random);
    test_path_dots<double>(random);
    test_outer<float>(random);
    test_outer<double>(random);
    return finish("kernels of a path");
}
