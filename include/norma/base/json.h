// JSON of foreign origin: size, depth and duplicate keys are checked while parsing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "norma/base/file.h"

namespace norma {

using Json = nlohmann::ordered_json;  // keeps the order of keys: files stay diffable

// Throws DataError with `where`, line and reason: syntax, nesting beyond max_depth, a key that stands twice.
Json parse_json(std::string_view text, const std::string& where, int max_depth = 64);

Json read_json(const fs::path& path, std::uint64_t max_bytes, int max_depth = 64);

}  // namespace norma
