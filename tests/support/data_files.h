// Small files for tests of the data room: token files with sidecars, compressed text, a tokenizer.
#pragma once

#include <cstdint>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include "norma/base/error.h"
#include "norma/base/json.h"
#include "norma/data/token_file.h"

#include "support/sha256.h"

namespace norma::testing {

using Ids = std::vector<std::int64_t>;

inline void write(const fs::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::string slurp(const fs::path& path) {
  return read_file(path, 1 << 28);
}

template <class Id>
inline std::string raw(const Ids& ids) {
  const std::vector<Id> narrow(ids.begin(), ids.end());
  return {reinterpret_cast<const char*>(narrow.data()), narrow.size() * sizeof(Id)};
}

inline Ids counting(std::int64_t first, std::int64_t n) {
  Ids ids;
  for (std::int64_t i = 0; i < n; ++i) ids.push_back(first + i);
  return ids;
}

inline std::string sha256_hex(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex_digest();
}

// `action` must throw an E whose text holds all the parts.
template <class E>
void expect_error(const std::function<void()>& action, const std::vector<std::string>& parts) {
  try {
    action();
    ADD_FAILURE() << "no error; expected one that says: " << join(parts, " ... ");
  } catch (const E& error) {
    for (const std::string& part : parts) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << "'" << part << "' in: " << error.what();
    }
  }
}

inline std::string gzip(std::string_view text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

inline std::string zstd(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

// A byte-level BPE tokenizer without merges: the id of a byte is its value, end-of-text is 256. A larger
// last_id stands for a larger vocabulary.
inline std::string byte_tokenizer(std::int64_t last_id = 256) {
  Json vocab = Json::object();
  char32_t moved = 256;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    const char32_t shown = printable ? byte : moved++;
    std::string key;
    if (shown < 128)
      key = {static_cast<char>(shown)};
    else
      key = {static_cast<char>(0xC0 | (shown >> 6)), static_cast<char>(0x80 | (shown & 63))};
    vocab[key] = static_cast<int>(byte);
  }
  if (last_id > 256) {
    vocab["<|endoftext|>"] = 256;
    vocab["<|last|>"] = last_id;
  }
  Json added = Json::array();
  const auto add = [&](std::int64_t id, const char* content) {
    added.push_back({{"id", id},
                     {"content", content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  };
  add(256, "<|endoftext|>");
  if (last_id > 256) add(last_id, "<|last|>");
  const Json level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  return Json{{"version", "1.0"},
              {"added_tokens", added},
              {"normalizer", nullptr},
              {"pre_tokenizer", level},
              {"post_processor", nullptr},
              {"decoder", level},
              {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}}}
      .dump();
}

inline Sidecar sidecar_of(const Ids& ids, TokenDtype dtype) {
  Sidecar sidecar;
  sidecar.tokenizer = "tokenizer.json";
  sidecar.tokenizer_checksum = "t1";
  sidecar.dtype = dtype;
  sidecar.tokens = static_cast<std::int64_t>(ids.size());
  sidecar.documents = 1;
  sidecar.vocab_size = 100;
  sidecar.eos_id = 99;
  return sidecar;
}

inline void write_tokens(const fs::path& path, const Ids& ids, TokenDtype dtype, const std::string& tokenizer = "t1") {
  const std::string bytes = dtype == TokenDtype::uint16 ? raw<std::uint16_t>(ids) : raw<std::uint32_t>(ids);
  write(path, bytes);
  Sidecar sidecar = sidecar_of(ids, dtype);
  sidecar.tokenizer_checksum = tokenizer;
  sidecar.checksum = checksum(std::as_bytes(std::span(bytes)));
  write(sidecar_path(path), to_json(sidecar));
}

inline TokenDataset open(const std::vector<std::string>& paths, std::int64_t length,
                         TokenDtype dtype = TokenDtype::automatic, std::int64_t id_bound = 1 << 20) {
  TokenDatasetOptions options;
  options.paths = paths;
  options.dtype = dtype;
  options.sequence_length = length;
  options.id_bound = id_bound;
  return TokenDataset(options);
}

inline Ids instance(const TokenDataset& dataset, std::int64_t index) {
  Ids ids(static_cast<std::size_t>(dataset.sequence_length()));
  dataset.read(index, ids);
  return ids;
}

}  // namespace norma::testing
