// Every setting of a run as plain structs: a default and a paragraph per field, listed once.
//
// `visit(v)` of each struct calls v(name, field, text) for every field, in order. Reading, printing, listing and
// comparing all go through it (schema.h); nothing else knows the names.
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
    v("name", name, "Name of the run: letters, digits, '.', '_' and '-'.");
    v("folder", folder, "Where the run is written: config, logs, metrics, checkpoints. Empty: runs/<name>.");
    v("seed", seed, "Seed of the initial weights and, unless data.seed is set, of the data order.");
    v("device", device, "Where the model runs; auto takes CUDA when there is a GPU.");
    v("threads", threads, "CPU threads; 0 takes every core this process may use.");
    v("deterministic", deterministic,
      "Use deterministic algorithms only, so that a run on CUDA repeats bit for bit (slower). On the CPU a run with "
      "the same number of threads repeats exactly either way.");
    v("kernels", kernels,
      "auto: fused kernels where they support the model, else the reference compositions. reference: never fused. "
      "fused: "
      "an error where a fused kernel does not support the model.");
  }
};

// Mixture of experts: top_k of num_experts SwiGLU MLPs for each token, none dropped. OLMoE (arXiv 2409.02060); groups,
// sigmoid scores, selection bias and shared experts as in DeepSeek-V2 and V3 (arXiv 2405.04434, 2412.19437).
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
    v("num_experts", num_experts, "Experts of a layer.");
    v("top_k", top_k, "Experts that each token goes to.");
    v("expert_dim", expert_dim, "Inner width of one expert. Default: model.mlp_dim.");
    v("shared_experts", shared_experts,
      "Experts that every token goes to besides, as one MLP of width shared_experts * expert_dim.");
    v("scoring", scoring, "Scores of the router: softmax over all experts, before the choice, or sigmoid of each.");
    v("normalize_weights", normalize_weights, "Divide the weights of a token's experts by their sum (OLMoE does not).");
    v("routed_scale", routed_scale, "Factor on the weights, after normalize_weights.");
    v("groups", groups,
      "Experts lie in so many equal groups, and a token chooses within its top_groups best ones. 1: among all.");
    v("top_groups", top_groups, "Groups a token may choose from. Default: all of them.");
    v("group_score", group_score,
      "What a group is worth: max, its best score (DeepSeek-V2), or top2, the sum of its two best (DeepSeek-V3).");
    v("selection_bias", selection_bias,
      "A number per expert added to its score for choosing only (DeepSeek-V3's e_score_correction_bias). It is loaded, "
      "never trained; a fresh model has zeros.");
    v("balance_loss", balance_loss,
      "Weight of the load-balancing loss, E / (T k) * sum over experts of tokens * mean score, averaged over layers "
      "and micro-batches: 1 at balance. 0: off.");
    v("z_loss", z_loss,
      "Weight of the router's z-loss, mean (log sum exp logits)^2 / top_k: OLMoE's denominator holds the extra top_k. "
      "0: off.");
    v("router_precision", router_precision,
      "auto: the router's product in the compute type, its softmax in fp32, as OLMoE. fp32: both in fp32, from weights "
      "of the compute type.");
  }
};

// A change to the make of one layer.
struct ModelLayerEdit {
  std::optional<MlpKind> mlp;

  template <class V>
  void visit(V&& v) {
    v("mlp", mlp, "Kind of this layer's MLP: dense or moe. Default: model.mlp.");
  }
};

// Attention: grouped-query, or latent (DeepSeek-V2, arXiv 2405.04434), where keys and values of all heads are made from
// one small latent vector per token, and one rotated key is shared by all heads.
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
      "gqa: grouped-query attention. mla: multi-head latent attention, which needs the ranks and widths.");
    v("q_rank", q_rank, "mla: width of the queries' latent. Default: none, queries are one projection.");
    v("kv_rank", kv_rank, "mla: width of the latent that keys and values of all heads are made from.");
    v("nope_dim", nope_dim, "mla: width of the part of a head's query and key that RoPE leaves alone.");
    v("rope_dim", rope_dim, "mla: width of the part that it turns, even; this key is shared by all heads.");
    v("value_dim", value_dim, "mla: width of a head's value.");
    v("rope_pairs", rope_pairs, "Which channels RoPE turns together: halves (i, i + n/2) or adjacent (2i, 2i+1).");
  }
};

// Stretching of RoPE to contexts longer than those of the first training: YaRN, arXiv 2309.00071, with DeepSeek's
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
    v("scaling", scaling, "none, or yarn: slow pairs turn `factor` times slower, at every length.");
    v("factor", factor, "yarn: how many times longer contexts get; at least 1.");
    v("original_length", original_length, "yarn: the longest context before.");
    v("beta_fast", beta_fast, "yarn: pairs that turn more often than this within original_length stay as they are.");
    v("beta_slow", beta_slow, "yarn: pairs that turn less often than this are slowed by all of factor.");
    v("mscale", mscale,
      "yarn: with mscale_all_dim, cosines and sines times m(mscale) / m(mscale_all_dim), m(x) = 0.1 x ln(factor) + 1; "
      "else times m(1).");
    v("mscale_all_dim", mscale_all_dim, "yarn: the softmax scale times m(mscale_all_dim)^2.");
    v("attention_factor", attention_factor, "yarn: factor on cosines and sines in place of those two.");
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

  // Values after defaults: these, never the optionals, are what the rest of Norma reads.
  std::int64_t kv_heads() const { return num_kv_heads.value_or(num_heads); }
  std::int64_t rows() const { return embedding_rows.value_or(vocab_size); }
  bool is_latent() const { return attention.kind == AttentionKind::mla; }
  std::int64_t head_width() const {  // of a query and of a key
    return is_latent() ? nope_dim() + rope_dim() : head_dim.value_or(d_model / num_heads);
  }
  std::int64_t value_width() const { return is_latent() ? attention.value_dim.value_or(0) : head_width(); }
  std::int64_t rotary_width() const { return is_latent() ? rope_dim() : head_width(); }  // what RoPE turns of it
  std::int64_t q_width() const { return num_heads * head_width(); }
  std::int64_t context_width() const { return num_heads * value_width(); }
  std::int64_t kv_width() const { return kv_heads() * head_width(); }  // of gqa, as is the next
  std::int64_t qkv_width() const { return q_width() + 2 * kv_width(); }
  MlpKind mlp_kind(std::int64_t layer) const;
  std::vector<std::int64_t> moe_layers() const;  // those with experts, in order
  std::int64_t expert_width() const { return moe.expert_dim.value_or(mlp_dim); }
  std::int64_t shared_width() const { return moe.shared_experts * expert_width(); }
  std::int64_t moe_top_groups() const { return moe.top_groups.value_or(moe.groups); }
  std::int64_t q_rank() const { return attention.q_rank.value_or(0); }  // of mla, as are those below
  std::int64_t kv_rank() const { return attention.kv_rank.value_or(0); }
  std::int64_t rope_dim() const { return attention.rope_dim.value_or(0); }
  std::int64_t nope_dim() const { return attention.nope_dim.value_or(0); }
  std::int64_t latent_width() const { return kv_rank() + rope_dim(); }  // of a token: latent, then shared key
  std::int64_t kv_up_width() const { return num_heads * (nope_dim() + value_width()); }

  template <class V>
  void visit(V&& v) {
    v("d_model", d_model, "Width of the residual stream.");
    v("num_layers", num_layers, "Number of transformer blocks.");
    v("num_heads", num_heads, "Number of query heads.");
    v("num_kv_heads", num_kv_heads,
      "Number of key and value heads (grouped-query attention); must divide num_heads. Default: num_heads.");
    v("head_dim", head_dim, "Width of one head, even. Default: d_model / num_heads, but it is free to differ.");
    v("attention", attention, "Kind and shape of attention.");
    v("mlp_dim", mlp_dim,
      "Inner width of the SwiGLU MLP: the width of each half of the fused up|gate matrix (OLMo's mlp_hidden_size "
      "counts both halves and is twice this).");
    v("mlp", mlp, "Kind of every layer's MLP: dense, or moe (mixture of experts).");
    v("moe", moe, "The experts of layers whose MLP is moe.");
    v("layers", layers, "Layers that differ, by the keys of norm.layers: {\"0\": {mlp: dense}, \"1-3\": {mlp: moe}}.");
    v("vocab_size", vocab_size, "Number of token ids of the tokenizer.");
    v("embedding_rows", embedding_rows,
      "Rows of the embedding and the head, at least vocab_size; the padding rows are ordinary trained rows and take "
      "part in every softmax. Default: vocab_size.");
    v("tie_embeddings", tie_embeddings, "Use the embedding matrix as the head.");
    v("sequence_length", sequence_length, "Tokens of a training instance, and the longest context the model sees.");
    v("rope_theta", rope_theta, "Base of the rotary position embedding.");
    v("rope", rope, "Scaling of the rotary position embedding.");
    v("clip_qkv", clip_qkv, "Clamp q, k and v to [-clip_qkv, clip_qkv] right after their projection. Default: off.");
    v("document_separator", document_separator,
      "Token id that ends a document: attention then stays inside documents. Default: off, as in OLMo's runs.");
  }
};

// A change to one norm site. A bare word is its kind: `in: rms` is `in: {kind: rms}`.
struct SiteEdit {
  static constexpr const char* kShorthand = "kind";
  std::optional<NormKind> kind;
  std::optional<double> eps;
  std::optional<double> gain_init;

  template <class V>
  void visit(V&& v) {
    v("kind", kind, "Norm at this site: none, rms or layer (both without bias).");
    v("eps", eps, "Added to the mean square (rms) or variance (layer); 0 is legal. Default: norm.eps.");
    v("gain_init", gain_init, "Initial value of the gain. Default: 1.");
  }
};

// The same for a norm inside attention.
struct InnerSiteEdit {
  static constexpr const char* kShorthand = "kind";
  std::optional<NormKind> kind;
  std::optional<double> eps;
  std::optional<double> gain_init;
  std::optional<Granularity> granularity;

  template <class V>
  void visit(V&& v) {
    v("kind", kind, "Norm at this site: none, rms or layer (both without bias).");
    v("eps", eps, "Added to the mean square (rms) or variance (layer); 0 is legal. Default: norm.eps.");
    v("gain_init", gain_init, "Initial value of the gain. Default: 1.");
    v("granularity", granularity,
      "per_head: over head_dim after the split, one gain shared by all heads (HybridNorm). whole: over the full "
      "projection before the split (OLMo 2).");
  }
};

// A change to the wiring of one sub-layer: u = in_gain * in(x); y = out(F(u)); x' = sum(alpha * skip + beta * y).
struct WiringEdit {
  SiteEdit in, out, sum;
  std::optional<SkipSource> skip;
  std::optional<double> in_gain, alpha, beta, branch_init_scale;

  template <class V>
  void visit(V&& v) {
    v("in", in, "Norm on the branch's input.");
    v("out", out, "Norm on the branch's output.");
    v("sum", sum, "Norm on the sum of skip and branch.");
    v("skip", skip,
      "Where the skip starts: stream (the raw input x), normed (u, in_gain included) or block (the input of the whole "
      "block; for the MLP only).");
    v("in_gain", in_gain, "Factor on the normed input.");
    v("alpha", alpha, "Factor on the skip.");
    v("beta", beta, "Factor on the branch.");
    v("branch_init_scale", branch_init_scale,
      "Factor on the initial std of the branch's value path: v rows of qkv and the output matrix of attention; up, "
      "gate and down of the MLP (norm.deepnorm_ffn: up_down leaves gate alone).");
  }
};

struct InnerEdit {
  InnerSiteEdit q, k, v, context;
  SiteEdit q_latent, kv_latent, rope_key;

  template <class V>
  void visit(V&& visitor) {
    visitor("q", q, "Norm on the queries, before RoPE.");
    visitor("k", k,
            "Norm on the keys, before RoPE; of mla on the part without RoPE, or on the whole key where rope_key is "
            "none.");
    visitor("v", v, "Norm on the values.");
    visitor("context", context, "Norm on the attention output, before the output projection.");
    visitor("q_latent", q_latent, "mla: norm on the queries' latent. Default: rms with eps 1e-6 if there is a q_rank.");
    visitor("kv_latent", kv_latent, "mla: norm on the latent of keys and values. Default: rms with eps 1e-6.");
    visitor("rope_key", rope_key, "mla: norm on the shared key, before RoPE.");
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
      "How SpanNorm's depth is tamed (derived here, the paper's formula is not public): init (needs init.scheme: "
      "megatron), branch (beta = 1/sqrt(2L)), skip (alpha = sqrt(2L)) or none.");
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
      "olmoe, sandwich, peri, lns, or an ablation row <attention>[_<ffn>] of the HybridNorm paper: attention is pre, "
      "post, INNER or pre_INNER with INNER in qk, kv, kc, qkv, qkc, qkvc; ffn is pre (default) or post.");
    v("kind", kind, "Kind of every norm the preset places: rms or layer.");
    v("eps", eps, "eps of every norm; 0 is legal.");
    v("post_layers", post_layers,
      "mix, mix_shifted: number of leading Post-Norm layers. Default: floor(mix_alpha * num_layers).");
    v("mix_alpha", mix_alpha, "mix, mix_shifted: fraction of layers that are Post-Norm, from the bottom.");
    v("deepnorm_ffn", deepnorm_ffn,
      "deep: which MLP matrices the initial-std factor beta multiplies: all, or up_down (keeps the paper's beta^2 for "
      "a gated MLP).");
    v("span", span, "Options of the preset span.");
    v("embedding", embedding, "Norm on the embedding's output.");
    v("final", final, "Norm before the head.");
    v("layers", layers,
      "Edits on top of the preset, by layer: keys are 'all', '1-3' or '3' (layers count from 0). A single layer wins "
      "over "
      "a range, a range over all; two ranges may not overlap.");
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
      "normal: std everywhere. megatron: output projections std/sqrt(2L). depth_scaled: output projections "
      "std/sqrt(2(l+1)). mitchell: 1/sqrt(fan_in), output projections 1/sqrt(2 fan_in (l+1)). xavier: "
      "sqrt(2/(fan_in+fan_out)). Norm gains start at their gain_init.");
    v("std", std, "Base standard deviation of normal, megatron and depth_scaled. Default: sqrt(2 / (5 d_model)).");
    v("cutoff", cutoff, "Truncate at this many standard deviations; 0 does not truncate.");
    v("embedding_std", embedding_std, "Standard deviation of the embedding, when it should differ.");
    v("scale_embedding", scale_embedding,
      "Multiply the embedding's standard deviation by sqrt(d_model), unless embedding_std sets it.");
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
      "Token files (headerless little-endian .npy as OLMo writes them) in order; names or globs. A file listed twice "
      "counts twice. Relative names are relative to the working folder.");
    v("dtype", dtype, "Type of the ids in the files; auto takes it from the .json beside each file.");
    v("seed", seed, "Seed of the order. Default: run.seed.");
    v("shuffle", shuffle, "Shuffle instances anew each epoch (numpy PCG64(seed + epoch), as OLMo).");
    v("tokenizer", tokenizer, "tokenizer.json for samples; default: the one named beside the token files.");
    v("prefetch", prefetch, "Batches read ahead by the background thread.");
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
    v("max_duration", max_duration, "Length of the run: 500 (steps), 1e9T (tokens) or 2ep (epochs).");
    v("global_batch_size", global_batch_size, "Instances per optimizer step.");
    v("micro_batch_size", micro_batch_size,
      "Instances per forward and backward; the batch splits in order, the last part may be short. Default: all.");
    v("max_grad_norm", max_grad_norm, "Clip the global gradient norm to this; 0 does not clip.");
    v("z_loss", z_loss,
      "Weight of mean lse^2 in the loss (OLMo's softmax auxiliary loss: 1e-4). Logged apart from CE.");
    v("loss_chunk", loss_chunk, "Tokens per chunk of the fused head and cross-entropy; bounds the logits in memory.");
    v("freeze", freeze,
      "Names of parameters that keep their values, '*' for any text: ['embedding.*', 'blocks.0.*']. "
      "norma plan --parameters lists them.");
    v("stop_at", stop_at,
      "Leave early at this step, with a checkpoint and exit code 75; the schedule still aims at max_duration. For time "
      "slices. Default: never.");
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
    v("betas", betas, "AdamW's two decay rates.");
    v("eps", eps, "AdamW's epsilon.");
    v("weight_decay", weight_decay, "Decoupled decay: p *= 1 - lr * weight_decay before the update.");
    v("decay_norms", decay_norms, "Decay the gains of norms.");
    v("decay_biases", decay_biases, "Decay biases (dense models here have none).");
    v("decay_embeddings", decay_embeddings, "Decay the embedding (and with it a tied head).");
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
    v("kind", kind, "cosine, linear, inverse_sqrt, constant, or wsd (warm up, stay, decay linearly at the end).");
    v("units", units, "Whether warmup, t_max and decay count steps or tokens (the step's own batch included).");
    v("warmup", warmup, "Length of the linear warm-up.");
    v("t_max", t_max, "Where the decay ends; after it the rate stays lr * alpha_f. Default: the run's end.");
    v("alpha_f", alpha_f, "Final rate as a fraction of lr.");
    v("warmup_min_lr", warmup_min_lr, "Rate the warm-up starts from. Default: lr / 10, as in OLMo.");
    v("decay", decay, "wsd: length of the final decay.");
  }
};

struct TimeoutConfig {
  double start = 600.0;
  double training = 600.0;
  double grace = 5.0;

  template <class V>
  void visit(V&& v) {
    v("start", start, "Seconds in which every process must arrive.");
    v("training", training,
      "Seconds a collective may take: after them the run ends and says which rank is missing. It must cover the "
      "slowest "
      "save and evaluation of one rank.");
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

  template <class V>
  void visit(V&& v) {
    v("strategy", strategy,
      "How processes share the model. single: one process. ddp: each holds all of it. full_shard: weights, gradients "
      "and optimizer state are cut into shards, weights are gathered unit by unit for each pass. shard_grad_op: "
      "gathered once a step and kept. hybrid: full_shard inside of each replica, ddp between replicas. auto: single "
      "for one process, else full_shard.");
    v("replicas", replicas,
      "hybrid: copies of the model; must divide the number of processes. Default: the number of nodes.");
    v("recompute", recompute,
      "What the backward pass makes again instead of keeping: none; block (all of every block); every_n (all of every "
      "recompute_n-th block); selective (norms, activation and attention, never a matrix product).");
    v("recompute_n", recompute_n, "every_n: blocks 0, n, 2n, ... are recomputed.");
    v("reduce_dtype", reduce_dtype, "Type in which gradients travel when they are cut into shards.");
    v("reduce", reduce,
      "When sharded gradients are summed over processes: every_micro_batch (less memory) or once (less traffic). "
      "auto: every_micro_batch for full_shard and hybrid, once for shard_grad_op.");
    v("check_replicas_every", check_replicas_every,
      "Every so many steps compare a hash of the weights between replicas, and stop when they differ; 0 never.");
    v("console_ranks", console_ranks,
      "Ranks whose log lines also go to the console; every rank has its own file in logs/.");
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
    v("every", every, "Save every so many steps, and at the end; 0 saves only at the end.");
    v("resume", resume,
      "auto: go on from the newest complete checkpoint of the run folder, if there is one. none: start fresh; the "
      "folder "
      "must hold no checkpoint. Else: a checkpoint folder to start from.");
    v("resume_allow", resume_allow,
      "Keys under model and norm that may differ from those of the checkpoint a run goes on from: [model.rope_theta], "
      "[norm]. Any other difference there is refused.");
    v("background", background,
      "Write checkpoints beside the training steps, from a copy of the state in memory; false waits for the disk.");
  }
};

// What is measured while a run trains; norma eval measures the same in the same way.
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
    v("every", every, "Evaluate every so many steps, and at the end, if there are sets or tasks; 0 never.");
    v("sets", sets,
      "Validation sets: label -> token files (names or globs), or text files, which are tokenized with "
      "data.tokenizer.");
    v("batch_size", batch_size, "Instances of a validation set per forward.");
    v("max_instances", max_instances, "At most so many instances of each set; 0 takes all.");
    v("by_document", by_document,
      "Also score each set document by document: nats per token and bits per byte over all its text.");
    v("tasks", tasks, "Downstream tasks by name or glob, [hellaswag, arc_*]; norma eval --list shows them.");
    v("task_data", task_data, "Folder that scripts/fetch_eval_data.sh made.");
    v("task_documents", task_documents, "At most so many documents of each task; 0 takes all.");
    v("batch_tokens", batch_tokens, "Tokens per forward of a task, padding included; a longer request goes alone.");
    v("context_length", context_length,
      "A request keeps its last so many tokens, or model.sequence_length if that is less; OLMo's is 2048.");
    v("reuse_context", reuse_context, "Run the context that the continuations of a question share only once.");
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
    v("every", every, "Write metrics.jsonl (and TensorBoard) every so many steps.");
    v("console_every", console_every, "Without a terminal: print the progress line every so many steps.");
    v("parameters_every", parameters_every,
      "Write norm, min, max and mean of every parameter and gradient every so many steps; 0 never.");
    v("tensorboard", tensorboard, "Also write TensorBoard event files.");
    v("trace_steps", trace_steps,
      "Record so many steps, every rank, into traces/rankN.json (Chrome's trace format: chrome://tracing, Perfetto); 0 "
      "none.");
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
    v("norm", norm, "Where the norms sit.");
    v("init", init, "Initial weights.");
    v("data", data, "Training tokens.");
    v("train", train, "The training step.");
    v("optim", optim, "AdamW.");
    v("schedule", schedule, "Learning rate over time.");
    v("precision", precision,
      "fp64 (tests), fp32, or bf16: bf16 compute copies of all parameters and a bf16 stream, fp32 master weights, fp32 "
      "gradient accumulation.");
    v("parallel", parallel, "How processes share the work.");
    v("checkpoint", checkpoint, "Saving and resuming.");
    v("eval", eval, "Validation during training.");
    v("metrics", metrics, "What is written about the run.");
  }
};

// Problems that one section can see in itself (ranges, divisibility). Norm plans, data files and devices are
// judged by their own rooms.
Problems validate(const RunConfig& config);

}  // namespace norma
