// The commands of the program. Each registers its options on a CLI11 subcommand and runs from its callback.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace norma {

// A command sets `exit_code` when it ends without an exception but not with "done" (stopped early: 75).
struct CommandContext {
  std::vector<std::string> arguments;  // the whole command line, for the run folder
  int exit_code = 0;
};

void add_train_command(CLI::App& app, CommandContext& context);
void add_plan_command(CLI::App& app);
void add_prepare_command(CLI::App& app);
void add_eval_command(CLI::App& app, CommandContext& context);
void add_generate_command(CLI::App& app, CommandContext& context);
void add_inspect_command(CLI::App& app);
void add_export_command(CLI::App& app);
void add_import_command(CLI::App& app, CommandContext& context);
void add_bench_command(CLI::App& app);
void add_report_command(CLI::App& app);

}  // namespace norma
