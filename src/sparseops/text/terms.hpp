// SPDX-License-Identifier: BSD-3-Clause
// The terms of a text: its tokens and their runs, and runs of characters inside its words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "../text.hpp"
#include "tokens.hpp"

namespace sparseops::detail {

// A character of UTF-8 and its bytes; one byte that is none is a character of its own, which is no letter.
struct Character {
    char32_t code;
    std::size_t bytes;
};
inline constexpr char32_t no_character = 0xFFFFFFFF;

inline Character character_at(std::string_view text, std::size_t at) noexcept {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
    const unsigned char lead = byte(0);
    if (lead < 0x80) return {lead, 1};
    const std::size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC0 || lead > 0xF7 || text.size() - at < bytes) return {no_character, 1};
    char32_t code = lead & (0x7Fu >> bytes);
    for (std::size_t i = 1; i < bytes; ++i) {
        if (!continues_character(text[at + i])) return {no_character, 1};
        code = (code << 6) | (byte(i) & 0x3F);
    }
    return {code, bytes};
}

// White space as Python's str.split has it.
inline bool is_space(char32_t c) noexcept {
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

inline bool is_word_letter(char32_t c, const TextLetters* letters) noexcept {
    if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    return letters && letters->is_letter(c);
}

inline std::uint32_t term_hash(std::string_view text) noexcept {
    constexpr std::uint64_t factor = 0x9E3779B97F4A7C15u;
    std::uint64_t h = text.size() * factor;
    const auto mix = [&](std::size_t at, std::size_t bytes) {
        std::uint64_t word = 0;
        std::memcpy(&word, text.data() + at, bytes);
        h = (h ^ word) * factor;
        h ^= h >> 32;
    };
    std::size_t at = 0;
    for (; at + 8 <= text.size(); at += 8) mix(at, 8);
    if (at < text.size()) mix(at, text.size() - at);
    return static_cast<std::uint32_t>((h * factor) >> 32);
}

// Reads texts, one at a time.
class TermReader {
public:
    TermReader(const TermOptions& options, const TextLetters* letters) : options_(options), letters_(letters) {}

    // Calls word(term) and chars(term) for every term of a text, as often as it occurs.
    template <class Word, class Chars>
    void read(std::string_view text, Word word, Chars chars) {
        if (options_.lowercase) text = lowered(text);
        if (options_.word_ngrams > 0) read_words(text, word);
        if (options_.max_chars > 0) read_chars(text, chars);
    }

private:
    std::string_view lowered(std::string_view text) {
        lower_.clear();
        for (std::size_t at = 0; at < text.size();) {
            const Character c = character_at(text, at);
            if (c.code < 0x80) {
                lower_.push_back(c.code >= 'A' && c.code <= 'Z' ? static_cast<char>(c.code + 32) : text[at]);
            } else if (const std::string_view other = letters_ ? letters_->lower(c.code) : std::string_view{}; !other.empty()) {
                lower_.append(other);
            } else {
                lower_.append(text.substr(at, c.bytes));
            }
            at += c.bytes;
        }
        return lower_;
    }

    template <class Token>
    void for_tokens(std::string_view text, Token token) const {
        for (std::size_t at = 0; at < text.size();) {
            const std::size_t start = at;
            if (!options_.words) {
                while (at < text.size() && !is_separator(text[at])) ++at;
                if (at > start) token(text.substr(start, at - start));
                ++at;
                continue;
            }
            std::size_t letters = 0, bytes = 0;
            for (; at < text.size(); ++letters, at += bytes) {
                const Character c = character_at(text, at);
                bytes = c.bytes;
                if (!is_word_letter(c.code, letters_)) break;
            }
            if (letters >= 2) token(text.substr(start, at - start));
            at += bytes;  // what is no letter
        }
    }

    template <class Word>
    void read_words(std::string_view text, Word word) {
        if (options_.word_ngrams == 1) {
            for_tokens(text, word);
            return;
        }
        joined_.clear();
        starts_.clear();
        for_tokens(text, [&](std::string_view token) {
            starts_.push_back(joined_.size());
            joined_.append(token).push_back(' ');
        });
        starts_.push_back(joined_.size());
        const std::string_view joined = joined_;
        for (std::size_t n = 1; n <= static_cast<std::size_t>(options_.word_ngrams); ++n) {
            for (std::size_t i = 0; i + n < starts_.size(); ++i) word(joined.substr(starts_[i], starts_[i + n] - starts_[i] - 1));
        }
    }

    template <class Chars>
    void read_chars(std::string_view text, Chars chars) {
        for (std::size_t at = 0; at < text.size();) {
            const std::size_t start = at;
            std::size_t skipped = 1;
            while (at < text.size()) {
                const Character c = options_.words ? character_at(text, at) : Character{static_cast<unsigned char>(text[at]), 1};
                if (options_.words ? is_space(c.code) : is_separator(text[at])) {
                    skipped = c.bytes;
                    break;
                }
                at += c.bytes;
            }
            if (at > start) read_padded(text.substr(start, at - start), chars);
            at += skipped;
        }
    }

    // Runs of a word between blanks; a word that is shorter counts once.
    template <class Chars>
    void read_padded(std::string_view word, Chars chars) {
        joined_.assign(1, ' ').append(word).push_back(' ');
        const std::string_view padded = joined_;
        starts_.clear();
        for (std::size_t at = 0; at < padded.size(); at += character_at(padded, at).bytes) starts_.push_back(at);
        const std::size_t length = starts_.size();
        starts_.push_back(padded.size());
        for (auto n = static_cast<std::size_t>(options_.min_chars); n <= static_cast<std::size_t>(options_.max_chars); ++n) {
            if (n >= length) {
                chars(padded);
                break;
            }
            for (std::size_t i = 0; i + n <= length; ++i) chars(padded.substr(starts_[i], starts_[i + n] - starts_[i]));
        }
    }

    TermOptions options_;
    const TextLetters* letters_;
    std::string lower_ = {}, joined_ = {};
    std::vector<std::size_t> starts_ = {};
};

}  // namespace sparseops::detail
