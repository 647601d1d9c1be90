// SPDX-License-Identifier: BSD-3-Clause
// A fuzzer's bytes read as numbers, and checks that end the process.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <limits>
#include <span>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <vector>

namespace sparseops_fuzz {

template <class... Parts>
void must(bool holds, const Parts&... sentence) {
    if (holds) return;
    std::cerr.precision(17);
    std::cerr << "must hold: ";
    (std::cerr << ... << sentence) << std::endl;
    std::abort();
}

// Whether f refuses its input, in the words of require.hpp. Any other exception ends the process.
template <class F>
bool refused(F f) {
    try {
        f();
        return false;
    } catch (const std::invalid_argument& e) {
        must(std::string_view(e.what()).find(" must ") != std::string_view::npos, "a refusal says what must be, got ", e.what());
        return true;
    }
}

template <class T>
bool same_bytes(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// Numbers that code stumbles over.
template <class T>
constexpr T hostile_reals[] = {T(0),
                               -T(0),
                               T(1),
                               T(-1),
                               T(0.5),
                               std::numeric_limits<T>::infinity(),
                               -std::numeric_limits<T>::infinity(),
                               std::numeric_limits<T>::quiet_NaN(),
                               std::numeric_limits<T>::max(),
                               std::numeric_limits<T>::lowest(),
                               std::numeric_limits<T>::min(),
                               std::numeric_limits<T>::denorm_min(),
                               -std::numeric_limits<T>::denorm_min(),
                               std::numeric_limits<T>::epsilon(),
                               T(1e-30),
                               T(-1e30),
                               T(1e19),
                               T(88.7),
                               T(-104)};

// Takes numbers off the front; zeros once the bytes are used up.
class Input {
public:
    Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

    bool empty() const { return at_ == size_; }

    template <class U>
    U bits() {
        U value{};
        const std::size_t n = std::min(sizeof(U), size_ - at_);
        if (n > 0) std::memcpy(&value, data_ + at_, n);
        at_ += n;
        return value;
    }
    bool flag() { return bits<std::uint8_t>() & 1; }
    bool rarely() { return bits<std::uint8_t>() > 247; }
    std::size_t below(std::size_t n) { return n <= 256 ? bits<std::uint8_t>() % n : bits<std::uint16_t>() % n; }
    std::size_t upto(std::size_t n) { return below(n + 1); }
    template <class T>
    T pick(std::initializer_list<T> list) {
        return list.begin()[below(list.size())];
    }

    // Mostly in [low, high], now and then anything.
    template <class I>
    I integer(std::int64_t low, std::int64_t high) {
        const std::uint8_t kind = bits<std::uint8_t>();
        if (kind < 240) return static_cast<I>(low + kind % (high - low + 1));
        if (kind < 248) return static_cast<I>(kind % 2 ? high + 1 : low - 1);
        if (kind < 252) return kind % 2 ? std::numeric_limits<I>::max() : std::numeric_limits<I>::min();
        return bits<I>();
    }

    // A plain number within ±8, or with `wild` anything.
    template <class T>
    T real(bool wild) {
        const std::uint8_t kind = bits<std::uint8_t>();
        if (!wild) return static_cast<T>(static_cast<int>(kind) - 128) / T(16);
        if (kind < 128) return static_cast<T>(static_cast<int>(kind) - 64) / T(8);
        if (kind < 224) return hostile_reals<T>[kind % std::size(hostile_reals<T>)];
        return std::bit_cast<T>(bits<std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>());
    }
    template <class T>
    std::vector<T> reals(std::size_t n, bool wild) {
        std::vector<T> v(n);
        for (T& x : v) x = real<T>(wild);
        return v;
    }
    template <class I>
    std::vector<I> integers(std::size_t n, std::int64_t low, std::int64_t high) {
        std::vector<I> v(n);
        for (I& i : v) i = integer<I>(low, high);
        return v;
    }
    // n, or rarely another size.
    std::size_t size_near(std::size_t n) { return rarely() ? upto(n + 2) : n; }

private:
    const std::uint8_t* data_;
    std::size_t size_, at_ = 0;
};

}  // namespace sparseops_fuzz
