#include "checkpoint_model.h"

#include "norma/train/checkpointing.h"
#include "norma/train/session.h"

namespace norma {

Session load_model(const ModelSource& source, at::Device device, const World& world) {
  Session session = make_session(source.config, source.norms, device, Purpose::inference, world);
  if (source.step) {
    load_weights(source.folder, *session.engine);
  } else {
    session.engine->fill(*source.weights);
  }
  return session;
}

CheckpointModel load_checkpoint_model(const std::string& path, Device device, std::int64_t threads,
                                      const std::function<void(RunConfig&)>& adjust) {
  ModelSource source = find_model(path);
  source.config.run.device = device;
  source.config.run.threads = threads;
  source.config.parallel = {};  // read by one process, whoever wrote it
  if (adjust) adjust(source.config);
  const at::Device target = start_runtime(source.config.run, {}, /*note=*/{});  // would stand between generated texts
  Session session = load_model(source, target, World());
  return {source.folder, source.config, std::move(session)};
}

}  // namespace norma
