// The rules of the source tree, read from the sources themselves: who may include whom, how long files and
// functions may get, what the top level holds, and that every setting is shown somewhere. The tables below
// are the rules.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace norma::testing {
namespace {

namespace fs = std::filesystem;
using Names = std::set<std::string>;

// Which rooms a room may include; itself always. Nobody includes app.
const std::map<std::string, Names> kRooms = {
    {"base", {}},
    {"config", {"base"}},
    {"norm", {"base", "config"}},
    {"kernels", {"base"}},
    {"model", {"base", "config", "norm", "kernels"}},
    {"data", {"base", "config"}},
    {"parallel", {"base", "config"}},
    {"optim", {"base", "config", "kernels"}},
    {"checkpoint", {"base"}},
    {"interop", {"base", "config", "norm", "model", "checkpoint", "data"}},
    {"eval", {"base", "config", "kernels", "model", "data"}},
    {"train",
     {"base", "config", "norm", "kernels", "model", "data", "parallel", "optim", "checkpoint", "eval"}},
    {"study", {"base", "config"}},
    {"app",
     {"base", "config", "norm", "kernels", "model", "data", "parallel", "optim", "checkpoint", "interop",
      "eval", "train", "study"}},
};

// Which files may include a library, as a pattern of paths. An include is allowed when one row allows it; a
// library without a row is not allowed at all. Standard headers (no dot, no slash) are free.
struct Library {
  const char* prefix;
  const char* files;
};
const std::string kTensorFiles =
    "src/pch\\.h|(include/norma|src)/"
    "((kernels|model|parallel|optim|interop|eval|train|app)/.*|checkpoint/(?!safetensors|manifest|commit).*)";
const std::vector<Library> kLibraries = {
    {"ATen/core/Tensor.h", "include/norma/base/unit\\.h"},
    {"ATen/", kTensorFiles.c_str()},
    {"c10/", kTensorFiles.c_str()},
    {"torch/csrc/autograd/", "src/pch\\.h|(include/norma|src)/(kernels|model|parallel|train)/.*"},
    {"torch/nn/", "src/pch\\.h|(include/norma|src)/(model|interop|eval|train|app)/.*"},
    {"torch/csrc/distributed/", "(include/norma|src)/(parallel|app)/.*"},
    {"nccl.h", "src/parallel/.*"},
    {"cuda", "src/(kernels|parallel)/.*"},
    {"immintrin.h", "src/(base|kernels)/.*"},
    {"nlohmann/", "include/norma/base/json\\.h"},
    {"spdlog/", "src/base/log\\.cpp"},
    {"xxhash.h", "src/base/.*\\.cpp"},
    {"yaml-cpp/", "src/config/.*\\.cpp"},
    {"CLI/", "src/app/.*"},
    {"pcre2.h", "src/data/.*"},
    {"utf8proc.h", "src/data/.*"},
    {"zlib.h", "src/data/.*"},
    {"zstd.h", "src/data/.*"},
    {"simdjson.h", "src/data/.*"},
    {"sys/", ".*"},
    {"fcntl.h", ".*"},
    {"pthread.h", ".*"},
    {"sched.h", ".*"},
    {"unistd.h", ".*"},
};

// Files that must not see a tensor, not even through another header: they are read, tested and fuzzed alone.
const std::regex kTorchFree(
    "(include/norma|src)/((config|norm|data|study)/.*|checkpoint/(safetensors|manifest|commit).*|base/"
    "(?!unit\\.).*)");

const Names kTopLevel = {"CMakeLists.txt", "include",     "src",       "configs", "scripts",
                         "tests",          "third_party", "README.md", "LICENSE"};
const std::regex kTopLevelIgnored("\\..*|build.*|runs|data");  // dotfiles, and what .gitignore leaves out

constexpr int kMaxFunctionLines = 100;
constexpr int kMaxFileLines = 400;
const Names kLongFiles = {"include/norma/config/config.h"};  // the one list of all settings

// ---- Reading sources ----

struct Include {
  int line;
  std::string target;
  bool quoted;
};

struct SourceFile {
  std::string path;  // from the project's root: "src/base/text.cpp"
  std::string room;  // "base"; empty outside of rooms
  std::string text;
  std::string code;  // the text with comments and the insides of literals blanked, line by line the same
  std::vector<Include> includes;

  bool is_public() const { return path.starts_with("include/"); }
};

fs::path root() {
  return NORMA_SOURCE_DIR;
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
}

int line_of(std::string_view text, std::size_t position) {
  return 1 + static_cast<int>(
                 std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(position), '\n'));
}

// The quote at `at` separates digits (1'000) when the word before it starts with a digit.
bool separates_digits(const std::string& text, std::size_t at) {
  std::size_t start = at;
  while (start > 0 && (is_word(text[start - 1]) || text[start - 1] == '\'')) --start;
  return start < at && std::isdigit(static_cast<unsigned char>(text[start]));
}

// Where the comment or literal that starts at `at` ends (one past it), or `at` when none starts there.
std::size_t end_of_blank(const std::string& text, std::size_t at) {
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

std::string blank_comments_and_literals(std::string text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = end_of_blank(text, at);
    for (std::size_t i = at; i < end; ++i) {
      if (text[i] != '\n') text[i] = ' ';
    }
    at = std::max(end, at + 1);
  }
  return text;
}

std::vector<Include> find_includes(const std::string& text, const std::string& code) {
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

std::string room_of(const std::string& path) {
  static const std::regex kRoomPath("(?:include/norma|src)/([^/]+)/.*");
  std::smatch match;
  return std::regex_match(path, match, kRoomPath) ? match[1].str() : "";
}

// All sources under include, src and tests by path.
const std::map<std::string, SourceFile>& sources() {
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

void report(const SourceFile& file, int line, const std::string& text) {
  ADD_FAILURE_AT(file.path.c_str(), line) << text;
}

template <class Check>
void for_each_include(const Check& check) {
  for (const auto& [path, file] : sources()) {
    if (path.starts_with("tests/")) continue;
    for (const Include& include : file.includes) check(file, include);
  }
}

bool is_torch(const Include& include) {
  return std::regex_match(include.target, std::regex("(torch|ATen|c10|caffe2)/.*"));
}

// The project's file that a quoted include of `file` means, or null.
const SourceFile* resolve(const SourceFile& file, const Include& include) {
  const std::string path = include.target.starts_with("norma/") ? "include/" + include.target
                                                                : "src/" + file.room + "/" + include.target;
  const auto found = sources().find(path);
  return include.quoted && found != sources().end() ? &found->second : nullptr;
}

// ---- The include graph ----

TEST(Architecture, EveryFolderIsARoomOfTheTable) {
  for (const char* folder : {"include/norma", "src"}) {
    for (const auto& entry : fs::directory_iterator(root() / folder)) {
      const std::string name = entry.path().filename().string();
      if (entry.is_directory())
        EXPECT_TRUE(kRooms.contains(name)) << folder << "/" << name << " is not a room";
    }
  }
}

TEST(Architecture, RoomsIncludeOnlyWhatTheTableAllows) {
  for_each_include([](const SourceFile& file, const Include& include) {
    if (!include.target.starts_with("norma/")) return;
    const std::string other = room_of("include/" + include.target);
    const auto room = kRooms.find(file.room);
    if (room == kRooms.end() || (other != file.room && !room->second.contains(other))) {
      report(file, include.line, "room '" + file.room + "' may not include \"" + include.target + "\"");
    }
  });
}

TEST(Architecture, LibrariesAreIncludedOnlyWhereTheTableAllows) {
  for_each_include([](const SourceFile& file, const Include& include) {
    if (include.quoted || include.target.find_first_of("./") == std::string::npos) return;
    const bool allowed = std::any_of(kLibraries.begin(), kLibraries.end(), [&](const Library& library) {
      return include.target.starts_with(library.prefix) &&
             std::regex_match(file.path, std::regex(library.files));
    });
    if (!allowed)
      report(file, include.line, "<" + include.target + "> may not be included here (kLibraries)");
  });
}

TEST(Architecture, TorchFreeFilesReachNoTorch) {
  for (const auto& [path, start] : sources()) {
    if (!std::regex_match(path, kTorchFree)) continue;
    std::vector<const SourceFile*> pending{&start};
    std::set<const SourceFile*> seen{&start};
    while (!pending.empty()) {
      const SourceFile& file = *pending.back();
      pending.pop_back();
      for (const Include& include : file.includes) {
        if (is_torch(include))
          report(file, include.line, "reached from " + path + ", which may not see torch");
        const SourceFile* next = resolve(file, include);
        if (next && seen.insert(next).second) pending.push_back(next);
      }
    }
  }
}

TEST(Architecture, PrivateHeadersStayInTheirRoom) {
  for_each_include([](const SourceFile& file, const Include& include) {
    if (!include.quoted || include.target.starts_with("norma/")) return;
    if (file.is_public()) {
      report(file, include.line, "a public header may not include the private \"" + include.target + "\"");
    } else if (!file.room.empty() && !fs::exists(root() / "src" / file.room / include.target)) {
      report(file, include.line, "\"" + include.target + "\" is not in src/" + file.room);
    } else if (include.target.find("..") != std::string::npos) {
      report(file, include.line, "\"" + include.target + "\" leaves its room");
    }
  });
}

// ---- Headers and sizes ----

TEST(Architecture, HeadersAreGuardedAndPublicOnesStartWithAComment) {
  for (const auto& [path, file] : sources()) {
    if (!path.ends_with(".h")) continue;
    if (file.code.find("#pragma once") == std::string::npos) report(file, 1, "#pragma once is missing");
    if (file.is_public() && !file.text.starts_with("//")) {
      report(file, 1, "a public header starts with a comment: what it does");
    }
  }
}

struct Lines {
  int first;
  int last;
};

// What a brace after these words opens: a scope whose members are looked at in turn, a function, or anything
// else.
enum class Opens { scope, function, other };

Opens what_opens(std::string head) {
  static const std::regex kTemplate("^\\s*template\\s*<[^<>]*(<[^<>]*>[^<>]*)*>");
  static const std::regex kScope("^\\s*(inline\\s+)?(namespace|class|struct|union)\\b[^]*");
  static const std::regex kLinkage("^\\s*extern\\s*");
  head = std::regex_replace(head, kTemplate, "");
  if (std::regex_match(head, kScope) || std::regex_match(head, kLinkage)) return Opens::scope;
  return head.find('(') != std::string::npos ? Opens::function : Opens::other;
}

std::size_t matching_brace(const std::string& code, std::size_t open) {
  int depth = 0;
  for (std::size_t at = open; at < code.size(); ++at) {
    if (code[at] == '{') ++depth;
    if (code[at] == '}' && --depth == 0) return at;
  }
  return code.size() - 1;
}

// The functions of blanked code, from the first line of their declaration to the closing brace. Functions
// inside of functions belong to the outer one.
std::vector<Lines> find_functions(const std::string& code) {
  std::vector<Lines> found;
  int parentheses = 0;
  std::size_t head = 0;
  for (std::size_t at = 0; at < code.size(); ++at) {
    if (code[at] == '(') ++parentheses;
    if (code[at] == ')') --parentheses;
    if (parentheses > 0) continue;
    const bool ends_preprocessor_line =
        code[at] == '\n' && std::regex_match(code.substr(head, at - head), std::regex("\\s*#[^]*[^\\\\]"));
    const bool ends_access =
        code[at] == ':' &&
        std::regex_match(code.substr(head, at - head), std::regex("\\s*(public|private|protected)"));
    if (code[at] == '{') {
      const Opens opens = what_opens(code.substr(head, at - head));
      const std::size_t end = opens == Opens::scope ? at : matching_brace(code, at);
      if (opens == Opens::function) {
        found.push_back({line_of(code, code.find_first_not_of(" \n", head)), line_of(code, end)});
      }
      at = end;
      head = end + 1;
    } else if (code[at] == ';' || code[at] == '}' || ends_preprocessor_line || ends_access) {
      head = at + 1;
    }
  }
  return found;
}

TEST(Architecture, FunctionsAreFoundDespiteStringsCommentsAndInitializers) {
  const std::string text = R"cpp(#include <map>
                                 // A comment with { and "
                                 namespace a {
                                 const char* text = "} {";
                                 const int n = 1'000;
                                 char c = '{';
                                 template <class T, class U = std::map<int, T>>
                                 struct S {
                                   explicit S(int x = {}) : x_{x}, y_(R"x(})x") {
                                     if (x) {
                                       x_ = 2;
                                     }
                                   }

                                  private:
                                   int x_;
                                 };
                                 std::map<int, int> table = {{1, 2}};
                                 int f(S<int, int> s) { /* } */
                                   return 1;
                                 }
                                 }  // namespace a
  )cpp";
  std::vector<int> lines;
  for (const Lines& function : find_functions(blank_comments_and_literals(text))) {
    lines.push_back(function.first);
    lines.push_back(function.last);
  }
  EXPECT_EQ(lines, (std::vector<int>{7, 7, 7, 9, 14, 16}));  // x_{x} reads as a body of its own
}

TEST(Architecture, NoFunctionIsOver100Lines) {
  for (const auto& [path, file] : sources()) {
    for (const Lines& function : find_functions(file.code)) {
      const int length = function.last - function.first + 1;
      if (length > kMaxFunctionLines) {
        report(file, function.first, "a function of " + std::to_string(length) + " lines");
      }
    }
  }
}

TEST(Architecture, NoFileIsOver400Lines) {
  for (const auto& [path, file] : sources()) {
    const int lines = line_of(file.text, file.text.size()) - 1;
    if (lines > kMaxFileLines && !kLongFiles.contains(path)) {
      report(file, lines, "a file of " + std::to_string(lines) + " lines");
    }
  }
}

TEST(Architecture, TopLevelIsTheClosedList) {
  for (const auto& entry : fs::directory_iterator(root())) {
    const std::string name = entry.path().filename().string();
    if (std::regex_match(name, kTopLevelIgnored)) continue;
    EXPECT_TRUE(kTopLevel.contains(name)) << name << " does not belong to the top level";
  }
}

// ---- Settings ----

struct Key {
  std::string owner;  // the struct that lists it
  std::string name;
  int line;
};

struct Settings {
  std::vector<Key> keys;
  std::map<std::string, Names>
      mounts;  // struct -> the keys under which it appears: SiteEdit -> in, out, final ...
};

// Reads the structs of config.h: fields of another struct's type, and the keys that visit() lists.
Settings read_settings(const SourceFile& config) {
  static const std::regex kStruct("^struct (\\w+) \\{.*"), kKey("^\\s*\\w+\\(\"(\\w+)\", \\w+,.*");
  static const std::regex kField("^  (?:std::map<std::string, )?(\\w+)>? ([\\w, ]+);.*");
  Settings settings{{}, {{"RunConfig", {"config"}}}};
  std::istringstream lines(config.text);
  std::string line, owner;
  std::smatch match;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (std::regex_match(line, match, kStruct)) owner = match[1];
    if (std::regex_match(line, match, kKey)) settings.keys.push_back({owner, match[1], number});
    if (!std::regex_match(line, match, kField)) continue;
    std::istringstream names(match[2]);
    for (std::string name; std::getline(names >> std::ws, name, ',');) settings.mounts[match[1]].insert(name);
  }
  return settings;
}

// `name` stands in the text as a YAML key ("name:") or as part of a dotted key ("optim.name").
bool shows_key(const std::string& text, const std::string& name, const Names& mounts) {
  for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
    const std::size_t end = at + name.size();
    if ((at > 0 && is_word(text[at - 1])) || (end < text.size() && is_word(text[end]))) continue;
    if (text.compare(end, 1, ":") == 0 && text.compare(end, 2, "::") != 0) return true;
    for (const std::string& mount : mounts) {
      const std::string dotted = mount + ".";
      if (at >= dotted.size() && text.compare(at - dotted.size(), dotted.size(), dotted) == 0) return true;
    }
  }
  return false;
}

TEST(Architecture, EveryConfigKeyIsShownInAConfigATestOrTheReadme) {
  std::string texts = read_text(root() / "README.md");
  for (const auto& entry : fs::directory_iterator(root() / "configs")) texts += read_text(entry.path());
  for (const auto& [path, file] : sources()) {
    if (path.starts_with("tests/")) texts += file.text;
  }
  const SourceFile& config = sources().at("include/norma/config/config.h");
  Settings settings = read_settings(config);
  EXPECT_GT(settings.keys.size(), 80u) << "the reader of config.h no longer understands it";
  for (const Key& key : settings.keys) {
    if (!shows_key(texts, key.name, settings.mounts[key.owner])) {
      report(config, key.line, key.owner + "'s key '" + key.name + "' appears in no config, test or README");
    }
  }
}

}  // namespace
}  // namespace norma::testing
