#include "routing_metrics.h"

#include <algorithm>
#include <numeric>

namespace norma {

void add_routing_metrics(const StepFigures& figures, Metrics& metrics) {
  if (figures.routing.empty()) return;
  metrics.emplace_back(metrics::kLoadBalancingLoss, figures.load_balancing_loss);
  metrics.emplace_back(metrics::kRouterZLoss, figures.router_z_loss);
  for (const StepRouting& layer : figures.routing) {
    const std::vector<double>& tokens = layer.tokens;
    const double all = std::accumulate(tokens.begin(), tokens.end(), 0.0);
    for (std::size_t e = 0; e < tokens.size(); ++e) {
      metrics.emplace_back(metrics::expert_share(layer.layer, e), 100.0 * tokens[e] / all);
      metrics.emplace_back(metrics::expert_tokens(layer.layer, e), tokens[e]);
    }
    const double busiest = *std::max_element(tokens.begin(), tokens.end());
    metrics.emplace_back(metrics::load_ratio(layer.layer), busiest * static_cast<double>(tokens.size()) / all);
    metrics.emplace_back(metrics::router_entropy(layer.layer), layer.entropy);
  }
}

}  // namespace norma
