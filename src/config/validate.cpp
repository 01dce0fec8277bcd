// Checks of ranges and of fields against each other. Upper bounds catch typing errors, and keep every product of sizes
// that is computed later within 64 bits.
#include <algorithm>
#include <cmath>

#include "norma/base/text.h"
#include "norma/config/config.h"
#include "norma/config/names.h"

#include "checker.h"

namespace norma {
namespace {

constexpr std::int64_t kMaxSteps = std::int64_t{1} << 53;  // steps and tokens are also counted in doubles
constexpr std::int64_t kMaxBatch = 1 << 24;
constexpr std::int64_t kMaxSeed = std::int64_t{1} << 62;  // leaves room to add the epoch

bool is_word(const std::string& text, std::string_view more) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           more.find(c) != std::string_view::npos;
  });
}

void check_run(const RunSettings& run, Checker& check) {
  const bool is_name = is_word(run.name, "._-") && run.name[0] != '.' && run.name.size() <= 128 &&
                       run.name.find("..") == std::string::npos;
  check.require(is_name, "run.name",
                cat("must be 1 to 128 letters, digits, '.', '_' or '-', without '..' and not starting with '.'; got '",
                    run.name, "'"));
  check.integer("run.seed", run.seed, 0, kMaxSeed);
  check.integer("run.threads", run.threads, 0, 4096);
}

void check_model(const ModelConfig& model, Checker& check) {
  check_attention(model, check);
  check.integer("model.num_layers", model.num_layers, 1, 10'000);
  check.integer("model.mlp_dim", model.mlp_dim, 1, std::int64_t{1} << 24);
  check_moe(model, check);
  if (check.integer("model.vocab_size", model.vocab_size, 1, std::int64_t{1} << 27)) {
    check.integer("model.embedding_rows", model.embedding_rows, model.vocab_size, std::int64_t{1} << 27);
    check.integer("model.document_separator", model.document_separator, 0, model.vocab_size - 1);
  }
  check.integer("model.sequence_length", model.sequence_length, 2, std::int64_t{1} << 24);
}

// Room norm checks the placement itself: names of presets, layers and sites.
void check_norm(const NormConfig& norm, const ModelConfig& model, Checker& check) {
  check.require(norm.kind != NormKind::none, "norm.kind", "must be rms or layer; got none");
  check.below("norm.eps", norm.eps, 0.0, 1.0);
  check.integer("norm.post_layers", norm.post_layers, 0, std::max<std::int64_t>(model.num_layers, 0));
  check.number("norm.mix_alpha", norm.mix_alpha, 0.0, 1.0);
}

// Bytes are counted in 64 bits. Parameters take at most 32 bytes each (fp64 weights, gradients and two moments), and
// activations at most 8 bytes per element; each of the two sums must stay below 2^62.
void check_memory(const RunConfig& config, Checker& check) {
  constexpr double kMostBytes = 4611686018427387904.0;  // 2^62
  const ModelConfig& m = config.model;
  const auto number = [](std::int64_t value) { return static_cast<double>(value); };
  const double layers = number(m.num_layers), d = number(m.d_model);
  const double experts = number(m.expert_width()), shared = number(m.shared_width());
  const bool has_experts = !m.moe_layers().empty();
  const double mlp_weights =
      std::max(number(m.mlp_dim), has_experts ? number(m.moe.num_experts) * (experts + 1.0) + shared : 0.0);
  const double mlp_kept = std::max(number(m.mlp_dim), has_experts ? number(m.moe.top_k) * (experts + d) + shared : 0.0);
  const AttentionSize attention = attention_size(m);
  const double norms = 6.0 * d + 2.0 * attention.widths;  // upper bound for one layer
  const double parameters =
      layers * (attention.parameters + d * 3.0 * mlp_weights + norms) + 2.0 * number(m.rows()) * d;
  if (!check.require(parameters <= kMostBytes / 32.0, "model",
                     cat("about ", parameters, " parameters, and at most 2^57 can be counted: lower model.d_model, ",
                         "model.mlp_dim, model.moe.num_experts, model.num_layers or model.embedding_rows"))) {
    return;
  }
  const std::int64_t micro_batch = config.train.micro_batch_size.value_or(config.train.global_batch_size);
  const double tokens = number(micro_batch) * number(m.sequence_length);
  const double kept = tokens * (layers * (2.0 * d + attention.widths + 3.0 * mlp_kept + norms) + d);
  check.require(
      kept <= kMostBytes / 16.0, "train.micro_batch_size",
      cat("the activations of a micro-batch must not pass 2^58 elements; got about ", kept, " of ",
          human_count(number(micro_batch)), " instances of ", human_count(number(m.sequence_length)), " tokens"));
}

void check_init(const InitConfig& init, Checker& check) {
  if (init.std) check.positive("init.std", *init.std);
  if (init.embedding_std) check.positive("init.embedding_std", *init.embedding_std);
  check.number("init.cutoff", init.cutoff, 0.0);
}

void check_paths(const std::string& key, const std::vector<std::string>& paths, Checker& check) {
  for (std::size_t i = 0; i < paths.size(); ++i) {
    const bool usable = !paths[i].empty() && paths[i].find('\0') == std::string::npos;
    check.require(usable, cat(key, "[", i, "]"), "must be the name of a file; got an empty one");
  }
}

void check_data(const RunConfig& config, Checker& check) {
  check_paths("data.paths", config.data.paths, check);
  check.integer("data.seed", config.data.seed, 0, kMaxSeed);
  check.integer("data.prefetch", config.data.prefetch, 1, 1024);
  check.require(config.data.dtype != TokenDtype::uint16 || config.model.vocab_size <= 65'536, "data.dtype",
                cat("uint16 holds ids up to 65,535; model.vocab_size is ", with_commas(config.model.vocab_size)));
}

void check_train(const TrainConfig& train, const ModelConfig& model, Checker& check) {
  const Duration& duration = train.max_duration;
  check.require(duration.value > 0 && duration.value <= static_cast<double>(kMaxSteps), "train.max_duration",
                cat("must be above 0 and at most 2^53 steps, tokens, epochs or minutes; got ", to_string(duration)));
  const bool batch = check.integer("train.global_batch_size", train.global_batch_size, 1, kMaxBatch);
  if (batch) check.integer("train.micro_batch_size", train.micro_batch_size, 1, train.global_batch_size);
  check.number("train.max_grad_norm", train.max_grad_norm, 0.0);
  check.number("train.z_loss", train.z_loss, 0.0);
  check.integer("train.loss_chunk", train.loss_chunk, 1, std::int64_t{1} << 24);
  check.integer("train.stop_at", train.stop_at, 1, kMaxSteps);

  const double step_tokens = static_cast<double>(train.global_batch_size) * static_cast<double>(model.sequence_length);
  if (duration.unit == DurationUnit::steps && batch) {
    check.require(duration.value * step_tokens <= static_cast<double>(kMaxSteps), "train.max_duration",
                  cat("steps * global_batch_size * sequence_length must not pass 2^53 tokens; got ",
                      to_string(duration), " steps of ", human_count(step_tokens), " tokens"));
  }
  const double micro = static_cast<double>(train.micro_batch_size.value_or(train.global_batch_size));
  const double experts = 2.0 * static_cast<double>(model.moe.top_k) * static_cast<double>(model.expert_width());
  const double widest =
      std::max(experts, static_cast<double>(std::max({model.d_model, 2 * model.mlp_dim, model.rows()})));
  check.require(micro * static_cast<double>(model.sequence_length) * widest < 9.2e18, "train.micro_batch_size",
                cat("one activation of the micro-batch would pass 2^63 elements; got ", human_count(micro),
                    " instances of ", human_count(static_cast<double>(model.sequence_length)), " tokens"));
}

void check_optim(const OptimConfig& optim, Checker& check) {
  check.positive("optim.lr", optim.lr);
  if (check.require(optim.betas.size() == 2, "optim.betas",
                    cat("must be two numbers, [0.9, 0.95]; got ", optim.betas.size()))) {
    check.below("optim.betas[0]", optim.betas[0], 0.0, 1.0);
    check.below("optim.betas[1]", optim.betas[1], 0.0, 1.0);
  }
  check.positive("optim.eps", optim.eps);  // 0 / 0 for weights without a gradient
  check.number("optim.weight_decay", optim.weight_decay, 0.0);
}

void check_schedule(const ScheduleConfig& schedule, Checker& check) {
  const bool warmup = check.integer("schedule.warmup", schedule.warmup, 0, kMaxSteps);
  if (schedule.t_max && warmup) check.integer("schedule.t_max", *schedule.t_max, schedule.warmup + 1, kMaxSteps);
  check.number("schedule.alpha_f", schedule.alpha_f, 0.0, 1.0);
  if (schedule.warmup_min_lr) check.number("schedule.warmup_min_lr", *schedule.warmup_min_lr, 0.0);
  check.require(schedule.kind != ScheduleKind::inverse_sqrt || schedule.warmup > 0, "schedule.warmup",
                "must be above 0 for inverse_sqrt, whose rate is lr * sqrt(warmup / position); got 0");
  if (schedule.kind == ScheduleKind::wsd) {
    const std::int64_t room = schedule.t_max ? *schedule.t_max - schedule.warmup : kMaxSteps;
    if (room > 0) check.integer("schedule.decay", schedule.decay, 1, room);
  } else {
    check.require(schedule.decay == 0, "schedule.decay",
                  cat("is for schedule.kind: wsd only; the kind is ", enum_name(schedule.kind)));
  }
}

void check_parallel(const ParallelConfig& parallel, Checker& check) {
  constexpr std::int64_t kMaxProcesses = 1 << 20;
  constexpr double kMaxSeconds = 1e7;
  if (check.integer("parallel.replicas", parallel.replicas, 1, kMaxProcesses)) {
    check.require(!parallel.replicas || parallel.strategy == Strategy::hybrid, "parallel.replicas",
                  cat("is for parallel.strategy: hybrid only; the strategy is ", enum_name(parallel.strategy)));
  }
  check.integer("parallel.recompute_n", parallel.recompute_n, 1, 10'000);
  check.integer("parallel.check_replicas_every", parallel.check_replicas_every, 0, kMaxSteps);
  for (std::size_t i = 0; i < parallel.console_ranks.size(); ++i) {
    check.integer(cat("parallel.console_ranks[", i, "]"), parallel.console_ranks[i], 0, kMaxProcesses);
  }
  check.number("parallel.timeouts.start", parallel.timeouts.start, 1.0, kMaxSeconds);
  check.number("parallel.timeouts.training", parallel.timeouts.training, 1.0, kMaxSeconds);
  check.number("parallel.timeouts.grace", parallel.timeouts.grace, 0.0, kMaxSeconds);
}

void check_eval(const EvalConfig& eval, Checker& check) {
  check.integer("eval.every", eval.every, 0, kMaxSteps);
  check.integer("eval.batch_size", eval.batch_size, 1, kMaxBatch);
  check.integer("eval.max_instances", eval.max_instances, 0, kMaxSteps);
  check.integer("eval.task_documents", eval.task_documents, 0, kMaxSteps);
  check.integer("eval.batch_tokens", eval.batch_tokens, 1, std::int64_t{1} << 30);
  check.integer("eval.context_length", eval.context_length, 2, std::int64_t{1} << 24);
  for (const auto& [label, paths] : eval.sets) {
    const std::string key = cat("eval.sets.", label);
    check.require(is_word(label, "_-"), key, "a label is made of letters, digits, '_' and '-'");
    check.require(!paths.empty(), key, "needs at least one token file");
    check_paths(key, paths, check);
  }
}

}  // namespace

Problems validate(const RunConfig& config) {
  Checker check;
  check_run(config.run, check);
  check_model(config.model, check);
  check_norm(config.norm, config.model, check);
  check_init(config.init, check);
  check_data(config, check);
  check_train(config.train, config.model, check);
  if (check.empty()) check_memory(config, check);  // sizes that are each within their range
  check_optim(config.optim, check);
  check_schedule(config.schedule, check);
  check.integer("checkpoint.every", config.checkpoint.every, 0, kMaxSteps);
  check.require(!config.checkpoint.resume.empty(), "checkpoint.resume",
                "must be auto, none or a checkpoint folder; got nothing");
  check_parallel(config.parallel, check);
  check_eval(config.eval, check);
  check.integer("metrics.every", config.metrics.every, 1, kMaxSteps);
  check.integer("metrics.console_every", config.metrics.console_every, 1, kMaxSteps);
  check.integer("metrics.trace_steps", config.metrics.trace_steps, 0, 1000);
  check.integer("metrics.trace_from", config.metrics.trace_from, 1, kMaxSteps);
  check.integer("metrics.parameters_every", config.metrics.parameters_every, 0, kMaxSteps);
  return check.take();
}

}  // namespace norma
