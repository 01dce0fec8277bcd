#include "unicode.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include <utf8proc.h>

#include "code_set.h"

namespace norma {

namespace {

struct CombiningRange {
  char32_t first, last;
  std::uint8_t combining_class;
};

#include "combining_classes.inc"

constexpr char32_t kReplacement = 0xFFFD;
constexpr char32_t kEndOfCodes = 0x110000;
constexpr char32_t kEndOfDecompositions = 0x30000;  // no character from here on has one
// The one composite newer than Unicode 9 among the decompositions that utf8proc 2.8 (Unicode 14) knows.
constexpr char32_t kTooNewComposite = 0x11938;

// Hangul syllables are composed by arithmetic (Unicode standard, section 3.12).
constexpr char32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
constexpr char32_t kLeadCount = 19, kVowelCount = 21, kTailCount = 28;
constexpr char32_t kSyllableCount = kLeadCount * kVowelCount * kTailCount;

bool is_hangul_syllable(char32_t code) {
  return code - kSyllables < kSyllableCount;
}

// Length of the well-formed sequence at the start of `bytes`, or 0; then `bad` is the length of the maximal
// part that could have begun one (at least 1).
std::size_t sequence_length(std::string_view bytes, std::size_t& bad) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = at(0);
  bad = 1;
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and codes beyond U+10FFFF.
  unsigned char low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (std::size_t i = 1; i < length; ++i) {
    if (i >= bytes.size() || at(i) < low || at(i) > high) {
      bad = i;
      return 0;
    }
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

// Number of bytes at the start of `bytes` that are well-formed.
std::size_t valid_prefix(std::string_view bytes) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    std::uint64_t word = 0;
    while (at + 8 <= bytes.size()) {
      std::memcpy(&word, bytes.data() + at, 8);
      if ((word & 0x8080808080808080U) != 0) break;
      at += 8;
    }
    // The rest of this word, or a few bytes at the end.
    for (int i = 0; i < 8 && at < bytes.size(); ++i) {
      std::size_t bad = 0;
      const std::size_t length = sequence_length(bytes.substr(at), bad);
      if (length == 0) return at;
      at += length;
    }
  }
  return at;
}

// Full canonical decomposition of one code point, appended.
void decompose(char32_t code, std::u32string& out) {
  if (is_hangul_syllable(code)) {
    const char32_t index = code - kSyllables;
    out.push_back(kLeads + index / (kVowelCount * kTailCount));
    out.push_back(kVowels + index % (kVowelCount * kTailCount) / kTailCount);
    if (index % kTailCount != 0) out.push_back(kTails + index % kTailCount);
    return;
  }
  utf8proc_int32_t parts[16];
  const utf8proc_ssize_t count =
      code == kTooNewComposite
          ? 0
          : utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code), parts, std::size(parts),
                                    static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE), nullptr);
  if (count < 1 || count > static_cast<utf8proc_ssize_t>(std::size(parts))) {
    out += code;
    return;
  }
  for (utf8proc_ssize_t i = 0; i < count; ++i) out += static_cast<char32_t>(parts[i]);
}

// Primary composites, keyed by their two parts.
class Compositions {
 public:
  static const Compositions& get() {
    static const Compositions all;
    return all;
  }

  // 0 when the two do not combine.
  char32_t find(char32_t first, char32_t second) const {
    if (first - kLeads < kLeadCount && second - kVowels < kVowelCount) {
      return kSyllables + ((first - kLeads) * kVowelCount + (second - kVowels)) * kTailCount;
    }
    if (is_hangul_syllable(first) && (first - kSyllables) % kTailCount == 0 && second > kTails &&
        second < kTails + kTailCount) {
      return first + (second - kTails);
    }
    const auto found = pairs_.find(key(first, second));
    return found == pairs_.end() ? 0 : found->second;
  }

  const std::unordered_map<std::uint64_t, char32_t>& pairs() const { return pairs_; }

 private:
  static std::uint64_t key(char32_t first, char32_t second) {
    return (static_cast<std::uint64_t>(first) << 32) | second;
  }

  // utf8proc tells full decompositions only. Ordered by their length, the composite of all but the last part
  // is known when it is needed.
  Compositions() {
    std::vector<std::pair<std::u32string, char32_t>> composites;
    for (char32_t code = 0xC0; code < kEndOfDecompositions; ++code) {
      if (is_hangul_syllable(code)) continue;
      std::u32string parts;
      decompose(code, parts);
      if (parts.size() > 1 && survives(code)) composites.emplace_back(std::move(parts), code);
    }
    std::stable_sort(composites.begin(), composites.end(),
                     [](const auto& a, const auto& b) { return a.first.size() < b.first.size(); });
    for (const auto& [parts, code] : composites) {
      char32_t first = parts[0];
      for (std::size_t i = 1; i + 1 < parts.size() && first != 0; ++i) first = find(first, parts[i]);
      if (first != 0) pairs_.emplace(key(first, parts.back()), code);
    }
  }

  // Whether NFC keeps the composite; those it always takes apart never arise by composition.
  static bool survives(char32_t code) {
    utf8proc_int32_t buffer[16] = {};
    std::u32string parts;
    decompose(code, parts);
    std::copy(parts.begin(), parts.end(), buffer);
    return utf8proc_normalize_utf32(buffer, static_cast<utf8proc_ssize_t>(parts.size()),
                                    static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE)) == 1 &&
           static_cast<char32_t>(buffer[0]) == code;
  }

  std::unordered_map<std::uint64_t, char32_t> pairs_;
};

// Canonical ordering: marks between two starters are sorted by combining class, equal ones keep their order.
void order_marks(std::u32string& text) {
  const auto is_starter = [](char32_t code) { return combining_class(code) == 0; };
  auto begin = text.begin();
  while (begin != text.end()) {
    begin = std::find_if_not(begin, text.end(), is_starter);
    const auto end = std::find_if(begin, text.end(), is_starter);
    std::stable_sort(begin, end, [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
}

// Canonical composition of decomposed, ordered text, appended as UTF-8 (Unicode annex 15; each character is
// joined to the last starter unless one between them has the same or a higher class).
void append_composed(const std::u32string& text, std::string& out) {
  std::u32string composed;
  std::size_t starter = std::u32string::npos;
  int last_class = -1;  // of what stands between the starter and here; -1: nothing does
  for (char32_t code : text) {
    const int current = combining_class(code);
    if (starter != std::u32string::npos && last_class < current) {
      if (const char32_t joined = Compositions::get().find(composed[starter], code)) {
        composed[starter] = joined;
        continue;
      }
    }
    if (current == 0) {
      starter = composed.size();
      last_class = -1;
    } else {
      last_class = current;
    }
    composed += code;
  }
  for (char32_t code : composed) append_utf8(out, code);
}

}  // namespace

void append_utf8(std::string& out, char32_t code) {
  const auto put = [&out](char32_t byte) { out += static_cast<char>(byte); };
  const auto put_tail = [&](int shift) { put(0x80 | ((code >> shift) & 0x3F)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put_tail(0);
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put_tail(6);
    put_tail(0);
  } else {
    put(0xF0 | (code >> 18));
    put_tail(12);
    put_tail(6);
    put_tail(0);
  }
}

bool is_valid_utf8(std::string_view bytes) {
  return valid_prefix(bytes) == bytes.size();
}

void append_repaired_utf8(std::string_view bytes, std::string& out) {
  while (!bytes.empty()) {
    const std::size_t good = valid_prefix(bytes);
    out += bytes.substr(0, good);
    bytes.remove_prefix(good);
    if (bytes.empty()) return;
    std::size_t bad = 0;
    sequence_length(bytes, bad);
    append_utf8(out, kReplacement);
    bytes.remove_prefix(bad);
  }
}

const CharTable& CharTable::get() {
  static const CharTable table;
  return table;
}

CharTable::CharTable() {
  std::vector<std::uint8_t> all(kEndOfCodes, 0);
  const auto fill = [&](const CodeSet& set, CharClass kind) {
    for (const CodeRange& range : set.ranges()) {
      std::fill(all.begin() + range.first, all.begin() + range.last + 1, static_cast<std::uint8_t>(kind));
    }
  };
  fill(letter_set(), CharClass::letter);
  fill(number_set(), CharClass::number);
  fill(space_set(), CharClass::space);
  const auto disturb = [&](char32_t code) { all[code] |= kNotInert; };
  for (const CombiningRange& range : kCombiningRanges) {
    for (char32_t code = range.first; code <= range.last; ++code) disturb(code);
  }
  // A character that decomposes is left alone only as a composite that composition makes again.
  for (char32_t code = 0xC0; code < kEndOfDecompositions; ++code) {
    std::u32string parts;
    if (!is_hangul_syllable(code)) decompose(code, parts);
    if (parts.size() > 1 || (parts.size() == 1 && parts[0] != code)) disturb(code);
  }
  for (const auto& [parts, composite] : Compositions::get().pairs()) {
    all[composite] &= static_cast<std::uint8_t>(~kNotInert);
  }
  for (const auto& [parts, composite] : Compositions::get().pairs()) disturb(static_cast<char32_t>(parts));
  for (char32_t i = 0; i < kVowelCount; ++i) disturb(kVowels + i);
  for (char32_t i = 1; i < kTailCount; ++i) disturb(kTails + i);

  // Equal blocks are stored once.
  std::unordered_map<std::string, std::uint16_t> known;
  for (std::size_t block = 0; block < kBlocks; ++block) {
    const std::uint8_t* begin = all.data() + block * 256;
    const auto [entry, fresh] =
        known.emplace(std::string(begin, begin + 256), static_cast<std::uint16_t>(known.size()));
    if (fresh) flat_.insert(flat_.end(), begin, begin + 256);
    index_[block] = entry->second;
  }
  std::copy_n(all.begin(), ascii_.size(), ascii_.begin());
}

bool is_word_char(char32_t code) {
  return code == 0x200C || code == 0x200D || word_set().contains(code);
}

std::uint8_t combining_class(char32_t code) {
  const auto next = std::upper_bound(std::begin(kCombiningRanges), std::end(kCombiningRanges), code,
                                     [](char32_t c, const CombiningRange& range) { return c < range.first; });
  if (next == std::begin(kCombiningRanges)) return 0;
  const CombiningRange& range = *std::prev(next);
  return code <= range.last ? range.combining_class : 0;
}

bool to_nfc(std::string_view text, std::string& out) {
  const CharTable& table = CharTable::get();
  std::size_t copied = 0;      // text before this is in `out`
  std::size_t last_inert = 0;  // start of the last inert character
  bool started = false;
  std::u32string segment;
  for (std::size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      last_inert = at++;
      continue;
    }
    DecodedChar current = decode_utf8(text.data() + at);
    if (table.nfc_inert(current.code)) {
      last_inert = at;
      at += current.length;
      continue;
    }
    if (!started) out.clear();
    started = true;
    // From the last inert character to the next one: nothing outside can take part.
    const std::size_t begin = std::max(copied, last_inert);
    out += text.substr(copied, begin - copied);
    segment.clear();
    at = begin;
    do {
      current = decode_utf8(text.data() + at);
      if (at > begin && table.nfc_inert(current.code)) break;
      decompose(current.code, segment);
      at += current.length;
    } while (at < text.size());
    order_marks(segment);
    append_composed(segment, out);
    copied = at;
    last_inert = at;
  }
  if (started) out += text.substr(copied);
  return started;
}

}  // namespace norma
