// What norma generate continues.
#pragma once

#include <string>
#include <vector>

namespace norma {

// Those of --prompt, then those of the file: in a .jsonl file the "prompt" of each object, else each line; empty lines
// are passed over. One empty prompt when nothing asks for any. Throws DataError naming file and line.
std::vector<std::string> gather_prompts(const std::vector<std::string>& given, const std::string& file);

}  // namespace norma
