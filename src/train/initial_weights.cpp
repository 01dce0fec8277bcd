#include "norma/train/initial_weights.h"

#include <algorithm>
#include <map>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>

#include "norma/base/thread_pool.h"
#include "norma/model/init.h"

namespace norma {
namespace {

constexpr std::int64_t kDrawnAtOnce = 1 << 22;  // in float64

}  // namespace

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
      const std::vector<InitPiece>& rules = pieces_by_name.at(name);
      const at::Tensor place = engine.flat_units()[u].master.narrow(0, piece.offset, piece.end - piece.begin);
      for (std::int64_t from = piece.begin; from < piece.end; from += kDrawnAtOnce) {
        const std::int64_t count = std::min(kDrawnAtOnce, piece.end - from);
        const at::Tensor drawn = at::empty({count}, at::kDouble);
        double* const values = drawn.mutable_data_ptr<double>();
        parallel_ranges(count, at::get_num_threads(), [&](std::int64_t begin, std::int64_t end) {
          draw_weights(name, rules, config.init.cutoff, seed, from + begin, end - begin, values + begin);
        });
        place.narrow(0, from - piece.begin, count).copy_(drawn);
      }
    }
  }
  engine.refresh_compute();
}

}  // namespace norma
