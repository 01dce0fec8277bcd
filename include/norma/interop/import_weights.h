// Foreign weights as a checkpoint of ours.
#pragma once

#include <vector>

#include "norma/base/file.h"
#include "norma/checkpoint/manifest.h"
#include "norma/interop/foreign_range.h"
#include "norma/model/parameters.h"

namespace norma {

// Writes <root>/step-N: the weights that `read` gives, a piece at a time, without moments, which training then starts
// at zero. `manifest` brings step, config, data and trainer. Throws DataError naming the parameter when a value is not
// finite, DiskError; then nothing is left.
fs::path write_imported_checkpoint(const fs::path& root, Manifest manifest, const std::vector<UnitSpec>& units,
                                   Precision precision, const WeightReader& read);

}  // namespace norma
