// SPDX-License-Identifier: BSD-3-Clause
// Words, labels and filled buckets of a text that comes in blocks.
#include <atomic>
#include <bit>
#include <limits>
#include <numeric>
#include <utility>

#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "strings.hpp"
#include "tokens.hpp"

namespace sparseops {
namespace {

using namespace detail;

// What one thread, or all of them, have seen. Sums and minima: who has seen what does not matter.
struct Tally {
    StringTable tokens = {};
    std::vector<std::int64_t> counts = {}, first = {};

    void add(std::string_view token, std::uint32_t hash, std::int64_t count, std::int64_t place) {
        const auto [number, is_new] = tokens.add(token, hash);
        const auto at = static_cast<std::size_t>(number);
        if (is_new) {
            counts.push_back(0);
            first.push_back(place);
        }
        counts[at] += count;
        first[at] = std::min(first[at], place);
    }
};

struct Worker {
    Tally seen = {};
    std::vector<Token> example = {};  // its tokens that are no labels
    std::vector<std::uint32_t> hashes = {};
    std::string word = {};
    std::int64_t tokens = 0;
};

struct Entry {
    std::string_view text;
    std::int64_t count, first;
};

}  // namespace

struct TextCounter::State {
    explicit State(TextOptions o)
        : options(std::move(o)),
          has_runs(options.word_ngrams > 1 || options.max_chars > 0),
          modulus(static_cast<std::uint64_t>(options.buckets)),
          filled(has_runs ? static_cast<std::size_t>(options.buckets) / 64 + 1 : 0) {}

    TextOptions options;
    bool has_runs;
    Modulus modulus;
    std::vector<std::atomic<std::uint64_t>> filled;  // a bit for each bucket: in whatever order they are set, the same are set
    std::vector<Worker> workers = {};
    std::int64_t bytes = 0;

    void fill(std::uint64_t hash) noexcept {
        const std::uint64_t bucket = modulus(hash), bit = std::uint64_t{1} << (bucket % 64);
        std::atomic<std::uint64_t>& word = filled[bucket / 64];
        if (!(word.load(std::memory_order_relaxed) & bit)) word.fetch_or(bit, std::memory_order_relaxed);
    }

    void fill_runs(Worker& worker) noexcept {
        worker.hashes.clear();
        for (const Token& token : worker.example) {
            worker.hashes.push_back(token.hash);
            if (options.max_chars > 0 && token.text != end_of_line) {
                for_char_runs(token.text, options, worker.word, [&](std::uint64_t hash) { fill(hash); });
            }
        }
        for_word_runs(worker.hashes, options, [&](std::uint64_t hash) { fill(hash); });
    }

    // Counts one example from `at` on, and returns where the next begins. `base`: of the text in the whole.
    std::size_t count(std::string_view text, std::size_t at, std::int64_t base, Worker& worker) {
        static const std::uint32_t end_hash = text_hash(end_of_line);
        worker.example.clear();
        bool has_ended = false, has_label = false;
        const auto add = [&](Token token, std::size_t place) {
            has_ended = token.text == end_of_line;
            worker.seen.add(token.text, token.hash, 1, base + static_cast<std::int64_t>(place));
            ++worker.tokens;
            if (!has_runs) return;
            const bool is_label = token.text.starts_with(options.label_prefix);
            has_label |= is_label;
            if (!is_label) worker.example.push_back(token);
        };
        bool at_newline = false;
        while (at < text.size() && !has_ended && !at_newline) {
            if (is_separator(text[at])) {
                at_newline = text[at++] == '\n';
            } else {
                const std::size_t place = at;
                add(read_token(text, at), place);
            }
        }
        if (!has_ended) add({end_of_line, end_hash}, at_newline ? at - 1 : at);
        if (has_label) fill_runs(worker);
        return at;
    }

    // The tokens of all threads, in as many tables as there are threads: a token is in that of its hash.
    std::vector<Tally> merged(int threads) const {
        std::vector<Tally> tables(static_cast<std::size_t>(threads));
        parallel_for(tables.size(), threads, [&](std::size_t table, std::size_t) {
            for (const Worker& worker : workers) {
                const StringTable& tokens = worker.seen.tokens;
                for (std::size_t i = 0; i < tokens.size(); ++i) {
                    const std::uint32_t hash = tokens.hash(i);
                    if ((hash >> 16) % tables.size() == table)
                        tables[table].add(tokens[i], hash, worker.seen.counts[i], worker.seen.first[i]);
                }
            }
        });
        return tables;
    }
};

TextCounter::TextCounter(TextOptions options) {
    options.pruned = false;
    require_options(options, 0);
    state_ = std::make_unique<State>(std::move(options));
}
TextCounter::~TextCounter() = default;
TextCounter::TextCounter(TextCounter&&) noexcept = default;
TextCounter& TextCounter::operator=(TextCounter&&) noexcept = default;

void TextCounter::add(std::span<const std::uint8_t> lines, int num_threads) {
    require_data("lines", lines);
    const std::string_view text = as_text(lines);
    const std::vector<std::size_t> starts = line_parts(text);
    const int threads = team_size(num_threads, static_cast<double>(text.size()) * 4);
    auto& workers = state_->workers;
    if (workers.size() < static_cast<std::size_t>(std::max(1, threads))) workers.resize(static_cast<std::size_t>(std::max(1, threads)));
    parallel_for(starts.size() - 1, threads, [&](std::size_t i, std::size_t worker) {
        const std::string_view part = text.substr(starts[i], starts[i + 1] - starts[i]);
        const auto base = state_->bytes + static_cast<std::int64_t>(starts[i]);
        for (std::size_t at = 0; at < part.size();) at = state_->count(part, at, base, workers[worker]);
    });
    state_->bytes += static_cast<std::int64_t>(text.size());
}

std::int64_t TextCounter::tokens() const noexcept {
    std::int64_t all = 0;
    for (const Worker& worker : state_->workers) all += worker.tokens;
    return all;
}

TextVocabulary TextCounter::vocabulary(std::int64_t min_count, std::int64_t min_label, int num_threads) const {
    std::size_t seen = 0;
    for (const Worker& worker : state_->workers) seen += worker.seen.tokens.size();
    const std::vector<Tally> tables = state_->merged(std::max(1, team_size(num_threads, static_cast<double>(seen) * 64)));
    std::vector<Entry> words, labels;
    for (const Tally& table : tables) {
        for (std::size_t i = 0; i < table.tokens.size(); ++i) {
            const Entry entry{table.tokens[i], table.counts[i], table.first[i]};
            const bool is_label = entry.text.starts_with(state_->options.label_prefix);
            if (entry.count >= (is_label ? min_label : min_count)) (is_label ? labels : words).push_back(entry);
        }
    }
    TextVocabulary result;
    result.words = words.size();
    for (auto* entries : {&words, &labels}) {
        std::sort(entries->begin(), entries->end(),
                  [](const Entry& a, const Entry& b) { return a.count != b.count ? a.count > b.count : a.first < b.first; });
        for (const Entry& entry : *entries) {
            result.utf8.insert(result.utf8.end(), entry.text.begin(), entry.text.end());
            result.offsets.push_back(static_cast<std::int64_t>(result.utf8.size()));
            result.counts.push_back(entry.count);
        }
    }
    return result;
}

std::vector<std::int32_t> TextCounter::filled_buckets() const {
    std::vector<std::int32_t> found;
    for (std::size_t i = 0; i < state_->filled.size(); ++i) {
        for (std::uint64_t word = state_->filled[i].load(std::memory_order_relaxed); word; word &= word - 1) {
            found.push_back(static_cast<std::int32_t>(i * 64 + static_cast<std::size_t>(std::countr_zero(word))));
        }
    }
    return found;
}

}  // namespace sparseops
