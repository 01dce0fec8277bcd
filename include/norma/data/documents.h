// The documents of token files, one after the other, for scoring text as a whole.
#pragma once

#include <cstdint>
#include <vector>

#include "norma/data/token_file.h"

namespace norma {

struct TokenDocuments {
  std::uint32_t end_of_text = 0;
  std::vector<std::uint32_t> ids;        // of all documents, without their end-of-text
  std::vector<std::size_t> begin = {0};  // document d is ids[begin[d], begin[d + 1])

  std::size_t size() const { return begin.size() - 1; }
};

// Documents of all files in order, empty ones left out; a file's last one may lack its end-of-text. Reads until the
// documents hold max_tokens (0: all); the last one is whole. Throws DataError when an id is not below the dataset's
// bound.
TokenDocuments read_documents(const TokenDataset& dataset, std::uint32_t end_of_text, std::int64_t max_tokens);

}  // namespace norma
