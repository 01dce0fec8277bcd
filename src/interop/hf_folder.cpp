#include "norma/interop/hf_folder.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "norma/base/error.h"
#include "norma/base/text.h"

#include "hf_weights.h"
#include "range_reader.h"

namespace norma {
namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr std::uint64_t kMaxConfigBytes = 64 << 20;  // 10,000 layers of an own plan

// Tensors that are not read: buffers of old versions, which are computed anew, and layers that predict further tokens.
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

// A folder whose head is tied may store it once more, equal to the embedding.
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

void check_nothing_else(const HfModel& model, const std::set<std::string>& wanted, const HfWeights& weights,
                        const std::string& where) {
  for (const std::string& name : weights.names()) {
    if (wanted.contains(name) || is_left_out(name, model)) continue;
    if (name != kHead || !model.model.tie_embeddings) {
      throw DataError(cat("[import] ", where, ": ", name, " does not belong to a ", model.model_type, " model"));
    }
    if (!is_copy_of_embedding(weights)) {
      throw DataError(
          cat("[import] ", where, ": tie_word_embeddings is true, but ", kHead, " differs from ", kEmbedding));
    }
  }
}

// Refuses a config.json that promises more layers or experts than there are tensors, before any range is listed.
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

struct HfFolder::Weights {
  HfWeights files;
  std::unique_ptr<RangeReader> reader;
};

HfFolder::HfFolder(const fs::path& folder) : weights_(new Weights{HfWeights(folder), nullptr}) {
  const HfWeights& files = weights_->files;
  const fs::path file = folder / "config.json";
  const Json config = read_json(file, kMaxConfigBytes);
  model_ = read_hf_config(config, file.string(), files.find(kHead) != nullptr);
  const bool fused = has_fused_experts(model_.model, files);
  const std::string where = folder.string(), experts = experts_text(config, model_.model);
  check_count(model_.model, files.names().size(), fused, where, experts);
  ForeignFiles foreign;
  foreign.where = where;
  foreign.find = [&files](const std::string& tensor) { return files.find(tensor); };
  foreign.bytes_of = [&files](const std::string& tensor) { return files.bytes(tensor); };
  foreign.ranges_of = [this, fused](const ParameterSpec& p) { return hf_ranges_of(p, model_, fused); };
  foreign.source_of_shape = [experts](const ParameterSpec& p, const ForeignRange& range) {
    const bool of_all_experts = counts_experts(p) && range.shape == p.shape;  // else the tensor is one expert's
    return of_all_experts ? cat("config.json's ", experts) : std::string("config.json");
  };
  weights_->reader = std::make_unique<RangeReader>(model_parameters(model_.model, model_.plan), std::move(foreign));
  check_nothing_else(model_, weights_->reader->tensors(), files, where);
}

HfFolder::~HfFolder() = default;

void HfFolder::read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const {
  weights_->reader->read(parameter, begin, out);
}

}  // namespace norma
