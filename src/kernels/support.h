// The answer of a fused path to the question whether it supports a call.
#pragma once

namespace norma {

// Yes, unless there is a reason against it: a string literal, to be read after "<op> uses its reference where".
struct Support {
  const char* reason = nullptr;

  explicit operator bool() const { return reason == nullptr; }
};

}  // namespace norma
