#include "norma/data/token_file.h"

namespace norma {

TokenDocuments read_documents(const TokenDataset& dataset, std::uint32_t end_of_text, std::int64_t max_tokens) {
  TokenDocuments documents;
  documents.end_of_text = end_of_text;
  const auto limit = static_cast<std::size_t>(max_tokens);
  const auto is_full = [&] { return limit > 0 && documents.ids.size() >= limit; };
  const auto close = [&] {
    if (documents.ids.size() > documents.begin.back()) documents.begin.push_back(documents.ids.size());
  };
  for (std::int64_t file = 0; file < dataset.num_files() && !is_full(); ++file) {
    dataset.for_each_id(file, [&](std::uint32_t id) {
      if (id == documents.end_of_text) {
        close();
        return !is_full();
      }
      documents.ids.push_back(id);
      return true;
    });
    close();
  }
  return documents;
}

}  // namespace norma
