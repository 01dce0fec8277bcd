#include "norma/model/transformer.h"

#include <ATen/ATen.h>

#include "norma/base/error.h"
#include "norma/kernels/ops.h"

#include "block.h"
#include "rotary.h"
#include "unit_tensors.h"

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

// [1, 1, T, S] for the last T of S tokens: each may attend to itself and to earlier tokens.
at::Tensor later_causal_mask(std::int64_t begin, std::int64_t length, at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kBool).device(device);
  return at::ones({length, begin + length}, options).tril(begin).view({1, 1, length, begin + length});
}

// The same for one token at `positions` [B] of rows that have different lengths; ids [B, S] hold it already:
// [B, 1, 1, S].
at::Tensor row_mask(const at::Tensor& ids, const at::Tensor& positions, std::optional<std::int64_t> separator) {
  const at::Tensor own = positions.unsqueeze(1);                                        // [B, 1]
  at::Tensor mask = at::arange(ids.size(1), positions.options()).unsqueeze(0).le(own);  // [B, S]
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

// What the units run, each with its index in the list of units.
struct Transformer::Modules {
  struct Table {
    std::size_t unit = 0;
    at::Tensor rows;  // [V, D]
    Norm norm;
  };
  struct BlockUnit {
    std::size_t unit = 0;
    std::unique_ptr<Block> block;
  };

  Table embedding, head;  // the embedding norms what it looks up, the head what it reads
  std::vector<BlockUnit> blocks;
  std::vector<std::int64_t> moe_layers;
  RopeTable rope;

  void make_rope(const ModelConfig& config);
};

struct Transformer::Hidden {
  at::Tensor x;                       // [B, T, D], or [1, N, D] of the wanted tokens
  std::vector<RoutingTerms> routing;  // of the layers with experts, in order
};

Transformer::Transformer(const ModelConfig& config, const NormPlan& plan)
    : config_(config), modules_(std::make_unique<Modules>()) {
  NORMA_CHECK(static_cast<std::int64_t>(plan.layers.size()) == config.num_layers, "[transformer] the plan has ",
              plan.layers.size(), " layers, the model ", config.num_layers);
  Modules& m = *modules_;
  m.moe_layers = config.moe_layers();
  for (const UnitSpec& spec : model_parameters(config, plan)) {
    const std::size_t index = units_.size();
    units_.push_back(make_unit(spec, static_cast<int>(index)));
    UnitTensors tensors(spec, units_.back());
    switch (spec.role) {
      case UnitRole::table:
        m.embedding = {index, tensors.take(ParameterRole::embedding), tensors.norm("norm")};
        break;
      case UnitRole::block: {
        const std::size_t layer = m.blocks.size();
        const BlockParts parts{.config = config,
                               .policy = plan.layers[layer],
                               .layer = static_cast<std::int64_t>(layer),
                               .tensors = tensors,
                               .norms = tensors.layer_norms()};
        m.blocks.push_back({index, std::make_unique<Block>(parts)});
        break;
      }
      case UnitRole::head:
        m.head = {index, tensors.take_if_any(ParameterRole::head).value_or(m.embedding.rows), tensors.norm("norm")};
        break;
    }
    tensors.check_all_taken();
  }
}

Transformer::~Transformer() = default;

// For the parameters' type and device, which an engine decides.
void Transformer::Modules::make_rope(const ModelConfig& config) {
  const at::ScalarType type = embedding.rows.scalar_type();
  const at::Device device = embedding.rows.device();
  if (rope.cos.defined() && rope.cos.device() == device && rope.cos.scalar_type() == accumulate_type(type)) return;
  const Rotary rotary = rotary_of(config);
  const bool adjacent = config.attention.rope_pairs == RopePairs::adjacent;
  rope = make_rope_table(config.sequence_length, rotary.frequencies, type, device,
                         adjacent ? RotaryPairs::adjacent : RotaryPairs::halves, rotary.table_factor);
}

// Angles and mask of a pass over ids [B, T], which the cache then holds.
BlockContext Transformer::context_of(const at::Tensor& ids, DecodeCache* cache) {
  const std::int64_t length = ids.size(1), begin = cache ? cache->length : 0;
  NORMA_CHECK(begin + length <= config_.sequence_length, "[transformer] ", begin + length,
              " tokens exceed model.sequence_length ", config_.sequence_length);
  const bool ragged = cache && cache->row_lengths().defined();
  NORMA_CHECK(!ragged || length == 1, "[transformer] rows of different lengths take one token at a time");
  modules_->make_rope(config_);
  const RopeTable& rope = modules_->rope;
  BlockContext context;
  context.rope = ragged ? rope.of_rows(cache->row_lengths()) : rope.slice(begin, length);
  context.cache = cache;
  if (cache) {
    cache->append(cache->ids, ids);
    cache->layers.resize(modules_->blocks.size());
  }
  if (ragged) {
    context.mask = row_mask(cache->ids.seen(), cache->row_lengths(), config_.document_separator);
  } else if (config_.document_separator) {
    context.mask = document_mask(cache ? cache->ids.seen() : ids, length, *config_.document_separator);
  } else if (begin > 0 && length > 1) {
    context.mask = later_causal_mask(begin, length, ids.device());
  }
  return context;
}

Transformer::Hidden Transformer::hidden(const at::Tensor& ids, UnitRunner& runner, DecodeCache* cache,
                                        const std::optional<at::Tensor>& wanted) {
  BlockContext context = context_of(ids, cache);
  const Modules::Table& table = modules_->embedding;
  const auto look_up = [&table](const TensorList& in) -> TensorList {
    return {table.norm(ops::embed(in[0], table.rows))};
  };
  Hidden result;
  result.x = runner.run(units_[table.unit], look_up, {ids})[0];  // [B, T] -> [B, T, D]
  for (const Modules::BlockUnit& one : modules_->blocks) {
    const Unit& unit = units_[one.unit];
    context.recompute_inputs = runner.recomputes_inputs(unit);
    if (&one == &modules_->blocks.back()) context.wanted = wanted;
    const auto body = [&block = *one.block, context](const TensorList& in) {
      return block.forward(in[0], context).pack();
    };
    const BlockOutput out = BlockOutput::unpack(runner.run(unit, body, {result.x}));
    result.x = out.x;
    if (out.routing) result.routing.push_back(*out.routing);
  }
  if (cache) cache->advance(ids.size(1));
  return result;
}

// Means over the layers with experts, weighted.
void Transformer::add_auxiliary_losses(const std::vector<RoutingTerms>& routing, double scale, ModelLoss& loss) const {
  for (std::size_t i = 0; i < routing.size(); ++i) {
    loss.routing.push_back(
        {.layer = modules_->moe_layers[i], .counts = routing[i].counts, .entropy = routing[i].entropy.detach()});
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
  const Modules::Table& head = modules_->head;
  const auto body = [&head, options](const TensorList& in) {
    const at::Tensor h = head.norm(in[0]).flatten(0, 1);  // [N, D]
    return pack(ops::linear_cross_entropy(h, head.rows, in[1].flatten(), options.scale, options.z_weight,
                                          options.chunk_tokens));
  };
  const CrossEntropy ce = unpack_cross_entropy(runner.run(units_[head.unit], body, {last.x, next_tokens(ids)}));
  ModelLoss loss;
  loss.loss = ce.loss;
  loss.token_ce = ce.token_ce.view(ids.sizes());
  loss.token_lse = ce.token_lse.view(ids.sizes());
  add_auxiliary_losses(last.routing, options.auxiliary_scale, loss);
  return loss;
}

at::Tensor Transformer::log_probabilities(const at::Tensor& ids, const at::Tensor& positions, const at::Tensor& targets,
                                          std::int64_t chunk_tokens, UnitRunner& runner, DecodeCache* cache) {
  const at::Tensor x = hidden(ids, runner, cache, positions).x;  // [1, N, D]
  const Modules::Table& head = modules_->head;
  const auto body = [&head, chunk_tokens](const TensorList& in) -> TensorList {
    const at::Tensor h = head.norm(in[0].squeeze(0));  // [N, D]
    return {ops::linear_cross_entropy(h, head.rows, in[1], 1.0, 0.0, chunk_tokens).token_ce};
  };
  return runner.run(units_[head.unit], body, {x, targets})[0].neg();
}

at::Tensor Transformer::to_logits(const at::Tensor& x, UnitRunner& runner) {
  const Modules::Table& head = modules_->head;
  const auto body = [&head](const TensorList& in) -> TensorList { return {ops::linear(head.norm(in[0]), head.rows)}; };
  return runner.run(units_[head.unit], body, {x})[0];
}

at::Tensor Transformer::logits(const at::Tensor& ids, UnitRunner& runner, DecodeCache* cache) {
  return to_logits(hidden(ids, runner, cache).x, runner);
}

at::Tensor Transformer::next_logits(const at::Tensor& ids, UnitRunner& runner, DecodeCache& cache) {
  const at::Tensor x = hidden(ids, runner, &cache).x;
  return to_logits(x.narrow(1, x.size(1) - 1, 1), runner).squeeze(1);
}

}  // namespace norma
