// SPDX-License-Identifier: BSD-3-Clause
// Rows of counts by a dictionary.
#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <utility>

#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "parts.hpp"
#include "strings.hpp"
#include "tokens.hpp"

namespace sparseops {
namespace detail {

void require_strings(const char* name, const StringsView& strings) {
    require_data(name, strings.offsets, ".offsets");
    require_data(name, strings.utf8, ".utf8");
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

}  // namespace detail

namespace {

using namespace detail;

constexpr std::size_t block_texts = 128;
constexpr std::size_t most = std::numeric_limits<std::int32_t>::max();

// The places of some numbers in a list: by a bit for each number below the limit and the bits before it, which stay in the caches, or
// by bisection where the bits would be far more than the numbers.
class Places {
public:
    Places(std::span<const std::int32_t> list, std::size_t limit) : sorted_(list.begin(), list.end()), place_(list.size()) {
        std::iota(place_.begin(), place_.end(), 0);
        for (std::size_t j = 0; j < list.size(); ++j) {
            require(list[j] >= 0 && static_cast<std::size_t>(list[j]) < limit, "kept must be in [0, ", limit, "), got ", list[j],
                    " at index ", j);
        }
        std::sort(place_.begin(), place_.end(), [&](std::int32_t a, std::int32_t b) {
            return std::pair(list[static_cast<std::size_t>(a)], a) < std::pair(list[static_cast<std::size_t>(b)], b);
        });
        std::sort(sorted_.begin(), sorted_.end());
        std::size_t again = list.size();  // the first that repeats an earlier one
        for (std::size_t j = 1; j < list.size(); ++j) {
            if (sorted_[j] == sorted_[j - 1]) again = std::min(again, static_cast<std::size_t>(place_[j]));
        }
        require(again == list.size(), "kept must differ, got ", again < list.size() ? list[again] : 0, " again at index ", again);
        if (std::is_sorted(list.begin(), list.end())) place_.clear();  // each is at its rank
        if (limit > 4096 && limit / 64 > list.size()) return;
        words_.assign(limit / 64 + 1, Word{});
        for (const std::int32_t one : sorted_) words_[static_cast<std::size_t>(one) / 64].bits |= std::uint64_t{1} << (one % 64);
        for (std::size_t i = 1; i < words_.size(); ++i) words_[i].before = words_[i - 1].before + std::popcount(words_[i - 1].bits);
    }

    // The place of a number below the limit, or -1.
    std::int32_t operator[](std::uint64_t number) const noexcept {
        std::int32_t rank = 0;
        if (words_.empty()) {
            const auto at = std::lower_bound(sorted_.begin(), sorted_.end(), static_cast<std::int32_t>(number));
            if (at == sorted_.end() || static_cast<std::uint64_t>(*at) != number) return -1;
            rank = static_cast<std::int32_t>(at - sorted_.begin());
        } else {
            const Word& word = words_[number / 64];
            const std::uint64_t bit = std::uint64_t{1} << (number % 64);
            if (!(word.bits & bit)) return -1;
            rank = word.before + std::popcount(word.bits & (bit - 1));
        }
        return place_.empty() ? rank : place_[static_cast<std::size_t>(rank)];
    }

private:
    struct Word {
        std::uint64_t bits = 0;
        std::int32_t before = 0;  // bits of the words before
    };

    std::vector<std::int32_t> sorted_, place_;
    std::vector<Word> words_ = {};
};

// What one thread needs for one text.
struct Scratch {
    std::vector<std::int32_t> ids = {}, other = {}, labels = {};
    std::vector<std::uint32_t> hashes = {};  // of the tokens that are no labels
    std::string word = {};                   // <token>
};

}  // namespace

std::uint32_t text_hash(std::string_view bytes) noexcept {
    std::uint32_t h = hash_start;
    for (const char c : bytes) h = hash_step(h, c);
    return h;
}

struct TextDictionary::State {
    State(StringsView word_list, StringsView labels, std::span<const std::int32_t> kept_buckets, TextOptions o)
        : options(std::move(o)),
          words(word_list.size()),
          modulus(static_cast<std::uint64_t>(options.buckets)),
          kept(kept_buckets, static_cast<std::size_t>(options.buckets)) {
        entries.reserve(words + labels.size());
        for (std::size_t i = 0; i < words + labels.size(); ++i) {
            const std::string_view one = i < words ? word_list[i] : labels[i - words];
            require(entries.add(one, text_hash(one)).second, "words and labels must differ, got '", one, "' again at index ", i);
        }
    }

    TextOptions options;
    std::size_t words, cols = 0;
    StringTable entries;  // words, then labels
    Modulus modulus;
    Places kept;

    void add_bucket(std::uint64_t hash, std::vector<std::int32_t>& ids) const {
        const std::uint64_t bucket = modulus(hash);
        if (!options.pruned) {
            ids.push_back(static_cast<std::int32_t>(words + bucket));
        } else if (const std::int32_t place = kept[bucket]; place >= 0) {
            ids.push_back(static_cast<std::int32_t>(words) + place);
        }
    }

    // Adds a token; says whether it ends the text.
    bool add(Token token, Scratch& scratch) const {
        const bool is_end = token.text == end_of_line;
        const std::int32_t id = entries.find(token.text, token.hash);
        if (id >= 0 && static_cast<std::size_t>(id) >= words) {
            scratch.labels.push_back(id - static_cast<std::int32_t>(words));
            return is_end;
        }
        if (id < 0 && token.text.starts_with(options.label_prefix)) return is_end;
        if (id >= 0) scratch.ids.push_back(id);
        if (options.max_chars > 0 && !is_end) {
            for_char_runs(token.text, options, scratch.word, [&](std::uint64_t hash) { add_bucket(hash, scratch.ids); });
        }
        scratch.hashes.push_back(token.hash);
        return is_end;
    }

    // Reads one text from `at` on, and returns where the next begins: behind its newline or </s>, or at the end.
    std::size_t read(std::string_view text, std::size_t at, Scratch& scratch) const {
        static const std::uint32_t end_hash = text_hash(end_of_line);
        scratch.ids.clear();
        scratch.labels.clear();
        scratch.hashes.clear();
        bool has_ended = false, at_newline = false;
        while (at < text.size() && !has_ended && !at_newline) {
            if (is_separator(text[at])) {
                at_newline = text[at++] == '\n';
            } else {
                has_ended = add(read_token(text, at), scratch);
            }
        }
        if (!has_ended && (options.ends_line || at_newline)) add({end_of_line, end_hash}, scratch);
        for_word_runs(scratch.hashes, options, [&](std::uint64_t hash) { add_bucket(hash, scratch.ids); });
        return at;
    }

    int team(int num_threads, std::size_t bytes, std::size_t texts) const noexcept {
        const double grams = 1 + options.word_ngrams + std::max(0, options.max_chars - options.min_chars + 1) * 4;
        return team_size(num_threads, static_cast<double>(bytes + 8 * texts) * grams);
    }
};

TextDictionary::TextDictionary(StringsView words, StringsView labels, std::span<const std::int32_t> kept, TextOptions options) {
    require_strings("words", words);
    require_strings("labels", labels);
    require_options(options, kept.size());
    require_data("kept", kept);
    const std::size_t entries = words.size() + labels.size();
    const std::size_t buckets = options.pruned ? kept.size() : static_cast<std::size_t>(options.buckets);
    require(entries < most / 2 && words.size() + buckets < most, "words must leave fewer than 2**31 columns, got ", entries, " and ",
            buckets, " buckets");
    auto state = std::make_unique<State>(words, labels, kept, std::move(options));
    state->cols = words.size() + buckets;
    state_ = std::move(state);
}

TextDictionary::~TextDictionary() = default;
TextDictionary::TextDictionary(TextDictionary&&) noexcept = default;
TextDictionary& TextDictionary::operator=(TextDictionary&&) noexcept = default;

std::size_t TextDictionary::cols() const noexcept { return state_->cols; }

TextRows TextDictionary::rows(StringsView texts, int num_threads) const {
    require_strings("texts", texts);
    const std::size_t n = texts.size(), blocks = (n + block_texts - 1) / block_texts;
    const int threads = state_->team(num_threads, texts.utf8.size(), n);
    std::vector<Part> parts(blocks);
    std::vector<Scratch> scratches(static_cast<std::size_t>(std::max(1, threads)));
    parallel_for(blocks, threads, [&](std::size_t block, std::size_t worker) {
        for (std::size_t i = block * block_texts; i < std::min(n, (block + 1) * block_texts); ++i) {
            Scratch& scratch = scratches[worker];
            state_->read(texts[i], 0, scratch);
            parts[block].add(scratch.ids, scratch.other, state_->cols);
        }
    });
    return rows_of(parts, state_->cols);
}

TextExamples TextDictionary::examples(std::span<const std::uint8_t> lines, bool labeled_only, int num_threads) const {
    require_data("lines", lines);
    const std::string_view text = as_text(lines);
    const std::vector<std::size_t> starts = line_parts(text);
    const int threads = state_->team(num_threads, text.size(), 0);
    std::vector<Part> parts(starts.size() - 1);
    std::vector<Scratch> scratches(static_cast<std::size_t>(std::max(1, threads)));
    parallel_for(parts.size(), threads, [&](std::size_t i, std::size_t worker) {
        Scratch& scratch = scratches[worker];
        const std::string_view part = text.substr(starts[i], starts[i + 1] - starts[i]);
        for (std::size_t at = 0; at < part.size();) {
            at = state_->read(part, at, scratch);
            if (labeled_only && scratch.labels.empty()) continue;
            parts[i].add(scratch.ids, scratch.other, state_->cols);
            parts[i].add_labels(scratch.labels);
        }
    });
    TextExamples result;
    result.label_ptr = ends(parts, &Part::n_labels);
    result.labels = joined(parts, &Part::labels);
    result.rows = rows_of(parts, state_->cols);
    return result;
}

}  // namespace sparseops
