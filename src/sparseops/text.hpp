// SPDX-License-Identifier: BSD-3-Clause
// Text as rows of features, by fastText's rules: its tokens, its dictionary, its hashed n-grams of words and of characters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
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

// The hash of fastText: 32-bit FNV-1a of bytes that are sign-extended.
std::uint32_t text_hash(std::string_view bytes) noexcept;

// The columns of a model of fastText: its words, then its buckets.
class TextDictionary {
public:
    // Column i is word i; column words.size() + j is bucket j or, if pruned, bucket kept[j]. Copies what it needs. O(bytes).
    // Throws std::invalid_argument on offsets that are none, on a word or label twice, and on options or buckets out of range.
    TextDictionary(StringsView words, StringsView labels, std::span<const std::int32_t> kept, TextOptions options);

    std::size_t cols() const noexcept { return cols_; }

    // The counts of each text. A token ends at blank, \n, \r, \t, \v, \f or NUL; a text ends at \n, at a token </s>, or at its end.
    // Labels are left out, with the n-grams of their characters; n-grams of words join the tokens beside them.
    // O(bytes · n-grams). Throws std::invalid_argument on offsets that are none. The result does not depend on num_threads.
    TextRows rows(StringsView texts, int num_threads = 0) const;

private:
    struct Scratch;

    std::string_view entry(std::size_t i) const noexcept;
    std::int64_t find(std::string_view token, std::uint32_t hash) const noexcept;
    void insert(std::size_t i);
    void add_bucket(std::uint64_t hash, std::vector<std::int32_t>& ids) const;
    void add_chars(std::string_view token, Scratch& scratch) const;
    void add_words(Scratch& scratch) const;
    void read(std::string_view text, Scratch& scratch) const;

    TextOptions options_;
    std::vector<std::uint8_t> bytes_ = {};  // of words, then of labels
    std::vector<std::int64_t> offsets_ = {};
    std::size_t words_ = 0, cols_ = 0;
    std::vector<std::int32_t> table_ = {};                        // open addressing by hash: an entry, or -1
    std::unordered_map<std::int32_t, std::int32_t> column_ = {};  // of a bucket that was kept
};

}  // namespace sparseops
