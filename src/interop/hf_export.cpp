#include <algorithm>
#include <cstdio>

#include "norma/base/error.h"
#include "norma/checkpoint/state.h"
#include "norma/interop/hf_folder.h"
#include "norma/model/parameters.h"

#include "hf_remote_code.h"

namespace norma {
namespace {

// The selection bias of DeepSeek's classes is a float32 buffer, whatever type the weights have.
const char* stored_type(const HfRange& range, HfDtype dtype) {
  const bool bias = range.tensor.ends_with("e_score_correction_bias");
  return dtype == HfDtype::bf16 && !bias ? "BF16" : "F32";
}

std::uint64_t bytes_of(const HfRange& range, HfDtype dtype) {
  return static_cast<std::uint64_t>(range.count) * dtype_bytes(stored_type(range, dtype));
}

// Checks that each tensor is written whole and as one range, and that the ranges hold every element of the model.
void check_ranges(const HfModel& model, const std::vector<HfRange>& ranges) {
  std::int64_t elements = 0;
  for (const HfRange& range : ranges) {
    NORMA_CHECK(range.source == 0 && element_count(range.shape) == range.count, "[export] ", range.tensor,
                " is not written as a whole");
    elements += range.count;
  }
  const std::int64_t parameters = num_parameters(model_parameters(model.model, model.plan));
  NORMA_CHECK(elements == parameters, "[export] ", elements, " elements would be written of ", parameters);
}

// Sorts as the safetensors library does: wide types first, then by name. So a file is byte for byte what
// save_pretrained writes.
void sort_as_the_library(std::vector<HfRange>& ranges, HfDtype dtype) {
  const auto width = [&](const HfRange& range) { return dtype_bytes(stored_type(range, dtype)); };
  std::sort(ranges.begin(), ranges.end(), [&](const HfRange& a, const HfRange& b) {
    return width(a) != width(b) ? width(a) > width(b) : a.tensor < b.tensor;
  });
}

// The tensors of each file, in order; a file has at most max_shard_bytes, or a single tensor.
std::vector<std::vector<HfRange>> shards_of(const std::vector<HfRange>& ranges, const HfExportOptions& options) {
  std::vector<std::vector<HfRange>> shards(1);
  std::uint64_t bytes = 0;
  for (const HfRange& range : ranges) {
    const std::uint64_t more = bytes_of(range, options.dtype);
    if (!shards.back().empty() && bytes + more > options.max_shard_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(range);
    bytes += more;
  }
  return shards;
}

void write_shard(const fs::path& path, const std::vector<HfRange>& ranges, HfDtype dtype, const WeightReader& reader) {
  std::vector<TensorInfo> infos;
  for (const HfRange& range : ranges) infos.push_back({range.tensor, stored_type(range, dtype), range.shape, 0, 0});
  SafetensorsWriter writer(path, infos);
  for (const HfRange& range : ranges) {
    const ParameterRange source = {range.parameter, range.begin, range.count};
    append_weights(writer, range.tensor, scalar_type(stored_type(range, dtype)), source, reader);
  }
  writer.close();
}

std::string shard_name(std::size_t index, std::size_t count) {
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

void write_weights(const fs::path& folder, const HfModel& model, const HfExportOptions& options,
                   const WeightReader& reader) {
  std::vector<HfRange> ranges = hf_ranges(model);
  check_ranges(model, ranges);
  sort_as_the_library(ranges, options.dtype);
  const auto shards = shards_of(ranges, options);
  if (shards.size() == 1) return write_shard(folder / "model.safetensors", ranges, options.dtype, reader);
  Json map = Json::object();
  std::uint64_t bytes = 0, elements = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    write_shard(folder / name, shards[i], options.dtype, reader);
    for (const HfRange& range : shards[i]) {
      map[range.tensor] = name;
      bytes += bytes_of(range, options.dtype);
      elements += static_cast<std::uint64_t>(range.count);
    }
  }
  const Json metadata = {{"total_parameters", elements}, {"total_size", bytes}};
  write_json(folder / "model.safetensors.index.json", {{"metadata", metadata}, {"weight_map", map}});
}

Json generation_config(const HfTokens& tokens) {
  Json config = Json::object();
  if (tokens.end_of_text) config["eos_token_id"] = *tokens.end_of_text;
  if (tokens.padding) config["pad_token_id"] = *tokens.padding;
  return config;
}

}  // namespace

HfTokenizer hf_tokenizer_of(const FoundTokenizer& found, std::int64_t sequence_length) {
  HfTokenizer result;
  result.json = read_file(found.file, kMaxTokenizerBytes);
  result.config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                   {"eos_token", nullptr},
                   {"pad_token", nullptr},
                   {"bos_token", nullptr},
                   {"model_max_length", sequence_length},
                   {"clean_up_tokenization_spaces", false}};
  if (const auto id = found.end_of_text) {
    result.tokens.end_of_text = *id;
    result.config["eos_token"] = "<|endoftext|>";
  }
  for (const char* padding : {"<|pad|>", "<|padding|>"}) {
    const auto id = found.tokenizer.token_id(padding);
    if (!id) continue;
    result.tokens.padding = *id;
    result.config["pad_token"] = padding;
    break;
  }
  return result;
}

void write_hf_folder(const fs::path& folder, const HfModel& model, const HfExportOptions& options,
                     const WeightReader& reader) {
  write_weights(folder, model, options, reader);
  if (model.model_type == kNormaType) {
    for (const RemoteCodeFile& file : remote_code()) write_file_atomic(folder / file.name, file.text);
  }
  if (options.tokenizer) {
    write_file_atomic(folder / "tokenizer.json", options.tokenizer->json);
    write_json(folder / "tokenizer_config.json", options.tokenizer->config);
  }
  const HfTokens tokens = options.tokenizer ? options.tokenizer->tokens : HfTokens();
  write_json(folder / "generation_config.json", generation_config(tokens));
  write_json(folder / "config.json", hf_config_of(model, tokens, options.dtype));
}

}  // namespace norma
