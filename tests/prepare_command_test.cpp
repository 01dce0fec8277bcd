// From text to tokens as a user does it: scripts/train_tokenizer.py and norma prepare.
#include <csignal>
#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>

#include "norma/base/file.h"
#include "norma/base/text.h"

#include "support/errors.h"
#include "support/fixtures.h"
#include "support/program.h"
#include "support/small_tokenizer.h"

namespace norma {
namespace {

using testing::contains;
using testing::Program;
using testing::ProgramResult;
using testing::run_norma;

struct Workplace {
  testing::TemporaryFolder folder;

  Workplace() { std::ofstream(path("tokenizer.json")) << testing::small_tokenizer_json().dump(); }
  std::string path(const std::string& name) const { return (folder.path() / name).string(); }
};

void expect_usage_error(const ProgramResult& result, const std::vector<std::string>& parts) {
  EXPECT_EQ(result.exit_code, 2) << result.err;
  for (const std::string& part : parts) EXPECT_TRUE(contains(result.err, part));
}

TEST(PrepareCommand, TakesOneFile) {
  const Workplace work;
  std::ofstream text(work.path("one.txt"));
  for (int i = 0; i < 100; ++i) text << "a new low lower newer " << i << "\n\n";
  text.close();
  const std::vector<std::string> prepare = {"prepare", work.path("one.txt"), "--tokenizer",
                                            work.path("tokenizer.json")};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = prepare;
    all.insert(all.end(), more.begin(), more.end());
    return run_norma(all);
  };
  const ProgramResult done = with({"--out", work.path("tokens"), "--validation-fraction", "0.05"});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_NE(done.out.find("one document only"), std::string::npos) << done.out;
  EXPECT_TRUE(fs::exists(work.path("tokens/validation-00000.npy.json")));
  expect_usage_error(with({"--out", ""}), {"output folder", "empty"});
  expect_usage_error(with({"--out", work.path("t"), "--seed", "-1"}), {"--seed"});
  std::ofstream(work.path("one.txt"), std::ios::app) << "\xff";
  const ProgramResult repaired = with({"--out", work.path("repaired")});
  ASSERT_EQ(repaired.exit_code, 0) << repaired.err;
  EXPECT_NE(repaired.err.find("1 of the documents had ill-formed text"), std::string::npos) << repaired.err;
}

// A signal within a long document ends the command with the signal's exit code, and nothing is written.
TEST(PrepareCommand, EndsAtASignal) {
  const Workplace work;
  std::ofstream text(work.path("long.txt"));
  for (int i = 0; i < 4'000'000; ++i) text << "word" << i << ' ';
  text.close();
  for (const int signal : {SIGINT, SIGTERM}) {
    Program program(
        {"prepare", work.path("long.txt"), "--tokenizer", work.path("tokenizer.json"), "--out", work.path("tokens")});
    ASSERT_TRUE(program.wait_for("prepare"));
    program.send(signal);
    const ProgramResult result = program.wait();
    EXPECT_EQ(result.exit_code, 128 + signal) << result.err;
    EXPECT_NE(result.err.find("nothing was written"), std::string::npos) << result.err;
    EXPECT_TRUE(fs::is_empty(work.path("tokens")));
  }
}

TEST(TrainTokenizer, NamesABadLine) {
  if (std::system("python3 -c '' 2>/dev/null") != 0) GTEST_SKIP() << "no python3 is installed";
  const Workplace work;
  for (const char* line : {"{\"text\": null}", "{\"body\": \"x\"}", "[1]", "{"}) {
    std::ofstream(work.path("bad.jsonl")) << "{\"text\": \"good\"}\n" << line << "\n";
    const std::string command =
        cat("python3 '", NORMA_SOURCE_DIR, "/scripts/train_tokenizer.py' '", work.path("bad.jsonl"), "' --out '",
            work.path("t.json"), "' 2>'", work.path("err.txt"), "'");
    EXPECT_NE(std::system(command.c_str()), 0) << line;
    const std::string told = read_file(work.path("err.txt"), 1 << 20);
    EXPECT_NE(told.find("bad.jsonl:2: must be a JSON object"), std::string::npos) << told;
    EXPECT_EQ(told.find("Traceback"), std::string::npos) << told;
  }
}

}  // namespace
}  // namespace norma
