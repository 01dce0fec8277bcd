// A checkpoint's weights for export: read in pieces, whatever number of ranks wrote it.
#pragma once

#include "norma/base/file.h"
#include "norma/interop/foreign_range.h"

namespace norma {

// Checks every byte of the checkpoint, then reads from its files, which stay mapped as long as the reader or a copy of
// it lives. Throws CheckpointError.
WeightReader checkpoint_weights(const fs::path& checkpoint);

}  // namespace norma
