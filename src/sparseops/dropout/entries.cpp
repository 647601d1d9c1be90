// SPDX-License-Identifier: BSD-3-Clause
#include "../dropout.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "../detail/parallel.hpp"
#include "../detail/random.hpp"
#include "../detail/require.hpp"
#include "../kernels/stream.hpp"
#include "bits.hpp"

namespace sparseops {
namespace {

using detail::require;

// Entries whose mask is made at a time, while the lines of the next ones are fetched.
constexpr std::size_t mask_block = 512;
constexpr std::size_t blocks_per_item = 128;
static_assert(static_cast<std::uint64_t>(DropPurpose::entries) == static_cast<std::uint64_t>(detail::Stream::dropout));
static_assert(static_cast<std::uint64_t>(DropPurpose::segments) == static_cast<std::uint64_t>(detail::Stream::segments));
static_assert(static_cast<std::uint64_t>(DropPurpose::ids) == static_cast<std::uint64_t>(detail::Stream::dropout_ids));

constexpr std::uint64_t all = std::uint64_t{1} << 32;
std::uint64_t threshold_of(double rate) noexcept {
    if (!(rate > 0)) return 0;
    if (rate >= 1) return all;
    return std::clamp<std::uint64_t>(static_cast<std::uint64_t>(std::nearbyint(rate * 0x1p32)), 1, all - 1);
}

// The replacements of the entries from .. from + n, n <= mask_block: in place where they lie in a row, else gathered.
template <class U>
const U* cells(const Replacement<U>& r, std::size_t from, std::size_t n, U* buffer) noexcept {
    const std::size_t count = r.values.size();
    std::size_t cell = from / r.repeat % count, used = from % r.repeat;
    if (r.repeat == 1 && cell + n <= count) return r.values.data() + cell;
    for (std::size_t i = 0; i < n;) {
        const std::size_t run = r.repeat == 1 ? std::min(n - i, count - cell) : std::min(n - i, r.repeat - used);
        if (r.repeat == 1)
            std::copy_n(r.values.data() + cell, run, buffer + i);
        else
            std::fill_n(buffer + i, run, r.values[cell]);
        i += run;
        used = 0;
        cell = r.repeat == 1 || cell + 1 == count ? 0 : cell + 1;
    }
    return buffer;
}

// The n <= 8 lowest bytes of x, the lowest first.
void store_bytes(std::uint64_t x, std::size_t n, std::uint8_t* out) noexcept {
    if constexpr (std::endian::native == std::endian::big) x = __builtin_bswap64(x);
    std::memcpy(out, &x, n);
}

void pack(const std::uint64_t* bits, std::size_t n, std::uint8_t* out) noexcept {
    std::size_t at = 0;
    for (; at + 64 <= n; at += 64) store_bytes(bits[at / 64], 8, out + at / 8);
    if (at < n) store_bytes(bits[at / 64], (n - at + 7) / 8, out + at / 8);
}

// Eight bits become eight bytes at a time: copies of the eight, one bit kept in each, which 0x7f lifts into the highest.
void unpack(const std::uint64_t* bits, std::size_t n, std::uint8_t* out) noexcept {
    constexpr std::uint64_t ones = 0x0101010101010101u;
    const auto bytes = [&](std::size_t at) {
        const std::uint64_t eight = (bits[at / 64] >> (at % 64)) & 0xff;
        return ((((eight * ones) & 0x8040201008040201u) + 0x7f * ones) >> 7) & ones;
    };
    std::size_t at = 0;
    for (; at + 8 <= n; at += 8) store_bytes(bytes(at), 8, out + at);
    if (at < n) store_bytes(bytes(at), n - at, out + at);
}

// f(from, count) for blocks of entries, on several threads.
template <class F>
void each_block(std::size_t n, int threads, F f) {
    constexpr std::size_t item = mask_block * blocks_per_item;
    detail::parallel_for((n + item - 1) / item, threads, [&](std::size_t i, std::size_t) {
        for (std::size_t from = i * item; from < std::min(n, (i + 1) * item); from += mask_block) f(from, std::min(mask_block, n - from));
    });
}

template <class U>
void require_finite(std::span<const U> x, U exponent) {
    for (std::size_t i = 0; exponent && i < x.size(); ++i) {
        require((x[i] & exponent) != exponent, "x must be finite, got nan or inf at stored value ", i);
    }
}

}  // namespace

namespace {

void draw(const Drops& drops, std::size_t n, std::span<std::uint64_t> bits, detail::Ahead ahead) noexcept {
    const std::uint64_t threshold = threshold_of(drops.rate);
    const std::size_t words = (n + 63) / 64, tail = n % 64;
    if (n == 0) return;
    if (threshold == 0 || threshold == all) {
        std::fill_n(bits.data(), words, threshold ? ~std::uint64_t{0} : 0);
    } else {
        const std::uint64_t high = (static_cast<std::uint64_t>(drops.purpose) << 56) | drops.part, group = drops.first / 64;
        const auto& k = detail::stream_kernels();
        const auto limit = static_cast<std::uint32_t>(threshold);
        k.draw_bits(drops.seed, high, group, words, limit, bits.data(), ahead);
        if (const unsigned shift = drops.first % 64) {
            std::uint64_t next = 0;
            if (shift + n > words * 64) k.draw_bits(drops.seed, high, group + words, 1, limit, &next, {});
            for (std::size_t w = 0; w < words; ++w) bits[w] = (bits[w] >> shift) | ((w + 1 < words ? bits[w + 1] : next) << (64 - shift));
        }
    }
    if (tail) bits[words - 1] &= (std::uint64_t{1} << tail) - 1;
}

}  // namespace

void draw_drops(const Drops& drops, std::size_t n, std::span<std::uint64_t> bits) noexcept { draw(drops, n, bits, {}); }

template <class U>
void dropout_bits(std::span<const U> x, const Drops& drops, Replacement<U> replacement, U exponent, std::span<U> y,
                  std::span<std::uint8_t> packed, std::span<std::uint8_t> bools, int num_threads) {
    const std::size_t n = x.size();
    require(drops.rate >= 0 && drops.rate <= 1, "rate must be in [0, 1], got ", drops.rate);
    require(drops.first <= ~std::uint64_t{0} - n, "start must leave ", n, " draws below 2**64, got ", drops.first);
    require(y.size() == n, "y must have ", n, " entries, got ", y.size());
    require(packed.empty() || packed.size() == (n + 7) / 8, "packed must have ", (n + 7) / 8, " entries, got ", packed.size());
    require(bools.empty() || bools.size() == n, "bools must have ", n, " entries, got ", bools.size());
    require(!replacement.values.empty() && replacement.repeat >= 1, "replacement must have a value, got none");
    detail::require_data("x", x);
    detail::require_data("y", y);
    detail::require_data("packed", packed);
    detail::require_data("bools", bools);
    detail::require_data("replacement", replacement.values);
    if (n == 0) return;
    const auto& k = detail::select_kernels<U>();
    const int threads = detail::team_size(num_threads, 4 * static_cast<double>(n));
    const bool one = replacement.values.size() == 1, in_place = x.data() == y.data();
    const U never = static_cast<U>(~U{0}), nonfinite = exponent ? exponent : never;
    const auto ahead = [&](std::size_t from) {
        return detail::Ahead{reinterpret_cast<const char*>(x.data() + from), in_place ? nullptr : reinterpret_cast<char*>(y.data() + from),
                             64 * sizeof(U)};
    };
    std::vector<std::uint8_t> bad(exponent ? (n + mask_block - 1) / mask_block : 0, 0);
    const auto any_bad = [&] { return std::find(bad.begin(), bad.end(), 1) != bad.end(); };
    if (exponent && in_place) {
        each_block(n, threads,
                   [&](std::size_t from, std::size_t count) { bad[from / mask_block] = k.any_with(x.data() + from, count, exponent); });
        if (any_bad()) require_finite(x, exponent);
    }
    each_block(n, threads, [&](std::size_t from, std::size_t count) {
        std::uint64_t bits[mask_block / 64];
        U buffer[mask_block];
        Drops here = drops;
        here.first += from;
        const std::size_t next = from + mask_block;
        draw(here, count, bits, next < n ? ahead(next) : detail::Ahead{});
        const U* r = one ? replacement.values.data() : cells(replacement, from, count, buffer);
        const bool found = k.select(x.data() + from, bits, r, !one, count, nonfinite, y.data() + from);
        if (exponent) bad[from / mask_block] = found;
        if (!packed.empty()) pack(bits, count, packed.data() + from / 8);
        if (!bools.empty()) unpack(bits, count, bools.data() + from);
    });
    if (!in_place && any_bad()) require_finite(x, exponent);
}

namespace {

template <class T>
struct Bits {
    using Type = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
    static constexpr Type exponent = !std::is_floating_point_v<T> ? Type{0}
                                     : sizeof(T) == 8             ? static_cast<Type>(std::uint64_t{0x7ff} << 52)
                                                                  : static_cast<Type>(0x7f800000u);
    static const Type* of(const T* p) noexcept { return reinterpret_cast<const Type*>(p); }
    static Type* of(T* p) noexcept { return reinterpret_cast<Type*>(p); }
};

}  // namespace

template <class T>
void dropout(std::span<const T> x, const Drops& drops, Replacement<T> replacement, std::span<T> y, std::span<std::uint8_t> packed,
             std::span<std::uint8_t> bools, bool check_finite, int num_threads) {
    using B = Bits<T>;
    using U = typename B::Type;
    dropout_bits<U>({B::of(x.data()), x.size()}, drops, {{B::of(replacement.values.data()), replacement.values.size()}, replacement.repeat},
                    check_finite ? B::exponent : U{0}, {B::of(y.data()), y.size()}, packed, bools, num_threads);
}

template <Real T>
void dropout_gradient(std::span<const T> grad, std::span<const std::uint8_t> mask, std::span<T> dx, std::size_t repeat,
                      std::span<T> d_replacement, int num_threads) {
    const std::size_t n = grad.size(), cells = d_replacement.size();
    require(mask.size() == (n + 7) / 8, "mask must have ", (n + 7) / 8, " bytes for ", n, " bits, got ", mask.size());
    require(dx.size() == n, "dx must have ", n, " entries, got ", dx.size());
    require(cells >= 1 && repeat >= 1, "replacement must have a value, got none");
    detail::require_data("grad", grad);
    detail::require_data("mask", mask);
    detail::require_data("dx", dx);
    detail::require_data("d_replacement", d_replacement);
    std::fill(d_replacement.begin(), d_replacement.end(), T(0));
    if (n == 0) return;
    const int threads = detail::team_size(num_threads, 4 * static_cast<double>(n));
    const std::size_t blocks = std::clamp<std::size_t>(n / std::max<std::size_t>(65536, 4 * cells), 1, 64),
                      length = (n + blocks - 1) / blocks;
    const bool own = repeat == 1 && cells == n;  // an entry a cell
    std::vector<double> sums(own ? 0 : blocks * cells, 0.0);
    detail::parallel_for(blocks, threads, [&](std::size_t b, std::size_t) {
        double* sum = own ? nullptr : sums.data() + b * cells;
        const std::size_t to = std::min(n, (b + 1) * length);
        std::size_t cell = b * length / repeat % cells, used = b * length % repeat;
        for (std::size_t i = b * length; i < to; ++i) {
            const bool dropped = (mask[i / 8] >> (i % 8)) & 1;
            const T g = grad[i];
            if (own)
                d_replacement[i] = dropped ? g : T(0);
            else
                sum[cell] += dropped ? static_cast<double>(g) : 0.0;
            dx[i] = dropped ? T(0) : g;
            if (++used == repeat) {
                used = 0;
                if (++cell == cells) cell = 0;
            }
        }
    });
    for (std::size_t c = 0; !own && c < cells; ++c) {
        for (std::size_t b = 1; b < blocks; ++b) sums[c] += sums[b * cells + c];
        d_replacement[c] = static_cast<T>(sums[c]);
    }
}

template void dropout_bits(std::span<const std::uint16_t>, const Drops&, Replacement<std::uint16_t>, std::uint16_t,
                           std::span<std::uint16_t>, std::span<std::uint8_t>, std::span<std::uint8_t>, int);
template void dropout_bits(std::span<const std::uint32_t>, const Drops&, Replacement<std::uint32_t>, std::uint32_t,
                           std::span<std::uint32_t>, std::span<std::uint8_t>, std::span<std::uint8_t>, int);
template void dropout_bits(std::span<const std::uint64_t>, const Drops&, Replacement<std::uint64_t>, std::uint64_t,
                           std::span<std::uint64_t>, std::span<std::uint8_t>, std::span<std::uint8_t>, int);
template void dropout(std::span<const float>, const Drops&, Replacement<float>, std::span<float>, std::span<std::uint8_t>,
                      std::span<std::uint8_t>, bool, int);
template void dropout(std::span<const double>, const Drops&, Replacement<double>, std::span<double>, std::span<std::uint8_t>,
                      std::span<std::uint8_t>, bool, int);
template void dropout(std::span<const std::int32_t>, const Drops&, Replacement<std::int32_t>, std::span<std::int32_t>,
                      std::span<std::uint8_t>, std::span<std::uint8_t>, bool, int);
template void dropout(std::span<const std::int64_t>, const Drops&, Replacement<std::int64_t>, std::span<std::int64_t>,
                      std::span<std::uint8_t>, std::span<std::uint8_t>, bool, int);
template void dropout_gradient(std::span<const float>, std::span<const std::uint8_t>, std::span<float>, std::size_t, std::span<float>, int);
template void dropout_gradient(std::span<const double>, std::span<const std::uint8_t>, std::span<double>, std::size_t, std::span<double>,
                               int);

}  // namespace sparseops
