// Sets of code points, and the character classes that regular expressions and added tokens are written with.
// All of them are tables taken from the Hugging Face tokenizers library (Unicode 16.0), so that ids do not depend
// on the Unicode version of an installed library.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace norma {

struct CodeRange {
  char32_t first, last;  // inclusive
};

// Sorted ranges that neither touch nor overlap.
class CodeSet {
 public:
  CodeSet() = default;
  explicit CodeSet(std::vector<CodeRange> ranges);

  void add(char32_t first, char32_t last);
  void add(const CodeSet& other);
  CodeSet complement() const;  // all other code points; surrogates are in neither
  bool contains(char32_t code) const;
  const std::vector<CodeRange>& ranges() const { return ranges_; }

 private:
  std::vector<CodeRange> ranges_;
};

// General categories by the names that stand in \p{...}: "L", "Lu", "Letter" ...; nothing for other names.
std::optional<CodeSet> category_set(std::string_view name);

const CodeSet& letter_set();  // \p{L}
const CodeSet& number_set();  // \p{N}
const CodeSet& digit_set();   // \d
const CodeSet& space_set();   // \s
// \w within []: letters, marks, decimal and letter numbers, connectors, circled letters.
const CodeSet& word_set();
// What Digits cuts at: \p{N} of a later Unicode.
const CodeSet& component_digit_set();

}  // namespace norma
