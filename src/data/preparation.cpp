// prepare(): text to token files, on all cores.
#include <atomic>
#include <chrono>
#include <deque>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "norma/base/error.h"
#include "norma/base/thread_pool.h"
#include "norma/data/characters.h"
#include "norma/data/prepare.h"
#include "norma/data/text_reader.h"
#include "norma/data/token_file.h"
#include "norma/data/tokenizer.h"

#include "prepare_output.h"
#include "validation_split.h"

namespace norma {
namespace {

constexpr std::uint64_t kChunkBytes = std::uint64_t{1} << 20;
constexpr std::size_t kChunkDocuments = 4096;
constexpr std::chrono::milliseconds kProgressInterval{100};

struct Chunk {
  std::vector<RawDocument> documents;
  std::uint64_t bytes_done = 0;  // of the input, after this chunk
};

struct EncodedChunk {
  std::vector<std::uint32_t> ids;
  std::vector<std::size_t> lengths;  // per document, end-of-text included; 0 = skipped
  std::int64_t text_bytes = 0;
  std::int64_t repaired = 0;
  std::uint64_t bytes_done = 0;
};

// Encodes chunks, on any thread.
class Encoder {
 public:
  Encoder(const Tokenizer& tokenizer, std::uint32_t eos, const ValidationSplit& split)
      : tokenizer_(tokenizer), eos_(eos), split_(split) {}

  // Lets the calls of encode() that are under way end soon, with an error.
  void stop() { stop_ = true; }

  EncodedChunk encode(Chunk chunk) const {
    static thread_local Tokenizer::Scratch scratch;
    scratch.stop_on(&stop_);
    EncodedChunk encoded;
    encoded.bytes_done = chunk.bytes_done;
    for (RawDocument& document : chunk.documents) {
      const DocumentText whole = document_text(std::move(document));
      const std::string_view text = strip(whole.text);
      encoded.repaired += whole.is_repaired ? 1 : 0;
      if (split_.cuts() && !text.empty()) {
        const std::size_t cut = split_.cut_of(text);
        append(strip(text.substr(0, cut)), scratch, encoded);
        append(strip(text.substr(cut)), scratch, encoded);
      } else {
        append(text, scratch, encoded);
      }
    }
    return encoded;
  }

 private:
  void append(std::string_view text, Tokenizer::Scratch& scratch, EncodedChunk& encoded) const {
    const std::size_t before = encoded.ids.size();
    if (!text.empty()) {
      tokenizer_.encode(text, encoded.ids, scratch);
      if (encoded.ids.size() == before || encoded.ids.back() != eos_) encoded.ids.push_back(eos_);
    }
    encoded.lengths.push_back(encoded.ids.size() - before);
    encoded.text_bytes += static_cast<std::int64_t>(text.size());
  }

  const Tokenizer& tokenizer_;
  std::uint32_t eos_;
  const ValidationSplit& split_;
  std::atomic<bool> stop_{false};
};

bool read_chunk(TextReader& reader, Chunk& chunk) {
  std::uint64_t bytes = 0;
  while (bytes < kChunkBytes && chunk.documents.size() < kChunkDocuments) {
    RawDocument document;
    if (!reader.next(document)) break;
    bytes += document.bytes.size();
    chunk.documents.push_back(std::move(document));
  }
  chunk.bytes_done = reader.bytes_read();
  return !chunk.documents.empty();
}

void check_options(const PrepareOptions& options) {
  if (options.output.empty()) throw ConfigError("[prepare] the output folder must have a name; got an empty one");
  if (!(options.validation_fraction >= 0 && options.validation_fraction < 1)) {
    throw ConfigError(cat("[prepare] the validation fraction must lie in [0, 1); got ", options.validation_fraction));
  }
  if (options.validation_every < 0 || options.validation_every == 1) {
    throw ConfigError(cat("[prepare] every n-th document for validation: n must be 0 (none) or at least 2; got ",
                          options.validation_every));
  }
  if (options.validation_fraction > 0 && options.validation_every > 0) {
    throw ConfigError("[prepare] validation documents are chosen by fraction or by every n-th, not by both");
  }
  if (options.max_tokens_per_file <= 0 || options.threads < 0) {
    throw ConfigError("[prepare] tokens per file must be positive, threads not negative");
  }
}

// What all sidecars share: the tokenizer, the dtype, the end-of-text id.
Sidecar common_sidecar(const PrepareOptions& options, const Tokenizer& tokenizer) {
  const std::string where = options.tokenizer.string();
  Sidecar common;
  common.tokenizer = kTokenizerFile;
  common.tokenizer_checksum = tokenizer.checksum();
  common.vocab_size = tokenizer.vocab_size();
  const bool fits = common.vocab_size <= 65536;
  if (options.dtype == TokenDtype::uint16 && !fits) {
    throw ConfigError(
        cat("[prepare] uint16 holds ids below 65536; ", where, " has ", common.vocab_size, ": use uint32 or auto"));
  }
  const TokenDtype smallest = fits ? TokenDtype::uint16 : TokenDtype::uint32;
  common.dtype = options.dtype == TokenDtype::automatic ? smallest : options.dtype;
  const auto eos = options.eos_token.empty() ? tokenizer.eos_id() : tokenizer.token_id(options.eos_token);
  if (!eos) {
    throw DataError(cat("[prepare] ", where, " must have the end-of-text token '",
                        options.eos_token.empty() ? "<|endoftext|>" : options.eos_token, "': name the one it has"));
  }
  common.eos_id = *eos;
  return common;
}

// Reads on the calling thread, encodes on the others, writes in the order of the input.
class Pipeline {
 public:
  Pipeline(const PrepareOptions& options, const Tokenizer& tokenizer, const Sidecar& common, const fs::path& folder,
           ValidationSplit& split)
      : options_(options),
        split_(split),
        encoder_(tokenizer, static_cast<std::uint32_t>(common.eos_id), split),
        train_(folder, with_split(common, "train"), options.max_tokens_per_file),
        validation_(folder, with_split(common, "validation"), options.max_tokens_per_file) {}

  void run(TextReader& reader, const std::function<void(const PrepareProgress&)>& progress) {
    const int threads = options_.threads > 0 ? options_.threads : available_cores();
    ThreadPool pool(threads);
    try {
      feed(reader, pool, progress);
    } catch (...) {
      encoder_.stop();  // the pool waits for its threads
      throw;
    }
    train_.close();
    validation_.close();
  }

  PrepareReport report() const {
    PrepareReport report;
    report.documents = train_.documents() + validation_.documents();
    report.validation_documents = validation_.documents();
    report.skipped = number_ - report.documents;
    report.repaired = repaired_;
    report.train_tokens = train_.tokens();
    report.validation_tokens = validation_.tokens();
    report.text_bytes = text_bytes_;
    report.note = split_.note();
    return report;
  }

  std::vector<std::string> names() const {
    std::vector<std::string> all = train_.names();
    all.insert(all.end(), validation_.names().begin(), validation_.names().end());
    return all;
  }

  void check() const {
    if (train_.documents() == 0 || (split_.is_wanted() && validation_.documents() == 0)) {
      throw DataError(cat("[prepare] both splits must get a document; of ", number_, " document(s) ",
                          train_.documents(), " went to training and ", validation_.documents(),
                          " to validation, the rest is empty: give more text or another validation share"));
    }
  }

 private:
  using Progress = std::function<void(const PrepareProgress&)>;

  static Sidecar with_split(Sidecar sidecar, const std::string& split) {
    sidecar.split = split;
    return sidecar;
  }

  void feed(TextReader& reader, ThreadPool& pool, const Progress& progress) {
    const auto max_in_flight = static_cast<std::size_t>(pool.size()) * 2;
    std::deque<std::future<EncodedChunk>> in_flight;
    std::uint64_t bytes_done = 0;
    const auto tell = [&] {
      if (progress) progress({bytes_done, reader.bytes_total(), number_, train_.tokens() + validation_.tokens()});
    };
    bool more = true;
    while (more || !in_flight.empty()) {
      auto chunk = std::make_shared<Chunk>();
      more = more && read_chunk(reader, *chunk);
      if (more) in_flight.push_back(pool.submit([this, chunk] { return encoder_.encode(std::move(*chunk)); }));
      if (in_flight.empty() || (more && in_flight.size() < max_in_flight)) continue;
      while (in_flight.front().wait_for(kProgressInterval) != std::future_status::ready) tell();
      const EncodedChunk encoded = in_flight.front().get();
      in_flight.pop_front();
      write(encoded);
      bytes_done = encoded.bytes_done;
      tell();
    }
  }

  void write(const EncodedChunk& encoded) {
    std::span<const std::uint32_t> rest(encoded.ids);
    for (const std::size_t length : encoded.lengths) {
      if (length > 0) {
        (goes_to_validation() ? validation_ : train_).append(rest.first(length));
        split_.observe(number_);
      }
      ++number_;
      rest = rest.subspan(length);
    }
    text_bytes_ += encoded.text_bytes;
    repaired_ += encoded.repaired;
  }

  // When a single document is cut, its second part does.
  bool goes_to_validation() const { return split_.cuts() ? train_.documents() > 0 : split_.takes(number_); }

  const PrepareOptions& options_;
  ValidationSplit& split_;
  Encoder encoder_;
  SplitWriter train_;
  SplitWriter validation_;
  std::int64_t number_ = 0;  // documents read, empty ones included
  std::int64_t text_bytes_ = 0;
  std::int64_t repaired_ = 0;
};

}  // namespace

PrepareReport prepare(const PrepareOptions& options, const std::function<void(const PrepareProgress&)>& progress) {
  const auto start = std::chrono::steady_clock::now();
  check_options(options);
  const std::string tokenizer_text = read_file(options.tokenizer, kMaxTokenizerBytes);
  const Tokenizer tokenizer = Tokenizer::from_json(tokenizer_text, options.tokenizer.string());
  const Sidecar common = common_sidecar(options, tokenizer);
  const std::vector<fs::path> inputs = find_text_files(options.inputs);
  PrepareOutput output(options, tokenizer.checksum());

  ValidationSplit split(options);
  std::optional<Pipeline> pipeline;
  do {  // once more when the split had to be mended
    TextReader reader(inputs);
    pipeline.emplace(options, tokenizer, common, output.staging(), split);
    pipeline->run(reader, progress);
  } while (split.repair());
  pipeline->check();
  PrepareReport report = pipeline->report();
  report.files = output.publish(pipeline->names(), tokenizer_text);
  report.dtype = common.dtype;
  report.vocab_size = common.vocab_size;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace norma
