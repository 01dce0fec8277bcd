#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "norma/base/thread_pool.h"
#include "norma/model/init.h"

namespace norma {

InitialWeights::InitialWeights(const RunConfig& config, const NormPlan& plan)
    : seed_(static_cast<std::uint64_t>(config.run.seed)), cutoff_(config.init.cutoff) {
  for (const UnitSpec& unit : model_parameters(config.model, plan)) {
    for (const ParameterSpec& p : unit.parameters) {
      pieces_[p.name] = init_pieces(p, config.model, plan, config.init);
    }
  }
}

void InitialWeights::read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const {
  const std::vector<InitPiece>& pieces = pieces_.at(parameter);
  const at::Tensor drawn = at::empty(out.sizes(), at::kDouble);
  double* const values = drawn.mutable_data_ptr<double>();
  parallel_ranges(out.numel(), at::get_num_threads(), [&](std::int64_t first, std::int64_t last) {
    draw_weights(parameter, pieces, cutoff_, seed_, begin + first, last - first, values + first);
  });
  out.copy_(drawn);
}

}  // namespace norma
