// norma: the command line, and the one place where errors become exit codes.
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include <c10/util/Exception.h>

#include "norma/base/error.h"
#include "norma/base/log.h"

#include "commands.h"
#include "version.h"

namespace {

constexpr const char* kFooter =
    "Exit codes: 0 done, 1 a bug in norma, 2 usage or config, 3 data, 4 checkpoint, 5 diverged, 7 out of memory,\n"
    "8 disk, 75 stopped early with a good checkpoint (run the same command again to go on), 130/143 second signal.\n"
    "Every command explains itself: norma train --help";

// "what(): message" of LibTorch carries a C++ backtrace; people get the first line.
std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
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
  norma::add_generate_command(app);
  norma::add_inspect_command(app);
  norma::add_bench_command(app);
  norma::add_report_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : static_cast<int>(norma::ExitCode::usage);
  }
  return context.exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  norma::start_log(norma::LogLevel::info, "");
  try {
    return run(argc, argv);
  } catch (const norma::Error& error) {
    norma::log_error(error.what());
    return static_cast<int>(error.exit_code());
  } catch (const c10::OutOfMemoryError& error) {
    norma::log_error("[memory] the device is out of memory: " + first_line(error.what()) +
                     "; try a smaller train.micro_batch_size");
    return static_cast<int>(norma::ExitCode::memory);
  } catch (const std::bad_alloc&) {
    norma::log_error("[memory] out of memory; try a smaller train.micro_batch_size");
    return static_cast<int>(norma::ExitCode::memory);
  } catch (const std::exception& error) {
    norma::log_error(std::string("[internal] ") + error.what() + "\nThis is a bug in norma: please report it.");
    return static_cast<int>(norma::ExitCode::internal);
  }
}
