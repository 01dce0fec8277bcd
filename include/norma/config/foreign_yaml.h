// YAML of other programs as JSON values, under the limits of our own files.
#pragma once

#include "norma/base/file.h"
#include "norma/base/json.h"

namespace norma {

// Plain scalars are what OmegaConf makes of them: true, false, numbers (1e12 and 1_000 too), null; quoted ones are
// text. Throws DataError naming file and line: a file that cannot be read, that is not YAML, with keys that stand
// twice, or with tags.
Json read_foreign_yaml(const fs::path& file);

}  // namespace norma
