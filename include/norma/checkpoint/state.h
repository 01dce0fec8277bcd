// Tensors into and out of a checkpoint: the part of this room that knows LibTorch.
//
// Every rank writes the ranges that it owns. Written by one rank, model.safetensors holds the weights under their own
// names and shapes and optimizer.safetensors the moments; written by several, a file per rank holds 1-D ranges. The
// manifest says where every element lies, so any number of ranks reads what any other wrote: each takes the ranges
// that overlap its own, and none ever holds the whole model.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "norma/base/layout.h"
#include "norma/base/peers.h"
#include "norma/checkpoint/commit.h"

namespace norma {

// This rank's shards of a model, one buffer per unit of the layout; moments are empty when only weights are meant.
struct FlatState {
  const Layout& layout;
  int shard_degree = 1, place = 0;  // the shards are those of shard_of(unit, shard_degree, place)
  bool owner = true;                // false: another replica writes the same shards
  std::vector<at::Tensor> weights, exp_avg, exp_avg_sq;
};

enum class SaveMode { wait, background };

// A checkpoint of all ranks on its way to the disk. Every rank makes one and ends it with finish(), in step.
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

// Fills the state's buffers. Throws CheckpointError naming tensor and file: one that is missing, left over,
// of another shape or type. Checksums are verify_checkpoint()'s.
void read_checkpoint(const fs::path& folder, const Manifest& manifest, const FlatState& state);

}  // namespace norma
