// The formats that norma export writes, a function for each.
#pragma once

#include <cstdint>
#include <string>

#include "norma/base/file.h"
#include "norma/config/names.h"
#include "norma/interop/hf_folder.h"

namespace norma {

template <>
struct EnumNames<HfDtype> {
  static constexpr auto kNames = names_up_to(HfDtype::bf16, "fp32", "bf16");
};
template <>
struct EnumNames<RemoteCode> {
  static constexpr auto kNames = names_up_to(RemoteCode::always, "auto", "always");
};

struct ExportArguments {
  std::string from, to = "safetensors", out;
  // of the format hf
  std::string tokenizer, dtype = "fp32", remote_code = "auto", logits;
  std::uint64_t max_shard_bytes = 5'000'000'000;
  bool ignore_document_separator = false;
  std::int64_t threads = 0;
  bool plain_keys = false;  // of the format olmo
};

void export_safetensors(const ExportArguments& arguments);
void export_hf(const ExportArguments& arguments);
void export_olmo_names(const ExportArguments& arguments);

}  // namespace norma
