// SPDX-License-Identifier: BSD-3-Clause
// Files of arrays: what is right is read, and what is not is told in the words of Python, never followed.
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/stat.h>
#include <unistd.h>
#endif

#include <sparseops/model_file.hpp>

#include "../../src/sparseops/model_file/json.hpp"
#include "../../src/sparseops/model_file/mapped.hpp"
#include "check.hpp"
#include "files.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;
using detail::JsonReader;

void check_damaged(const std::string& file, const std::string& why) {
    const Bytes bytes(file);
    check_refused(damaged + why, [&] { ArrayFile::load(bytes.view()); });
}

// ---- JSON and the checksum

std::string read_string(const std::string& text) {
    JsonReader json(text);
    std::string value = json.string();
    json.end();
    return value;
}

std::int64_t read_size(const std::string& text) {
    JsonReader json(text);
    const std::int64_t value = json.size();
    json.end();
    return value;
}

void test_json() {
    check(crc_of("123456789") == 0xcbf43926u && crc_of("") == 0, "the check value of CRC-32");
    check(read_string(R"("a\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00z")") == "a\"\\/\b\f\n\r\té\U0001F600z", "escapes");
    check(read_string(R"("\ud83dx")") == "\xed\xa0\xbdx" && read_string(R"("\ud83d\u0041")") ==
                                                                "\xed\xa0\xbd"
                                                                "A",
          "a lone surrogate passes");
    check(read_size(" 0 ") == 0 && read_size("9007199254740993") == 9007199254740993, "whole numbers");
    check(read_size("9223372036854775807") == INT64_MAX && read_size("9223372036854775808") == INT64_MAX &&
              read_size("99999999999999999999999999") == INT64_MAX,
          "numbers that do not fit are the largest");
    for (const char* other : {"-1", "1.0", "1e3", "-0", "true", "null", "NaN", "-Infinity", "\"1\"", "[1]", "{\"a\": [1, {}]}"})
        check(read_size(other) == -1, other, " is no size");
    const auto refused = [](const std::string& text) {
        try {
            JsonReader json(text);
            json.skip();
            json.end();
        } catch (const std::invalid_argument&) {
            return true;
        }
        return false;
    };
    for (const char* bad : {"",
                            " ",
                            "{",
                            "[",
                            "[1",
                            "[1,",
                            "[1,]",
                            "{\"a\"",
                            "{\"a\":",
                            "{\"a\":1",
                            "{\"a\":1,",
                            "{\"a\":1,}",
                            "{a:1}",
                            "[1]2",
                            "01",
                            "-",
                            "1.",
                            ".5",
                            "1e",
                            "1e+",
                            "+1",
                            "tru",
                            "nul",
                            "nan",
                            "\"",
                            "\"\\",
                            "\"\\x\"",
                            "\"\\u12\"",
                            "\"\\u12g4\"",
                            "\"\n\"",
                            "\"\x80\"",
                            "\"\xc0\x80\"",
                            "\"\xf4\x90\x80\x80\"",
                            "\"\xe2\x82\"",
                            "{\"a\": 1, \"a\": 2}",
                            "{\"a\": 1, \"\\u0061\": 2}",
                            "//",
                            "\xef\xbb\xbf"
                            "1"})
        check(refused(bad), "'", bad, "' should be refused");
    check(refused(std::string("1\0", 2)) && refused(std::string("\0", 1)), "a zero byte is no space");
    const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
    check(!refused(nested(64)) && refused(nested(65)) && refused(std::string(1'000'000, '[')), "the depth is limited");
}

// ---- arrays

void test_arrays() {
    const std::string text = write({{"f", part<float>("<f4", "[2, 3]", {1, 2, 3, 4, 5, 6})},
                                    {"i", part<std::int64_t>("<i8", {-1, 7})},
                                    {"empty", part<double>("<f8", "[0, 5]", {})},
                                    {"s.utf8", {"|u1", "[3]", "a\xc3\xa7"}},
                                    {"s.offsets", part<std::int64_t>("<i8", {0, 1, 1, 3})}},
                                   R"({"note": "ü"})");
    const Bytes bytes(text);
    const ArrayFile file = ArrayFile::load(bytes.view());
    const auto f = file.matrix<float>("f");
    check(f.rows == 2 && f.cols == 3 && f.row(1)[2] == 6 && file.vector<std::int64_t>("i")[1] == 7, "arrays come back");
    check(file.matrix<double>("empty").rows == 0 && file.matrix<double>("empty").cols == 5, "an empty array");
    check(file.metadata() == R"({"note": "ü"})" && file.arrays().size() == 5 && file.name() == "memory", "what else is in a file");
    const StringsView strings = file.strings("s");
    check(strings.size() == 3 && strings[0] == "a" && strings[1].empty() && strings[2] == "ç", "strings");
    check_refused("arrays must hold x, got empty, f, i, s.offsets, s.utf8", [&] { file.vector<float>("x"); });
    check_refused("f must be a vector of float32, got float32 of 2 dimensions", [&] { file.vector<float>("f"); });
    check_refused("f must be a matrix of int32, got float32 of 2 dimensions", [&] { file.matrix<std::int32_t>("f"); });

    for (std::size_t n = 0; n < text.size(); ++n) {
        const Bytes cut(text.substr(0, n));
        try {
            ArrayFile::load(cut.view());
            check(false, "a file cut to ", n, " bytes should be refused");
        } catch (const std::invalid_argument& error) {
            check(std::string(error.what()).starts_with(damaged), "cut to ", n, ": ", error.what());
        }
    }
    for (std::size_t bit = 0; bit < 8 * text.size(); ++bit) {
        std::string flipped = text;
        flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
        const Bytes wrong(flipped);
        try {
            ArrayFile::load(wrong.view());
            check(false, "a file with bit ", bit, " flipped should be refused");
        } catch (const std::invalid_argument& error) {
            check(std::string(error.what()).starts_with(damaged), "bit ", bit, ": ", error.what());
        }
    }
    check_damaged("", "it is too short");
    check_damaged(std::string(4096, '\0'), "it is not of this format");
    check_damaged(text + "more", "its size is wrong");
    check_damaged(text + std::string(64, '\0'), "its size is wrong");
    check_damaged(with_header("{}", "", 2), "its version is 2, this library reads 1");
    check_damaged(with_header("[]", ""), "its header is malformed (no '{' at byte 0)");
    check_damaged(with_header("{}", ""), "its header is malformed (it lacks arrays or metadata)");
    check_damaged(with_header(R"({"arrays": {"a": {}}, "metadata": 1})", ""),
                  "its header is malformed (array a lacks dtype, shape, offset, nbytes or crc32)");
    check_refused("bytes must start at a multiple of 8, got another place", [&] { ArrayFile::load(bytes.view().subspan(1)); });
}

// The checksums are right here, so that it is the header's claims that are checked.
void test_claims() {
    const auto claim = [](const std::string& entries, const std::string& arrays) {
        return with_header(text_of(R"({"arrays": {)", entries, R"(}, "metadata": {}})"), arrays);
    };
    const auto entry = [](const std::string& name, const std::string& dtype, const std::string& shape, const std::string& offset,
                          const std::string& nbytes) {
        return text_of('"', name, R"(": {"dtype": )", dtype, R"(, "shape": )", shape, R"(, "offset": )", offset, R"(, "nbytes": )", nbytes,
                       R"(, "crc32": )", crc_of(std::string(64, '\0')), "}");
    };
    const auto right_entry = [&](const std::string& name) { return entry(name, "\"<f4\"", "[16]", "0", "64"); };
    const std::string zeros(64, '\0');
    const auto one = [&](const std::string& dtype, const std::string& shape, const std::string& offset, const std::string& nbytes) {
        return claim(entry("a", dtype, shape, offset, nbytes), zeros);
    };
    const Bytes right(one("\"<f4\"", "[16]", "0", "64"));
    check(ArrayFile::load(right.view()).vector<float>("a").size() == 16, "such a file can be right");

    check_damaged(one("\"<f3\"", "[16]", "0", "64"), "array a has dtype <f3");
    check_damaged(one("\"|O\"", "[8]", "0", "64"), "array a has dtype |O");
    for (const char* n : {"-1", "-16", "1.5", "16.0", "true", "null", "\"16\"", "NaN"}) {
        check_damaged(one("\"<f4\"", text_of("[", n, "]"), "0", "64"), "array a has a negative size");
        check_damaged(one("\"<f4\"", "[16]", n, "64"), "array a has a negative size");
        check_damaged(one("\"<f4\"", "[16]", "0", n), "array a has a negative size");
    }
    const std::string most = std::to_string(INT64_MAX), half = std::to_string(std::int64_t{1} << 62),
                      root = std::to_string(std::int64_t{1} << 32);
    const std::vector<std::string> shapes = {"[15]",
                                             "[17]",
                                             text_of("[", most, "]"),
                                             text_of("[", half, "]"),
                                             text_of("[", half, ", 4]"),
                                             text_of("[", root, ", ", root, "]"),
                                             text_of("[16, ", most, "]"),
                                             text_of("[0, ", most, "]"),
                                             "[99999999999999999999999]"};
    for (const std::string& shape : shapes) check_damaged(one("\"<f4\"", shape, "0", "64"), "array a does not fit");
    for (const auto& shape : {text_of("[0, ", most, "]"), text_of("[", most, ", 0, ", most, "]")})
        check_damaged(one("\"<f4\"", shape, "0", "0"), "array a does not fit");
    for (const auto& offset : {std::string("1"), std::string("64"), most, half})
        check_damaged(one("\"<f4\"", "[16]", offset, "64"), "array a does not fit");
    check_damaged(one("\"|u1\"", text_of("[", most, "]"), "0", most), "its size is wrong");
    check_damaged(one("\"|u1\"", "[65]", "0", "65"), "its size is wrong");
    check_damaged(one("\"|u1\"", "[128]", "0", "128"), "its size is wrong");
    check_damaged(one("\"<f4\"", "[0]", "0", "0"), "its size is wrong");
    std::string ones;
    for (int i = 0; i < 65; ++i) ones += i ? ", 1" : "1";
    check_damaged(one("\"|u1\"", text_of("[", ones, "]"), "0", "1"), "array a does not fit");
    check_damaged(one("5", "[16]", "0", "64"), "its header is malformed (no '\"' at byte 27)");
    check_damaged(one("\"<f4\"", "16", "0", "64"), "its header is malformed (no '[' at byte 43)");
    check_damaged(claim(text_of(right_entry("a"), ", ", right_entry("a")), zeros),
                  "its header is malformed (a name occurs twice at byte 101)");
    check_damaged(claim(text_of(right_entry("a"), ", ", right_entry("b")), zeros + zeros),
                  "array b does not fit");  // they overlap
}

void test_paths() {
    const auto folder = std::filesystem::temp_directory_path() / text_of("sparseops_test_array_file_", &damaged);
    std::filesystem::create_directories(folder);
    const auto path = folder / "a.tree";
    const std::string text = write({{"x", part<float>("<f4", {1, 2, 3})}}, "{}");
    std::ofstream(path, std::ios::binary) << text;
    check(ArrayFile::load(path).vector<float>("x")[2] == 3, "a file");
    std::ofstream(path, std::ios::binary) << text.substr(0, text.size() - 1);
    check_refused(text_of("path must be an undamaged cython_sparseops file, got ", path.string(), ": its size is wrong"),
                  [&] { ArrayFile::load(path); });
    std::ofstream(path, std::ios::binary) << "";
    check_refused(text_of("path must be an undamaged cython_sparseops file, got ", path.string(), ": it is too short"),
                  [&] { ArrayFile::load(path); });
    for (const auto& absent : {folder / "absent", folder}) {
        try {
            ArrayFile::load(absent);
            check(false, absent, " should be refused");
        } catch (const std::system_error& error) {
            check(std::string(error.what()).starts_with(absent.string()), "the error of a file names it: ", error.what());
        }
    }
    std::filesystem::remove_all(folder);
}

#if defined(__unix__) || defined(__APPLE__)
// Opened as a file is, it would wait for a writer.
void test_pipe() {
    const auto path = std::filesystem::temp_directory_path() / ("sparseops_pipe_" + std::to_string(::getpid()));
    check(::mkfifo(path.c_str(), 0600) == 0, "there should be a pipe");
    bool refused = false;
    try {
        detail::map_file(path);
    } catch (const std::system_error&) {
        refused = true;
    }
    std::filesystem::remove(path);
    check(refused, "a pipe should be refused");
}
#else
void test_pipe() {}
#endif

}  // namespace

int main() {
    test_pipe();
    test_json();
    test_arrays();
    test_claims();
    test_paths();
    return finish("test_array_file");
}
