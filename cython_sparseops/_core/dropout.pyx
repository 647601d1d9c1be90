from libc.stdint cimport uint16_t, uint32_t

from cython_sparseops._core.runtime cimport thread_pool_of_runtime
from cython_sparseops._core.types cimport as_const_span, as_span, index, int64_t, real, share_thread_pool, span, uint8_t, uint64_t

cdef extern from "<array>" namespace "std" nogil:
    cppclass Block "std::array<std::uint32_t, 4>":
        uint32_t operator[](size_t i)

cdef extern from "<sparseops/dropout.hpp>" namespace "sparseops" nogil:
    enum class DropPurpose:
        entries
        segments
        ids

    enum class Center:
        mean
        median

    cppclass Drops:
        uint64_t seed
        uint64_t first
        double rate
        DropPurpose purpose

    cppclass Replacement[U]:
        span[const U] values
        size_t repeat

    void cpp_gradient "sparseops::dropout_gradient" [T](span[const T] grad, span[const uint8_t] mask, span[T] dx, size_t repeat, span[T] d_replacement, int num_threads) except +
    void cpp_centers "sparseops::nonzero_centers" [T](span[const T] x, span[const int64_t] offsets, Center center, span[T] out, int num_threads) except +
    size_t cpp_lengths "sparseops::dropout_lengths"(span[const int64_t] lengths, size_t ids, const Drops& drops, span[int64_t] new_lengths) except +
    void cpp_ids "sparseops::dropout_ids" [I](span[const I] ids, span[const int64_t] lengths, const Drops& drops, I replacement, span[I] new_ids) except +

cdef extern from "<sparseops/dropout/bits.hpp>" namespace "sparseops" nogil:
    void cpp_dropout "sparseops::dropout_bits" [U](span[const U] x, const Drops& drops, Replacement[U] replacement, U exponent, span[U] y, span[uint8_t] packed,
                                             span[uint8_t] bools, int num_threads) except +

cdef extern from "<sparseops/detail/random.hpp>" namespace "sparseops::detail" nogil:
    Block cpp_philox "sparseops::detail::philox"(uint64_t key, uint64_t counter_low, uint64_t counter_high)

ctypedef fused item:
    uint16_t
    uint32_t
    uint64_t

share_thread_pool(thread_pool_of_runtime())


def philox(uint64_t key, uint64_t counter_low, uint64_t counter_high):
    cdef Block words = cpp_philox(key, counter_low, counter_high)
    return words[0], words[1], words[2], words[3]


cdef Drops as_drops(uint64_t seed, uint64_t first, double rate, DropPurpose purpose) noexcept:
    cdef Drops drops
    drops.seed, drops.first, drops.rate, drops.purpose = seed, first, rate, purpose
    return drops


def dropout(const item[::1] x, uint64_t seed, uint64_t first, double rate, bint ids, const item[::1] replacement, size_t repeat, item exponent,
            item[::1] y, uint8_t[::1] packed, uint8_t[::1] bools, int num_threads):
    cdef Drops drops = as_drops(seed, first, rate, DropPurpose.ids if ids else DropPurpose.entries)
    cdef Replacement[item] cells
    cells.values, cells.repeat = as_const_span(&replacement[0], replacement.shape[0]), repeat
    with nogil:
        cpp_dropout(as_const_span(&x[0], x.shape[0]), drops, cells, exponent, as_span(&y[0], y.shape[0]),
                    as_span(&packed[0], packed.shape[0]), as_span(&bools[0], bools.shape[0]), num_threads)


def gradient(const real[::1] grad, const uint8_t[::1] packed, real[::1] dx, size_t repeat, real[::1] d_replacement, int num_threads):
    with nogil:
        cpp_gradient(as_const_span(&grad[0], grad.shape[0]), as_const_span(&packed[0], packed.shape[0]), as_span(&dx[0], dx.shape[0]), repeat,
                     as_span(&d_replacement[0], d_replacement.shape[0]), num_threads)


def centers(const real[::1] x, const int64_t[::1] offsets, bint median, real[::1] out, int num_threads):
    cdef Center center = Center.median if median else Center.mean
    with nogil:
        cpp_centers(as_const_span(&x[0], x.shape[0]), as_const_span(&offsets[0], offsets.shape[0]), center, as_span(&out[0], out.shape[0]), num_threads)


def segment_lengths(const int64_t[::1] lengths, size_t ids, uint64_t seed, uint64_t first, double rate, int64_t[::1] new_lengths):
    cdef Drops drops = as_drops(seed, first, rate, DropPurpose.segments)
    cdef size_t total
    with nogil:
        total = cpp_lengths(as_const_span(&lengths[0], lengths.shape[0]), ids, drops, as_span(&new_lengths[0], new_lengths.shape[0]))
    return total


def segment_ids(const index[::1] ids, const int64_t[::1] lengths, uint64_t seed, uint64_t first, double rate, index replacement, index[::1] new_ids):
    cdef Drops drops = as_drops(seed, first, rate, DropPurpose.segments)
    with nogil:
        cpp_ids(as_const_span(&ids[0], ids.shape[0]), as_const_span(&lengths[0], lengths.shape[0]), drops, replacement,
                as_span(&new_ids[0], new_ids.shape[0]))
