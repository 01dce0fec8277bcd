// What a model costs before it runs: exact parameters and FLOPs, and an estimate of memory.
//
// FLOPs of a training step (forward and backward), per token. N: parameters used per token: the head counts, an input
// embedding of its own does not; of experts, top_k count; norm gains count too, as is usual. Two conventions are in use
// and a comparison must name its own:
//   causal: 6 N + 6 L (H E) T       full: 6 N + 12 L (H E) T   (PaLM, OLMo-core, nanoGPT)
// E is the width of a head; where values have another one, the mean of the two. Latent attention counts as trained, in
// its expanded form.
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
  std::int64_t active_parameters = 0;       // what a token meets: top_k experts of each layer, both tables
  std::int64_t used_parameters = 0;         // N above: those without an input table of its own
  double flops_causal = 0, flops_full = 0;  // per token
  double flops_olmo = 0;                    // as OLMo logs it: forward 2 N' + 4 L D T, backward twice that but with
                                            // all active ones; N' leaves the input table out, tied head too
};

// Bytes of one process at shard degree 1.
struct MemoryEstimate {
  std::int64_t weights = 0;  // master weights, and compute copies when they differ
  std::int64_t gradients = 0;
  std::int64_t optimizer = 0;    // m and v
  std::int64_t activations = 0;  // kept for the backward pass of one micro-batch, and the chunk of logits: an estimate
  std::int64_t total() const { return weights + gradients + optimizer + activations; }
};

// What generation keeps of each token, in all layers.
std::int64_t cache_bytes_per_token(const ModelConfig& model, const NormPlan& plan, Precision precision);

ModelCost model_cost(const ModelConfig& model, const NormPlan& plan);
MemoryEstimate memory_estimate(const RunConfig& config, const NormPlan& plan, std::int64_t micro_batch);

}  // namespace norma
