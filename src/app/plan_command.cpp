// norma plan: what a config costs, without data or a GPU.
#include <algorithm>
#include <cstdio>
#include <memory>

#include "norma/base/error.h"
#include "norma/base/json.h"
#include "norma/base/text.h"
#include "norma/config/names.h"
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

// What a step of a mesh costs on paper.
struct MeshForecast {
  Traffic traffic;
  StepForecast step;
};

MeshForecast forecast_mesh(const RunPlan& plan, const PlanArguments& arguments) {
  const double tokens = static_cast<double>(plan.tokens_per_step) / arguments.world;
  return {forecast_traffic(plan.sharding),
          forecast_step(plan.sharding, arguments.links, plan.cost.flops_causal * tokens)};
}

// A mesh of --world processes on nodes of --per-node; one process alone is no mesh, whatever the config says of
// replicas.
Degrees degrees_of(const RunConfig& config, const PlanArguments& arguments) {
  if (arguments.world == 1) return {};
  if (config.train.global_batch_size < arguments.world) {
    throw ConfigError(cat("[plan] train.global_batch_size must be at least --world, ", arguments.world, "; got ",
                          config.train.global_batch_size));
  }
  LaunchEnvironment launch;
  launch.world_size = arguments.world;
  launch.local_world_size = std::min(arguments.world, arguments.links.processes_per_node);
  return mesh_degrees(config.parallel, launch);
}

Json to_json(const RankMemory& memory) {
  return {{"master_weights", memory.master_weights},
          {"compute_weights", memory.compute_weights},
          {"gradients", memory.gradients},
          {"gradient_pool", memory.gradient_pool},
          {"rounded_gradients", memory.rounded_gradients},
          {"optimizer", memory.optimizer},
          {"activations_estimate", memory.activations},
          {"total", memory.total()}};
}

Json mesh_json(const RunPlan& plan, const PlanArguments& arguments) {
  const MeshForecast forecast = forecast_mesh(plan, arguments);
  Json json;
  json["processes"] = arguments.world;
  json["strategy"] = std::string(enum_name(effective_strategy(plan.config.parallel, arguments.world)));
  json["shard_degree"] = plan.sharding.degrees.shard;
  json["replicate_degree"] = plan.sharding.degrees.replicate;
  json["bytes_per_step"] = {{"all_gather", forecast.traffic.gathered_bytes},
                            {"reduce_scatter", forecast.traffic.scattered_bytes},
                            {"all_reduce", forecast.traffic.reduced_bytes}};
  json["collectives_per_step"] = {{"all_gather", forecast.traffic.all_gathers},
                                  {"reduce_scatter", forecast.traffic.reduce_scatters},
                                  {"all_reduce", forecast.traffic.all_reduces}};
  json["seconds"] = {{"compute", forecast.step.compute_seconds},
                     {"shards", forecast.step.shard_seconds},
                     {"replicas", forecast.step.replica_seconds}};
  return json;
}

std::string plan_json(const RunPlan& plan, const PlanArguments& arguments) {
  Json json;
  json["preset"] = plan.config.norm.preset;
  json["parameters"] = plan.cost.parameters;
  json["active_parameters"] = plan.cost.active_parameters;
  json["norm_parameters"] = plan.cost.norm_parameters;
  json["embedding_parameters"] = plan.cost.embedding_parameters;
  json["used_parameters"] = plan.cost.used_parameters;
  json["flops_per_token_causal"] = plan.cost.flops_causal;
  json["flops_per_token_full"] = plan.cost.flops_full;
  json["memory_bytes"] = to_json(plan.memory);
  json["cache_bytes_per_token"] = cache_bytes_per_token(plan.config.model, plan.norms, plan.config.precision);
  json["tokens_per_step"] = plan.tokens_per_step;
  json["max_steps"] = plan.max_steps;
  if (arguments.world > 1) json["mesh"] = mesh_json(plan, arguments);
  return json.dump();
}

std::string percent(double part, double whole) {
  return whole > 0.0 ? cat(fixed(100.0 * part / whole, 1), " %") : "0 %";
}

std::string describe_mesh(const RunPlan& plan, const PlanArguments& arguments) {
  const auto [traffic, step] = forecast_mesh(plan, arguments);
  const Degrees& degrees = plan.sharding.degrees;
  std::string text =
      cat("mesh of ", arguments.world, " processes, ",
          enum_name(effective_strategy(plan.config.parallel, arguments.world)), ": ", degrees.shard, " shards x ",
          degrees.replicate, " replicas, ", arguments.links.processes_per_node, " processes a node\n");
  text += cat("sent per step     ", human_bytes(traffic.gathered_bytes), " in ", traffic.all_gathers, " all-gathers, ",
              human_bytes(traffic.scattered_bytes), " in ", traffic.reduce_scatters, " reduce-scatters, ",
              human_bytes(traffic.reduced_bytes), " in ", traffic.all_reduces, " all-reduces (each process)\n");
  text += cat("time per step     compute ", fixed(step.compute_seconds, 3), " s at ",
              fixed(arguments.links.flops / 1e12, 0), " TFLOP/s; shards ", fixed(step.shard_seconds, 3), " s ",
              step.shards_leave_node ? "between nodes" : "within a node", " (",
              percent(step.shard_seconds, step.seconds()), " of the step); replicas ", fixed(step.replica_seconds, 3),
              " s (", percent(step.replica_seconds, step.seconds()), "); hidden where compute takes longer\n");
  return text;
}

// Every parameter: name, shape, and what the optimizer does with it.
std::string parameter_table(const Layout& layout) {
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
  const RunPlan plan =
      make_run_plan(checked.config, checked.norms, /*batches_per_epoch=*/0, degrees_of(checked.config, arguments));
  if (arguments.json) {
    std::printf("%s\n", plan_json(plan, arguments).c_str());
    return;
  }
  std::printf("%s\n", describe(plan).c_str());
  if (arguments.world > 1) std::printf("%s", describe_mesh(plan, arguments).c_str());
  if (arguments.parameters) std::printf("\n%s", parameter_table(plan.sharding.layout).c_str());
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
  command
      ->add_option("--world", arguments->world, "number of processes: memory of each, and traffic and time of a step")
      ->check(CLI::Range(1, 1 << 20));
  command->add_option("--per-node", links.processes_per_node, "processes on each node")
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
