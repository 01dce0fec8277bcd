// Checks of command-line options beyond those of CLI11.
#pragma once

#include <CLI/CLI.hpp>

namespace norma {

// low <= value <= high and a number: CLI::Range lets "nan" pass.
CLI::Validator finite_range(double low, double high);

// What is wrong with a command line that holds a word nobody knows: the word, and the nearest one that is known. ""
// when every word found its place.
std::string unknown_word(const CLI::App& app);

}  // namespace norma
