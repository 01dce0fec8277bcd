#include <map>

#include "norma/base/error.h"
#include "norma/config/names.h"
#include "norma/interop/olmo_folder.h"
#include "norma/model/parameters.h"

#include "parameter_name.h"

namespace norma {
namespace {

[[noreturn]] void refuse(const std::string& text) {
  throw ConfigError("[olmo] OLMo has no such model: " + text);
}

void check_model(const ModelConfig& m) {
  if (m.is_latent()) refuse("model.attention.kind is mla");
  if (m.head_width() * m.num_heads != m.d_model) {
    refuse(cat("model.head_dim ", m.head_width(), " is not d_model / num_heads"));
  }
  if (m.attention.rope_pairs != RopePairs::halves) refuse("model.attention.rope_pairs is not halves");
  if (m.rope.scaling != RopeScaling::none) refuse("model.rope.scaling is not none");
  const std::size_t sparse = m.moe_layers().size();
  if (sparse == 0) return;
  if (sparse != static_cast<std::size_t>(m.num_layers)) refuse("some layers are dense, others have experts");
  const MoeConfig& moe = m.moe;
  if (moe.shared_experts > 0) refuse("model.moe.shared_experts is not 0");
  if (moe.selection_bias) refuse("model.moe.selection_bias is set");
  if (moe.scoring != RouterScoring::softmax) refuse("model.moe.scoring is not softmax");
  if (moe.normalize_weights || moe.routed_scale != 1.0) refuse("the experts' weights are normalized or scaled");
  if (moe.groups > 1) refuse("model.moe.groups is not 1");
}

bool norms_outputs(const NormPlan& plan) {
  return !plan.layers.empty() && plan.layers[0].attention.out.present();
}

void check_wiring(const ResidualWiring& wiring, bool after, const std::string& where) {
  if (wiring.sum.present()) refuse(cat(where, " has a norm on its sum"));
  if (wiring.out.present() && wiring.in.present()) refuse(cat(where, " has norms on its input and its output"));
  if (wiring.out.present() != after) {
    refuse(
        cat(where, after ? " has no norm on its output, as others have" : " has a norm on its output, unlike others"));
  }
  if (wiring.skip == SkipSource::block) refuse(cat(where, " has the block's input as its skip"));
  if (wiring.in_gain != 1.0 || wiring.alpha != 1.0 || wiring.beta != 1.0) refuse(cat(where, " has factors"));
}

bool is_plain(const ResidualWiring& wiring) {
  return (wiring.in.present() || wiring.out.present()) && wiring.skip == SkipSource::stream;
}

// OLMo 2's code norms q and k whole, or neither of them. HybridNorm's code norms any of q, k, v and context per head,
// but only where it norms inputs.
void check_inner(const LayerPolicy& layer, bool after, const std::string& where) {
  const InnerNorms& inner = layer.inner;
  const auto whole = [](const HeadSite& site) { return site.present() && site.granularity == Granularity::whole; };
  const bool any_whole = whole(inner.q) || whole(inner.k) || whole(inner.v) || whole(inner.context);
  const bool any = inner.q.present() || inner.k.present() || inner.v.present() || inner.context.present();
  if (!any_whole) {
    if (any && after) refuse(cat(where, " norms heads one by one and has a norm on its output"));
    return;
  }
  if (!whole(inner.q) || !whole(inner.k))
    refuse(cat(where, " must norm both q and k whole if it norms one of them whole"));
  if (inner.v.present() || inner.context.present()) refuse(cat(where, " norms more than q and k, and those whole"));
  if (!is_plain(layer.attention) || !is_plain(layer.mlp)) {
    refuse(cat(where, " norms q and k whole, in a block that is neither Pre-Norm nor OLMo 2's"));
  }
}

const std::map<std::string, std::string>& whole_names() {
  static const std::map<std::string, std::string> kNames = {
      {"embedding", "wte.weight"},
      {"embedding.norm", "emb_norm.weight"},
      {"head.norm", "ln_f.weight"},
      {"head", "ff_out.weight"},
      {"attention.qkv", "att_proj.weight"},
      {"attention.out", "attn_out.weight"},
      {"attention.norm_q", "q_norm.weight"},
      {"attention.norm_k", "k_norm.weight"},
      {"attention.norm_v", "v_norm.weight"},
      {"attention.norm_context", "c_norm.weight"},
      {"attention.norm_in", "attn_norm.weight"},
      {"attention.norm_out", "attn_norm.weight"},
      {"mlp.norm_in", "ff_norm.weight"},
      {"mlp.norm_out", "ff_norm.weight"},
      {"mlp.up_gate", "ff_proj.weight"},
      {"mlp.down", "ff_out.weight"},
      {"mlp.router", "ffn.router.layer.weight"},
  };
  return kNames;
}

void check_site(const NormSite& site, const NormSite& wanted, const std::string& where) {
  if (site.present() && (site.kind != wanted.kind || site.eps != wanted.eps)) {
    refuse(cat(where, " has another kind of norm or another eps than the final norm"));
  }
}

// OLMo has norms on inputs, layer by layer, where the skip may start after the norm; or norms on all outputs. All norms
// have one kind and one eps.
void check_plan(const NormPlan& plan) {
  const bool after = norms_outputs(plan);
  if (!plan.final.present()) refuse("there is no final norm, which OLMo always has");
  check_site(plan.embedding, plan.final, "the embedding");
  for (std::size_t l = 0; l < plan.layers.size(); ++l) {
    const LayerPolicy& layer = plan.layers[l];
    const std::string attention = cat("layer ", l, "'s attention"), mlp = cat("layer ", l, "'s MLP");
    check_wiring(layer.attention, after, attention);
    check_wiring(layer.mlp, after, mlp);
    check_inner(layer, after, attention);
    if (!(layer.inner == plan.layers[0].inner)) refuse(cat(attention, " has other inner norms than layer 0's"));
    const auto check = [&](const LayerSite& where, const NormSite& site) {
      const std::string& owner = where.group == SiteGroup::mlp ? mlp : attention;
      check_site(site, plan.final, owner);
      if (site.present() && !whole_names().contains(where.parameter()))
        refuse(cat(owner, " has a norm at ", where.name));
    };
    visit_sites(check, layer);
  }
}

// up_gate [E, 2F, D] and down [E, D, F] of a layer; each tensor of OLMo's is [E F, D].
void add_experts(const ParameterSpec& p, const std::string& prefix, std::vector<ForeignRange>& all) {
  const bool down = p.role == ParameterRole::experts_down;
  const std::int64_t experts = p.shape[0], d_model = down ? p.shape[1] : p.shape[2];
  const std::int64_t width = down ? p.shape[2] : p.shape[1] / 2, count = width * d_model;
  const auto add = [&](const char* tensor, std::int64_t expert, std::int64_t begin, std::int64_t transposed_rows) {
    all.push_back({cat(prefix, "ffn.experts.mlp.", tensor),
                   {experts * width, d_model},
                   p.name,
                   begin,
                   count,
                   expert * count,
                   transposed_rows});
  };
  for (std::int64_t e = 0; e < experts; ++e) {
    if (down) {
      add("w2", e, e * count, d_model);
    } else {
      add("v1", e, 2 * e * count, 0);
      add("w1", e, (2 * e + 1) * count, 0);
    }
  }
}

void add_ranges(const ParameterSpec& p, std::vector<ForeignRange>& all) {
  const std::string prefix = p.layer < 0 ? "transformer." : cat("transformer.blocks.", p.layer, ".");
  if (p.shape.size() == 3) return add_experts(p, prefix, all);
  const auto found = whole_names().find(leaf_of(p));
  NORMA_CHECK(found != whole_names().end(), "[olmo] no name for ", p.name);
  all.push_back({prefix + found->second, p.shape, p.name, 0, p.numel(), 0});
}

constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

std::string base64(std::string_view bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const auto byte = [&](std::size_t j) {
      return i + j < bytes.size() ? static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i + j])) : 0U;
    };
    const std::uint32_t bits = byte(0) << 16 | byte(1) << 8 | byte(2);
    for (const int shift : {18, 12, 6, 0}) text += kDigits[bits >> shift & 63];
  }
  const std::size_t padding = (3 - bytes.size() % 3) % 3;
  text.replace(text.size() - padding, padding, padding, '=');
  return text;
}

// nullopt when a character is not one of base64's. The bytes are compared as a whole later.
std::optional<std::string> from_base64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  std::uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    const std::size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos) return std::nullopt;
    bits = (bits << 6 | static_cast<std::uint32_t>(digit)) & 0xffff;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes += static_cast<char>(bits >> held & 0xff);
  }
  return bytes;
}

constexpr std::string_view kProtocol = "\x80\x04\x95";
constexpr std::string_view kAfterName("\x94\x85\x94\x89\x86\x94.", 7);  // memoized, in a tuple, with False, the end
constexpr std::size_t kNameOffset = 3 + 8 + 2;                          // protocol, frame length, type and length

}  // namespace

void check_olmo_model(const ModelConfig& model, const NormPlan& plan) {
  check_model(model);
  check_plan(plan);
}

std::vector<ForeignRange> olmo_ranges(const ModelConfig& model, const NormPlan& plan) {
  check_olmo_model(model, plan);
  std::vector<ForeignRange> all;
  for (const UnitSpec& unit : model_parameters(model, plan)) {
    for (const ParameterSpec& p : unit.parameters) add_ranges(p, all);
  }
  return all;
}

std::vector<ForeignRange> olmo_ranges_of(const ParameterSpec& parameter) {
  std::vector<ForeignRange> all;
  add_ranges(parameter, all);
  return all;
}

std::string olmo_key(std::string_view name) {
  NORMA_CHECK(name.size() < 256, "[olmo] a name of ", name.size(), " bytes");
  std::string pickle(kProtocol);
  const std::uint64_t frame = 2 + name.size() + kAfterName.size();
  for (int shift = 0; shift < 64; shift += 8) pickle += static_cast<char>(frame >> shift & 0xff);
  pickle += '\x8c';
  pickle += static_cast<char>(name.size());
  pickle += name;
  pickle += kAfterName;
  return base64(pickle);
}

std::optional<std::string> olmo_name(std::string_view key) {
  const std::optional<std::string> bytes = from_base64(key);
  if (!bytes || bytes->size() < kNameOffset + kAfterName.size()) return std::nullopt;
  const std::size_t length = static_cast<unsigned char>((*bytes)[kNameOffset - 1]);
  if (bytes->size() != kNameOffset + length + kAfterName.size()) return std::nullopt;
  std::string name = bytes->substr(kNameOffset, length);
  if (olmo_key(name) != key) return std::nullopt;
  return name;
}

}  // namespace norma
