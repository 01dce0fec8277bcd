// A small reader of C++ sources for architecture_test: includes, code without comments and literals, and
// where functions begin and end. It knows as much of the language as the sources of this project need.
#pragma once

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace norma::testing {

namespace fs = std::filesystem;
using Names = std::set<std::string>;

struct Include {
  int line;
  std::string target;
  bool quoted;
};

struct SourceFile {
  std::string path;  // relative to the project: "src/base/text.cpp"
  std::string room;  // "base"; empty outside of rooms
  std::string text;
  std::string code;  // the text in the same lines, with comments and the contents of literals blanked
  std::vector<Include> includes;

  bool is_public() const { return path.starts_with("include/"); }
};

inline fs::path root() {
  return NORMA_SOURCE_DIR;
}

inline std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
}

inline int line_of(std::string_view text, std::size_t position) {
  return 1 + static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(position), '\n'));
}

// The quote at `at` separates digits (1'000) when the word before it starts with a digit.
inline bool separates_digits(const std::string& text, std::size_t at) {
  std::size_t start = at;
  while (start > 0 && (is_word(text[start - 1]) || text[start - 1] == '\'')) --start;
  return start < at && std::isdigit(static_cast<unsigned char>(text[start]));
}

// One past the end of the comment or literal that starts at `at`; `at` itself when none starts there.
inline std::size_t end_of_blank(const std::string& text, std::size_t at) {
  const auto past = [&](const std::string& closing, std::size_t from) {
    const std::size_t found = text.find(closing, from);
    return found == std::string::npos ? text.size() : found + closing.size();
  };
  if (text.compare(at, 2, "//") == 0) return std::min(text.find('\n', at), text.size());
  if (text.compare(at, 2, "/*") == 0) return past("*/", at + 2);
  const char quote = text[at];
  if (quote == '"' && at > 0 && text[at - 1] == 'R') {
    const std::size_t open = text.find('(', at);
    if (open != std::string::npos) return past(")" + text.substr(at + 1, open - at - 1) + "\"", open);
  }
  if (quote != '"' && (quote != '\'' || separates_digits(text, at))) return at;
  std::size_t end = at + 1;
  while (end < text.size() && text[end] != quote && text[end] != '\n') end += text[end] == '\\' ? 2 : 1;
  return std::min(end + 1, text.size());
}

inline std::string blank_comments_and_literals(std::string text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = end_of_blank(text, at);
    for (std::size_t i = at; i < end; ++i) {
      if (text[i] != '\n') text[i] = ' ';
    }
    at = std::max(end, at + 1);
  }
  return text;
}

// The text with everything but comments blanked, line by line the same.
inline std::string comments_of(std::string text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::max(end_of_blank(text, at), at + 1);
    const bool is_comment = text.compare(at, 2, "//") == 0 || text.compare(at, 2, "/*") == 0;
    for (std::size_t i = at; i < end && !is_comment; ++i) {
      if (text[i] != '\n') text[i] = ' ';
    }
    at = end;
  }
  return text;
}

inline std::vector<Include> find_includes(const std::string& text, const std::string& code) {
  static const std::regex kInclude("^\\s*#\\s*include\\s*([<\"])([^>\"]+)[>\"].*");
  std::vector<Include> found;
  std::istringstream text_lines(text), code_lines(code);
  std::string line, code_line;
  std::smatch match;
  for (int number = 1; std::getline(text_lines, line) && std::getline(code_lines, code_line); ++number) {
    const bool is_code = code_line.find('#') != std::string::npos;
    if (is_code && std::regex_match(line, match, kInclude)) {
      found.push_back({number, match[2], match[1] == "\""});
    }
  }
  return found;
}

inline std::string room_of(const std::string& path) {
  static const std::regex kRoomPath("(?:include/norma|src)/([^/]+)/.*");
  std::smatch match;
  return std::regex_match(path, match, kRoomPath) ? match[1].str() : "";
}

// All sources under include, src and tests by path.
inline const std::map<std::string, SourceFile>& sources() {
  static const std::map<std::string, SourceFile> kSources = [] {
    std::map<std::string, SourceFile> all;
    for (const char* folder : {"include", "src", "tests"}) {
      for (const auto& entry : fs::recursive_directory_iterator(root() / folder)) {
        if (!Names{".h", ".cpp", ".cu", ".cuh"}.contains(entry.path().extension().string())) continue;
        SourceFile file;
        file.path = fs::relative(entry.path(), root()).generic_string();
        file.room = room_of(file.path);
        file.text = read_text(entry.path());
        file.code = blank_comments_and_literals(file.text);
        file.includes = find_includes(file.text, file.code);
        all[file.path] = std::move(file);
      }
    }
    return all;
  }();
  return kSources;
}

// Who includes whom, by name.
using Graph = std::map<std::string, Names>;

// Every circle that a walk through the graph closes: "a -> b -> a".
inline std::vector<std::string> find_circles(const Graph& graph) {
  std::vector<std::string> found, path;
  Names done;
  const std::function<void(const std::string&)> walk = [&](const std::string& name) {
    const auto before = std::find(path.begin(), path.end(), name);
    if (before != path.end()) {
      std::string circle;
      for (auto step = before; step != path.end(); ++step) circle += *step + " -> ";
      found.push_back(circle + name);
      return;
    }
    if (done.contains(name)) return;
    path.push_back(name);
    if (const auto node = graph.find(name); node != graph.end()) {
      for (const std::string& next : node->second) walk(next);
    }
    path.pop_back();
    done.insert(name);
  };
  for (const auto& [name, next] : graph) walk(name);
  return found;
}

struct Lines {
  int first;
  int last;
};

inline std::string line_text(const std::string& text, int line) {
  std::istringstream lines(text);
  std::string found;
  for (int number = 1; number <= line; ++number) std::getline(lines, found);
  return found;
}

inline std::string trimmed(const std::string& text) {
  const std::size_t first = text.find_first_not_of(" \n");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \n") - first + 1);
}

inline std::string without_template(const std::string& head) {
  if (!head.starts_with("template")) return head;
  int depth = 0;
  for (std::size_t at = head.find('<'); at < head.size(); ++at) {
    if (head[at] == '<') ++depth;
    if (head[at] == '>' && --depth == 0) return trimmed(head.substr(at + 1));
  }
  return head;
}

// What a brace after these words opens: a scope, whose members are read in turn, a function, or something else, such as
// an initializer or an enum.
enum class Opens { scope, function, other };

inline Opens what_opens(const std::string& declaration) {
  const std::string head = without_template(trimmed(declaration));
  const std::string word = head.substr(0, head.find_first_of(" \n"));
  const bool is_linkage = head == "extern";  // extern "C", its literal blanked
  if (is_linkage || Names{"namespace", "class", "struct", "union"}.contains(word)) {
    return Opens::scope;
  }
  return head.find('(') != std::string::npos ? Opens::function : Opens::other;
}

// A preprocessor line, or an access specifier that a colon follows.
inline bool ends_declaration(const std::string& head, char next) {
  if (next == '\n') return head.starts_with('#') && !head.ends_with('\\');
  return next == ':' && Names{"public", "private", "protected"}.contains(head);
}

inline std::size_t matching_brace(const std::string& code, std::size_t open) {
  int depth = 0;
  for (std::size_t at = open; at < code.size(); ++at) {
    if (code[at] == '{') ++depth;
    if (code[at] == '}' && --depth == 0) return at;
  }
  return code.size() - 1;
}

// The functions in blanked code, from the first line of the declaration to the closing brace. A function inside of
// another one belongs to it.
inline std::vector<Lines> find_functions(const std::string& code) {
  std::vector<Lines> found;
  int parentheses = 0;
  std::size_t start = 0;  // of the declaration being read
  for (std::size_t at = 0; at < code.size(); ++at) {
    const char c = code[at];
    if (c == '(') ++parentheses;
    if (c == ')') --parentheses;
    if (parentheses > 0 || std::string_view("{};:\n").find(c) == std::string_view::npos) continue;
    const std::string head = code.substr(start, at - start);
    if (c == '{') {
      const Opens opens = what_opens(head);
      const std::size_t end = opens == Opens::scope ? at : matching_brace(code, at);
      if (opens == Opens::function) {
        found.push_back({line_of(code, code.find_first_not_of(" \n", start)), line_of(code, end)});
      }
      at = end;
      start = end + 1;
    } else if (c == ';' || c == '}' || ends_declaration(trimmed(head), c)) {
      start = at + 1;
    }
  }
  return found;
}

}  // namespace norma::testing
