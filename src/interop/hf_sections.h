// Parts of config.json that several classes share, and all of our own class.
#pragma once

#include "norma/interop/hf_folder.h"

#include "hf_fields.h"

namespace norma {

void read_shape(const HfFields& config, ModelConfig& model);
void read_rope(const HfFields& config, bool may_scale, ModelConfig& model);
void read_grouped_heads(const HfFields& config, const std::string& type, ModelConfig& model);
void read_latent_heads(const HfFields& config, const std::string& type, ModelConfig& model);

// The class of src/interop/hf/: everything but what read_shape() reads, into result.model, result.norm, result.plan.
void read_norma_model(const HfFields& config, HfModel& result);
// The keys that read_norma_model() reads, added to `config`.
void write_norma_model(const ModelConfig& model, const NormPlan& plan, Json& config);

// norm_plan: every field of a plan, an absent site as null.
NormPlan read_norm_plan(const HfFields& plan, std::int64_t num_layers);
Json write_norm_plan(const NormPlan& plan);

// rope_theta, rope_parameters and rope_scaling: both spellings of transformers 4 and 5.
void write_rope(const ModelConfig& model, Json& config);

}  // namespace norma
