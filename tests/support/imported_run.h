// Logits of a run folder's newest checkpoint, as its manifest describes the model.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "norma/interop/model_source.h"
#include "norma/model/parameters.h"
#include "norma/model/transformer.h"
#include "norma/parallel/shard_engine.h"
#include "norma/train/checkpointing.h"

namespace norma::testing {

struct ImportedRun {
  explicit ImportedRun(const fs::path& run) {
    const ModelSource source = open_checkpoint_model(run);
    folder = source.folder;
    config = source.config;
    plan = source.norms;
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
