// Tensors into and out of a checkpoint: the part of this room that knows LibTorch.
//
// Every rank writes the ranges that it owns. Written by one rank, model.safetensors holds the weights under their own
// names and shapes and optimizer.safetensors the moments; written by several, there is a file for each shard, which
// holds 1-D ranges. The manifest says where every element lies, so any number of ranks reads what any other wrote: each
// takes the ranges that overlap its own, and none ever holds the whole model.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "norma/base/layout.h"
#include "norma/base/peers.h"
#include "norma/base/weights.h"
#include "norma/checkpoint/commit.h"

namespace norma {

// ---- A training run's state ----

// This rank's shards of a model, one buffer for each unit of the layout. Without moments only weights are meant.
struct FlatState {
  const Layout& layout;
  int shard_degree = 1, shard_rank = 0;  // the buffers are those of shard_of(unit, shard_degree, shard_rank)
  bool owner = true;                     // false: another replica writes the same shards
  std::vector<at::Tensor> weights, exp_avg, exp_avg_sq;
};

enum class SaveMode { wait, background };

// A checkpoint of all ranks on its way to the disk. Every rank makes one and ends it with finish(), in the same order.
class CheckpointSave {
 public:
  // Opens <root>/step-N for writing. `manifest` brings step, tokens, config, data and trainer; files and tensors are
  // filled in here. In the background mode the state is copied now and written by a thread; else it is written now.
  // Throws DiskError on every rank when the folder cannot be made.
  CheckpointSave(const fs::path& root, Manifest manifest, const FlatState& state, Peers& peers, SaveMode mode);
  ~CheckpointSave();
  CheckpointSave(const CheckpointSave&) = delete;
  CheckpointSave& operator=(const CheckpointSave&) = delete;

  bool written() const;  // this rank's files are complete, or failed
  // Waits for this rank's files, then for the others', and publishes. Throws DiskError on every rank when one of them
  // failed, naming it; an earlier checkpoint is never harmed. `observer` sees the commit on rank 0.
  fs::path finish(const CommitObserver& observer = {});

 private:
  struct Work;
  std::unique_ptr<Work> work_;
};

// Fills the state's buffers. Throws CheckpointError that names the tensor and the folder when a tensor is missing, left
// over, or of another shape or type. Checksums are not compared: verify_checkpoint() does that.
void read_checkpoint(const fs::path& folder, const Manifest& manifest, const FlatState& state);

// ---- Tensors of safetensors files ----

// "F64", "F32", "BF16" or "F16" as a type of LibTorch, and back. Throws CheckpointError for any other dtype.
at::ScalarType scalar_type(const std::string& dtype);
std::string dtype_name(at::ScalarType type);

// Elements [begin, begin + count) of a stored tensor, in its own type. `bytes` need not be aligned.
at::Tensor stored_elements(const std::string& dtype, std::span<const std::byte> bytes, std::int64_t begin,
                           std::int64_t count);

// Elements [begin, begin + count) of a parameter.
struct ParameterRange {
  std::string parameter;
  std::int64_t begin = 0, count = 0;
};

// Reads the range in `type` and appends it to the tensor `name` of a file, in parts.
void append_weights(SafetensorsWriter& writer, const std::string& name, at::ScalarType type,
                    const ParameterRange& range, const WeightReader& reader);

// ---- Weights alone ----

// One kind of a checkpoint's tensors, whatever number of ranks wrote them. A file is opened when it is first read from
// and stays mapped as long as the reader lives. Throws CheckpointError for a tensor that the checkpoint lacks.
class CheckpointReader final : public WeightReader {
 public:
  CheckpointReader(const fs::path& folder, const Manifest& manifest, TensorKind kind = TensorKind::weight);
  void read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const override;

 private:
  const SafetensorsFile& file(std::int64_t index) const;

  fs::path folder_;
  std::vector<std::string> files_;  // names, as the manifest numbers them
  std::map<std::string, TensorEntry> tensors_;
  mutable std::map<std::int64_t, SafetensorsFile> opened_;
};

// Checks every byte of the checkpoint, then streams its weights, whole tensors under their own names, into one ordinary
// safetensors file, with the run's config under "norma.config" in the metadata. `file` appears complete or not at all.
// Throws CheckpointError and DiskError.
FileEntry consolidate_weights(const fs::path& checkpoint, const fs::path& file);

// Writes <root>/step-N with the reader's weights, streamed into one file in the order of `tensors` (name, dtype and
// shape), and no moments: training starts them at zero. `manifest` brings step, config, data and trainer. Throws
// DataError naming the parameter when a value is not finite, DiskError, and what the reader throws; then nothing is
// left.
fs::path write_checkpoint(const fs::path& root, Manifest manifest, const std::vector<TensorInfo>& tensors,
                          const WeightReader& reader);

}  // namespace norma
