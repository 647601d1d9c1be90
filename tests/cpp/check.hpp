// SPDX-License-Identifier: BSD-3-Clause
// Checks of the native tests: a sentence for each, counted, and the exit code of main. Random numbers that are the same everywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <vector>

namespace sparseops_test {

inline std::size_t checks = 0, failures = 0;

// The parts are joined, and only if the check fails.
template <class... Parts>
bool check(bool holds, const Parts&... sentence) {
    ++checks;
    if (holds) return true;
    constexpr std::size_t most = 40;
    if (++failures <= most) {
        std::ostringstream text;
        text.precision(17);
        (text << ... << sentence);
        std::fprintf(stderr, "failed: %s\n", text.str().c_str());
        if (failures == most) std::fprintf(stderr, "… further failures are only counted\n");
    }
    return false;
}

// f() throws std::invalid_argument, itself and no other, with this text.
template <class F>
void check_refused(const std::string& text, F f) {
    try {
        f();
    } catch (const std::invalid_argument& e) {
        check(typeid(e) == typeid(std::invalid_argument) && text == e.what(), "the refusal should say '", text, "', it says '", e.what(),
              "'");
        return;
    } catch (const std::exception& e) {
        check(false, "'", text, "' should be std::invalid_argument, it is another exception: ", e.what());
        return;
    }
    check(false, "there should be a refusal saying '", text, "', there is none");
}

inline int finish(const char* name) {
    std::printf("%s: %zu checks, %zu failures\n", name, checks, failures);
    return failures == 0 ? 0 : 1;
}

template <class T>
bool same_bytes(std::span<const T> a, std::span<const T> b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}
template <class T>
bool same_bytes(const std::vector<T>& a, const std::vector<T>& b) {
    return same_bytes(std::span<const T>(a), std::span<const T>(b));
}

// SplitMix64.
class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed) {}

    std::uint64_t bits() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    double uniform(double low, double high) { return low + (high - low) * static_cast<double>(bits() >> 11) * 0x1p-53; }
    std::size_t below(std::size_t n) { return static_cast<std::size_t>(bits() % n); }

    template <class T>
    std::vector<T> vector(std::size_t n, double low = -1, double high = 1) {
        std::vector<T> v(n);
        for (T& x : v) x = static_cast<T>(uniform(low, high));
        return v;
    }
    template <class I>
    std::vector<I> indices(std::size_t n, std::size_t limit) {
        std::vector<I> v(n);
        for (I& i : v) i = static_cast<I>(below(limit));
        return v;
    }

private:
    std::uint64_t state_;
};

}  // namespace sparseops_test
