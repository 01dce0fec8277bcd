// Checks the shape of attention and its rotary embedding.
#include <cmath>

#include "norma/config/names.h"

#include "checker.h"

namespace norma {
namespace {

constexpr std::int64_t kWidest = 65'536;
constexpr std::int64_t kWidestProjection = std::int64_t{1} << 24;

std::string divisors(std::int64_t number) {
  std::vector<std::string> all;
  for (std::int64_t i = 1; i <= number && all.size() < 16; ++i) {
    if (number % i == 0) all.push_back(std::to_string(i));
  }
  return join(all, ", ");
}

void check_projection(std::int64_t width, const char* key, const char* what, Checker& check) {
  check.require(width <= kWidestProjection, key,
                cat("the ", what, " projection must not be wider than ", with_commas(kWidestProjection), "; got ",
                    with_commas(width)));
}

void check_grouped(const ModelConfig& model, Checker& check) {
  const AttentionConfig& attention = model.attention;
  const auto refuse = [&](const char* name, bool given) {
    check.require(!given, cat("model.attention.", name),
                  "belongs to latent attention; set model.attention.kind: mla, or leave it out");
  };
  refuse("q_rank", attention.q_rank.has_value());
  refuse("kv_rank", attention.kv_rank.has_value());
  refuse("nope_dim", attention.nope_dim.has_value());
  refuse("rope_dim", attention.rope_dim.has_value());
  refuse("value_dim", attention.value_dim.has_value());
  if (check.integer("model.num_kv_heads", model.num_kv_heads, 1, 65'536)) {
    check.require(model.num_heads % model.kv_heads() == 0, "model.num_kv_heads",
                  cat("must divide num_heads = ", model.num_heads, "; got ", model.kv_heads(),
                      "; allowed: ", divisors(model.num_heads)));
  }
  if (model.clip_qkv) check.positive("model.clip_qkv", *model.clip_qkv);
  if (!check.integer("model.head_dim", model.head_dim, 2, kWidest)) return;
  const char* key = model.head_dim ? "model.head_dim" : "model.num_heads";
  if (!model.head_dim &&
      !check.require(model.d_model % model.num_heads == 0, key,
                     cat("must divide d_model = ", model.d_model, " unless head_dim is set; got ", model.num_heads))) {
    return;
  }
  check.require(model.head_width() % 2 == 0, key,
                cat("the width of a head must be even, because RoPE rotates pairs of channels; got ",
                    model.head_width(), model.head_dim ? "" : " = d_model / num_heads"));
  check_projection(model.qkv_width(), key, "fused q, k, v", check);
}

void check_latent(const ModelConfig& model, Checker& check) {
  const AttentionConfig& attention = model.attention;
  check.require(!model.num_kv_heads || *model.num_kv_heads == model.num_heads, "model.num_kv_heads",
                cat("latent attention makes keys and values for every head: must be absent or num_heads = ",
                    model.num_heads, "; got ", model.kv_heads()));
  check.require(!model.head_dim, "model.head_dim",
                "latent attention has widths of its own, model.attention.nope_dim, rope_dim and value_dim: leave it "
                "out");
  check.require(!model.clip_qkv, "model.clip_qkv",
                "latent attention has no q, k, v projection to clip, and clipped keys could not be made from a cached "
                "latent: leave it out");
  const auto width = [&](const char* name, const std::optional<std::int64_t>& value, std::int64_t least) {
    const std::string key = cat("model.attention.", name);
    return check.require(value.has_value(), key, "must be given for model.attention.kind: mla") &&
           check.integer(key, value, least, kWidest);
  };
  check.integer("model.attention.q_rank", attention.q_rank, 1, kWidest);
  const bool rank = width("kv_rank", attention.kv_rank, 1), nope = width("nope_dim", attention.nope_dim, 1);
  const bool rope = width("rope_dim", attention.rope_dim, 2), value = width("value_dim", attention.value_dim, 1);
  if (rope) {
    check.require(model.rope_dim() % 2 == 0, "model.attention.rope_dim",
                  cat("must be even, because RoPE rotates pairs of channels; got ", model.rope_dim()));
  }
  if (!rank || !nope || !rope || !value) return;
  check_projection(model.q_width(), "model.attention.nope_dim", "query", check);
  check_projection(model.kv_up_width(), "model.attention.value_dim", "key and value", check);
}

void check_rope(const ModelConfig& model, Checker& check) {
  const RopeConfig& rope = model.rope;
  if (!check.positive("model.rope_theta", model.rope_theta)) return;
  if (rope.scaling == RopeScaling::none) {
    const auto refuse = [&](const char* name, bool given) {
      check.require(!given, cat("model.rope.", name), "is for model.rope.scaling: yarn; the scaling is none");
    };
    const RopeConfig defaults;
    refuse("factor", rope.factor.has_value());
    refuse("original_length", rope.original_length.has_value());
    refuse("beta_fast", rope.beta_fast != defaults.beta_fast);
    refuse("beta_slow", rope.beta_slow != defaults.beta_slow);
    refuse("mscale", rope.mscale.has_value());
    refuse("mscale_all_dim", rope.mscale_all_dim.has_value());
    refuse("attention_factor", rope.attention_factor.has_value());
    return;
  }
  check.require(model.rope_theta > 1.0, "model.rope_theta",
                cat("must be above 1 for yarn, which asks for its logarithm; got ", shortest(model.rope_theta)));
  if (check.require(rope.factor.has_value(), "model.rope.factor", "must be given for yarn")) {
    check.number("model.rope.factor", *rope.factor, 1.0, 1e6);
  }
  if (check.require(rope.original_length.has_value(), "model.rope.original_length", "must be given for yarn")) {
    check.integer("model.rope.original_length", rope.original_length, 1, std::int64_t{1} << 24);
  }
  if (check.positive("model.rope.beta_slow", rope.beta_slow)) {
    check.require(
        rope.beta_fast >= rope.beta_slow && rope.beta_fast <= 1e6, "model.rope.beta_fast",
        cat("must be from beta_slow = ", shortest(rope.beta_slow), " to 1e6; got ", shortest(rope.beta_fast)));
  }
  if (rope.mscale) check.number("model.rope.mscale", *rope.mscale, 0.0, 1e3);
  if (rope.mscale_all_dim) check.number("model.rope.mscale_all_dim", *rope.mscale_all_dim, 0.0, 1e3);
  if (rope.attention_factor) check.positive("model.rope.attention_factor", *rope.attention_factor);
}

}  // namespace

void check_attention(const ModelConfig& model, Checker& check) {
  const bool width = check.integer("model.d_model", model.d_model, 1, 1'048'576);
  const bool heads = check.integer("model.num_heads", model.num_heads, 1, 65'536);
  if (width && heads) model.is_latent() ? check_latent(model, check) : check_grouped(model, check);
  check_rope(model, check);
}

AttentionSize attention_size(const ModelConfig& model) {
  const auto number = [](std::int64_t value) { return static_cast<double>(value); };
  const double d = number(model.d_model), q = number(model.q_width()), context = number(model.context_width());
  if (!model.is_latent()) {
    const double qkv = number(model.qkv_width());
    return {d * (q + qkv), qkv + 2.0 * q};
  }
  const double q_rank = number(model.q_rank()), kv_rank = number(model.kv_rank());
  const double latent = number(model.latent_width()), up = number(model.kv_up_width());
  const double query = model.attention.q_rank ? q_rank * (d + q) : d * q;
  return {query + d * latent + kv_rank * up + d * context, 3.0 * q + q_rank + latent + up + 2.0 * context};
}

}  // namespace norma
