// SPDX-License-Identifier: BSD-3-Clause
// Tokens, hashes and counts of text.
#include "text.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "detail/parallel.hpp"
#include "detail/require.hpp"

namespace sparseops {
namespace {

using detail::require;

constexpr std::string_view end_of_line = "</s>";
constexpr std::size_t block_texts = 128;
constexpr std::size_t most = std::numeric_limits<std::int32_t>::max();

void require_strings(const char* name, const StringsView& strings) {
    detail::require_data(name, strings.offsets, ".offsets");
    detail::require_data(name, strings.utf8, ".utf8");
    require(!strings.offsets.empty() && strings.offsets[0] == 0, name, ".offsets must start with 0");
    for (std::size_t i = 0; i < strings.size(); ++i) {
        require(strings.offsets[i + 1] >= strings.offsets[i], name, ".offsets must not decrease, got ", strings.offsets[i + 1], " after ",
                strings.offsets[i], " at index ", i + 1);
    }
    require(static_cast<std::size_t>(strings.offsets.back()) == strings.utf8.size(), name, ".offsets must end with ", strings.utf8.size(),
            ", got ", strings.offsets.back());
}

void require_options(const TextOptions& options, std::size_t kept) {
    require(options.word_ngrams >= 0, "word_ngrams must be at least 0, got ", options.word_ngrams);
    require(options.min_chars >= 0, "min_chars must be at least 0, got ", options.min_chars);
    require(options.max_chars >= 0, "max_chars must be at least 0, got ", options.max_chars);
    require(options.buckets >= 0, "buckets must be at least 0, got ", options.buckets);
    const bool hashes = options.word_ngrams > 1 || options.max_chars > 0;
    require(options.buckets > 0 || !hashes, "buckets must be at least 1 for n-grams, got 0");
    require(options.pruned || kept == 0, "kept must be empty unless pruned, got ", kept, " buckets");
}

bool is_separator(char c) noexcept { return c == ' ' || c == '\0' || (c >= '\t' && c <= '\r'); }

bool continues_character(char c) noexcept { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

constexpr std::uint32_t hash_start = 2166136261u;

std::uint32_t hash_step(std::uint32_t h, char c) noexcept {
    return (h ^ static_cast<std::uint32_t>(static_cast<std::int32_t>(static_cast<signed char>(c)))) * 16777619u;
}

// The 64 bits of a hash, as fastText widens it for n-grams of words.
std::uint64_t widened(std::uint32_t hash) noexcept {
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int32_t>(hash)));
}

}  // namespace

// What one thread needs for one text.
struct TextDictionary::Scratch {
    std::vector<std::int32_t> ids = {};
    std::vector<std::uint32_t> hashes = {};  // of the tokens that are no labels
    std::string word = {};                   // <token>
};

std::uint32_t text_hash(std::string_view bytes) noexcept {
    std::uint32_t h = hash_start;
    for (const char c : bytes) h = hash_step(h, c);
    return h;
}

TextDictionary::TextDictionary(StringsView words, StringsView labels, std::span<const std::int32_t> kept, TextOptions options)
    : options_(std::move(options)) {
    require_strings("words", words);
    require_strings("labels", labels);
    require_options(options_, kept.size());
    detail::require_data("kept", kept);
    const std::size_t entries = words.size() + labels.size();
    const std::size_t buckets = options_.pruned ? kept.size() : static_cast<std::size_t>(options_.buckets);
    require(entries < most / 2 && words.size() + buckets < most, "words must leave fewer than 2**31 columns, got ", entries, " and ",
            buckets, " buckets");
    words_ = words.size();
    cols_ = words_ + buckets;
    bytes_.reserve(words.utf8.size() + labels.utf8.size());
    bytes_.insert(bytes_.end(), words.utf8.begin(), words.utf8.end());
    bytes_.insert(bytes_.end(), labels.utf8.begin(), labels.utf8.end());
    offsets_.assign(words.offsets.begin(), words.offsets.end());
    for (std::size_t i = 1; i <= labels.size(); ++i) offsets_.push_back(words.offsets.back() + labels.offsets[i]);
    std::size_t capacity = 2;
    while (capacity < entries * 2) capacity *= 2;
    table_.assign(capacity, -1);
    for (std::size_t i = 0; i < entries; ++i) insert(i);
    for (std::size_t j = 0; j < kept.size(); ++j) {
        require(kept[j] >= 0 && kept[j] < options_.buckets, "kept must be in [0, ", options_.buckets, "), got ", kept[j], " at index ", j);
        require(column_.emplace(kept[j], static_cast<std::int32_t>(words_ + j)).second, "kept must differ, got ", kept[j],
                " again at index ", j);
    }
}

std::string_view TextDictionary::entry(std::size_t i) const noexcept { return StringsView{bytes_, offsets_}[i]; }

void TextDictionary::insert(std::size_t i) {
    const std::string_view token = entry(i);
    std::size_t at = text_hash(token) & (table_.size() - 1);
    for (; table_[at] >= 0; at = (at + 1) & (table_.size() - 1)) {
        require(entry(static_cast<std::size_t>(table_[at])) != token, "words and labels must differ, got '", token, "' again at index ", i);
    }
    table_[at] = static_cast<std::int32_t>(i);
}

std::int64_t TextDictionary::find(std::string_view token, std::uint32_t hash) const noexcept {
    for (std::size_t at = hash & (table_.size() - 1); table_[at] >= 0; at = (at + 1) & (table_.size() - 1)) {
        if (entry(static_cast<std::size_t>(table_[at])) == token) return table_[at];
    }
    return -1;
}

void TextDictionary::add_bucket(std::uint64_t hash, std::vector<std::int32_t>& ids) const {
    const auto bucket = static_cast<std::int32_t>(hash % static_cast<std::uint64_t>(options_.buckets));
    if (!options_.pruned) {
        ids.push_back(static_cast<std::int32_t>(words_) + bucket);
    } else if (const auto found = column_.find(bucket); found != column_.end()) {
        ids.push_back(found->second);
    }
}

void TextDictionary::add_chars(std::string_view token, Scratch& scratch) const {
    std::string& word = scratch.word;
    word.assign(1, '<').append(token).append(1, '>');
    for (std::size_t i = 0; i < word.size(); ++i) {
        if (continues_character(word[i])) continue;
        std::uint32_t h = hash_start;
        std::size_t j = i;
        for (std::int32_t n = 1; j < word.size() && n <= options_.max_chars; ++n) {
            h = hash_step(h, word[j++]);
            while (j < word.size() && continues_character(word[j])) h = hash_step(h, word[j++]);
            const bool is_edge = n == 1 && (i == 0 || j == word.size());
            if (n >= options_.min_chars && !is_edge) add_bucket(h, scratch.ids);
        }
    }
}

void TextDictionary::add_words(Scratch& scratch) const {
    const std::size_t n = scratch.hashes.size(), longest = static_cast<std::size_t>(options_.word_ngrams);
    for (std::size_t i = 0; i < n; ++i) {
        std::uint64_t h = widened(scratch.hashes[i]);
        for (std::size_t j = i + 1; j < n && j - i < longest; ++j) {
            h = h * 116049371u + widened(scratch.hashes[j]);
            add_bucket(h, scratch.ids);
        }
    }
}

void TextDictionary::read(std::string_view text, Scratch& scratch) const {
    scratch.ids.clear();
    scratch.hashes.clear();
    bool has_ended = false;
    const auto add = [&](std::string_view token) {
        has_ended = token == end_of_line;
        const std::uint32_t hash = text_hash(token);
        const std::int64_t id = find(token, hash);
        const bool is_known = id >= 0;
        if (is_known ? static_cast<std::size_t>(id) >= words_ : token.starts_with(options_.label_prefix)) return;
        if (is_known) scratch.ids.push_back(static_cast<std::int32_t>(id));
        if (options_.max_chars > 0 && !has_ended) add_chars(token, scratch);
        scratch.hashes.push_back(hash);
    };
    std::size_t at = 0;
    while (at < text.size() && text[at] != '\n' && !has_ended) {
        if (is_separator(text[at])) {
            ++at;
            continue;
        }
        const std::size_t start = at;
        while (at < text.size() && !is_separator(text[at])) ++at;
        add(text.substr(start, at - start));
    }
    if (!has_ended && (options_.ends_line || at < text.size())) add(end_of_line);
    add_words(scratch);
}

TextRows TextDictionary::rows(StringsView texts, int num_threads) const {
    require_strings("texts", texts);
    const std::size_t n = texts.size(), blocks = (n + block_texts - 1) / block_texts;
    const double grams = 1 + options_.word_ngrams + std::max(0, options_.max_chars - options_.min_chars + 1) * 4;
    const int threads = detail::team_size(num_threads, static_cast<double>(texts.utf8.size() + 8 * n) * grams);
    TextRows result;
    result.cols = cols_;
    result.indptr.assign(n + 1, 0);
    std::vector<std::vector<std::pair<std::int32_t, float>>> found(blocks);
    std::vector<Scratch> scratches(static_cast<std::size_t>(std::max(1, threads)));
    detail::parallel_for(blocks, threads, [&](std::size_t block, std::size_t worker) {
        Scratch& scratch = scratches[worker];
        for (std::size_t i = block * block_texts; i < std::min(n, (block + 1) * block_texts); ++i) {
            read(texts[i], scratch);
            std::sort(scratch.ids.begin(), scratch.ids.end());
            const std::size_t before = found[block].size();
            for (std::size_t from = 0, to = 0; from < scratch.ids.size(); from = to) {
                while (to < scratch.ids.size() && scratch.ids[to] == scratch.ids[from]) ++to;
                found[block].emplace_back(scratch.ids[from], static_cast<float>(to - from));
            }
            result.indptr[i + 1] = static_cast<std::int64_t>(found[block].size() - before);
        }
    });
    for (std::size_t i = 0; i < n; ++i) result.indptr[i + 1] += result.indptr[i];
    result.indices.resize(static_cast<std::size_t>(result.indptr[n]));
    result.data.resize(result.indices.size());
    for (std::size_t block = 0; block < blocks; ++block) {
        auto at = static_cast<std::size_t>(result.indptr[block * block_texts]);
        for (const auto& [id, count] : found[block]) {
            result.indices[at] = id;
            result.data[at++] = count;
        }
        std::vector<std::pair<std::int32_t, float>>().swap(found[block]);
    }
    return result;
}

}  // namespace sparseops
