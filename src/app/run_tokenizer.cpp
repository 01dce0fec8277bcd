#include "run_tokenizer.h"

#include "norma/base/error.h"
#include "norma/base/log.h"
#include "norma/data/token_file.h"
#include "norma/record/run_folder.h"

namespace norma {
namespace {

// What a run's environment says of where the run was started; empty without one.
struct RunRecord {
  std::string working_folder, tokenizer_checksum;
};

RunRecord read_record(const fs::path& checkpoint) {
  try {
    const Environment environment = read_environment(fs::canonical(checkpoint).parent_path());
    return {environment.working_folder.value_or(""), environment.tokenizer_checksum.value_or("")};
  } catch (const DataError&) {
    return {};  // a checkpoint may lie anywhere, without its run
  }
}

std::vector<fs::path> folders_to_search(const RunRecord& record) {
  std::vector<fs::path> folders = {fs::current_path()};
  if (!record.working_folder.empty() && record.working_folder != folders[0]) {
    folders.emplace_back(record.working_folder);
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
                                       const RunRecord& record) {
  std::vector<Candidate> candidates;
  for (const fs::path& folder : folders) {
    const std::optional<TokenOrigin> origin = token_origin(config.data.paths, folder);
    if (config.data.tokenizer.empty() && !origin) continue;
    const fs::path file = config.data.tokenizer.empty() ? origin->tokenizer : folder / config.data.tokenizer;
    const std::string beside = origin ? origin->checksum : "";
    candidates.push_back({file, record.tokenizer_checksum.empty() ? beside : record.tokenizer_checksum});
  }
  return candidates;
}

std::string not_the_one(const fs::path& file, const std::string& checksum, const std::string& wanted) {
  return cat(file.string(), " is not the tokenizer that made this run's tokens: its checksum is ", checksum,
             ", theirs ", wanted);
}

// What was asked for in vain.
std::string search_text(const RunConfig& config, const std::vector<fs::path>& folders,
                        const std::vector<Candidate>& candidates) {
  if (candidates.empty() && config.data.paths.empty()) return "no tokenizer.json lies beside the weights";
  std::vector<std::string> places;
  for (const Candidate& candidate : candidates) places.push_back(candidate.file.string());
  if (!places.empty()) return "there is no " + join(places, " and no ");
  for (const fs::path& folder : folders) places.push_back(folder.string());
  return cat("no sidecar that names one lies beside data.paths, ", join(config.data.paths, ", "), ", seen from ",
             join(places, " or from "));
}

FoundTokenizer find_tokenizer(const RunConfig& config, const RunRecord& record) {
  const std::vector<fs::path> folders = folders_to_search(record);
  const std::vector<Candidate> candidates = find_candidates(config, folders, record);
  std::string refused;
  for (const auto& [file, wanted] : candidates) {
    if (!fs::exists(file)) continue;
    Tokenizer tokenizer = Tokenizer::load(file);
    if (wanted.empty() || tokenizer.checksum() == wanted) return {file, tokenizer};
    refused = not_the_one(file, tokenizer.checksum(), wanted);
  }
  if (!refused.empty()) {
    throw DataError(cat("[tokenizer] ", refused, "; name the right one with --tokenizer (or this one, to use it all ",
                        "the same)"));
  }
  throw DataError(cat("[tokenizer] there is none: ", search_text(config, folders, candidates),
                      "; name a tokenizer.json with --tokenizer"));
}

// Of the tokenizer that made the run's tokens; "" when nothing says so.
std::string wanted_checksum(const RunConfig& config, const RunRecord& record) {
  if (!record.tokenizer_checksum.empty()) return record.tokenizer_checksum;
  try {
    for (const fs::path& folder : folders_to_search(record)) {
      if (const auto origin = token_origin(config.data.paths, folder)) return origin->checksum;
    }
  } catch (const DataError&) {  // data that is damaged today says nothing about the tokenizer
  }
  return "";
}

std::optional<FoundTokenizer> own_tokenizer(const RunConfig& config, const RunRecord& record) {
  try {
    return find_tokenizer(config, record);
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

// A tokenizer that was named is used, unless its ids stand for other texts than those of the model's own.
FoundTokenizer load_given(const std::string& given, const RunConfig& config, const RunRecord& record) {
  const Tokenizer tokenizer = Tokenizer::load(given);
  check_size(tokenizer, config.model);
  const auto own = own_tokenizer(config, record);
  if (own && own->tokenizer.checksum() != tokenizer.checksum()) {
    if (const auto id = first_difference(own->tokenizer, tokenizer)) {
      throw DataError(cat("[tokenizer] ", given, " has another vocabulary than the model's own, ", own->file.string(),
                          ": id ", *id, " stands for another text"));
    }
  }
  const std::string wanted = wanted_checksum(config, record);
  if (!wanted.empty() && tokenizer.checksum() != wanted) {
    log_warning(not_the_one(given, tokenizer.checksum(), wanted));
  }
  return {given, tokenizer};
}

}  // namespace

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

std::string run_tokenizer_checksum(const RunConfig& config, const fs::path& checkpoint) {
  return wanted_checksum(config, checkpoint.empty() ? RunRecord{} : read_record(checkpoint));
}

FoundTokenizer find_run_tokenizer(const std::string& given, const RunConfig& config, const fs::path& checkpoint) {
  const RunRecord record = checkpoint.empty() ? RunRecord{} : read_record(checkpoint);
  if (!given.empty()) return load_given(given, config, record);
  FoundTokenizer found = find_tokenizer(config, record);
  check_size(found.tokenizer, config.model);
  return found;
}

Tokenizer load_run_tokenizer(const std::string& given, const RunConfig& config, const fs::path& checkpoint) {
  return find_run_tokenizer(given, config, checkpoint).tokenizer;
}

}  // namespace norma
