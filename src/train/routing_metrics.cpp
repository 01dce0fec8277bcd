#include "routing_metrics.h"

#include <algorithm>
#include <numeric>

#include "norma/base/text.h"

namespace norma {

void add_routing_metrics(const StepFigures& figures, Metrics& metrics) {
  if (figures.routing.empty()) return;
  metrics.emplace_back("train/LoadBalancingLoss", figures.load_balancing_loss);
  metrics.emplace_back("train/MoEZLoss", figures.router_z_loss);
  for (const StepRouting& layer : figures.routing) {
    const std::vector<double>& tokens = layer.tokens;
    const double all = std::accumulate(tokens.begin(), tokens.end(), 0.0);
    for (std::size_t e = 0; e < tokens.size(); ++e) {
      const std::string expert = cat("layer", layer.layer, "/expert", e);
      metrics.emplace_back("train/TokensPercentage/" + expert, 100.0 * tokens[e] / all);
      metrics.emplace_back("train/TokensTotal/" + expert, tokens[e]);
    }
    const double busiest = *std::max_element(tokens.begin(), tokens.end());
    metrics.emplace_back(cat("train/MaxOverMeanLoad/layer", layer.layer),
                         busiest * static_cast<double>(tokens.size()) / all);
    metrics.emplace_back(cat("train/RouterEntropy/layer", layer.layer), layer.entropy);
  }
}

}  // namespace norma
