// SPDX-License-Identifier: BSD-3-Clause
// Dropout of entries and segments, its gradient, centres of segments, bags: refused, or as one draw at a time says.
#include <algorithm>
#include <numeric>

#include <sparseops/bag.hpp>
#include <sparseops/detail/random.hpp>
#include <sparseops/dropout/bits.hpp>

#include "input.hpp"

namespace {

using namespace sparseops_fuzz;
using sparseops::DropPurpose;
using sparseops::Drops;

Drops some_drops(Input& in, DropPurpose purpose) {
    Drops d;
    d.seed = in.bits<std::uint64_t>();
    d.first = in.flag() ? in.below(1000) : in.bits<std::uint64_t>();
    d.rate = in.pick({0.5, 0.0, 1.0, 1e-300, 0.25, std::nextafter(1.0, 0.0), 1.5, -0.1, std::nan("")});
    d.purpose = purpose;
    d.part = in.below(5);
    return d;
}
bool valid(const Drops& d, std::size_t n) { return d.rate >= 0 && d.rate <= 1 && d.first <= ~std::uint64_t{0} - n; }

bool drops(const Drops& d, std::size_t i) {
    if (d.rate == 0 || d.rate == 1) return d.rate == 1;
    const std::uint64_t draw = d.first + i;
    const auto words = sparseops::detail::philox(d.seed, draw / 4, (static_cast<std::uint64_t>(d.purpose) << 56) | d.part);
    return words[draw % 4] < std::clamp(std::nearbyint(d.rate * 0x1p32), 1.0, 0x1p32 - 1);
}

template <class U>
void entries(Input& in, U exponent) {
    const std::size_t n = in.upto(in.rarely() ? 3000 : 90);
    std::vector<U> x(n);
    for (U& v : x) v = in.rarely() ? static_cast<U>(exponent | in.bits<U>()) : static_cast<U>(in.bits<std::uint8_t>());
    std::vector<U> values(in.rarely() ? 0 : 1 + in.below(in.flag() ? 1 : 12));
    std::iota(values.begin(), values.end(), U(0xf0));
    const auto repeat = in.pick<std::size_t>({1, 1, 2, 7, 600, 0});
    const bool in_place = in.flag(), checks = in.flag();
    const Drops d = some_drops(in, DropPurpose::entries);
    std::vector<U> y(in_place ? x : std::vector<U>(in.size_near(n), U(0x77)));
    const auto before = y;
    std::vector<std::uint8_t> packed(in.flag() ? 0 : in.size_near((n + 7) / 8)), bools(in.flag() ? 0 : in.size_near(n));
    bool good = valid(d, n) && y.size() == n && (packed.empty() || packed.size() == (n + 7) / 8) && (bools.empty() || bools.size() == n) &&
                !values.empty() && repeat >= 1;
    for (const U v : x) good = good && !(checks && (v & exponent) == exponent);
    const bool no = refused([&] {
        dropout_bits(in_place ? std::span<const U>(y) : std::span<const U>(x), d, sparseops::Replacement<U>{values, repeat},
                     checks ? exponent : U(0), std::span<U>(y), packed, bools, static_cast<int>(in.below(4)));
    });
    must(no == !good, "dropout refuses what is not valid");
    if (no) {
        if (in_place) must(same_bytes(y, before), "a refused call writes nothing in place");
        return;
    }
    for (std::size_t i = 0; i < n; ++i) {
        const bool drop = drops(d, i);
        must(y[i] == (drop ? values[i / repeat % values.size()] : x[i]), "entry ", i, " is its own or the replacement");
        if (!packed.empty()) must(((packed[i / 8] >> (i % 8)) & 1) == drop, "bit ", i, " is the mask");
        if (!bools.empty()) must(bools[i] == drop, "byte ", i, " is the mask");
    }
    if (!packed.empty() && n % 8) must(packed.back() >> (n % 8) == 0, "bits beyond the entries are 0");
}

template <class T>
void gradient(Input& in) {
    const std::size_t n = in.upto(90);
    const auto grad = in.reals<T>(n, in.flag());
    std::vector<std::uint8_t> packed(in.size_near((n + 7) / 8));
    for (auto& b : packed) b = in.bits<std::uint8_t>();
    const bool in_place = in.flag();
    std::vector<T> dx(in_place ? grad : std::vector<T>(in.size_near(n))), cells(in.upto(n + 2));
    const auto repeat = in.pick<std::size_t>({1, 1, 3, 50, 0});
    const bool good = packed.size() == (n + 7) / 8 && dx.size() == n && !cells.empty() && repeat >= 1;
    const std::span<const T> from = in_place ? std::span<const T>(dx) : std::span<const T>(grad);
    must(refused([&] { sparseops::dropout_gradient(from, packed, std::span<T>(dx), repeat, std::span<T>(cells), 1); }) == !good,
         "the gradient refuses what is not valid");
    if (!good) return;
    const T none = 0;
    std::vector<double> sums(cells.size(), 0.0);
    for (std::size_t i = 0; i < n; ++i) {
        const bool drop = (packed[i / 8] >> (i % 8)) & 1;
        must(std::memcmp(&dx[i], drop ? &none : &grad[i], sizeof(T)) == 0, "dx ", i, " is 0 or the gradient");
        if (drop) sums[i / repeat % cells.size()] += static_cast<double>(grad[i]);
    }
    for (std::size_t c = 0; c < cells.size(); ++c) {
        const T want = static_cast<T>(sums[c]);
        must(cells[c] == want || (std::isnan(want) && std::isnan(cells[c])), "cell ", c, " is ", want, ", got ", cells[c]);
    }
}

template <class T>
void centers(Input& in) {
    const auto x = in.reals<T>(in.upto(60), in.flag());
    std::vector<std::int64_t> offsets(1 + in.below(6), 0);
    for (std::size_t i = 1; i < offsets.size(); ++i)
        offsets[i] = std::min<std::int64_t>(static_cast<std::int64_t>(x.size()), offsets[i - 1] + static_cast<std::int64_t>(in.below(40)));
    if (offsets.size() > 1) offsets.back() = static_cast<std::int64_t>(x.size());
    if (in.rarely()) offsets[in.below(offsets.size())] = in.integer<std::int64_t>(-1, 61);
    std::vector<T> out(in.size_near(offsets.size() - 1), T(-77));
    const auto center = in.pick({sparseops::Center::mean, sparseops::Center::median});
    const bool good = out.size() + 1 == offsets.size() && offsets[0] == 0 && static_cast<std::size_t>(offsets.back()) == x.size() &&
                      std::is_sorted(offsets.begin(), offsets.end());
    must(refused([&] { sparseops::nonzero_centers(std::span<const T>(x), offsets, center, std::span<T>(out), 1); }) == !good,
         "nonzero_centers refuses what is not valid");
    for (std::size_t s = 0; good && s < out.size(); ++s) {
        std::vector<T> values(x.begin() + offsets[s], x.begin() + offsets[s + 1]);
        std::erase(values, T(0));
        if (values.empty()) must(out[s] == 0, "the centre of nothing is 0, got ", out[s]);
        if (values.empty() || !std::all_of(values.begin(), values.end(), [](T v) { return std::isfinite(v); })) continue;
        std::sort(values.begin(), values.end());
        const T slack = std::numeric_limits<T>::epsilon() * 64 * std::max(std::abs(values.front()), std::abs(values.back()));
        must(out[s] >= values.front() - slack && out[s] <= values.back() + slack, "a centre is within, got ", out[s]);
        if (center == sparseops::Center::median && values.size() % 2) must(out[s] == values[values.size() / 2], "the median is the middle");
    }
}

template <class I>
void segments(Input& in) {
    auto lengths = in.integers<std::int64_t>(in.upto(70), 0, 5);
    const std::int64_t total = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0},
                                               [](std::int64_t a, std::int64_t b) { return a >= 0 && b >= 0 && b < 1000 ? a + b : -1; });
    std::vector<I> ids(in.size_near(total >= 0 ? static_cast<std::size_t>(total) : 10));
    std::iota(ids.begin(), ids.end(), I(100));
    const Drops d = some_drops(in, DropPurpose::segments);
    std::vector<std::int64_t> fresh(in.size_near(lengths.size()), -7);
    const bool good = valid(d, lengths.size()) && total == static_cast<std::int64_t>(ids.size()) && fresh.size() == lengths.size();
    std::size_t sum = 0;
    must(refused([&] { sum = dropout_lengths(lengths, ids.size(), d, fresh); }) == !good, "dropout_lengths refuses what is not valid");
    if (!good) return;
    std::vector<I> want;
    std::size_t at = 0;
    for (std::size_t s = 0; s < lengths.size(); ++s) {
        const auto length = static_cast<std::size_t>(lengths[s]);
        must(fresh[s] == (drops(d, s) ? 1 : lengths[s]), "length ", s, " is its own or 1");
        if (drops(d, s))
            want.push_back(I(-3));
        else
            want.insert(want.end(), ids.begin() + static_cast<std::ptrdiff_t>(at), ids.begin() + static_cast<std::ptrdiff_t>(at + length));
        at += length;
    }
    must(sum == want.size(), "the lengths add up");
    std::vector<I> out(sum, I(-9));
    must(!refused([&] { dropout_ids(std::span<const I>(ids), lengths, d, I(-3), std::span<I>(out)); }), "the ids fit");
    must(same_bytes(out, want), "every segment is whole or the replacement");
}

// Bags over a hostile CSR matrix.
template <class T, class I>
void bags(Input& in) {
    const std::size_t rows = in.upto(5), cols = in.upto(5), nnz = in.upto(16), dim = in.upto(20);
    std::vector<I> indptr(rows + 1, 0);
    for (std::size_t i = 1; i <= rows; ++i)
        indptr[i] = static_cast<I>(std::min<std::size_t>(nnz, static_cast<std::size_t>(indptr[i - 1]) + in.below(6)));
    if (rows > 0) indptr.back() = static_cast<I>(nnz);
    if (in.rarely()) indptr[in.below(indptr.size())] = in.integer<I>(-1, static_cast<std::int64_t>(nnz) + 1);
    if (in.rarely()) indptr.clear();
    const auto indices = in.integers<I>(in.size_near(nnz), 0, std::max<std::int64_t>(0, static_cast<std::int64_t>(cols) - 1));
    const auto data = in.reals<T>(in.size_near(nnz), in.flag()), E = in.reals<T>(cols * dim, in.flag());
    std::vector<T> out(in.size_near(rows) * dim, T(7));
    const std::size_t out_rows = dim ? out.size() / dim : rows;
    const auto mode = in.pick({sparseops::BagMode::mean, sparseops::BagMode::sum});
    const std::size_t x_cols = in.size_near(cols);
    bool fits = indptr.size() == out_rows + 1 && indptr[0] == 0 && std::is_sorted(indptr.begin(), indptr.end()) && x_cols == cols;
    fits = fits && indices.size() == data.size() && static_cast<std::size_t>(indptr.back()) == data.size();
    for (const I j : indices) fits = fits && j >= 0 && static_cast<std::size_t>(j) < cols;
    for (const T v : data) fits = fits && std::isfinite(v);
    const sparseops::CsrView<const T, I> X{indptr, indices, data, x_cols};
    const bool no = refused([&] {
        embedding_bag(X, sparseops::MatrixView<const T>{E.data(), cols, dim}, mode, sparseops::MatrixView<T>{out.data(), out_rows, dim}, 1);
    });
    must(!no || !fits, "a bag that fits is not refused");
    if (no) return;
    T most = 0;
    for (const T e : E) most = std::isfinite(e) && std::isfinite(most) ? std::max(most, std::abs(e)) : std::numeric_limits<T>::infinity();
    const auto slack = std::numeric_limits<T>::epsilon() * 32;
    for (std::size_t r = 0; r < out_rows; ++r) {
        for (std::size_t j = 0; j < dim; ++j) {
            const T value = out[r * dim + j];
            if (indptr[r] == indptr[r + 1]) must(value == 0, "an empty bag is 0, got ", value);
            if (mode == sparseops::BagMode::mean && most < std::numeric_limits<T>::max() / 2)
                must(std::abs(value) <= most + most * slack + std::numeric_limits<T>::min(), "a mean is within its rows, got ", value);
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    switch (in.below(12)) {
    case 0:
        entries<std::uint16_t>(in, 0x7c00);
        break;
    case 1:
        entries<std::uint32_t>(in, 0x7f800000);
        break;
    case 2:
        entries<std::uint64_t>(in, 0x7ff0000000000000);
        break;
    case 3:
        entries<std::uint16_t>(in, 0x7f80);
        break;
    case 4:
        gradient<float>(in);
        break;
    case 5:
        gradient<double>(in);
        break;
    case 6:
        centers<float>(in);
        break;
    case 7:
        centers<double>(in);
        break;
    case 8:
        segments<std::int32_t>(in);
        break;
    case 9:
        segments<std::int64_t>(in);
        break;
    case 10:
        bags<float, std::int32_t>(in);
        break;
    default:
        bags<double, std::int64_t>(in);
    }
    return 0;
}
