#include "norma/model/transformer.h"

#include <ATen/ATen.h>

#include "norma/base/error.h"
#include "norma/model/rotary.h"

#include "block.h"

namespace norma {
namespace {

// [B, S] ids -> [B, 1, T, S] for the last T of them: may attend to earlier tokens of the same document; the separator
// ends its document.
at::Tensor document_mask(const at::Tensor& ids, std::int64_t length, std::int64_t separator) {
  const at::Tensor ends = ids.eq(separator).to(at::kLong);
  const at::Tensor document = ends.cumsum(1) - ends;  // [B, S]
  const std::int64_t begin = ids.size(1) - length;
  const at::Tensor same = document.narrow(1, begin, length).unsqueeze(2).eq(document.unsqueeze(1));  // [B, T, S]
  return same.tril(begin).unsqueeze(1);
}

// [1, 1, T, S] for the last T of S tokens: may attend to themselves and what is before.
at::Tensor later_causal_mask(std::int64_t begin, std::int64_t length, at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kBool).device(device);
  return at::ones({length, begin + length}, options).tril(begin).view({1, 1, length, begin + length});
}

// The same for one token more in rows of their own lengths, ids [B, S] included: [B, 1, 1, S].
at::Tensor row_mask(const at::Tensor& ids, const at::Tensor& places, std::optional<std::int64_t> separator) {
  const at::Tensor own = places.unsqueeze(1);                                        // [B, 1]
  at::Tensor mask = at::arange(ids.size(1), places.options()).unsqueeze(0).le(own);  // [B, S]
  if (separator) {
    const at::Tensor ends = ids.eq(*separator).to(at::kLong);
    const at::Tensor document = ends.cumsum(1) - ends;
    mask = mask.logical_and(document.eq(document.gather(1, own)));
  }
  return mask.unsqueeze(1).unsqueeze(1);
}

// The head's results as the outputs of a unit, and back.
TensorList pack(const CrossEntropy& ce) {
  return {ce.loss, ce.token_ce, ce.token_lse};
}

CrossEntropy unpack_cross_entropy(const TensorList& list) {
  return {.loss = list[0], .token_ce = list[1], .token_lse = list[2]};
}

// Targets of ids [B, T]: the next token; the last position has none.
at::Tensor next_tokens(const at::Tensor& ids) {
  at::Tensor targets = at::full_like(ids, kIgnoreToken);
  targets.narrow(1, 0, ids.size(1) - 1).copy_(ids.narrow(1, 1, ids.size(1) - 1));
  return targets;
}

}  // namespace

Transformer::Transformer(const ModelConfig& config, const NormPlan& plan)
    : config_(config), moe_layers_(config.moe_layers()) {
  NORMA_CHECK(static_cast<std::int64_t>(plan.layers.size()) == config.num_layers, "[transformer] the plan has ",
              plan.layers.size(), " layers, the model ", config.num_layers);
  embedding_ = register_module("embedding", std::make_shared<torch::nn::Module>("embedding"));
  embedding_weight_ = embedding_->register_parameter("weight", shaped_placeholder({config.rows(), config.d_model}));
  embedding_norm_ = register_norm(*embedding_, "norm", plan.embedding, config.d_model);
  const auto list = register_module("blocks", std::make_shared<torch::nn::Module>("blocks"));
  for (std::int64_t l = 0; l < config.num_layers; ++l) {
    const auto block = std::make_shared<BlockImpl>(config, plan.layers[static_cast<std::size_t>(l)], l);
    blocks_.push_back(list->register_module(std::to_string(l), block));
  }
  head_ = register_module("head", std::make_shared<torch::nn::Module>("head"));
  final_norm_ = register_norm(*head_, "norm", plan.final, config.d_model);
  head_weight_ = config.tie_embeddings
                     ? embedding_weight_
                     : head_->register_parameter("weight", shaped_placeholder({config.rows(), config.d_model}));
  collect_units();
}

void Transformer::collect_units() {
  const auto add = [&](const std::string& name, const torch::nn::Module& module) {
    Unit unit{.name = name, .index = static_cast<int>(units_.size()), .parameters = {}, .also_needs = {}};
    for (const auto& parameter : module.named_parameters()) {
      unit.parameters.push_back({name + "." + parameter.key(), parameter.value()});
    }
    units_.push_back(std::move(unit));
  };
  add("embedding", *embedding_);
  for (std::size_t l = 0; l < blocks_.size(); ++l) add("blocks." + std::to_string(l), *blocks_[l]);
  add("head", *head_);
  if (config_.tie_embeddings) units_.back().also_needs = {0};
  units_.front().backward_reads_parameters = embedding_norm_ != nullptr;
}

void Transformer::make_rope(at::Device device) {
  const at::ScalarType type = embedding_weight_.scalar_type();
  if (rope_.cos.defined() && rope_.cos.device() == device && rope_.cos.scalar_type() == accumulate_type(type)) return;
  const Rotary rotary = rotary_of(config_);
  const bool adjacent = config_.attention.rope_pairs == RopePairs::adjacent;
  rope_ = make_rope_table(config_.sequence_length, rotary.frequencies, type, device,
                          adjacent ? RotaryPairs::adjacent : RotaryPairs::halves, rotary.table_factor);
}

struct Transformer::Hidden {
  at::Tensor x;                       // [B, T, D], or [1, N, D] of the places asked for
  std::vector<RoutingTerms> routing;  // of each layer with experts, in order
};

Transformer::Hidden Transformer::hidden(const at::Tensor& ids, UnitRunner& runner, DecodeCache* cache,
                                        const std::optional<at::Tensor>& places) {
  const std::int64_t length = ids.size(1), begin = cache ? cache->length : 0;
  NORMA_CHECK(begin + length <= config_.sequence_length, "[transformer] ", begin + length,
              " tokens exceed model.sequence_length ", config_.sequence_length);
  make_rope(ids.device());
  const bool ragged = cache && cache->row_lengths().defined();
  NORMA_CHECK(!ragged || length == 1, "[transformer] rows of different lengths take one token at a time");
  BlockContext context{.rope = ragged ? rope_.of_rows(cache->row_lengths()) : rope_.slice(begin, length),
                       .mask = std::nullopt,
                       .cache = cache};
  if (cache) cache->append(cache->ids, ids);
  if (ragged) {
    context.mask = row_mask(cache->ids.seen(), cache->row_lengths(), config_.document_separator);
  } else if (config_.document_separator) {
    context.mask = document_mask(cache ? cache->ids.seen() : ids, length, *config_.document_separator);
  } else if (begin > 0 && length > 1) {
    context.mask = later_causal_mask(begin, length, ids.device());
  }
  if (cache) cache->layers.resize(blocks_.size());

  at::Tensor x = runner.run(  // [B, T] -> [B, T, D]
      units_.front(),
      [this](const TensorList& in) -> TensorList {
        return {normed(embedding_norm_, ops::embed(in[0], embedding_weight_))};
      },
      {ids})[0];
  Hidden result;
  for (std::size_t l = 0; l < blocks_.size(); ++l) {
    context.recompute_inputs = runner.recomputes_inputs(units_[l + 1]);
    if (l + 1 == blocks_.size()) context.places = places;
    const TensorList outputs = runner.run(
        units_[l + 1], [this, l, context](const TensorList& in) { return blocks_[l]->forward(in[0], context).pack(); },
        {x});
    const BlockOutput out = BlockOutput::unpack(outputs);
    x = out.x;
    if (out.routing) result.routing.push_back(*out.routing);
  }
  if (cache) cache->advance(length);
  result.x = x;
  return result;
}

// Means over the layers with experts, weighted.
void Transformer::add_auxiliary_losses(const std::vector<RoutingTerms>& routing, double scale, ModelLoss& loss) const {
  for (std::size_t i = 0; i < routing.size(); ++i) {
    loss.routing.push_back(
        {.layer = moe_layers_[i], .counts = routing[i].counts, .entropy = routing[i].entropy.detach()});
  }
  if (routing.empty() || scale == 0.0) return;
  const double mean = scale / static_cast<double>(routing.size());
  at::Tensor balance = routing[0].balance, z = routing[0].z;
  for (std::size_t i = 1; i < routing.size(); ++i) {
    balance = balance + routing[i].balance;
    z = z + routing[i].z;
  }
  loss.load_balancing = balance * (config_.moe.balance_loss * mean);
  loss.router_z = z * (config_.moe.z_loss * mean);
  if (config_.moe.balance_loss != 0.0) loss.loss = loss.loss + loss.load_balancing;
  if (config_.moe.z_loss != 0.0) loss.loss = loss.loss + loss.router_z;
}

ModelLoss Transformer::loss(const at::Tensor& ids, const LossOptions& options, UnitRunner& runner) {
  const Hidden last = hidden(ids, runner, nullptr);
  const TensorList outputs =
      runner.run(units_.back(),
                 [this, options](const TensorList& in) {
                   const at::Tensor h = normed(final_norm_, in[0]).flatten(0, 1);  // [N, D]
                   return pack(ops::linear_cross_entropy(h, head_weight_, in[1].flatten(), options.scale,
                                                         options.z_weight, options.chunk_tokens));
                 },
                 {last.x, next_tokens(ids)});
  const CrossEntropy ce = unpack_cross_entropy(outputs);
  ModelLoss loss;
  loss.loss = ce.loss;
  loss.token_ce = ce.token_ce.view(ids.sizes());
  loss.token_lse = ce.token_lse.view(ids.sizes());
  add_auxiliary_losses(last.routing, options.auxiliary_scale, loss);
  return loss;
}

at::Tensor Transformer::log_probabilities(const at::Tensor& ids, const at::Tensor& places, const at::Tensor& targets,
                                          std::int64_t chunk_tokens, UnitRunner& runner, DecodeCache* cache) {
  const at::Tensor x = hidden(ids, runner, cache, places).x;  // [1, N, D]
  const TensorList out =
      runner.run(units_.back(),
                 [this, chunk_tokens](const TensorList& in) -> TensorList {
                   const at::Tensor h = normed(final_norm_, in[0].squeeze(0));  // [N, D]
                   return {ops::linear_cross_entropy(h, head_weight_, in[1], 1.0, 0.0, chunk_tokens).token_ce};
                 },
                 {x, targets});
  return out[0].neg();
}

at::Tensor Transformer::to_logits(const at::Tensor& x, UnitRunner& runner) {
  return runner.run(
      units_.back(),
      [this](const TensorList& in) -> TensorList { return {ops::linear(normed(final_norm_, in[0]), head_weight_)}; },
      {x})[0];
}

at::Tensor Transformer::logits(const at::Tensor& ids, UnitRunner& runner, DecodeCache* cache) {
  return to_logits(hidden(ids, runner, cache).x, runner);
}

at::Tensor Transformer::next_logits(const at::Tensor& ids, UnitRunner& runner, DecodeCache& cache) {
  const at::Tensor x = hidden(ids, runner, &cache).x;
  return to_logits(x.narrow(1, x.size(1) - 1, 1), runner).squeeze(1);
}

}  // namespace norma
