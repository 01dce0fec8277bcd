// The experts that a foreign config.json describes, by class.
#pragma once

#include "norma/config/config.h"

#include "hf_fields.h"

namespace norma {

void read_olmoe_experts(const HfFields& config, ModelConfig& model);
void read_qwen_experts(const HfFields& config, ModelConfig& model);
void read_deepseek_v2_experts(const HfFields& config, ModelConfig& model);
void read_deepseek_v3_experts(const HfFields& config, ModelConfig& model);

}  // namespace norma
