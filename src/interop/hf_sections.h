// Parts of config.json that several classes share, and the sections of our own class.
#pragma once

#include "norma/base/json.h"
#include "norma/config/names.h"
#include "norma/interop/hf_folder.h"

namespace norma {

// Counts and sizes of a foreign config; the bound keeps sums and products of a few of them far from overflow.
inline constexpr IntegerRange kCounts{0, std::int64_t{1} << 40};

// The enumerator that a member names.
template <class E>
E read_enum(const JsonObject& json, const char* key) {
  return *parse_enum<E>(json.choice(key, enum_names<E>()));
}

void read_shape(const JsonObject& config, ModelConfig& model);
void read_rope(const JsonObject& config, bool may_scale, ModelConfig& model);
void read_grouped_heads(const JsonObject& config, const std::string& type, ModelConfig& model);
void read_latent_heads(const JsonObject& config, const std::string& type, ModelConfig& model);

// Our own class (src/interop/hf/): reads all keys that read_shape() does not into result.model, result.norm and
// result.plan.
void read_norma_model(const JsonObject& config, HfModel& result);
// Adds the keys that read_norma_model() reads to `config`.
void write_norma_model(const ModelConfig& model, const NormPlan& plan, Json& config);

// The section norm_plan: every field of a plan. A site without a norm is null.
NormPlan read_norm_plan(const JsonObject& plan, std::int64_t num_layers);
Json write_norm_plan(const NormPlan& plan);

// Adds rope_theta, rope_parameters and rope_scaling: the spellings of transformers 4 and 5.
void write_rope(const ModelConfig& model, Json& config);

}  // namespace norma
