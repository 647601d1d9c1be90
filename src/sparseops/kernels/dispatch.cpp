// SPDX-License-Identifier: BSD-3-Clause
// Chooses the kernel table: what was compiled, what the processor and the operating system both support, and
// SPARSEOPS_ISA. Own CPUID code, because __builtin_cpu_supports does not link under every compiler.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "../detail/require.hpp"
#include "../runtime.hpp"
#include "half.hpp"
#include "kernels.hpp"
#include "linear.hpp"
#include "quantized.hpp"
#include "stream.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace sparseops {
namespace {

using detail::HalfTable;
using detail::KernelTable;
using detail::LinearKernels;
using detail::QuantizedKernels;
using detail::StreamTable;

#if defined(__x86_64__)
// Bits 5-7 of XCR0 are the AVX-512 registers, 1-2 SSE and AVX.
std::uint64_t xcr0() noexcept {
    std::uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (static_cast<std::uint64_t>(high) << 32) | low;
}

struct Cpu {
    bool v3 = false;  // AVX2, FMA, BMI1/2, F16C, LZCNT, MOVBE: what -march=x86-64-v3 may emit
    bool v4 = false;  // and AVX-512 F, BW, CD, DQ, VL
    bool vnni = false;
};

Cpu detect() noexcept {
    Cpu cpu;
    unsigned a = 0, b = 0, c = 0, d = 0, b7 = 0, c81 = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return cpu;
    const unsigned c1 = c;
    if (!(c1 & bit_OSXSAVE) || !(c1 & bit_AVX)) return cpu;
    const std::uint64_t enabled = xcr0();
    if ((enabled & 0x6) != 0x6) return cpu;
    unsigned c7 = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) b7 = b, c7 = c;
    if (__get_cpuid(0x80000001u, &a, &b, &c, &d)) c81 = c;
    constexpr unsigned need_c1 = bit_FMA | bit_F16C | bit_MOVBE | bit_POPCNT | bit_SSE4_2;
    constexpr unsigned need_b7 = bit_AVX2 | bit_BMI | bit_BMI2;
    constexpr unsigned lzcnt = 1u << 5;
    cpu.v3 = (c1 & need_c1) == need_c1 && (b7 & need_b7) == need_b7 && (c81 & lzcnt);
    constexpr unsigned need_512 = bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL;
    cpu.v4 = cpu.v3 && (b7 & need_512) == need_512 && (enabled & 0xe6) == 0xe6;
    constexpr unsigned avx512_vnni = 1u << 11;
    cpu.vnni = cpu.v4 && (c7 & avx512_vnni);
    return cpu;
}
#endif

struct Candidate {
    const KernelTable* table;
    const StreamTable* stream;
    const QuantizedKernels* quantized;
    const LinearKernels* linear;
    const HalfTable* half;
    bool available;
};

// Best first.
std::vector<Candidate> candidates() {
    std::vector<Candidate> list;
#if defined(__x86_64__)
    [[maybe_unused]] const Cpu cpu = detect();
#if defined(SPARSEOPS_HAS_AVX512)
    list.push_back({&detail::kernels_avx512, &detail::stream_avx512, cpu.vnni ? &detail::quantized_avx512vnni : &detail::quantized_avx512,
                    &detail::linear_avx512, &detail::half_avx512, cpu.v4});
#endif
#if defined(SPARSEOPS_HAS_AVX2)
    list.push_back(
        {&detail::kernels_avx2, &detail::stream_avx2, &detail::quantized_avx2, &detail::linear_avx2, &detail::half_avx2, cpu.v3});
#endif
#endif
#if defined(SPARSEOPS_HAS_NEON)
    list.push_back({&detail::kernels_neon, &detail::stream_neon, &detail::quantized_neon, &detail::linear_neon, &detail::half_neon, true});
#else
    list.push_back({&detail::kernels_baseline, &detail::stream_baseline, &detail::quantized_baseline, &detail::linear_baseline,
                    &detail::half_baseline, true});
#endif
    return list;
}

Candidate choose() {
    const char* wanted = std::getenv("SPARSEOPS_ISA");
    const auto list = candidates();
    std::string names;
    for (const Candidate& c : list) {
        if (!wanted || !*wanted) {
            if (c.available) return c;
        } else if (std::strcmp(wanted, c.table->name) == 0) {
            detail::require(c.available, "SPARSEOPS_ISA must name an instruction set that this machine has, got ", wanted);
            return c;
        }
        names += (names.empty() ? "" : ", ") + std::string(c.table->name);
    }
    detail::refuse("SPARSEOPS_ISA must be one of ", names, ", got ", wanted ? wanted : "");
}

// Chosen once, kept. No function-local static: one that another thread was making when the process forked would block the
// child for ever. Two threads may both choose; they choose the same.
Candidate chosen() {
    static constinit std::atomic<const KernelTable*> table{nullptr};
    static constinit std::atomic<const StreamTable*> stream{nullptr};
    static constinit std::atomic<const QuantizedKernels*> quantized{nullptr};
    static constinit std::atomic<const LinearKernels*> linear{nullptr};
    static constinit std::atomic<const HalfTable*> half{nullptr};
    if (const LinearKernels* last = linear.load(std::memory_order_acquire)) {
        return {table.load(std::memory_order_relaxed),     stream.load(std::memory_order_relaxed),
                quantized.load(std::memory_order_relaxed), last,
                half.load(std::memory_order_relaxed),      true};
    }
    const Candidate candidate = choose();
    table.store(candidate.table, std::memory_order_relaxed);
    stream.store(candidate.stream, std::memory_order_relaxed);
    quantized.store(candidate.quantized, std::memory_order_relaxed);
    half.store(candidate.half, std::memory_order_relaxed);
    linear.store(candidate.linear, std::memory_order_release);
    return candidate;
}

}  // namespace

namespace detail {
const KernelTable& active_kernels() { return *chosen().table; }
const StreamTable& stream_kernels() { return *chosen().stream; }
const QuantizedKernels& quantized_kernels() { return *chosen().quantized; }
const LinearKernels& linear_kernels() { return *chosen().linear; }
const HalfTable& half_table() { return *chosen().half; }
}  // namespace detail

const char* version() noexcept { return SPARSEOPS_VERSION; }

std::vector<std::string> compiled_isas() {
    std::vector<std::string> names;
    for (const Candidate& c : candidates()) names.emplace_back(c.table->name);
    return names;
}

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const Candidate& c : candidates()) {
        if (c.available) names.emplace_back(c.table->name);
    }
    return names;
}

std::string active_isa() { return detail::active_kernels().name; }

}  // namespace sparseops
