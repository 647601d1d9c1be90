// SPDX-License-Identifier: BSD-3-Clause
// Serves a saved model without Python: a row on standard input gives a line with its k likeliest classes on standard output.
//
//   top_k MODEL K < rows
//
// MODEL is what HSoftmaxClassifier.save or `sparseops train` wrote, or a tree with weights (sparseops/model_file.hpp). It is mapped:
// processes that serve the same file share its memory. A row is the numbers of a dense row, or for a model of bags
// feature:value pairs; the answer is label and log-probability, likeliest first, separated by tabs.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include <sparseops/bag.hpp>
#include <sparseops/model_file.hpp>
#include <sparseops/search.hpp>

namespace {

// What the tree takes: the numbers of the line, or the embedding bag of its features.
template <sparseops::Real T>
std::vector<T> read_row(const sparseops::Model& model, const sparseops::ModelWeights<T>& weights, const std::string& line) {
    std::istringstream in(line);
    std::vector<T> values;
    std::vector<std::int64_t> features;
    T value;
    if (weights.has_embedding()) {
        std::int64_t feature;
        for (char colon = 0; in >> feature >> colon >> value && colon == ':';) {
            features.push_back(feature);
            values.push_back(value);
        }
    } else {
        while (in >> value) values.push_back(value);
    }
    if (!in.eof()) throw std::invalid_argument(weights.has_embedding() ? "a row must be feature:value pairs" : "a row must be numbers");
    if (!weights.has_embedding()) return values;

    const std::int64_t indptr[] = {0, static_cast<std::int64_t>(features.size())};
    const sparseops::CsrView<const T, std::int64_t> row{indptr, features, values, model.features()};
    std::vector<T> hidden(weights.hidden());
    weights.embed(row, model.mode(), {hidden.data(), 1, hidden.size()}, 1);
    return hidden;
}

template <sparseops::Real T>
void serve(const sparseops::Model& model, const sparseops::ModelWeights<T>& weights, std::size_t k) {
    sparseops::SearchOptions options;
    options.k = std::min(k, model.tree().classes());
    std::vector<std::int64_t> classes(options.k);
    std::vector<T> log_probs(options.k);
    T bound;
    std::cout.precision(std::numeric_limits<T>::max_digits10);  // all bits
    for (std::string line; std::getline(std::cin, line);) {
        const std::vector<T> x = read_row(model, weights, line);
        sparseops::hsoftmax_search(model.tree(), weights.input({x.data(), 1, x.size()}), options, {classes.data(), 1, options.k},
                                   {log_probs.data(), 1, options.k}, std::span(&bound, 1));
        for (std::size_t j = 0; j < options.k; ++j)
            std::cout << (j > 0 ? "\t" : "") << model.label(static_cast<std::size_t>(classes[j])) << '\t' << log_probs[j];
        std::cout << std::endl;  // a reader that waits for the answer gets it
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const long k = argc == 3 ? std::atol(argv[2]) : 0;
        if (k < 1) throw std::invalid_argument("usage: top_k MODEL K < rows");
        const auto model = sparseops::Model::load(argv[1]);
        if (!model.has_weights()) throw std::invalid_argument("the file must hold weights beside the tree");
        std::visit([&](const auto& weights) { serve(model, weights, static_cast<std::size_t>(k)); }, model.weights());
    } catch (const std::exception& error) {
        std::cerr << "top_k: " << error.what() << '\n';
        return 2;
    }
}
