// SPDX-License-Identifier: BSD-3-Clause
#include "../model_file.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <iomanip>
#include <limits>
#include <locale>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "../detail/require.hpp"
#include "../quantize.hpp"
#include "json.hpp"

namespace sparseops {
namespace {

using detail::JsonReader;
using detail::refuse;
using detail::require;

std::string shape_text(std::initializer_list<std::size_t> shape) {
    std::string text = "(";
    for (const std::size_t n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
    return text + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace

struct Model::Metadata {
    std::string kind, mode, label_dtype;
    std::int64_t n_features = -1;

    explicit Metadata(std::string_view text) {
        JsonReader json(text);
        if (!text.starts_with('{')) return;
        json.object([&](const std::string& key) {
            const std::string_view value = json.skip();
            JsonReader one(value);
            std::string* const field = key == "kind" ? &kind : key == "mode" ? &mode : key == "label_dtype" ? &label_dtype : nullptr;
            if (field && value.starts_with('"')) *field = one.string();
            if (key == "n_features") n_features = one.size();
        });
    }
};

Model::Model(ArrayFile file) : file_(std::move(file)) {
    const Metadata metadata(file_.metadata());
    const bool classifier = metadata.kind == "HSoftmaxClassifier";
    require(classifier || metadata.kind == "Hierarchy", "path must hold a saved Hierarchy or HSoftmaxClassifier, got ",
            metadata.kind.empty() ? "another kind" : metadata.kind, " in ", file_.name());
    try {
        read_tree(classifier ? "hierarchy." : "");
        if (classifier) read_labels(metadata.label_dtype);
        read_weights(classifier ? "model." : "", metadata);
    } catch (const std::invalid_argument& error) {
        refuse("path must hold a valid ", metadata.kind, ", got ", file_.name(), ": ", error.what());
    }
}

void Model::read_tree(const std::string& prefix) {
    HierarchyView tree;
    tree.path_ptr = file_.vector<std::int64_t>(prefix + "path_ptr");
    tree.path_node = file_.vector<std::int32_t>(prefix + "path_node");
    tree.path_child = file_.vector<std::int32_t>(prefix + "path_child");
    tree.child_ptr = file_.vector<std::int64_t>(prefix + "child_ptr");
    tree.child = file_.vector<std::int32_t>(prefix + "child");
    tree.row_ptr = file_.vector<std::int64_t>(prefix + "row_ptr");
    if (file_.arrays().contains(prefix + "independent")) {
        const auto independent = file_.vector<std::uint8_t>(prefix + "independent");
        require(independent.size() == 1 && independent[0] == 1, "independent must hold the number 1 alone, got ", independent.size(),
                " entries");
        tree.independent = true;
    }
    tree_ = HierarchyIndex(tree);
}

namespace {

template <class T, class Finite>
void require_all(std::span<const T> values, const char* name, std::size_t cols, Finite finite) {
    const auto wrong = static_cast<std::size_t>(std::find_if_not(values.begin(), values.end(), finite) - values.begin());
    if (wrong == values.size()) return;
    refuse(name, " must be finite, got another value at index ",
           cols == 0 ? shape_text({wrong}) : shape_text({wrong / cols, wrong % cols}));
}

QuantizedView read_quantized(const ArrayFile& file, const std::string& prefix) {
    const StoredArray& data = file.array(prefix + "data");
    const bool known = data.dtype == "int8" || data.dtype == "int16" || data.dtype == "float16";
    require(known && data.shape.size() == 2, "data must be a matrix of int8, int16 (bits of bfloat16) or float16, got ", data.dtype, " of ",
            data.shape.size(), " dimensions");
    const QuantizedKind kind = data.dtype == "int8"    ? QuantizedKind::int8
                               : data.dtype == "int16" ? QuantizedKind::bfloat16
                                                       : QuantizedKind::float16;
    const bool scaled = kind == QuantizedKind::int8;
    require(scaled == file.arrays().contains(prefix + "scale"), "scale must ", scaled ? "come with" : "be absent for", " data of ",
            data.dtype);
    QuantizedView view{kind, data.bytes.data(), {}, data.shape[0], data.shape[1]};
    if (scaled) {
        view.scale = file.vector<float>(prefix + "scale");
        require(view.scale.size() == view.rows, "scale must have ", view.rows, " entries, got ", view.scale.size());
        require_all(view.scale, "scale", 0, [](float s) { return std::isfinite(s); });
    } else {
        const unsigned exponent = kind == QuantizedKind::float16 ? 0x7c00 : 0x7f80;
        const std::span bits{reinterpret_cast<const std::uint16_t*>(view.data), view.rows * view.cols};
        require_all(bits, "data", view.cols, [=](std::uint16_t b) { return (b & exponent) != exponent; });
    }
    return view;
}

// values[i], and the next of `rest` where that is 255: how compact sparse rows store small numbers.
std::vector<std::int64_t> read_small(const ArrayFile& file, const std::string& prefix, const char* name, const char* rest) {
    const auto values = file.vector<std::uint8_t>(prefix + name);
    const auto large = file.vector<std::int32_t>(prefix + rest);
    constexpr std::uint8_t most = 255;
    const auto marked = static_cast<std::size_t>(std::count(values.begin(), values.end(), most));
    require(large.size() == marked, rest, " must have ", marked, " entries, got ", large.size());
    std::vector<std::int64_t> out(values.begin(), values.end());
    std::size_t next = 0;
    for (std::int64_t& value : out) {
        if (value == most) value = large[next++];
        require(value >= 0, rest, " must not be negative, got ", value);
    }
    return out;
}

// The arrays that a compact file holds in other forms.
void unpack_sparse(const ArrayFile& file, const std::string& prefix, SparseRowsView& W, SparseRows& owned) {
    const auto step = read_small(file, prefix, "step", "far"), size = read_small(file, prefix, "size", "many");
    const auto ptr = W.feature_ptr;
    require(step.size() == size.size(), "size must have ", step.size(), " entries, got ", size.size());
    require(
        !ptr.empty() && ptr.front() == 0 && ptr.back() == static_cast<std::int64_t>(step.size()) && std::is_sorted(ptr.begin(), ptr.end()),
        "feature_ptr must rise from 0 to ", step.size(), ", got another");
    for (std::size_t v = 0; v + 1 < ptr.size(); ++v) {
        std::int64_t feature = -1;
        for (auto f = static_cast<std::size_t>(ptr[v]); f < static_cast<std::size_t>(ptr[v + 1]); ++f) {
            feature += step[f];
            require(feature < std::int64_t{1} << 31, "step must lead to features below 2**31, got ", feature);
            owned.feature.push_back(static_cast<std::int32_t>(feature));
        }
    }
    owned.entry_ptr.push_back(0);
    for (const std::int64_t n : size) owned.entry_ptr.push_back(owned.entry_ptr.back() + n);
    W.feature = owned.feature;
    W.entry_ptr = owned.entry_ptr;
    if (file.array(prefix + "slot").dtype == "uint8") {
        const auto slots = file.vector<std::uint8_t>(prefix + "slot");
        owned.slot.assign(slots.begin(), slots.end());
        W.slot = owned.slot;
    } else {
        W.slot = file.vector<std::uint16_t>(prefix + "slot");
    }
    if (file.array(prefix + "weight").dtype == "float16") {
        const StoredArray& half = file.array(prefix + "weight");
        owned.weight.resize(half.bytes.size() / sizeof(std::uint16_t));
        dequantize({QuantizedKind::float16, half.bytes.data(), {}, 1, owned.weight.size()}, {owned.weight.data(), 1, owned.weight.size()},
                   1);
        W.weight = owned.weight;
    } else {
        W.weight = file.vector<float>(prefix + "weight");
    }
}

// Views of the file, or of `owned` where it is compact.
SparseRowsView read_sparse(const ArrayFile& file, const std::string& prefix, const HierarchyView& h, SparseRows& owned) {
    SparseRowsView W;
    W.row_ptr = file.vector<std::int64_t>(prefix + "row_ptr");
    W.feature_ptr = file.vector<std::int64_t>(prefix + "feature_ptr");
    if (file.arrays().contains(prefix + "step")) {
        unpack_sparse(file, prefix, W, owned);
    } else {
        W.feature = file.vector<std::int32_t>(prefix + "feature");
        W.entry_ptr = file.vector<std::int64_t>(prefix + "entry_ptr");
        W.slot = file.vector<std::uint16_t>(prefix + "slot");
        W.weight = file.vector<float>(prefix + "weight");
    }
    W.bias = file.vector<float>(prefix + "bias");
    W.temperature = file.vector<float>(prefix + "temperature");
    const auto shape = file.vector<std::int64_t>(prefix + "shape");
    require(shape.size() == 2 && shape[0] == static_cast<std::int64_t>(W.bias.size()) && shape[1] >= 0, "shape must be the ", W.bias.size(),
            " rows and the columns of W, got another");
    W.features = static_cast<std::size_t>(shape[1]);
    require_sparse_rows(W, h);
    return W;
}

template <Real T>
ModelWeights<T> read_arrays(const ArrayFile& file, const std::string& prefix) {
    ModelWeights<T> weights;
    if (file.arrays().contains(prefix + "W.data")) {
        weights.W = read_quantized(file, prefix + "W.");
    } else {
        weights.W = file.matrix<T>(prefix + "W");
    }
    if (file.arrays().contains(prefix + "b")) weights.b = file.vector<T>(prefix + "b");
    if (file.arrays().contains(prefix + "E")) weights.E = file.matrix<T>(prefix + "E");
    if (file.arrays().contains(prefix + "E.data")) {
        weights.half_E = read_quantized(file, prefix + "E.");
        require(weights.half_E.kind != QuantizedKind::int8, "E must be float32, float64, bfloat16 or float16, got int8");
    }
    return weights;
}

}  // namespace

void Model::read_weights(const std::string& prefix, const Metadata& metadata) {
    const bool classifier = !prefix.empty(), quantised = file_.arrays().contains(prefix + "W.data");
    if (!classifier && file_.arrays().contains("W.slot")) {
        ModelWeights<float> sparse;
        const auto unpacked = std::make_shared<SparseRows>();
        sparse.W = read_sparse(file_, "W.", tree(), *unpacked);
        unpacked_ = unpacked;
        features_ = sparse.W.cols();
        weights_ = sparse;
        has_weights_ = true;
        return;
    }
    if (!classifier && !quantised && !file_.arrays().contains("W")) return;
    if (quantised) {
        weights_ = read_arrays<float>(file_, prefix);
    } else {
        const std::string_view dtype = file_.array(prefix + "W").dtype;
        require(dtype == "float32" || dtype == "float64", "W must be float32 or float64 and E and b alike, got ", dtype);
        if (dtype == "float32")
            weights_ = read_arrays<float>(file_, prefix);
        else
            weights_ = read_arrays<double>(file_, prefix);
    }
    std::visit(
        [&](const auto& w) {
            const std::size_t rows = tree().rows();
            const bool wants_b = classifier || file_.arrays().contains(prefix + "b");
            require(w.W.rows() == rows && (!wants_b || w.b.size() == rows) && (!w.has_embedding() || w.hidden() == w.W.cols()),
                    "W must have ", rows, " rows, as b entries, and the columns of E, got ", shape_text({w.W.rows(), w.W.cols()}), " and ",
                    shape_text({w.b.size()}));
            features_ = w.has_embedding() ? w.features() : w.W.cols();
        },
        weights_);
    const std::string mode = classifier || !metadata.mode.empty() ? metadata.mode : "mean";
    require(mode == "mean" || mode == "sum", "mode must be 'mean' or 'sum', got '", mode, "'");
    mode_ = mode == "mean" ? BagMode::mean : BagMode::sum;
    require(!classifier || metadata.n_features == static_cast<std::int64_t>(features_), "n_features must be ", features_,
            ", as the weights', got ", metadata.n_features);
    has_weights_ = true;
}

// ---- labels

namespace {

// f(T()) with the type that NumPy's code names.
template <class F>
auto with_number(std::string_view dtype, const F& f) {
    if (dtype == "|b1" || dtype == "|u1") return f(std::uint8_t());
    if (dtype == "|i1") return f(std::int8_t());
    if (dtype == "<i2") return f(std::int16_t());
    if (dtype == "<u2") return f(std::uint16_t());
    if (dtype == "<i4") return f(std::int32_t());
    if (dtype == "<u4") return f(std::uint32_t());
    if (dtype == "<i8") return f(std::int64_t());
    if (dtype == "<u8") return f(std::uint64_t());
    if (dtype == "<f4") return f(float());
    if (dtype == "<f8") return f(double());
    refuse("classes must be strings, booleans, integers, float32 or float64, got dtype ", dtype);
}

template <class T>
T number_at(std::span<const std::uint8_t> bytes, std::size_t i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    return value;
}

// The shortest digits that give the number back.
template <Real T>
std::string shortest(T value) {
    std::string text;
    for (int digits = 1; digits <= std::numeric_limits<T>::max_digits10; ++digits) {
        std::ostringstream out;
        out.imbue(std::locale::classic());
        out.precision(digits);
        if (std::trunc(value) == value && std::fabs(value) < T(1e16)) out << std::fixed << std::setprecision(1);
        out << value;
        text = out.str();
        std::istringstream in(text);
        in.imbue(std::locale::classic());
        if (T back; in >> back && back == value) break;
    }
    return text;
}

}  // namespace

void Model::read_labels(const std::string& dtype) {
    const std::size_t classes = tree().classes();
    const auto require_sorted = [](bool sorted) { require(sorted, "classes must be sorted and differ, got others"); };
    std::size_t found = 0;
    if (dtype == "str" || dtype == "object") {
        text_labels_ = file_.strings("classes");
        found = text_labels_.size();
        for (std::size_t c = 1; c < found; ++c) require_sorted(text_labels_[c - 1] < text_labels_[c]);
    } else {
        number_labels_ = file_.vector<std::uint8_t>("classes.values");
        found = with_number(dtype, [&](auto type) {
            using T = decltype(type);
            const std::size_t n = number_labels_.size() / sizeof(T);
            require(number_labels_.size() == n * sizeof(T), "classes must be whole numbers of ", sizeof(T), " bytes, got ",
                    number_labels_.size(), " bytes");
            for (std::size_t c = 1; c < n; ++c) require_sorted(number_at<T>(number_labels_, c - 1) < number_at<T>(number_labels_, c));
            return n;
        });
    }
    require(found == classes, "classes must number ", classes, ", got ", found);
    label_dtype_ = dtype;
}

std::string Model::label(std::size_t c) const {
    require(c < tree().classes(), "c must be below ", tree().classes(), ", got ", c);
    if (label_dtype_.empty()) return std::to_string(c);
    if (number_labels_.empty()) return std::string(text_labels_[c]);
    if (label_dtype_ == "|b1") return number_labels_[c] ? "True" : "False";
    return with_number(label_dtype_, [&](auto type) {
        using T = decltype(type);
        const T value = number_at<T>(number_labels_, c);
        if constexpr (std::is_floating_point_v<T>)
            return shortest(value);
        else
            return std::to_string(value);
    });
}

}  // namespace sparseops
