#include "prompts.h"

#include "norma/base/error.h"
#include "norma/base/json.h"

namespace norma {
namespace {

constexpr std::uint64_t kMaxFileBytes = 256 << 20;

std::string prompt_of(const std::string& line, const std::string& where) {
  const Json json = parse_json(line, where);
  const auto found = json.is_object() ? json.find("prompt") : json.end();
  if (!json.is_object() || found == json.end() || !found->is_string()) {
    throw DataError(cat("[generate] ", where, R"( must be an object with a text "prompt"; got )", line.substr(0, 80)));
  }
  return found->get<std::string>();
}

std::string without_return(std::string line) {
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

}  // namespace

std::vector<std::string> gather_prompts(const std::vector<std::string>& given, const std::string& file) {
  std::vector<std::string> prompts = given;
  if (file.empty()) {
    if (prompts.empty()) prompts.emplace_back();
    return prompts;
  }
  const bool is_json = fs::path(file).extension() == ".jsonl";
  std::size_t number = 0;
  for (const std::string& raw : split(read_file(file, kMaxFileBytes), '\n')) {
    const std::string line = without_return(raw);
    ++number;
    if (trim(line).empty()) continue;
    prompts.push_back(is_json ? prompt_of(line, cat(file, ":", number)) : line);
  }
  if (prompts.empty()) throw DataError(cat("[generate] ", file, " holds no prompt"));
  return prompts;
}

}  // namespace norma
