#include "task_entries.h"

#include <algorithm>

#include "norma/base/error.h"
#include "norma/data/characters.h"

namespace norma {

void check_copies(std::size_t copies, const std::string& context, const JsonObject& row) {
  constexpr std::size_t kMostBytes = std::size_t{256} << 20;
  if (copies <= kMostBytes / std::max<std::size_t>(context.size(), 1)) return;
  row.fail("a document's continuations may repeat its context up to ", human_bytes(kMostBytes), " in all; got ", copies,
           " of ", human_bytes(static_cast<double>(context.size())));
}

void append_request(TaskRequest request, const JsonObject& row, std::vector<TaskRequest>& requests) {
  if (request.context.empty()) row.fail("a context must not be empty: nothing would predict the first token");
  if (count_characters(request.text) < 2) {
    row.fail("a continuation must have at least 2 characters: its length is counted without the first, a space");
  }
  requests.push_back(std::move(request));
}

void append_requests(const PromptedDocument& document, std::int64_t number, const JsonObject& row,
                     std::vector<TaskRequest>& requests) {
  const std::size_t count = std::max(document.contexts.size(), document.texts.size());
  if (document.label < 0 || document.label >= static_cast<std::int64_t>(count)) {
    row.fail("the right answer must be one of ", count, " choices, counted from 0; got ", document.label);
  }
  check_copies(count, document.contexts[0], row);
  for (std::size_t i = 0; i < count; ++i) {
    const std::string& context = document.contexts[document.contexts.size() == 1 ? 0 : i];
    const std::string& text = document.texts[document.texts.size() == 1 ? 0 : i];
    append_request({number, static_cast<std::int64_t>(i), document.label, context, text}, row, requests);
  }
}

}  // namespace norma
