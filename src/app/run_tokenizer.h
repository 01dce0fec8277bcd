// The tokenizer of a run by what its folder records.
#pragma once

#include <string>

#include "norma/data/run_tokenizer.h"

namespace norma {

// find_tokenizer() with `given` (--tokenizer; "": none) and what env.json says in the run folder, which is
// `checkpoint`'s parent; an empty path: the run has only just started. Logs its warning.
FoundTokenizer find_run_tokenizer(const std::string& given, const RunConfig& config, const fs::path& checkpoint);

// wanted_checksum() of the same run.
std::string run_tokenizer_checksum(const RunConfig& config, const fs::path& checkpoint);

}  // namespace norma
