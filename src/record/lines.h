// The lines of a text file, one by one and never all in memory.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "norma/base/error.h"
#include "norma/base/file.h"

namespace norma {

inline std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

// Calls take(where, line) for every line that is not blank; `where` is "FILE:NUMBER". Throws DataError when a line is
// longer than `most_bytes`.
template <class Take>
void for_each_line(std::string_view text, const fs::path& path, std::size_t most_bytes, const Take& take) {
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    const std::string where = cat(path.string(), ":", number);
    if (line.size() > most_bytes) {
      throw DataError(cat("[record] ", where, ": a line must have at most ",
                          human_bytes(static_cast<double>(most_bytes)), "; got ",
                          human_bytes(static_cast<double>(line.size()))));
    }
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) take(where, line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

}  // namespace norma
