// Regular expressions are written for Oniguruma (which the Hugging Face tokenizers library uses) and run by PCRE2.
// The two read many constructs differently and know different versions of Unicode, so an expression is parsed
// here, by an allow-list, and written anew in what both agree on.
//
//   literals           any character; \ before ASCII punctuation or a space; \t \n \r \f \v \a \e \xHH \x{H...} \uHHHH
//   classes            . [...] [^...] \s \S \w \W \d \D \p{..} \P{..} \p{^..} of general categories
//   groups             (...) (?:...) (?>...) (?i:...) (?-i:...) (?=...) (?!...) (?<=...) (?<!...)
//   repeats            ? * + and the same with ? or + after them; {n} {n,} {n,m}; {n,}? {n,m}?
//   anchors            ^ and $ (of a line), \A, \z
//
// Within (?i:...) only ASCII characters, and not the pairs (ss, st, ff, fi, fl) that fold to one character.
#pragma once

#include <string>

#include "norma/base/json.h"

#include "code_set.h"

namespace norma {

// The same expression for PCRE2 with PCRE2_UTF and PCRE2_MULTILINE. Throws an error at `where`, which is the pattern in
// its file, naming the construct that is not allowed.
std::string to_pcre(const std::string& pattern, const JsonLocation& where);

// A class "[...]" of exactly these code points; it matches nothing when there are none.
std::string class_text(const CodeSet& set);

}  // namespace norma
