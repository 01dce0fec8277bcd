#include <cstdlib>

#include <gtest/gtest.h>

#include "support/ranks.h"
#include "support/registration.h"

namespace {

// The exit code by which ctest learns that a suite skipped some of its cases (tests/suites.cmake).
constexpr int kSkipped = 77;

bool skips_are_reported() {
  return std::getenv("NORMA_CTEST") != nullptr && ::testing::UnitTest::GetInstance()->skipped_test_count() > 0;
}

}  // namespace

int main(int argc, char** argv) {
  int exit_code = 0;
  if (norma::testing::run_as_worker(exit_code)) return exit_code;
  ::testing::InitGoogleTest(&argc, argv);
  norma::testing::run_registrations();
  const int failed = RUN_ALL_TESTS();
  return failed == 0 && skips_are_reported() ? kSkipped : failed;
}
