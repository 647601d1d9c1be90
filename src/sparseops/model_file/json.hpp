// SPDX-License-Identifier: BSD-3-Clause
// A reader of JSON (RFC 8259) that takes values one by one, in order, and builds nothing. Strict, and safe on any bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

namespace sparseops::detail {

// Well-formed UTF-8; surrogates count as characters, as with Python's "surrogatepass".
bool is_utf8(std::string_view text) noexcept;

// Every function throws std::invalid_argument, saying what is wrong and where, if the text does not go on with such a value.
// Nesting is limited to max_depth; a name that an object holds twice is refused. NaN and ±Infinity are numbers, as Python has it.
class JsonReader {
public:
    static constexpr int max_depth = 64;

    explicit JsonReader(std::string_view text);  // refuses text that is not UTF-8; keeps a view

    // member(name) must take the value, for every member.
    template <class F>
    void object(const F& member) {
        enter('{');
        std::set<std::string> names;
        if (!take('}')) {
            do {
                const auto [name, is_new] = names.insert(string());
                if (!is_new) fail("a name occurs twice");
                expect(':');
                member(*name);
            } while (take(','));
            expect('}');
        }
        --depth_;
    }
    // item() must take the value, for every item.
    template <class F>
    void list(const F& item) {
        enter('[');
        if (!take(']')) {
            do {
                item();
            } while (take(','));
            expect(']');
        }
        --depth_;
    }
    std::string string();
    std::int64_t size();      // a whole number from 0, the largest one if it does not fit; -1 for any other value
    std::string_view skip();  // any value; returns its text
    void end();               // nothing but space is left

private:
    [[noreturn]] void fail(const char* why) const;
    void skip_space() noexcept;
    char peek() noexcept;  // the next character that is not space, 0 at the end
    bool take(char c) noexcept;
    void expect(char c);
    void enter(char bracket);
    std::uint32_t code_unit();
    void digits();
    void number();

    std::string_view text_;
    std::size_t at_ = 0;
    int depth_ = 0;
};

}  // namespace sparseops::detail
