#include "norma/eval/evaluation.h"

#include <algorithm>
#include <cmath>

#include "norma/base/error.h"
#include "norma/eval/tasks.h"

namespace norma {
namespace {

void require_finite(const std::string& label, double cross_entropy) {
  if (std::isfinite(cross_entropy)) return;
  throw DivergedError(cat("[eval] the cross-entropy of ", label, " is ", cross_entropy,
                          "; the model's weights or activations are not finite"));
}

// What all parts of one evaluation have in common.
class Evaluation {
 public:
  Evaluation(Transformer& model, UnitRunner& runner, const EvalConfig& config, Peers& peers,
             const EvaluationOptions& options)
      : model_(model), runner_(runner), config_(config), peers_(peers), options_(options) {}

  SetResult set(const EvalSet& set, const std::vector<std::int64_t>& token_bytes) {
    const PerplexityOptions by_instance{config_.batch_size, config_.max_instances, options_.loss_chunk, options_.device,
                                        progress_of(set.label)};
    SetResult result{set.label, evaluate_perplexity(model_, runner_, *set.dataset, peers_, by_instance), {}};
    if (result.by_instance.complete) require_finite(set.label, result.by_instance.cross_entropy);
    if (!result.by_instance.complete || !set.documents) return result;
    ScoringOptions options = scoring_options(set.label + " by document", model_.config().sequence_length);
    options.reuse_context = false;  // all documents start after the same token: there is nothing to gain
    result.by_document = evaluate_documents(model_, runner_, *set.documents, token_bytes, peers_, options);
    return result;
  }

  TaskResult task(const TokenizedTask& task) {
    return evaluate_task(model_, runner_, task, config_.task_documents, peers_,
                         scoring_options(task.name, context_length_of(config_, model_.config())));
  }

 private:
  std::function<bool(std::int64_t, std::int64_t)> progress_of(const std::string& what) const {
    if (!options_.progress) return {};
    return [this, what](std::int64_t done, std::int64_t total) { return options_.progress(what, done, total); };
  }

  ScoringOptions scoring_options(const std::string& what, std::int64_t context_length) const {
    return {config_.batch_tokens,  context_length,  options_.loss_chunk,
            config_.reuse_context, options_.device, progress_of(what)};
  }

  Transformer& model_;
  UnitRunner& runner_;
  const EvalConfig& config_;
  Peers& peers_;
  const EvaluationOptions& options_;
};

bool is_complete(const SetResult& result) {
  return result.by_instance.complete && (!result.by_document || result.by_document->complete);
}

}  // namespace

std::int64_t context_length_of(const EvalConfig& config, const ModelConfig& model) {
  return std::min(config.context_length, model.sequence_length);
}

EvaluationResult evaluate(Transformer& model, UnitRunner& runner, const EvaluationInput& input,
                          const EvalConfig& config, Peers& peers, const EvaluationOptions& options) {
  Evaluation evaluation(model, runner, config, peers, options);
  EvaluationResult result;
  for (const EvalSet& set : input.sets) {
    result.sets.push_back(evaluation.set(set, input.token_bytes));
    if (!is_complete(result.sets.back())) return result;
  }
  for (const TokenizedTask& task : input.tasks) {
    result.tasks.push_back(evaluation.task(task));
    if (!result.tasks.back().complete) return result;
  }
  result.complete = true;
  return result;
}

Metrics metrics_of(const EvaluationResult& result) {
  Metrics metrics;
  for (const SetResult& set : result.sets) {
    metrics.emplace_back(metrics::validation_loss(set.label), set.by_instance.cross_entropy);
    metrics.emplace_back(metrics::validation_perplexity(set.label), set.by_instance.perplexity());
    if (!set.by_document) continue;
    metrics.emplace_back(metrics::document_loss(set.label), set.by_document->nats_per_token.value);
    if (set.by_document->bits_per_byte) {
      metrics.emplace_back(metrics::bits_per_byte(set.label), set.by_document->bits_per_byte->value);
    }
  }
  for (const TaskResult& task : result.tasks) {
    metrics.emplace_back(metrics::task_score(task.name, metric_name(task.metric)), task.primary().value);
  }
  return metrics;
}

}  // namespace norma
