// OLMo's names of our parameters, of dense models (OLMo 2), OLMoE's and HybridNorm's, and how OLMo spells them as keys
// of a safetensors file.
//
//   embedding transformer.wte           embedding.norm transformer.emb_norm
//   head.norm transformer.ln_f          head           transformer.ff_out
//   of a block, after transformer.blocks.N.:
//   attention.qkv att_proj    attention.out attn_out    mlp.up_gate ff_proj    mlp.down ff_out
//   norm_q q_norm    norm_k k_norm    norm_v v_norm    norm_context c_norm
//   attention.norm_in attn_norm, mlp.norm_in ff_norm; where norms act on outputs (norm_after), those of norm_out
//   mlp.router ffn.router.layer
//   experts: ffn.experts.mlp.w1 gate, v1 up, w2 down, [E F, D]; w2 is not transposed, while our down is [E, D, F]
//
// Source: OLMo's olmo/model.py and checkpoint.py, megablocks' glu.py.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "norma/config/config.h"
#include "norma/interop/foreign_range.h"
#include "norma/model/parameters.h"
#include "norma/norm/plan.h"

namespace norma {

// Throws ConfigError naming the layer and the site, or the key, where OLMo's code has no such model.
void check_olmo_model(const ModelConfig& model, const NormPlan& plan);

// Every parameter in terms of OLMo's, in the model's order. Throws as check_olmo_model() does.
std::vector<ForeignRange> olmo_ranges(const ModelConfig& model, const NormPlan& plan);

// The same for one parameter of a model that is checked.
std::vector<ForeignRange> olmo_ranges_of(const ParameterSpec& parameter);

// The key of a tensor in OLMo's own encoding: URL-safe base64 of the pickle of ((name,), False).
std::string olmo_key(std::string_view name);

// The name in such a key; nullopt when it is anything else than a tensor under one name. Nothing is unpickled: the
// bytes are compared with the one form that olmo_key() writes.
std::optional<std::string> olmo_name(std::string_view key);

}  // namespace norma
