// Token files: OLMo's headerless ".npy" (raw little-endian uint16 or uint32 ids, documents one after the other, each
// ended by the end-of-text id) with a JSON sidecar beside each, and lists of them, read as instances of fixed length.
//
// Instance i of a file is its tokens [i * T, (i + 1) * T); tokens that do not fill an instance at a file's end are
// dropped. The global index runs through the files in listed order (OLMo's MemMapDataset).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "norma/base/file.h"
#include "norma/config/config.h"

namespace norma {

// What is known about a token file; stored as "<file>.json".
struct Sidecar {
  std::string tokenizer;           // file name, in the folder of the token file
  std::string tokenizer_checksum;  // as checksum() in base/file.h
  TokenDtype dtype = TokenDtype::uint32;
  std::int64_t tokens = 0;
  std::int64_t documents = 0;
  std::int64_t vocab_size = 0;  // every id is below it
  std::int64_t eos_id = 0;
  std::string checksum;  // of the token file
  std::string split;     // "train", "validation" or empty
  bool operator==(const Sidecar&) const = default;
};

// Throws DataError naming `where` and the field: missing, of the wrong type, out of range, of a version that this build
// cannot read.
Sidecar parse_sidecar(std::string_view json, const std::string& where);
std::string to_json(const Sidecar& sidecar);
fs::path sidecar_path(const fs::path& token_file);
// nullopt when the file has no sidecar.
std::optional<Sidecar> read_sidecar(const fs::path& token_file);

std::int64_t item_bytes(TokenDtype dtype);  // 2 or 4; not defined for `automatic`

// The names and globs of a config key that match no file. A TokenDataset of the others may still be refused.
Problems missing_token_files(const std::vector<std::string>& paths, const std::string& key);

struct TokenDatasetOptions {
  std::vector<std::string> paths;  // names or globs, in order; one listed twice counts twice
  TokenDtype dtype = TokenDtype::automatic;
  std::int64_t sequence_length = 0;  // T
  std::int64_t id_bound = 0;         // every id that is read must be below it (rows of the embedding)
  std::string key = "data.paths";    // the config key the paths came from, for messages
};

// How token files of a run are opened; `key` names where the paths came from. Ids must be below the vocabulary: the
// padding rows beyond it belong to no token.
TokenDatasetOptions token_options(const RunConfig& config, const std::vector<std::string>& paths,
                                  const std::string& key);

// Instances of T tokens out of any number of files. The constructor maps all files and checks them against their
// sidecars, checksums of the contents excepted: see verify(). Const members may be called from several threads.
class TokenDataset {
 public:
  // Throws DataError: no paths, a glob without match, a missing file, a size that is no multiple of the item,
  // a real NumPy header, a dtype that is unknown or contradicts the sidecar, sidecars of different tokenizers
  // or with more ids than id_bound, no file that holds a whole instance.
  explicit TokenDataset(TokenDatasetOptions options);

  std::int64_t num_instances() const { return first_instance_.back(); }
  std::int64_t num_tokens() const { return num_tokens_; }  // of all listed files, dropped remainders included
  std::int64_t sequence_length() const { return options_.sequence_length; }
  std::int64_t num_files() const { return static_cast<std::int64_t>(files_.size()); }

  // Copies the T ids of an instance. Throws DataError naming file and token offset when an id is not below id_bound.
  void read(std::int64_t instance, std::span<std::int64_t> out) const;

  // Calls visit(id) for the ids of a file, remainders included, until it returns false. Throws DataError as read().
  void for_each_id(std::int64_t file, const std::function<bool(std::uint32_t)>& visit) const;

  // The sidecar of the first file that has one: it says which id ends a document and which tokenizer made the tokens.
  std::optional<Sidecar> sidecar() const;

  // A hash of what is read: file names without folders, sizes, checksums in the sidecars, dtypes, T. The same data in
  // another folder has the same fingerprint.
  std::string fingerprint() const;

  // The path of the tokenizer that the sidecars name, beside the first file with a sidecar; nullopt without sidecars.
  std::optional<fs::path> tokenizer() const;

  // Compares every file with its sidecar's checksum (reads all of it). Throws DataError naming the file.
  void verify() const;

 private:
  struct File {
    fs::path path;
    std::size_t map = 0;  // in maps_; files listed twice share it
    TokenDtype dtype = TokenDtype::uint32;
    std::int64_t tokens = 0;
    std::optional<Sidecar> sidecar;
  };

  [[noreturn]] void refuse_id(const File& file, std::int64_t id, std::int64_t token) const;
  std::vector<std::string> expand_paths() const;
  File open(const fs::path& path);
  TokenDtype settle_dtype(const fs::path& path, const std::optional<Sidecar>& sidecar) const;
  void check_sidecar(const fs::path& path, const Sidecar& sidecar, std::int64_t tokens) const;
  void check_tokenizers() const;

  TokenDatasetOptions options_;
  std::vector<MappedFile> maps_;
  std::vector<File> files_;
  std::vector<std::int64_t> first_instance_;  // [files + 1]
  std::int64_t num_tokens_ = 0;
};

// The documents of token files, for scoring text as a whole.
struct TokenDocuments {
  std::uint32_t end_of_text = 0;
  std::vector<std::uint32_t> ids;        // of all documents, without their end-of-text
  std::vector<std::size_t> begin = {0};  // document d is ids[begin[d], begin[d + 1])

  std::size_t size() const { return begin.size() - 1; }
};

// The documents of all files in order, without empty ones; a file's last document may lack its end-of-text. Reads until
// the documents hold max_tokens (0: all); the last one is whole. Throws DataError for an id beyond the bound.
TokenDocuments read_documents(const TokenDataset& dataset, std::uint32_t end_of_text, std::int64_t max_tokens);

}  // namespace norma
