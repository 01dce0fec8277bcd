// norma: the command line, and the one place where errors become exit codes.
#include <cstdio>
#include <exception>
#include <filesystem>
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
  norma::add_generate_command(app, context);
  norma::add_inspect_command(app);
  norma::add_bench_command(app);
  norma::add_report_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : static_cast<int>(norma::ExitCode::usage);
  }
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    throw norma::DiskError("[output] what was printed could not be written");
  }
  return context.exit_code;
}

int fail(norma::ExitCode code, const std::string& text) {
  norma::log_error(text);
  return static_cast<int>(code);
}

int out_of_memory(const std::string& detail) {
  return fail(norma::ExitCode::memory,
              "[memory] " + detail + "; try a smaller train.micro_batch_size or train.loss_chunk");
}

// What LibTorch throws is an out-of-memory of either kind of device, or our bug.
int torch_error(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  if (text.find("can't allocate memory") != std::string::npos) return out_of_memory(first_line(text));
  return fail(norma::ExitCode::internal, "[internal] " + text + "\nThis is a bug in norma: please report it.");
}

}  // namespace

int main(int argc, char** argv) {
  norma::start_log(norma::LogLevel::info, "");
  try {
    return run(argc, argv);
  } catch (const norma::Error& error) {
    return fail(error.exit_code(), error.what());
  } catch (const c10::OutOfMemoryError& error) {
    return out_of_memory(first_line(error.what()));
  } catch (const c10::Error& error) {
    return torch_error(error);
  } catch (const std::bad_alloc&) {
    return out_of_memory("out of memory");
  } catch (const std::filesystem::filesystem_error& error) {
    return fail(norma::ExitCode::data, std::string("[file] ") + error.what());
  } catch (const std::exception& error) {
    return fail(norma::ExitCode::internal,
                std::string("[internal] ") + error.what() + "\nThis is a bug in norma: please report it.");
  }
}
