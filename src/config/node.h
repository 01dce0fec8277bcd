// YAML text as a tree of plain values. Its size is limited while it is parsed.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "norma/base/error.h"

namespace norma {

inline constexpr std::size_t kMaxYamlBytes = std::size_t{1} << 20;
inline constexpr int kMaxYamlDepth = 64;
inline constexpr std::size_t kMaxYamlNodes = 20000;  // an alias counts each time it is used

struct ConfigNode {
  enum class Kind { null, scalar, sequence, map };

  Kind kind = Kind::null;
  std::string text;     // of a scalar
  bool quoted = false;  // the scalar was in quotes (or was a block of text)
  int line = 0;         // counted from 1
  std::string key;      // of a map's child
  int key_line = 0;
  std::vector<ConfigNode> children;  // of a sequence or a map, in order
};

// Parses one YAML document. Faults that leave the rest readable (a key that is there twice, a tag) are added to
// `problems` and skipped; any other fault adds one problem and returns a null node.
ConfigNode parse_yaml(std::string_view text, Problems& problems);

// `text` in quotes for a message. Control characters are escaped and long text is cut.
std::string quote(std::string_view text);

}  // namespace norma
