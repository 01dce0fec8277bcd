#include "option_checks.h"

#include <algorithm>

#include "norma/base/file.h"
#include "norma/base/text.h"
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

void check_output(const char* command, const char* option, const std::string& file) {
  if (file.empty()) return;
  const auto refuse = [&](const char* why) { throw ConfigError(cat("[", command, "] ", option, " ", file, " ", why)); };
  if (!fs::is_directory(fs::absolute(file).parent_path())) refuse("must lie in a folder that exists");
  if (fs::is_directory(file)) refuse("must be a file; it is a folder");
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
