// Every setting of a run, as plain structs: each field has a default and a description, and is listed once.
//
// `visit(v)` of each struct calls v(name, field, text) for every field, in order. Reading, printing, listing and
// comparing all go through it (yaml.h); nothing else knows the names. The texts are what `norma train --keys` prints.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "norma/base/error.h"
#include "norma/config/number.h"

namespace norma {

// Enumerators are spelled as in YAML (`automatic` is "auto").
enum class Device { automatic, cpu, cuda };
enum class Precision { fp64, fp32, bf16 };
enum class NormKind { none, rms, layer };
enum class SkipSource { stream, normed, block };
enum class MlpKind { dense, moe };
enum class RouterScoring { softmax, sigmoid };
enum class GroupScore { max, top2 };
enum class RouterPrecision { automatic, fp32 };
enum class AttentionKind { gqa, mla };
enum class RopePairs { halves, adjacent };
enum class RopeScaling { none, yarn };
enum class Granularity { per_head, whole };
enum class DeepnormFfn { all, up_down };
enum class SpanScaling { init, branch, skip, none };
enum class InitScheme { normal, megatron, depth_scaled, mitchell, xavier };
enum class ScheduleKind { cosine, linear, inverse_sqrt, constant, wsd };
enum class ScheduleUnits { steps, tokens };
enum class Kernels { automatic, reference, fused };
enum class TokenDtype { automatic, uint16, uint32 };
enum class Strategy { automatic, single, ddp, full_shard, shard_grad_op, hybrid };
enum class Recompute { none, block, every_n, selective };
enum class ReduceDtype { fp32, bf16 };
enum class ReducePolicy { automatic, every_micro_batch, once };

struct RunSettings {
  std::string name = "norma";
  std::string folder;
  std::int64_t seed = 6198;
  Device device = Device::automatic;
  std::int64_t threads = 0;
  bool deterministic = false;
  Kernels kernels = Kernels::automatic;

  template <class V>
  void visit(V&& v) {
    v("name", name, "Name of the run. It may hold letters, digits, '.', '_' and '-'.");
    v("folder", folder, "Folder that the run writes its config, logs, metrics and checkpoints to. Empty: runs/<name>.");
    v("seed", seed, "Seed of the initial weights, and of the data order unless data.seed is set.");
    v("device", device, "Where the model runs. auto takes CUDA when there is a GPU, and else the CPU.");
    v("threads", threads, "Number of CPU threads. 0 takes every core that this process may use.");
    v("deterministic", deterministic,
      "Use only deterministic algorithms, so that a run on CUDA repeats bit for bit; this is slower. On the CPU a run "
      "with the same number of threads repeats exactly with either setting.");
    v("kernels", kernels,
      "Which implementation of each operation runs. auto: the fused kernel where it supports the model, else the "
      "reference. reference: never a fused kernel. fused: it is an error when a fused kernel does not support the "
      "model.");
  }
};

// Mixture of experts: each token is sent to top_k of num_experts SwiGLU MLPs, and no token is dropped. OLMoE
// (arXiv 2409.02060); groups, sigmoid scores, selection bias and shared experts follow DeepSeek-V2 and V3
// (arXiv 2405.04434, 2412.19437).
struct MoeConfig {
  std::int64_t num_experts = 8;
  std::int64_t top_k = 2;
  std::optional<std::int64_t> expert_dim;
  std::int64_t shared_experts = 0;
  RouterScoring scoring = RouterScoring::softmax;
  bool normalize_weights = false;
  double routed_scale = 1.0;
  std::int64_t groups = 1;
  std::optional<std::int64_t> top_groups;
  GroupScore group_score = GroupScore::max;
  bool selection_bias = false;
  double balance_loss = 0.01;
  double z_loss = 0.001;
  RouterPrecision router_precision = RouterPrecision::automatic;

  template <class V>
  void visit(V&& v) {
    v("num_experts", num_experts, "Number of experts in a layer.");
    v("top_k", top_k, "Number of experts that each token is sent to.");
    v("expert_dim", expert_dim, "Inner width of one expert. Default: model.mlp_dim.");
    v("shared_experts", shared_experts,
      "Number of experts that every token is sent to as well. Together they are one MLP of width shared_experts * "
      "expert_dim.");
    v("scoring", scoring,
      "How the router scores experts: softmax over the logits of all experts, or sigmoid of each expert's logit. "
      "Experts are chosen by these scores.");
    v("normalize_weights", normalize_weights,
      "Divide the weights of a token's experts by their sum. OLMoE does not do this.");
    v("routed_scale", routed_scale, "Factor on the weights of a token's experts, applied after normalize_weights.");
    v("groups", groups,
      "Number of equal groups that the experts are divided into. A token chooses among the experts of its top_groups "
      "best groups. With 1 it chooses among all experts.");
    v("top_groups", top_groups, "Number of groups that a token may choose from. Default: all groups.");
    v("group_score", group_score,
      "Score of a group: max is the score of its best expert (DeepSeek-V2), top2 the sum of its two best scores "
      "(DeepSeek-V3).");
    v("selection_bias", selection_bias,
      "Add a number per expert to its score when experts are chosen, but not to its weight (DeepSeek-V3's "
      "e_score_correction_bias). The numbers are loaded with the weights and never trained; a new model has zeros.");
    v("balance_loss", balance_loss,
      "Weight of the load-balancing loss: for T tokens, E experts and k = top_k it is E / (T k) * sum over experts of "
      "(its tokens * its mean score), averaged over layers and micro-batches. It is 1 when experts are used equally. "
      "0: off.");
    v("z_loss", z_loss,
      "Weight of the router's z-loss, mean (log sum exp logits)^2 / top_k. The division by top_k follows OLMoE. 0: "
      "off.");
    v("router_precision", router_precision,
      "auto: the router's matrix product is computed in the compute type and its softmax in fp32, as in OLMoE. fp32: "
      "both are computed in fp32, from weights in the compute type.");
  }
};

// A change to the structure of one layer.
struct ModelLayerEdit {
  std::optional<MlpKind> mlp;

  template <class V>
  void visit(V&& v) {
    v("mlp", mlp, "Kind of this layer's MLP. Default: model.mlp.");
  }
};

// Grouped-query attention, or multi-head latent attention (DeepSeek-V2, arXiv 2405.04434). In latent attention the keys
// and values of all heads are made from one small latent vector per token, and the part of the key that RoPE rotates is
// shared by all heads.
struct AttentionConfig {
  AttentionKind kind = AttentionKind::gqa;
  std::optional<std::int64_t> q_rank;
  std::optional<std::int64_t> kv_rank;
  std::optional<std::int64_t> nope_dim;
  std::optional<std::int64_t> rope_dim;
  std::optional<std::int64_t> value_dim;
  RopePairs rope_pairs = RopePairs::halves;

  template <class V>
  void visit(V&& v) {
    v("kind", kind,
      "gqa: grouped-query attention. mla: multi-head latent attention (DeepSeek-V2), which needs kv_rank, nope_dim, "
      "rope_dim and value_dim.");
    v("q_rank", q_rank,
      "mla: width of the latent that queries are made from. Default: no latent, queries are one projection.");
    v("kv_rank", kv_rank, "mla: width of the latent that the keys and values of all heads are made from.");
    v("nope_dim", nope_dim, "mla: width of the part of each head's query and key that RoPE leaves alone.");
    v("rope_dim", rope_dim,
      "mla: width of the part of the query and key that RoPE rotates. It must be even. All heads share this part of "
      "the key.");
    v("value_dim", value_dim, "mla: width of each head's value.");
    v("rope_pairs", rope_pairs,
      "Which channels RoPE rotates together: halves pairs channels i and i + n/2, adjacent pairs channels 2i and "
      "2i + 1.");
  }
};

// Scaling of RoPE to contexts longer than those of the first training: YaRN, arXiv 2309.00071, with DeepSeek's
// factors.
struct RopeConfig {
  RopeScaling scaling = RopeScaling::none;
  std::optional<double> factor;
  std::optional<std::int64_t> original_length;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  std::optional<double> mscale;
  std::optional<double> mscale_all_dim;
  std::optional<double> attention_factor;

  template <class V>
  void visit(V&& v) {
    v("scaling", scaling,
      "yarn stretches the context: channel pairs that rotate slowly rotate `factor` times more slowly still, at every "
      "length.");
    v("factor", factor, "yarn: how many times longer the context becomes; at least 1.");
    v("original_length", original_length, "yarn: the longest context before stretching, in tokens.");
    v("beta_fast", beta_fast,
      "yarn: pairs that make more turns than this within original_length keep their frequency.");
    v("beta_slow", beta_slow,
      "yarn: pairs that make fewer turns than this within original_length are slowed by the whole factor. Between "
      "the two the factor is blended in.");
    v("mscale", mscale,
      "yarn: cosines and sines are multiplied by m(mscale) / m(mscale_all_dim), where m(x) = 0.1 x ln(factor) + 1; if "
      "one of the two is not set, by m(1).");
    v("mscale_all_dim", mscale_all_dim,
      "yarn: if this is set, the softmax scale is multiplied by m(mscale_all_dim)^2.");
    v("attention_factor", attention_factor,
      "yarn: the factor on cosines and sines, in place of the one that mscale and mscale_all_dim give.");
  }
};

struct ModelConfig {
  std::int64_t d_model = 256;
  std::int64_t num_layers = 6;
  std::int64_t num_heads = 8;
  std::optional<std::int64_t> num_kv_heads;
  std::optional<std::int64_t> head_dim;
  AttentionConfig attention;
  std::int64_t mlp_dim = 704;
  MlpKind mlp = MlpKind::dense;
  MoeConfig moe;
  std::map<std::string, ModelLayerEdit> layers;
  std::int64_t vocab_size = 8192;
  std::optional<std::int64_t> embedding_rows;
  bool tie_embeddings = true;
  std::int64_t sequence_length = 512;
  double rope_theta = 500000.0;
  RopeConfig rope;
  std::optional<double> clip_qkv;
  std::optional<std::int64_t> document_separator;

  // Values with defaults filled in: the rest of Norma reads these, never the optionals.
  std::int64_t kv_heads() const { return num_kv_heads.value_or(num_heads); }
  std::int64_t rows() const { return embedding_rows.value_or(vocab_size); }
  bool is_latent() const { return attention.kind == AttentionKind::mla; }
  std::int64_t head_width() const {  // of a query and of a key
    return is_latent() ? nope_dim() + rope_dim() : head_dim.value_or(d_model / num_heads);
  }
  std::int64_t value_width() const { return is_latent() ? attention.value_dim.value_or(0) : head_width(); }
  std::int64_t rotary_width() const { return is_latent() ? rope_dim() : head_width(); }  // channels RoPE rotates
  std::int64_t q_width() const { return num_heads * head_width(); }
  std::int64_t context_width() const { return num_heads * value_width(); }
  std::int64_t kv_width() const { return kv_heads() * head_width(); }    // gqa only
  std::int64_t qkv_width() const { return q_width() + 2 * kv_width(); }  // gqa only
  MlpKind mlp_kind(std::int64_t layer) const;
  std::vector<std::int64_t> moe_layers() const;  // layers with experts, in order
  std::int64_t expert_width() const { return moe.expert_dim.value_or(mlp_dim); }
  std::int64_t shared_width() const { return moe.shared_experts * expert_width(); }
  std::int64_t moe_top_groups() const { return moe.top_groups.value_or(moe.groups); }
  // mla only; 0 where the model has no such width.
  std::int64_t q_rank() const { return attention.q_rank.value_or(0); }
  std::int64_t kv_rank() const { return attention.kv_rank.value_or(0); }
  std::int64_t rope_dim() const { return attention.rope_dim.value_or(0); }
  std::int64_t nope_dim() const { return attention.nope_dim.value_or(0); }
  std::int64_t latent_width() const { return kv_rank() + rope_dim(); }  // per token: the latent, then the shared key
  std::int64_t kv_up_width() const { return num_heads * (nope_dim() + value_width()); }

  template <class V>
  void visit(V&& v) {
    v("d_model", d_model, "Width of the residual stream.");
    v("num_layers", num_layers, "Number of transformer blocks.");
    v("num_heads", num_heads, "Number of query heads.");
    v("num_kv_heads", num_kv_heads,
      "Number of key and value heads (grouped-query attention). It must divide num_heads. Default: num_heads.");
    v("head_dim", head_dim,
      "Width of one head; it must be even. Default: d_model / num_heads, but any other width is allowed.");
    v("attention", attention, "Kind and shape of attention.");
    v("mlp_dim", mlp_dim,
      "Inner width of the SwiGLU MLP, which is the width of each half of the fused up|gate matrix. OLMo's "
      "mlp_hidden_size counts both halves and is twice as large.");
    v("mlp", mlp, "Kind of every layer's MLP: dense, or moe (mixture of experts).");
    v("moe", moe, "The experts of layers whose MLP is moe.");
    v("layers", layers,
      "Layers that differ, under the same keys as norm.layers: {\"0\": {mlp: dense}, \"1-3\": {mlp: moe}}.");
    v("vocab_size", vocab_size, "Number of token ids of the tokenizer.");
    v("embedding_rows", embedding_rows,
      "Number of rows of the embedding and of the head; at least vocab_size. The additional rows are trained like all "
      "others and take part in every softmax. Default: vocab_size.");
    v("tie_embeddings", tie_embeddings, "Use the embedding matrix as the head too.");
    v("sequence_length", sequence_length,
      "Number of tokens of a training instance, which is also the longest context that the model sees.");
    v("rope_theta", rope_theta, "Base of the rotary position embedding's frequencies.");
    v("rope", rope, "Scaling of the rotary position embedding.");
    v("clip_qkv", clip_qkv,
      "Clamp q, k and v to [-clip_qkv, clip_qkv] directly after their projection. Default: no clamping.");
    v("document_separator", document_separator,
      "Token id that ends a document. If it is set, attention stays inside documents. Default: not set, as in OLMo's "
      "runs.");
  }
};

// ---- Norm sites ----
//
// The sites where a layer may hold norms, and the settings beside them, are listed here and nowhere else, in the order
// of the model. A plan has a NormSite at each site (norm/plan.h), an edit a SiteEdit, a model's module a norm. Visitors
// walk any number of these side by side: visit_inner_sites(f, plan, edit) calls f(info, plan.q, edit.q) and so on, so
// that a struct without one of the members does not compile.

// The tensor that a site norms. The width of the norm's gain follows from it (site_shape in norm/plan.h).
enum class SiteInput { stream, q_latent, kv_latent, rope_key, q, k, v, context };

struct SiteInfo {
  const char* name;  // the key, and the end of the parameter's name: "q" stands for attention.norm_q
  SiteInput input;
  const char* text;  // for the list of keys
};

// The sites of a sub-layer, around its branch F, which is attention or an MLP.
template <class Site>
struct WiringSites {
  Site in{}, out{}, sum{};
  bool operator==(const WiringSites&) const = default;
};

template <class F, class... W>
void visit_wiring_sites(F&& f, W&... of) {
  f(SiteInfo{"in", SiteInput::stream, "Norm on the input of the branch."}, of.in...);
  f(SiteInfo{"out", SiteInput::stream, "Norm on the output of the branch."}, of.out...);
  f(SiteInfo{"sum", SiteInput::stream, "Norm on the sum of skip and branch."}, of.sum...);
}

// The sites inside attention. HeadSite is for what has heads, q, k, v and context, and Site for what has none.
template <class Site, class HeadSite = Site>
struct InnerSites {
  Site q_latent{}, kv_latent{}, rope_key{};
  HeadSite q{}, k{}, v{}, context{};
  bool operator==(const InnerSites&) const = default;
};

template <class F, class... I>
void visit_inner_sites(F&& f, I&... of) {
  f(SiteInfo{"q_latent", SiteInput::q_latent,
             "mla: norm on the latent of the queries. Default: rms with eps 1e-6 if there is a q_rank."},
    of.q_latent...);
  f(SiteInfo{"kv_latent", SiteInput::kv_latent,
             "mla: norm on the latent of keys and values. Default: rms with eps 1e-6."},
    of.kv_latent...);
  f(SiteInfo{"rope_key", SiteInput::rope_key, "mla: norm on the key that all heads share, before RoPE."},
    of.rope_key...);
  f(SiteInfo{"q", SiteInput::q, "Norm on the queries, before RoPE."}, of.q...);
  f(SiteInfo{"k", SiteInput::k,
             "Norm on the keys, before RoPE. In mla it norms the part that RoPE leaves alone, or the whole key of each "
             "head where rope_key is none."},
    of.k...);
  f(SiteInfo{"v", SiteInput::v, "Norm on the values."}, of.v...);
  f(SiteInfo{"context", SiteInput::context, "Norm on the output of attention, before the output projection."},
    of.context...);
}

// The sites of a plan outside of its layers.
template <class F, class... P>
void visit_outer_sites(F&& f, P&... of) {
  f(SiteInfo{"embedding", SiteInput::stream, "Norm on the output of the embedding."}, of.embedding...);
  f(SiteInfo{"final", SiteInput::stream, "Norm before the head."}, of.final...);
}

struct SettingInfo {
  const char* name;
  const char* text;
};

// What a sub-layer has besides its sites.
template <class F, class... W>
void visit_wiring_settings(F&& f, W&... of) {
  f(SettingInfo{"skip",
                "Where the skip starts: stream (x, the input of the sub-layer), normed (u, with in_gain applied) or "
                "block (the input of the whole block, for the MLP only)."},
    of.skip...);
  f(SettingInfo{"in_gain", "Factor on the normed input."}, of.in_gain...);
  f(SettingInfo{"alpha", "Factor on the skip."}, of.alpha...);
  f(SettingInfo{"beta", "Factor on the branch."}, of.beta...);
  f(SettingInfo{"branch_init_scale",
                "Factor on the initial standard deviation of the matrices that values pass through: the v rows of qkv "
                "and the output matrix of attention; up, gate and down of the MLP (norm.deepnorm_ffn: up_down leaves "
                "gate out)."},
    of.branch_init_scale...);
}

// A change to one norm site. A bare word is its kind: `in: rms` is `in: {kind: rms}`.
struct SiteEdit {
  static constexpr const char* kShorthand = "kind";
  std::optional<NormKind> kind;
  std::optional<double> eps;
  std::optional<double> gain_init;

  template <class V>
  void visit(V&& v) {
    v("kind", kind, "Norm at this site: none, rms or layer. Norms have a gain and no bias.");
    v("eps", eps, "Number added to the mean square (rms) or variance (layer). 0 is allowed. Default: norm.eps.");
    v("gain_init", gain_init, "Initial value of the gain. Default: 1.");
  }
};

// The same for a site that norms heads.
struct HeadSiteEdit : SiteEdit {
  std::optional<Granularity> granularity;

  template <class V>
  void visit(V&& v) {
    SiteEdit::visit(v);
    v("granularity", granularity,
      "per_head norms each head by itself, with one gain for all heads (HybridNorm). whole norms all heads as one "
      "vector, before they are split (OLMo 2).");
  }
};

// A change to the wiring of one sub-layer: u = in_gain * in(x); y = out(F(u)); x' = sum(alpha * skip + beta * y).
struct WiringEdit : WiringSites<SiteEdit> {
  std::optional<SkipSource> skip;
  std::optional<double> in_gain, alpha, beta, branch_init_scale;

  template <class V>
  void visit(V&& v) {
    const auto field = [&](const auto& info, auto& edit) { v(info.name, edit, info.text); };
    visit_wiring_sites(field, *this);
    visit_wiring_settings(field, *this);
  }
};

struct InnerEdit : InnerSites<SiteEdit, HeadSiteEdit> {
  template <class V>
  void visit(V&& visitor) {
    visit_inner_sites([&](const SiteInfo& info, auto& edit) { visitor(info.name, edit, info.text); }, *this);
  }
};

struct LayerEdit {
  WiringEdit attention, mlp;
  InnerEdit inner;

  template <class V>
  void visit(V&& v) {
    v("attention", attention, "Wiring of the attention sub-layer.");
    v("mlp", mlp, "Wiring of the MLP sub-layer.");
    v("inner", inner, "Norms inside attention.");
  }
};

struct SpanConfig {
  SpanScaling scaling = SpanScaling::init;

  template <class V>
  void visit(V&& v) {
    v("scaling", scaling,
      "How SpanNorm is scaled with its depth of L layers. The formulas are derived here, not taken from the paper. "
      "init: through the initial weights, which needs init.scheme: megatron. branch: beta = 1/sqrt(2L). skip: alpha = "
      "sqrt(2L). none: no scaling.");
  }
};

struct NormConfig {
  std::string preset = "hybrid_star";
  NormKind kind = NormKind::rms;
  double eps = 1e-5;
  std::optional<std::int64_t> post_layers;
  double mix_alpha = 0.25;
  DeepnormFfn deepnorm_ffn = DeepnormFfn::all;
  SpanConfig span;
  SiteEdit embedding;
  SiteEdit final;
  std::map<std::string, LayerEdit> layers;

  template <class V>
  void visit(V&& v) {
    v("preset", preset,
      "The placement: pre, post, post_shifted, qk, qkv, hybrid, hybrid_star, mix, mix_shifted, deep, span, olmo2, "
      "olmoe, sandwich, peri, lns, or an ablation row <attention>[_<ffn>] of the HybridNorm paper, where <attention> "
      "is pre, post, INNER or pre_INNER, INNER is qk, kv, kc, qkv, qkc or qkvc, and <ffn> is pre (default) or post.");
    v("kind", kind, "Kind of every norm that the preset places: rms or layer.");
    v("eps", eps, "eps of every norm that the preset places. 0 is allowed.");
    v("post_layers", post_layers,
      "mix, mix_shifted: number of Post-Norm layers, counted from the first layer. Default: floor(mix_alpha * "
      "num_layers).");
    v("mix_alpha", mix_alpha, "mix, mix_shifted: fraction of the layers, counted from the first, that are Post-Norm.");
    v("deepnorm_ffn", deepnorm_ffn,
      "deep: which MLP matrices have their initial standard deviation multiplied by DeepNorm's beta. all: up, gate and "
      "down. up_down: not gate, which keeps the paper's factor beta^2 on the output of a gated MLP.");
    v("span", span, "Options of the preset span.");
    visit_outer_sites([&](const SiteInfo& info, auto& edit) { v(info.name, edit, info.text); }, *this);
    v("layers", layers,
      "Changes to the preset by layer. Keys are 'all', '1-3' or '3'; layers are counted from 0. A single layer wins "
      "over a range, and a range wins over all. Two ranges must not overlap.");
  }
};

struct InitConfig {
  InitScheme scheme = InitScheme::megatron;
  std::optional<double> std;
  double cutoff = 3.0;
  std::optional<double> embedding_std;
  bool scale_embedding = false;

  template <class V>
  void visit(V&& v) {
    v("scheme", scheme,
      "Standard deviation of the initial weights, for layer l of L. normal: std. megatron: std, output projections "
      "std / sqrt(2L). depth_scaled: std, output projections std / sqrt(2 (l + 1)). mitchell: 1 / sqrt(fan_in), output "
      "projections 1 / sqrt(2 fan_in (l + 1)). xavier: sqrt(2 / (fan_in + fan_out)). Norm gains start at their "
      "gain_init.");
    v("std", std, "Base standard deviation of normal, megatron and depth_scaled. Default: sqrt(2 / (5 d_model)).");
    v("cutoff", cutoff, "Truncate the normal distribution at this many standard deviations. 0 does not truncate.");
    v("embedding_std", embedding_std, "Standard deviation of the embedding. Default: the scheme's.");
    v("scale_embedding", scale_embedding,
      "Multiply the embedding's standard deviation by sqrt(d_model). embedding_std is used as it is.");
  }
};

struct DataConfig {
  std::vector<std::string> paths;
  TokenDtype dtype = TokenDtype::automatic;
  std::optional<std::int64_t> seed;
  bool shuffle = true;
  std::string tokenizer;
  std::int64_t prefetch = 4;

  template <class V>
  void visit(V&& v) {
    v("paths", paths,
      "Token files in order, as names or globs. They are headerless little-endian .npy files as OLMo writes them. A "
      "file that is listed twice counts twice. Relative names are relative to the working folder.");
    v("dtype", dtype, "Type of the token ids in the files. auto reads it from the .json file beside each token file.");
    v("seed", seed, "Seed of the data order. Default: run.seed.");
    v("shuffle", shuffle, "Shuffle the instances anew in each epoch, with numpy's PCG64(seed + epoch) as OLMo does.");
    v("tokenizer", tokenizer,
      "The tokenizer.json for text: samples and evaluation. Default: the one that the token files name.");
    v("prefetch", prefetch, "Number of batches that a background thread reads ahead.");
  }
};

struct TrainConfig {
  Duration max_duration{1000, DurationUnit::steps};
  std::int64_t global_batch_size = 8;
  std::optional<std::int64_t> micro_batch_size;
  double max_grad_norm = 1.0;
  double z_loss = 0.0;
  std::int64_t loss_chunk = 1024;
  std::vector<std::string> freeze;
  std::optional<std::int64_t> stop_at;

  template <class V>
  void visit(V&& v) {
    v("max_duration", max_duration,
      "Length of the run: 500 (steps), 1e9T (tokens), 2ep (epochs), 30min or 2h. A time becomes the number of steps "
      "that this machine takes in it, measured when the run first starts. Evaluation and saving come on top.");
    v("global_batch_size", global_batch_size, "Number of instances per optimizer step, over all processes.");
    v("micro_batch_size", micro_batch_size,
      "Number of instances per forward and backward pass of one process. The batch is split in order, and its last "
      "part may be smaller. Default: all at once.");
    v("max_grad_norm", max_grad_norm, "Clip the global gradient norm to this value. 0 does not clip.");
    v("z_loss", z_loss,
      "Weight in the loss of mean(lse^2), where lse is the log-sum-exp of a token's logits. OLMo's softmax auxiliary "
      "loss is 1e-4. It is logged separately from the cross-entropy.");
    v("loss_chunk", loss_chunk,
      "Number of tokens per chunk of the fused head and cross-entropy. It limits how many logits are in memory.");
    v("freeze", freeze,
      "Names of parameters that are not trained, where '*' stands for any text: ['embedding.*', 'blocks.0.*']. "
      "norma plan --parameters lists all names.");
    v("stop_at", stop_at,
      "Stop at this step, before the end, with a checkpoint and exit code 75. The schedule still aims at max_duration, "
      "so a long run can be split into time slices. Default: never.");
  }
};

struct OptimConfig {
  double lr = 3e-4;
  std::vector<double> betas{0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.1;
  bool decay_norms = true;
  bool decay_biases = true;
  bool decay_embeddings = false;

  template <class V>
  void visit(V&& v) {
    v("lr", lr, "Peak learning rate.");
    v("betas", betas, "AdamW's two decay rates, of the first and the second moment.");
    v("eps", eps, "AdamW's epsilon.");
    v("weight_decay", weight_decay, "Decoupled weight decay: p *= 1 - lr * weight_decay before the update.");
    v("decay_norms", decay_norms, "Apply weight decay to the gains of norms.");
    v("decay_biases", decay_biases, "Apply weight decay to biases (dense models here have none).");
    v("decay_embeddings", decay_embeddings, "Apply weight decay to the embedding, and so to a tied head.");
  }
};

struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::cosine;
  ScheduleUnits units = ScheduleUnits::steps;
  std::int64_t warmup = 0;
  std::optional<std::int64_t> t_max;
  double alpha_f = 0.1;
  std::optional<double> warmup_min_lr;
  std::int64_t decay = 0;

  template <class V>
  void visit(V&& v) {
    v("kind", kind,
      "How the learning rate changes after the warm-up. wsd (warmup-stable-decay) stays at lr and decays linearly at "
      "the end.");
    v("units", units,
      "Whether warmup, t_max and decay count steps or tokens. Tokens include those of the step's own batch.");
    v("warmup", warmup, "Length of the linear warm-up.");
    v("t_max", t_max, "Where the decay ends. After it the rate stays at lr * alpha_f. Default: the end of the run.");
    v("alpha_f", alpha_f, "Final rate as a fraction of lr.");
    v("warmup_min_lr", warmup_min_lr, "Rate that the warm-up starts from. Default: lr / 10, as in OLMo.");
    v("decay", decay, "wsd: length of the final decay.");
  }
};

struct TimeoutConfig {
  double start = 600.0;
  double training = 600.0;
  double grace = 5.0;

  template <class V>
  void visit(V&& v) {
    v("start", start, "Seconds within which every process must have joined.");
    v("training", training,
      "Seconds that a collective operation may take. After that the run ends and says which rank is missing. It must "
      "be longer than the slowest save and the slowest evaluation of one rank.");
    v("grace", grace, "Seconds between the failure of one process and the end of the others.");
  }
};

struct ParallelConfig {
  Strategy strategy = Strategy::automatic;
  std::optional<std::int64_t> replicas;
  Recompute recompute = Recompute::none;
  std::int64_t recompute_n = 2;
  ReduceDtype reduce_dtype = ReduceDtype::fp32;
  ReducePolicy reduce = ReducePolicy::automatic;
  std::int64_t check_replicas_every = 0;
  std::vector<std::int64_t> console_ranks{0};
  TimeoutConfig timeouts;

  // Whether the backward pass runs all of block `block` again (recompute: block or every_n).
  bool recomputes_block(std::int64_t block) const {
    return recompute == Recompute::block || (recompute == Recompute::every_n && block % recompute_n == 0);
  }

  template <class V>
  void visit(V&& v) {
    v("strategy", strategy,
      "How processes share the model. single: there is one process. ddp: each process holds the whole model. "
      "full_shard: weights, gradients and optimizer state are sharded, and weights are gathered unit by unit for each "
      "pass. shard_grad_op: as full_shard, but weights are gathered once per step and kept. hybrid: full_shard inside "
      "each replica and ddp between replicas. auto: single for one process, else full_shard.");
    v("replicas", replicas,
      "hybrid: number of copies of the model. It must divide the number of processes. Default: the number of nodes.");
    v("recompute", recompute,
      "Activation checkpointing: what the backward pass computes again instead of keeping it. none: nothing. block: "
      "all of every block. every_n: all of every recompute_n-th block. selective: norms, activation functions and "
      "attention, but no matrix product.");
    v("recompute_n", recompute_n, "every_n: blocks 0, n, 2n, ... are recomputed.");
    v("reduce_dtype", reduce_dtype, "Type in which sharded gradients are sent between processes.");
    v("reduce", reduce,
      "When sharded gradients are summed over processes: every_micro_batch needs less memory, once sends less. auto: "
      "every_micro_batch for full_shard and hybrid, once for shard_grad_op.");
    v("check_replicas_every", check_replicas_every,
      "Compare a hash of the weights between replicas every this many steps, and stop when they differ. 0: never.");
    v("console_ranks", console_ranks,
      "Ranks whose log lines are also printed to the console. Every rank has its own file in logs/.");
    v("timeouts", timeouts, "How long processes wait for each other.");
  }
};

struct CheckpointConfig {
  std::int64_t every = 1000;
  std::string resume = "auto";
  std::vector<std::string> resume_allow;
  bool background = true;

  template <class V>
  void visit(V&& v) {
    v("every", every, "Save a checkpoint every this many steps, and at the end. 0: only at the end.");
    v("resume", resume,
      "auto: continue from the newest complete checkpoint of the run folder, if there is one. none: start anew; the "
      "run folder must hold no checkpoint. Anything else is the checkpoint folder to continue from.");
    v("resume_allow", resume_allow,
      "Keys under model and norm that may differ from those of the checkpoint that a run continues from, such as "
      "[model.rope_theta] or [norm]. Any other difference under these two is an error.");
    v("background", background,
      "Write checkpoints during the next training steps, from a copy of the state in memory. false waits for the "
      "disk.");
  }
};

// What is measured while a run trains. norma eval measures the same in the same way.
struct EvalConfig {
  std::int64_t every = 0;
  std::map<std::string, std::vector<std::string>> sets;
  std::int64_t batch_size = 8;
  std::int64_t max_instances = 0;
  bool by_document = false;
  std::vector<std::string> tasks;
  std::string task_data = ".cache/data/eval";
  std::int64_t task_documents = 0;
  std::int64_t batch_tokens = 16384;
  std::int64_t context_length = 2048;
  bool reuse_context = false;

  template <class V>
  void visit(V&& v) {
    v("every", every, "Evaluate every this many steps, and at the end, if there are sets or tasks. 0: never.");
    v("sets", sets,
      "Validation sets: a label and its token files (names or globs) or its text files, which are tokenized with "
      "data.tokenizer.");
    v("batch_size", batch_size, "Number of instances of a validation set per forward pass.");
    v("max_instances", max_instances, "Largest number of instances taken from each set. 0 takes all.");
    v("by_document", by_document,
      "Also score each set document by document, as nats per token and bits per byte over all its text.");
    v("tasks", tasks, "Downstream tasks, as names or globs: [hellaswag, arc_*]. norma eval --list shows them all.");
    v("task_data", task_data, "Folder that scripts/fetch_eval_data.sh wrote.");
    v("task_documents", task_documents, "Largest number of documents taken from each task. 0 takes all.");
    v("batch_tokens", batch_tokens,
      "Number of tokens per forward pass of a task, padding included. A longer request runs by itself.");
    v("context_length", context_length,
      "A request keeps this many of its last tokens, or model.sequence_length if that is fewer. OLMo uses 2048.");
    v("reuse_context", reuse_context, "Run the context that all continuations of a question share only once.");
  }
};

struct MetricsConfig {
  std::int64_t every = 1;
  std::int64_t console_every = 10;
  std::int64_t parameters_every = 0;
  bool tensorboard = true;
  std::int64_t trace_steps = 0;
  std::int64_t trace_from = 10;

  template <class V>
  void visit(V&& v) {
    v("every", every, "Write metrics.jsonl (and TensorBoard) every this many steps.");
    v("console_every", console_every, "Print the progress line every this many steps when there is no terminal.");
    v("parameters_every", parameters_every,
      "Write norm, minimum, maximum and mean of every parameter and gradient every this many steps. 0: never.");
    v("tensorboard", tensorboard, "Also write TensorBoard event files.");
    v("trace_steps", trace_steps,
      "Number of steps that every rank records into traces/rankN.json, in Chrome's trace format (open it in "
      "chrome://tracing or Perfetto). 0: none.");
    v("trace_from", trace_from, "First step of the trace.");
  }
};

struct RunConfig {
  RunSettings run;
  ModelConfig model;
  NormConfig norm;
  InitConfig init;
  DataConfig data;
  TrainConfig train;
  OptimConfig optim;
  ScheduleConfig schedule;
  Precision precision = Precision::fp32;
  ParallelConfig parallel;
  CheckpointConfig checkpoint;
  EvalConfig eval;
  MetricsConfig metrics;

  template <class V>
  void visit(V&& v) {
    v("run", run, "The run as a whole.");
    v("model", model, "Shape of the transformer.");
    v("norm", norm, "Where the norms are placed.");
    v("init", init, "Initial weights.");
    v("data", data, "Training tokens.");
    v("train", train, "The training step.");
    v("optim", optim, "AdamW.");
    v("schedule", schedule, "Learning rate over time.");
    v("precision", precision,
      "Type of the computation. fp64 is for tests. bf16: parameters are copied to bf16 for computing and the residual "
      "stream is bf16; master weights and gradient accumulation stay fp32.");
    v("parallel", parallel, "How processes share the work.");
    v("checkpoint", checkpoint, "Saving and resuming.");
    v("eval", eval, "Evaluation during training.");
    v("metrics", metrics, "What is recorded about the run.");
  }
};

// Checks ranges and how settings fit together, and reports every problem at once. Norm plans, data files and devices
// are checked by their own rooms.
Problems validate(const RunConfig& config);

}  // namespace norma
