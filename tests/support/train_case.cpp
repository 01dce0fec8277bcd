#include "support/train_case.h"

#include <cmath>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "norma/base/error.h"
#include "norma/config/names.h"
#include "norma/parallel/sharding.h"
#include "norma/train/train_step.h"

#include "support/rank_model.h"
#include "support/tiny_model.h"

namespace norma::testing {
namespace {

void add_latents(ModelConfig& model) {
  const ModelConfig latent = tiny_latent_config(model.num_layers).model;
  model.num_kv_heads.reset();
  model.attention = latent.attention;
}

// Two layers of experts beside a dense one.
void add_experts(const std::string& kind, ModelConfig& model) {
  model.mlp = MlpKind::moe;
  model.layers["1"].mlp = MlpKind::dense;
  MoeConfig& moe = model.moe;
  moe.num_experts = 24;
  moe.expert_dim = 20;
  if (kind == "moe_no_losses") moe.balance_loss = moe.z_loss = 0.0;
  if (kind != "moe_deepseek") return;
  moe.shared_experts = 1;
  moe.scoring = RouterScoring::sigmoid;
  moe.normalize_weights = true;
  moe.routed_scale = 2.5;
  moe.groups = 4;
  moe.top_groups = 2;
  moe.group_score = GroupScore::top2;
  moe.selection_bias = true;
}

RunConfig config_of(const TrainCase& one) {
  RunConfig config = tiny_config(3);
  config.model.embedding_rows = 67;  // no multiple of anything: shards cut through rows
  config.model.tie_embeddings = one.tied;
  if (one.model.starts_with("mla")) add_latents(config.model);
  if (one.model.find("moe") != std::string::npos) add_experts(one.model, config.model);
  config.norm.preset = one.preset;
  config.norm.mix_alpha = 0.5;
  config.precision = *parse_enum<Precision>(one.precision);
  config.parallel.strategy = *parse_enum<Strategy>(one.strategy);
  config.parallel.recompute = *parse_enum<Recompute>(one.recompute);
  config.parallel.reduce = *parse_enum<ReducePolicy>(one.reduce);
  config.parallel.reduce_dtype = *parse_enum<ReduceDtype>(one.reduce_dtype);
  if (one.replicas > 0) config.parallel.replicas = one.replicas;
  config.train.global_batch_size = one.batch;
  config.train.micro_batch_size = one.micro_batch;
  config.train.freeze = one.freeze;
  config.optim.lr = 1e-3;
  return config;
}

// This rank's rows of the global batch, [rows, T].
at::Tensor ids_of_rank(std::int64_t batch, int rank, int world) {
  const at::Tensor t = at::arange(16, at::kLong);
  std::vector<at::Tensor> rows;
  for (std::int64_t b = rank; b < batch; b += world) rows.push_back((t * (5 + b) + t * t * 3 + 7 * b) % 61);
  return at::stack(rows);
}

at::Tensor ids_of(const TrainCase& one, const LaunchEnvironment& launch) {
  if (one.rows_of == 0) return ids_of_rank(one.batch, launch.rank, launch.world_size);
  std::vector<at::Tensor> parts;
  for (int rank = 0; rank < one.rows_of; ++rank) parts.push_back(ids_of_rank(one.batch, rank, one.rows_of));
  return at::cat(parts);
}

// Experts that no token of this row goes to, over all layers.
int count_idle_experts(Transformer& model, ShardEngine& engine, const at::Tensor& row) {
  const c10::NoGradGuard no_grad;
  int idle = 0;
  for (const LayerRouting& layer : model.loss(row, {1.0, 0.0, 64, 0.0}, engine).routing) {
    idle += static_cast<int>(layer.counts.eq(0).sum().item<std::int64_t>());
  }
  return idle;
}

Json to_json(const Traffic& traffic) {
  return {{"all_gathers", traffic.all_gathers},         {"reduce_scatters", traffic.reduce_scatters},
          {"all_reduces", traffic.all_reduces},         {"gathered_bytes", traffic.gathered_bytes},
          {"scattered_bytes", traffic.scattered_bytes}, {"reduced_bytes", traffic.reduced_bytes}};
}

Json traffic_of(const World& world) {
  Traffic sum;
  for (const Group* group : world.groups()) {
    const Traffic& t = group->traffic();
    sum.all_gathers += t.all_gathers;
    sum.reduce_scatters += t.reduce_scatters;
    sum.all_reduces += t.all_reduces;
    sum.gathered_bytes += t.gathered_bytes;
    sum.scattered_bytes += t.scattered_bytes;
    sum.reduced_bytes += t.reduced_bytes;
  }
  return to_json(sum);
}

// Hands units to the engine until told to fail in one.
class FailingRunner : public ForwardingRunner {
 public:
  using ForwardingRunner::ForwardingRunner;
  TensorList run(const Unit& unit, const UnitBody& body, const TensorList& inputs) override {
    const UnitBody failing = [](const TensorList&) -> TensorList { throw DataError("planted"); };
    return ForwardingRunner::run(unit, unit.name == "blocks.1" ? failing : body, inputs);
  }
};

void fail_in_forward(Transformer& model, ShardEngine& engine, const at::Tensor& ids) {
  FailingRunner failing(engine);
  engine.clear_gradients();
  engine.begin_micro_batch(true);
  EXPECT_THROW(model.loss(ids, {1.0, 0.0, 64, 0.0}, failing), DataError);
}

Json to_json(const TrainCase& c) {
  return {{"model", c.model},
          {"rows_of", c.rows_of},
          {"strategy", c.strategy},
          {"precision", c.precision},
          {"recompute", c.recompute},
          {"reduce", c.reduce},
          {"reduce_dtype", c.reduce_dtype},
          {"preset", c.preset},
          {"replicas", c.replicas},
          {"batch", c.batch},
          {"micro_batch", c.micro_batch},
          {"steps", c.steps},
          {"tied", c.tied},
          {"poison", c.poison},
          {"evaluate_between", c.evaluate_between},
          {"throw_in_step", c.throw_in_step},
          {"freeze", c.freeze}};
}

TrainCase parse_train_case(const Json& j) {
  TrainCase c;
  c.model = j.at("model").get<std::string>();
  c.rows_of = j.at("rows_of").get<int>();
  c.strategy = j.at("strategy").get<std::string>();
  c.precision = j.at("precision").get<std::string>();
  c.recompute = j.at("recompute").get<std::string>();
  c.reduce = j.at("reduce").get<std::string>();
  c.reduce_dtype = j.at("reduce_dtype").get<std::string>();
  c.preset = j.at("preset").get<std::string>();
  c.replicas = j.at("replicas").get<std::int64_t>();
  c.batch = j.at("batch").get<std::int64_t>();
  c.micro_batch = j.at("micro_batch").get<std::int64_t>();
  c.steps = j.at("steps").get<std::int64_t>();
  c.tied = j.at("tied").get<bool>();
  c.poison = j.at("poison").get<bool>();
  c.evaluate_between = j.at("evaluate_between").get<bool>();
  c.throw_in_step = j.at("throw_in_step").get<std::int64_t>();
  c.freeze = j.at("freeze").get<std::vector<std::string>>();
  return c;
}

// What this rank gives back to the test.
Json run_train_case(const TrainCase& one, const LaunchEnvironment& launch) {
  at::set_num_threads(1);
  const RunConfig config = config_of(one);
  RankModel rank(config, launch, one.poison);
  World& world = rank.world;
  Transformer& model = rank.model;
  ShardEngine& engine = rank.engine;
  StepOptions options;
  options.micro_batch = one.micro_batch;
  options.global_batch = one.batch;
  options.z_loss = 1e-4;
  options.loss_chunk = 100;
  TrainStep step(rank.step_parts(), options);
  const at::Tensor ids = ids_of(one, launch);
  Json result = {{"losses", Json::array()},
                 {"norms", Json::array()},
                 {"balance", Json::array()},
                 {"router_z", Json::array()},
                 {"tokens", Json::array()}};
  const bool experts = !config.model.moe_layers().empty();
  result["idle_experts"] = experts ? count_idle_experts(model, engine, ids.narrow(0, 0, 1)) : 0;
  for (std::int64_t s = 1; s <= one.steps; ++s) {
    if (s == one.throw_in_step) fail_in_forward(model, engine, ids);
    if (one.evaluate_between) {
      const c10::NoGradGuard no_grad;
      model.loss(ids, {1.0, 0.0, 64, 0.0}, engine);
    }
    for (const Group* group : world.groups()) const_cast<Group*>(group)->reset_traffic();
    const StepFigures taken = step.run(ids, config.optim.lr, s).figures;
    result["losses"].push_back(taken.cross_entropy);
    result["norms"].push_back(taken.grad_norm);
    result["balance"].push_back(taken.load_balancing_loss);
    result["router_z"].push_back(taken.router_z_loss);
    result["tokens"].clear();
    for (const StepRouting& layer : taken.routing) result["tokens"].push_back(layer.tokens);
    result["traffic"] = traffic_of(world);
  }
  for (const ShardPiece& piece : engine.pieces()) {
    const at::Tensor values = values_of(piece, engine.flat_units()[piece.unit].master).to(at::kDouble);
    const std::vector<double> list(values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel());
    result["ranges"][piece.tensor->name] = {piece.begin, list};
  }
  const Sharding sharding{rank.layout, rank.degrees, rank.policy, config.precision,
                          (one.batch / launch.world_size + one.micro_batch - 1) / one.micro_batch};
  result["forecast"] = to_json(forecast_traffic(sharding));
  const RankMemory memory = rank_memory(sharding, /*activations=*/0);
  result["forecast_pooled"] = (rank.policy.reshard_after_forward ? memory.compute_weights : 0) + memory.gradient_pool;
  result["pooled"] = engine.pooled_bytes();
  result["weight_buffers"] = engine.peak_weight_buffers();
  result["gradient_buffers"] = engine.peak_gradient_buffers();
  return result;
}

// The answers of all ranks to one case.
TrainOutcome merge_outcomes(const std::vector<Json>& of_ranks) {
  TrainOutcome outcome;
  const Json& first = of_ranks.front();
  outcome.losses = first.at("losses").get<std::vector<double>>();
  outcome.norms = first.at("norms").get<std::vector<double>>();
  outcome.balance = first.at("balance").get<std::vector<double>>();
  outcome.router_z = first.at("router_z").get<std::vector<double>>();
  outcome.tokens = first.at("tokens").get<std::vector<std::vector<double>>>();
  outcome.traffic = first.value("traffic", Json::object());
  outcome.forecast = first.value("forecast", Json::object());
  outcome.pooled_bytes = first.at("pooled").get<std::int64_t>();
  outcome.forecast_pooled_bytes = first.at("forecast_pooled").get<std::int64_t>();
  outcome.weight_buffers = first.at("weight_buffers").get<int>();
  outcome.gradient_buffers = first.at("gradient_buffers").get<int>();
  for (const Json& one : of_ranks) {
    outcome.idle_experts.push_back(one.at("idle_experts").get<int>());
    EXPECT_EQ(one.at("losses"), first.at("losses")) << "every rank reports the same losses";
    for (const auto& [name, range] : one.at("ranges").items()) {
      const auto begin = range.at(0).get<std::size_t>();
      const auto values = range.at(1).get<std::vector<double>>();
      std::vector<double>& whole = outcome.weights[name];
      if (whole.size() < begin + values.size()) whole.resize(begin + values.size());
      std::copy(values.begin(), values.end(), whole.begin() + static_cast<std::ptrdiff_t>(begin));
    }
  }
  return outcome;
}

Json train_worker(const Json& argument) {
  return run_cases(argument, [](const Json& one, const LaunchEnvironment& launch) {
    return run_train_case(parse_train_case(one), launch);
  });
}

const bool kRegistered = register_worker("train", train_worker);

}  // namespace

// Rank 0 keeps one store for all cases, in which each case has a prefix of its own.
Json run_cases(const Json& cases, const CaseRunner& run) {
  LaunchEnvironment launch = read_launch_environment();
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(launch.master_port);
  options.isServer = launch.rank == 0;
  options.waitWorkers = false;
  const auto store = c10::make_intrusive<c10d::TCPStore>(launch.master_host, options);
  launch.agent_store = true;
  Json results = Json::array();
  for (const Json& one : cases) {
    results.push_back(run(one, launch));
    ++launch.restart_count;
  }
  return results;
}

std::string TrainCase::text() const {
  return cat(model, " ", preset, " ", strategy, " ", precision, " recompute ", recompute, " reduce ", reduce, " ",
             reduce_dtype, " replicas ", replicas, " batch ", batch, "/", micro_batch, tied ? " tied" : " untied",
             freeze.empty() ? "" : " frozen " + join(freeze, " "));
}

const TrainOutcome& train_alone(const TrainCase& one) {
  static std::map<std::string, TrainOutcome> known;
  const std::string key = to_json(one).dump();
  auto found = known.find(key);
  if (found == known.end()) found = known.emplace(key, merge_outcomes({run_train_case(one, {})})).first;
  return found->second;
}

std::vector<TrainOutcome> run_train_cases(int world, const std::vector<TrainCase>& cases) {
  EXPECT_TRUE(kRegistered);
  Json argument = Json::array();
  for (const TrainCase& one : cases) argument.push_back(to_json(one));
  const std::vector<RankResult> ranks = run_ranks(world, "train", argument);
  std::vector<TrainOutcome> outcomes;
  for (const RankResult& rank : ranks) EXPECT_EQ(rank.exit_code, 0) << rank.error;
  if (::testing::Test::HasFailure()) return outcomes;
  for (std::size_t c = 0; c < cases.size(); ++c) {
    std::vector<Json> of_ranks;
    for (const RankResult& rank : ranks) of_ranks.push_back(rank.result.at(c));
    outcomes.push_back(merge_outcomes(of_ranks));
  }
  return outcomes;
}

std::vector<TrainCase> every_strategy(const TrainCase& like, int world) {
  std::vector<TrainCase> cases;
  for (const char* strategy : {"ddp", "full_shard", "shard_grad_op", "hybrid"}) {
    TrainCase one = like;
    one.strategy = strategy;
    if (one.strategy == "hybrid") one.replicas = 2;
    cases.push_back(one);
    if (one.strategy == "hybrid" && world == 2) cases.pop_back();  // ddp by another name
  }
  return cases;
}

void expect_equal(const TrainOutcome& got, const TrainOutcome& want, const Tolerance& tolerance,
                  const std::string& what) {
  ASSERT_EQ(got.losses.size(), want.losses.size()) << what;
  for (std::size_t s = 0; s < got.losses.size(); ++s) {
    EXPECT_LE(std::abs(got.losses[s] - want.losses[s]), tolerance.losses * std::abs(want.losses[s])) << what << s;
    EXPECT_LE(std::abs(got.norms[s] - want.norms[s]), tolerance.norms * std::abs(want.norms[s])) << what << s;
  }
  ASSERT_EQ(got.weights.size(), want.weights.size()) << what;
  for (const auto& [name, values] : want.weights) {
    const std::vector<double>& others = got.weights.at(name);
    ASSERT_EQ(others.size(), values.size()) << what << name;
    double difference = 0.0, norm = 0.0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      difference += (others[i] - values[i]) * (others[i] - values[i]);
      norm += values[i] * values[i];
    }
    EXPECT_LE(std::sqrt(difference), tolerance.weights * std::sqrt(norm)) << what << " " << name;
  }
}

void expect_reference(int world, const std::vector<TrainCase>& cases, Reference reference, const Tolerance& tolerance) {
  const std::vector<TrainOutcome> outcomes = run_train_cases(world, cases);
  ASSERT_EQ(outcomes.size(), cases.size());
  for (std::size_t c = 0; c < cases.size(); ++c) {
    expect_equal(outcomes[c], reference(cases[c]), tolerance, cases[c].text());
  }
}

void expect_recompute_is_exact(TrainCase like) {
  for (const char* precision : {"fp64", "fp32", "bf16"}) {
    like.precision = precision;
    const TrainOutcome& want = train_alone(like);
    for (const char* recompute : {"block", "every_n", "selective"}) {
      TrainCase one = like;
      one.recompute = recompute;
      const TrainOutcome& got = train_alone(one);
      expect_equal(got, want, {0, 0, 0}, one.text());
      EXPECT_EQ(got.tokens, want.tokens) << one.text();
      EXPECT_EQ(got.balance, want.balance) << one.text();
    }
  }
}

}  // namespace norma::testing
