#include "validation_split.h"

#include <algorithm>
#include <cmath>

#include "norma/base/random.h"
#include "norma/base/text.h"

namespace norma {

bool ValidationSplit::is_drawn(std::int64_t number) const {
  if (options_.validation_every > 0) return (number + 1) % options_.validation_every == 0;
  return options_.validation_fraction > 0 && distance(number) < options_.validation_fraction;
}

bool ValidationSplit::takes(std::int64_t number) const {
  return is_drawn(number) != (moved_ == number);
}

double ValidationSplit::distance(std::int64_t number) const {
  if (options_.validation_every > 0) return -static_cast<double>(number);  // the later, the nearer to the n-th
  return uniform(stream_key(options_.seed, "validation"), static_cast<std::uint64_t>(number));
}

void ValidationSplit::observe(std::int64_t number) {
  if (documents_ == 0) nearest_ = farthest_ = number;
  if (distance(number) < distance(nearest_)) nearest_ = number;
  if (distance(number) > distance(farthest_)) farthest_ = number;
  ++documents_;
  drawn_ += is_drawn(number) ? 1 : 0;
}

bool ValidationSplit::repair() {
  if (!is_wanted() || moved_ || cuts_ || documents_ == 0 || (drawn_ > 0 && drawn_ < documents_)) return false;
  if (documents_ == 1) {
    cuts_ = true;
    note_ = "there is one document only: its last part is for validation";
    return true;
  }
  moved_ = drawn_ == 0 ? nearest_ : farthest_;
  note_ = cat("the draw left ", drawn_ == 0 ? "validation" : "training", " without a document: number ", *moved_ + 1,
              " of the input, the nearest to it, goes there");
  return true;
}

std::size_t ValidationSplit::cut_of(std::string_view text) const {
  const double share = options_.validation_every > 0 ? 1.0 / static_cast<double>(options_.validation_every)
                                                     : options_.validation_fraction;
  const auto size = static_cast<double>(text.size());
  const auto wanted = static_cast<std::size_t>(size * (1.0 - share));
  const auto slack = static_cast<std::size_t>(size * std::min(share, 1.0 - share));
  // A border counts when the part for validation has at most twice its share, and each part something.
  for (const std::string_view border : {"\n\n", "\n\r\n", "\n", " "}) {
    const std::size_t after = text.find(border, wanted);
    const std::size_t before = wanted == 0 ? std::string_view::npos : text.rfind(border, wanted - 1);
    std::optional<std::size_t> best;
    for (const std::size_t found : {before, after}) {
      if (found == std::string_view::npos) continue;
      const std::size_t cut = found + border.size();
      const std::size_t away = cut > wanted ? cut - wanted : wanted - cut;
      if (away > slack || cut >= text.size()) continue;
      if (!best || away < (*best > wanted ? *best - wanted : wanted - *best)) best = cut;
    }
    if (best) return *best;
  }
  std::size_t cut = std::max<std::size_t>(wanted, 1);
  while (cut < text.size() && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) ++cut;
  return std::min(cut, text.size());
}

}  // namespace norma
