// The three kinds of tasks that the catalogue is made of, each with its own list and its own way to make requests.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "norma/eval/tasks.h"

#include "task_data.h"

namespace norma {

struct TaskEntry {
  TaskInfo info;
  std::function<std::vector<TaskRequest>(const TaskData& data)> load;
};

// One question with its prompts. A single context or text is shared by all continuations.
struct PromptedDocument {
  std::vector<std::string> contexts;
  std::vector<std::string> texts;
  std::int64_t label = 0;
};

// Throws DataError (naming `row`) when `copies` of a context, one for each continuation, would fill the memory.
void check_copies(std::size_t copies, const std::string& context, const JsonObject& row);

// Appends a request. Throws DataError (naming `row`) when its context or text is too short to be scored.
void append_request(TaskRequest request, const JsonObject& row, std::vector<TaskRequest>& requests);

// Appends the document's requests. Throws DataError also when the label is none of its continuations.
void append_requests(const PromptedDocument& document, std::int64_t number, const JsonObject& row,
                     std::vector<TaskRequest>& requests);

std::vector<TaskEntry> table_tasks();    // prompts made here from tables of questions
std::vector<TaskEntry> mmlu_tasks();     // the same for MMLU's four categories
std::vector<TaskEntry> request_tasks();  // ready-made prompts

}  // namespace norma
