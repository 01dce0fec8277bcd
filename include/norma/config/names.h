// How enumerators are spelled in YAML, messages and tables.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "norma/config/config.h"

namespace norma {

// The names of an enum's values in order. A list whose last name is not that of `last` does not compile.
template <class E, class... Names>
consteval auto names_up_to(E last, Names... names) {
  if (static_cast<std::size_t>(last) + 1 != sizeof...(names)) throw "every enumerator needs one name";
  return std::array<std::string_view, sizeof...(names)>{names...};
}

template <class E>
struct EnumNames;

template <>
struct EnumNames<Device> {
  static constexpr auto kNames = names_up_to(Device::cuda, "auto", "cpu", "cuda");
};
template <>
struct EnumNames<Precision> {
  static constexpr auto kNames = names_up_to(Precision::bf16, "fp64", "fp32", "bf16");
};
template <>
struct EnumNames<NormKind> {
  static constexpr auto kNames = names_up_to(NormKind::layer, "none", "rms", "layer");
};
template <>
struct EnumNames<SkipSource> {
  static constexpr auto kNames = names_up_to(SkipSource::block, "stream", "normed", "block");
};
template <>
struct EnumNames<MlpKind> {
  static constexpr auto kNames = names_up_to(MlpKind::moe, "dense", "moe");
};
template <>
struct EnumNames<RouterScoring> {
  static constexpr auto kNames = names_up_to(RouterScoring::sigmoid, "softmax", "sigmoid");
};
template <>
struct EnumNames<GroupScore> {
  static constexpr auto kNames = names_up_to(GroupScore::top2, "max", "top2");
};
template <>
struct EnumNames<RouterPrecision> {
  static constexpr auto kNames = names_up_to(RouterPrecision::fp32, "auto", "fp32");
};
template <>
struct EnumNames<AttentionKind> {
  static constexpr auto kNames = names_up_to(AttentionKind::mla, "gqa", "mla");
};
template <>
struct EnumNames<RopePairs> {
  static constexpr auto kNames = names_up_to(RopePairs::adjacent, "halves", "adjacent");
};
template <>
struct EnumNames<RopeScaling> {
  static constexpr auto kNames = names_up_to(RopeScaling::yarn, "none", "yarn");
};
template <>
struct EnumNames<Granularity> {
  static constexpr auto kNames = names_up_to(Granularity::whole, "per_head", "whole");
};
template <>
struct EnumNames<DeepnormFfn> {
  static constexpr auto kNames = names_up_to(DeepnormFfn::up_down, "all", "up_down");
};
template <>
struct EnumNames<SpanScaling> {
  static constexpr auto kNames = names_up_to(SpanScaling::none, "init", "branch", "skip", "none");
};
template <>
struct EnumNames<InitScheme> {
  static constexpr auto kNames =
      names_up_to(InitScheme::xavier, "normal", "megatron", "depth_scaled", "mitchell", "xavier");
};
template <>
struct EnumNames<ScheduleKind> {
  static constexpr auto kNames = names_up_to(ScheduleKind::wsd, "cosine", "linear", "inverse_sqrt", "constant", "wsd");
};
template <>
struct EnumNames<ScheduleUnits> {
  static constexpr auto kNames = names_up_to(ScheduleUnits::tokens, "steps", "tokens");
};
template <>
struct EnumNames<TokenDtype> {
  static constexpr auto kNames = names_up_to(TokenDtype::uint32, "auto", "uint16", "uint32");
};
template <>
struct EnumNames<Kernels> {
  static constexpr auto kNames = names_up_to(Kernels::fused, "auto", "reference", "fused");
};
template <>
struct EnumNames<Strategy> {
  static constexpr auto kNames =
      names_up_to(Strategy::hybrid, "auto", "single", "ddp", "full_shard", "shard_grad_op", "hybrid");
};
template <>
struct EnumNames<Recompute> {
  static constexpr auto kNames = names_up_to(Recompute::selective, "none", "block", "every_n", "selective");
};
template <>
struct EnumNames<ReduceDtype> {
  static constexpr auto kNames = names_up_to(ReduceDtype::bf16, "fp32", "bf16");
};
template <>
struct EnumNames<ReducePolicy> {
  static constexpr auto kNames = names_up_to(ReducePolicy::once, "auto", "every_micro_batch", "once");
};

// enum_name(NormKind::rms) -> "rms"
template <class E>
constexpr std::string_view enum_name(E value) {
  return EnumNames<E>::kNames.at(static_cast<std::size_t>(value));
}

template <class E>
constexpr std::optional<E> parse_enum(std::string_view name) {
  const auto& names = EnumNames<E>::kNames;
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<E>(found - names.begin());
}

// The names as a list, for messages and suggestions.
template <class E>
std::vector<std::string> enum_names() {
  return {EnumNames<E>::kNames.begin(), EnumNames<E>::kNames.end()};
}

}  // namespace norma
