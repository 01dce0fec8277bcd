// norma plan: what a config costs, without data or a GPU.
#include <cstdio>
#include <memory>

#include "norma/base/json.h"
#include "norma/train/run_plan.h"

#include "checked_config.h"
#include "commands.h"

namespace norma {
namespace {

std::string plan_json(const RunPlan& plan) {
  Json json;
  json["preset"] = plan.config.norm.preset;
  json["parameters"] = plan.cost.parameters;
  json["norm_parameters"] = plan.cost.norm_parameters;
  json["embedding_parameters"] = plan.cost.embedding_parameters;
  json["used_parameters"] = plan.cost.used_parameters;
  json["flops_per_token_causal"] = plan.cost.flops_causal;
  json["flops_per_token_full"] = plan.cost.flops_full;
  json["memory_bytes"] = {{"weights", plan.memory.weights},
                          {"gradients", plan.memory.gradients},
                          {"optimizer", plan.memory.optimizer},
                          {"activations_estimate", plan.memory.activations}};
  json["tokens_per_step"] = plan.tokens_per_step;
  json["max_steps"] = plan.max_steps;
  return json.dump();
}

}  // namespace

void add_plan_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("plan", "Parameters, FLOPs per token, memory and the norm table of a config.");
  struct Arguments {
    std::string config;
    std::vector<std::string> overrides;
    bool json = false;
  };
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("config", arguments->config, "YAML file")->required();
  command->add_option("overrides", arguments->overrides, "key=value, applied in order on top of the file");
  command->add_flag("--json", arguments->json, "one JSON line instead of text");
  command->footer("Example: norma plan configs/1.2b.yaml norm.preset=pre");
  command->callback([arguments] {
    const CheckedConfig checked = load_checked_config(arguments->config, arguments->overrides);
    const RunPlan plan = make_run_plan(checked.config, checked.norms, /*batches_per_epoch=*/0);
    std::printf("%s\n", arguments->json ? plan_json(plan).c_str() : describe(plan).c_str());
  });
}

}  // namespace norma
