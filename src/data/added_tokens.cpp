#include "added_tokens.h"

#include <algorithm>

#include "unicode.h"

namespace norma {
namespace {

std::size_t previous_char(std::string_view text, std::size_t at) {
  do {
    --at;
  } while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

char32_t code_at(std::string_view text, std::size_t at) {
  return decode_utf8(text.data() + at).code;
}

bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) {
  const bool left = begin == 0 || !is_word_char(code_at(text, previous_char(text, begin)));
  return left && (end == text.size() || !is_word_char(code_at(text, end)));
}

std::size_t strip_left(std::string_view text, std::size_t begin) {
  while (begin > 0) {
    const std::size_t before = previous_char(text, begin);
    if (CharTable::get().kind(code_at(text, before)) != CharClass::space) break;
    begin = before;
  }
  return begin;
}

std::size_t strip_right(std::string_view text, std::size_t end) {
  while (end < text.size()) {
    const DecodedChar next = decode_utf8(text.data() + end);
    if (CharTable::get().kind(next.code) != CharClass::space) break;
    end += next.length;
  }
  return end;
}

}  // namespace

void TokenFinder::add(const std::string& spelling, const AddedToken& token) {
  if (spelling.empty()) return;
  std::uint32_t node = 0;
  for (char byte : spelling) {
    std::uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<std::uint32_t>(nodes_.size());
      nodes_[node].children.emplace_back(byte, next);
      nodes_.emplace_back();
    }
    node = next;
  }
  if (nodes_[node].token == nullptr) nodes_[node].token = &token;
  starts_[static_cast<unsigned char>(spelling[0])] = true;
}

std::uint32_t TokenFinder::child(std::uint32_t node, char byte) const {
  for (const auto& [key, next] : nodes_[node].children) {
    if (key == byte) return next;
  }
  return 0;
}

std::pair<const AddedToken*, std::size_t> TokenFinder::longest(std::string_view text, std::size_t begin) const {
  std::pair<const AddedToken*, std::size_t> best{nullptr, 0};
  std::uint32_t node = 0;
  for (std::size_t at = begin; at < text.size(); ++at) {
    node = child(node, text[at]);
    if (node == 0) break;
    if (nodes_[node].token != nullptr) best = {nodes_[node].token, at + 1 - begin};
  }
  return best;
}

bool TokenFinder::find_next(std::string_view text, std::size_t done, Match& match) const {
  for (std::size_t at = match.searched; at < text.size();) {
    if (!starts_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const auto [token, length] = longest(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = at + length;
    at = end;
    if (token->single_word && !stands_alone(text, begin, end)) continue;
    if (token->left_strip) begin = std::max(done, strip_left(text, begin));
    if (token->right_strip) end = strip_right(text, end);
    if (begin >= end) continue;  // the token before took all of it as white space
    match = {token, begin, end, at};
    return true;
  }
  return false;
}

}  // namespace norma
