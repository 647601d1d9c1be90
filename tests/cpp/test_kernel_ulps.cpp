// SPDX-License-Identifier: BSD-3-Clause
// The true error of exp and log1p in the kernels, and of what they make up, in ulp against long double.
// An ulp is that of the exact result, rounded to T. Below e^-87.3 in float and e^-708 in double, a little above the smallest
// normal number, the kernels give 0, so there the error is bounded by that number.
#include <cmath>
#include <cstdlib>
#include <map>
#include <string>

#include "check.hpp"
#include "kernel_probe.hpp"
#include "kernel_tables.hpp"

namespace {

using namespace sparseops_test;
using Long = long double;

// The bounds, in ulp. The first three are those of the kernel file's comment.
const std::map<std::string, double> bounds = {
    {"exp", 2}, {"log1p in [0, 1]", 2}, {"log1p", 2}, {"log sigmoid", 3}, {"sigmoid", 4}, {"softmax probability", 4}, {"softmax nll", 3},
};

template <class T>
Long ulps(T got, Long exact) {
    int exponent = 0;
    std::frexp(exact, &exponent);
    const int least = std::numeric_limits<T>::min_exponent;
    return std::fabs(static_cast<Long>(got) - exact) / std::ldexp(1.0L, std::max(exponent, least) - std::numeric_limits<T>::digits);
}

struct Worst {
    Long error = 0, at = 0;
    void see(Long e, Long x) {
        if (e > error || std::isnan(e)) error = e, at = x;
    }
};

template <class T>
void report(const char* isa, const std::string& function, const Worst& worst) {
    std::printf("%-8s %-6s %-20s %7.4Lf ulp at %.9Lg\n", isa, type_name<T>, function.c_str(), worst.error, worst.at);
    check(worst.error <= static_cast<Long>(bounds.at(function)), isa, " ", type_name<T>, " ", function, " should be within ",
          bounds.at(function), " ulp, it is ", worst.error, " at ", worst.at);
}

std::size_t effort() {  // more points on request, for a closer look
    const char* text = std::getenv("SPARSEOPS_TEST_EFFORT");
    return text ? static_cast<std::size_t>(std::strtoul(text, nullptr, 10)) : 1;
}

// Evenly over [-far, -near], evenly in the exponent down to the smallest argument, and about the multiples of ln2 / 2,
// where the reduced argument is largest.
template <class T>
std::vector<T> negative_arguments(double far) {
    Random random(11);
    const std::size_t n = 100000 * effort();
    std::vector<T> x;
    x.reserve(3 * n + 10);
    for (std::size_t i = 0; i < n; ++i) {
        x.push_back(static_cast<T>(-far * (static_cast<double>(i) + random.uniform(0, 1)) / static_cast<double>(n)));
    }
    for (std::size_t i = 0; i < n; ++i) x.push_back(static_cast<T>(-std::exp2(random.uniform(-60, std::log2(far)))));
    const double half_ln2 = 0.34657359027997264;
    for (std::size_t i = 0; i < n; ++i) {
        const double near = -half_ln2 * static_cast<double>(random.below(static_cast<std::size_t>(far / half_ln2)));
        x.push_back(static_cast<T>(std::min(0.0, std::max(-far, near + random.uniform(-1e-3, 1e-3)))));
    }
    for (const double whole : {0.0, 1.0, 17.0, 36.0, 80.0}) x.push_back(static_cast<T>(-whole));
    if (far > 700) x.push_back(T(-700));
    return x;
}

template <class T>
constexpr double normal_range = sizeof(T) == 4 ? 87.3 : 708.0;  // e^-x is a normal number, and the kernels give it

template <class T>
void test_functions(const char* isa, const ProbeOf<T>& probe) {
    auto x = negative_arguments<T>(normal_range<T>);
    std::vector<T> y(x.size());
    Worst exp, log1p, any;
    probe.exp(x.data(), y.data(), x.size());
    for (std::size_t i = 0; i < x.size(); ++i) exp.see(ulps(y[i], std::exp(static_cast<Long>(x[i]))), static_cast<Long>(x[i]));
    report<T>(isa, "exp", exp);

    Random random(12);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(i % 2 ? random.uniform(0, 1) : std::exp2(random.uniform(-100, 0)));
    x[0] = 0, x[1] = 1;
    probe.log1p(x.data(), y.data(), x.size());
    for (std::size_t i = 0; i < x.size(); ++i) log1p.see(ulps(y[i], std::log1p(static_cast<Long>(x[i]))), static_cast<Long>(x[i]));
    report<T>(isa, "log1p in [0, 1]", log1p);

    for (std::size_t i = 0; i < x.size(); ++i) {
        if (i % 3 == 0) x[i] = static_cast<T>(random.uniform(0, 4));
        if (i % 3 == 1) x[i] = static_cast<T>(std::exp2(random.uniform(-40, 60)));
        if (i % 3 == 2) x[i] = static_cast<T>(random.below(5000));
    }
    probe.log1p_any(x.data(), y.data(), x.size());
    for (std::size_t i = 0; i < x.size(); ++i) any.see(ulps(y[i], std::log1p(static_cast<Long>(x[i]))), static_cast<Long>(x[i]));
    report<T>(isa, "log1p", any);
}

// What callers see of them, over z in ± the range.
template <class T>
void test_logistic(const KernelTable& table) {
    const auto& k = of<T>(table);
    auto z = negative_arguments<T>(normal_range<T>);
    for (std::size_t i = 0; i < z.size(); i += 2) z[i] = -z[i];
    const std::size_t n = z.size();
    std::vector<T> zero(n, T(0)), one(n, T(1)), loss(n), delta(n), p0(n), p1(n);
    Worst log_sigmoid, sigmoid;
    k.log_sigmoid(z.data(), n, p0.data(), p1.data());
    for (std::size_t i = 0; i < n; ++i) {
        const Long x = static_cast<Long>(z[i]), l = std::log1p(std::exp(-std::fabs(x)));
        log_sigmoid.see(ulps(p0[i], -(std::max(x, 0.0L) + l)), x);
        log_sigmoid.see(ulps(p1[i], -(std::max(-x, 0.0L) + l)), x);
    }
    for (const int child : {0, 1}) {
        k.logistic_loss(z.data(), child ? one.data() : zero.data(), n, loss.data(), delta.data());
        for (std::size_t i = 0; i < n; ++i) {
            const Long x = static_cast<Long>(z[i]), away = child ? -x : x;  // loss = log(1 + e^away), |delta| = σ(away)
            const Long u = std::exp(-std::fabs(x)), exact = (away < 0 ? u : 1.0L) / (1 + u);
            log_sigmoid.see(ulps(loss[i], std::max(away, 0.0L) + std::log1p(u)), x);
            sigmoid.see(ulps(delta[i], child ? -exact : exact), x);
        }
    }
    report<T>(table.name, "log sigmoid", log_sigmoid);
    report<T>(table.name, "sigmoid", sigmoid);
}

template <class T>
void test_softmax(const KernelTable& table) {
    const auto& k = of<T>(table);
    Worst probability, nll;
    const auto x = negative_arguments<T>(normal_range<T> - 1);
    for (std::size_t i = 0; i < x.size(); i += 3) {
        const T z[2] = {i % 2 ? x[i] : T(0), i % 2 ? T(0) : x[i]};  // one of them is 0, so that the difference is exact
        T p[2], loss[2];
        k.softmax_nll(z, 2, loss, p);
        const Long u = std::exp(static_cast<Long>(x[i]));
        const std::size_t top = i % 2 ? 1 : 0;
        probability.see(ulps(p[top], 1 / (1 + u)), static_cast<Long>(x[i]));
        probability.see(ulps(p[1 - top], u / (1 + u)), static_cast<Long>(x[i]));
        nll.see(ulps(loss[top], std::log1p(u)), static_cast<Long>(x[i]));
        nll.see(ulps(loss[1 - top], std::log1p(u) - static_cast<Long>(x[i])), static_cast<Long>(x[i]));
    }
    report<T>(table.name, "softmax probability", probability);
    report<T>(table.name, "softmax nll", nll);
}

// Beyond the normal range: results that would be denormal, or are 0.
template <class T>
void test_beyond(const KernelTable& table) {
    const auto& k = of<T>(table);
    const double from = normal_range<T>;
    const Long slack = std::exp(static_cast<Long>(-from)) * 1.001L;  // what the kernels take for 0
    std::vector<T> z, target, loss, delta, p0, p1;
    for (double x = from - 2; x < from + 60; x += 0.0137) z.push_back(static_cast<T>(x)), z.push_back(static_cast<T>(-x));
    for (const double x : {80.0, 700.0, 745.2, 1e4, 1e30}) z.push_back(static_cast<T>(x)), z.push_back(static_cast<T>(-x));
    z.push_back(std::numeric_limits<T>::max());
    z.push_back(-std::numeric_limits<T>::max());
    const std::size_t n = z.size();
    loss.resize(n), delta.resize(n), p0.resize(n), p1.resize(n);
    k.log_sigmoid(z.data(), n, p0.data(), p1.data());
    const std::vector<T> one(n, T(1));
    k.logistic_loss(z.data(), one.data(), n, loss.data(), delta.data());
    for (std::size_t i = 0; i < n; ++i) {
        const Long x = static_cast<Long>(z[i]), l = std::log1p(std::exp(-std::fabs(x))), u = std::exp(-std::fabs(x));
        const Long p = std::max(-x, 0.0L) + l;
        check(std::fabs(static_cast<Long>(loss[i]) - p) <= slack + 2 * unit<T> * p, table.name, " ", type_name<T>, " loss at ", x,
              " should be ", p, ", is ", loss[i]);
        check(loss[i] == -p1[i] && loss[i] >= 0, table.name, " log_sigmoid should agree at ", x);
        check(std::fabs(static_cast<Long>(p0[i]) + std::max(x, 0.0L) + l) <= slack + 2 * unit<T> * std::fabs(x), table.name,
              " log P(child 0) at ", x);
        const Long d = x < 0 ? u / (1 + u) - 1 : -u / (1 + u);
        check(std::fabs(static_cast<Long>(delta[i]) - d) <= slack + 2 * unit<T> * std::fabs(d), table.name, " ", type_name<T>, " delta at ",
              x, " should be ", d, ", is ", delta[i]);
        const T pair[2] = {T(0), -std::fabs(z[i])};
        T probability[2], nll[2];
        k.softmax_nll(pair, 2, nll, probability);
        check(probability[0] == 1 && std::fabs(static_cast<Long>(probability[1]) - u) <= slack + 4 * unit<T> * u && nll[1] == -pair[1] &&
                  nll[0] >= 0,
              table.name, " ", type_name<T>, " softmax of (0, ", pair[1], ") should be (1, ", u, ")");
    }
}

void test_probe([[maybe_unused]] const char* isa, [[maybe_unused]] const Probe& probe) {
    if (!can_run(isa)) return;
    test_functions<float>(isa, probe.f32);
    test_functions<double>(isa, probe.f64);
}

}  // namespace

int main() {
#if defined(SPARSEOPS_HAS_BASELINE)
    test_probe("baseline", probe_baseline);
#endif
#if defined(SPARSEOPS_HAS_AVX2)
    test_probe("avx2", probe_avx2);
#endif
#if defined(SPARSEOPS_HAS_AVX512)
    test_probe("avx512", probe_avx512);
#endif
#if defined(SPARSEOPS_HAS_NEON)
    test_probe("neon", probe_neon);
#endif
    for (const KernelTable* table : tables()) {
        test_logistic<float>(*table);
        test_logistic<double>(*table);
        test_softmax<float>(*table);
        test_softmax<double>(*table);
        test_beyond<float>(*table);
        test_beyond<double>(*table);
    }
    return finish("kernel ulps");
}
