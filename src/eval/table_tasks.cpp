// Tasks whose prompts are made from tables of questions, zero-shot. Source: ai2-olmo-eval 0.9.0, tasks.py.
#include <algorithm>
#include <charconv>

#include "norma/data/characters.h"

#include "task_entries.h"

namespace norma {

namespace {

std::vector<std::string> with_leading_spaces(std::vector<std::string> texts) {
  for (std::string& text : texts) text.insert(text.begin(), ' ');
  return texts;
}

std::string question_prompt(const std::string& question) {
  return "Question: " + question + "\nAnswer:";
}

// The number in a string of digits: "3".
std::int64_t number_of_digits(const JsonObject& row, const char* key) {
  const std::string& digits = row.text(key);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size() || value < 0) {
    row.fail_at(key, "must be a string of digits; got '", digits.substr(0, 20), "'");
  }
  return value;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

PromptedDocument piqa(const JsonObject& row) {
  return {{question_prompt(row.text("goal"))},
          with_leading_spaces({row.text("sol1"), row.text("sol2")}),
          row.integer("label", {0, kMaxLines})};
}

// ---- HellaSwag ----

// Deletes every "[...]" within a line, from a bracket to the nearest closing one; an unclosed one stays.
std::string without_brackets(const std::string& text) {
  std::string kept;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t close = text[at] == '[' ? text.find_first_of("]\n", at) : std::string::npos;
    if (close != std::string::npos && text[close] == ']') {
      at = close + 1;
    } else {
      kept += text[at++];
    }
  }
  return kept;
}

std::string hellaswag_clean(const std::string& raw) {
  std::string text(strip(raw));
  replace_all(text, " [title]", ". ");
  text = without_brackets(text);
  replace_all(text, "  ", " ");
  return text;  // spaces that the brackets leave at the ends stay
}

PromptedDocument hellaswag(const JsonObject& row) {
  std::vector<std::string> endings = row.texts("endings");
  for (std::string& ending : endings) ending = hellaswag_clean(ending);
  const std::string context =
      row.text("activity_label") + ": " + row.text("ctx_a") + " " + capitalize(row.text("ctx_b"));
  return {{hellaswag_clean(context)}, with_leading_spaces(std::move(endings)), number_of_digits(row, "label")};
}

// Two contexts, one continuation: which filling makes the rest likelier?
PromptedDocument winogrande(const JsonObject& row) {
  const std::string& sentence = row.text("sentence");
  const std::size_t gap = sentence.find('_');
  if (gap == std::string::npos) row.fail("'sentence' must hold a '_'");
  const std::string start = sentence.substr(0, gap);
  const std::string rest = " " + std::string(strip(std::string_view(sentence).substr(gap + 1)));
  return {{start + row.text("option1"), start + row.text("option2")}, {rest}, number_of_digits(row, "answer") - 1};
}

// ---- Lettered choices ----

// The index of an answer "A".."E" or "1".."5".
std::int64_t index_of_letter(const JsonObject& row, std::string_view answer) {
  if (answer.size() == 1 && answer[0] >= 'A' && answer[0] <= 'E') return answer[0] - 'A';
  if (answer.size() == 1 && answer[0] >= '1' && answer[0] <= '5') return answer[0] - '1';
  row.fail("'answerKey' must be A to E or 1 to 5; got '", answer.substr(0, 20), "'");
}

PromptedDocument lettered(const JsonObject& row) {
  return {{question_prompt(row.text("question"))},
          with_leading_spaces(row.object("choices").texts("text")),
          index_of_letter(row, row.text("answerKey"))};
}

PromptedDocument open_book(const JsonObject& row) {
  return {{row.text("question_stem")},
          with_leading_spaces(row.object("choices").texts("text")),
          index_of_letter(row, strip(row.text("answerKey")))};
}

PromptedDocument only_choice(PromptedDocument document, std::int64_t choice, const JsonObject& row) {
  if (choice >= static_cast<std::int64_t>(document.texts.size())) row.fail("'answerKey' must be among the choices");
  document.texts = {document.texts[static_cast<std::size_t>(choice)]};
  document.label = 0;
  return document;
}

PromptedDocument lettered_first(const JsonObject& row) {
  return only_choice(lettered(row), 0, row);
}

PromptedDocument lettered_right(const JsonObject& row) {
  const PromptedDocument document = lettered(row);
  return only_choice(document, document.label, row);
}

// ---- Others ----

PromptedDocument boolq(const JsonObject& row) {
  return {{row.text("passage") + "\nQuestion: " + row.text("question") + "?\nAnswer:"},
          {" yes", " no"},
          row.flag("answer") ? 0 : 1};
}

PromptedDocument sciq(const JsonObject& row) {
  return {{std::string(strip(row.text("support"))) + "\nQuestion: " + row.text("question") + "\nAnswer:"},
          with_leading_spaces(
              {row.text("distractor1"), row.text("distractor2"), row.text("distractor3"), row.text("correct_answer")}),
          3};
}

std::string with_lower_start(const std::string& text) {
  const std::size_t first = first_character_bytes(text);
  return lower(text.substr(0, first)) + text.substr(first);
}

// "The glass fell." -> "The glass fell because"
PromptedDocument copa(const JsonObject& row) {
  std::string premise(strip(row.text("premise")));
  while (!premise.empty() && (premise.back() & 0xC0) == 0x80) premise.pop_back();  // the last character, as a whole
  if (!premise.empty()) premise.pop_back();
  return {{premise + (row.text("question") == "cause" ? " because" : " therefore")},
          with_leading_spaces({with_lower_start(row.text("choice1")), with_lower_start(row.text("choice2"))}),
          row.integer("label", {0, kMaxLines})};
}

PromptedDocument social_iqa(const JsonObject& row) {
  return {{question_prompt(row.text("context") + " " + row.text("question"))},
          with_leading_spaces({row.text("answerA"), row.text("answerB"), row.text("answerC")}),
          number_of_digits(row, "label") - 1};
}

PromptedDocument trivia_qa(const JsonObject& row) {
  return {{"\n" + question_prompt(row.text("question"))}, {" " + row.object("answer").text("value")}, 0};
}

PromptedDocument natural_questions(const JsonObject& row) {
  const std::vector<std::string> answers = row.texts("answer");
  if (answers.empty()) row.fail("'answer' must hold at least one string");
  return {{"\n" + question_prompt(row.text("question"))}, {" " + answers[0]}, 0};
}

PromptedDocument rte(const JsonObject& row) {
  return {{row.text("sentence1") + "\nQuestion: " + row.text("sentence2") + " True or False?\nAnswer:"},
          {" True", " False"},
          row.integer("label", {0, kMaxLines})};
}

PromptedDocument commitment_bank(const JsonObject& row) {
  return {{row.text("premise") + "\nQuestion: " + row.text("hypothesis") + ". True, False or Neither?\nAnswer:"},
          {" True", " False", " Neither"},
          row.integer("label", {0, kMaxLines})};
}

// Joins what GLUE's tokenization took apart: "do n't ( this ) ." -> "don't (this)."
std::string glue_clean(std::string text) {
  for (const auto& [from, to] : {std::pair{" n't", "n't"}, {" )", ")"}, {"( ", "("}, {"\" ", "\""}, {" \"", "\""}}) {
    replace_all(text, from, to);
  }
  std::string joined;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const bool goes =
        text[at] == ' ' && at + 1 < text.size() && std::string_view("'.,").find(text[at + 1]) != std::string_view::npos;
    if (goes) ++at;
    joined += text[at];
  }
  return joined;
}

PromptedDocument mrpc(const JsonObject& row) {
  return {{"Sentence 1: " + glue_clean(row.text("sentence1")) + "\nSentence 2: " + glue_clean(row.text("sentence2")) +
           "\nQuestion: Do both sentences mean the same thing?\nAnswer:"},
          {" yes", " no"},
          row.integer("label", {0, kMaxLines}) != 0 ? 0 : 1};
}

PromptedDocument sst2(const JsonObject& row) {
  return {{glue_clean(row.text("sentence")) + "\nQuestion: Is this sentence positive or negative?\nAnswer:"},
          {" negative", " positive"},
          row.integer("label", {0, kMaxLines})};
}

struct TableTask {
  const char* name;
  TaskMetric metric;
  const char* table;  // under tables/; the split is validation
  PromptedDocument (*prompt)(const JsonObject& row);
  const char* note;
};

constexpr TableTask kTableTasks[] = {
    {"piqa", TaskMetric::len_norm, "piqa/plain_text", piqa, ""},
    {"hellaswag", TaskMetric::len_norm, "hellaswag/none", hellaswag, ""},
    {"winogrande", TaskMetric::acc, "winogrande/winogrande_xl", winogrande, ""},
    {"openbook_qa", TaskMetric::len_norm, "openbookqa/main", open_book, ""},
    {"boolq", TaskMetric::acc, "boolq/none", boolq, ""},
    {"sciq", TaskMetric::acc, "sciq/none", sciq, ""},
    {"arc_easy", TaskMetric::acc, "ai2_arc/ARC-Easy", lettered, ""},
    {"arc_easy_ppl", TaskMetric::ce_loss, "ai2_arc/ARC-Easy", lettered_first,
     "as OLMo has it: scores the first choice, right or wrong"},
    {"arc_easy_ppl_correct", TaskMetric::ce_loss, "ai2_arc/ARC-Easy", lettered_right,
     "scores the correct choice; a name of Norma's"},
    {"arc_challenge", TaskMetric::len_norm, "ai2_arc/ARC-Challenge", lettered, ""},
    {"basic_arithmetic", TaskMetric::acc, "allenai/basic_arithmetic/none", lettered, ""},
    {"copa", TaskMetric::acc, "super_glue/copa", copa, ""},
    {"rte", TaskMetric::len_norm, "glue/rte", rte, ""},
    {"commitment_bank", TaskMetric::acc, "super_glue/cb", commitment_bank, ""},
    {"mrpc", TaskMetric::f1, "glue/mrpc", mrpc, ""},
    {"sst2", TaskMetric::acc, "glue/sst2", sst2, ""},
    {"commonsense_qa", TaskMetric::len_norm, "tau/commonsense_qa/none", lettered, ""},
    {"social_iqa", TaskMetric::len_norm, "social_i_qa/none", social_iqa, ""},
    {"trivia_qa_wiki_ppl", TaskMetric::ce_loss, "trivia_qa/rc.wikipedia.nocontext", trivia_qa, ""},
    {"natural_qs_open_ppl", TaskMetric::ce_loss, "nq_open/none", natural_questions, ""},
};

std::vector<TaskRequest> load_table(const TableTask& task, const TaskData& data) {
  std::vector<TaskRequest> requests;
  std::int64_t number = 0;
  data.read(cat("tables/", task.table, "/validation"),
            [&](const JsonObject& row) { append_requests(task.prompt(row), number++, row, requests); });
  return requests;
}

}  // namespace

std::vector<TaskEntry> table_tasks() {
  std::vector<TaskEntry> entries;
  for (const TableTask& task : kTableTasks) {
    entries.push_back({{task.name, task.metric, cat(task.table, ", validation"), task.note},
                       [&task](const TaskData& data) { return load_table(task, data); }});
  }
  return entries;
}

}  // namespace norma
