#include <gtest/gtest.h>

#include "support/ranks.h"
#include "support/registration.h"

int main(int argc, char** argv) {
  int exit_code = 0;
  if (norma::testing::run_as_worker(exit_code)) return exit_code;
  ::testing::InitGoogleTest(&argc, argv);
  norma::testing::run_registrations();
  return RUN_ALL_TESTS();
}
