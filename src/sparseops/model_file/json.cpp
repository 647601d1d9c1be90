// SPDX-License-Identifier: BSD-3-Clause
#include "json.hpp"

#include <limits>

#include "../detail/require.hpp"

namespace sparseops::detail {
namespace {

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

void append_utf8(std::string& out, std::uint32_t code) {
    const auto push = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
    if (code < 0x80) return push(code);
    if (code < 0x800) {
        push(0xc0 | code >> 6);
    } else {
        if (code < 0x10000) {
            push(0xe0 | code >> 12);
        } else {
            push(0xf0 | code >> 18);
            push(0x80 | (code >> 12 & 0x3f));
        }
        push(0x80 | (code >> 6 & 0x3f));
    }
    push(0x80 | (code & 0x3f));
}

}  // namespace

bool is_utf8(std::string_view text) noexcept {
    for (std::size_t i = 0; i < text.size();) {
        const auto first = static_cast<unsigned char>(text[i]);
        if (first < 0x80) {
            ++i;
            continue;
        }
        const std::size_t length = first >> 5 == 6 ? 2 : first >> 4 == 14 ? 3 : first >> 3 == 30 ? 4 : 0;
        if (length == 0 || text.size() - i < length) return false;
        std::uint32_t code = first & (0x7fu >> length);
        for (std::size_t j = 1; j < length; ++j) {
            const auto next = static_cast<unsigned char>(text[i + j]);
            if (next >> 6 != 2) return false;
            code = code << 6 | (next & 0x3fu);
        }
        constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
        if (code < least[length] || code > 0x10ffff) return false;
        i += length;
    }
    return true;
}

JsonReader::JsonReader(std::string_view text) : text_(text) { require(is_utf8(text), "it is not UTF-8"); }

void JsonReader::fail(const char* why) const { refuse(why, " at byte ", at_); }

void JsonReader::skip_space() noexcept {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) ++at_;
}

char JsonReader::peek() noexcept {
    skip_space();
    return at_ < text_.size() ? text_[at_] : '\0';
}

bool JsonReader::take(char c) noexcept {
    if (peek() != c) return false;
    ++at_;
    return true;
}

void JsonReader::expect(char c) {
    const char why[] = {'n', 'o', ' ', '\'', c, '\'', '\0'};
    if (!take(c)) fail(why);
}

void JsonReader::enter(char bracket) {
    expect(bracket);
    if (++depth_ > max_depth) fail("nested too deeply");
}

std::uint32_t JsonReader::code_unit() {
    std::uint32_t unit = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
        const char c = at_ < text_.size() ? text_[at_] : '\0';
        const char lower = static_cast<char>(c | 0x20);
        if (!is_digit(c) && (lower < 'a' || lower > 'f')) fail("no hexadecimal digit");
        unit = unit << 4 | static_cast<std::uint32_t>(is_digit(c) ? c - '0' : lower - 'a' + 10);
    }
    return unit;
}

std::string JsonReader::string() {
    expect('"');
    std::string out;
    for (;;) {
        if (at_ == text_.size()) fail("a string has no end");
        const char c = text_[at_++];
        if (c == '"') return out;
        if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a string");
        if (c != '\\') {
            out.push_back(c);
            continue;
        }
        constexpr std::string_view escapes = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
        const char escape = at_ < text_.size() ? text_[at_++] : '\0';
        if (const std::size_t which = escapes.find(escape); which != std::string_view::npos) {
            out.push_back(meanings[which]);
            continue;
        }
        if (escape != 'u') fail("an unknown escape");
        std::uint32_t code = code_unit();
        if (code >> 10 == 0xd800 >> 10 && text_.substr(at_, 2) == "\\u") {  // with a low surrogate one character
            const std::size_t second = at_;
            at_ += 2;
            if (const std::uint32_t low = code_unit(); low >> 10 == 0xdc00 >> 10)
                code = 0x10000 + ((code & 0x3ff) << 10 | (low & 0x3ff));
            else
                at_ = second;
        }
        append_utf8(out, code);
    }
}

void JsonReader::digits() {
    if (at_ == text_.size() || !is_digit(text_[at_])) fail("no digit");
    while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
}

void JsonReader::number() {
    const auto next = [&](std::string_view any) { return at_ < text_.size() && any.find(text_[at_]) != std::string_view::npos; };
    if (next("-")) ++at_;
    if (text_.substr(at_, 8) == "Infinity") {
        at_ += 8;
        return;
    }
    if (next("0"))
        ++at_;
    else
        digits();
    if (next(".")) {
        ++at_;
        digits();
    }
    if (next("eE")) {
        ++at_;
        if (next("+-")) ++at_;
        digits();
    }
}

std::int64_t JsonReader::size() {
    const std::string_view text = skip();
    constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
    std::int64_t value = 0;
    for (const char c : text) {
        if (!is_digit(c)) return -1;
        value = value > (most - (c - '0')) / 10 ? most : value * 10 + (c - '0');
    }
    return value;
}

std::string_view JsonReader::skip() {
    const char first = peek();
    const std::size_t from = at_;
    if (first == '{') {
        object([&](const std::string&) { skip(); });
    } else if (first == '[') {
        list([&] { skip(); });
    } else if (first == '"') {
        string();
    } else {
        for (const std::string_view word : {"null", "true", "false", "NaN"}) {
            if (text_.substr(at_, word.size()) == word) {
                at_ += word.size();
                return word;
            }
        }
        number();
    }
    return text_.substr(from, at_ - from);
}

void JsonReader::end() {
    if (peek() != '\0' || at_ != text_.size()) fail("more text");
}

}  // namespace sparseops::detail
