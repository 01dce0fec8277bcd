// Tensors into and out of a checkpoint: the part of this room that knows LibTorch.
//
// model.safetensors holds the weights under their own names and shapes, optimizer.safetensors the moments;
// the manifest says where every element lies.
#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "norma/base/layout.h"
#include "norma/checkpoint/commit.h"

namespace norma {

// Flat buffers of a model, one per unit of the layout; moments are empty when only weights are meant.
struct FlatState {
  const Layout& layout;
  std::vector<at::Tensor> weights, exp_avg, exp_avg_sq;
};

// Writes and publishes <root>/step-N. `manifest` brings step, tokens, config, data and trainer; files and
// tensors are filled in here. Throws DiskError; an earlier checkpoint is never harmed.
fs::path write_checkpoint(const fs::path& root, Manifest manifest, const FlatState& state);

// Fills the state's buffers. Throws CheckpointError naming tensor and file: one that is missing, left over,
// of another shape or type. Checksums are verify_checkpoint()'s.
void read_checkpoint(const fs::path& folder, const Manifest& manifest, const FlatState& state);

}  // namespace norma
