// Initial weights: a pure function of (seed, parameter name, element index), drawn on the CPU. They do not depend on
// the placement, the world size or the order of construction, so that placements are compared from the same draw.
//
// Schemes: OLMo's initialization.py (normal, mitchell, full_megatron), HybridNorm C.2 (depth_scaled), Xavier
// with DeepNorm's factor (arXiv 2203.00555). Each matrix of a packed one has its own fan.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "norma/base/weights.h"
#include "norma/config/config.h"
#include "norma/model/parameters.h"
#include "norma/norm/plan.h"

namespace norma {

// Elements [begin, end) of a parameter, row-major: from a truncated normal of this std, or a constant.
struct InitPiece {
  std::int64_t begin = 0, end = 0;
  double std = 0.0;       // 0: all are `constant`
  double constant = 0.0;  // for the gains of norms
};

// The initial values of one parameter: pieces in order that cover it.
std::vector<InitPiece> init_pieces(const ParameterSpec& parameter, const ModelConfig& model, const NormPlan& plan,
                                   const InitConfig& init);

// Writes elements [begin, begin + count) of a parameter to `out`, which holds `count` doubles.
void draw_weights(const std::string& name, const std::vector<InitPiece>& pieces, double cutoff, std::uint64_t seed,
                  std::int64_t begin, std::int64_t count, double* out);

// The draw of all parameters of a model, by run.seed, on the threads that LibTorch may use.
class InitialWeights final : public WeightReader {
 public:
  InitialWeights(const RunConfig& config, const NormPlan& plan);
  void read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const override;

 private:
  std::uint64_t seed_;
  double cutoff_;
  std::map<std::string, std::vector<InitPiece>> pieces_;  // by parameter
};

// Reports a scheme that is not the one that the plan needs.
Problems check_init(const InitConfig& init, const NormPlan& plan);

}  // namespace norma
