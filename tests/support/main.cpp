#include <gtest/gtest.h>

#include "support/registration.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  norma::testing::run_registrations();
  return RUN_ALL_TESTS();
}
