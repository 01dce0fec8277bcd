#include "run_tokenizer.h"

#include "norma/base/error.h"
#include "norma/base/log.h"
#include "norma/record/run_folder.h"

namespace norma {
namespace {

TokenizerSearch search_of(const std::string& given, const fs::path& checkpoint) {
  if (checkpoint.empty()) return {given, "", ""};
  try {
    const Environment environment = read_environment(fs::canonical(checkpoint).parent_path());
    return {given, environment.working_folder.value_or(""), environment.tokenizer_checksum.value_or("")};
  } catch (const DataError&) {
    return {given, "", ""};  // a checkpoint may lie anywhere, without its run
  }
}

}  // namespace

FoundTokenizer find_run_tokenizer(const std::string& given, const RunConfig& config, const fs::path& checkpoint) {
  FoundTokenizer found = find_tokenizer(config, search_of(given, checkpoint));
  if (!found.warning.empty()) log_warning(found.warning);
  return found;
}

std::string run_tokenizer_checksum(const RunConfig& config, const fs::path& checkpoint) {
  return wanted_checksum(config, search_of("", checkpoint));
}

}  // namespace norma
