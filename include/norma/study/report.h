// A comparison of finished runs from what their folders hold: summary.json and metrics.jsonl.
#pragma once

#include <optional>
#include <vector>

#include "norma/base/file.h"

namespace norma {

struct ReportInput {
  std::vector<fs::path> runs;        // run folders
  std::optional<fs::path> baseline;  // JSON of `norma baseline`
  std::string introduction;          // a paragraph above the tables; may be empty
};

// Markdown: a table of runs (beside the baselines), validation over time, every config key in which the runs differ,
// and the sample.txt of each run that has one. Throws DataError naming the file that is missing or not understood.
std::string make_report(const ReportInput& input);

}  // namespace norma
