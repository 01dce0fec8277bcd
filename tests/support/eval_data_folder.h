// A little evaluation data, made by tests.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "norma/base/file.h"

#include "data_files.h"
#include "fixtures.h"

namespace norma::testing {

// A folder of data as scripts/fetch_eval_data.sh lays it out.
class DataFolder {
 public:
  void add(const std::string& path, const std::vector<nlohmann::json>& rows) {
    std::string text;
    for (const nlohmann::json& row : rows) text += row.dump() + "\n";
    add_text(path, text, static_cast<std::int64_t>(rows.size()));
  }

  void add_text(const std::string& path, const std::string& text, std::int64_t lines) {
    fs::create_directories((root() / path).parent_path());
    write(root() / path, text);
    list(path, text, lines);
  }

  // Lists a file in the index without writing it.
  void list(const std::string& path, const std::string& text, std::int64_t lines) {
    files_.push_back({{"path", path},
                      {"bytes", text.size()},
                      {"lines", lines},
                      {"checksum", checksum(std::as_bytes(std::span(text)))}});
    write_entries();
  }

  void write_index(const nlohmann::json& index) { write(root() / "index.json", index.dump()); }
  nlohmann::json& entry(std::size_t i) { return files_.at(i); }
  void write_entries() { write_index({{"format", 1}, {"source", "made here"}, {"files", files_}}); }

  const fs::path& root() const { return folder_.path(); }

 private:
  TemporaryFolder folder_;
  nlohmann::json files_ = nlohmann::json::array();
};

// A row of ready-made requests that share a context.
inline nlohmann::json request_row(std::int64_t document, const nlohmann::json& label, const std::vector<int>& indices,
                                  const std::vector<std::string>& texts) {
  return {{"doc_id", document},       {"label", label}, {"request_type", "loglikelihood"},
          {"context", "Q: why?\nA:"}, {"idx", indices}, {"continuations", texts}};
}

}  // namespace norma::testing
