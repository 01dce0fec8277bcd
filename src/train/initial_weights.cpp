#include "norma/train/initial_weights.h"

#include <map>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include "norma/base/thread_pool.h"
#include "norma/model/init.h"

namespace norma {

void draw_initial_weights(const RunConfig& config, const NormPlan& norms, ShardEngine& engine) {
  const c10::NoGradGuard no_grad;
  const auto seed = static_cast<std::uint64_t>(config.run.seed);
  std::map<std::string, std::vector<InitPiece>> pieces_by_name;
  for (const UnitSpec& unit : model_parameters(config.model, norms)) {
    for (const ParameterSpec& p : unit.parameters) {
      pieces_by_name[p.name] = init_pieces(p, config.model, norms, config.init);
    }
  }
  for (std::size_t u = 0; u < engine.flat_units().size(); ++u) {
    for (const TensorPiece& piece : pieces_of(engine.layout().units[u], engine.shard(u))) {
      const std::string& name = piece.tensor->name;
      const std::int64_t count = piece.end - piece.begin;
      at::Tensor drawn = at::empty({count}, at::kDouble);
      double* values = drawn.mutable_data_ptr<double>();
      parallel_ranges(count, at::get_num_threads(), [&](std::int64_t begin, std::int64_t end) {
        draw_weights(name, pieces_by_name.at(name), config.init.cutoff, seed, piece.begin + begin, end - begin,
                     values + begin);
      });
      engine.flat_units()[u].master.narrow(0, piece.offset, count).copy_(drawn);
    }
  }
  engine.refresh_compute();
}

}  // namespace norma
