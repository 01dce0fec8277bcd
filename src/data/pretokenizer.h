// Cuts text into words as the "pre_tokenizer" of a tokenizer.json says: Split, Digits and ByteLevel, one after another.
// BPE never joins across words.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "norma/base/json.h"

#include "code_set.h"
#include "word_scanner.h"

namespace norma {

// A regular expression over well-formed UTF-8, written for Oniguruma and run by PCRE2. regex_syntax.h says what it may
// hold and what its classes match.
class Regex {
 public:
  // `where` is the pattern in its file; errors name it.
  static Regex compile(const std::string& pattern, const JsonLocation& where);
  static Regex literal(const std::string& text, const JsonLocation& where);
  static Regex any_of(const CodeSet& set, const JsonLocation& where);

  struct Match {
    std::size_t begin, end;
  };
  // Finds all matches in order, but no empty one right after a match. Throws DataError beyond the limits of steps. Ends
  // early once *stop (may be null) is true.
  void find_all(std::string_view text, std::vector<Match>& matches, const std::atomic<bool>* stop) const;

 private:
  Regex(const std::string& pattern, std::uint32_t options, const JsonLocation& where);
  std::shared_ptr<const void> code_;  // pcre2_code, read only once compiled
};

class PreTokenizer {
 public:
  // Reads the "pre_tokenizer" component; without one the text stays whole. general_only: never use the scanners
  // (they give the same words, and tests compare the two).
  explicit PreTokenizer(const std::optional<JsonObject>& component, bool general_only = false);

  // Whether words are to be read as bytes: the last step is a ByteLevel.
  bool byte_level() const { return byte_level_; }

  // Buffers of one thread.
  struct Work {
    std::vector<std::string_view> words, pieces;
    std::vector<Regex::Match> matches;
    std::vector<std::pair<Regex::Match, bool>> parts;  // with whether it is a match
    std::string prefixed;
    const std::atomic<bool>* stop = nullptr;  // may be null
  };

  // Calls sink(word) for every word in order; the text must be well-formed UTF-8. Words may lie in `work`.
  template <class Sink>
  void for_each_word(std::string_view text, Work& work, Sink&& sink) const {
    if (scanner_ != nullptr) {
      const char* const end = text.data() + text.size();
      for (const char *begin = text.data(), *next = begin; begin < end; begin = next) {
        next = scanner_(begin, end);
        sink(std::string_view(begin, static_cast<std::size_t>(next - begin)));
      }
      return;
    }
    split_general(text, work);
    for (std::string_view word : work.words) sink(word);
  }

 private:
  enum class Behavior { removed, isolated, contiguous, merged_with_previous, merged_with_next };
  struct Split {
    Regex regex;
    Behavior behavior;
    bool invert;
  };

  void read(const JsonObject& component);
  void read_split(const JsonObject& component);
  void read_digits(const JsonObject& component);
  void read_byte_level(const JsonObject& component);
  WordEnd choose_scanner() const;

  void split_general(std::string_view text, Work& work) const;
  static void apply(const Split& split, Work& work);
  static void merge_parts(Behavior behavior, Work& work);
  static void prefix_words(Work& work);

  std::vector<Split> splits_;
  bool byte_level_ = false;
  bool add_prefix_space_ = false;
  std::size_t splits_before_prefix_ = 0;  // the prefix is added before ByteLevel's own expression
  std::string only_pattern_;              // of the last expression read; decides the scanner
  WordEnd scanner_ = nullptr;             // null: the expressions are run
};

}  // namespace norma
