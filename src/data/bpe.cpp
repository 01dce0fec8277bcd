#include "bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>

#include "unicode.h"

namespace norma {

namespace byte_alphabet {

namespace {

// Printable Latin-1 bytes stand for themselves; the 68 others follow in order from U+0100.
constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<char32_t, 256> make_characters() {
  std::array<char32_t, 256> characters{};
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) characters[byte] = stands_for_itself(byte) ? byte : next++;
  return characters;
}

constexpr std::array<char32_t, 256> kCharacters = make_characters();

}  // namespace

std::string character_of(unsigned char byte) {
  std::string character;
  append_utf8(character, kCharacters[byte]);
  return character;
}

std::optional<std::string> bytes_of(std::string_view token) {
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const DecodedChar decoded = decode_utf8(token.data() + at);
    const auto found = std::find(kCharacters.begin(), kCharacters.end(), decoded.code);
    if (found == kCharacters.end()) return std::nullopt;
    bytes += static_cast<char>(found - kCharacters.begin());
    at += decoded.length;
  }
  return bytes;
}

}  // namespace byte_alphabet

namespace {

std::uint64_t mix(std::uint64_t x) {
  x ^= x >> 32;
  x *= 0x9E3779B97F4A7C15U;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9U;
  return x ^ (x >> 32);
}

// The first `count` (0 to 8) bytes at p as one number, without reading beyond them.
std::uint64_t load_bytes(const char* p, std::size_t count) {
  if (count >= 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, p, 8);
    return word;
  }
  if (count >= 4) {
    std::uint32_t low = 0, high = 0;
    std::memcpy(&low, p, 4);
    std::memcpy(&high, p + count - 4, 4);
    return low | (static_cast<std::uint64_t>(high) << (8 * (count - 4)));
  }
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < count; ++i)
    word |= static_cast<std::uint64_t>(static_cast<unsigned char>(p[i])) << (8 * i);
  return word;
}

std::uint64_t pair_of(std::uint32_t left, std::uint32_t right) {
  return (static_cast<std::uint64_t>(left) << 32) | right;
}

constexpr std::uint64_t kNoPair = ~std::uint64_t{0};
constexpr std::size_t kShortWord = 48;  // symbols up to which scanning beats a queue

// Whether a setting that is not supported has a value that changes nothing.
bool is_off(const JsonObject& model, const char* key) {
  if (!model.has(key)) return true;
  const Json& value = model.at(key);
  const auto* const text = value.get_ptr<const std::string*>();
  return value == false || (text != nullptr && text->empty()) || (value.is_number() && value == 0);
}

}  // namespace

WordCache::WordCache() : slots_(kSlots) {}

WordCache::Key WordCache::key_of(std::string_view word) {
  Key key{};
  key.length = static_cast<std::uint8_t>(word.size());
  std::uint64_t hash = word.size();
  for (std::size_t i = 0, at = 0; at < word.size(); ++i, at += 8) {
    key.words[i] = load_bytes(word.data() + at, word.size() - at);
    hash = mix(hash ^ key.words[i]);
  }
  key.hash = hash;
  return key;
}

bool WordCache::find(const Key& key, std::vector<std::uint32_t>& out) const {
  const Slot* set = &slots_[(key.hash % (kSlots / kWays)) * kWays];
  for (std::size_t way = 0; way < kWays; ++way) {
    const Slot& slot = set[way];
    if (slot.length == key.length && slot.words == key.words) {
      out.insert(out.end(), slot.ids.begin(), slot.ids.begin() + slot.count);
      return true;
    }
  }
  return false;
}

void WordCache::insert(const Key& key, const std::uint32_t* ids, std::size_t count) {
  if (count > kMaxIds) return;
  Slot* set = &slots_[(key.hash % (kSlots / kWays)) * kWays];
  Slot* slot = std::find_if(set, set + kWays, [](const Slot& s) { return s.length == 0; });
  if (slot == set + kWays) slot = &set[(key.hash >> 48) % kWays];
  slot->words = key.words;
  slot->length = key.length;
  slot->count = static_cast<std::uint8_t>(count);
  std::copy_n(ids, count, slot->ids.begin());
}

Bpe::Bpe(const JsonObject& model, bool byte_level) : byte_level_(byte_level) {
  if (model.has("type")) model.choice("type", {"BPE"});
  for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) {
    if (!is_off(model, key)) model.fail_at(key, "is set, which is not supported; allowed: null, false, 0 or \"\"");
  }
  read_vocab(model.object("vocab"));
  read_merges(model);
  find_symbols(byte_level);
  if (model.find_flag("ignore_merges").value_or(false)) {
    for (const auto& [token, id] : vocab_) {
      const std::optional<std::string> word = byte_level ? byte_alphabet::bytes_of(token) : token;
      if (word) whole_words_.emplace(*word, id);
    }
  }
}

void Bpe::read_vocab(const JsonObject& vocab) {
  const Json& entries = vocab.value();
  if (entries.size() > kMaxVocab) vocab.fail("must have at most ", kMaxVocab, " tokens; got ", entries.size());
  std::vector<bool> taken(kMaxVocab);
  vocab_.reserve(entries.size());
  for (const auto& [token, id] : entries.items()) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= kMaxVocab) {
      vocab.fail("must give '", token, "' a whole number below ", kMaxVocab, "; got ", to_text(id));
    }
    const auto number = id.get<std::uint32_t>();
    if (taken[number]) vocab.fail("must give every token its own id; got ", number, " twice, once for '", token, "'");
    taken[number] = true;
    vocab_.emplace(token, number);
  }
}

void Bpe::read_merges(const JsonObject& model) {
  const Json& list = model.list("merges");
  const std::size_t slots = std::bit_ceil(std::max<std::size_t>(2 * list.size(), 2));
  merges_.assign(slots, {kNoPair, kNone, kNone});
  merge_shift_ = 64 - std::countr_zero(slots);
  std::uint32_t rank = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Json& merge = list[i];
    if (merge.is_string() != list[0].is_string()) {
      model.fail_at("merges", "must spell all entries alike; entry ", i, " differs");
    }
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      if (text.starts_with("#version")) continue;
      const std::size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
        model.fail_at("merges", "must hold two tokens with one space between; entry ", i, " is '", text, "'");
      }
      add_merge(model, text.substr(0, space), text.substr(space + 1), rank++);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      add_merge(model, merge[0].get<std::string>(), merge[1].get<std::string>(), rank++);
    } else {
      model.fail_at("merges", "must hold \"a b\" or [\"a\", \"b\"]; entry ", i, " is of type ", merge.type_name());
    }
  }
}

void Bpe::add_merge(const JsonObject& model, const std::string& left, const std::string& right, std::uint32_t rank) {
  const auto id_of = [&](const std::string& token) {
    const auto found = vocab_.find(token);
    if (found == vocab_.end()) {
      model.fail_at("merges", "must join tokens of the vocab; entry ", rank, " ('", left, "' '", right,
                    "') needs the token '", token, "', which the vocab lacks");
    }
    return found->second;
  };
  // The same pair again: the later entry counts.
  const std::uint64_t pair = pair_of(id_of(left), id_of(right));
  merge_slot(pair) = {pair, rank, id_of(left + right)};
}

Bpe::MergeSlot& Bpe::merge_slot(std::uint64_t pair) {
  std::size_t at = mix(pair) >> merge_shift_;
  while (merges_[at].pair != pair && merges_[at].pair != kNoPair) at = (at + 1) & (merges_.size() - 1);
  return merges_[at];
}

void Bpe::find_symbols(bool byte_level) {
  byte_ids_.fill(kNone);
  for (unsigned byte = 0; byte_level && byte < byte_ids_.size(); ++byte) {
    const auto found = vocab_.find(byte_alphabet::character_of(static_cast<unsigned char>(byte)));
    if (found != vocab_.end()) byte_ids_[byte] = found->second;
  }
  for (const auto& [token, id] : vocab_) {
    if (byte_level || token.empty() || decode_utf8(token.data()).length != token.size()) continue;
    char_ids_.emplace(decode_utf8(token.data()).code, id);
  }
}

void Bpe::encode(std::string_view word, std::vector<std::uint32_t>& out, Work& work, WordCache* cache) const {
  if (cache == nullptr || word.size() > WordCache::kMaxWord || word.empty()) {
    encode_uncached(word, out, work);
    return;
  }
  const WordCache::Key key = WordCache::key_of(word);
  if (cache->find(key, out)) return;
  const std::size_t before = out.size();
  encode_uncached(word, out, work);
  cache->insert(key, out.data() + before, out.size() - before);
}

void Bpe::encode_uncached(std::string_view word, std::vector<std::uint32_t>& out, Work& work) const {
  if (!whole_words_.empty()) {
    const auto found = whole_words_.find(std::string(word));
    if (found != whole_words_.end()) {
      out.push_back(found->second);
      return;
    }
  }
  start(word, work.symbols);
  if (work.symbols.size() <= kShortWord) {
    merge_short(work.symbols);
  } else {
    merge_long(work);
  }
  for (const Work::Symbol& symbol : work.symbols) out.push_back(symbol.id);
}

void Bpe::look_up_merge(Work::Symbol& symbol, std::uint32_t right) const {
  const std::uint64_t pair = pair_of(symbol.id, right);
  std::size_t at = mix(pair) >> merge_shift_;
  while (merges_[at].pair != pair && merges_[at].pair != kNoPair) at = (at + 1) & (merges_.size() - 1);
  symbol.rank = merges_[at].rank;
  symbol.merged = merges_[at].merged;
}

// One symbol per byte or character, each with the merge it can make with the next one.
void Bpe::start(std::string_view word, std::vector<Work::Symbol>& symbols) const {
  symbols.clear();
  const auto add = [&](std::uint32_t id) {
    if (id == kNone) return;
    if (!symbols.empty()) look_up_merge(symbols.back(), id);
    symbols.push_back({id, kNone, kNone});
  };
  if (byte_level_) {
    for (char byte : word) add(byte_ids_[static_cast<unsigned char>(byte)]);
    return;
  }
  for (std::size_t at = 0; at < word.size();) {
    const DecodedChar decoded = decode_utf8(word.data() + at);
    const auto found = char_ids_.find(decoded.code);
    add(found == char_ids_.end() ? kNone : found->second);
    at += decoded.length;
  }
}

// Quadratic in the symbols, but without bookkeeping.
void Bpe::merge_short(std::vector<Work::Symbol>& symbols) const {
  while (true) {
    const auto best =
        std::min_element(symbols.begin(), symbols.end(), [](const auto& a, const auto& b) { return a.rank < b.rank; });
    if (best == symbols.end() || best->rank == kNone) return;
    best->id = best->merged;
    best->rank = kNone;
    symbols.erase(best + 1);
    if (best + 1 != symbols.end()) look_up_merge(*best, (best + 1)->id);
    if (best != symbols.begin()) look_up_merge(*(best - 1), best->id);
  }
}

// O(n log n): the symbols form a linked list, and the candidate merges a heap ordered by rank, then position. A merge
// that no longer applies is recognised when it leaves the heap.
void Bpe::merge_long(Work& work) const {
  std::vector<Work::Symbol>& symbols = work.symbols;
  const auto count = static_cast<std::uint32_t>(symbols.size());
  work.links.resize(count);
  work.queue.clear();
  for (std::uint32_t i = 0; i < count; ++i) {
    work.links[i] = {i == 0 ? kNone : i - 1, i + 1 == count ? kNone : i + 1};
    if (symbols[i].rank != kNone) work.queue.push_back(pair_of(symbols[i].rank, i));
  }
  std::make_heap(work.queue.begin(), work.queue.end(), std::greater<>());
  const auto update = [&](std::uint32_t at) {
    const std::uint32_t next = work.links[at].next;
    symbols[at].rank = kNone;
    if (next == kNone) return;
    look_up_merge(symbols[at], symbols[next].id);
    if (symbols[at].rank == kNone) return;
    work.queue.push_back(pair_of(symbols[at].rank, at));
    std::push_heap(work.queue.begin(), work.queue.end(), std::greater<>());
  };
  while (!work.queue.empty()) {
    std::pop_heap(work.queue.begin(), work.queue.end(), std::greater<>());
    const auto rank = static_cast<std::uint32_t>(work.queue.back() >> 32);
    const auto at = static_cast<std::uint32_t>(work.queue.back());
    work.queue.pop_back();
    if (symbols[at].id == kNone || symbols[at].rank != rank) continue;
    const std::uint32_t absorbed = work.links[at].next;
    symbols[at].id = symbols[at].merged;
    symbols[absorbed].id = kNone;
    const std::uint32_t after = work.links[absorbed].next;
    work.links[at].next = after;
    if (after != kNone) work.links[after].previous = at;
    update(at);
    if (work.links[at].previous != kNone) update(work.links[at].previous);
  }
  std::erase_if(symbols, [](const Work::Symbol& symbol) { return symbol.id == kNone; });
}

}  // namespace norma
