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

#include "support/source_tree.h"

namespace norma::testing {
namespace {

// Which rooms a room may include; itself always. Nobody includes app.
const std::map<std::string, Names> kRooms = {
    {"base", {}},
    {"config", {"base"}},
    {"record", {"base", "config"}},
    {"norm", {"base", "config"}},
    {"kernels", {"base"}},
    {"model", {"base", "config", "norm", "kernels"}},
    {"data", {"base", "config"}},
    {"parallel", {"base", "config"}},
    {"optim", {"base", "config", "kernels"}},
    {"checkpoint", {"base", "record"}},
    {"interop", {"base", "config", "record", "norm", "model", "checkpoint", "data"}},
    {"eval", {"base", "config", "record", "kernels", "model", "data"}},
    {"train",
     {"base", "config", "record", "norm", "kernels", "model", "data", "parallel", "optim", "checkpoint", "eval"}},
    {"study", {"base", "config", "record"}},
    {"app",
     {"base", "config", "record", "norm", "kernels", "model", "data", "parallel", "optim", "checkpoint", "interop",
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
    {"ATen/core/Tensor.h", "include/norma/base/(unit|weights)\\.h"},
    {"ATen/", kTensorFiles.c_str()},
    {"c10/", kTensorFiles.c_str()},
    {"torch/csrc/autograd/", "src/pch\\.h|(include/norma|src)/(kernels|model|parallel|train)/.*"},
    {"torch/cuda.h", "src/(train|app)/.*"},
    {"torch/version.h", "src/app/.*"},
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
    {"fnmatch.h", ".*"},
    {"glob.h", ".*"},
    {"netdb.h", ".*"},
    {"pthread.h", ".*"},
    {"sched.h", ".*"},
    {"unistd.h", ".*"},
};

// Files that must not see a tensor, not even through another header: they are read, tested and fuzzed alone.
const std::regex kTorchFree(
    "(include/norma|src)/((config|record|norm|data|study)/.*|checkpoint/(safetensors|manifest|commit).*|base/"
    "(?!(unit|weights)\\.).*|eval/(task|table_tasks|mmlu_tasks|request|estimates).*)");

const Names kTopLevel = {"CMakeLists.txt", "include",     "src",       "configs", "scripts",
                         "tests",          "third_party", "README.md", "LICENSE"};
const std::regex kTopLevelIgnored("\\..*|build.*|runs|data");  // dotfiles, and what .gitignore leaves out

constexpr int kMaxFunctionLines = 100;
constexpr int kMaxFileLines = 400;
const Names kLongFiles = {"include/norma/config/config.h"};  // the one list of all settings

// Files of app: the commands, and what composes the rooms for them.
const std::regex kAppFiles(
    "src/app/"
    "(\\w+_command\\.cpp|(main|commands|option_checks|checked_config|checkpoint_model|run_description|run_tokenizer|"
    "export_formats|version)\\.(h|cpp))");

constexpr std::size_t kMaxPublicHeaders = 69;
constexpr int kMaxHeaderFunctionLines = 12;
const Names kInlinedHeaders = {
    "src/kernels/cpu/vector.h"};  // whose functions must become part of the loops around them

// Names of pages and lists that do not lie beside the sources, so that a comment must not send its reader there.
const std::regex kOutsideReference(R"(\b[EGR]\d{1,2}\b|[Ii]nvariants? \d|[Ss]pecification|\b(?!README)\w+\.md\b)");

// ---- The include graph ----

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
  const std::string path =
      include.target.starts_with("norma/") ? "include/" + include.target : "src/" + file.room + "/" + include.target;
  const auto found = sources().find(path);
  return include.quoted && found != sources().end() ? &found->second : nullptr;
}

TEST(Architecture, EveryFolderIsARoomOfTheTable) {
  for (const char* folder : {"include/norma", "src"}) {
    for (const auto& entry : fs::directory_iterator(root() / folder)) {
      const std::string name = entry.path().filename().string();
      if (!entry.is_directory()) continue;
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

// A header and the sources of its name are one component: "train/train_step".
TEST(Architecture, NoComponentsIncludeEachOtherInACircle) {
  EXPECT_EQ(find_circles({{"a", {"b", "d"}}, {"b", {"c"}}, {"c", {"b", "d"}}}),
            std::vector<std::string>{"b -> c -> b"});
  static const std::regex kPath("(?:include/norma|src)/([^.]+)\\.\\w+");
  const auto component_of = [](const SourceFile& file) { return std::regex_replace(file.path, kPath, "$1"); };
  Graph components, rooms;
  for_each_include([&](const SourceFile& file, const Include& include) {
    const SourceFile* other = resolve(file, include);
    if (other == nullptr) return;
    if (component_of(*other) != component_of(file)) components[component_of(file)].insert(component_of(*other));
    if (other->room != file.room) rooms[file.room].insert(other->room);
  });
  for (const Graph& graph : {components, rooms}) {
    for (const std::string& circle : find_circles(graph)) ADD_FAILURE() << circle;
  }
}

TEST(Architecture, AppHoldsCommandsAndComposition) {
  for (const auto& [path, file] : sources()) {
    if (file.room != "app" || std::regex_match(path, kAppFiles)) continue;
    report(file, 1, "belongs to another room (kAppFiles)");
  }
}

TEST(Architecture, LibrariesAreIncludedOnlyWhereTheTableAllows) {
  for_each_include([](const SourceFile& file, const Include& include) {
    if (include.quoted || include.target.find_first_of("./") == std::string::npos) return;
    const bool allowed = std::any_of(kLibraries.begin(), kLibraries.end(), [&](const Library& library) {
      return include.target.starts_with(library.prefix) && std::regex_match(file.path, std::regex(library.files));
    });
    if (!allowed) report(file, include.line, "<" + include.target + "> may not be included here (kLibraries)");
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
        if (is_torch(include)) report(file, include.line, "reached from " + path + ", which may not see torch");
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

TEST(Architecture, PublicHeadersAreFew) {
  const auto count =
      std::count_if(sources().begin(), sources().end(), [](const auto& entry) { return entry.second.is_public(); });
  EXPECT_LE(count, kMaxPublicHeaders);
}

// Templates apart, which a compiler must see.
TEST(Architecture, HeadersHoldNoLongImplementations) {
  for (const auto& [path, file] : sources()) {
    if (!path.ends_with(".h") || file.room.empty() || kInlinedHeaders.contains(path)) continue;
    for (const Lines& function : find_functions(file.code)) {
      const int length = function.last - function.first + 1;
      const bool is_template = line_text(file.code, function.first).find("template") != std::string::npos;
      if (length > kMaxHeaderFunctionLines && !is_template) {
        report(file, function.first, "a function of " + std::to_string(length) + " lines in a header");
      }
    }
  }
}

TEST(Architecture, CommentsReferToNoPageOutsideTheRepository) {
  for (const auto& [path, file] : sources()) {
    std::istringstream lines(comments_of(file.text));
    std::string line;
    std::smatch match;
    for (int number = 1; std::getline(lines, line); ++number) {
      if (std::regex_search(line, match, kOutsideReference)) report(file, number, "refers to " + match.str());
    }
  }
}

TEST(Architecture, FunctionsAreFoundDespiteStringsCommentsAndInitializers) {
  const std::string text = R"source(#include <map>
// A comment with { and "
namespace a {
const char* text = "} {"; const int n = 1'000; char c = '{';
template <class T, class U = std::map<int, T>>
struct S {
  explicit S(int x = {}) : x_{x}, y_(R"x(})x") {
    if (x) { x_ = 2; }
  }
 private:
  int x_;
};
std::map<int, int> table = {{1, 2}};
int f(S<int, int> s)
{ /* } */ return 1; }
}
)source";
  std::vector<int> lines;
  for (const Lines& function : find_functions(blank_comments_and_literals(text))) {
    lines.push_back(function.first);
    lines.push_back(function.last);
  }
  EXPECT_EQ(lines, (std::vector<int>{7, 7, 7, 9, 14, 15}));  // x_{x} reads as a body of its own
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
  std::map<std::string, Names> mounts;  // struct -> the keys under which it appears: SiteEdit -> in, out, final ...
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
  for (const auto& entry : fs::directory_iterator(root() / "configs")) {
    if (entry.is_regular_file()) texts += read_text(entry.path());
  }
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
