#include "norma/data/tokenizer.h"

#include <algorithm>
#include <atomic>
#include <span>
#include <unordered_map>

#include "norma/base/error.h"
#include "norma/base/json.h"

#include "added_tokens.h"
#include "bpe.h"
#include "pretokenizer.h"
#include "unicode.h"

namespace norma {

namespace {

constexpr std::size_t kMaxText = std::size_t{1} << 31;  // positions within a word are 32 bits
constexpr std::size_t kMaxAddedBytes = std::size_t{4} << 20;

// Whether the normalizer is (or holds) NFC, the only one that is read.
bool reads_nfc(const JsonObject& normalizer) {
  static const JsonObject::Names kTypes = {"NFC", "Sequence"};
  if (normalizer.choice("type", kTypes) == "NFC") return true;
  return std::ranges::count_if(normalizer.objects("normalizers"), reads_nfc) > 0;
}

// Settings that change the ids of a text, or that the Hugging Face library refuses.
void check_settings(const JsonObject& root) {
  if (root.value().contains("version")) root.choice("version", {"1.0"});
  for (const char* key : {"truncation", "padding"}) {
    if (root.has(key)) root.fail_at(key, "is set, which is not supported; allowed: null");
  }
}

void check_byte_level(const JsonObject& component) {
  component.flag("add_prefix_space");
  component.flag("trim_offsets");
}

// What a TemplateProcessing would add to the text is left out.
void check_post_processor(const JsonObject& component) {
  static const JsonObject::Names kTypes = {"ByteLevel", "TemplateProcessing", "Sequence"};
  const std::string& type = component.choice("type", kTypes);
  if (type == "Sequence") {
    for (const JsonObject& item : component.objects("processors")) check_post_processor(item);
  } else if (type == "ByteLevel") {
    check_byte_level(component);
  } else {
    for (const char* key : {"single", "pair", "special_tokens"}) {
      if (!component.has(key)) component.fail_at(key, "is missing");
    }
  }
}

void check_decoder(const JsonObject& component) {
  static const JsonObject::Names kTypes = {"ByteLevel", "Sequence"};
  if (component.choice("type", kTypes) == "ByteLevel") return check_byte_level(component);
  const std::vector<JsonObject> items = component.objects("decoders");
  if (items.size() != 1) component.fail_at("decoders", "must hold one decoder, a ByteLevel; got ", items.size());
  check_decoder(items[0]);
}

AddedToken read_added_token(const JsonObject& item) {
  AddedToken token;
  token.id = static_cast<std::uint32_t>(item.integer("id", {0, Bpe::kMaxVocab - 1}));
  token.content = item.text("content");
  token.special = item.flag("special");
  token.normalized = item.flag("normalized");
  token.single_word = item.flag("single_word");
  token.left_strip = item.flag("lstrip");
  token.right_strip = item.flag("rstrip");
  return token;
}

std::uint64_t next_number() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

}  // namespace

struct Tokenizer::Work {
  std::uint64_t owner = 0;  // number of the tokenizer whose words the cache holds
  std::unique_ptr<WordCache> cache;
  std::string repaired, normalized;
  PreTokenizer::Work words;
  Bpe::Work bpe;
};

struct Tokenizer::Impl {
  Impl(const JsonObject& root, std::string_view json);

  void read_added_tokens(const JsonObject& root);
  void fill_decoding();
  void encode(std::string_view text, std::vector<std::uint32_t>& out, Work& work) const;
  void encode_plain(std::string_view text, std::vector<std::uint32_t>& out, Work& work) const;

  struct Decoding {
    std::string bytes;
    bool special = false;
  };

  std::uint64_t number = next_number();
  std::string checksum;
  bool nfc;
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  std::vector<AddedToken> added;
  std::unordered_map<std::string, std::uint32_t> added_ids;
  TokenFinder in_raw_text, in_normalized_text;
  std::vector<Decoding> decoding;  // by id
};

Tokenizer::Impl::Impl(const JsonObject& root, std::string_view json)
    : checksum(norma::checksum(std::as_bytes(std::span(json)))),
      nfc(root.has("normalizer") && reads_nfc(root.object("normalizer"))),
      pre_tokenizer(root.find_object("pre_tokenizer")),
      bpe(root.object("model"), pre_tokenizer.byte_level()) {
  check_settings(root);
  if (root.has("post_processor")) check_post_processor(root.object("post_processor"));
  check_decoder(root.object("decoder"));
  if (root.value().contains("added_tokens")) read_added_tokens(root);
  fill_decoding();
}

void Tokenizer::Impl::read_added_tokens(const JsonObject& root) {
  std::unordered_map<std::uint32_t, const std::string*> vocab_names;
  for (const auto& [token, id] : bpe.vocab()) vocab_names.emplace(id, &token);
  std::unordered_map<std::uint32_t, bool> used;
  std::size_t bytes = 0;
  // The Hugging Face library numbers what the vocab lacks on from the vocab's size, whatever the file says.
  std::size_t next_id = bpe.vocab().size();
  for (const JsonObject& item : root.objects("added_tokens")) {
    AddedToken token = read_added_token(item);
    if (token.content.empty()) continue;
    const auto in_vocab = bpe.vocab().find(token.content);
    const auto owner = vocab_names.find(token.id);
    if (in_vocab != bpe.vocab().end() && in_vocab->second != token.id) {
      item.fail("gives '", token.content, "' the id ", token.id, "; the vocab gives it ", in_vocab->second);
    }
    if (owner != vocab_names.end() && *owner->second != token.content) {
      item.fail("gives '", token.content, "' the id ", token.id, ", which the vocab gives to '", *owner->second, "'");
    }
    if (!used.emplace(token.id, true).second || !added_ids.emplace(token.content, token.id).second) {
      item.fail("must have a content and an id of its own; got '", token.content, "', ", token.id, " again");
    }
    if (in_vocab == bpe.vocab().end() && token.id != next_id++) {
      item.fail("gives '", token.content, "' the id ", token.id, "; tokens that the vocab lacks must follow its ",
                bpe.vocab().size(), " tokens in the order of the list: ", next_id - 1);
    }
    bytes += token.content.size();
    if (bytes > kMaxAddedBytes) item.fail("comes after more than ", kMaxAddedBytes, " bytes of added tokens");
    added.push_back(std::move(token));
  }
  for (const AddedToken& token : added) {
    std::string spelling = token.content;
    if (token.normalized && nfc) to_nfc(token.content, spelling);
    (token.normalized ? in_normalized_text : in_raw_text).add(spelling, token);
  }
}

void Tokenizer::Impl::fill_decoding() {
  const auto set = [&](const std::string& content, std::uint32_t id, bool special) {
    if (id >= decoding.size()) decoding.resize(id + std::size_t{1});
    // What is not written in the byte-level alphabet stands for its own UTF-8.
    decoding[id] = {byte_alphabet::bytes_of(content).value_or(content), special};
  };
  for (const auto& [token, id] : bpe.vocab()) set(token, id, false);
  for (const AddedToken& token : added) set(token.content, token.id, token.special);
}

void Tokenizer::Impl::encode(std::string_view text, std::vector<std::uint32_t>& out, Work& work) const {
  if (text.size() > kMaxText) {
    throw DataError(cat("[tokenizer] a text must have at most ", kMaxText, " bytes; got ", text.size()));
  }
  if (!is_valid_utf8(text)) {
    work.repaired.clear();
    append_repaired_utf8(text, work.repaired);
    text = work.repaired;
  }
  const auto add_token = [&](std::uint32_t id) { out.push_back(id); };
  in_raw_text.split(
      text,
      [&](std::string_view part) {
        if (nfc && to_nfc(part, work.normalized)) part = work.normalized;
        in_normalized_text.split(
            part, [&](std::string_view plain) { encode_plain(plain, out, work); }, add_token);
      },
      add_token);
}

void Tokenizer::Impl::encode_plain(std::string_view text, std::vector<std::uint32_t>& out, Work& work) const {
  WordCache* cache = work.cache.get();
  const std::atomic<bool>* stop = work.words.stop;
  pre_tokenizer.for_each_word(text, work.words, [&](std::string_view word) {
    if (stop != nullptr && stop->load(std::memory_order_relaxed)) {
      throw Error(ExitCode::interrupted, "[tokenizer] stopped");
    }
    bpe.encode(word, out, work.bpe, cache);
  });
}

Tokenizer::Scratch::Scratch() : work_(std::make_unique<Work>()) {}
Tokenizer::Scratch::~Scratch() = default;
Tokenizer::Scratch::Scratch(Scratch&&) noexcept = default;
Tokenizer::Scratch& Tokenizer::Scratch::operator=(Scratch&&) noexcept = default;

void Tokenizer::Scratch::stop_on(const std::atomic<bool>* stop) {
  work_->words.stop = stop;
}

Tokenizer::Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Tokenizer Tokenizer::load(const fs::path& tokenizer_json) {
  return from_json(read_file(tokenizer_json, kMaxTokenizerBytes), tokenizer_json.string());
}

Tokenizer Tokenizer::from_json(std::string_view json, const std::string& where) {
  if (json.size() > kMaxTokenizerBytes) {
    throw DataError(
        cat("[tokenizer] ", where, ": must have at most ", kMaxTokenizerBytes, " bytes; got ", json.size()));
  }
  const Json document = parse_json(json, cat("tokenizer ", where));
  const JsonObject root(document, cat("[tokenizer] ", where));
  return Tokenizer(std::make_shared<const Impl>(root, json));
}

std::vector<std::uint32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<std::uint32_t> ids;
  Work work;
  impl_->encode(text, ids, work);
  return ids;
}

void Tokenizer::encode(std::string_view text, std::vector<std::uint32_t>& out, Scratch& scratch) const {
  Work& work = *scratch.work_;
  if (work.owner != impl_->number) {
    work.cache = std::make_unique<WordCache>();
    work.owner = impl_->number;
  }
  impl_->encode(text, out, work);
}

std::string Tokenizer::decode(std::span<const std::uint32_t> ids, bool skip_special) const {
  std::string bytes;
  for (std::uint32_t id : ids) {
    if (id >= impl_->decoding.size()) continue;
    const Impl::Decoding& token = impl_->decoding[id];
    if (!(skip_special && token.special)) bytes += token.bytes;
  }
  if (is_valid_utf8(bytes)) return bytes;
  std::string text;
  append_repaired_utf8(bytes, text);
  return text;
}

std::vector<std::int64_t> Tokenizer::token_bytes() const {
  std::vector<std::int64_t> bytes;
  bytes.reserve(impl_->decoding.size());
  for (const Impl::Decoding& token : impl_->decoding) {
    bytes.push_back(token.special ? 0 : static_cast<std::int64_t>(token.bytes.size()));
  }
  return bytes;
}

std::int64_t Tokenizer::vocab_size() const {
  return static_cast<std::int64_t>(impl_->decoding.size());
}

std::optional<std::uint32_t> Tokenizer::token_id(std::string_view token) const {
  const std::string key(token);
  if (const auto found = impl_->added_ids.find(key); found != impl_->added_ids.end()) return found->second;
  if (const auto found = impl_->bpe.vocab().find(key); found != impl_->bpe.vocab().end()) return found->second;
  return std::nullopt;
}

std::optional<std::uint32_t> Tokenizer::eos_id() const {
  return token_id("<|endoftext|>");
}

const std::string& Tokenizer::checksum() const {
  return impl_->checksum;
}

}  // namespace norma
