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
constexpr std::uint64_t kMaxConfigBytes = 1 << 20;

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

void check_tensors(const HfModel& model, const std::vector<HfRange>& ranges, const HfWeights& weights,
                   const std::string& where) {
  std::set<std::string> wanted;
  for (const HfRange& range : ranges) {
    if (wanted.insert(range.tensor).second) check_tensor(range, weights.find(range.tensor), where, "config.json");
  }
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
void check_count(const ModelConfig& model, std::size_t tensors, bool fused, const std::string& where) {
  const auto experts = static_cast<std::int64_t>(model.moe_layers().size()) * (fused ? 1 : model.moe.num_experts);
  const auto found = static_cast<std::int64_t>(tensors);
  if (model.num_layers <= found && experts <= found) return;
  throw DataError(cat("[import] ", where, ": config.json describes ", model.num_layers, " layers",
                      experts > 0 ? cat(" and ", experts, " experts") : "", ", but there are only ", found,
                      " tensors"));
}

}  // namespace

HfFolder::HfFolder(const fs::path& folder) : weights_(std::make_unique<HfWeights>(folder)) {
  const fs::path config = folder / "config.json";
  model_ = read_hf_config(read_json(config, kMaxConfigBytes), config.string(), weights_->find(kHead) != nullptr);
  const std::vector<std::string> names = weights_->names();
  const bool fused = std::any_of(names.begin(), names.end(),
                                 [](const std::string& name) { return name.ends_with(".mlp.experts.gate_up_proj"); });
  check_count(model_.model, names.size(), fused, folder.string());
  const std::vector<HfRange> ranges = hf_ranges(model_, fused);
  check_tensors(model_, ranges, *weights_, folder.string());
  ranges_ = std::make_unique<RangeReader>(ranges, [this](const std::string& tensor) {
    return StoredTensor{weights_->find(tensor)->dtype, weights_->bytes(tensor)};
  });
}

HfFolder::~HfFolder() = default;

void HfFolder::read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const {
  ranges_->read(parameter, begin, out);
}

void HfFolder::load(const Layout& layout, const std::vector<FlatUnit>& units, const ShardOf& shard_of_unit) const {
  for (std::size_t u = 0; u < units.size(); ++u) {
    for (const TensorPiece& piece : pieces_of(layout.units[u], shard_of_unit(u))) {
      read(piece.tensor->name, piece.begin, units[u].master.narrow(0, piece.offset, piece.end - piece.begin));
    }
  }
}

}  // namespace norma
