// Parts of config.json that several classes share, and the sections of our own class.
#pragma once

#include "norma/interop/hf_folder.h"

#include "hf_fields.h"

namespace norma {

void read_shape(const HfFields& config, ModelConfig& model);
void read_rope(const HfFields& config, bool may_scale, ModelConfig& model);
void read_grouped_heads(const HfFields& config, const std::string& type, ModelConfig& model);
void read_latent_heads(const HfFields& config, const std::string& type, ModelConfig& model);

// Our own class (src/interop/hf/): reads all keys that read_shape() does not into result.model, result.norm and
// result.plan.
void read_norma_model(const HfFields& config, HfModel& result);
// Adds the keys that read_norma_model() reads to `config`.
void write_norma_model(const ModelConfig& model, const NormPlan& plan, Json& config);

// The section norm_plan: every field of a plan. A site without a norm is null.
NormPlan read_norm_plan(const HfFields& plan, std::int64_t num_layers);
Json write_norm_plan(const NormPlan& plan);

// Adds rope_theta, rope_parameters and rope_scaling: the spellings of transformers 4 and 5.
void write_rope(const ModelConfig& model, Json& config);

}  // namespace norma
