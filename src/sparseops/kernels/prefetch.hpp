// SPDX-License-Identifier: BSD-3-Clause
// Asking for memory before it is needed. Internal linkage: a kernel unit includes this too.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sparseops::detail {

constexpr std::size_t cache_line = 64;

// GCC takes a function of nothing but __builtin_prefetch for one without effect, and drops calls of it: hence volatile assembly.
[[gnu::always_inline]] static inline void prefetch_line(const void* p) noexcept {
#if defined(__x86_64__)
    asm volatile("prefetcht0 %0" : : "m"(*static_cast<const char*>(p)));
#else
    __builtin_prefetch(p);
    asm volatile("" : : "r"(p));
#endif
}

// For writing: the line comes as this core's own, so that the store need not ask for it again. On x86 the compilers' prefetch for
// writing is one for reading unless they are told that the processor has PREFETCHW; where it has not, it does nothing.
[[gnu::always_inline]] static inline void prefetch_line_to_write(void* p) noexcept {
#if defined(__x86_64__)
    asm volatile("prefetchw %0" : : "m"(*static_cast<char*>(p)));
#else
    __builtin_prefetch(p, 1);
    asm volatile("" : : "r"(p));
#endif
}

// Entry i of the table at p. i may be anything: nothing is read.
template <class T, class I>
[[gnu::always_inline]] static inline void prefetch_entry(const T* p, I i) noexcept {
    prefetch_line(reinterpret_cast<const char*>(reinterpret_cast<std::uintptr_t>(p) + static_cast<std::uintptr_t>(i) * sizeof(T)));
}

template <auto Line, class Byte>
[[gnu::always_inline]] static inline void each_line(Byte* first, std::size_t bytes) noexcept {
    if (bytes == 0) return;
    for (std::size_t at = 0; at < bytes; at += cache_line) Line(first + at);
    Line(first + bytes - 1);  // another line, unless the first byte starts one
}

// The lines of the n elements at p, but of at most `most` bytes: of a long row the hardware streams the rest.
template <class T>
[[gnu::always_inline]] static inline void prefetch(const T* p, std::size_t n, std::size_t most = 1024) noexcept {
    each_line<prefetch_line>(reinterpret_cast<const char*>(p), n * sizeof(T) < most ? n * sizeof(T) : most);
}
template <class T>
[[gnu::always_inline]] static inline void prefetch_to_write(T* p, std::size_t n, std::size_t most = 1024) noexcept {
    each_line<prefetch_line_to_write>(reinterpret_cast<char*>(p), n * sizeof(T) < most ? n * sizeof(T) : most);
}

}  // namespace sparseops::detail
