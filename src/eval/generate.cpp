#include "norma/eval/generate.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "norma/base/error.h"
#include "norma/base/random.h"

namespace norma {
namespace {

// The largest logit shows whether all are finite: a NaN counts as the largest.
void require_finite(const at::Tensor& largest) {
  if (at::isfinite(largest).item<bool>()) return;
  throw DivergedError("[generate] the logits are not finite: the model's weights or activations are not");
}

// The ids that top_k and top_p leave, most likely first, with their probabilities (not renormalized).
struct Candidates {
  at::Tensor ids;            // [n] int64
  std::vector<double> mass;  // running sum of probabilities
};

Candidates candidates(const at::Tensor& logits, const GenerateOptions& options) {
  const at::Tensor wide = logits.narrow(0, 0, options.vocab_size).to(at::kCPU, at::kDouble);
  const std::int64_t keep = options.top_k > 0 ? std::min(options.top_k, options.vocab_size) : options.vocab_size;
  auto [values, ids] = wide.div(options.temperature).topk(keep);
  require_finite(values[0]);
  const at::Tensor probability = at::softmax(values, 0);
  Candidates left{ids, {}};
  double sum = 0.0;
  const double* p = probability.const_data_ptr<double>();
  for (std::int64_t i = 0; i < keep && (i == 0 || sum < options.top_p); ++i) left.mass.push_back(sum += p[i]);
  return left;
}

// The prompts that are being continued, one per row.
class DecodeBatch {
 public:
  DecodeBatch(Transformer& model, UnitRunner& runner, const std::vector<TokenIds>& prompts,
              const GenerateOptions& options, const GenerateEvents& events)
      : model_(model),
        runner_(runner),
        prompts_(prompts),
        options_(options),
        events_(events),
        rows_(std::min(std::max<std::int64_t>(options.batch_rows, 1), static_cast<std::int64_t>(prompts.size()))),
        cache_(longest()),
        results_(prompts.size()) {}

  std::vector<TokenIds> run() {
    for (std::int64_t row = 0; row < rows_; ++row) {
      prompt_of_.push_back(0);
      last_.push_back(0);
      fill(row);
    }
    drop_idle_rows();
    while (!prompt_of_.empty() && !cancelled()) {
      step();
      drop_idle_rows();
    }
    return std::move(results_);
  }

 private:
  static constexpr std::size_t kIdle = static_cast<std::size_t>(-1);

  bool cancelled() const { return events_.cancelled && events_.cancelled(); }

  std::int64_t room(const TokenIds& prompt) const {
    const std::int64_t rest = model_.config().sequence_length - static_cast<std::int64_t>(prompt.size());
    return std::min(options_.max_tokens, rest);
  }

  std::int64_t longest() const {  // the most tokens that a row will hold
    std::int64_t most = 0;
    for (const TokenIds& prompt : prompts_) {
      most = std::max(most, static_cast<std::int64_t>(prompt.size()) + std::max<std::int64_t>(room(prompt) - 1, 0));
    }
    return most;
  }

  // Reads prompts into a row until one of them goes on after its first token.
  void fill(std::int64_t row) {
    const auto r = static_cast<std::size_t>(row);
    prompt_of_[r] = kIdle;
    for (; next_ < prompts_.size() && prompt_of_[r] == kIdle && !cancelled(); ++next_) {
      const TokenIds& prompt = prompts_[next_];
      NORMA_CHECK(!prompt.empty(), "[generate] a prompt must hold at least one token");
      if (room(prompt) <= 0) {
        end(next_, EndOfPrompt::length);
        continue;
      }
      DecodeCache own;
      const at::Tensor ids = at::tensor(prompt, at::kLong).unsqueeze(0).to(options_.device);  // [1, T]
      if (!take(next_, model_.next_logits(ids, runner_, own)[0])) continue;
      prompt_of_[r] = next_;
      last_[r] = results_[next_].back();
      cache_.set_row(row, own, rows_);
    }
  }

  // Draws the prompt's next token. Returns whether the prompt goes on.
  bool take(std::size_t prompt, const at::Tensor& logits) {
    TokenIds& result = results_[prompt];
    const std::int64_t token = sample_token(logits, options_, prompt, result.size());
    if (token == options_.end_of_text) return end(prompt, EndOfPrompt::end_of_text);
    result.push_back(token);
    if (events_.token && !events_.token(prompt, token)) return end(prompt, EndOfPrompt::stopped);
    const bool full = static_cast<std::int64_t>(result.size()) == room(prompts_[prompt]);
    return full ? end(prompt, EndOfPrompt::length) : true;
  }

  bool end(std::size_t prompt, EndOfPrompt reason) const {
    if (events_.end) events_.end(prompt, reason);
    return false;
  }

  // One token for every row.
  void step() {
    const at::Tensor ids = at::tensor(last_, at::kLong).unsqueeze(1).to(options_.device);  // [B, 1]
    const at::Tensor logits = model_.next_logits(ids, runner_, cache_).to(at::kCPU);       // [B, V]
    for (std::size_t r = 0; r < prompt_of_.size(); ++r) {
      const std::size_t prompt = prompt_of_[r];
      if (take(prompt, logits[static_cast<std::int64_t>(r)])) {
        last_[r] = results_[prompt].back();
      } else {
        fill(static_cast<std::int64_t>(r));
      }
    }
  }

  // Takes rows out of the batch. A row is idle only when no prompt waits for it.
  void drop_idle_rows() {
    std::vector<std::int64_t> kept;
    for (std::size_t r = 0; r < prompt_of_.size(); ++r) {
      if (prompt_of_[r] != kIdle) kept.push_back(static_cast<std::int64_t>(r));
    }
    if (kept.size() == prompt_of_.size()) return;
    for (std::size_t i = 0; i < kept.size(); ++i) {
      prompt_of_[i] = prompt_of_[static_cast<std::size_t>(kept[i])];
      last_[i] = last_[static_cast<std::size_t>(kept[i])];
    }
    prompt_of_.resize(kept.size());
    last_.resize(kept.size());
    if (!kept.empty()) cache_.take_rows(kept);
  }

  Transformer& model_;
  UnitRunner& runner_;
  const std::vector<TokenIds>& prompts_;
  const GenerateOptions& options_;
  const GenerateEvents& events_;
  std::int64_t rows_;
  DecodeCache cache_;
  std::vector<TokenIds> results_;
  std::vector<std::size_t> prompt_of_;  // by row
  TokenIds last_;                       // by row: the token that the model sees next
  std::size_t next_ = 0;                // the first prompt that was not read yet
};

}  // namespace

std::int64_t sample_token(const at::Tensor& logits, const GenerateOptions& options, std::size_t prompt,
                          std::uint64_t i) {
  if (options.temperature == 0.0) {
    const at::Tensor known = logits.narrow(0, 0, options.vocab_size);
    const std::int64_t best = known.argmax().item<std::int64_t>();
    require_finite(known[best]);
    return best;
  }
  const Candidates left = candidates(logits, options);
  const std::uint64_t stream = stream_key(options.seed, cat("generate.", prompt));
  const double point = uniform(stream, i) * left.mass.back();
  const auto chosen = std::upper_bound(left.mass.begin(), left.mass.end(), point) - left.mass.begin();
  const auto last = static_cast<std::int64_t>(left.mass.size()) - 1;
  return left.ids[std::min<std::int64_t>(chosen, last)].item<std::int64_t>();
}

std::vector<TokenIds> generate(Transformer& model, UnitRunner& runner, const std::vector<TokenIds>& prompts,
                               const GenerateOptions& options, const GenerateEvents& events) {
  const c10::NoGradGuard no_grad;
  return DecodeBatch(model, runner, prompts, options, events).run();
}

}  // namespace norma
