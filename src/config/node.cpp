#include "node.h"

#include <algorithm>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include "norma/base/text.h"

namespace norma {
namespace {

// Ends the parse, because what follows cannot be read or must not be read.
struct Stop {
  int line;
  std::string text;
};

int line_of(const YAML::Mark& mark) {
  return mark.line + 1;
}

// The size of a subtree, which counts each time an alias uses it.
struct Cost {
  std::size_t nodes = 0;
  std::size_t bytes = 0;
  int height = 0;
};

Cost cost_of(const ConfigNode& node) {
  Cost total{1, node.text.size() + node.key.size(), 1};
  for (const ConfigNode& child : node.children) {
    const Cost cost = cost_of(child);
    total.nodes += cost.nodes;
    total.bytes += cost.bytes;
    total.height = std::max(total.height, cost.height + 1);
  }
  return total;
}

// Builds the tree from yaml-cpp's events. Every limit is checked before anything is stored.
class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(Problems& problems) : problems_(problems) {}

  ConfigNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) throw Stop{line_of(mark), "a second document starts here; a config is one document"};
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    ConfigNode node;
    node.line = line_of(mark);
    charge({1, 0, 1}, node.line);
    attach(std::move(node), anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) throw Stop{line_of(mark), "an alias cannot be inside the value that it names"};
    const auto& [node, cost] = found->second;
    charge(cost, line_of(mark));
    attach(node, YAML::NullAnchor);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check_tag(mark, tag);
    ConfigNode node;
    node.kind = ConfigNode::Kind::scalar;
    node.text = value;
    node.quoted = tag == "!";
    node.line = line_of(mark);
    charge({1, value.size(), 1}, node.line);
    attach(std::move(node), anchor);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(ConfigNode::Kind::sequence, mark, tag, anchor);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(ConfigNode::Kind::map, mark, tag, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  // A sequence or map that is still open.
  struct Frame {
    ConfigNode node;
    YAML::anchor_t anchor = YAML::NullAnchor;
    std::optional<ConfigNode> key;         // a map's key whose value has not come yet
    std::map<std::string, int> key_lines;  // lines of the keys so far
  };

  void check_tag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return;
    problems_.push_back({path(), line_of(mark), cat("the tag ", quote(tag), " is not allowed; write plain YAML")});
  }

  void charge(const Cost& cost, int line) {
    nodes_ += cost.nodes;
    bytes_ += cost.bytes;
    if (nodes_ > kMaxYamlNodes || bytes_ > kMaxYamlBytes) {
      throw Stop{line, cat("more than ", with_commas(static_cast<std::int64_t>(kMaxYamlNodes)), " values or ",
                           kMaxYamlBytes >> 20, " MiB of text once aliases are expanded")};
    }
    if (static_cast<int>(frames_.size()) + cost.height > kMaxYamlDepth) {
      throw Stop{line, cat("nested deeper than ", kMaxYamlDepth, " levels")};
    }
  }

  void open(ConfigNode::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    check_tag(mark, tag);
    charge({1, 0, 1}, line_of(mark));
    Frame frame;
    frame.node.kind = kind;
    frame.node.line = line_of(mark);
    frame.anchor = anchor;
    frames_.push_back(std::move(frame));
  }

  void close() {
    Frame frame = std::move(frames_.back());
    frames_.pop_back();
    attach(std::move(frame.node), frame.anchor);
  }

  void attach(ConfigNode node, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) {
      const Cost cost = cost_of(node);
      charge(cost, node.line);  // the copy kept for later uses
      anchors_[anchor] = {node, cost};
    }
    if (frames_.empty()) {
      root_ = std::move(node);
    } else if (Frame& frame = frames_.back(); frame.node.kind == ConfigNode::Kind::sequence) {
      frame.node.children.push_back(std::move(node));
    } else if (!frame.key) {
      frame.key = checked_key(std::move(node));
    } else {
      add_entry(frame, std::move(node));
    }
  }

  static ConfigNode checked_key(ConfigNode node) {
    if (node.kind != ConfigNode::Kind::scalar || node.text.empty()) throw Stop{node.line, "a key must be a word"};
    return node;
  }

  void add_entry(Frame& frame, ConfigNode value) {
    const std::string where = path();
    value.key = std::move(frame.key->text);
    value.key_line = frame.key->line;
    const bool is_merge = value.key == "<<" && !frame.key->quoted;
    frame.key.reset();
    const auto [first, fresh] = frame.key_lines.emplace(value.key, value.key_line);
    if (!fresh) {
      problems_.push_back({where, value.key_line,
                           cat("this key stands twice, on line ", first->second, " and on line ", value.key_line,
                               "; keep one of them")});
    } else if (is_merge) {
      problems_.push_back({where, value.key_line, "merge keys are not allowed; write the keys out"});
    } else {
      frame.node.children.push_back(std::move(value));
    }
  }

  // Dotted key of the next value.
  std::string path() const {
    std::vector<std::string> parts;
    for (const Frame& frame : frames_) {
      if (frame.key) parts.push_back(frame.key->text);
    }
    return join(parts, ".");
  }

  Problems& problems_;
  ConfigNode root_;
  std::vector<Frame> frames_;
  std::map<YAML::anchor_t, std::pair<ConfigNode, Cost>> anchors_;
  std::size_t nodes_ = 0;
  std::size_t bytes_ = 0;
  int documents_ = 0;
};

// Length of the UTF-8 sequence at the front of `text`; 0 when it is not one (RFC 3629: no overlong forms, no
// surrogates, nothing beyond U+10FFFF).
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const bool overlong = (lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xf0 && byte(1) < 0x90);
  const bool outside = (lead == 0xed && byte(1) > 0x9f) || (lead == 0xf4 && byte(1) > 0x8f);
  return overlong || outside ? 0 : length;
}

std::string hex_byte(unsigned char byte) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  return {'0', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
}

// Throws Stop at the first byte that no text file holds.
void check_text(std::string_view text) {
  if (text.size() > kMaxYamlBytes) {
    throw Stop{0, cat("larger than ", kMaxYamlBytes >> 20, " MiB; a config is a few kilobytes of text")};
  }
  int line = 1;
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::size_t length = utf8_length(text.substr(i));
    const bool control = (byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f;
    if (length == 0 || control) throw Stop{line, cat("byte ", hex_byte(byte), " is not UTF-8 text")};
    if (byte == '\n') ++line;
    i += length;
  }
}

// The message of yaml-cpp, with a hint where it does not name the usual cause.
std::string explain(const YAML::Exception& error, std::string_view text) {
  std::string explained = cat("not valid YAML: ", error.msg);
  std::istringstream lines{std::string(text)};
  std::string line;
  for (int i = 0; i <= error.mark.line && std::getline(lines, line);) ++i;
  const std::size_t indent = line.find_first_not_of(' ');
  if (indent != std::string::npos && line[indent] == '\t') explained += "; indent with spaces, not tabs";
  if (error.msg.find(YAML::ErrorMsg::UNKNOWN_ANCHOR) == 0) {
    explained += "; a name that starts with '*' needs quotes";
  }
  return explained;
}

}  // namespace

ConfigNode parse_yaml(std::string_view text, Problems& problems) {
  try {
    check_text(text);
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder builder(problems);
    while (parser.HandleNextDocument(builder)) continue;
    return builder.take_root();
  } catch (const Stop& stop) {
    problems.push_back({"", stop.line, stop.text});
  } catch (const YAML::Exception& error) {
    problems.push_back({"", line_of(error.mark), explain(error, text)});
  }
  return {};
}

std::string quote(std::string_view text) {
  constexpr std::size_t kMaxShown = 60;
  std::string shown;
  for (std::size_t i = 0; i < text.size() && shown.size() < kMaxShown;) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::size_t length = utf8_length(text.substr(i));
    if (length == 0 || byte < 0x20 || byte == 0x7f) {
      shown += byte == '\n' ? "\\n" : byte == '\t' ? "\\t" : hex_byte(byte);
      ++i;
    } else {
      shown += text.substr(i, length);
      i += length;
    }
    if (shown.size() >= kMaxShown && i < text.size()) shown += "...";
  }
  return cat("'", shown, "'");
}

}  // namespace norma
