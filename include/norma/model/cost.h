// What a model costs before it runs: exact parameters and FLOPs, and an estimate of its activations.
//
// FLOPs of a training step (forward and backward), per token. N is the number of parameters that a token uses: the head
// counts, an input embedding of its own does not; top_k experts of each layer count; norm gains count too, as is usual.
// Two conventions are in use and a comparison must name its own:
//   causal: 6 N + 6 L (H E) T       full: 6 N + 12 L (H E) T   (PaLM, OLMo-core, nanoGPT)
// E is the width of a head, or the mean of both widths where values have another one than keys. Latent attention counts
// in its expanded form, the one that is trained.
#pragma once

#include <cstdint>
#include <vector>

#include "norma/config/config.h"
#include "norma/model/parameters.h"
#include "norma/norm/plan.h"

namespace norma {

struct ModelCost {
  std::int64_t parameters = 0;
  std::int64_t norm_parameters = 0;
  std::int64_t embedding_parameters = 0;    // the input table (a tied head included)
  std::int64_t active_parameters = 0;       // all but the experts that a token does not go to
  std::int64_t used_parameters = 0;         // N above: the active ones without an input table of its own
  double flops_causal = 0, flops_full = 0;  // per token
  double flops_olmo = 0;                    // as OLMo logs it: forward 2 N' + 4 L D T, backward twice that but with all
                                            // active parameters; N' leaves the input table out, even with a tied head
};

ModelCost model_cost(const ModelConfig& model, const NormPlan& plan);

// Bytes that the passes over one micro-batch of this many instances need at their peak beside weights, gradients and
// optimizer state: what is kept for the backward pass, and the larger of the head's logits and one block's gradients.
std::int64_t activation_bytes(const RunConfig& config, const NormPlan& plan, std::int64_t micro_batch);

// What generation keeps of each token, in all layers.
std::int64_t cache_bytes_per_token(const ModelConfig& model, const NormPlan& plan, Precision precision);

}  // namespace norma
