// The experts that a foreign config.json describes, by class.
#pragma once

#include "norma/base/json.h"
#include "norma/config/config.h"

namespace norma {

void read_olmoe_experts(const JsonObject& config, ModelConfig& model);
void read_qwen_experts(const JsonObject& config, ModelConfig& model);
void read_deepseek_v2_experts(const JsonObject& config, ModelConfig& model);
void read_deepseek_v3_experts(const JsonObject& config, ModelConfig& model);

}  // namespace norma
