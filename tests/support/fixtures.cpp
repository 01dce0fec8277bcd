#include "support/fixtures.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "support/registration.h"

namespace norma::testing {

namespace fs = std::filesystem;

namespace {

std::vector<Registration>& registrations() {
  static std::vector<Registration> all;
  return all;
}

class FileCase : public ::testing::Test {
 public:
  FileCase(std::function<void(const fs::path&)> body, fs::path path) : body_(std::move(body)), path_(std::move(path)) {}
  void TestBody() override { body_(path_); }

 private:
  std::function<void(const fs::path&)> body_;
  fs::path path_;
};

void register_case(const std::string& suite, const std::string& name, const std::function<void(const fs::path&)>& body,
                   const fs::path& path) {
  ::testing::RegisterTest(suite.c_str(), name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                          [=]() -> ::testing::Test* { return new FileCase(body, path); });
}

}  // namespace

bool announce(Registration registration) {
  registrations().push_back(registration);
  return true;
}

void run_registrations() {
  for (Registration registration : registrations()) registration();
}

fs::path fixture_root() {
  const char* root = std::getenv("NORMA_FIXTURES");
  return root ? fs::path(root) : fs::path(NORMA_SOURCE_DIR) / "tests/fixtures";
}

fs::path data_root() {
  const char* root = std::getenv("NORMA_DATA");
  return root ? fs::path(root) : fs::path(NORMA_SOURCE_DIR) / ".cache/data";
}

namespace {

using Selector = bool (*)(const fs::directory_entry&);

void register_cases(const std::string& suite, const fs::path& folder, Selector select,
                    const std::function<void(const fs::path&)>& body) {
  std::vector<fs::path> files;
  if (fs::is_directory(folder)) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (select(entry)) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    register_case(
        suite, "no_fixtures", [](const fs::path& path) { GTEST_SKIP() << "no fixtures under " << path; }, folder);
  }
  for (const fs::path& file : files) {
    std::string name = file.stem().string();
    std::replace(name.begin(), name.end(), '.', '_');
    register_case(suite, name, body, file);
  }
}

}  // namespace

void register_fixture_cases(const std::string& suite, const std::string& subfolder,
                            const std::function<void(const fs::path&)>& body) {
  const Selector is_json = [](const fs::directory_entry& entry) { return entry.path().extension() == ".json"; };
  register_cases(suite, fixture_root() / subfolder, is_json, body);
}

void register_folder_cases(const std::string& suite, const std::string& subfolder,
                           const std::function<void(const fs::path&)>& body) {
  const Selector is_folder = [](const fs::directory_entry& entry) { return entry.is_directory(); };
  register_cases(suite, fixture_root() / subfolder, is_folder, body);
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (fs::temp_directory_path() / "norma-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make a temporary folder");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace norma::testing
