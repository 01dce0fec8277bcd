// Token ids and logits of a fixture's expected.json.
#pragma once

#include <vector>

#include <ATen/ATen.h>

#include "norma/base/json.h"

namespace norma::testing {

inline at::Tensor expected_ids(const Json& expected) {  // [B, T]
  std::vector<at::Tensor> rows;
  for (const Json& row : expected.at("ids"))
    rows.push_back(at::tensor(row.get<std::vector<std::int64_t>>(), at::kLong));
  return at::stack(rows);
}

inline at::Tensor expected_logits(const Json& expected) {  // [B, T, V]
  std::vector<at::Tensor> instances;
  for (const Json& instance : expected.at("logits")) {
    std::vector<at::Tensor> rows;
    for (const Json& row : instance) rows.push_back(at::tensor(row.get<std::vector<double>>(), at::kDouble));
    instances.push_back(at::stack(rows));
  }
  return at::stack(instances);
}

}  // namespace norma::testing
