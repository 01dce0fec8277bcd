#include "option_checks.h"

#include <algorithm>

#include "norma/base/file.h"
#include "norma/base/text.h"
#include "norma/checkpoint/manifest.h"
#include "norma/config/number.h"

namespace norma {
namespace {

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

}  // namespace

CLI::Validator finite_range(double low, double high) {
  const std::string range = cat(shortest(low), " to ", shortest(high));
  const auto check = [=](const std::string& text) {
    const std::optional<double> value = parse_double(text);
    return value && *value >= low && *value <= high ? "" : cat("must be a number from ", range, "; got ", text);
  };
  return {[=](std::string& text) { return check(text); }, cat("FLOAT in ", range)};
}

namespace {

// A path that a command is to write, outside of checkpoints.
class Output {
 public:
  Output(const char* command, const char* option, const std::string& path)
      : command_(command), option_(option), path_(without_slash(path)) {
    const fs::path parent = fs::absolute(path_).parent_path();
    if (fs::exists(parent / kManifestName)) {
      refuse("lies in a checkpoint, whose files must stay as they are; give another folder");
    }
  }

  const fs::path& path() const { return path_; }
  [[noreturn]] void refuse(const std::string& why) const {
    throw ConfigError(cat("[", command_, "] ", option_, " ", path_.string(), " ", why));
  }

 private:
  const char* command_;
  const char* option_;
  fs::path path_;
};

}  // namespace

fs::path output_file(const char* command, const char* option, const std::string& file,
                     const std::vector<std::string>& inputs) {
  if (file.empty()) return {};
  const Output output(command, option, file);
  const fs::path& path = output.path();
  if (!fs::is_directory(fs::absolute(path).parent_path())) output.refuse("must lie in a folder that exists");
  if (fs::is_directory(path)) output.refuse("must be a file; it is a folder");
  if (!fs::exists(path)) return path;
  if (!fs::is_regular_file(path)) output.refuse("must be a file; it is something else");
  for (const std::string& input : inputs) {
    std::error_code missing;
    if (fs::equivalent(path, input, missing)) output.refuse("would overwrite what the command reads");
  }
  return path;
}

fs::path output_folder(const char* command, const char* option, const std::string& folder) {
  const Output output(command, option, folder);
  const fs::path& path = output.path();
  if (!fs::exists(path)) return path;
  if (!fs::is_directory(path)) output.refuse("must be a folder; it is something else");
  if (!fs::is_empty(path)) output.refuse("is not empty; give a folder that does not exist yet");
  return path;
}

void refuse_other_options(const CLI::App& command, const std::string& with, const std::vector<std::string>& allowed) {
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = option->get_name();
    if (option->count() == 0 || name == with || std::ranges::find(allowed, name) != allowed.end()) continue;
    throw ConfigError(cat("[", command.get_name(), "] ", name, " means nothing beside ", with,
                          allowed.empty() ? "" : "; allowed: " + join(allowed, ", ")));
  }
}

std::string unknown_word(const CLI::App& app) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  const CLI::App& owner = chosen.empty() ? app : *chosen.front();
  const std::vector<std::string> words = app.remaining(/*recurse=*/true);
  if (words.empty()) return "";
  const auto option = std::find_if(words.begin(), words.end(), [](const std::string& w) { return w.starts_with('-'); });
  if (option == words.end() && chosen.empty()) {
    const std::vector<std::string> commands = command_names(app);
    return cat("unknown command '", words[0], "'", did_you_mean(words[0], commands), "; there are ",
               join(commands, ", "));
  }
  const std::string where = chosen.empty() ? "norma" : "norma " + owner.get_name();
  if (option == words.end()) return cat(where, " has no use for the argument '", words[0], "'; see ", where, " --help");
  const std::string name = option->substr(0, option->find('='));
  const std::vector<std::string> known = option_names(owner);
  if (std::find(known.begin(), known.end(), name) != known.end()) return cat("'", name, "' must follow ", where);
  return cat("unknown option '", name, "' of ", where, did_you_mean(name, known), "; see ", where, " --help");
}

}  // namespace norma
