// Finds fixtures and registers one case of GoogleTest for each of their files.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace norma::testing {

// $NORMA_FIXTURES, or tests/fixtures of this source tree.
std::filesystem::path fixture_root();

// $NORMA_DATA (books, wikitext-2, tokenizers), or the data folder that scripts/setup.sh fills.
std::filesystem::path data_root();

// Registers one case for each *.json under fixture_root()/<subfolder>, named by the file's stem (dots become '_').
// When the subfolder is missing, a single case "no_fixtures" says so and is skipped. EXPECT_*, ASSERT_* and GTEST_SKIP
// work in `body`.
void register_fixture_cases(const std::string& suite, const std::string& subfolder,
                            const std::function<void(const std::filesystem::path&)>& body);

// Registers one case for each folder under fixture_root()/<subfolder>.
void register_folder_cases(const std::string& suite, const std::string& subfolder,
                           const std::function<void(const std::filesystem::path&)>& body);

// An empty folder under the system's temporary folder, removed with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace norma::testing
