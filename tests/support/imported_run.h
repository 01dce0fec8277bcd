// Logits of a run folder's newest checkpoint, as its manifest describes the model.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "norma/base/error.h"
#include "norma/checkpoint/commit.h"
#include "norma/config/yaml.h"
#include "norma/model/parameters.h"
#include "norma/model/transformer.h"
#include "norma/parallel/shard_engine.h"
#include "norma/train/checkpointing.h"

namespace norma::testing {

struct ImportedRun {
  explicit ImportedRun(const fs::path& run) : folder(find_newest_checkpoint(run).folder.value()) {
    const LoadedConfig loaded = parse_config(open_checkpoint(folder).config, "manifest");
    config = loaded.config;
    Problems problems = loaded.problems;
    append(problems, validate(config));
    plan = make_norm_plan(config.norm, config.model, problems);
    NORMA_CHECK(problems.empty(), join(describe(problems, loaded.source), "\n"));
    model = std::make_unique<Transformer>(config.model, plan);
    engine = std::make_unique<ShardEngine>(
        model->units(), model_layout(model_parameters(config.model, plan), config.optim), config.precision, at::kCPU);
    load_weights(folder, *engine);
  }

  at::Tensor logits(const at::Tensor& ids) {
    const c10::NoGradGuard no_grad;
    return model->logits(ids, *engine).to(at::kDouble);
  }

  fs::path folder;
  RunConfig config;
  NormPlan plan;
  std::unique_ptr<Transformer> model;
  std::unique_ptr<ShardEngine> engine;
};

}  // namespace norma::testing
