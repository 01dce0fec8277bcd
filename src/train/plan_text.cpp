// What a run plan says to people.
#include "norma/base/text.h"
#include "norma/config/names.h"
#include "norma/train/run_plan.h"

namespace norma {
namespace {

std::string attention_text(const ModelConfig& m) {
  if (!m.is_latent()) return cat(m.num_heads, " heads of ", m.head_width(), " (", m.kv_heads(), " kv)");
  const std::string queries = m.attention.q_rank ? cat(", query rank ", m.q_rank()) : "";
  return cat(m.num_heads, " latent heads of ", m.nope_dim(), " + ", m.rope_dim(), " and ", m.value_width(),
             " (kv rank ", m.kv_rank(), queries, ")");
}

std::string schedule_text(const RunPlan& plan) {
  const ScheduleConfig& s = plan.config.schedule;
  const std::string_view unit = enum_name(s.units);
  std::string text = cat(enum_name(s.kind), ", peak ", shortest(plan.config.optim.lr), ", warm-up ",
                         with_commas(s.warmup), " ", unit, ", final ", plan.config.optim.lr * s.alpha_f);
  if (s.t_max) text += cat(" at ", with_commas(*s.t_max), " ", unit);
  return text;
}

std::string length_text(const RunPlan& plan) {
  if (plan.max_steps == 0) {
    const Duration& duration = plan.config.train.max_duration;
    const bool is_time = duration.unit == DurationUnit::minutes;
    return cat(to_string(duration), " (steps follow from the ", is_time ? "measured speed)" : "data)");
  }
  std::string text =
      cat(with_commas(plan.max_steps), " steps, ", with_commas(plan.max_steps * plan.tokens_per_step), " tokens");
  if (plan.batches_per_epoch > 0) {
    const double epochs = static_cast<double>(plan.max_steps) / static_cast<double>(plan.batches_per_epoch);
    text += cat(", ", fixed(epochs, 2), " epochs of ", with_commas(plan.batches_per_epoch), " steps");
  }
  return text;
}

// "mlp 704", "8 experts of 352, 2 per token", and which layers, when not all.
std::string mlp_text(const ModelConfig& m) {
  const std::vector<std::int64_t> layers = m.moe_layers();
  if (layers.empty()) return cat("mlp ", m.mlp_dim);
  std::string text = cat(m.moe.num_experts, " experts of ", m.expert_width(), ", ", m.moe.top_k, " per token");
  if (m.moe.shared_experts > 0) text += cat(" and a shared one of ", m.shared_width());
  const auto count = static_cast<std::int64_t>(layers.size());
  return count == m.num_layers ? text : cat(text, " in ", count, " layers, else mlp ", m.mlp_dim);
}

// "about 1.2 GB per process: master weights 300 MB, ...", without the parts that this sharding does not have.
std::string memory_text(const RunPlan& plan) {
  const RankMemory& memory = plan.memory;
  const auto bytes = [](std::int64_t value) { return human_bytes(static_cast<double>(value)); };
  const std::pair<const char*, std::int64_t> parts[] = {
      {"master weights ", memory.master_weights},
      {"compute weights ", memory.compute_weights},
      {"gradients ", memory.gradients},
      {"gradients in flight ", memory.gradient_pool + memory.rounded_gradients},
      {"AdamW ", memory.optimizer},
      {"activations ~", memory.activations}};
  std::vector<std::string> texts;
  for (const auto& [name, value] : parts) {
    if (value > 0) texts.push_back(name + bytes(value));
  }
  std::string text = cat("about ", bytes(memory.total()), " per process: ", join(texts, ", "));
  if (plan.config.checkpoint.background) {
    text += cat("; a save copies ", bytes(memory.background_save()), " to the host");
  }
  return text;
}

}  // namespace

std::string describe(const RunPlan& plan) {
  const ModelConfig& m = plan.config.model;
  const ModelCost& cost = plan.cost;
  std::string text;
  const auto row = [&](const std::string& name, const std::string& value) {
    text += name + std::string(name.size() < 18 ? 18 - name.size() : 1, ' ') + value + "\n";
  };
  row("model", cat(m.num_layers, " layers, d_model ", m.d_model, ", ", attention_text(m), ", ", mlp_text(m), ", ",
                   m.rows(), " rows", m.tie_embeddings ? ", tied" : ""));
  row("parameters", cat(with_commas(cost.parameters), " (", with_commas(cost.norm_parameters), " in norms, ",
                        with_commas(cost.parameters - cost.embedding_parameters), " without the input embedding)"));
  if (cost.active_parameters != cost.parameters) {
    row("active per token", cat(with_commas(cost.active_parameters), " parameters, embedding and head included"));
  }
  row("FLOPs per token", cat(fixed(cost.flops_causal / 1e9, 3), " GF causal (6N + 6LdT), ",
                             fixed(cost.flops_full / 1e9, 3), " GF full (6N + 12LdT)"));
  row("precision", std::string(enum_name(plan.config.precision)));
  row("memory", memory_text(plan));
  const std::int64_t cached = cache_bytes_per_token(m, plan.norms, plan.config.precision);
  row("decoding cache", cat(with_commas(cached), " bytes per token, ",
                            human_bytes(static_cast<double>(cached) * static_cast<double>(m.sequence_length)), " for ",
                            with_commas(m.sequence_length), " tokens"));
  row("batch", cat(plan.config.train.global_batch_size, " x ", m.sequence_length, " = ",
                   with_commas(plan.tokens_per_step), " tokens per step, ", plan.num_micro_batches,
                   plan.num_micro_batches == 1 ? " micro-batch" : " micro-batches"));
  row("length", length_text(plan));
  row("learning rate", schedule_text(plan));
  row("placement", plan.config.norm.preset);
  text += cat("\n", to_table(plan.norms));
  for (const std::string& risk : known_risks(plan)) text += cat("\nrisk: ", risk);
  return text;
}

}  // namespace norma
