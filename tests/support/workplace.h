// A folder in which the program can train a tiny model.
#pragma once

#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "norma/base/text.h"

#include "support/fixtures.h"
#include "support/program.h"

namespace norma::testing {

inline constexpr const char* kTinyConfig = R"(
run: {seed: 7, threads: 1}
model: {d_model: 32, num_layers: 2, num_heads: 4, num_kv_heads: 2, mlp_dim: 48, vocab_size: 61, embedding_rows: 64,
        sequence_length: 16}
data: {dtype: uint16}
train: {max_duration: 12, global_batch_size: 4, micro_batch_size: 3, z_loss: 1e-4}
optim: {lr: 1e-2}
schedule: {warmup: 4}
checkpoint: {every: 0}
eval: {every: 4, max_instances: 20}
metrics: {tensorboard: false, console_every: 1, parameters_every: 6}
)";

// A folder with a config, training tokens and validation tokens.
class Workplace {
 public:
  explicit Workplace(const std::string& config = kTinyConfig, std::int64_t tokens = 4000) {
    std::ofstream(folder_.path() / "tiny.yaml") << config;
    write_tokens(folder_.path() / "train.npy", tokens, 61);
    write_tokens(folder_.path() / "valid.npy", 700, 61);
  }
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }

  std::vector<std::string> train_arguments(const std::string& run, std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"train", path("tiny.yaml"), "data.paths=[" + path("train.npy") + "]",
                                          "eval.sets.v=[" + path("valid.npy") + "]", "run.folder=" + path(run)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  ProgramResult train(const std::string& run, const std::vector<std::string>& more = {}) const {
    return run_norma(train_arguments(run, more));
  }

 private:
  TemporaryFolder folder_;
};

// The program must have ended with this exit code, and all the texts must stand on standard error.
inline void expect_failure(const ProgramResult& result, int code, const std::vector<std::string>& texts) {
  EXPECT_EQ(result.exit_code, code) << result.err;
  for (const std::string& text : texts) {
    EXPECT_NE(result.err.find(text), std::string::npos) << "'" << text << "' is missing in:\n" << result.err;
  }
}

}  // namespace norma::testing
