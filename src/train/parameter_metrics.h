// Statistics of every parameter, its gradient and its moments, under OLMo's names.
#pragma once

#include "norma/optim/adamw.h"
#include "norma/parallel/shard_engine.h"
#include "norma/train/metrics.h"

namespace norma {

// optim/{param,grad,exp_avg,exp_avg_sq}/<name>.{min,max,avg,norm}; min and max are of |x|. Gradients are those of the
// step just taken, after clipping when the optimizer applied it to them.
void add_parameter_metrics(const ShardEngine& engine, const AdamW& optimizer, Metrics& metrics);

}  // namespace norma
