// What an error says: the text of a thrown error, and a containment check that prints both texts.
#pragma once

#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace norma::testing {

// The text of the Expected that `body` throws; the test fails when it throws none.
template <class Expected, class Body>
std::string error_text(const Body& body) {
  try {
    body();
  } catch (const Expected& error) {
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return "";
}

// EXPECT_TRUE(contains(text, part))
inline ::testing::AssertionResult contains(const std::string& text, std::string_view part) {
  if (text.find(part) != std::string::npos) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "\"" << text << "\" does not contain \"" << part << "\"";
}

}  // namespace norma::testing
