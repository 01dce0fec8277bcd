#include "norma/interop/hf_folder.h"

#include <algorithm>
#include <charconv>
#include <set>

#include <ATen/ATen.h>

#include "norma/base/error.h"
#include "norma/base/text.h"

#include "hf_weights.h"
#include "range_reader.h"

namespace norma {
namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr std::uint64_t kMaxConfigBytes = 64 << 20;  // 10,000 layers of an own plan

// Buffers of old versions, which are computed anew, and layers that predict further tokens.
bool is_left_out(const std::string& name, const HfModel& model) {
  if (name.ends_with(".rotary_emb.inv_freq")) return true;
  constexpr std::string_view kLayers = "model.layers.";
  if (!name.starts_with(kLayers)) return false;
  std::int64_t layer = -1;
  const char* const begin = name.data() + kLayers.size();
  const auto read = std::from_chars(begin, name.data() + name.size(), layer);
  const std::int64_t first = model.model.num_layers;
  return read.ec == std::errc() && *read.ptr == '.' && layer >= first && layer - first < model.skipped_layers;
}

// A tied folder may hold its head once more, if it is the same.
bool is_copy_of_embedding(const HfWeights& weights) {
  const auto head = weights.bytes(kHead), embedding = weights.bytes(kEmbedding);
  return weights.find(kHead)->dtype == weights.find(kEmbedding)->dtype && std::ranges::equal(head, embedding);
}

// The number of experts as config.json says it, under the name that the model's class gives it.
std::string experts_text(const Json& config, const ModelConfig& model) {
  const char* name = "num_experts";
  for (const char* key : {"n_routed_experts", "num_experts", "num_local_experts"}) {
    if (!config.contains(key) || config.at(key).is_null()) continue;
    name = key;
    break;
  }
  return cat(name, " ", model.moe.num_experts);
}

// The two tensors that hold all experts of a layer have their number as the first size, as the router has.
bool counts_experts(const HfRange& range, const ParameterSpec& p) {
  const bool of_experts = p.role == ParameterRole::experts_up_gate || p.role == ParameterRole::experts_down ||
                          p.role == ParameterRole::router || p.role == ParameterRole::selection_bias;
  return of_experts && range.shape == p.shape;
}

// Names of all tensors that the parameters need. A parameter's ranges live no longer than its check: there are many
// for each tensor of fused experts, whose number is only config.json's until that tensor is compared.
std::set<std::string> check_parameters(const std::vector<UnitSpec>& units, const HfModel& model, bool fused,
                                       const HfWeights& weights, const std::string& where, const std::string& experts) {
  std::set<std::string> wanted;
  for (const UnitSpec& unit : units) {
    for (const ParameterSpec& p : unit.parameters) {
      for (const HfRange& range : hf_ranges_of(p, model, fused)) {
        if (!wanted.insert(range.tensor).second) continue;
        const std::string by = counts_experts(range, p) ? cat("config.json's ", experts) : "config.json";
        check_tensor(range, weights.find(range.tensor), where, by);
      }
    }
  }
  return wanted;
}

void check_nothing_else(const HfModel& model, const std::set<std::string>& wanted, const HfWeights& weights,
                        const std::string& where) {
  for (const std::string& name : weights.names()) {
    if (wanted.contains(name) || is_left_out(name, model)) continue;
    if (name != kHead || !model.model.tie_embeddings) {
      throw DataError(cat("[import] ", where, ": ", name, " has no place in a ", model.model_type, " model"));
    }
    if (!is_copy_of_embedding(weights)) {
      throw DataError(
          cat("[import] ", where, ": tie_word_embeddings is true, but ", kHead, " differs from ", kEmbedding));
    }
  }
}

// What config.json promises is written out only when as many tensors are there.
void check_count(const ModelConfig& model, std::size_t tensors, bool fused, const std::string& where,
                 const std::string& experts) {
  const auto found = static_cast<std::int64_t>(tensors), sparse = static_cast<std::int64_t>(model.moe_layers().size());
  std::string promise;
  if (model.num_layers > found) {
    promise = cat("num_hidden_layers ", model.num_layers);
  } else if (!fused && sparse * model.moe.num_experts > found) {
    promise = cat(experts, " in each of ", sparse, " layers");
  } else {
    return;
  }
  throw DataError(cat("[import] ", where, ": config.json says ", promise, ", but there are only ", found, " tensors"));
}

bool has_fused_experts(const ModelConfig& model, const HfWeights& weights) {
  const std::vector<std::int64_t> sparse = model.moe_layers();
  return !sparse.empty() && weights.find(cat("model.layers.", sparse[0], ".mlp.experts.gate_up_proj")) != nullptr;
}

}  // namespace

HfFolder::HfFolder(const fs::path& folder) : weights_(std::make_unique<HfWeights>(folder)) {
  const fs::path file = folder / "config.json";
  const Json config = read_json(file, kMaxConfigBytes);
  model_ = read_hf_config(config, file.string(), weights_->find(kHead) != nullptr);
  fused_ = has_fused_experts(model_.model, *weights_);
  const std::string where = folder.string(), experts = experts_text(config, model_.model);
  check_count(model_.model, weights_->names().size(), fused_, where, experts);
  const std::vector<UnitSpec> units = model_parameters(model_.model, model_.plan);
  check_nothing_else(model_, check_parameters(units, model_, fused_, *weights_, where, experts), *weights_, where);
  for (const UnitSpec& unit : units) {
    for (const ParameterSpec& p : unit.parameters) parameters_.emplace(p.name, p);
  }
}

HfFolder::~HfFolder() = default;

void HfFolder::read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const {
  const auto found = parameters_.find(parameter);
  NORMA_CHECK(found != parameters_.end(), "[import] no parameter ", parameter);
  const RangeReader reader(hf_ranges_of(found->second, model_, fused_), [this](const std::string& tensor) {
    return StoredTensor{weights_->find(tensor)->dtype, weights_->bytes(tensor)};
  });
  reader.read(parameter, begin, out);
}

void HfFolder::load(const Layout& layout, const std::vector<FlatUnit>& units, const ShardOf& shard_of_unit) const {
  for (std::size_t u = 0; u < units.size(); ++u) {
    for (const TensorPiece& piece : pieces_of(layout.units[u], shard_of_unit(u))) {
      read(piece.tensor->name, piece.begin, units[u].master.narrow(0, piece.offset, piece.end - piece.begin));
    }
  }
}

}  // namespace norma
