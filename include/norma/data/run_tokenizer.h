// The tokenizer of a run, found again wherever the program is started, and with it the id that ends a text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "norma/config/config.h"
#include "norma/data/tokenizer.h"

namespace norma {

// The folder's tokenizer.json, if it has one.
std::optional<fs::path> tokenizer_in(const fs::path& folder);

// What the sidecars of token files say of their tokenizer.
struct TokenOrigin {
  fs::path tokenizer;    // beside the token files; it need not exist
  std::string checksum;  // of the tokenizer the tokens were made with
};

// The origin of the first file with a sidecar; nullopt when none has one. Relative names in `paths` start at `base`.
std::optional<TokenOrigin> token_origin(const std::vector<std::string>& paths, const fs::path& base);

// What is known of a run when its tokenizer is searched.
struct TokenizerSearch {
  std::string given;              // the file that the user named; "": none
  fs::path working_folder;        // where the run was started; "": unknown
  std::string recorded_checksum;  // of the tokenizer that made the run's tokens; "": not recorded
};

struct FoundTokenizer {
  fs::path file;
  Tokenizer tokenizer;
  std::optional<std::uint32_t> end_of_text;  // the id that ends a text; nullopt: the tokenizer has none
  std::string warning;                       // why it may be the wrong one, for the user to see; "": nothing is wrong
};

// The file that was given, else data.tokenizer, else the one beside the token files. Relative names in the config start
// at the working folder of this process or, when nothing is there, at the one of the run.
//
// Throws DataError: no tokenizer (says where it looked); one that did not make the run's tokens (if it was given, this
// is a warning where its vocabulary is the same or the run's own tokenizer is not to be found); one with more ids than
// model.vocab_size.
FoundTokenizer find_tokenizer(const RunConfig& config, const TokenizerSearch& search);

// The checksum of the tokenizer that made the run's tokens, as far as the run or the sidecars of its data say; else "".
std::string wanted_checksum(const RunConfig& config, const TokenizerSearch& search);

}  // namespace norma
