// Tables of results: a comparison of runs from what their folders hold, and the scores of one evaluation.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "norma/base/file.h"
#include "norma/record/results.h"

namespace norma {

struct ReportInput {
  std::vector<fs::path> runs;        // run folders, or folders that hold run folders
  std::optional<fs::path> baseline;  // what `norma baseline` wrote; default: the one in a run's folder, if any
  std::string introduction;          // a paragraph above the tables; may be empty
};

struct Report {
  // A table of runs beside the baselines, validation over time, every config key in which the runs differ, and the
  // samples of each run that has some.
  std::string markdown;
  std::string summary;  // the table of runs alone, aligned for a terminal
};

// What a run does not have, such as the summary of a run that still trains, is shown as "-". Throws DataError naming
// the file that is not understood, or the path that holds no run.
Report make_report(const ReportInput& input);

// Tables of sets and of tasks, aligned.
std::string results_table(const EvaluationRecord& results);

}  // namespace norma
