// What a validator has to say about a config. Validators return lists; the app attaches file and line and
// reports all of them at once.
#pragma once

#include <string>
#include <vector>

namespace norma {

struct Problem {
  std::string key;   // dotted config key, "model.num_heads"; empty when the file as a whole is meant
  int line = 0;      // line in the file the value came from; 0 = unknown (the app looks it up by key)
  std::string text;  // what is wrong, and what is allowed

  std::string argument = {};  // the override it stands in, as typed; empty = none, or unknown (looked up by key)
};
using Problems = std::vector<Problem>;

inline void append(Problems& all, Problems more) {
  all.insert(all.end(), more.begin(), more.end());
}

}  // namespace norma
