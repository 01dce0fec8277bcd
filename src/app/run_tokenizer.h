// The tokenizer of a run, found again wherever the program is started.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "norma/config/config.h"
#include "norma/data/tokenizer.h"

namespace norma {

// What the sidecars of token files say of their tokenizer.
struct TokenOrigin {
  fs::path tokenizer;    // beside the token files; it need not exist
  std::string checksum;  // of the tokenizer the tokens were made with
};

// Of the first file with a sidecar; nullopt when none has one. Relative names in `paths` start at `base`.
std::optional<TokenOrigin> token_origin(const std::vector<std::string>& paths, const fs::path& base);

// `given` (--tokenizer), else data.tokenizer, else the one beside the token files. Relative names in the config start
// at the working folder or, when nothing is there, at the one the run was started in (env.json in the run folder,
// which is `checkpoint`'s parent; an empty path: the run has only just started).
//
// Throws DataError: no tokenizer (says where it looked), one that did not make the run's tokens (of one that was given,
// a warning where its vocabulary is the same or the run's own is not to be found), one with more ids than
// model.vocab_size.
Tokenizer load_run_tokenizer(const std::string& given, const RunConfig& config, const fs::path& checkpoint);

// The same with the file it was read from.
struct FoundTokenizer {
  fs::path file;
  Tokenizer tokenizer;
};
FoundTokenizer find_run_tokenizer(const std::string& given, const RunConfig& config, const fs::path& checkpoint);

// Of the tokenizer that made the run's tokens, as far as the run or the sidecars of its data say; else "".
std::string run_tokenizer_checksum(const RunConfig& config, const fs::path& checkpoint);

}  // namespace norma
