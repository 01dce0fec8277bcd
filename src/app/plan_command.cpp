// norma plan: what a config costs, without data or a GPU.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

#include "norma/base/error.h"
#include "norma/base/json.h"
#include "norma/base/text.h"
#include "norma/config/names.h"
#include "norma/parallel/forecast.h"
#include "norma/train/run_plan.h"

#include "checked_config.h"
#include "commands.h"

namespace norma {
namespace {

struct PlanArguments {
  std::string config;
  std::vector<std::string> overrides;
  bool json = false;
  bool parameters = false;
  int world = 1;
  Links links;
};

// A mesh on paper: this many processes, on nodes of links.processes_per_node.
struct MeshPlan {
  Strategy strategy;
  Degrees degrees;
  Traffic traffic;
  ShardMemory memory;
  std::int64_t activations = 0;
  StepForecast step;
  bool saves_in_background = true;
};

MeshPlan plan_mesh(const CheckedConfig& checked, const RunPlan& plan, const PlanArguments& arguments) {
  LaunchEnvironment launch;
  launch.world_size = arguments.world;
  launch.local_world_size = std::min(arguments.world, arguments.links.processes_per_node);
  const RunConfig& config = checked.config;
  if (config.train.global_batch_size < arguments.world) {
    throw ConfigError(cat("[plan] train.global_batch_size must be at least --world, ", arguments.world, "; got ",
                          config.train.global_batch_size));
  }
  ForecastQuestion question;
  question.layout = model_layout(model_parameters(config.model, checked.norms), config.optim, config.train.freeze);
  question.degrees = mesh_degrees(config.parallel, launch);
  question.policy = engine_policy(config.parallel, arguments.world, question.layout.units.size());
  question.precision = config.precision;
  question.micro_batches = plan.num_micro_batches;
  question.tied = config.model.tie_embeddings;
  question.embedding_norm = checked.norms.embedding.present();
  const double tokens = static_cast<double>(plan.tokens_per_step) / arguments.world;
  return {effective_strategy(config.parallel, arguments.world),
          question.degrees,
          forecast_traffic(question),
          forecast_memory(question),
          plan.memory.activations,
          forecast_step(question, arguments.links, plan.cost.flops_causal * tokens),
          config.checkpoint.background};
}

Json to_json(const MeshPlan& mesh, int world) {
  Json json;
  json["processes"] = world;
  json["strategy"] = std::string(enum_name(mesh.strategy));
  json["shard_degree"] = mesh.degrees.shard;
  json["replicate_degree"] = mesh.degrees.replicate;
  json["memory_bytes"] = {{"master", mesh.memory.master},
                          {"gradients", mesh.memory.gradients},
                          {"optimizer", mesh.memory.optimizer},
                          {"compute", mesh.memory.compute},
                          {"gradient_pool", mesh.memory.gradient_pool},
                          {"activations_estimate", mesh.activations}};
  json["bytes_per_step"] = {{"all_gather", mesh.traffic.gathered_bytes},
                            {"reduce_scatter", mesh.traffic.scattered_bytes},
                            {"all_reduce", mesh.traffic.reduced_bytes}};
  json["collectives_per_step"] = {{"all_gather", mesh.traffic.all_gathers},
                                  {"reduce_scatter", mesh.traffic.reduce_scatters},
                                  {"all_reduce", mesh.traffic.all_reduces}};
  json["seconds"] = {{"compute", mesh.step.compute_seconds},
                     {"shards", mesh.step.shard_seconds},
                     {"replicas", mesh.step.replica_seconds}};
  return json;
}

std::string plan_json(const RunPlan& plan, const MeshPlan* mesh, int world) {
  Json json;
  json["preset"] = plan.config.norm.preset;
  json["parameters"] = plan.cost.parameters;
  json["active_parameters"] = plan.cost.active_parameters;
  json["norm_parameters"] = plan.cost.norm_parameters;
  json["embedding_parameters"] = plan.cost.embedding_parameters;
  json["used_parameters"] = plan.cost.used_parameters;
  json["flops_per_token_causal"] = plan.cost.flops_causal;
  json["flops_per_token_full"] = plan.cost.flops_full;
  json["memory_bytes"] = {{"weights", plan.memory.weights},
                          {"gradients", plan.memory.gradients},
                          {"optimizer", plan.memory.optimizer},
                          {"activations_estimate", plan.memory.activations}};
  json["cache_bytes_per_token"] = cache_bytes_per_token(plan.config.model, plan.norms, plan.config.precision);
  json["tokens_per_step"] = plan.tokens_per_step;
  json["max_steps"] = plan.max_steps;
  if (mesh != nullptr) json["mesh"] = to_json(*mesh, world);
  return json.dump();
}

std::string percent(double part, double whole) {
  return whole > 0.0 ? cat(fixed(100.0 * part / whole, 1), " %") : "0 %";
}

std::string describe(const MeshPlan& mesh, const PlanArguments& arguments) {
  const ShardMemory& memory = mesh.memory;
  const auto bytes = [](std::int64_t value) { return human_bytes(static_cast<double>(value)); };
  const StepForecast& step = mesh.step;
  std::string text =
      cat("mesh of ", arguments.world, " processes, ", enum_name(mesh.strategy), ": ", mesh.degrees.shard, " shards x ",
          mesh.degrees.replicate, " replicas, ", arguments.links.processes_per_node, " processes a node\n");
  text +=
      cat("per process       about ", bytes(memory.total() + mesh.activations), ": master weights ",
          bytes(memory.master), ", gradients ", bytes(memory.gradients), ", AdamW ", bytes(memory.optimizer),
          ", compute weights ", bytes(memory.compute), ", gradients in flight ",
          bytes(memory.gradient_pool + memory.rounded), ", activations ~", bytes(mesh.activations),
          mesh.saves_in_background ? cat("; while saving, on the host, ", bytes(memory.master + memory.optimizer)) : "",
          "\n");
  text += cat("sent per step     ", human_bytes(mesh.traffic.gathered_bytes), " in ", mesh.traffic.all_gathers,
              " all-gathers, ", human_bytes(mesh.traffic.scattered_bytes), " in ", mesh.traffic.reduce_scatters,
              " reduce-scatters, ", human_bytes(mesh.traffic.reduced_bytes), " in ", mesh.traffic.all_reduces,
              " all-reduces\n");
  text += cat("time per step     compute ", fixed(step.compute_seconds, 3), " s at ",
              fixed(arguments.links.flops / 1e12, 0), " TFLOP/s; shards ", fixed(step.shard_seconds, 3), " s ",
              step.shards_leave_node ? "between nodes" : "within a node", " (",
              percent(step.shard_seconds, step.seconds()), " of the step); replicas ", fixed(step.replica_seconds, 3),
              " s (", percent(step.replica_seconds, step.seconds()), "); hidden when compute is longer\n");
  return text;
}

// Every parameter: name, shape, and what the optimizer does with it.
std::string parameter_table(const CheckedConfig& checked) {
  const RunConfig& config = checked.config;
  const Layout layout = model_layout(model_parameters(config.model, checked.norms), config.optim, config.train.freeze);
  std::string text;
  for (const UnitLayout& unit : layout.units) {
    for (const TensorSpan& tensor : unit.tensors) {
      const char* treatment = tensor.frozen ? "frozen" : tensor.decay ? "decays" : "no decay";
      char line[256];
      std::snprintf(line, sizeof line, "%-44s %-20s %s\n", tensor.name.c_str(), shape_text(tensor.shape).c_str(),
                    treatment);
      text += line;
    }
  }
  return text;
}

void run_plan(const PlanArguments& arguments) {
  if (arguments.config.empty()) throw ConfigError("[plan] which config? For example: norma plan configs/1.2b.yaml");
  const CheckedConfig checked = load_checked_config(arguments.config, arguments.overrides);
  const RunPlan plan = make_run_plan(checked.config, checked.norms, /*batches_per_epoch=*/0, arguments.world);
  std::optional<MeshPlan> mesh;
  if (arguments.world > 1) mesh = plan_mesh(checked, plan, arguments);
  if (arguments.json) {
    std::printf("%s\n", plan_json(plan, mesh ? &*mesh : nullptr, arguments.world).c_str());
    return;
  }
  std::printf("%s\n", describe(plan).c_str());
  if (mesh) std::printf("%s", describe(*mesh, arguments).c_str());
  if (arguments.parameters) std::printf("\n%s", parameter_table(checked).c_str());
}

}  // namespace

void add_plan_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("plan", "Parameters, FLOPs per token, memory and the norm table of a config.");
  const auto arguments = std::make_shared<PlanArguments>();
  Links& links = arguments->links;
  command->add_option("config", arguments->config, "YAML file")->required();
  command->add_option("overrides", arguments->overrides,
                      "key=value or @FILE (a recipe, for example), applied in order on top of the file");
  command->add_flag("--json", arguments->json, "one JSON line instead of text");
  command->add_flag("--parameters", arguments->parameters, "also list every parameter by name");
  command->add_option("--world", arguments->world, "processes: also memory, traffic and time of each")
      ->check(CLI::Range(1, 1 << 20));
  command->add_option("--per-node", links.processes_per_node, "processes of a node")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  command->add_option("--node-bandwidth", links.within_node, "bytes/s that a process sends within its node")
      ->capture_default_str()
      ->check(CLI::Range(1.0, 1e15));
  command->add_option("--network-bandwidth", links.between_nodes, "bytes/s that a process sends to other nodes")
      ->capture_default_str()
      ->check(CLI::Range(1.0, 1e15));
  command->add_option("--flops", links.flops, "FLOP/s that a process reaches on this model")
      ->capture_default_str()
      ->check(CLI::Range(1.0, 1e18));
  command->footer(
      "Example: norma plan configs/1.2b.yaml norm.preset=pre\n"
      "         norma plan configs/1.2b.yaml parallel.strategy=hybrid --world 64");
  command->callback([arguments] { run_plan(*arguments); });
}

}  // namespace norma
