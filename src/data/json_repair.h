// What Python's json reads beyond strict JSON, made strict.
#pragma once

#include <string>
#include <string_view>

namespace norma {

struct RepairedJson {
  std::string text;
  bool has_lone_surrogates = false;
};

// NaN, Infinity and numbers beyond a double become 0, lone surrogates ("\ud800") become U+FFFD. Every replacement has
// the length of what it replaces, so that offsets in the text stay valid.
RepairedJson repair_json(std::string_view json);

}  // namespace norma
