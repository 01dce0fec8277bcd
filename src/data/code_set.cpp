#include "code_set.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <string>
#include <utility>

#include "norma/base/error.h"

namespace norma {

namespace {

#include "character_classes.inc"

constexpr char32_t kEndOfCodes = 0x110000;
constexpr char32_t kSurrogates = 0xD800, kEndOfSurrogates = 0xE000;

struct CategoryRun {
  std::string_view name;  // "Lu"
  CodeRange range;
};

std::vector<CategoryRun> read_category_runs() {
  std::vector<CategoryRun> runs;
  char32_t next = 0;
  for (const char* at = kCategoryRuns.begin(); at != kCategoryRuns.end();) {
    const std::string_view name(at, 2);
    unsigned length = 1;
    at = std::from_chars(at + 2, kCategoryRuns.end(), length).ptr;
    runs.push_back({name, {next, next + length - 1}});
    next += length;
  }
  NORMA_CHECK(next == kEndOfCodes, "[unicode] the categories must cover every code point; got ",
              static_cast<std::uint32_t>(next));
  return runs;
}

// "L" takes all categories that start with it.
CodeSet ranges_of(std::string_view name) {
  static const std::vector<CategoryRun> runs = read_category_runs();
  std::vector<CodeRange> ranges;
  for (const CategoryRun& run : runs) {
    if (run.name.starts_with(name)) ranges.push_back(run.range);
  }
  return CodeSet(std::move(ranges));
}

constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kLongNames{{{"Letter", "L"},
                                                                                   {"Mark", "M"},
                                                                                   {"Number", "N"},
                                                                                   {"Punctuation", "P"},
                                                                                   {"Symbol", "S"},
                                                                                   {"Separator", "Z"},
                                                                                   {"Other", "C"}}};

}  // namespace

CodeSet::CodeSet(std::vector<CodeRange> ranges) : ranges_(std::move(ranges)) {
  std::sort(ranges_.begin(), ranges_.end(), [](const CodeRange& a, const CodeRange& b) { return a.first < b.first; });
  std::size_t kept = 0;
  for (const CodeRange& range : ranges_) {
    if (kept > 0 && range.first <= ranges_[kept - 1].last + 1) {
      ranges_[kept - 1].last = std::max(ranges_[kept - 1].last, range.last);
    } else {
      ranges_[kept++] = range;
    }
  }
  ranges_.resize(kept);
}

void CodeSet::add(char32_t first, char32_t last) {
  ranges_.push_back({first, last});
  *this = CodeSet(std::move(ranges_));
}

void CodeSet::add(const CodeSet& other) {
  ranges_.insert(ranges_.end(), other.ranges_.begin(), other.ranges_.end());
  *this = CodeSet(std::move(ranges_));
}

CodeSet CodeSet::complement() const {
  std::vector<CodeRange> rest;
  const auto add_gap = [&](char32_t begin, char32_t end) {
    if (begin < std::min(end, kSurrogates)) rest.push_back({begin, std::min(end, kSurrogates) - 1});
    if (std::max(begin, kEndOfSurrogates) < end) rest.push_back({std::max(begin, kEndOfSurrogates), end - 1});
  };
  char32_t next = 0;
  for (const CodeRange& range : ranges_) {
    add_gap(next, range.first);
    next = range.last + 1;
  }
  add_gap(next, kEndOfCodes);
  CodeSet set;
  set.ranges_ = std::move(rest);
  return set;
}

bool CodeSet::contains(char32_t code) const {
  const auto next = std::upper_bound(ranges_.begin(), ranges_.end(), code,
                                     [](char32_t c, const CodeRange& range) { return c < range.first; });
  return next != ranges_.begin() && code <= std::prev(next)->last;
}

std::optional<CodeSet> category_set(std::string_view name) {
  for (const auto& [full, letter] : kLongNames) {
    if (name == full) return ranges_of(letter);
  }
  if (name.empty() || name.size() > 2) return std::nullopt;
  CodeSet set = ranges_of(name);
  if (set.ranges().empty()) return std::nullopt;
  return set;
}

const CodeSet& letter_set() {
  static const CodeSet set = ranges_of("L");
  return set;
}

const CodeSet& number_set() {
  static const CodeSet set = ranges_of("N");
  return set;
}

const CodeSet& digit_set() {
  static const CodeSet set = ranges_of("Nd");
  return set;
}

const CodeSet& space_set() {
  static const CodeSet set(std::vector<CodeRange>(std::begin(kSpaceRanges), std::end(kSpaceRanges)));
  return set;
}

const CodeSet& word_set() {
  static const CodeSet set = [] {
    CodeSet all(std::vector<CodeRange>{{0x24B6, 0x24E9}, {0x1F130, 0x1F149}, {0x1F150, 0x1F169}, {0x1F170, 0x1F189}});
    for (const char* name : {"L", "M", "Nd", "Nl", "Pc"}) all.add(ranges_of(name));
    return all;
  }();
  return set;
}

const CodeSet& component_digit_set() {
  static const CodeSet set = [] {
    CodeSet all(std::vector<CodeRange>(std::begin(kLaterNumberRanges), std::end(kLaterNumberRanges)));
    all.add(number_set());
    return all;
  }();
  return set;
}

}  // namespace norma
