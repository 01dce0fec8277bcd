// Tables for people, and what stands in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace norma {

// Rows of cells as lines, columns as wide as their widest cell (in code points) and two spaces apart. The first
// `left_columns` are aligned to the left, the others, numbers, to the right. The first row has every column; later ones
// may end early.
std::string aligned(const std::vector<std::vector<std::string>>& rows, std::size_t left_columns);

// The same rows as a Markdown table. A bar in a cell is escaped.
std::string markdown(const std::vector<std::vector<std::string>>& rows);

// "[2, 16]".
std::string shape_text(const std::vector<std::int64_t>& shape);

}  // namespace norma
