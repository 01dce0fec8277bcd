#include "norma/data/token_file.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <map>

#include "norma/base/error.h"
#include "norma/base/json.h"
#include "norma/config/names.h"

namespace norma {

static_assert(std::endian::native == std::endian::little, "token files are little-endian and read as they are");

namespace {

constexpr std::int64_t kSidecarVersion = 1;
constexpr std::uint64_t kMaxSidecarBytes = 1 << 20;
constexpr int kMaxSidecarDepth = 8;
constexpr IntegerRange kCounts{0, std::int64_t{1} << 60};  // leaves room to add a few of them

// Copies the ids of one instance and returns the largest.
template <class Id>
std::int64_t copy_ids(const std::byte* source, std::span<std::int64_t> out) {
  std::int64_t largest = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    Id id;
    std::memcpy(&id, source + i * sizeof(Id), sizeof(Id));
    out[i] = id;
    largest = std::max<std::int64_t>(largest, id);
  }
  return largest;
}

void refuse_numpy_header(const fs::path& path, std::span<const std::byte> bytes) {
  constexpr std::string_view kMagic = "\x93NUMPY";
  if (bytes.size() >= kMagic.size() && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0) {
    throw DataError(cat("[token file] ", path.string(),
                        " must hold raw ids without a header, as OLMo writes them; got a ",
                        "file with a NumPy header (numpy.save): write it with array.tofile() or numpy.memmap"));
  }
}

}  // namespace

std::int64_t item_bytes(TokenDtype dtype) {
  NORMA_CHECK(dtype != TokenDtype::automatic, "[token file] the dtype must be settled before sizes are computed");
  return dtype == TokenDtype::uint16 ? 2 : 4;
}

fs::path sidecar_path(const fs::path& token_file) {
  return token_file.string() + ".json";
}

Sidecar parse_sidecar(std::string_view text, const std::string& where) {
  const Json json = parse_json(text, where, kMaxSidecarDepth);
  const JsonObject fields(json, cat("[token file] ", where));
  const std::int64_t version = fields.integer("version", kCounts);
  if (version != kSidecarVersion) {
    fields.fail_at("version", "must be ", kSidecarVersion, "; got ", version, ", written by another Norma");
  }
  Sidecar sidecar;
  sidecar.tokenizer = fields.text("tokenizer");
  if (sidecar.tokenizer.find('/') != std::string::npos || sidecar.tokenizer == "..") {
    fields.fail_at("tokenizer", "must be a file name without a folder");
  }
  sidecar.tokenizer_checksum = fields.text("tokenizer_checksum");
  sidecar.dtype = *parse_enum<TokenDtype>(fields.choice("dtype", {"uint16", "uint32"}));
  sidecar.tokens = fields.integer("tokens", kCounts);
  sidecar.documents = fields.integer("documents", kCounts);
  sidecar.vocab_size = fields.integer("vocab_size", kCounts);
  sidecar.eos_id = fields.integer("eos_id", kCounts);
  if (sidecar.eos_id >= sidecar.vocab_size) {
    fields.fail_at("eos_id", "must be below vocab_size ", sidecar.vocab_size, "; got ", sidecar.eos_id);
  }
  sidecar.checksum = fields.text("checksum");
  sidecar.split = fields.find_text("split").value_or("");
  return sidecar;
}

std::string to_json(const Sidecar& sidecar) {
  Json json;
  json["version"] = kSidecarVersion;
  json["tokenizer"] = sidecar.tokenizer;
  json["tokenizer_checksum"] = sidecar.tokenizer_checksum;
  json["dtype"] = std::string(enum_name(sidecar.dtype));
  json["tokens"] = sidecar.tokens;
  json["documents"] = sidecar.documents;
  json["vocab_size"] = sidecar.vocab_size;
  json["eos_id"] = sidecar.eos_id;
  json["checksum"] = sidecar.checksum;
  if (!sidecar.split.empty()) json["split"] = sidecar.split;
  return to_text(json, 2) + "\n";
}

std::optional<Sidecar> read_sidecar(const fs::path& token_file) {
  const fs::path path = sidecar_path(token_file);
  if (!fs::exists(path)) return std::nullopt;
  return parse_sidecar(read_file(path, kMaxSidecarBytes), path.string());
}

TokenDatasetOptions token_options(const RunConfig& config, const std::vector<std::string>& paths,
                                  const std::string& key) {
  TokenDatasetOptions options;
  options.paths = paths;
  options.dtype = config.data.dtype;
  options.sequence_length = config.model.sequence_length;
  options.id_bound = config.model.vocab_size;
  options.key = key;
  return options;
}

TokenDataset::TokenDataset(TokenDatasetOptions options) : options_(std::move(options)) {
  NORMA_CHECK(options_.sequence_length > 0 && options_.id_bound > 0, "[data] sequence length and id bound");
  std::map<std::string, std::size_t> seen;  // path -> position in files_
  first_instance_.push_back(0);
  for (const std::string& path : expand_paths()) {
    const auto [entry, is_new] = seen.emplace(path, files_.size());
    File file = is_new ? open(path) : files_[entry->second];
    num_tokens_ += file.tokens;
    first_instance_.push_back(first_instance_.back() + file.tokens / options_.sequence_length);
    files_.push_back(std::move(file));
  }
  check_tokenizers();
  if (num_instances() == 0) {
    throw DataError(
        cat("[data] ", options_.key, " must hold at least one instance of ", options_.sequence_length,
            " tokens in one file; got ", files_.size(), " file(s) with ", num_tokens_,
            " tokens altogether: list more data, or lower model.sequence_length (norma eval: --instance-length)"));
  }
}

namespace {

// What is wrong with a name or glob itself, or "".
std::string problem_of(const std::string& pattern, const std::vector<std::string>& matches) {
  const std::string start = cat(" (relative names start at ", fs::current_path().string(), ")");
  if (matches.empty()) return cat("'", pattern, "' must match at least one file; got none", start);
  for (const std::string& name : matches) {
    std::error_code unreadable;
    if (!fs::exists(name, unreadable)) return cat("token file ", name, " does not exist", start);
    if (!fs::is_regular_file(name, unreadable)) {
      return cat(name, " must be a file; name the files or use a glob: ", (fs::path(name) / "*.npy").string());
    }
  }
  return "";
}

}  // namespace

Problems missing_token_files(const std::vector<std::string>& paths, const std::string& key) {
  Problems problems;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    const std::string text = problem_of(paths[i], expand_glob(paths[i]));
    if (!text.empty()) problems.push_back({cat(key, "[", i, "]"), 0, text});
  }
  return problems;
}

std::vector<std::string> TokenDataset::expand_paths() const {
  if (options_.paths.empty()) {
    throw DataError(cat("[data] ", options_.key, " must name at least one token file; got an empty list"));
  }
  std::vector<std::string> all;
  for (const std::string& pattern : options_.paths) {
    const std::vector<std::string> matches = expand_glob(pattern);
    const std::string text = problem_of(pattern, matches);
    if (!text.empty()) throw DataError(cat("[data] ", options_.key, ": ", text));
    all.insert(all.end(), matches.begin(), matches.end());
  }
  return all;
}

TokenDtype TokenDataset::settle_dtype(const fs::path& path, const std::optional<Sidecar>& sidecar) const {
  if (options_.dtype == TokenDtype::automatic) {
    if (sidecar) return sidecar->dtype;
    throw DataError(cat("[data] ", path.string(), " has no sidecar ", sidecar_path(path).filename().string(),
                        " that would tell its dtype: set data.dtype to uint16 or uint32 (OLMo's dolma2 files are ",
                        "uint32, its neox files uint16)"));
  }
  if (sidecar && sidecar->dtype != options_.dtype) {
    throw DataError(cat("[data] data.dtype must be auto or what the files hold; got ", enum_name(options_.dtype),
                        " but ", sidecar_path(path).string(), " says ", enum_name(sidecar->dtype)));
  }
  return options_.dtype;
}

void TokenDataset::check_sidecar(const fs::path& path, const Sidecar& sidecar, std::int64_t tokens) const {
  if (sidecar.tokens != tokens) {
    throw DataError(cat("[token file] ", path.string(), " must hold the ", sidecar.tokens,
                        " tokens its sidecar states; ", "got ", tokens,
                        ": the file was cut off or replaced, prepare it again"));
  }
  if (sidecar.vocab_size > options_.id_bound) {
    throw DataError(cat("[data] ", path.string(), " was made with a tokenizer of ", sidecar.vocab_size,
                        " ids; the model has ", options_.id_bound, ": set model.vocab_size to ", sidecar.vocab_size));
  }
}

TokenDataset::File TokenDataset::open(const fs::path& path) {
  File file;
  file.path = path;
  file.map = maps_.size();
  maps_.emplace_back(path);
  const std::span<const std::byte> bytes = maps_.back().bytes();
  refuse_numpy_header(path, bytes);
  file.sidecar = read_sidecar(path);
  file.dtype = settle_dtype(path, file.sidecar);
  const std::int64_t item = item_bytes(file.dtype);
  const auto size = static_cast<std::int64_t>(bytes.size());
  if (size % item != 0) {
    throw DataError(cat("[token file] the size of ", path.string(), " must be a multiple of ", item, " bytes (",
                        enum_name(file.dtype), "); got ", size, " bytes: the file is cut off or of another dtype"));
  }
  file.tokens = size / item;
  if (file.sidecar) check_sidecar(path, *file.sidecar, file.tokens);
  return file;
}

void TokenDataset::check_tokenizers() const {
  const File* first = nullptr;
  for (const File& file : files_) {
    if (!file.sidecar) continue;
    if (first == nullptr) first = &file;
    if (file.sidecar->tokenizer_checksum != first->sidecar->tokenizer_checksum) {
      throw DataError(cat("[data] all files of ", options_.key, " must be made with the same tokenizer; got different ",
                          "tokenizer checksums for ", first->path.string(), " and ", file.path.string()));
    }
  }
}

void TokenDataset::read(std::int64_t instance, std::span<std::int64_t> out) const {
  const std::int64_t length = options_.sequence_length;
  NORMA_CHECK(instance >= 0 && instance < num_instances(), "[data] instance ", instance, " of ", num_instances());
  NORMA_CHECK(static_cast<std::int64_t>(out.size()) == length, "[data] room for one instance");
  // The last file that starts at or before the instance: files without a whole instance are passed over.
  const auto after = std::upper_bound(first_instance_.begin(), first_instance_.end(), instance);
  const auto index = static_cast<std::size_t>(after - first_instance_.begin() - 1);
  const File& file = files_[index];
  const std::int64_t first_token = (instance - first_instance_[index]) * length;
  const std::byte* source = maps_[file.map].bytes().data() + first_token * item_bytes(file.dtype);
  const std::int64_t largest =
      file.dtype == TokenDtype::uint16 ? copy_ids<std::uint16_t>(source, out) : copy_ids<std::uint32_t>(source, out);
  if (largest < options_.id_bound) return;
  const auto bad = std::find_if(out.begin(), out.end(), [&](std::int64_t id) { return id >= options_.id_bound; });
  refuse_id(file, *bad, first_token + (bad - out.begin()));
}

void TokenDataset::refuse_id(const File& file, std::int64_t id, std::int64_t token) const {
  throw DataError(cat("[token file] every id of ", file.path.string(), " must be below ", options_.id_bound, "; got ",
                      id, " at token ", token,
                      ": the file is of another dtype or tokenizer (data.dtype, model.vocab_size)"));
}

void TokenDataset::for_each_id(std::int64_t index, const std::function<bool(std::uint32_t)>& visit) const {
  constexpr std::int64_t kAtOnce = 1 << 16;
  const File& file = files_[static_cast<std::size_t>(index)];
  const std::byte* const bytes = maps_[file.map].bytes().data();
  std::vector<std::int64_t> ids;
  for (std::int64_t begin = 0; begin < file.tokens; begin += kAtOnce) {
    ids.resize(static_cast<std::size_t>(std::min(kAtOnce, file.tokens - begin)));
    const std::byte* const source = bytes + begin * item_bytes(file.dtype);
    file.dtype == TokenDtype::uint16 ? copy_ids<std::uint16_t>(source, ids) : copy_ids<std::uint32_t>(source, ids);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] >= options_.id_bound) refuse_id(file, ids[i], begin + static_cast<std::int64_t>(i));
      if (!visit(static_cast<std::uint32_t>(ids[i]))) return;
    }
  }
}

std::optional<Sidecar> TokenDataset::sidecar() const {
  for (const File& file : files_) {
    if (file.sidecar) return file.sidecar;
  }
  return std::nullopt;
}

std::string TokenDataset::fingerprint() const {
  std::string text = cat("norma tokens 1\n", options_.sequence_length, "\n");
  for (const File& file : files_) {
    text += cat(file.path.filename().string(), "\t", maps_[file.map].bytes().size(), "\t", enum_name(file.dtype), "\t",
                file.sidecar ? file.sidecar->checksum : "", "\n");
  }
  return checksum(std::as_bytes(std::span(text)));
}

std::optional<fs::path> TokenDataset::tokenizer() const {
  for (const File& file : files_) {
    if (file.sidecar) return file.path.parent_path() / file.sidecar->tokenizer;
  }
  return std::nullopt;
}

void TokenDataset::verify() const {
  for (const File& file : files_) {
    if (!file.sidecar) continue;
    const std::string actual = checksum(maps_[file.map].bytes());
    if (actual != file.sidecar->checksum) {
      throw DataError(cat("[token file] ", file.path.string(), " must have checksum ", file.sidecar->checksum,
                          " as its sidecar states; got ", actual, ": the file was changed or damaged"));
    }
  }
}

}  // namespace norma
