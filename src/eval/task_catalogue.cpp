// The catalogue of tasks, put together from its three parts.
#include <algorithm>
#include <iomanip>
#include <map>
#include <set>
#include <sstream>
#include <unordered_map>
#include <unordered_set>

#include <fnmatch.h>

#include "norma/base/error.h"
#include "norma/eval/tasks.h"

#include "task_entries.h"

namespace norma {
namespace {

struct Catalogue {
  std::vector<TaskEntry> entries;
  std::vector<TaskInfo> infos;
  std::vector<std::string> names;
  std::unordered_map<std::string, std::size_t> indices;  // by name

  Catalogue() {
    for (std::vector<TaskEntry> part : {table_tasks(), mmlu_tasks(), request_tasks()}) {
      for (TaskEntry& entry : part) add(std::move(entry));
    }
  }

  void add(TaskEntry entry) {
    const bool is_new = indices.emplace(entry.info.name, entries.size()).second;
    NORMA_CHECK(is_new, "[eval] two tasks are named ", entry.info.name);
    names.push_back(entry.info.name);
    infos.push_back(entry.info);
    entries.push_back(std::move(entry));
  }
};

const Catalogue& catalogue() {
  static const Catalogue made;
  return made;
}

[[noreturn]] void fail_unknown(const std::string& name) {
  throw ConfigError(cat("[eval] unknown task '", name, "'", did_you_mean(name, catalogue().names),
                        "; norma eval --list names all ", catalogue().names.size(), " tasks"));
}

std::vector<std::string> matches(const std::string& pattern) {
  if (catalogue().indices.contains(pattern)) return {pattern};
  if (pattern.find_first_of("*?[") == std::string::npos) fail_unknown(pattern);
  std::vector<std::string> found;
  for (const std::string& name : catalogue().names) {
    if (fnmatch(pattern.c_str(), name.c_str(), 0) == 0) found.push_back(name);
  }
  if (found.empty()) {
    throw ConfigError(cat("[eval] no task matches '", pattern, "'; norma eval --list names all ",
                          catalogue().names.size(), " tasks"));
  }
  return found;
}

// A document can only be judged when its requests follow one another, its continuations are counted from 0 and one
// label names one of them; a choice needs at least two.
void check_documents(const Task& task) {
  const bool chooses =
      task.metric == TaskMetric::acc || task.metric == TaskMetric::len_norm || task.metric == TaskMetric::f1;
  std::set<std::int64_t> seen;
  for (std::size_t first = 0, next = 0; first < task.requests.size(); first = next) {
    const std::int64_t document = task.requests[first].document, label = task.requests[first].label;
    const auto require = [&](bool holds, const auto&... what) {
      if (!holds) throw DataError(cat("[eval] task ", task.name, ", document ", document, ": ", what...));
    };
    require(seen.insert(document).second, "its requests must follow one another; it comes again");
    for (; next < task.requests.size() && task.requests[next].document == document; ++next) {
      const TaskRequest& request = task.requests[next];
      const auto expected = static_cast<std::int64_t>(next - first);
      require(request.continuation == expected, "continuation ", expected, " must come next, once; got ",
              request.continuation);
      require(request.label == label, "its requests must have one label; got ", label, " and ", request.label);
    }
    const auto count = static_cast<std::int64_t>(next - first);
    require(label >= 0 && label < count, "the continuation that its label names, ", label, ", must be there");
    require(!chooses || count > 1, "a choice needs two continuations at least; got one");
  }
}

}  // namespace

const std::vector<TaskInfo>& task_catalogue() {
  return catalogue().infos;
}

std::string task_listing() {
  std::size_t width = 0;
  for (const TaskInfo& info : task_catalogue()) width = std::max(width, info.name.size());
  std::ostringstream text;
  text << std::left;
  for (const TaskInfo& info : task_catalogue()) {
    text << std::setw(static_cast<int>(width) + 2) << info.name << std::setw(10) << metric_name(info.metric)
         << info.source << (info.note.empty() ? "" : cat(" (", info.note, ")")) << '\n';
  }
  return text.str();
}

std::vector<std::string> resolve_tasks(const std::vector<std::string>& patterns) {
  std::vector<std::string> names;
  std::unordered_set<std::string> seen;
  for (const std::string& list : patterns) {
    for (const std::string& part : split(list, ',')) {
      const std::string pattern = trim(part);
      if (pattern.empty()) continue;
      for (std::string& name : matches(pattern)) {
        if (seen.insert(name).second) names.push_back(std::move(name));
      }
    }
  }
  if (names.empty()) throw ConfigError("[eval] at least one task must be named; norma eval --list names them all");
  return names;
}

TaskFolder::TaskFolder(const fs::path& folder) : data_(std::make_unique<const TaskData>(folder)) {}

TaskFolder::~TaskFolder() = default;

Task TaskFolder::load(const std::string& name) const {
  const auto found = catalogue().indices.find(name);
  if (found == catalogue().indices.end()) fail_unknown(name);
  const TaskEntry& entry = catalogue().entries[found->second];
  Task task{.name = name, .metric = entry.info.metric, .requests = entry.load(*data_)};
  if (task.requests.empty()) {
    throw DataError(cat("[eval] task ", name, " must have at least one request; its data (", entry.info.source, ") in ",
                        data_->folder().string(), " give none"));
  }
  check_documents(task);
  return task;
}

}  // namespace norma
