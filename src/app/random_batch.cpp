#include "random_batch.h"

#include "norma/base/random.h"

namespace norma {

at::Tensor random_batch(const RunPlan& plan, const Peers& peers, at::Device device, std::uint64_t seed) {
  const ModelConfig& model = plan.config.model;
  const std::int64_t rows = (plan.config.train.global_batch_size - peers.rank() + peers.size() - 1) / peers.size();
  at::Tensor ids = at::empty({rows, model.sequence_length}, at::kLong);
  auto* values = ids.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < ids.numel(); ++i) {
    values[i] =
        static_cast<std::int64_t>(uniform(seed, static_cast<std::uint64_t>(i)) * static_cast<double>(model.vocab_size));
  }
  return ids.to(device);
}

}  // namespace norma
