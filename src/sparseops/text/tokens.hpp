// SPDX-License-Identifier: BSD-3-Clause
// fastText's rules: separators, the end of an example, hashes of tokens, of their characters and of their runs.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../text.hpp"

namespace sparseops::detail {

inline constexpr std::string_view end_of_line = "</s>";
inline constexpr std::size_t part_bytes = std::size_t{1} << 16;  // of text, given to a thread at once

inline bool is_separator(char c) noexcept {
    static constexpr auto table = [] {
        std::array<bool, 256> found{};
        for (const char one : {' ', '\0', '\t', '\n', '\v', '\f', '\r'}) found[static_cast<unsigned char>(one)] = true;
        return found;
    }();
    return table[static_cast<unsigned char>(c)];
}

inline bool continues_character(char c) noexcept { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

inline std::string_view as_text(std::span<const std::uint8_t> bytes) noexcept {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline constexpr std::uint32_t hash_start = 2166136261u;

inline std::uint32_t hash_step(std::uint32_t h, char c) noexcept {
    return (h ^ static_cast<std::uint32_t>(static_cast<std::int32_t>(static_cast<signed char>(c)))) * 16777619u;
}

// A token of some text, from `at` on; its end is the next place to look at.
struct Token {
    std::string_view text;
    std::uint32_t hash;
};
inline Token read_token(std::string_view text, std::size_t& at) noexcept {
    const std::size_t start = at;
    std::uint32_t h = hash_start;
    for (; at < text.size() && !is_separator(text[at]); ++at) h = hash_step(h, text[at]);
    return {text.substr(start, at - start), h};
}

// The 64 bits of a hash, as fastText widens it for n-grams of words.
inline std::uint64_t widened(std::uint32_t hash) noexcept {
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int32_t>(hash)));
}

// Remainders by one divisor, without a division.
class Modulus {
public:
    explicit Modulus(std::uint64_t divisor) noexcept : divisor_(divisor), inverse_(divisor ? ~std::uint64_t{0} / divisor : 0) {}
    std::uint64_t operator()(std::uint64_t value) const noexcept {
        __extension__ using Wide = unsigned __int128;
        const auto quotient = static_cast<std::uint64_t>((static_cast<Wide>(value) * inverse_) >> 64);  // too small by 2 at most
        std::uint64_t rest = value - quotient * divisor_;
        while (rest >= divisor_) rest -= divisor_;
        return rest;
    }

private:
    std::uint64_t divisor_, inverse_;
};

// Calls found(hash) for each run of min_chars to max_chars characters of <token>, but for a single one at either end.
// `word` is room for <token>.
template <class Found>
void for_char_runs(std::string_view token, const TextOptions& options, std::string& word, Found found) {
    word.assign(1, '<').append(token).append(1, '>');
    for (std::size_t i = 0; i < word.size(); ++i) {
        if (continues_character(word[i])) continue;
        std::uint32_t h = hash_start;
        std::size_t j = i;
        for (std::int32_t n = 1; j < word.size() && n <= options.max_chars; ++n) {
            h = hash_step(h, word[j++]);
            while (j < word.size() && continues_character(word[j])) h = hash_step(h, word[j++]);
            const bool is_edge = n == 1 && (i == 0 || j == word.size());
            if (n >= options.min_chars && !is_edge) found(std::uint64_t{h});
        }
    }
}

// Calls found(hash) for each run of 2 to word_ngrams tokens.
template <class Found>
void for_word_runs(std::span<const std::uint32_t> hashes, const TextOptions& options, Found found) {
    const std::size_t n = hashes.size(), longest = static_cast<std::size_t>(options.word_ngrams);
    for (std::size_t i = 0; i < n; ++i) {
        std::uint64_t h = widened(hashes[i]);
        for (std::size_t j = i + 1; j < n && j - i < longest; ++j) {
            h = h * 116049371u + widened(hashes[j]);
            found(h);
        }
    }
}

// Where parts of whole lines begin, and the end: each of part_bytes or more. They depend on the text alone.
inline std::vector<std::size_t> line_parts(std::string_view text) {
    std::vector<std::size_t> starts{0};
    while (text.size() - starts.back() > part_bytes) {
        const std::size_t end = text.find('\n', starts.back() + part_bytes);
        if (end == std::string_view::npos || end + 1 == text.size()) break;
        starts.push_back(end + 1);
    }
    if (!text.empty()) starts.push_back(text.size());
    return starts;
}

void require_strings(const char* name, const StringsView& strings);
void require_options(const TextOptions& options, std::size_t kept);

}  // namespace sparseops::detail
