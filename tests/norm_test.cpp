// Presets against the fixtures' layers and the papers' counts; edits; the table; plans turned back into configs.
#include <cmath>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "norma/config/yaml.h"
#include "norma/norm/plan.h"

#include "support/fixture_plan.h"
#include "support/fixtures.h"
#include "support/registration.h"

namespace norma {
namespace {

ModelConfig model_of(std::int64_t layers) {
  ModelConfig model;
  model.num_layers = layers;
  return model;
}

NormPlan plan_of(const NormConfig& config, std::int64_t layers) {
  Problems problems;
  NormPlan plan = make_norm_plan(config, model_of(layers), problems);
  for (const Problem& problem : problems) ADD_FAILURE() << problem.key << ": " << problem.text;
  return plan;
}

NormPlan preset(const std::string& name, std::int64_t layers, double eps = 1e-5) {
  NormConfig config;
  config.preset = name;
  config.eps = eps;
  return plan_of(config, layers);
}

std::string only_problem(const NormConfig& config, std::int64_t layers) {
  Problems problems;
  make_norm_plan(config, model_of(layers), problems);
  EXPECT_EQ(problems.size(), 1u);
  return problems.empty() ? "" : problems[0].key + ": " + problems[0].text;
}

std::int64_t norm_count(const NormPlan& plan, const ModelConfig& model) {
  std::int64_t sum = 0;
  for (const NormParameter& norm : norm_parameters(plan, model)) sum += norm.width;
  return sum;
}

// The preset of a fixture under its name here, with its options.
NormConfig fixture_preset(const Json& fixture) {
  NormConfig config;
  const std::string name = fixture.at("name").get<std::string>();
  config.preset = fixture.at("preset").is_null() ? "" : fixture.at("preset").get<std::string>();
  if (name.find("post_embed_norm") != std::string::npos) config.preset = "post_shifted";
  if (name.find("mix_ln_shifted") != std::string::npos) {
    config.preset = "mix_shifted";
    config.post_layers = 1;
  }
  config.span.scaling = SpanScaling::none;  // the fixture's weights are given, not drawn
  config.eps = fixture.at("model").at("norm_eps").get<double>();
  return config;
}

void preset_case(const std::filesystem::path& path) {
  const Json fixture = read_json(path, 1 << 24);
  const NormConfig config = fixture_preset(fixture);
  if (config.preset.empty()) GTEST_SKIP() << "its placement is not a preset";
  NormPlan want = testing::fixture_plan(fixture);
  NormPlan got = plan_of(config, static_cast<std::int64_t>(want.layers.size()));
  for (LayerPolicy& layer : got.layers) {  // fixtures say nothing about initial weights
    layer.attention.branch_init_scale = layer.mlp.branch_init_scale = 1.0;
  }
  EXPECT_EQ(got, want) << to_table(got) << "\nbut the fixture says\n" << to_table(want);
}

const bool kRegistered =
    testing::announce([] { testing::register_fixture_cases("PresetFixtures", "parity", &preset_case); });

ModelConfig model_550m() {
  ModelConfig model;
  model.d_model = 1536;
  model.num_layers = 16;
  model.num_heads = 16;
  model.num_kv_heads = 4;
  model.mlp_dim = 4096;
  return model;
}

TEST(NormPlan, CountsNormParametersAsThePapersTable) {
  const std::map<std::string, std::int64_t> want = {
      {"pre", 50688},          {"mix", 50688},         {"post", 49152},        {"deep", 49152},
      {"post_shifted", 50688}, {"qk", 53760},          {"olmoe", 81408},       {"qkv", 30720},
      {"hybrid", 30720},       {"hybrid_star", 32256}, {"pre_qkv_pre", 55296}, {"pre_qkv_post", 55296},
      {"span", 50688},         {"olmo2", 81408},       {"sandwich", 99840},    {"peri", 101376},
  };
  for (const auto& [name, count] : want) EXPECT_EQ(norm_count(preset(name, 16), model_550m()), count) << name;
}

TEST(NormPlan, EveryNameIsKnownAndDistinctPlansHaveDistinctNames) {
  const std::vector<std::string> names = preset_names();
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  for (const std::string& name : names) EXPECT_EQ(preset(name, 8).layers.size(), 8u) << name;
}

// The list of keys is in a room that does not know the presets.
TEST(NormPlan, TheListOfKeysNamesThePresets) {
  NormConfig config;
  config.preset = "";
  const std::string problem = only_problem(config, 4), before = "allowed: ", after = ", or an ablation";
  const std::size_t first = problem.find(before) + before.size();
  const std::string names = problem.substr(first, problem.find(after) - first);
  std::string keys = list_keys("norm.preset");
  std::erase_if(keys, [](char c) { return c == ' ' || c == '\n'; });
  std::string wanted = names;
  std::erase(wanted, ' ');
  EXPECT_NE(keys.find(wanted), std::string::npos) << names;
}

TEST(Sites, EveryMemberIsVisited) {
  std::size_t wiring = 0, inner = 0;
  const WiringSites<char> around_branch;
  const InnerSites<char> inside_attention;
  visit_wiring_sites([&](const SiteInfo&, char) { ++wiring; }, around_branch);
  visit_inner_sites([&](const SiteInfo&, char) { ++inner; }, inside_attention);
  EXPECT_EQ(wiring, sizeof(WiringSites<char>));
  EXPECT_EQ(inner, sizeof(InnerSites<char>));
}

TEST(Sites, KeysAndParametersFollowFromTheList) {
  std::vector<std::string> keys, parameters;
  const auto note = [&](const LayerSite& site, const NormSite&) {
    keys.push_back(site.key());
    parameters.push_back(site.parameter());
  };
  const LayerPolicy layer{};
  visit_sites(note, layer);
  EXPECT_EQ(keys.front(), "attention.in");
  EXPECT_EQ(keys.back(), "mlp.sum");
  EXPECT_EQ(keys[6], "inner.q");
  EXPECT_EQ(parameters[6], "attention.norm_q");
  EXPECT_EQ(parameters.back(), "mlp.norm_sum");
}

TEST(NormPlan, WholeNamesWinOverTheAblationGrammar) {
  EXPECT_EQ(preset("qk", 8), preset("pre_qk_pre", 8));
  EXPECT_EQ(preset("qk", 8), preset("pre_qk", 8));
  EXPECT_EQ(preset("qkv", 8), preset("qkv_pre", 8));
  EXPECT_EQ(preset("hybrid", 8), preset("qkv_post", 8));
  EXPECT_EQ(preset("pre", 8), preset("pre_pre", 8));
  EXPECT_EQ(preset("post_shifted", 8), preset("post_post", 8));
  EXPECT_NE(preset("post", 8), preset("post_pre", 8));
}

// Edits of layer 0 turn HybridNorm into HybridNorm*.
TEST(NormPlan, HybridStarIsHybridWithLayerZeroReplaced) {
  NormConfig config;
  config.preset = "hybrid";
  LayerEdit edit;
  edit.attention.in.kind = NormKind::rms;
  edit.mlp.skip = SkipSource::stream;
  config.layers["0"] = edit;
  EXPECT_EQ(plan_of(config, 12), preset("hybrid_star", 12));
}

TEST(NormPlan, MixReachesPreAndPost) {
  NormConfig config;
  config.preset = "mix";
  config.post_layers = 0;
  EXPECT_EQ(plan_of(config, 6), preset("pre", 6));
  config.post_layers = 6;
  NormPlan all_post = plan_of(config, 6);
  EXPECT_TRUE(all_post.final.present());
  all_post.final = {};
  EXPECT_EQ(all_post, preset("post", 6));
  config.preset = "mix_shifted";
  EXPECT_EQ(plan_of(config, 6), preset("post_shifted", 6));
}

TEST(NormPlan, DeepHasThePapersConstants) {
  for (const auto& [layers, alpha, beta] : {std::tuple{12, 2.213, .3195}, {16, 2.378, .2973}, {29, 2.760, .2562}}) {
    const ResidualWiring wiring = preset("deep", layers).layers[0].mlp;
    EXPECT_NEAR(wiring.alpha, alpha, 5e-4);
    EXPECT_NEAR(wiring.branch_init_scale, beta, 5e-5);
  }
}

TEST(NormPlan, SpanSaysThatItsScalingIsDerived) {
  const NormPlan plan = preset("span", 4);
  EXPECT_TRUE(plan.layers[0].attention.in.present());
  EXPECT_FALSE(plan.layers[1].attention.in.present());
  EXPECT_EQ(plan.layers[2].mlp.skip, SkipSource::block);
  EXPECT_NE(to_table(plan).find("not taken from the paper"), std::string::npos);
  NormConfig config;
  config.preset = "span";
  config.span.scaling = SpanScaling::branch;
  EXPECT_DOUBLE_EQ(plan_of(config, 8).layers[3].mlp.beta, 0.25);
  config.span.scaling = SpanScaling::skip;
  EXPECT_DOUBLE_EQ(plan_of(config, 8).layers[3].attention.alpha, 4.0);
}

TEST(NormPlan, EditsApplyFromGeneralToParticular) {
  NormConfig config;
  config.preset = "pre";
  config.layers["3"].mlp.alpha = 3.0;
  config.layers["all"].mlp.alpha = 1.5;
  config.layers["2-3"].mlp.alpha = 2.0;
  config.layers["all"].attention.out.kind = NormKind::rms;
  config.layers["all"].attention.out.gain_init = 0.125;
  const NormPlan plan = plan_of(config, 4);
  EXPECT_EQ(plan.layers[0].mlp.alpha, 1.5);
  EXPECT_EQ(plan.layers[2].mlp.alpha, 2.0);
  EXPECT_EQ(plan.layers[3].mlp.alpha, 3.0);
  EXPECT_EQ(plan.layers[1].attention.out.gain_init, 0.125);
  EXPECT_EQ(plan.layers[1].attention.out.eps, 1e-5);
}

TEST(NormPlan, LayersAreNamedByPlainDigits) {
  for (const char* key : {"0x1", "1e0", "+1", "1_0", "1.0", "-1", "1-", "1-0x2", "01", ""}) {
    NormConfig config;
    config.preset = "pre";
    config.layers[key] = {};
    EXPECT_NE(only_problem(config, 12).find("not a layer of this model"), std::string::npos) << key;
  }
}

// validate() reports a wrong norm.eps. The sites that get it report nothing.
TEST(NormPlan, AWrongCommonEpsIsNotBlamedOnASite) {
  NormConfig config;
  config.preset = "pre";
  config.eps = 1.0;
  config.layers["1"].attention.out.kind = NormKind::rms;
  Problems problems;
  make_norm_plan(config, model_of(4), problems);
  EXPECT_TRUE(problems.empty());
  config.final.eps = 1.0;
  EXPECT_NE(only_problem(config, 4).find("below 1"), std::string::npos);
}

TEST(NormPlan, NamesWhatIsWrong) {
  NormConfig config;
  config.preset = "hybrd_star";
  EXPECT_NE(only_problem(config, 4).find("did you mean 'hybrid_star'"), std::string::npos);
  config.preset = "mix";
  EXPECT_NE(only_problem(config, 3).find("post_layers: 0"), std::string::npos);
  config.preset = "pre";
  config.post_layers = 2;
  EXPECT_NE(only_problem(config, 4).find("mix and mix_shifted"), std::string::npos);
  config.post_layers.reset();
  config.layers["4"] = {};
  EXPECT_NE(only_problem(config, 4).find("'3'"), std::string::npos);
  config.layers.clear();
  config.layers["1-2"] = {};
  config.layers["2-3"] = {};
  EXPECT_NE(only_problem(config, 4).find("overlaps"), std::string::npos);
  config.layers.clear();
  config.layers["1"].attention.skip = SkipSource::block;
  EXPECT_NE(only_problem(config, 4).find("allowed: stream, normed"), std::string::npos);
  config.layers.clear();
  config.layers["1"].attention.out.eps = 1e-6;
  EXPECT_NE(only_problem(config, 4).find("no norm here"), std::string::npos);
  config.layers.clear();
  config.kind = NormKind::none;
  EXPECT_NE(only_problem(config, 4).find("rms or layer"), std::string::npos);
}

// ---- From a plan back to a config ----

ModelConfig latent_model_of(std::int64_t layers) {
  ModelConfig model = model_of(layers);
  model.attention.kind = AttentionKind::mla;
  model.attention.q_rank = 24;
  model.attention.kv_rank = 16;
  model.attention.nope_dim = model.attention.value_dim = 8;
  model.attention.rope_dim = 4;
  return model;
}

// The plan of the config of a plan.
NormPlan plan_again(const NormPlan& plan, const ModelConfig& model) {
  Problems problems;
  NormPlan again = make_norm_plan(norm_config_of(plan, model), model, problems);
  for (const Problem& problem : problems) ADD_FAILURE() << problem.key << ": " << problem.text;
  return again;
}

TEST(NormConfigOf, EveryPresetIsFoundAgainWithoutEdits) {
  for (const ModelConfig& model : {model_of(5), latent_model_of(5)}) {
    for (const std::string& name : preset_names()) {
      for (const NormKind kind : {NormKind::rms, NormKind::layer}) {
        NormConfig config;
        config.preset = name;
        config.kind = kind;
        config.eps = 3e-6;
        if (name.starts_with("mix")) config.post_layers = 2;
        Problems problems;
        const NormPlan plan = make_norm_plan(config, model, problems);
        if (!problems.empty()) continue;  // latent attention cannot have every norm
        EXPECT_TRUE(plan_again(plan, model) == plan) << name;
        EXPECT_TRUE(norm_config_of(plan, model).layers.empty()) << name;
      }
    }
  }
}

// A plan with any sites, factors and skips, which differ from layer to layer.
NormPlan random_plan(std::mt19937& random, const ModelConfig& model, bool with_layer_norms) {
  const auto number = [&] { return std::uniform_real_distribution(0.1, 2.0)(random); };
  const auto site = [&] {
    NormSite result;
    result.kind = static_cast<NormKind>(random() % (with_layer_norms ? 3 : 2));
    if (result.present() && random() % 2 == 0) result.eps = random() % 3 == 0 ? 0.0 : 1e-3 * number();
    if (result.present() && random() % 2 == 0) result.gain_init = number();
    return result;
  };
  const auto fill_site = [&](const LayerSite& where, auto& filled) {
    const bool latent = where.group == SiteGroup::inner && std::is_same_v<decltype(filled), NormSite&>;
    if (latent && !model.is_latent()) return;
    static_cast<NormSite&>(filled) = site();
    if constexpr (std::is_same_v<decltype(filled), HeadSite&>) {
      filled.granularity = static_cast<Granularity>(random() % (model.is_latent() ? 1 : 2));
    }
  };
  const auto fill_wiring = [&](ResidualWiring& wiring, std::uint32_t skips) {
    wiring.skip = static_cast<SkipSource>(random() % skips);
    for (double* factor : {&wiring.in_gain, &wiring.alpha, &wiring.beta, &wiring.branch_init_scale}) *factor = number();
  };
  NormPlan plan;
  plan.embedding = site();
  plan.final = site();
  for (std::int64_t l = 0; l < model.num_layers; ++l) {
    LayerPolicy layer;
    visit_sites(fill_site, layer);
    fill_wiring(layer.attention, 2);
    fill_wiring(layer.mlp, 3);
    plan.layers.push_back(random() % 3 == 0 && l > 0 ? plan.layers.back() : layer);
  }
  return plan;
}

TEST(NormConfigOf, AnyPlanIsAPresetAndEdits) {
  std::mt19937 random(11);
  for (int i = 0; i < 60; ++i) {
    const ModelConfig model = i % 2 == 0 ? model_of(4) : latent_model_of(4);
    const NormPlan plan = random_plan(random, model, !model.is_latent());
    EXPECT_TRUE(plan_again(plan, model) == plan) << to_table(plan);
  }
}

TEST(NormConfigOf, OneOtherLayerIsOneEdit) {
  NormPlan plan = preset("hybrid", 6);
  plan.layers[3].mlp.alpha = 0.5;
  const NormConfig config = norm_config_of(plan, model_of(6));
  EXPECT_EQ(config.preset, "hybrid");
  ASSERT_EQ(config.layers.size(), 1u);
  EXPECT_EQ(config.layers.at("3").mlp.alpha, 0.5);
  EXPECT_FALSE(config.layers.at("3").attention.in.kind.has_value());
}

}  // namespace
}  // namespace norma
