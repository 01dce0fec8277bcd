// Where test numbers lie, and one GoogleTest case per file.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace norma::testing {

// $NORMA_FIXTURES, or tests/fixtures of this source tree.
std::filesystem::path fixture_root();

// $NORMA_DATA (books, wikitext-2, tokenizers), or the data folder that scripts/setup.sh fills.
std::filesystem::path data_root();

// Registers one case per *.json under fixture_root()/<subfolder>, named by the file's stem (dots become '_').
// When the subfolder is missing, a single case "no_fixtures" skips and says so. `body` runs inside the case:
// EXPECT_*, ASSERT_* and GTEST_SKIP work in it.
void register_fixture_cases(const std::string& suite, const std::string& subfolder,
                            const std::function<void(const std::filesystem::path&)>& body);

// The same with one case per folder under fixture_root()/<subfolder>.
void register_folder_cases(const std::string& suite, const std::string& subfolder,
                           const std::function<void(const std::filesystem::path&)>& body);

// A fresh empty folder under the system's temporary folder, removed when the object goes.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace norma::testing
