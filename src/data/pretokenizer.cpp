#include "pretokenizer.h"

#include <algorithm>
#include <array>
#include <cstdio>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "code_set.h"
#include "regex_syntax.h"
#include "unicode.h"

namespace norma {

namespace {

constexpr std::size_t kMaxPattern = 64 * 1024;
constexpr std::uint32_t kMatchLimit = 50'000'000;  // steps within one match
constexpr std::uint32_t kDepthLimit = 10'000'000;  // nested steps; they live on the heap
constexpr std::uint32_t kHeapLimit = 1024 * 1024;  // KiB

struct PcreFree {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

std::string pcre_message(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

void check_size(const std::string& pattern, const JsonLocation& where) {
  if (pattern.size() > kMaxPattern) where.fail("must have at most ", kMaxPattern, " bytes; got ", pattern.size());
}

}  // namespace

Regex Regex::compile(const std::string& pattern, const JsonLocation& where) {
  check_size(pattern, where);
  // In Oniguruma ^ and $ are the ends of a line.
  return {to_pcre(pattern, where), PCRE2_UTF | PCRE2_MULTILINE, where};
}

Regex Regex::any_of(const CodeSet& set, const JsonLocation& where) {
  return {class_text(set), PCRE2_UTF, where};
}

Regex Regex::literal(const std::string& text, const JsonLocation& where) {
  check_size(text, where);
  return {text, PCRE2_UTF | PCRE2_LITERAL, where};
}

Regex::Regex(const std::string& pattern, std::uint32_t options, const JsonLocation& where) {
  const std::unique_ptr<pcre2_compile_context, PcreFree> context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), 100);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options, &error,
                                   &offset, context.get());
  if (code == nullptr) where.fail("is not a regular expression that can be read: ", pcre_message(error));
  code_ = std::shared_ptr<const void>(
      code, [](const void* c) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(c))); });
}

void Regex::find_all(std::string_view text, std::vector<Match>& matches, const std::atomic<bool>* stop) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const std::unique_ptr<pcre2_match_data, PcreFree> data(pcre2_match_data_create(1, nullptr));
  const std::unique_ptr<pcre2_match_context, PcreFree> context(pcre2_match_context_create(nullptr));
  pcre2_set_match_limit(context.get(), kMatchLimit);
  pcre2_set_depth_limit(context.get(), kDepthLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimit);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  matches.clear();
  for (std::size_t from = 0; from <= text.size();) {
    if (stop != nullptr && stop->load(std::memory_order_relaxed)) return;
    const int result = pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, data.get(), context.get());
    if (result == PCRE2_ERROR_NOMATCH) return;
    if (result < 0) {
      throw DataError(cat("[tokenizer] the expression of a Split must match the text within its step limits; got '",
                          pcre_message(result), "' at byte ", from, " of a text of ", text.size(), " bytes"));
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
    const Match match{ends[0], ends[1]};
    if (match.begin == match.end && !matches.empty() && matches.back().end == match.end) {
      from += from < text.size() ? decode_utf8(text.data() + from).length : 1;
      continue;
    }
    matches.push_back(match);
    from = match.end;
  }
}

PreTokenizer::PreTokenizer(const std::optional<JsonObject>& component, bool general_only) {
  if (component) read(*component);
  if (!byte_level_) splits_before_prefix_ = splits_.size();
  if (!general_only) scanner_ = choose_scanner();
}

void PreTokenizer::read(const JsonObject& component) {
  static const JsonObject::Names kTypes = {"ByteLevel", "Split", "Digits", "Sequence"};
  const std::string& type = component.choice("type", kTypes);
  if (byte_level_) component.fail("comes after a ByteLevel, which must be the last");
  if (type == "Sequence") {
    for (const JsonObject& item : component.objects("pretokenizers")) read(item);
  } else if (type == "Split") {
    read_split(component);
  } else if (type == "Digits") {
    read_digits(component);
  } else {
    read_byte_level(component);
  }
}

void PreTokenizer::read_split(const JsonObject& component) {
  static const JsonObject::Names kBehaviors = {"Removed", "Isolated", "Contiguous", "MergedWithPrevious",
                                               "MergedWithNext"};
  const auto named = std::ranges::find(kBehaviors, component.choice("behavior", kBehaviors));
  const auto behavior = static_cast<Behavior>(named - kBehaviors.begin());
  const JsonObject pattern = component.object("pattern");
  const bool invert = component.flag("invert");
  const std::string kind = pattern.has("Regex") ? "Regex" : "String";
  if (pattern.value().size() != 1 || !pattern.has(kind)) pattern.fail("must hold one Regex or one String");
  const std::string& text = pattern.text(kind);
  const JsonLocation where = pattern.location().member(kind);
  only_pattern_ = kind == "Regex" ? text : "";
  splits_.push_back({kind == "Regex" ? Regex::compile(text, where) : Regex::literal(text, where), behavior, invert});
}

void PreTokenizer::read_digits(const JsonObject& component) {
  const Behavior behavior = component.flag("individual_digits") ? Behavior::isolated : Behavior::contiguous;
  only_pattern_.clear();
  splits_.push_back({Regex::any_of(component_digit_set(), component.location()), behavior, false});
}

void PreTokenizer::read_byte_level(const JsonObject& component) {
  byte_level_ = true;
  add_prefix_space_ = component.flag("add_prefix_space");
  component.flag("trim_offsets");
  splits_before_prefix_ = splits_.size();
  if (component.value().contains("use_regex") && !component.flag("use_regex")) return;
  only_pattern_ = kGpt2Pattern;
  splits_.push_back({Regex::compile(only_pattern_, component.location()), Behavior::isolated, false});
}

// The scanners tile the text with matches: that is what Isolated gives, and Removed when the rest is removed.
WordEnd PreTokenizer::choose_scanner() const {
  if (splits_.size() != 1 || add_prefix_space_) return nullptr;
  const Split& split = splits_[0];
  const bool keeps_matches =
      split.behavior == Behavior::isolated || (split.behavior == Behavior::removed && split.invert);
  if (!keeps_matches) return nullptr;
  if (only_pattern_ == kGpt2Pattern) return gpt2_word_end;
  return only_pattern_ == kDolma2Pattern ? dolma2_word_end : nullptr;
}

void PreTokenizer::split_general(std::string_view text, Work& work) const {
  work.words.assign(1, text);
  for (std::size_t i = 0; i < splits_.size(); ++i) {
    if (i == splits_before_prefix_ && add_prefix_space_) prefix_words(work);
    apply(splits_[i], work);
  }
  if (splits_before_prefix_ == splits_.size() && add_prefix_space_) prefix_words(work);
}

void PreTokenizer::prefix_words(Work& work) {
  std::size_t total = 0;
  for (std::string_view word : work.words) total += word.size() + 1;
  work.prefixed.clear();
  work.prefixed.reserve(total);  // the words point into it
  for (std::string_view& word : work.words) {
    const std::size_t begin = work.prefixed.size();
    if (!word.starts_with(' ')) work.prefixed += ' ';
    work.prefixed += word;
    word = std::string_view(work.prefixed).substr(begin);
  }
}

void PreTokenizer::apply(const Split& split, Work& work) {
  work.pieces.clear();
  for (std::string_view piece : work.words) {
    split.regex.find_all(piece, work.matches, work.stop);
    work.parts.clear();
    std::size_t done = 0;
    for (const Regex::Match& match : work.matches) {
      if (match.begin != done) work.parts.push_back({{done, match.begin}, split.invert});
      work.parts.push_back({match, !split.invert});
      done = match.end;
    }
    if (done != piece.size()) work.parts.push_back({{done, piece.size()}, split.invert});
    merge_parts(split.behavior, work);
    for (const auto& [part, is_match] : work.parts) {
      const bool removed = split.behavior == Behavior::removed && is_match;
      if (!removed && part.end > part.begin) {
        work.pieces.push_back(piece.substr(part.begin, part.end - part.begin));
      }
    }
  }
  work.words.swap(work.pieces);
}

// Joins neighbours. In a row of matches only the first one joins the part before it (or, seen from the end,
// after).
void PreTokenizer::merge_parts(Behavior behavior, Work& work) {
  if (behavior == Behavior::removed || behavior == Behavior::isolated) return;
  const bool backwards = behavior == Behavior::merged_with_next;
  if (backwards) std::reverse(work.parts.begin(), work.parts.end());
  std::size_t kept = 0;
  bool previous = false;
  for (const auto& [part, is_match] : work.parts) {
    const bool joins = behavior == Behavior::contiguous ? is_match == previous : is_match && !previous;
    if (joins && kept > 0) {
      Regex::Match& target = work.parts[kept - 1].first;
      target = {std::min(target.begin, part.begin), std::max(target.end, part.end)};
    } else {
      work.parts[kept++] = {part, is_match};
    }
    previous = is_match;
  }
  work.parts.resize(kept);
  if (backwards) std::reverse(work.parts.begin(), work.parts.end());
}

}  // namespace norma
