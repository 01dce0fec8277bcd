// A checkpoint's weights as one ordinary safetensors file, whatever number of ranks wrote it.
#pragma once

#include "norma/checkpoint/safetensors.h"

namespace norma {

// Checks every byte of the checkpoint, then streams its weights, whole tensors under their own names, into `file`, with
// the run's config under "norma.config" in the metadata. `file` appears complete or not at all. Throws CheckpointError
// and DiskError.
FileEntry consolidate_weights(const fs::path& checkpoint, const fs::path& file);

}  // namespace norma
