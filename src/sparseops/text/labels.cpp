// SPDX-License-Identifier: BSD-3-Clause
// Labels parted from texts.
#include <numeric>
#include <utility>

#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "parts.hpp"
#include "strings.hpp"
#include "tokens.hpp"

namespace sparseops {
namespace {

using namespace detail;

struct Lines {
    std::vector<std::uint8_t> utf8 = {};
    std::vector<std::int64_t> lengths = {}, n_labels = {};
    std::vector<Token> labels = {};
    std::int64_t lines = 0, unlabeled = -1;

    // Reads one line from `at` on, and returns where the next begins.
    std::size_t read(std::string_view text, std::size_t at, std::string_view prefix) {
        const std::size_t bytes = utf8.size(), before = labels.size();
        bool at_newline = false;
        while (at < text.size() && !at_newline) {
            if (is_separator(text[at])) {
                at_newline = text[at++] == '\n';
                continue;
            }
            const std::size_t start = at;
            while (at < text.size() && !is_separator(text[at])) ++at;
            const std::string_view token = text.substr(start, at - start);
            if (token.starts_with(prefix)) {
                const std::string_view name = token.substr(prefix.size());
                labels.push_back({name, text_hash(name)});
                continue;
            }
            if (utf8.size() > bytes) utf8.push_back(' ');
            utf8.insert(utf8.end(), token.begin(), token.end());
        }
        ++lines;
        if (labels.size() > before) {
            lengths.push_back(static_cast<std::int64_t>(utf8.size() - bytes));
            n_labels.push_back(static_cast<std::int64_t>(labels.size() - before));
        } else if (utf8.size() > bytes) {
            if (unlabeled < 0) unlabeled = lines - 1;
            utf8.resize(bytes);
        }
        return at;
    }
};

}  // namespace

struct LabelReader::State {
    std::string prefix;
    StringTable names = {};
    std::vector<std::int64_t> counts = {};
};

LabelReader::LabelReader(std::string label_prefix) : state_(std::make_unique<State>()) { state_->prefix = std::move(label_prefix); }
LabelReader::~LabelReader() = default;
LabelReader::LabelReader(LabelReader&&) noexcept = default;
LabelReader& LabelReader::operator=(LabelReader&&) noexcept = default;

LabeledTexts LabelReader::read(std::span<const std::uint8_t> lines, int num_threads) {
    require_data("lines", lines);
    const std::string_view text = as_text(lines);
    const std::vector<std::size_t> starts = line_parts(text);
    std::vector<Lines> parts(starts.size() - 1);
    parallel_for(parts.size(), team_size(num_threads, static_cast<double>(text.size())), [&](std::size_t i, std::size_t) {
        const std::string_view part = text.substr(starts[i], starts[i + 1] - starts[i]);
        for (std::size_t at = 0; at < part.size();) at = parts[i].read(part, at, state_->prefix);
    });
    LabeledTexts found;
    for (const Lines& part : parts) {
        if (found.unlabeled < 0 && part.unlabeled >= 0) found.unlabeled = found.lines + part.unlabeled;
        found.lines += part.lines;
        for (const Token& label : part.labels) {
            const auto [number, is_new] = state_->names.add(label.text, label.hash);
            if (is_new) state_->counts.push_back(0);
            ++state_->counts[static_cast<std::size_t>(number)];
            found.labels.push_back(number);
        }
    }
    found.offsets = ends(parts, &Lines::lengths);
    found.label_ptr = ends(parts, &Lines::n_labels);
    found.utf8 = joined(parts, &Lines::utf8);
    return found;
}

TextVocabulary LabelReader::labels() const {
    TextVocabulary found;
    for (std::size_t i = 0; i < state_->names.size(); ++i) {
        const std::string_view name = state_->names[i];
        found.utf8.insert(found.utf8.end(), name.begin(), name.end());
        found.offsets.push_back(static_cast<std::int64_t>(found.utf8.size()));
    }
    found.counts = state_->counts;
    return found;
}

}  // namespace sparseops
