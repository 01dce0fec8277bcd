// What came out of a run: its summary, and beside it what counting reaches and texts that its model wrote.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "norma/base/file.h"

namespace norma {

// ---- summary.json: how a run ended, and what it cost ----

enum class Outcome { finished, stopped };

struct Summary {
  std::string name;    // run.name
  std::string preset;  // norm.preset
  std::int64_t parameters = 0;
  Outcome outcome = Outcome::stopped;
  std::int64_t step = 0, max_steps = 0;
  std::int64_t tokens = 0;                                 // trained on, up to `step`
  double final_loss = 0.0, best_loss = 0.0;                // training cross-entropy, nats per token
  std::vector<std::pair<std::string, double>> validation;  // label -> cross-entropy of the last evaluation

  // In the training loop: steps, evaluation and saving, summed over the processes that trained the run one after the
  // other. Runs of older programs: of the last process.
  double seconds = 0.0;
  // Seconds and tokens of all steps of these processes but the first one of each and those that were traced. Evaluation
  // and saving are left out. Absent in runs of older programs.
  std::optional<double> training_seconds;
  std::optional<std::int64_t> training_tokens;
  // training_tokens / training_seconds, of all ranks together; 0 before there are any. Runs of older programs: that of
  // the last 20 steps.
  double tokens_per_second = 0.0;

  double flops_per_token_causal = 0.0, flops_per_token_full = 0.0;
  std::int64_t peak_memory_bytes = 0;  // rank 0's peak: allocated on a GPU, else resident

  template <class V>
  void visit(V&& v) {
    v("name", name);
    v("preset", preset);
    v("parameters", parameters);
    v("outcome", outcome);
    v("step", step);
    v("max_steps", max_steps);
    v("tokens", tokens);
    v("final_loss", final_loss);
    v("best_loss", best_loss);
    v("validation", validation);
    v("seconds", seconds);
    v("training_seconds", training_seconds);
    v("training_tokens", training_tokens);
    v("tokens_per_second", tokens_per_second);
    v("flops_per_token_causal", flops_per_token_causal);
    v("flops_per_token_full", flops_per_token_full);
    v("peak_memory_bytes", peak_memory_bytes);
  }
};

// Throws DiskError.
void write_summary(const fs::path& folder, const Summary& summary);

// Throws DataError naming the file and the key.
Summary read_summary(const fs::path& folder);

// ---- baseline.json: what counting reaches on the validation sets ----

// Cross-entropies of unigram and bigram counts on a validation set.
struct BaselineScores {
  double unigram_nats = 0.0, bigram_nats = 0.0;  // per token
  std::int64_t tokens = 0;                       // predicted ones
  bool operator==(const BaselineScores&) const = default;

  template <class V>
  void visit(V&& v) {
    v("unigram_nats", unigram_nats);
    v("bigram_nats", bigram_nats);
    v("tokens", tokens);
  }
};

// By label of a validation set. Scores under the label "" hold for every set that has no others.
using Baseline = std::map<std::string, BaselineScores>;

const BaselineScores* scores_of(const Baseline& baseline, const std::string& label);  // null: there are none

// JSON on one line: the scores themselves where they have no label, else an object per label.
std::string json_text(const Baseline& baseline);

Baseline read_baseline(const fs::path& file);            // throws DataError naming file and key
Baseline read_run_baseline(const fs::path& run_folder);  // likewise; empty when the run has none

// ---- samples.jsonl: texts that the model wrote ----

struct GeneratedText {
  std::string prompt, text;
  std::int64_t tokens = 0;
  std::string end;  // why it ended: "stop", "end_of_text" or "length"

  template <class V>
  void visit(V&& v) {
    v("prompt", prompt);
    v("text", text);
    v("tokens", tokens);
    v("end", end);
  }
};

// JSON lines, one per text. Throws DiskError.
void write_texts(const fs::path& file, const std::vector<GeneratedText>& texts);

// What samples.jsonl of a run folder holds, or sample.txt, which older scripts wrote; empty without either. Throws
// DataError naming file and line.
std::vector<GeneratedText> read_samples(const fs::path& run_folder);

}  // namespace norma
