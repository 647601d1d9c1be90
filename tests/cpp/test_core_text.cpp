// SPDX-License-Identifier: BSD-3-Clause
// Text: tokens, hashes and counts by fastText's rules, on random bytes too, and what is refused.
#include <map>
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
}

}  // namespace

int main() {
    Random random(11);
    test_hashes();
    test_counts();
    test_random_bytes(random);
    test_refusals();
    return finish("test_core_text");
}
