// SPDX-License-Identifier: BSD-3-Clause
// Text as rows of features: by fastText's rules, its dictionary and its hashed n-grams of words and of characters; or by scikit-learn's,
// with a vocabulary of terms.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "types.hpp"

namespace sparseops {

// What of a text is counted beside its words.
struct TextOptions {
    std::int32_t word_ngrams = 1;            // runs of 2 to so many tokens are hashed; 1: none
    std::int32_t min_chars = 0;              // runs of min_chars to max_chars UTF-8 characters of <word> are hashed
    std::int32_t max_chars = 0;              // 0: none
    std::int32_t buckets = 0;                // that hashes fall into
    bool pruned = false;                     // only some of the buckets have a column
    bool ends_line = true;                   // every text is a whole line: it ends with the token </s>
    std::string label_prefix = "__label__";  // unknown tokens that begin so are labels, and count for nothing
};

// Rows of counts: columns rise within a row.
struct TextRows {
    std::vector<std::int64_t> indptr = {};
    std::vector<std::int32_t> indices = {};
    std::vector<float> data = {};
    std::size_t cols = 0;
};

// Rows of counts and, for each, the numbers of its labels: those of row i are labels[label_ptr[i]] … labels[label_ptr[i + 1] - 1].
struct TextExamples {
    TextRows rows = {};
    std::vector<std::int64_t> label_ptr = {};
    std::vector<std::int32_t> labels = {};
};

// Strings, and how often each was seen: words, then labels.
struct TextVocabulary {
    std::vector<std::uint8_t> utf8 = {};
    std::vector<std::int64_t> offsets = {0};
    std::vector<std::int64_t> counts = {};
    std::size_t words = 0;
};

// The hash of fastText: 32-bit FNV-1a of bytes that are sign-extended.
std::uint32_t text_hash(std::string_view bytes) noexcept;

// Counts the tokens of a text that comes in blocks, and which buckets its n-grams fill. Memory grows with the tokens that differ.
class TextCounter {
public:
    // `pruned` and `ends_line` have no say. Throws std::invalid_argument on options out of range.
    explicit TextCounter(TextOptions options);
    ~TextCounter();
    TextCounter(TextCounter&&) noexcept;
    TextCounter& operator=(TextCounter&&) noexcept;

    // Counts a block of whole lines: tokens, </s> at the end of each example (a line, or what </s> ends) and labels.
    // O(bytes · n-grams). The result does not depend on num_threads.
    void add(std::span<const std::uint8_t> lines, int num_threads = 0);

    // All tokens, the ends of examples among them.
    std::int64_t tokens() const noexcept;
    // Those that occur min_count times, or min_label times if they begin with the prefix; each by falling count, the first seen first
    // among equals.
    TextVocabulary vocabulary(std::int64_t min_count, std::int64_t min_label, int num_threads = 0) const;
    // The buckets that n-grams of examples with a label fall into, rising.
    std::vector<std::int32_t> filled_buckets() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

// The columns of a model of fastText: its words, then its buckets.
class TextDictionary {
public:
    // Column i is word i; column words.size() + j is bucket j or, if pruned, bucket kept[j]. Copies what it needs. O(bytes).
    // Throws std::invalid_argument on offsets that are none, on a word or label twice, and on options or buckets out of range.
    TextDictionary(StringsView words, StringsView labels, std::span<const std::int32_t> kept, TextOptions options);
    ~TextDictionary();
    TextDictionary(TextDictionary&&) noexcept;
    TextDictionary& operator=(TextDictionary&&) noexcept;

    std::size_t cols() const noexcept;

    // The counts of each text. A token ends at blank, \n, \r, \t, \v, \f or NUL; a text ends at \n, at a token </s>, or at its end.
    // Labels are left out, with the n-grams of their characters; n-grams of words join the tokens beside them.
    // O(bytes · n-grams). Throws std::invalid_argument on offsets that are none. The result does not depend on num_threads.
    TextRows rows(StringsView texts, int num_threads = 0) const;

    // The same of a block of whole lines, each of one example or, with tokens </s>, of several; with the labels of the dictionary,
    // as often as they occur. `labeled_only` leaves out examples without one. The result does not depend on num_threads.
    TextExamples examples(std::span<const std::uint8_t> lines, bool labeled_only, int num_threads = 0) const;

private:
    struct State;
    std::unique_ptr<const State> state_;
};

// What a term of a text is.
struct TermOptions {
    bool words = false;      // runs of two letters and more, as scikit-learn's pattern \b\w\w+\b; false: what ASCII white space separates
    bool lowercase = false;  // letters are made lower case first
    std::int32_t word_ngrams = 1;  // runs of 1 to so many tokens, a blank between them; 0: none
    std::int32_t min_chars = 0;    // runs of min_chars to max_chars characters of words with a blank at either end, as char_wb; words are
    std::int32_t max_chars = 0;    // then what white space of Unicode separates, or ASCII's unless `words`. 0: none
};

// Which characters beyond ASCII are letters, and their lower case, as the caller's language has it.
class TextLetters {
public:
    // Bit c % 64 of letters[c / 64] says whether character c is one. lower[i] is the lower case of character upper[i]; upper rises.
    // Throws std::invalid_argument if upper does not rise in [0, 0x110000) or lower has another number of strings.
    TextLetters(std::span<const std::uint64_t> letters, std::span<const std::int32_t> upper, StringsView lower);

    bool is_letter(char32_t c) const noexcept { return c / 64 < letters_.size() && ((letters_[c / 64] >> (c % 64)) & 1); }
    // Empty for a character that is its own.
    std::string_view lower(char32_t c) const noexcept {
        return c < at_.size() && at_[c] >= 0 ? StringsView{bytes_, offsets_}[static_cast<std::size_t>(at_[c])] : std::string_view{};
    }

private:
    std::vector<std::uint64_t> letters_;
    std::vector<std::int32_t> at_;
    std::vector<std::uint8_t> bytes_;
    std::vector<std::int64_t> offsets_;
};

// A vocabulary, words and then runs of characters, each sorted by its bytes; and the rows it was learned from.
struct TermRows {
    TextVocabulary vocabulary = {};
    TextRows rows = {};
};

// Learns a vocabulary from texts. Memory grows with the terms, four bytes each.
class TermCounter {
public:
    // Throws std::invalid_argument on options out of range.
    explicit TermCounter(TermOptions options);
    ~TermCounter();
    TermCounter(TermCounter&&) noexcept;
    TermCounter& operator=(TermCounter&&) noexcept;

    // Counts the terms of texts. Without `letters` there are none but ASCII's. Throws std::invalid_argument on offsets that are none.
    void add(StringsView texts, const TextLetters* letters, int num_threads = 0);
    // Whether no text so far has held a term.
    bool is_empty() const noexcept;
    // The terms that occur min_count times, and the rows of all texts so far; the counter is empty then.
    // O(terms · log). The result does not depend on num_threads.
    TermRows finish(std::int64_t min_count, int num_threads = 0);

private:
    struct State;
    std::unique_ptr<State> state_;
};

// Rows by a vocabulary that is known.
class TermDictionary {
public:
    // Column i is words[i], column words.size() + i is chars[i]. Copies what it needs.
    // Throws std::invalid_argument on offsets that are none, on terms that repeat, and on options out of range.
    TermDictionary(StringsView words, StringsView chars, TermOptions options);
    ~TermDictionary();
    TermDictionary(TermDictionary&&) noexcept;
    TermDictionary& operator=(TermDictionary&&) noexcept;

    std::size_t cols() const noexcept;
    // The counts of each text's terms; others are left out. As TermCounter.add. The result does not depend on num_threads.
    TextRows rows(StringsView texts, const TextLetters* letters, int num_threads = 0) const;

private:
    struct State;
    std::unique_ptr<const State> state_;
};

// Texts without their labels, a blank between tokens, and the numbers of their labels.
struct LabeledTexts {
    std::vector<std::uint8_t> utf8 = {};
    std::vector<std::int64_t> offsets = {0};
    std::vector<std::int64_t> label_ptr = {0};
    std::vector<std::int32_t> labels = {};
    std::int64_t lines = 0;       // of the block, blank ones too
    std::int64_t unlabeled = -1;  // the first line that has tokens and no label; -1: none
};

// Parts labels from texts, and numbers the labels as they come.
class LabelReader {
public:
    explicit LabelReader(std::string label_prefix);
    ~LabelReader();
    LabelReader(LabelReader&&) noexcept;
    LabelReader& operator=(LabelReader&&) noexcept;

    // Reads a block of whole lines; lines without a label are left out. The result does not depend on num_threads.
    LabeledTexts read(std::span<const std::uint8_t> lines, int num_threads = 0);
    // All labels so far, without their prefix, in the order of their numbers; and how often they came.
    TextVocabulary labels() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace sparseops
