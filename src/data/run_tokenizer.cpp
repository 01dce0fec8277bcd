#include "norma/data/run_tokenizer.h"

#include "norma/base/error.h"
#include "norma/data/token_file.h"

namespace norma {
namespace {

std::vector<fs::path> folders_to_search(const TokenizerSearch& search) {
  std::vector<fs::path> folders = {fs::current_path()};
  if (!search.working_folder.empty() && search.working_folder != folders[0]) {
    folders.emplace_back(search.working_folder);
  }
  return folders;
}

// `pattern` with its relative names starting at `base`, whose own characters mean themselves.
std::string pattern_in(const fs::path& base, const std::string& pattern) {
  if (fs::path(pattern).is_absolute()) return pattern;
  std::string escaped;
  for (const char c : (base / "").string()) {
    if (std::string_view("*?[\\").find(c) != std::string_view::npos) escaped += '\\';
    escaped += c;
  }
  return escaped + pattern;
}

struct Candidate {
  fs::path file;
  std::string wanted;  // its checksum; "" when nothing says so
};

std::vector<Candidate> find_candidates(const RunConfig& config, const std::vector<fs::path>& folders,
                                       const TokenizerSearch& search) {
  std::vector<Candidate> candidates;
  for (const fs::path& folder : folders) {
    const std::optional<TokenOrigin> origin = token_origin(config.data.paths, folder);
    if (config.data.tokenizer.empty() && !origin) continue;
    const fs::path file = config.data.tokenizer.empty() ? origin->tokenizer : folder / config.data.tokenizer;
    const std::string beside = origin ? origin->checksum : "";
    candidates.push_back({file, search.recorded_checksum.empty() ? beside : search.recorded_checksum});
  }
  return candidates;
}

std::string not_the_one(const fs::path& file, const std::string& checksum, const std::string& wanted) {
  return cat(file.string(), " is not the tokenizer that made this run's tokens: its checksum is ", checksum,
             ", theirs ", wanted);
}

// Where the search found nothing.
std::string search_text(const RunConfig& config, const std::vector<fs::path>& folders,
                        const std::vector<Candidate>& candidates) {
  if (candidates.empty() && config.data.paths.empty()) return "no tokenizer.json lies beside the weights";
  std::vector<std::string> names;
  for (const Candidate& candidate : candidates) names.push_back(candidate.file.string());
  if (!names.empty()) return "there is no " + join(names, " and no ");
  for (const fs::path& folder : folders) names.push_back(folder.string());
  return cat("no sidecar that names one lies beside data.paths, ", join(config.data.paths, ", "), ", seen from ",
             join(names, " or from "));
}

// Everything that decides which id ends a text.
FoundTokenizer found(const fs::path& file, const Tokenizer& tokenizer) {
  return {file, tokenizer, tokenizer.eos_id(), ""};
}

FoundTokenizer find_own(const RunConfig& config, const TokenizerSearch& search) {
  const std::vector<fs::path> folders = folders_to_search(search);
  const std::vector<Candidate> candidates = find_candidates(config, folders, search);
  std::string refused;
  for (const auto& [file, wanted] : candidates) {
    if (!fs::exists(file)) continue;
    Tokenizer tokenizer = Tokenizer::load(file);
    if (wanted.empty() || tokenizer.checksum() == wanted) return found(file, tokenizer);
    refused = not_the_one(file, tokenizer.checksum(), wanted);
  }
  if (!refused.empty()) {
    throw DataError(cat("[tokenizer] ", refused, "; name the right one with --tokenizer (or this one, to use it all ",
                        "the same)"));
  }
  throw DataError(cat("[tokenizer] there is none: ", search_text(config, folders, candidates),
                      "; name a tokenizer.json with --tokenizer"));
}

std::optional<FoundTokenizer> own_tokenizer(const RunConfig& config, const TokenizerSearch& search) {
  try {
    return find_own(config, search);
  } catch (const DataError&) {
    return std::nullopt;
  }
}

void check_size(const Tokenizer& tokenizer, const ModelConfig& model) {
  if (tokenizer.vocab_size() <= model.vocab_size) return;
  throw DataError(cat("[tokenizer] the tokenizer has ", with_commas(tokenizer.vocab_size()), " ids, the model only ",
                      with_commas(model.vocab_size), " (model.vocab_size): it is not this model's"));
}

// The first id of `own` that stands for another text in `given`.
std::optional<std::uint32_t> first_difference(const Tokenizer& own, const Tokenizer& given) {
  for (std::uint32_t id = 0; id < own.vocab_size(); ++id) {
    if (own.decode({&id, 1}) != given.decode({&id, 1})) return id;
  }
  return std::nullopt;
}

// A tokenizer that was given is used, unless its ids stand for other texts than those of the model's own.
FoundTokenizer load_given(const RunConfig& config, const TokenizerSearch& search) {
  FoundTokenizer given = found(search.given, Tokenizer::load(search.given));
  check_size(given.tokenizer, config.model);
  const auto own = own_tokenizer(config, search);
  if (own && own->tokenizer.checksum() != given.tokenizer.checksum()) {
    if (const auto id = first_difference(own->tokenizer, given.tokenizer)) {
      throw DataError(cat("[tokenizer] ", search.given, " has another vocabulary than the model's own, ",
                          own->file.string(), ": id ", *id, " stands for another text"));
    }
  }
  const std::string wanted = wanted_checksum(config, search);
  if (!wanted.empty() && given.tokenizer.checksum() != wanted) {
    given.warning = not_the_one(given.file, given.tokenizer.checksum(), wanted);
  }
  return given;
}

}  // namespace

std::optional<fs::path> tokenizer_in(const fs::path& folder) {
  const fs::path file = folder / kTokenizerFile;
  return fs::exists(file) ? std::optional(file) : std::nullopt;
}

std::optional<TokenOrigin> token_origin(const std::vector<std::string>& paths, const fs::path& base) {
  for (const std::string& pattern : paths) {
    for (const std::string& file : expand_glob(pattern_in(base, pattern))) {
      if (const auto sidecar = read_sidecar(file)) {
        return TokenOrigin{fs::path(file).parent_path() / sidecar->tokenizer, sidecar->tokenizer_checksum};
      }
    }
  }
  return std::nullopt;
}

std::string wanted_checksum(const RunConfig& config, const TokenizerSearch& search) {
  if (!search.recorded_checksum.empty()) return search.recorded_checksum;
  try {
    for (const fs::path& folder : folders_to_search(search)) {
      if (const auto origin = token_origin(config.data.paths, folder)) return origin->checksum;
    }
    return "";
  } catch (const DataError&) {
    return "";  // data that is damaged today says nothing about the tokenizer
  }
}

FoundTokenizer find_tokenizer(const RunConfig& config, const TokenizerSearch& search) {
  if (!search.given.empty()) return load_given(config, search);
  FoundTokenizer own = find_own(config, search);
  check_size(own.tokenizer, config.model);
  return own;
}

}  // namespace norma
