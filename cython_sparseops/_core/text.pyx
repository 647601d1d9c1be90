from cython_sparseops._core.ndarray cimport taken_vector, use_numpy
from cython_sparseops._core.runtime cimport thread_pool_of_runtime
from cython_sparseops._core.types cimport as_const_span, int32_t, int64_t, share_thread_pool, span, uint8_t, uint64_t

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

    cppclass TextExamples:
        TextRows rows
        vector[int64_t] label_ptr
        vector[int32_t] labels

    cppclass TextVocabulary:
        vector[uint8_t] utf8
        vector[int64_t] offsets
        vector[int64_t] counts
        size_t words

    cppclass TextCounter:
        TextCounter(TextOptions options) except +
        void add(span[const uint8_t] lines, int num_threads) except +
        int64_t tokens()
        TextVocabulary vocabulary(int64_t min_count, int64_t min_label, int num_threads) except +
        vector[int32_t] filled_buckets() except +

    cppclass TermOptions:
        cbool words
        cbool lowercase
        int32_t word_ngrams
        int32_t min_chars
        int32_t max_chars

    cppclass TextLetters:
        TextLetters(span[const uint64_t] letters, span[const int32_t] upper, StringsView lower) except +

    cppclass TermRows:
        TextVocabulary vocabulary
        TextRows rows

    cppclass TermCounter:
        TermCounter(TermOptions options) except +
        void add(StringsView texts, const TextLetters* letters, int num_threads) except +
        bint is_empty()
        TermRows finish(int64_t min_count, int num_threads) except +

    cppclass TermDictionary:
        TermDictionary(StringsView words, StringsView chars, TermOptions options) except +
        size_t cols()
        TextRows rows(StringsView texts, const TextLetters* letters, int num_threads) except +

    cppclass LabeledTexts:
        vector[uint8_t] utf8
        vector[int64_t] offsets
        vector[int64_t] label_ptr
        vector[int32_t] labels
        int64_t lines
        int64_t unlabeled

    cppclass LabelReader:
        LabelReader(string label_prefix) except +
        LabeledTexts read(span[const uint8_t] lines, int num_threads) except +
        TextVocabulary labels() except +

    cppclass TextDictionary:
        TextDictionary(StringsView words, StringsView labels, span[const int32_t] kept, TextOptions options) except +
        size_t cols()
        TextRows rows(StringsView texts, int num_threads) except +
        TextExamples examples(span[const uint8_t] lines, bint labeled_only, int num_threads) except +

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

    def examples(self, const uint8_t[::1] lines, bint labeled_only, int num_threads):
        cdef const TextDictionary* dictionary = self.of.get()
        cdef span[const uint8_t] text = as_const_span(&lines[0], lines.shape[0])
        cdef TextExamples result
        with nogil:
            result = dictionary.examples(text, labeled_only, num_threads)
        return (taken_vector(result.rows.indptr), taken_vector(result.rows.indices), taken_vector(result.rows.data),
                taken_vector(result.label_ptr), taken_vector(result.labels))


cdef class Counter:
    """Counts of a text that comes in blocks (sparseops::TextCounter)."""
    cdef unique_ptr[TextCounter] of

    def __cinit__(self, *, int32_t word_ngrams, int32_t min_chars, int32_t max_chars, int32_t buckets, bytes label_prefix not None):
        cdef TextOptions options
        options.word_ngrams, options.min_chars, options.max_chars, options.buckets = word_ngrams, min_chars, max_chars, buckets
        options.label_prefix = label_prefix
        self.of.reset(new TextCounter(options))

    @property
    def tokens(self):
        return self.of.get().tokens()

    def add(self, const uint8_t[::1] lines, int num_threads):
        cdef TextCounter* counter = self.of.get()
        cdef span[const uint8_t] text = as_const_span(&lines[0], lines.shape[0])
        with nogil:
            counter.add(text, num_threads)

    def vocabulary(self, int64_t min_count, int64_t min_label, int num_threads):
        cdef const TextCounter* counter = self.of.get()
        cdef TextVocabulary result
        with nogil:
            result = counter.vocabulary(min_count, min_label, num_threads)
        return taken_vector(result.utf8), taken_vector(result.offsets), taken_vector(result.counts), result.words

    def filled_buckets(self):
        cdef vector[int32_t] found = self.of.get().filled_buckets()
        return taken_vector(found)


cdef class Letters:
    """Letters beyond ASCII (sparseops::TextLetters)."""
    cdef unique_ptr[TextLetters] of

    def __cinit__(self, const uint64_t[::1] letters, const int32_t[::1] upper, const uint8_t[::1] lower, const int64_t[::1] offsets):
        cdef span[const uint64_t] bits = as_const_span(&letters[0], letters.shape[0])
        cdef span[const int32_t] upper_list = as_const_span(&upper[0], upper.shape[0])
        cdef StringsView lower_list = strings(lower, offsets)
        self.of.reset(new TextLetters(bits, upper_list, lower_list))


cdef const TextLetters* letters_of(Letters letters) noexcept:
    if letters is None:
        return NULL
    return letters.of.get()


cdef TermOptions term_options(bint words, bint lowercase, int32_t word_ngrams, int32_t min_chars, int32_t max_chars) noexcept:
    cdef TermOptions options
    options.words, options.lowercase, options.word_ngrams = words, lowercase, word_ngrams
    options.min_chars, options.max_chars = min_chars, max_chars
    return options


cdef class Terms:
    """A vocabulary that is learned (sparseops::TermCounter)."""
    cdef unique_ptr[TermCounter] of

    def __cinit__(self, *, bint words, bint lowercase, int32_t word_ngrams, int32_t min_chars, int32_t max_chars):
        self.of.reset(new TermCounter(term_options(words, lowercase, word_ngrams, min_chars, max_chars)))

    def add(self, const uint8_t[::1] texts, const int64_t[::1] offsets, Letters letters, int num_threads):
        cdef TermCounter* counter = self.of.get()
        cdef StringsView lines = strings(texts, offsets)
        cdef const TextLetters* known = letters_of(letters)
        with nogil:
            counter.add(lines, known, num_threads)

    def is_empty(self):
        return self.of.get().is_empty()

    def finish(self, int64_t min_count, int num_threads):
        cdef TermCounter* counter = self.of.get()
        cdef TermRows result
        with nogil:
            result = counter.finish(min_count, num_threads)
        return (taken_vector(result.vocabulary.utf8), taken_vector(result.vocabulary.offsets), result.vocabulary.words,
                taken_vector(result.rows.indptr), taken_vector(result.rows.indices), taken_vector(result.rows.data))


cdef class TermColumns:
    """A vocabulary that is known (sparseops::TermDictionary)."""
    cdef unique_ptr[TermDictionary] of

    def __cinit__(self, const uint8_t[::1] words, const int64_t[::1] word_offsets, const uint8_t[::1] chars, const int64_t[::1] char_offsets,
                  *, bint lowercase, bint words_only, int32_t word_ngrams, int32_t min_chars, int32_t max_chars):
        cdef TermOptions options = term_options(words_only, lowercase, word_ngrams, min_chars, max_chars)
        self.of.reset(new TermDictionary(strings(words, word_offsets), strings(chars, char_offsets), options))

    def rows(self, const uint8_t[::1] texts, const int64_t[::1] offsets, Letters letters, int num_threads):
        cdef const TermDictionary* dictionary = self.of.get()
        cdef StringsView lines = strings(texts, offsets)
        cdef const TextLetters* known = letters_of(letters)
        cdef TextRows result
        with nogil:
            result = dictionary.rows(lines, known, num_threads)
        return taken_vector(result.indptr), taken_vector(result.indices), taken_vector(result.data)


cdef class Labels:
    """Labels parted from texts (sparseops::LabelReader)."""
    cdef unique_ptr[LabelReader] of

    def __cinit__(self, bytes label_prefix not None):
        self.of.reset(new LabelReader(label_prefix))

    def read(self, const uint8_t[::1] lines, int num_threads):
        cdef LabelReader* reader = self.of.get()
        cdef span[const uint8_t] text = as_const_span(&lines[0], lines.shape[0])
        cdef LabeledTexts found
        with nogil:
            found = reader.read(text, num_threads)
        return (taken_vector(found.utf8), taken_vector(found.offsets), taken_vector(found.label_ptr), taken_vector(found.labels),
                found.lines, found.unlabeled)

    def names(self):
        cdef TextVocabulary found = self.of.get().labels()
        return taken_vector(found.utf8), taken_vector(found.offsets)
