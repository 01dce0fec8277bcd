// Statistics of every parameter, its gradient and its moments, over all ranks, under OLMo's names.
#pragma once

#include "norma/base/peers.h"
#include "norma/optim/adamw.h"
#include "norma/parallel/shard_engine.h"
#include "norma/record/metrics.h"

namespace norma {

// optim/{param,grad,exp_avg,exp_avg_sq}/<name>.{min,max,avg,norm} and optim/clipping_rate; min and max are of |x|.
// Gradients are those of the step just taken, before clipping: the optimizer multiplied them by `clip` in place. Every
// rank calls it and gets the same.
void add_parameter_metrics(const ShardEngine& engine, const AdamW& optimizer, Peers& peers, double clip,
                           Metrics& metrics);

}  // namespace norma
