// Added tokens: texts that become a token wherever they occur, before the text is cut into words. Of two that start at
// the same byte the longer one counts.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace norma {

struct AddedToken {
  std::uint32_t id = 0;
  std::string content;
  bool special = false;      // left out by decode(skip_special)
  bool normalized = false;   // searched in the normalised text, else in the text as it is
  bool single_word = false;  // found only where no word character touches it
  bool left_strip = false;   // takes the white space before it
  bool right_strip = false;  // takes the white space after it
};

// Finds one set of added tokens with a trie over bytes.
class TokenFinder {
 public:
  TokenFinder() { nodes_.emplace_back(); }

  // `spelling` is what is searched; the token must outlive the finder. Of equal spellings the first one counts.
  void add(const std::string& spelling, const AddedToken& token);

  // Cuts the text: on_text(std::string_view) for what lies between tokens, on_token(id) for each token, in order.
  template <class OnText, class OnToken>
  void split(std::string_view text, OnText&& on_text, OnToken&& on_token) const {
    std::size_t done = 0;
    for (Match match; find_next(text, done, match); done = match.end) {
      if (done < match.begin) on_text(text.substr(done, match.begin - done));
      on_token(match.token->id);
    }
    if (done < text.size()) on_text(text.substr(done));
  }

 private:
  struct Node {
    std::vector<std::pair<char, std::uint32_t>> children;
    const AddedToken* token = nullptr;
  };
  struct Match {
    const AddedToken* token = nullptr;
    std::size_t begin = 0, end = 0;  // with the white space that it takes
    std::size_t searched = 0;        // where the search for the next one goes on
  };

  // Moves on to the next token; text before `done` belongs to earlier ones. False when there is none.
  bool find_next(std::string_view text, std::size_t done, Match& match) const;
  std::uint32_t child(std::uint32_t node, char byte) const;
  std::pair<const AddedToken*, std::size_t> longest(std::string_view text, std::size_t begin) const;

  std::vector<Node> nodes_;
  std::array<bool, 256> starts_{};  // first bytes of all spellings
};

}  // namespace norma
