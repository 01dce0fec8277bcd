#include "norma/eval/log_probabilities.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "norma/base/error.h"

#include "request_batches.h"

namespace norma {
namespace {

void check(const std::vector<ScoreRequest>& requests, const ScoringOptions& options) {
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const ScoreRequest& one = requests[i];
    if (one.context.empty() || one.continuation.empty()) {
      throw DataError(cat("[eval] request ", i, " has no ", one.context.empty() ? "context" : "continuation",
                          ": nothing can be scored"));
    }
    if (static_cast<std::int64_t>(one.continuation.size()) > options.context_length) {
      throw DataError(cat("[eval] request ", i, " has a continuation of ", one.continuation.size(),
                          " tokens; the model reads at most ", options.context_length));
    }
  }
}

// The tokens to score in one forward pass.
struct Targets {
  std::vector<std::int64_t> rows;  // of the flattened hidden states [B * T, D], each predicting one token
  std::vector<std::int64_t> tokens;
  std::vector<std::size_t> requests;  // the request that each belongs to

  void add(std::int64_t row, std::uint32_t token, std::size_t request) {
    rows.push_back(row);
    tokens.push_back(token);
    requests.push_back(request);
  }
};

class Scorer {
 public:
  Scorer(Transformer& model, UnitRunner& runner, const std::vector<ScoreRequest>& requests,
         const ScoringOptions& options)
      : model_(model), runner_(runner), requests_(requests), options_(options), sums_(requests.size(), 0.0) {}

  // The number of forward passes that a batch takes.
  static std::int64_t passes(const RequestBatch& batch) { return 1 + std::ssize(batch.tails); }

  void run(const RequestBatch& batch) { batch.shares_contexts ? run_questions(batch) : run_rows(batch); }

  // Passes whose results nobody uses: a sharded model needs every rank.
  void run_nothing(std::int64_t times) {
    const Targets nobodys{{0}, {0}, {}};
    for (std::int64_t i = 0; i < times; ++i) add_log_probabilities(at::zeros({1, 1}, at::kLong), nobodys, nullptr);
  }

  std::vector<double>& sums() { return sums_; }

 private:
  void run_rows(const RequestBatch& batch) {
    const auto rows = static_cast<std::int64_t>(batch.questions.size());
    const std::int64_t longest = RequestWindow(requests_[batch.questions[0][0]], options_.context_length).length();
    const at::Tensor ids = at::zeros({rows, longest}, at::kLong);  // [B, T], padded at the end: attention is causal
    auto* const data = ids.mutable_data_ptr<std::int64_t>();
    Targets targets;
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::size_t request = batch.questions[static_cast<std::size_t>(row)][0];
      const RequestWindow window(requests_[request], options_.context_length);
      const std::int64_t start = row * longest;
      for (std::int64_t t = 0; t < window.length(); ++t) data[start + t] = window.token(t);
      std::int64_t predicting = start + window.context_length() - 1;
      for (const std::uint32_t token : requests_[request].continuation) targets.add(predicting++, token, request);
    }
    add_log_probabilities(ids, targets, nullptr);
  }

  // The contexts fill a cache and predict each continuation's first token; then all continuations go on from it.
  void run_questions(const RequestBatch& batch) {
    const auto rows = static_cast<std::int64_t>(batch.questions.size());
    const auto length = static_cast<std::int64_t>(requests_[batch.questions[0][0]].context.size());
    const at::Tensor ids = at::empty({rows, length}, at::kLong);  // [Q, S]
    auto* const data = ids.mutable_data_ptr<std::int64_t>();
    Targets first;
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::vector<std::size_t>& question = batch.questions[static_cast<std::size_t>(row)];
      std::ranges::copy(requests_[question[0]].context, data + row * length);
      for (const std::size_t request : question) {
        first.add(row * length + length - 1, requests_[request].continuation[0], request);
      }
    }
    DecodeCache cache(length + (batch.tails.empty() ? 0 : tail_length(batch.tails[0][0])));
    add_log_probabilities(ids, first, &cache);
    for (const std::vector<Tail>& tails : batch.tails) run_tails(tails, cache);
  }

  std::int64_t tail_length(const Tail& tail) const { return std::ssize(requests_[tail.request].continuation) - 1; }

  // `tails` are sorted, the longest first.
  void run_tails(const std::vector<Tail>& tails, DecodeCache contexts) {
    const std::int64_t longest = tail_length(tails[0]);
    const at::Tensor ids = at::zeros({std::ssize(tails), longest}, at::kLong);  // [R, T]
    auto* const data = ids.mutable_data_ptr<std::int64_t>();
    Targets targets;
    std::vector<std::int64_t> rows;
    for (const Tail& tail : tails) {
      const auto& continuation = requests_[tail.request].continuation;
      const std::int64_t start = std::ssize(rows) * longest;
      for (std::size_t t = 0; t + 1 < continuation.size(); ++t) {
        data[start + static_cast<std::int64_t>(t)] = continuation[t];
        targets.add(start + static_cast<std::int64_t>(t), continuation[t + 1], tail.request);
      }
      rows.push_back(tail.context);
    }
    contexts.take_rows(rows);  // into tensors of their own: the other groups' contexts stay as they are
    add_log_probabilities(ids, targets, &contexts);
  }

  void add_log_probabilities(const at::Tensor& ids, const Targets& targets, DecodeCache* cache) {
    const auto on_device = [&](const std::vector<std::int64_t>& values) {
      return at::tensor(values, at::kLong).to(options_.device);
    };
    const at::Tensor of_tokens = model_
                                     .log_probabilities(ids.to(options_.device), on_device(targets.rows),
                                                        on_device(targets.tokens), options_.loss_chunk, runner_, cache)
                                     .to(at::kCPU, at::kDouble);  // [N]
    const auto* const values = of_tokens.const_data_ptr<double>();
    for (std::size_t i = 0; i < targets.requests.size(); ++i) sums_[targets.requests[i]] += values[i];
  }

  Transformer& model_;
  UnitRunner& runner_;
  const std::vector<ScoreRequest>& requests_;
  const ScoringOptions& options_;
  std::vector<double> sums_;
};

std::int64_t size_of(const RequestBatch& batch) {
  std::int64_t requests = 0;
  for (const auto& question : batch.questions) requests += static_cast<std::int64_t>(question.size());
  return requests;
}

}  // namespace

LogProbabilities score_requests(Transformer& model, UnitRunner& runner, const std::vector<ScoreRequest>& requests,
                                Peers& peers, const ScoringOptions& options) {
  check(requests, options);
  const c10::NoGradGuard no_grad;
  const std::vector<RequestBatch> batches =
      make_batches(requests, {options.batch_tokens, options.context_length, options.reuse_context});
  const auto ranks = static_cast<std::size_t>(peers.size()), rank = static_cast<std::size_t>(peers.rank());
  Scorer scorer(model, runner, requests, options);
  LogProbabilities result;
  std::int64_t done = 0;
  bool stopped = false;
  for (std::size_t begin = 0; begin < batches.size() && !stopped; begin += ranks) {
    const std::size_t end = std::min(begin + ranks, batches.size()), mine = begin + rank;
    std::int64_t passes = 0;
    for (std::size_t b = begin; b < end; ++b) {
      passes = std::max(passes, scorer.passes(batches[b]));
      done += size_of(batches[b]);
    }
    if (mine < end) scorer.run(batches[mine]);
    scorer.run_nothing(mine < end ? passes - scorer.passes(batches[mine]) : passes);
    const bool refused = options.progress && !options.progress(done, static_cast<std::int64_t>(requests.size()));
    std::vector<double> refusals = {refused ? 1.0 : 0.0};
    peers.sum(refusals);
    stopped = refusals[0] > 0.0;
  }
  peers.sum(scorer.sums());
  result.values = std::move(scorer.sums());
  result.complete = done == static_cast<std::int64_t>(requests.size());
  return result;
}

}  // namespace norma
