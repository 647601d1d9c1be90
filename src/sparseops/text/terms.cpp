// SPDX-License-Identifier: BSD-3-Clause
// A vocabulary of terms, and rows of their counts.
#include "terms.hpp"

#include <bit>
#include <limits>
#include <numeric>
#include <utility>

#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "parts.hpp"
#include "strings.hpp"

namespace sparseops {
namespace {

using namespace detail;

constexpr std::size_t block_texts = 128;

void require_terms(const TermOptions& options) {
    require(options.word_ngrams >= 0, "word_ngrams must be at least 0, got ", options.word_ngrams);
    require(options.max_chars >= 0, "max_chars must be at least 0, got ", options.max_chars);
    require(options.max_chars == 0 || (options.min_chars >= 1 && options.min_chars <= options.max_chars),
            "min_chars must be in [1, max_chars], got ", options.min_chars, " and max_chars ", options.max_chars);
    require(options.word_ngrams > 0 || options.max_chars > 0, "word_ngrams must be at least 1, or max_chars, got neither");
}

int team(int num_threads, const StringsView& texts, const TermOptions& options) {
    const double grams = 1 + options.word_ngrams + (options.max_chars ? options.max_chars - options.min_chars + 1 : 0) * 4;
    return std::max(1, team_size(num_threads, static_cast<double>(texts.utf8.size() + 8 * texts.size()) * grams));
}

// The terms that one thread has seen.
struct Seen {
    StringTable terms = {};
    std::vector<std::int64_t> counts = {};

    std::int32_t add(std::string_view term, std::uint32_t hash, std::int64_t count = 1) {
        const auto [number, is_new] = terms.add(term, hash);
        if (is_new) counts.push_back(0);
        counts[static_cast<std::size_t>(number)] += count;
        return number;
    }
};

struct Worker {
    Seen words = {}, chars = {};
};

// Texts that one thread read: a word is its number there, a run of characters -1 minus its number.
struct Texts {
    std::size_t worker = 0;
    std::vector<std::int32_t> ids = {};
    std::vector<std::int64_t> lengths = {};
};

// A term for sorting: its first bytes as a number, all of it, and where it stands.
struct Entry {
    std::uint64_t start;
    std::string_view text;
    std::int32_t table, number;
    std::int64_t count;

    bool operator<(const Entry& other) const noexcept { return start != other.start ? start < other.start : text < other.text; }
};

std::uint64_t first_bytes(std::string_view text) noexcept {
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < 8; ++i) word = (word << 8) | (i < text.size() ? static_cast<unsigned char>(text[i]) : 0u);
    return word;
}

// The terms of all threads that are frequent enough, sorted: appended to `vocabulary`, their columns told for each thread's numbers.
// A term is in the table of its hash, of which there is one for each thread.
std::vector<std::vector<std::int32_t>> add_terms(const std::vector<const Seen*>& seen, std::int64_t min_count, TextVocabulary& vocabulary,
                                                 int threads) {
    std::vector<Seen> tables(static_cast<std::size_t>(threads));
    std::vector<std::vector<Entry>> sorted(tables.size());
    const auto table_of = [&](std::uint32_t hash) { return (hash >> 16) % tables.size(); };
    parallel_for(tables.size(), threads, [&](std::size_t table, std::size_t) {
        for (const Seen* one : seen) {
            for (std::size_t i = 0; i < one->terms.size(); ++i) {
                const std::uint32_t hash = one->terms.hash(i);
                if (table_of(hash) == table) tables[table].add(one->terms[i], hash, one->counts[i]);
            }
        }
        const Seen& own = tables[table];
        for (std::size_t i = 0; i < own.terms.size(); ++i) {
            if (own.counts[i] < min_count) continue;
            const std::string_view text = own.terms[i];
            sorted[table].push_back(
                {first_bytes(text), text, static_cast<std::int32_t>(table), static_cast<std::int32_t>(i), own.counts[i]});
        }
        std::sort(sorted[table].begin(), sorted[table].end());
    });
    std::vector<Entry> all;
    for (const auto& part : sorted) {
        const auto middle = static_cast<std::ptrdiff_t>(all.size());
        all.insert(all.end(), part.begin(), part.end());
        std::inplace_merge(all.begin(), all.begin() + middle, all.end());
    }
    std::vector<std::vector<std::int32_t>> column(tables.size()), columns(seen.size());
    for (std::size_t i = 0; i < tables.size(); ++i) column[i].assign(tables[i].terms.size(), -1);
    for (const Entry& entry : all) {
        require(vocabulary.counts.size() < static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()),
                "texts must hold fewer than 2**31 terms, got more");
        column[static_cast<std::size_t>(entry.table)][static_cast<std::size_t>(entry.number)] =
            static_cast<std::int32_t>(vocabulary.counts.size());
        vocabulary.utf8.insert(vocabulary.utf8.end(), entry.text.begin(), entry.text.end());
        vocabulary.offsets.push_back(static_cast<std::int64_t>(vocabulary.utf8.size()));
        vocabulary.counts.push_back(entry.count);
    }
    parallel_for(seen.size(), threads, [&](std::size_t i, std::size_t) {
        const StringTable& terms = seen[i]->terms;
        columns[i].resize(terms.size());
        for (std::size_t j = 0; j < terms.size(); ++j) {
            const std::size_t table = table_of(terms.hash(j));
            columns[i][j] = column[table][static_cast<std::size_t>(tables[table].terms.find(terms[j], terms.hash(j)))];
        }
    });
    return columns;
}

}  // namespace

TextLetters::TextLetters(std::span<const std::uint64_t> letters, std::span<const std::int32_t> upper, StringsView lower)
    : letters_(letters.begin(), letters.end()),
      bytes_(lower.utf8.begin(), lower.utf8.end()),
      offsets_(lower.offsets.begin(), lower.offsets.end()) {
    require_data("letters", letters);
    require_data("upper", upper);
    require_strings("lower", lower);
    require(lower.size() == upper.size(), "lower must have a string for each of upper, ", upper.size(), ", got ", lower.size());
    for (std::size_t i = 0; i < upper.size(); ++i) {
        require(upper[i] >= 0 && upper[i] < 0x110000 && (i == 0 || upper[i] > upper[i - 1]), "upper must rise in [0, 0x110000), got ",
                upper[i], " at index ", i);
    }
    at_.assign(upper.empty() ? 0 : static_cast<std::size_t>(upper.back()) + 1, -1);
    for (std::size_t i = 0; i < upper.size(); ++i) at_[static_cast<std::size_t>(upper[i])] = static_cast<std::int32_t>(i);
}

struct TermCounter::State {
    TermOptions options;
    std::vector<std::unique_ptr<Worker>> workers = {};
    std::vector<Texts> texts = {};
};

TermCounter::TermCounter(TermOptions options) : state_(std::make_unique<State>()) {
    require_terms(options);
    state_->options = options;
}
TermCounter::~TermCounter() = default;
TermCounter::TermCounter(TermCounter&&) noexcept = default;
TermCounter& TermCounter::operator=(TermCounter&&) noexcept = default;

void TermCounter::add(StringsView texts, const TextLetters* letters, int num_threads) {
    require_strings("texts", texts);
    const TermOptions& options = state_->options;
    const int threads = team(num_threads, texts, options);
    auto& workers = state_->workers;
    while (workers.size() < static_cast<std::size_t>(threads)) workers.push_back(std::make_unique<Worker>());
    const std::size_t n = texts.size(), blocks = (n + block_texts - 1) / block_texts, first = state_->texts.size();
    state_->texts.resize(first + blocks);
    std::vector<TermReader> readers(static_cast<std::size_t>(threads), TermReader(options, letters));
    parallel_for(blocks, threads, [&](std::size_t block, std::size_t w) {
        Worker& worker = *workers[w];
        Texts& found = state_->texts[first + block];
        found.worker = w;
        for (std::size_t i = block * block_texts; i < std::min(n, (block + 1) * block_texts); ++i) {
            const std::size_t before = found.ids.size();
            readers[w].read(
                texts[i], [&](std::string_view term) { found.ids.push_back(worker.words.add(term, term_hash(term))); },
                [&](std::string_view term) { found.ids.push_back(-1 - worker.chars.add(term, term_hash(term))); });
            found.lengths.push_back(static_cast<std::int64_t>(found.ids.size() - before));
        }
    });
}

bool TermCounter::is_empty() const noexcept {
    return std::all_of(state_->workers.begin(), state_->workers.end(),
                       [](const auto& worker) { return worker->words.terms.size() + worker->chars.terms.size() == 0; });
}

TermRows TermCounter::finish(std::int64_t min_count, int num_threads) {
    std::size_t terms = 0;
    std::vector<const Seen*> words, chars;
    for (const auto& worker : state_->workers) {
        terms += worker->words.terms.size() + worker->chars.terms.size();
        words.push_back(&worker->words);
        chars.push_back(&worker->chars);
    }
    const int threads = std::max(1, team_size(num_threads, static_cast<double>(terms) * 64));
    TermRows result;
    const auto word_columns = add_terms(words, min_count, result.vocabulary, threads);
    result.vocabulary.words = result.vocabulary.counts.size();
    const auto char_columns = add_terms(chars, min_count, result.vocabulary, threads);
    const std::size_t cols = result.vocabulary.counts.size();
    std::vector<Texts> texts = std::move(state_->texts);
    std::vector<Part> parts(texts.size());
    parallel_for(texts.size(), threads, [&](std::size_t i, std::size_t) {
        const Texts& one = texts[i];
        const auto &of_words = word_columns[one.worker], &of_chars = char_columns[one.worker];
        std::vector<std::int32_t> ids, other;
        std::size_t at = 0;
        for (const std::int64_t length : one.lengths) {
            ids.clear();
            for (const std::size_t end = at + static_cast<std::size_t>(length); at < end; ++at) {
                const std::int32_t id = one.ids[at];
                const std::int32_t column = id >= 0 ? of_words[static_cast<std::size_t>(id)] : of_chars[static_cast<std::size_t>(-1 - id)];
                if (column >= 0) ids.push_back(column);
            }
            parts[i].add(ids, other, cols);
        }
        texts[i] = Texts{};
    });
    *state_ = State{state_->options};
    result.rows = rows_of(parts, cols);
    return result;
}

struct TermDictionary::State {
    TermOptions options;
    StringTable words = {}, chars = {};
};

TermDictionary::TermDictionary(StringsView words, StringsView chars, TermOptions options) {
    require_strings("words", words);
    require_strings("chars", chars);
    require_terms(options);
    require(words.size() + chars.size() < static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()),
            "words must leave fewer than 2**31 columns, got ", words.size(), " and ", chars.size(), " runs of characters");
    State state{options};
    state.words.reserve(words.size());
    state.chars.reserve(chars.size());
    for (std::size_t i = 0; i < words.size(); ++i) {
        require(state.words.add(words[i], term_hash(words[i])).second, "words must differ, got '", words[i], "' again at index ", i);
    }
    for (std::size_t i = 0; i < chars.size(); ++i) {
        require(state.chars.add(chars[i], term_hash(chars[i])).second, "chars must differ, got '", chars[i], "' again at index ", i);
    }
    state_ = std::make_unique<const State>(std::move(state));
}
TermDictionary::~TermDictionary() = default;
TermDictionary::TermDictionary(TermDictionary&&) noexcept = default;
TermDictionary& TermDictionary::operator=(TermDictionary&&) noexcept = default;

std::size_t TermDictionary::cols() const noexcept { return state_->words.size() + state_->chars.size(); }

TextRows TermDictionary::rows(StringsView texts, const TextLetters* letters, int num_threads) const {
    require_strings("texts", texts);
    const int threads = team(num_threads, texts, state_->options);
    const std::size_t n = texts.size(), blocks = (n + block_texts - 1) / block_texts;
    const auto words = static_cast<std::int32_t>(state_->words.size());
    std::vector<Part> parts(blocks);
    std::vector<TermReader> readers(static_cast<std::size_t>(threads), TermReader(state_->options, letters));
    parallel_for(blocks, threads, [&](std::size_t block, std::size_t worker) {
        std::vector<std::int32_t> ids, other;
        for (std::size_t i = block * block_texts; i < std::min(n, (block + 1) * block_texts); ++i) {
            ids.clear();
            readers[worker].read(
                texts[i],
                [&](std::string_view term) {
                    if (const std::int32_t at = state_->words.find(term, term_hash(term)); at >= 0) ids.push_back(at);
                },
                [&](std::string_view term) {
                    if (const std::int32_t at = state_->chars.find(term, term_hash(term)); at >= 0) ids.push_back(words + at);
                });
            parts[block].add(ids, other, cols());
        }
    });
    return rows_of(parts, cols());
}

}  // namespace sparseops
