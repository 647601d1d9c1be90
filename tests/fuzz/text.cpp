// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as text: counts by a map, the same rows whether read as a block or line by line, learned or looked up.
#include <map>
#include <string>
#include <string_view>

#include <sparseops/text.hpp>

#include "input.hpp"

namespace {

using namespace sparseops_fuzz;
using namespace sparseops;

std::span<const std::uint8_t> utf8(std::string_view text) { return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}; }

struct Lines {
    std::string bytes = {};
    std::vector<std::int64_t> offsets{0};

    void add(std::string_view line) {
        bytes += line;
        offsets.push_back(static_cast<std::int64_t>(bytes.size()));
    }
    StringsView view() const { return {utf8(bytes), offsets}; }
};

void must_be_rows(const TextRows& rows, std::size_t n, std::size_t cols) {
    must(rows.indptr.size() == n + 1 && rows.indices.size() == rows.data.size(), "a row for each of ", n);
    for (std::size_t i = 0; i < n; ++i) {
        for (auto j = static_cast<std::size_t>(rows.indptr[i]); j < static_cast<std::size_t>(rows.indptr[i + 1]); ++j) {
            must(rows.indices[j] >= 0 && static_cast<std::size_t>(rows.indices[j]) < cols, "columns are in range");
            must(j == static_cast<std::size_t>(rows.indptr[i]) || rows.indices[j] > rows.indices[j - 1], "columns rise");
            must(rows.data[j] >= 1, "counts are at least 1");
        }
    }
}

bool same(const TextRows& a, const TextRows& b) {
    return same_bytes(a.indptr, b.indptr) && same_bytes(a.indices, b.indices) && same_bytes(a.data, b.data);
}

void fasttext(const std::string& text, TextOptions options) {
    TextCounter counter(options);
    counter.add(utf8(text), 1);
    const TextVocabulary found = counter.vocabulary(1, 0, 1);
    std::map<std::string, std::int64_t, std::less<>> counts;
    std::int64_t tokens = 0;
    const StringsView strings{found.utf8, found.offsets};
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = text.find_first_of(std::string_view(" \0\t\n\v\f\r", 7), at);
        const std::string token = text.substr(at, end - at);
        if (!token.empty()) ++counts[token], ++tokens;
        at = end == std::string::npos ? text.size() : end + 1;
    }
    for (std::size_t i = 0; i < strings.size(); ++i) {
        must(i < found.words ? !strings[i].starts_with(options.label_prefix) : strings[i].starts_with(options.label_prefix),
             "words, then labels");
        must(i == 0 || i == found.words || found.counts[i] <= found.counts[i - 1], "by falling count");
        const auto known = counts.find(strings[i]);
        const std::int64_t times = known == counts.end() ? 0 : known->second;
        must(found.counts[i] == times || (strings[i] == "</s>" && found.counts[i] >= times), "counts are those of a map");
    }
    must(strings.size() <= counts.size() + 1 && counter.tokens() >= tokens, "every token is counted");
    Lines words, labels;
    for (std::size_t i = 0; i < strings.size(); ++i) (i < found.words ? words : labels).add(strings[i]);
    options.pruned = true;
    const std::vector<std::int32_t> kept = counter.filled_buckets();
    const TextDictionary dictionary(words.view(), labels.view(), kept, options);
    const TextExamples all = dictionary.examples(utf8(text), false, 1);
    must_be_rows(all.rows, all.label_ptr.size() - 1, dictionary.cols());
    if (text.find("</s>") == std::string::npos) {
        Lines lines;
        for (std::size_t at = 0; at < text.size();) {
            const std::size_t end = std::min(text.find('\n', at), text.size());
            lines.add(std::string_view(text).substr(at, end - at));
            at = end + 1;
        }
        must(same(all.rows, dictionary.rows(lines.view(), 1)), "a block is its lines");
    }
    const TextExamples some = dictionary.examples(utf8(text), true, 1);
    must(same_bytes(some.labels, all.labels) && some.rows.data.size() <= all.rows.data.size(), "labels are those of all examples");
}

void terms(Input& in, const std::string& text) {
    Lines texts;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t n = std::min(text.size() - at, in.upto(40));
        texts.add(std::string_view(text).substr(at, n));
        at += std::max<std::size_t>(1, n);
    }
    TermOptions options{.words = in.flag(), .lowercase = in.flag()};
    options.word_ngrams = in.integer<std::int32_t>(0, 3);
    options.min_chars = in.integer<std::int32_t>(0, 3);
    options.max_chars = in.integer<std::int32_t>(0, 4);
    if (options.word_ngrams > 8 || options.max_chars > 8) return;
    const bool good = options.word_ngrams >= 0 && options.max_chars >= 0 && (options.word_ngrams > 0 || options.max_chars > 0) &&
                      (options.max_chars == 0 || (options.min_chars >= 1 && options.min_chars <= options.max_chars));
    const bool no = refused([&] { TermCounter counter(options); });
    must(no == !good, "options are refused exactly if they are not valid");
    if (no) return;
    std::vector<std::uint64_t> letters(in.upto(600));
    for (auto& bits : letters) bits = 0x5a5aa5a5f0f00f0fu;
    Lines lower;
    lower.add("\xc3\xa9");
    const std::vector<std::int32_t> upper{0xC9};
    const TextLetters known(letters, upper, lower.view());
    const TextLetters* some = in.flag() ? &known : nullptr;
    TermCounter counter(options);
    counter.add(texts.view(), some, 1);
    const TermRows found = counter.finish(1, 1);
    must_be_rows(found.rows, texts.offsets.size() - 1, found.vocabulary.counts.size());
    Lines words, chars;
    const StringsView strings{found.vocabulary.utf8, found.vocabulary.offsets};
    for (std::size_t i = 0; i < strings.size(); ++i) {
        must(i == 0 || i == found.vocabulary.words || strings[i - 1] < strings[i], "terms rise");
        (i < found.vocabulary.words ? words : chars).add(strings[i]);
    }
    must(same(found.rows, TermDictionary(words.view(), chars.view(), options).rows(texts.view(), some, 1)),
         "learned rows are looked up again");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    const TextOptions options{.word_ngrams = static_cast<std::int32_t>(in.upto(3)),
                              .min_chars = static_cast<std::int32_t>(in.upto(3)),
                              .max_chars = static_cast<std::int32_t>(in.upto(4)),
                              .buckets = static_cast<std::int32_t>(1 + in.upto(300)),
                              .label_prefix = in.pick<const char*>({"__label__", "@", "a"})};
    std::string text;
    for (std::size_t n = in.upto(2000); n > 0 && !in.empty(); --n) {
        const std::uint8_t byte = in.bits<std::uint8_t>();
        text += byte < 250 ? std::string(1, static_cast<char>(byte)) : in.pick<const char*>({" ", "\n", "</s>", "__label__", "\xc3\x89"});
    }
    fasttext(text, options);
    terms(in, text);
    LabelReader reader(options.label_prefix);
    const LabeledTexts found = reader.read(utf8(text), 1);
    must(found.offsets.back() == static_cast<std::int64_t>(found.utf8.size()) && found.label_ptr.size() == found.offsets.size(),
         "whole texts");
    must(found.label_ptr.back() == static_cast<std::int64_t>(found.labels.size()), "all labels");
    return 0;
}
