// The list of all keys: as rows for suggestions, and as a table for people.
#include <algorithm>
#include <utility>

#include "norma/base/error.h"
#include "norma/config/yaml.h"

#include "fields.h"

namespace norma {
namespace {

template <class T>
inline constexpr const char* kTypeName = nullptr;
template <>
inline constexpr const char* kTypeName<bool> = "true/false";
template <>
inline constexpr const char* kTypeName<std::int64_t> = "integer";
template <>
inline constexpr const char* kTypeName<double> = "number";
template <>
inline constexpr const char* kTypeName<std::string> = "text";
template <>
inline constexpr const char* kTypeName<Duration> = "duration";
template <>
inline constexpr const char* kTypeName<std::vector<std::string>> = "text list";
template <>
inline constexpr const char* kTypeName<std::vector<double>> = "number list";
template <>
inline constexpr const char* kTypeName<std::vector<std::int64_t>> = "integer list";
template <Enum T>
inline constexpr const char* kTypeName<T> = "choice";
template <class T>
inline constexpr const char* kTypeName<std::optional<T>> = kTypeName<T>;
template <class T>
inline constexpr const char* kTypeName<std::map<std::string, T>> = "map";

template <class T>
struct Unwrapped {
  using type = T;
};
template <class T>
struct Unwrapped<std::optional<T>> {
  using type = T;
};

// " One of: a, b." for a choice, "" for anything else.
template <class T>
std::string choices() {
  using Plain = Unwrapped<T>::type;
  if constexpr (Enum<Plain>) return cat(" One of: ", join(enum_names<Plain>(), ", "), ".");
  return "";
}

class Collector {
 public:
  template <Section T>
  void collect_section(const std::string& key, T& section) {
    section.visit(
        [&](const char* name, auto& field, const char* meaning) { collect(join_key(key, name), field, meaning); });
  }

  std::vector<KeyRow> take() { return std::move(rows_); }

 private:
  template <class T>
  void collect(const std::string& key, T& value, const std::string& meaning) {
    if constexpr (Section<T>) {
      rows_.push_back({key, "section", "", meaning, shorthand_});
      if constexpr (Shorthand<T>) describe_shorthand(rows_.back(), value);
      const std::string outer = shorthand_;
      if constexpr (Shorthand<T>) shorthand_ = key;
      collect_section(key, value);
      shorthand_ = outer;
    } else {
      static_assert(kTypeName<T> != nullptr, "a type of setting that has no name");
      rows_.push_back({key, kTypeName<T>, value_text(value), meaning + choices<T>(), shorthand_});
    }
  }

  template <class T>
  void collect(const std::string& key, std::map<std::string, T>&, const std::string& meaning) {
    rows_.push_back({key, "map", "{}", meaning, shorthand_});
    T sample{};
    collect(key + ".<key>", sample, "One entry of the map.");
  }

  template <Shorthand T>
  static void describe_shorthand(KeyRow& row, T& section) {
    row.type = "choice";
    row.fallback = "null";
    section.visit([&]<class F>(const char* name, F&, const char*) {
      if (std::string_view(name) == T::kShorthand) row.meaning += choices<F>();
    });
    row.meaning.back() = ',';
    row.meaning += cat(" or a section of ", join(field_names<T>(), ", "), ".");
  }

  std::vector<KeyRow> rows_;
  std::string shorthand_;
};

// `text` in lines of at most `width` columns. A longer word has a line of its own.
std::vector<std::string> wrap(const std::string& text, std::size_t width) {
  std::vector<std::string> lines(1);
  for (const std::string& word : split(text, ' ')) {
    if (!lines.back().empty() && lines.back().size() + 1 + word.size() > width) lines.emplace_back();
    lines.back() += (lines.back().empty() ? "" : " ") + word;
  }
  return lines;
}

constexpr std::size_t kLineWidth = 110;
constexpr std::size_t kTypeStart = 30, kDefaultStart = 42, kMeaningStart = 57;

// After a cell that is too long for its column, the row continues on the next line.
std::string print_row(const KeyRow& row) {
  std::string text, line = row.key;
  const auto put = [&](const std::string& cell, std::size_t start) {
    if (line.size() >= start) text += std::exchange(line, "") + "\n";
    line.resize(start, ' ');
    line += cell;
  };
  put(row.type, kTypeStart);
  if (!row.fallback.empty()) put(row.fallback, kDefaultStart);
  for (const std::string& part : wrap(row.meaning, kLineWidth - kMeaningStart)) put(part, kMeaningStart);
  return cat(text, line, "\n");
}

bool is_shown(const KeyRow& row, const std::string& prefix) {
  if (!prefix.empty() && !key_starts_with(row.key, prefix)) return false;
  return row.shorthand.empty() || (!prefix.empty() && key_starts_with(prefix, row.shorthand));
}

}  // namespace

const std::vector<KeyRow>& all_keys() {
  static const std::vector<KeyRow> kRows = [] {
    RunConfig config;
    Collector collector;
    collector.collect_section("", config);
    return collector.take();
  }();
  return kRows;
}

bool key_starts_with(const std::string& key, const std::string& prefix) {
  const std::vector<std::string> parts = split(key, '.'), wanted = split(prefix, '.');
  const auto same = [](const std::string& a, const std::string& b) { return a == b || a == "<key>" || b == "<key>"; };
  return wanted.size() <= parts.size() && std::equal(wanted.begin(), wanted.end(), parts.begin(), same);
}

std::string list_keys(const std::string& prefix) {
  const KeyRow header{"key", "type", "default", "meaning", ""};
  std::string text;
  for (const KeyRow& row : all_keys()) {
    if (!is_shown(row, prefix)) continue;
    if (row.key.find('.') == std::string::npos) text += '\n';
    text += print_row(row);
  }
  if (text.empty()) {
    std::vector<std::string> keys;
    for (const KeyRow& row : all_keys()) keys.push_back(row.key);
    throw ConfigError(cat("[config] there is no key ", prefix, did_you_mean(prefix, keys)));
  }
  return print_row(header) + text;
}

}  // namespace norma
