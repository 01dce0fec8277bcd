// norma eval as a user runs it: the numbers are the same for every batch size and number of processes, and the same as
// in the training loop; errors are named.
#include <cmath>
#include <random>

#include "support/eval_data_folder.h"
#include "support/job.h"
#include "support/small_tokenizer.h"

namespace norma {
namespace {

using testing::expect_exit;
using testing::expect_failure;
using testing::Job;
using testing::Program;
using testing::ProgramResult;
using testing::run_norma;
using Arguments = std::vector<std::string>;

constexpr const char* kConfig = R"(
run: {seed: 7, threads: 1}
model: {d_model: 32, num_layers: 2, num_heads: 4, num_kv_heads: 2, mlp_dim: 48, vocab_size: 280, sequence_length: 64}
data: {dtype: uint16}
train: {max_duration: 6, global_batch_size: 4}
optim: {lr: 1e-2}
schedule: {warmup: 2}
eval: {every: 3, tasks: [arc_easy, copa], by_document: true}
metrics: {tensorboard: false}
)";

std::string some_text(std::mt19937& random, int words) {
  static const std::vector<std::string> kWords = {"low", "lower", "new", "newer", "a", "12", "wer", "in", "é"};
  std::string text = kWords[random() % kWords.size()];
  for (int i = 1; i < words; ++i) text += " " + kWords[random() % kWords.size()];
  return text;
}

// Data of two tasks, 40 documents of different lengths, with which a run is trained.
class EvalWorkplace : public testing::Workplace {
 public:
  EvalWorkplace() : Workplace(kConfig) {
    testing::write(path("tokenizer.json"), testing::small_tokenizer_json().dump());
    std::mt19937 random(3);
    std::vector<nlohmann::json> questions, premises;
    for (int i = 0; i < 30; ++i) {
      std::vector<std::string> texts, labels;
      for (int c = 0; c < 4; ++c) {
        texts.push_back(some_text(random, 1 + static_cast<int>(random() % 6)));
        labels.emplace_back(1, static_cast<char>('A' + c));
      }
      questions.push_back({{"id", std::to_string(i)},
                           {"question", some_text(random, 3 + static_cast<int>(random() % 30))},
                           {"choices", {{"text", texts}, {"label", labels}}},
                           {"answerKey", labels[random() % 4]}});
      premises.push_back({{"premise", some_text(random, 5) + "."},
                          {"choice1", some_text(random, 4) + "."},
                          {"choice2", some_text(random, 6) + "."},
                          {"question", i % 2 == 0 ? "cause" : "effect"},
                          {"idx", i},
                          {"label", static_cast<int>(random() % 2)}});
    }
    premises.resize(10);
    data_.add("tables/ai2_arc/ARC-Easy/validation.jsonl", questions);
    data_.add("tables/super_glue/copa/validation.jsonl", premises);
    testing::write(path("valid.txt"), some_text(random, 900));
    std::string lines;
    for (int i = 0; i < 40; ++i) lines += nlohmann::json{{"text", some_text(random, 20)}}.dump() + "\n";
    testing::write(path("documents.jsonl"), lines);
  }

  ProgramResult train_here(const std::string& run, const Arguments& more = {}) const {
    Arguments all = {"data.tokenizer=" + path("tokenizer.json"), "eval.task_data=" + data(),
                     "eval.sets.v=[" + path("valid.txt") + "]", "eval.sets.d=[" + path("documents.jsonl") + "]"};
    all.insert(all.end(), more.begin(), more.end());
    return train(run, all);
  }
  Arguments eval_arguments(const std::string& run, const std::string& out, const Arguments& more = {}) const {
    Arguments all = {"eval",          path(run),
                     "--tasks",       "arc_easy,copa",
                     "--data",        data(),
                     "--out",         path(out),
                     "--predictions", path(out) + ".jsonl",
                     "--threads",     "1",
                     "--perplexity",  "v=" + path("valid.txt"),
                     "--perplexity",  "d=" + path("documents.jsonl")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Json evaluate(const std::string& run, const std::string& out, const Arguments& more = {}) const {
    const ProgramResult result = run_norma(eval_arguments(run, out, more));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return read_json(path(out), 1 << 24);
  }
  std::string data() const { return data_.root().string(); }

 private:
  testing::DataFolder data_;
};

// A run that is trained once for all cases, which only read it.
const EvalWorkplace& trained_run() {
  static const EvalWorkplace work;
  static const ProgramResult trained = work.train_here("run");
  EXPECT_EQ(trained.exit_code, 0) << trained.err;
  return work;
}

// Compares every number of two results with a relative tolerance; keys and texts must be equal.
void expect_near(const Json& a, const Json& b, double tolerance, const std::string& where = "") {
  if (a.is_number_float() && b.is_number()) {
    EXPECT_NEAR(a.get<double>(), b.get<double>(), tolerance * std::abs(a.get<double>())) << where;
    return;
  }
  if (!a.is_structured()) {
    EXPECT_EQ(a, b) << where;
    return;
  }
  ASSERT_EQ(a.size(), b.size()) << where;
  for (const auto& [key, value] : a.items()) {
    if (key != "predictions")
      expect_near(value, a.is_array() ? b.at(std::stoul(key)) : b.at(key), tolerance, cat(where, "/", key));
  }
}

std::vector<Json> predictions_of(const std::string& file) {
  std::vector<Json> lines;
  for (const std::string& line : split(read_file(file, 1 << 24), '\n')) {
    if (!line.empty()) lines.push_back(parse_json(line, file));
  }
  return lines;
}

TEST(EvalProgram, BatchesReuseAndProcessesChangeNothing) {
  const EvalWorkplace& work = trained_run();
  const Json whole = work.evaluate("run", "whole.json");
  EXPECT_EQ(whole.at("tasks").at("arc_easy").at("documents"), 30);
  EXPECT_EQ(whole.at("tasks").at("arc_easy").at("requests"), 120);
  EXPECT_GT(whole.at("tasks").at("arc_easy").at("cut_requests"), 0);  // requests longer than the model's context
  const std::vector<Json> predictions = predictions_of(work.path("whole.json.jsonl"));
  ASSERT_EQ(predictions.size(), 1U + 30U + 10U);
  const auto expect_equal_run = [&](const std::string& out) {
    expect_near(whole, read_json(work.path(out), 1 << 24), 1e-6);
    const std::vector<Json> other = predictions_of(work.path(out + ".jsonl"));
    ASSERT_EQ(other.size(), predictions.size());
    for (std::size_t i = 0; i < other.size(); ++i) expect_near(predictions[i], other[i], 1e-6, std::to_string(i));
  };
  for (const char* tokens : {"1", "448", "4096"}) {  // requests have up to 64 tokens: 1, 7 and 64 in a batch
    work.evaluate("run", "batched.json", {"--batch-tokens", tokens, "--batch-size", "3"});
    expect_equal_run("batched.json");
  }
  work.evaluate("run", "reused.json", {"--reuse-context", "--batch-tokens", "300"});
  expect_equal_run("reused.json");
  for (const int world : {2, 3}) {
    Job job(world, [&](int rank, const testing::Environment& environment) {
      Arguments arguments = work.eval_arguments("run", "ranks.json", {"--batch-tokens", "200", "--reuse-context"});
      if (world == 3) arguments.emplace_back("--shard");
      if (rank == 2) arguments[1] = work.path("nowhere");  // the model is the one that rank 0 names
      return std::make_unique<Program>(arguments, environment);
    });
    expect_exit(job.wait(), 0);
    expect_equal_run("ranks.json");
  }
}

TEST(EvalProgram, ANameThatIsNotUtf8IsWrittenAsFarAsItCanBe) {
  const EvalWorkplace& work = trained_run();
  fs::create_directory_symlink(work.path("run"), work.path("caf\xe9"));
  const Json results = work.evaluate("caf\xe9", "results.json");
  EXPECT_NE(results.at("model").get<std::string>().find("caf"), std::string::npos);
  EXPECT_EQ(predictions_of(work.path("results.json.jsonl")).size(), 1U + 30U + 10U);
}

TEST(EvalProgram, TheLoopAndTheCommandGiveTheSameNumbers) {
  const EvalWorkplace& work = trained_run();
  Json offline = work.evaluate("run", "results.json");
  Json logged;
  for (const Json& line : predictions_of(work.path("run/metrics.jsonl"))) {
    if (line.contains("eval/v/CrossEntropyLoss")) logged = line;
  }
  EXPECT_EQ(logged.at("eval/d/BitsPerByte"),
            offline.at("sets").at("d").at("by_document").at("bits_per_byte").at("value"));
  const Json &set = offline.at("sets").at("v"), &tasks = offline.at("tasks");
  EXPECT_EQ(logged.at("eval/v/CrossEntropyLoss"), set.at("cross_entropy"));
  EXPECT_EQ(logged.at("eval/v/TokenCrossEntropyLoss"), set.at("by_document").at("nats_per_token").at("value"));
  EXPECT_EQ(logged.at("eval/v/BitsPerByte"), set.at("by_document").at("bits_per_byte").at("value"));
  EXPECT_EQ(logged.at("eval/downstream/arc_easy_acc"), tasks.at("arc_easy").at("value"));
  EXPECT_EQ(logged.at("eval/downstream/copa_acc"), tasks.at("copa").at("value"));
  EXPECT_EQ(logged.at("step"), offline.at("step"));
  offline.erase("predictions");  // not written below, where the command takes the run's own evaluation
  ASSERT_EQ(
      run_norma({"eval", work.path("run"), "--data", work.data(), "--out", work.path("own.json"), "--threads", "1"})
          .exit_code,
      0);
  expect_near(offline, read_json(work.path("own.json"), 1 << 24), 0.0);
}

TEST(EvalProgram, SaysWhatIsWrong) {
  const EvalWorkplace& work = trained_run();
  const auto eval = [&](const Arguments& more) {
    Arguments all = {"eval", work.path("run"), "--data", work.data()};
    all.insert(all.end(), more.begin(), more.end());
    return run_norma(all);
  };
  expect_failure(eval({"--tasks", "hellaswg"}), 2, {"hellaswg", "did you mean 'hellaswag'"});
  expect_failure(eval({"--tasks", "nothing_*"}), 2, {"nothing_*"});
  expect_failure(eval({"--tasks", "piqa"}), 3, {"piqa", "fetch_eval_data.sh"});
  expect_failure(run_norma({"eval", work.path("run"), "--tasks", "copa", "--data", work.path("no")}), 3,
                 {"index.json", "fetch_eval_data.sh"});
  expect_failure(eval({"--perplexity", "books"}), 2, {"label=FILE", "books"});
  expect_failure(eval({"--perplexity", "v=" + work.path("none.npy")}), 3, {"eval.sets.v", "none.npy"});
  expect_failure(eval({"--tasks", "copa", "--precision", "fp16"}), 2, {"--precision", "fp16", "bf16"});
  expect_failure(eval({"--tasks", "copa", "--tokenizer", work.path("tiny.yaml")}), 3, {"tiny.yaml", "JSON"});
  nlohmann::json large = testing::small_tokenizer_json();
  for (int i = 0; i < 20; ++i) large["model"]["vocab"][cat("extra", i)] = 400 + i;
  testing::write(work.path("large.json"), large.dump());
  expect_failure(eval({"--tasks", "copa", "--tokenizer", work.path("large.json")}), 3, {"large.json"});
  expect_failure(run_norma({"eval", work.path("nowhere"), "--tasks", "copa"}), 4, {"nowhere"});
  expect_failure(run_norma({"eval"}), 2, {"which model"});
  expect_failure(eval({"--tasks", "copa", "--context-length", "2"}), 3, {"copa", "no document fits"});
  expect_failure(eval({"--perplexity", "v=" + work.path("valid.txt"), "--instance-length", "65"}), 2,
                 {"--instance-length must be 2 to 64"});
  expect_failure(eval({"--tasks", "copa", "--out", work.path("run")}), 2, {"must be a file"});
  expect_failure(eval({"--tasks", "copa", "--out", work.path("no/r.json")}), 2, {"must lie in a folder"});
  expect_failure(eval({"--tasks", "copa", "--out", work.path("r"), "--predictions", work.path("r")}), 2, {"two files"});
  expect_failure(run_norma({"eval", "--list", "--tasks", "copa"}), 2, {"--tasks means nothing beside --list"});
  expect_failure(run_norma({"eval", "--compare", work.path("a"), "--shard"}), 2, {"--shard means nothing beside"});
  expect_failure(eval({"--perplexity", "v=" + work.path("valid.txt"), "--tokenizer", work.path("large.json")}), 3,
                 {"large.json"});
  EXPECT_EQ(run_norma({"eval", "--data", work.data(), "--tasks", "copa", work.path("run"), "--tokenizer",
                       work.path("tokenizer.json")})
                .exit_code,
            0);
  const std::string in_loop = work.train_here("other", {"eval.tasks=[copy]"}).err;
  EXPECT_NE(in_loop.find("did you mean 'copa'"), std::string::npos) << in_loop;
}

}  // namespace
}  // namespace norma
