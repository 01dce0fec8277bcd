// YAML of other programs as JSON values, with the same limits as our own files.
#pragma once

#include "norma/base/file.h"
#include "norma/base/json.h"

namespace norma {

// Plain scalars are read as OmegaConf reads them: true, false, numbers (1e12 and 1_000 too) and null; quoted scalars
// are text. Throws DataError naming file and line when the file cannot be read, is not YAML, has a key twice or has
// tags.
Json read_foreign_yaml(const fs::path& file);

}  // namespace norma
