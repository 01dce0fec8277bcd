#include "norma/record/summary.h"

#include "norma/record/run_folder.h"

#include "json_fields.h"
#include "lines.h"

namespace norma {

static std::vector<std::string> names_of(Outcome /*type*/) {
  return {"finished", "stopped"};
}

namespace {

constexpr std::size_t kMaxLineBytes = std::size_t{1} << 24;

}  // namespace

void write_summary(const fs::path& folder, const Summary& summary) {
  write_json(folder / kSummaryFile, json_of(summary));
}

Summary read_summary(const fs::path& folder) {
  return read_record<Summary>(folder / kSummaryFile);
}

const BaselineScores* scores_of(const Baseline& baseline, const std::string& label) {
  auto found = baseline.find(label);
  if (found == baseline.end()) found = baseline.find("");
  return found == baseline.end() ? nullptr : &found->second;
}

std::string json_text(const Baseline& baseline) {
  if (baseline.size() == 1 && baseline.begin()->first.empty()) return to_text(json_of(baseline.begin()->second)) + "\n";
  Json json = Json::object();
  for (const auto& [label, scores] : baseline) json[label] = json_of(scores);
  return to_text(json) + "\n";
}

Baseline read_baseline(const fs::path& file) {
  const Json json = read_json(file, kMaxRecordBytes);
  const JsonObject object(json, cat("[record] ", file.string()));
  Baseline baseline;
  if (object.has("unigram_nats") && json["unigram_nats"].is_number()) {
    read_section(object, baseline[""]);
    return baseline;
  }
  for (const auto& [label, unused] : json.items()) read_field(object, label, baseline[label]);
  return baseline;
}

Baseline read_run_baseline(const fs::path& run_folder) {
  return fs::exists(run_folder / kBaselineFile) ? read_baseline(run_folder / kBaselineFile) : Baseline{};
}

void write_texts(const fs::path& file, const std::vector<GeneratedText>& texts) {
  std::string lines;
  for (const GeneratedText& text : texts) lines += to_text(json_of(text)) + "\n";
  write_file_atomic(file, lines);
}

std::vector<GeneratedText> read_samples(const fs::path& run_folder) {
  std::vector<GeneratedText> texts;
  if (const fs::path file = run_folder / kSamplesFile; fs::exists(file)) {
    const MappedFile mapped(file);
    for_each_line(text_of(mapped), file, kMaxLineBytes, [&](const std::string& where, std::string_view line) {
      const Json json = parse_json(line, where);
      read_section(JsonObject(json, cat("[record] ", where)), texts.emplace_back());
    });
  } else if (const fs::path older = run_folder / kOldSampleFile; fs::exists(older)) {
    texts.emplace_back().text = read_file(older, kMaxRecordBytes);
  }
  return texts;
}

}  // namespace norma
