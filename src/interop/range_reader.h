// Reads a model's parameters out of another program's safetensors files.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "norma/base/weights.h"
#include "norma/checkpoint/safetensors.h"
#include "norma/interop/foreign_range.h"
#include "norma/model/parameters.h"

namespace norma {

// The files, and how their tensors stand for the parameters.
struct ForeignFiles {
  std::string where;                                                              // the file or folder, for messages
  std::function<const TensorInfo*(const std::string& tensor)> find;               // nullptr when there is none
  std::function<std::span<const std::byte>(const std::string& tensor)> bytes_of;  // need not be aligned
  std::function<std::vector<ForeignRange>(const ParameterSpec&)> ranges_of;       // they cover the parameter
  // What a tensor's shape follows from, for messages: "config.json".
  std::function<std::string(const ParameterSpec&, const ForeignRange&)> source_of_shape;
};

// Whether the number of experts is one of the parameter's sizes.
bool counts_experts(const ParameterSpec& parameter);

class RangeReader final : public WeightReader {
 public:
  // Checks that every tensor of the parameters is there, in its shape, as F32, BF16 or F16. Throws DataError. Ranges
  // are listed for one parameter at a time: those of many experts would fill the memory before the first tensor that is
  // missing is noticed.
  RangeReader(const std::vector<UnitSpec>& units, ForeignFiles files);

  const std::set<std::string>& tensors() const { return tensors_; }  // those that the parameters consist of
  void read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const override;

 private:
  ForeignFiles files_;
  std::map<std::string, ParameterSpec> parameters_;  // by name
  std::set<std::string> tensors_;
};

}  // namespace norma
