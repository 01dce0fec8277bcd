#include "norma/train/initial_weights.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include "norma/base/thread_pool.h"
#include "norma/model/init.h"

namespace norma {

void draw_initial_weights(const RunConfig& config, const NormPlan& norms, ShardEngine& engine) {
  const c10::NoGradGuard no_grad;
  const auto seed = static_cast<std::uint64_t>(config.run.seed);
  const std::vector<UnitSpec> units = model_parameters(config.model, norms);
  for (std::size_t u = 0; u < units.size(); ++u) {
    for (const ParameterSpec& parameter : units[u].parameters) {
      const TensorSpan& span = *engine.layout().find(parameter.name);
      const std::vector<InitPiece> pieces = init_pieces(parameter, config.model, norms, config.init);
      at::Tensor drawn = at::empty({span.numel}, at::kDouble);
      double* values = drawn.mutable_data_ptr<double>();
      parallel_ranges(span.numel, at::get_num_threads(), [&](std::int64_t begin, std::int64_t end) {
        draw_weights(parameter.name, pieces, config.init.cutoff, seed, begin, end - begin, values + begin);
      });
      engine.flat_units()[u].master.narrow(0, span.offset, span.numel).copy_(drawn);
    }
  }
  engine.refresh_compute();
}

}  // namespace norma
