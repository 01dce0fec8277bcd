// norma: the command line, and the one place where errors become exit codes.
#include <cstdio>
#include <exception>
#include <string_view>

#include "norma/base/error.h"
#include "norma/base/log.h"
#include "norma/base/process.h"
#include "norma/parallel/job.h"
#include "norma/parallel/launch.h"

#include "commands.h"
#include "option_checks.h"
#include "version.h"

// Read by jemalloc as the program starts. Freed activations are needed again in the next step: they are not given back
// to the system. glibc's malloc cannot use a freed aligned block for another aligned one (its bug 14581), so that
// memory grew by gigabytes in an evaluation, where hardly two batches have the same shape.
extern "C" const char* malloc_conf;
const char* malloc_conf = "dirty_decay_ms:-1";

namespace {

constexpr const char* kFooter =
    "Exit codes: 0 done, 1 a bug in norma, 2 usage or config, 3 data, 4 checkpoint, 5 diverged, 6 lost peer,\n"
    "7 out of memory, 8 disk, 75 stopped early with a good checkpoint (run the same command again to go on),\n"
    "129/130/143 ended by a signal.\n"
    "Every command explains itself: norma train --help";

// Prints help and version; what is wrong with the command line goes to the user as a ConfigError or in CLI11's words.
int end_of_parsing(const CLI::App& app, const CLI::ParseError& error) {
  const auto code = static_cast<CLI::ExitCodes>(error.get_exit_code());
  if (code == CLI::ExitCodes::RequiredError || code == CLI::ExitCodes::ExtrasError) {
    const std::string unknown = norma::unknown_word(app);
    if (!unknown.empty()) throw norma::ConfigError("[usage] " + unknown);
  }
  return app.exit(error) == 0 ? 0 : static_cast<int>(norma::ExitCode::usage);
}

int run(int argc, char** argv) {
  CLI::App app{"Norma trains OLMo2-style language models in which the placement of every norm is a per-layer value.",
               "norma"};
  app.footer(kFooter);
  app.set_version_flag("--version", norma::version_text());
  app.require_subcommand(1);
  norma::CommandContext context{{argv, argv + argc}, 0};
  norma::add_train_command(app, context);
  norma::add_plan_command(app);
  norma::add_prepare_command(app);
  norma::add_eval_command(app, context);
  norma::add_generate_command(app, context);
  norma::add_inspect_command(app);
  norma::add_export_command(app);
  norma::add_import_command(app, context);
  norma::add_bench_command(app);
  norma::add_report_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    context.exit_code = end_of_parsing(app, error);
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    throw norma::DiskError("[output] what was printed could not be written");
  }
  return context.exit_code;
}

bool computes(std::string_view command) {
  return command == "train" || command == "bench" || command == "eval" || command == "generate";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && computes(argv[1])) norma::wait_without_spinning(argv);
  norma::let_writes_fail();
  norma::start_log(norma::LogLevel::info, "");
  try {
    return run(argc, argv);
  } catch (...) {
    const norma::Failure failure = norma::describe_failure(std::current_exception());
    norma::log_error(failure.text);
    norma::write_error_file(failure.text);
    return static_cast<int>(failure.code);
  }
}
