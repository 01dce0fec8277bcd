#include "olmo_layers.h"

#include <charconv>
#include <string_view>

#include "norma/base/error.h"

namespace norma {
namespace {

class LayerFlagsParser {
 public:
  LayerFlagsParser(std::string_view text, std::string where) : text_(text), where_(std::move(where)) {}

  OlmoLayerFlags parse() {
    OlmoLayerFlags layers;
    entries([&] {
      const std::int64_t layer = number();
      expect(':');
      if (!layers.emplace(layer, flags()).second) fail(cat("layer ", layer, " stands twice"));
    });
    if (!text_.substr(at_).empty()) fail("something follows the last brace");
    return layers;
  }

 private:
  // "{" entry "," entry ... "}"; a comma may follow the last entry.
  template <class Entry>
  void entries(const Entry& entry) {
    expect('{');
    while (!take('}')) {
      entry();
      if (take(',')) continue;
      expect('}');
      return;
    }
  }

  std::map<std::string, bool> flags() {
    std::map<std::string, bool> all;
    entries([&] {
      const std::string name = quoted();
      expect(':');
      if (!all.emplace(name, boolean()).second) fail(cat(name, " stands twice"));
    });
    return all;
  }

  void skip_spaces() { at_ = std::min(text_.find_first_not_of(" \t\n", at_), text_.size()); }

  bool take(char wanted) {
    skip_spaces();
    if (at_ == text_.size() || text_[at_] != wanted) return false;
    ++at_;
    skip_spaces();
    return true;
  }

  void expect(char wanted) {
    if (!take(wanted)) fail(cat("'", wanted, "' must follow"));
  }

  std::int64_t number() {
    std::int64_t value = -1;
    const auto read = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    constexpr std::int64_t kMost = 1 << 20;
    if (read.ec != std::errc() || value < 0 || value > kMost) fail("a layer's number must follow");
    at_ = static_cast<std::size_t>(read.ptr - text_.data());
    return value;
  }

  std::string quoted() {
    const char quote = at_ < text_.size() ? text_[at_] : ' ';
    const std::size_t end = quote == '\'' || quote == '"' ? text_.find(quote, at_ + 1) : std::string_view::npos;
    if (end == std::string_view::npos) fail("a word in quotes must follow");
    std::string word(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return word;
  }

  bool boolean() {
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += word.size();
      return value;
    }
    fail("True or False must follow");
  }

  [[noreturn]] void fail(const std::string& text) const {
    throw DataError(cat("[import] ", where_, ", after '", text_.substr(0, at_).substr(0, 80), "': ", text,
                        ", as in _{0:{'attn_norm':True,'ffn_residual':False}}_"));
  }

  std::string_view text_;
  std::string where_;
  std::size_t at_ = 0;
};

}  // namespace

OlmoLayerFlags parse_layer_flags(const std::string& text, const std::string& where) {
  std::string_view inner = text;
  if (inner.starts_with('_')) inner.remove_prefix(1);
  if (inner.ends_with('_')) inner.remove_suffix(1);
  if (inner.empty()) return {};
  return LayerFlagsParser(inner, where).parse();
}

}  // namespace norma
