#include <algorithm>

#include "norma/base/error.h"
#include "norma/eval/generate.h"

namespace norma {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // what the decoder gives for the first bytes of a character

}  // namespace

TextStream::TextStream(const Tokenizer& tokenizer, std::vector<std::string> stops)
    : tokenizer_(tokenizer), stops_(std::move(stops)) {
  for (const std::string& stop : stops_) NORMA_CHECK(!stop.empty(), "[generate] an empty stop text");
}

bool TextStream::add(std::int64_t token) {
  if (done_) return false;
  pending_.push_back(static_cast<std::uint32_t>(token));
  const std::string more = tokenizer_.decode(pending_, /*skip_special=*/true);
  if (more.ends_with(kReplacement)) return true;
  const std::size_t before = text_.size();
  text_ += more;
  pending_.clear();
  return !cut_at_stop(before);
}

void TextStream::finish() {
  const std::size_t before = text_.size();
  if (!done_) text_ += tokenizer_.decode(pending_, /*skip_special=*/true);
  pending_.clear();
  cut_at_stop(before);
  done_ = true;
}

// Cuts the text before the first stop text that ends after `from`.
bool TextStream::cut_at_stop(std::size_t from) {
  std::size_t first = std::string::npos;
  for (const std::string& stop : stops_) {
    first = std::min(first, text_.find(stop, from - std::min(from, stop.size() - 1)));
  }
  if (first == std::string::npos) return false;
  text_.resize(first);
  return done_ = true;
}

std::size_t TextStream::settled() const {
  if (done_) return text_.size();
  std::size_t held = 0;
  for (const std::string& stop : stops_) {
    for (std::size_t n = std::min(stop.size() - 1, text_.size()); n > held; --n) {
      if (text_.ends_with(std::string_view(stop).substr(0, n))) held = n;
    }
  }
  return text_.size() - held;
}

}  // namespace norma
