// SPDX-License-Identifier: BSD-3-Clause
// The reader of model files: bytes as they are, and with their checksums made right; refused, or a whole model.
#include <charconv>
#include <numeric>
#include <optional>
#include <string>

#include <sparseops/model_file.hpp>
#include <sparseops/model_file/crc32.hpp>
#include <sparseops/search.hpp>

#include "tree_oracle.hpp"

namespace {

using namespace sparseops_fuzz;

constexpr std::size_t preamble = 24;  // magic, version, checksum of the header, its length

std::uint32_t checksum(std::string_view bytes) { return sparseops::detail::crc32(std::as_bytes(std::span(bytes))); }

std::size_t aligned(std::size_t n) { return (n + 63) / 64 * 64; }

// The number that follows `key` after place `from` of the header.
std::size_t number_after(const std::string& header, std::string_view key, std::size_t from) {
    std::size_t value = 0;
    if (const auto at = header.find(key, from); at != std::string::npos)
        std::from_chars(header.data() + at + key.size(), header.data() + header.size(), value);
    return value;
}

// The file with the checksums of its header and arrays, so that what lies behind them is reached.
std::string repaired(const std::string& file) {
    if (file.size() < preamble) return file;
    std::uint64_t length = 0;
    std::memcpy(&length, file.data() + 16, sizeof(length));
    length = std::min<std::uint64_t>(length, file.size() - preamble);
    std::string header = file.substr(preamble, length);
    const std::string arrays = aligned(preamble + length) < file.size() ? file.substr(aligned(preamble + length)) : "";
    constexpr std::string_view key = "\"crc32\": ";
    for (std::size_t at = header.find(key); at != std::string::npos; at = header.find(key, at + 1)) {
        const std::size_t digits = at + key.size(), end = std::min(header.find_first_not_of("0123456789", digits), header.size());
        const std::size_t offset = number_after(header, "\"offset\": ", at), nbytes = number_after(header, "\"nbytes\": ", at);
        if (offset > arrays.size() || nbytes > arrays.size() - offset) continue;
        header.replace(digits, end - digits, std::to_string(checksum(std::string_view(arrays).substr(offset, nbytes))));
    }
    std::string whole = file.substr(0, preamble) + header;
    const std::uint32_t crc = checksum(header);
    length = header.size();
    std::memcpy(whole.data() + 12, &crc, sizeof(crc));
    std::memcpy(whole.data() + 16, &length, sizeof(length));
    whole.resize(aligned(whole.size()), '\0');
    return whole + arrays;
}

void load(const std::string& file) {
    const std::vector<char> bytes(file.begin(), file.end());  // of exactly this size
    const auto view = std::as_bytes(std::span(bytes));
    sparseops::ArrayFile arrays;
    if (refused([&] { arrays = sparseops::ArrayFile::load(view); })) return;
    for (const auto& [name, array] : arrays.arrays()) {
        const auto at = static_cast<std::size_t>(array.bytes.data() - view.data());
        must(array.bytes.empty() || (at <= view.size() && array.bytes.size() <= view.size() - at), "array ", name, " lies in the file");
        must(&arrays.array(name) == &array, "array ", name, " is found by its name");
    }
    std::optional<sparseops::Model> model;
    if (refused([&] { model.emplace(arrays); })) return;
    const HierarchyView& h = model->tree();
    must_be_tree(h);
    for (std::size_t c = 0; c < h.classes(); ++c) model->label(c);
    must(refused([&] { model->label(h.classes()); }), "there is no label beyond the classes");
    if (!model->has_weights()) return;
    std::visit(
        [&]<class T>(const sparseops::ModelWeights<T>& w) {
            const std::size_t dim = w.W.cols();
            must(model->features() == (w.has_embedding() ? w.E.rows : dim), "features are columns of the rows taken");
            if (dim > 4096) return;
            const std::vector<T> x(dim, T(0.5));
            std::vector<std::int32_t> column(dim);
            std::iota(column.begin(), column.end(), 0);
            const std::vector<std::int32_t> ends{0, static_cast<std::int32_t>(dim)};
            std::int64_t best = -7;
            T log_p = 7, bound = 7;
            auto in = w.W.sparse() ? w.input(sparseops::CsrView<const T, std::int32_t>{ends, column, x, dim}) : w.input({x.data(), 1, dim});
            in.check_finite = false;
            hsoftmax_search(h, in, {}, sparseops::MatrixView<std::int64_t>{&best, 1, 1}, sparseops::MatrixView<T>{&log_p, 1, 1},
                            std::span<T>(&bound, 1));
            must(best >= 0 && best < static_cast<std::int64_t>(h.classes()), "the model finds a class, got ", best);
        },
        model->weights());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string file(reinterpret_cast<const char*>(data), size);
    load(file);
    load(repaired(file));
    return 0;
}
