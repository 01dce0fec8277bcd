#include "session.h"

#include "norma/model/parameters.h"
#include "norma/parallel/sharding.h"

namespace norma {

Session make_session(const RunConfig& config, const NormPlan& norms, at::Device device, Purpose purpose,
                     const World& world) {
  Session session;
  session.device = device;
  session.model = std::make_unique<Transformer>(config.model, norms);
  const Layout layout = model_layout(model_parameters(config.model, norms), config.optim, config.train.freeze);
  const std::vector<Unit>& units = session.model->units();
  session.engine = std::make_unique<ShardEngine>(units, layout, config.precision, device, purpose, world.mesh(),
                                                 engine_policy(config.parallel, world.size(), layout));
  if (purpose == Purpose::training) {
    session.optimizer = std::make_unique<AdamW>(session.engine->flat_units(), config.optim);
  }
  return session;
}

}  // namespace norma
