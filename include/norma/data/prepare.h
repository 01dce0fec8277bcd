// Text to token files: `<output>/train-00000.npy` ..., `validation-00000.npy` ..., a sidecar beside each, and
// a copy of the tokenizer as `tokenizer.json`.
//
// Each document is stripped as by Python's str.strip(), skipped when nothing remains, encoded without added special
// tokens and ended by the end-of-text id unless that is its last id already (OLMo's scripts/prepare_memmap_dataset.py).
// The output does not depend on the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "norma/base/file.h"
#include "norma/config/config.h"

namespace norma {

struct PrepareOptions {
  std::vector<std::string> inputs;           // files, globs, folders: see text_reader.h
  fs::path tokenizer;                        // tokenizer.json
  fs::path output;                           // folder; made when missing
  TokenDtype dtype = TokenDtype::automatic;  // auto: uint16 when every id of the tokenizer fits
  std::string eos_token;                     // empty: "<|endoftext|>"
  // Which documents go to validation; at most one of the two may be set. The fraction draws documents by a hash of
  // (seed, number of the document in the input); `every` takes each n-th document, the n-th first. When this leaves
  // training or validation without a document, the one nearest to it is moved there. A single document is cut, at a
  // paragraph border when there is one, and its last part goes to validation. PrepareReport::note then says so.
  double validation_fraction = 0;
  std::int64_t validation_every = 0;
  std::int64_t max_tokens_per_file = std::int64_t{512} << 20;  // a longer document has a file of its own
  int threads = 0;                                             // 0: every core this process may use
  std::uint64_t seed = 0;
  bool overwrite = false;  // replace token files and tokenizer of an earlier prepare in the folder
};

struct PrepareProgress {
  std::uint64_t bytes_done = 0;  // of the files on disk
  std::uint64_t bytes_total = 0;
  std::int64_t documents = 0;
  std::int64_t tokens = 0;
};

struct PrepareReport {
  std::int64_t documents = 0;  // written
  std::int64_t validation_documents = 0;
  std::int64_t skipped = 0;   // empty after strip
  std::int64_t repaired = 0;  // with ill-formed text that became U+FFFD, see text_reader.h
  std::string note;           // how the validation split was mended; empty when it was not
  std::int64_t train_tokens = 0;
  std::int64_t validation_tokens = 0;
  std::int64_t text_bytes = 0;  // of the documents written, after strip
  double seconds = 0;
  TokenDtype dtype = TokenDtype::uint32;
  std::int64_t vocab_size = 0;
  std::vector<fs::path> files;  // token files, train first

  std::int64_t tokens() const { return train_tokens + validation_tokens; }
  double tokens_per_second() const { return seconds > 0 ? static_cast<double>(tokens()) / seconds : 0; }
};

// Everything is written to `<output>/.preparing` and renamed at the end, sidecars last: an error or a kill leaves
// nothing that looks whole (a later call removes what is left), and an earlier output stays as it was until then.
// `progress` (may be empty) is called on the calling thread, several times a second even within a long document; an
// exception from it cancels. The folder is locked, so that a second prepare into it is refused.
//
// Throws ConfigError for options that contradict each other or an output that exists or is being written by another
// process, DataError for the text (file and line), the tokenizer, or a split that stays empty; DiskError when a write
// fails.
PrepareReport prepare(const PrepareOptions& options, const std::function<void(const PrepareProgress&)>& progress);

}  // namespace norma
