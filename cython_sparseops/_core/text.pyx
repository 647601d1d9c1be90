from cython_sparseops._core.ndarray cimport taken_vector, use_numpy
from cython_sparseops._core.runtime cimport thread_pool_of_runtime
from cython_sparseops._core.types cimport as_const_span, int32_t, int64_t, share_thread_pool, span, uint8_t

from libcpp cimport bool as cbool
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

cdef extern from "<sparseops/text.hpp>" namespace "sparseops" nogil:
    cppclass StringsView:
        span[const uint8_t] utf8
        span[const int64_t] offsets

    cppclass TextOptions:
        int32_t word_ngrams
        int32_t min_chars
        int32_t max_chars
        int32_t buckets
        cbool pruned
        cbool ends_line
        string label_prefix

    cppclass TextRows:
        vector[int64_t] indptr
        vector[int32_t] indices
        vector[float] data

    cppclass TextDictionary:
        TextDictionary(StringsView words, StringsView labels, span[const int32_t] kept, TextOptions options) except +
        size_t cols()
        TextRows rows(StringsView texts, int num_threads) except +

use_numpy()
share_thread_pool(thread_pool_of_runtime())


cdef StringsView strings(const uint8_t[::1] utf8, const int64_t[::1] offsets):
    cdef StringsView view
    view.utf8 = as_const_span(&utf8[0], utf8.shape[0])
    view.offsets = as_const_span(&offsets[0], offsets.shape[0])
    return view


cdef class Dictionary:
    """A dictionary (sparseops::TextDictionary)."""
    cdef unique_ptr[TextDictionary] of

    def __cinit__(self, const uint8_t[::1] words, const int64_t[::1] word_offsets, const uint8_t[::1] labels, const int64_t[::1] label_offsets,
                  const int32_t[::1] kept, *, int32_t word_ngrams, int32_t min_chars, int32_t max_chars, int32_t buckets, bint pruned,
                  bint ends_line, bytes label_prefix not None):
        cdef TextOptions options
        options.word_ngrams, options.min_chars, options.max_chars, options.buckets = word_ngrams, min_chars, max_chars, buckets
        options.pruned, options.ends_line, options.label_prefix = pruned, ends_line, label_prefix
        cdef StringsView word_list = strings(words, word_offsets)
        cdef StringsView label_list = strings(labels, label_offsets)
        cdef span[const int32_t] kept_list = as_const_span(&kept[0], kept.shape[0])
        self.of.reset(new TextDictionary(word_list, label_list, kept_list, options))

    @property
    def cols(self):
        return self.of.get().cols()

    def rows(self, const uint8_t[::1] texts, const int64_t[::1] offsets, int num_threads):
        cdef const TextDictionary* dictionary = self.of.get()
        cdef StringsView lines = strings(texts, offsets)
        cdef TextRows result
        with nogil:
            result = dictionary.rows(lines, num_threads)
        return taken_vector(result.indptr), taken_vector(result.indices), taken_vector(result.data)
