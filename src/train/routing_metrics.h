// What a step reports about its experts.
#pragma once

#include "norma/train/metrics.h"
#include "norma/train/train_step.h"

namespace norma {

// OLMo's names, nothing for a model without experts: train/LoadBalancingLoss and train/MoEZLoss (weighted),
// train/TokensPercentage/layer{l}/expert{e} (of the layer's pairs, in percent) and train/TokensTotal/... of all ranks
// (OLMo's are rank 0's). Our own, per layer: train/MaxOverMeanLoad (1 at balance, the number of experts when one gets
// all) and train/RouterEntropy (nats, mean over tokens).
void add_routing_metrics(const StepFigures& figures, Metrics& metrics);

}  // namespace norma
