// SPDX-License-Identifier: BSD-3-Clause
// Text: tokens, hashes and counts by fastText's rules and by scikit-learn's, on random bytes too, and what is refused.
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <sparseops/text.hpp>

#include "check.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;

std::span<const std::uint8_t> utf8(std::string_view text) { return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}; }

struct Strings {
    std::string bytes = {};
    std::vector<std::int64_t> offsets{0};

    Strings() = default;
    explicit Strings(const std::vector<std::string>& all) {
        for (const std::string& one : all) {
            bytes += one;
            offsets.push_back(static_cast<std::int64_t>(bytes.size()));
        }
    }
    StringsView view() const { return {utf8(bytes), offsets}; }
};

std::map<std::int32_t, float> row(const TextRows& rows, std::size_t i) {
    std::map<std::int32_t, float> found;
    for (auto j = static_cast<std::size_t>(rows.indptr[i]); j < static_cast<std::size_t>(rows.indptr[i + 1]); ++j)
        found[rows.indices[j]] += rows.data[j];
    return found;
}

void test_hashes() {
    check(text_hash("") == 2166136261u, "the hash of nothing");
    check(text_hash("a") == 0xe40c292cu, "FNV-1a of a");
    check(text_hash("\xff") == (2166136261u ^ 0xffffffffu) * 16777619u, "bytes are sign-extended");
}

void test_counts() {
    const Strings words({"</s>", "a", "b"}), labels({"__label__x"});
    const TextDictionary plain(words.view(), labels.view(), {}, {});
    const Strings texts({"a b a", "", "b\n a", "__label__x a __label__y", "a</s> </s> b", std::string("a\0b\v\fa", 6)});
    const TextRows rows = plain.rows(texts.view(), 1);
    using Row = std::map<std::int32_t, float>;
    check(plain.cols() == 3 && rows.cols == 3, "a column for each word");
    check(row(rows, 0) == Row{{0, 1}, {1, 2}, {2, 1}}, "counts of words and the end of the line");
    check(row(rows, 1) == Row{{0, 1}}, "the end of an empty line");
    check(row(rows, 2) == Row{{0, 1}, {2, 1}}, "a newline ends the text");
    check(row(rows, 3) == Row{{0, 1}, {1, 1}}, "labels are left out");
    check(row(rows, 4) == Row{{0, 1}}, "</s> ends the text");
    check(row(rows, 5) == Row{{0, 1}, {1, 2}, {2, 1}}, "every separator");
    const TextDictionary open(words.view(), labels.view(), {}, {.ends_line = false});
    check(row(open.rows(texts.view(), 1), 1).empty(), "a text that is no whole line");
}

void test_random_bytes(Random& random) {
    const Strings words({"</s>", "a", "b", "\xc3\xa9"}), labels({"__label__x"});
    const std::string alphabet = std::string("ab \n\t\0<>_\xc3\xa9\x80\xff/s", 15);
    for (int round = 0; round < 200; ++round) {
        std::vector<std::string> all(random.below(300));
        for (std::string& one : all) {
            one.resize(random.below(30));
            for (char& c : one) c = alphabet[random.below(alphabet.size())];
        }
        const Strings texts(all);
        TextOptions options{.word_ngrams = static_cast<std::int32_t>(random.below(4)),
                            .min_chars = static_cast<std::int32_t>(random.below(3)),
                            .max_chars = static_cast<std::int32_t>(random.below(5)),
                            .buckets = static_cast<std::int32_t>(1 + random.below(50))};
        const std::vector<std::int32_t> kept{0};
        options.pruned = random.below(2) == 0;
        const TextDictionary dictionary(words.view(), labels.view(), options.pruned ? std::span(kept) : std::span<const std::int32_t>{},
                                        options);
        const TextRows first = dictionary.rows(texts.view(), 1), second = dictionary.rows(texts.view(), 3);
        check(same_bytes(first.indptr, second.indptr) && same_bytes(first.indices, second.indices) && same_bytes(first.data, second.data),
              "threads change no byte");
        check(first.indptr.size() == all.size() + 1, "a row for each text");
        for (std::size_t i = 0; i < all.size(); ++i) {
            for (auto j = first.indptr[i]; j < first.indptr[i + 1]; ++j) {
                const auto at = static_cast<std::size_t>(j);
                check(first.indices[at] >= 0 && static_cast<std::size_t>(first.indices[at]) < dictionary.cols(), "columns are in range");
                check(j == first.indptr[i] || first.indices[at] > first.indices[at - 1], "columns rise");
            }
        }
    }
}

std::vector<std::string> strings(const TextVocabulary& found) {
    std::vector<std::string> all;
    for (std::size_t i = 0; i + 1 < found.offsets.size(); ++i) all.emplace_back(StringsView{found.utf8, found.offsets}[i]);
    return all;
}

using Names = std::vector<std::string>;

void test_blocks() {
    TextCounter counter({.word_ngrams = 2, .buckets = 1000});
    counter.add(utf8("__label__x b a b\n\nc </s> b __label__y\n"), 1);
    counter.add(utf8("last a"), 1);
    const TextVocabulary found = counter.vocabulary(1, 0);
    check(strings(found) == Names{"</s>", "b", "a", "c", "last", "__label__x", "__label__y"}, "words by count, then by place");
    check(found.words == 5 && found.counts == std::vector<std::int64_t>{5, 3, 2, 1, 1, 1, 1} && counter.tokens() == 14, "how often");
    check(strings(counter.vocabulary(2, 2)) == Names{"</s>", "b", "a"}, "the frequent ones");
    check(counter.filled_buckets().size() == 3, "b a, a b, b </s> twice and no n-gram of examples without a label");
    const Strings words({"</s>", "a", "b"}), labels({"__label__y", "__label__x"});
    const TextDictionary dictionary(words.view(), labels.view(), {}, {});
    const std::string text = "__label__x a a\nb </s> b __label__y __label__x __label__z\n\na";
    const TextExamples all = dictionary.examples(utf8(text), false, 1), some = dictionary.examples(utf8(text), true, 1);
    check(all.rows.indptr.size() == 6 && all.label_ptr == std::vector<std::int64_t>{0, 1, 1, 3, 3, 3}, "examples and their labels");
    check(all.labels == std::vector<std::int32_t>{1, 0, 1} && some.labels == all.labels, "labels of the dictionary");
    check(some.rows.indptr == std::vector<std::int64_t>{0, 2, 4} && some.rows.data == std::vector<float>{1, 2, 1, 1}, "rows with a label");
}

// A text of some 300,000 bytes, so that threads share it.
std::string long_text(Random& random) {
    std::string text;
    while (text.size() < 300000) {
        if (random.below(3)) text += "__label__" + std::to_string(random.below(5)) + " ";
        for (std::size_t n = random.below(20); n--;) text += (random.below(2) ? "w" : "\xc3\x84") + std::to_string(random.below(300)) + " ";
        if (random.below(9) == 0) text += "</s> ";
        text += "\n";
    }
    return text;
}

void test_threads(Random& random) {
    const std::string text = long_text(random);
    Strings texts;
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = text.find('\n', at) + 1;
        texts.bytes += text.substr(at, end - at);
        texts.offsets.push_back(static_cast<std::int64_t>(end));
        at = end;
    }
    std::vector<std::string> seen;
    for (const int threads : {1, 2, 3}) {
        std::ostringstream all;
        const auto keep = [&](const auto& values) {
            all.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(values[0])));
        };
        TextCounter counter({.word_ngrams = 2, .min_chars = 2, .max_chars = 3, .buckets = 5000});
        counter.add(utf8(text), threads);
        const TextVocabulary found = counter.vocabulary(2, 1, threads);
        keep(found.utf8), keep(found.counts), keep(counter.filled_buckets());
        const auto labels = StringsView{std::span(found.utf8).subspan(static_cast<std::size_t>(found.offsets[found.words])), {}};
        std::vector<std::int64_t> offsets(found.offsets.begin() + static_cast<std::ptrdiff_t>(found.words), found.offsets.end());
        for (auto& offset : offsets) offset -= found.offsets[found.words];
        const StringsView words{std::span(found.utf8).first(static_cast<std::size_t>(found.offsets[found.words])),
                                std::span(found.offsets).first(found.words + 1)};
        const TextDictionary dictionary(words, {labels.utf8, offsets}, counter.filled_buckets(),
                                        {.word_ngrams = 2, .min_chars = 2, .max_chars = 3, .buckets = 5000, .pruned = true});
        const TextExamples rows = dictionary.examples(utf8(text), false, threads);
        keep(rows.rows.indptr), keep(rows.rows.indices), keep(rows.rows.data), keep(rows.label_ptr), keep(rows.labels);
        LabelReader reader("__label__");
        const LabeledTexts parted = reader.read(utf8(text), threads);
        keep(parted.utf8), keep(parted.offsets), keep(parted.labels), keep(reader.labels().utf8);
        TermCounter terms({.words = true, .lowercase = true, .word_ngrams = 2, .min_chars = 2, .max_chars = 3});
        terms.add(texts.view(), nullptr, threads);
        const TermRows learned = terms.finish(2, threads);
        keep(learned.vocabulary.utf8), keep(learned.vocabulary.counts), keep(learned.rows.indptr), keep(learned.rows.indices),
            keep(learned.rows.data);
        check(learned.rows.indptr.size() == texts.offsets.size(), "a row for each text");
        seen.push_back(all.str());
    }
    check(seen[0] == seen[1] && seen[0] == seen[2], "threads change no byte");
}

void test_terms() {
    const Strings texts({"Be b be_2  be", "x\tBE-ing", ""});
    TermCounter counter({.words = true, .lowercase = true, .word_ngrams = 2});
    check(counter.is_empty(), "nothing yet");
    counter.add(texts.view(), nullptr, 1);
    const TermRows found = counter.finish(1, 1);
    check(strings(found.vocabulary) == Names{"be", "be be_2", "be ing", "be_2", "be_2 be", "ing"}, "words of two letters, sorted");
    check(found.rows.indptr == std::vector<std::int64_t>{0, 4, 7, 7} && found.rows.data[0] == 2, "their counts");
    check(counter.is_empty() && counter.finish(1).rows.indptr.size() == 1, "the counter is empty");
    TermCounter blanks({.word_ngrams = 0, .min_chars = 2, .max_chars = 9});
    const Strings one({"ab\xc3\xa9 c"});
    blanks.add(one.view(), nullptr, 1);
    check(strings(blanks.finish(1, 1).vocabulary) == Names{" a", " ab", " ab\xc3\xa9", " ab\xc3\xa9 ", " c", " c ", "ab", "ab\xc3\xa9",
                                                           "ab\xc3\xa9 ", "b\xc3\xa9", "b\xc3\xa9 ", "c ", "\xc3\xa9 "},
          "runs of characters; a short word counts once");
    const std::vector<std::uint64_t> letters(4, ~std::uint64_t{0});
    const std::vector<std::int32_t> upper{0xC9};
    const TextLetters known(letters, upper, Strings({"\xc3\xa9"}).view());
    check(known.is_letter(0xE9) && !known.is_letter(0x3000) && known.lower(0xC9) == "\xc3\xa9" && known.lower(0xC8).empty(), "letters");
    const Strings word({"\xc3\xa9t"}), other({"\xc3\x89t", "\xc3t \xff\xff t\xc3"});
    const TermDictionary dictionary(word.view(), Strings().view(), {.words = true, .lowercase = true});
    check(dictionary.rows(other.view(), &known, 1).indptr == std::vector<std::int64_t>{0, 1, 1}, "lower case beyond ASCII");
    check(dictionary.rows(other.view(), nullptr, 1).indptr == std::vector<std::int64_t>{0, 0, 0}, "without letters there are none");
}

void test_labels() {
    LabelReader reader("@");
    const LabeledTexts found = reader.read(utf8("@b x  y @a\n \n@b\nz\tq\n"), 1);
    check(std::string(found.utf8.begin(), found.utf8.end()) == "x y" && found.offsets == std::vector<std::int64_t>{0, 3, 3}, "texts");
    check(found.labels == std::vector<std::int32_t>{0, 1, 0} && found.label_ptr == std::vector<std::int64_t>{0, 2, 3}, "labels");
    check(found.lines == 4 && found.unlabeled == 3, "a line without a label");
    check(strings(reader.labels()) == Names{"b", "a"} && reader.labels().counts == std::vector<std::int64_t>{2, 1}, "their names");
}

// Whatever the bytes: rows in range, columns that rise, nothing read beyond the end.
void test_random_terms(Random& random) {
    const std::string alphabet = std::string("aB_ \n\t\0\xc3\xa9\x89\xe3\x80\xf0\xff\xed", 15);
    const std::vector<std::uint64_t> letters(17408, 0x5555555555555555u);
    const std::vector<std::int32_t> upper{0xC9, 0xE9};
    const TextLetters known(letters, upper, Strings({"\xc3\xa9", "abc"}).view());
    for (int round = 0; round < 100; ++round) {
        std::vector<std::string> all(random.below(200));
        for (std::string& one : all) {
            one.resize(random.below(20));
            for (char& c : one) c = alphabet[random.below(alphabet.size())];
        }
        const Strings texts(all);
        TermOptions options{.words = random.below(2) == 0, .lowercase = random.below(2) == 0};
        options.word_ngrams = static_cast<std::int32_t>(random.below(3));
        if (options.word_ngrams == 0 || random.below(2))
            options.min_chars = 1, options.max_chars = static_cast<std::int32_t>(1 + random.below(4));
        TermCounter counter(options);
        counter.add(texts.view(), random.below(2) ? &known : nullptr, 1);
        const TermRows found = counter.finish(1, 1);
        const auto cols = static_cast<std::int32_t>(found.vocabulary.counts.size());
        for (std::size_t i = 0; i < all.size(); ++i) {
            for (auto j = found.rows.indptr[i]; j < found.rows.indptr[i + 1]; ++j) {
                const auto at = static_cast<std::size_t>(j);
                check(found.rows.indices[at] >= 0 && found.rows.indices[at] < cols, "columns are in range");
                check(j == found.rows.indptr[i] || found.rows.indices[at] > found.rows.indices[at - 1], "columns rise");
            }
        }
        LabelReader reader("a");
        (void)reader.read(utf8(texts.bytes), 1);
        TextCounter words({.word_ngrams = 2, .min_chars = 1, .max_chars = 2, .buckets = 7, .label_prefix = "a"});
        words.add(utf8(texts.bytes), 1);
        check(words.filled_buckets().size() <= 7, "buckets are in range");
    }
}

void test_refusals() {
    const Strings words({"a", "a"}), one({"a"}), none;
    const auto make = [](const Strings& w, const Strings& l, std::vector<std::int32_t> kept, TextOptions options) {
        return [=] { TextDictionary(w.view(), l.view(), kept, options); };
    };
    check_refused("words and labels must differ, got 'a' again at index 1", make(words, none, {}, {}));
    check_refused("words and labels must differ, got 'a' again at index 1", make(one, one, {}, {}));
    check_refused("word_ngrams must be at least 0, got -1", make(one, none, {}, {.word_ngrams = -1}));
    check_refused("buckets must be at least 1 for n-grams, got 0", make(one, none, {}, {.max_chars = 2}));
    check_refused("kept must be empty unless pruned, got 1 buckets", make(one, none, {0}, {.buckets = 2}));
    check_refused("kept must be in [0, 2), got 2 at index 0", make(one, none, {2}, {.buckets = 2, .pruned = true}));
    check_refused("kept must differ, got 1 again at index 1", make(one, none, {1, 1}, {.buckets = 2, .pruned = true}));
    const TextDictionary dictionary(one.view(), none.view(), {}, {});
    const std::vector<std::int64_t> falls{0, 2, 1}, short_by_one{0, 1}, late{1, 2};
    check_refused("texts.offsets must not decrease, got 1 after 2 at index 2", [&] { (void)dictionary.rows({utf8("ab"), falls}); });
    check_refused("texts.offsets must end with 2, got 1", [&] { (void)dictionary.rows({utf8("ab"), short_by_one}); });
    check_refused("texts.offsets must start with 0", [&] { (void)dictionary.rows({utf8("ab"), late}); });
    check_refused("texts.offsets must start with 0", [&] { (void)dictionary.rows({}); });
    check_refused("word_ngrams must be at least 1, or max_chars, got neither", [] { TermCounter({.word_ngrams = 0}); });
    check_refused("min_chars must be in [1, max_chars], got 3 and max_chars 2", [] { TermCounter({.min_chars = 3, .max_chars = 2}); });
    check_refused("words must differ, got 'a' again at index 1", [&] { TermDictionary(words.view(), none.view(), {}); });
    check_refused("texts.offsets must end with 2, got 1", [&] { TermCounter({}).add({utf8("ab"), short_by_one}, nullptr); });
    const std::vector<std::int32_t> upper{5, 5};
    check_refused("upper must rise in [0, 0x110000), got 5 at index 1", [&] { TextLetters({}, upper, words.view()); });
    check_refused("lower must have a string for each of upper, 2, got 1", [&] { TextLetters({}, upper, one.view()); });
    check_refused("buckets must be at least 1 for n-grams, got 0", [] { TextCounter({.word_ngrams = 2}); });
}

}  // namespace

int main() {
    Random random(11);
    test_hashes();
    test_counts();
    test_random_bytes(random);
    test_blocks();
    test_threads(random);
    test_terms();
    test_labels();
    test_random_terms(random);
    test_refusals();
    return finish("test_core_text");
}
