#include "norma/model/init.h"

#include <cmath>

#include "norma/base/error.h"
#include "norma/base/random.h"
#include "norma/base/text.h"
#include "norma/config/names.h"

namespace norma {
namespace {

// Rows of one logical matrix inside a parameter.
struct Matrix {
  std::int64_t rows, columns;
  double scale;              // branch_init_scale, where it applies
  std::int64_t fan_out = 0;  // rows of the whole matrix, where these are only a part of it; else 0
};

// The rows of two matrices, taking turns: of every head its key rows, then its value rows.
std::vector<Matrix> kv_up_matrices(const ModelConfig& m, double value_scale) {
  const std::int64_t keys = m.nope_dim(), values = m.value_width();
  std::vector<Matrix> rows;
  for (std::int64_t h = 0; h < m.num_heads; ++h) {
    rows.push_back({keys, m.kv_rank(), 1.0, m.num_heads * keys});
    rows.push_back({values, m.kv_rank(), value_scale, m.num_heads * values});
  }
  return rows;
}

// The logical matrices of a parameter from top to bottom; where there are experts, those of one expert.
std::vector<Matrix> matrices_of(const ParameterSpec& p, const ModelConfig& m, const NormPlan& plan) {
  const std::int64_t columns = p.shape.size() > 1 ? p.shape.back() : 1, rows = p.shape[p.shape.size() > 2 ? 1 : 0];
  if (p.layer < 0) return {{rows, columns, 1.0}};
  const LayerPolicy& layer = plan.layers[static_cast<std::size_t>(p.layer)];
  const double attention = layer.attention.branch_init_scale, mlp = layer.mlp.branch_init_scale;
  switch (p.role) {
    case ParameterRole::qkv:
      return {{m.q_width(), columns, 1.0}, {m.kv_width(), columns, 1.0}, {m.kv_width(), columns, attention}};
    case ParameterRole::kv_down:
      return {{m.kv_rank(), columns, 1.0}, {m.rope_dim(), columns, 1.0}};
    case ParameterRole::kv_up:
      return kv_up_matrices(m, attention);
    case ParameterRole::attention_out:
      return {{rows, columns, attention}};
    case ParameterRole::up_gate:
    case ParameterRole::experts_up_gate:
      return {{rows / 2, columns, mlp}, {rows / 2, columns, plan.scaled_ffn == DeepnormFfn::all ? mlp : 1.0}};
    case ParameterRole::down:
    case ParameterRole::experts_down:
      return {{rows, columns, mlp}};
    default:
      return {{rows, columns, 1.0}};
  }
}

bool is_output(ParameterRole role) {
  return role == ParameterRole::attention_out || role == ParameterRole::down || role == ParameterRole::experts_down;
}

double base_std(const ModelConfig& model, const InitConfig& init) {
  return init.std.value_or(std::sqrt(2.0 / (5.0 * static_cast<double>(model.d_model))));
}

// The std of the embedding, or of a head that has its own weights.
double table_std(ParameterRole role, const ModelConfig& model, const InitConfig& init) {
  const double d = static_cast<double>(model.d_model);
  const bool base = init.scheme == InitScheme::normal || init.scheme == InitScheme::depth_scaled;
  if (role == ParameterRole::head) return base ? base_std(model, init) : 1.0 / std::sqrt(d);
  if (init.embedding_std) return *init.embedding_std;
  const double std = init.scheme == InitScheme::mitchell ? 1.0 / std::sqrt(d) : base_std(model, init);
  return init.scale_embedding ? std * std::sqrt(d) : std;
}

double matrix_std(const ParameterSpec& p, const Matrix& matrix, const ModelConfig& model, const InitConfig& init) {
  const double depth = static_cast<double>(model.num_layers), layer = static_cast<double>(p.layer + 1);
  const double fan_in = static_cast<double>(matrix.columns),
               fan_out = static_cast<double>(matrix.fan_out > 0 ? matrix.fan_out : matrix.rows);
  const double std = base_std(model, init);
  switch (init.scheme) {
    case InitScheme::normal:
      return std;
    case InitScheme::megatron:
      return is_output(p.role) ? std / std::sqrt(2.0 * depth) : std;
    case InitScheme::depth_scaled:
      return is_output(p.role) ? std / std::sqrt(2.0 * layer) : std;
    case InitScheme::mitchell:
      return is_output(p.role) ? 1.0 / std::sqrt(2.0 * fan_in * layer) : 1.0 / std::sqrt(fan_in);
    case InitScheme::xavier:
      return std::sqrt(2.0 / (fan_in + fan_out));
  }
  throw CheckFailure("[init] unknown scheme");
}

}  // namespace

std::vector<InitPiece> init_pieces(const ParameterSpec& p, const ModelConfig& model, const NormPlan& plan,
                                   const InitConfig& init) {
  if (p.role == ParameterRole::norm) return {{0, p.numel(), 0.0, p.norm.gain_init}};
  if (p.role == ParameterRole::selection_bias) return {{0, p.numel(), 0.0, 0.0}};
  if (p.role == ParameterRole::embedding || p.role == ParameterRole::head) {
    return {{0, p.numel(), table_std(p.role, model, init), 0.0}};
  }
  std::vector<InitPiece> pieces;
  const std::vector<Matrix> matrices = matrices_of(p, model, plan);
  for (std::int64_t begin = 0; begin < p.numel();) {  // expert after expert
    for (const Matrix& matrix : matrices) {
      const std::int64_t end = begin + matrix.rows * matrix.columns;
      pieces.push_back({begin, end, matrix_std(p, matrix, model, init) * matrix.scale, 0.0});
      begin = end;
    }
  }
  return pieces;
}

void draw_weights(const std::string& name, const std::vector<InitPiece>& pieces, double cutoff, std::uint64_t seed,
                  std::int64_t begin, std::int64_t count, double* out) {
  const std::uint64_t key = stream_key(seed, name);
  for (const InitPiece& piece : pieces) {
    const std::int64_t first = std::max(begin, piece.begin), last = std::min(begin + count, piece.end);
    for (std::int64_t i = first; i < last; ++i) {
      out[i - begin] =
          piece.std == 0.0 ? piece.constant : truncated_normal(key, static_cast<std::uint64_t>(i), piece.std, cutoff);
    }
  }
}

Problems check_init(const InitConfig& init, const NormPlan& plan) {
  if (!plan.init_need || plan.init_need->scheme == init.scheme) return {};
  return {{"init.scheme", 0,
           cat("must be ", enum_name(plan.init_need->scheme), "; got ", enum_name(init.scheme), ". ",
               plan.init_need->reason)}};
}

}  // namespace norma
