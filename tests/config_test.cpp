// Configs: reading, every kind of mistake, overrides, printing, the list of keys, ranges.
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "norma/base/error.h"
#include "norma/base/text.h"
#include "norma/config/names.h"
#include "norma/config/yaml.h"

#include "support/fixtures.h"

namespace norma {
namespace {

namespace fs = std::filesystem;
using Lines = std::vector<std::string>;

// A config file "run.yaml" with the given text.
class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text) { std::ofstream(path(), std::ios::binary) << text; }
  std::string path() const { return (folder_.path() / "run.yaml").string(); }

 private:
  testing::TemporaryFolder folder_;
};

// All problems of a file and of overrides, as users read them, without the name of the file's folder.
Lines complaints(const std::string& text, const Lines& overrides = {}) {
  const ConfigFile file(text);
  const LoadedConfig loaded = load_config(file.path(), overrides);
  const Problems problems = loaded.problems.empty() ? validate(loaded.config) : loaded.problems;
  Lines lines = describe(problems, loaded.source);
  for (std::string& line : lines) {
    const std::size_t at = line.find("run.yaml");
    if (line[0] == '/' && at != std::string::npos) line.erase(0, at);
  }
  return lines;
}

Lines override_complaints(const Lines& overrides) {
  const LoadedConfig loaded = load_config("", overrides);
  return describe(loaded.problems.empty() ? validate(loaded.config) : loaded.problems, loaded.source);
}

RunConfig read(const std::string& text, const Lines& overrides = {}) {
  const ConfigFile file(text);
  const LoadedConfig loaded = load_config(file.path(), overrides);
  EXPECT_EQ(describe(loaded.problems, loaded.source), Lines{});
  return loaded.config;
}

void expect_parts(const std::string& line, const Lines& parts) {
  for (const std::string& part : parts)
    EXPECT_NE(line.find(part), std::string::npos) << part << "\nis not in\n" << line;
}

TEST(Names, EnumsHaveOneSpelling) {
  EXPECT_EQ(enum_name(Device::automatic), "auto");
  EXPECT_EQ(parse_enum<NormKind>("rms"), NormKind::rms);
  EXPECT_EQ(parse_enum<NormKind>("RMS"), std::nullopt);
}

TEST(Reading, EveryKindOfValueIsUnderstood) {
  const RunConfig config = read(R"(
run: {name: "null", deterministic: Yes, device: cpu}
model: {d_model: 1e3, num_kv_heads: null, head_dim: 64, clip_qkv: 8}
norm:
  final: none
  layers:
    "0": {attention: {in: layer, skip: normed}, inner: {q: {kind: rms, granularity: whole}}}
data: {paths: only.npy}
train: {max_duration: "1e9T"}
optim: {betas: [0.8, 0.9]}
eval: {sets: {books: [a.npy, 'b.npy'], wiki: c.npy}}
checkpoint:
)");
  EXPECT_EQ(config.run.name, "null");
  EXPECT_TRUE(config.run.deterministic);
  EXPECT_EQ(config.model.d_model, 1000);
  EXPECT_EQ(config.model.num_kv_heads, std::nullopt);
  EXPECT_EQ(config.model.head_dim, 64);
  EXPECT_EQ(config.norm.final.kind, NormKind::none);
  const LayerEdit& layer = config.norm.layers.at("0");
  EXPECT_EQ(layer.attention.in.kind, NormKind::layer);
  EXPECT_EQ(layer.attention.skip, SkipSource::normed);
  EXPECT_EQ(layer.inner.q.granularity, Granularity::whole);
  EXPECT_EQ(layer.mlp.in.kind, std::nullopt);
  EXPECT_EQ(config.data.paths, Lines{"only.npy"});
  EXPECT_EQ(config.train.max_duration, (Duration{1e9, DurationUnit::tokens}));
  EXPECT_EQ(config.optim.betas, (std::vector<double>{0.8, 0.9}));
  EXPECT_EQ(config.eval.sets.at("books"), (Lines{"a.npy", "b.npy"}));
  EXPECT_EQ(config.eval.sets.at("wiki"), Lines{"c.npy"});
  EXPECT_EQ(config.checkpoint.every, 1000);
}

TEST(Reading, AnchorsMayBeUsedWithinTheBudget) {
  const RunConfig config = read("norm: {layers: {'0': &a {mlp: {in: rms}}, '1': *a}}");
  EXPECT_EQ(config.norm.layers.at("1").mlp.in.kind, NormKind::rms);
}

struct WrongConfig {
  const char* text;
  Lines parts;  // parts of the only message
};

// Each message names the file, the line and the key, and says what was given and what is allowed.
TEST(Reading, EveryMistakeIsExplained) {
  const std::vector<WrongConfig> all = {
      {"modle: {d_model: 8}", {"run.yaml:1: modle: unknown key", "'model'", "run, model, norm"}},
      {"model:\n  num_haeds: 8",
       {"run.yaml:2: model.num_haeds: unknown key", "'model.num_heads'", "d_model, num_layers"}},
      {"train:\n\n  lr: 1", {"run.yaml:3: train.lr: unknown key", "'optim.lr'", "max_duration"}},
      {"norm: {layers: {'3': {mpl: {}}}}", {"run.yaml:1: norm.layers.3.mpl", "'norm.layers.3.mlp'"}},
      {"model: {d_model: wide}", {"run.yaml:1: model.d_model: must be an integer", "'wide'"}},
      {"model: {d_model: 1.5}", {"model.d_model: must be an integer", "'1.5'"}},
      {"model: {d_model: '512'}", {"must be an integer", "quoted text '512'"}},
      {"model: {d_model: [1]}", {"must be an integer", "a list"}},
      {"model: {d_model: }", {"must be an integer", "nothing"}},
      {"optim: {lr: .nan}", {"optim.lr: must be a finite number", "'.nan'"}},
      {"data: {shuffle: 1}", {"data.shuffle: must be true or false", "'1'"}},
      {"precision: bf17", {"run.yaml:1: precision: must be one of fp64, fp32, bf16", "'bf17'", "did you mean 'bf16'?"}},
      {"norm:\n  layers:\n    all:\n      mlp: {in: rmss}",
       {"run.yaml:4: norm.layers.all.mlp.in", "none, rms, layer", "'rms'"}},
      {"norm: {final: }", {"norm.final", "a bare kind or a section with the keys kind, eps, gain_init", "nothing"}},
      {"train: {max_duration: long}",
       {"train.max_duration", "500 (steps), 1e9T (tokens), 2ep (epochs), 30min or 2h", "'long'"}},
      {"optim: {betas: 0.9}", {"optim.betas: must be a list", "'0.9'"}},
      {"optim: {betas: [0.9, x]}", {"optim.betas[1]: must be a finite number", "'x'"}},
      {"eval: {sets: [a.npy]}", {"eval.sets: must be a map", "a list"}},
      {"model: 5", {"run.yaml:1: model: must be a section with the keys d_model", "'5'"}},
      {"words only", {"run.yaml:1: must be a section", "run, model, norm", "'words only'"}},
      {"run: {name: a}\nmodel: {}\nrun: {name: b}", {"run.yaml:3: run: this key stands twice", "line 1", "line 3"}},
      {"run:\n\tname: a", {"run.yaml:2: not valid YAML", "indent with spaces, not tabs"}},
      {"run: {name: a", {"run.yaml:1: not valid YAML"}},
      {"run: !!python/object:os.system {name: a}", {"run.yaml:1: run: the tag", "is not allowed"}},
      {"run: {name: a}\n---\nrun: {name: b}", {"run.yaml:2: a second document"}},
      {"run:\n  name: \"\xff\"", {"run.yaml:2: byte 0xff is not UTF-8"}},
      {"run: {? [a] : b}", {"run.yaml:1: a key must be a word"}},
      {"data: {paths: *.npy}", {"run.yaml:1: not valid YAML", "starts with '*' needs quotes"}},
      {"norm: &n {final: *n}", {"run.yaml:1: an alias cannot be inside the value that it names"}},
      {"optim: {<<: {lr: 1}}", {"run.yaml:1: optim.<<: merge keys are not allowed"}},
  };
  for (const WrongConfig& wrong : all) {
    const Lines lines = complaints(wrong.text);
    ASSERT_EQ(lines.size(), 1u) << wrong.text << "\n" << join(lines, "\n");
    expect_parts(lines[0], wrong.parts);
  }
}

TEST(Reading, AllMistakesAreReportedAtOnceInOrderOfLines) {
  const Lines lines = complaints("optim:\n  lr: fast\n  beta: 1\nrun: {seed: x}\nmodel: {d_model: 8, d_model: 9}",
                                 {"train.z_loss=abc", "train.z_loss=1e-4"});
  ASSERT_EQ(lines.size(), 5u);
  expect_parts(lines[0], {"run.yaml:2: optim.lr"});
  expect_parts(lines[1], {"run.yaml:3: optim.beta", "'optim.betas'"});
  expect_parts(lines[2], {"run.yaml:4: run.seed"});
  expect_parts(lines[3], {"run.yaml:5: model.d_model", "twice"});
  expect_parts(lines[4], {"argument 'train.z_loss=abc'", "finite number"});
}

TEST(Limits, NulBytesAreRefused) {
  expect_parts(complaints(std::string("run:\n  name: a\0b\n", 17)).at(0), {"run.yaml:2", "0x00"});
}

TEST(Limits, AliasBombsAreRefused) {
  std::string bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n";
  for (char c = 'b'; c < 'k'; ++c) {
    const std::string use = cat("*", static_cast<char>(c - 1));
    bomb += cat(c, ": &", c, " [", use, ",", use, ",", use, ",", use, ",", use, ",", use, ",", use, "]\n");
  }
  expect_parts(complaints(bomb).at(0), {"run.yaml:", "more than 20,000 values", "aliases"});
  std::string long_text = "a: &a " + std::string(500000, 'x') + "\nb: [*a, *a, *a]\n";
  expect_parts(complaints(long_text).at(0), {"run.yaml:2", "1 MiB of text once aliases are expanded"});
}

TEST(Limits, DeepNestingIsRefused) {
  for (const char* opening : {"[", "{", "- ", "? ", "[a: "}) {
    std::string text;
    for (int i = 0; i < 2000; ++i) text += opening;
    expect_parts(complaints(text).at(0), {"run.yaml:1", "deeper than 64 levels"});
  }
}

TEST(Limits, ManyValuesAndHugeFilesAreRefused) {
  std::string many;
  for (int i = 0; i < 30000; ++i) many += cat("k", i, ": 1\n");
  expect_parts(complaints(many).at(0), {"more than 20,000 values"});
  EXPECT_THROW(complaints(std::string(2 << 20, '#')), ConfigError);
}

TEST(Limits, UnreadableFilesAreConfigErrorsThatNameThePath) {
  try {
    load_config("no/such/file.yaml", {});
    FAIL() << "a missing file was read";
  } catch (const ConfigError& error) {
    expect_parts(error.what(), {"no/such/file.yaml"});
  }
}

TEST(Overrides, ApplyInOrderOnTopOfTheFile) {
  const RunConfig config = read("norm: {layers: {'3': {attention: {in: layer, alpha: 2}}}}\nmodel: {head_dim: 64}",
                                {"optim.lr=1", "optim.lr=1e-3", "norm.layers.3.attention.in=rms",
                                 "model.head_dim=", "norm.layers.3={mlp: {beta: 3}}", "norm.layers.all.mlp.out=rms",
                                 "data.paths=[a, b]", "optim={eps: 1e-6}", "eval.sets.books=b.npy", "run.name=a=b"});
  EXPECT_EQ(config.optim.lr, 1e-3);
  EXPECT_EQ(config.optim.eps, 1e-6);
  EXPECT_EQ(config.model.head_dim, std::nullopt);
  EXPECT_EQ(config.data.paths, (Lines{"a", "b"}));
  EXPECT_EQ(config.run.name, "a=b");
  EXPECT_EQ(config.eval.sets.at("books"), Lines{"b.npy"});
  const LayerEdit& layer = config.norm.layers.at("3");
  EXPECT_EQ(layer.attention.in.kind, NormKind::rms);
  EXPECT_EQ(layer.attention.alpha, 2.0);
  EXPECT_EQ(layer.mlp.beta, 3.0);
  EXPECT_EQ(config.norm.layers.at("all").mlp.out.kind, NormKind::rms);
}

TEST(Overrides, AMapGivenAsAWholeReplacesAndAnEntryJoins) {
  const std::string text = "norm: {layers: {'3': {attention: {in: layer}}}}\neval: {sets: {old: a.npy}}";
  EXPECT_TRUE(read(text, {"norm.layers={}"}).norm.layers.empty());
  EXPECT_TRUE(read(text, {"eval.sets={}"}).eval.sets.empty());
  EXPECT_TRUE(read(text, {"eval={sets: {}}"}).eval.sets.empty());
  const RunConfig config = read(text, {"eval.sets={new: b.npy}", "eval.sets.more=c.npy", "norm.layers.1.mlp.in=rms"});
  EXPECT_EQ(config.eval.sets, (std::map<std::string, Lines>{{"new", {"b.npy"}}, {"more", {"c.npy"}}}));
  EXPECT_EQ(config.norm.layers.size(), 2u);
}

TEST(Overrides, MistakesNameTheArgumentAndTheNearestKey) {
  const std::vector<std::pair<std::string, Lines>> all = {
      {"modle.num_heads=3", {"did you mean 'model.num_heads'?", "run, model"}},
      {"modle.num_haeds=3", {"did you mean 'model.num_heads'?"}},
      {"model.num_haeds=3", {"did you mean 'model.num_heads'?", "takes d_model"}},
      {"lr=3", {"did you mean 'optim.lr'?"}},
      {"norm.layers.3.attenton.in=rms", {"did you mean 'norm.layers.3.attention.in'?"}},
      {"norm.layers={'3': {mlp: {in: rmss}}}", {"norm.layers.3.mlp.in: must be one of", "'rms'"}},
      {"optim.lr.peak=3", {"must be a finite number", "a section"}},
      {"train.z_loss=abc", {"must be a finite number", "'abc'"}},
      {"train.z_loss=", {"must be a finite number", "nothing"}},
      {"optim.lr", {"must be key=value"}},
      {"=5", {"must be key=value"}},
      {"optim..lr=5", {"must be key=value"}},
      {"run.name=[a", {"not valid YAML"}},
      {"data.paths=*.npy", {"needs quotes"}},
      {"optim.lr=-1", {"must be finite and above 0", "-1"}},
  };
  for (const auto& [argument, parts] : all) {
    const Lines lines = override_complaints({argument});
    ASSERT_EQ(lines.size(), 1u) << argument << "\n" << join(lines, "\n");
    expect_parts(lines[0], {cat("argument '", argument, "': ")});
    expect_parts(lines[0], parts);
  }
}

TEST(Describe, FindsTheNearestGivenKey) {
  const ConfigFile file("model:\n  num_heads: 16\nnorm:\n  layers:\n    '3': {}\n");
  const LoadedConfig loaded =
      load_config(file.path(), {"norm.final=rms", "model.num_heads=8", "norm.layers.9.mlp.sum=rms"});
  const Lines lines = describe({{"model.num_heads", 0, "A"},
                                {"norm.layers.3.mlp.in.eps", 0, "B"},
                                {"train.z_loss", 0, "C"},
                                {"model.d_model", 0, "D"},
                                {"norm.final.eps", 0, "E"},
                                {"norm.layers.9", 0, "F"}},
                               loaded.source);
  EXPECT_EQ(lines, (Lines{cat(file.path(), ": train.z_loss: C"), cat(file.path(), ":1: model.d_model: D"),
                          cat(file.path(), ":5: norm.layers.3.mlp.in.eps: B"), "argument 'model.num_heads=8': A",
                          "argument 'norm.final=rms': norm.final.eps: E", "argument 'norm.layers.9.mlp.sum=rms': F"}));
}

TEST(Validation, RangesNameKeyValueAndLimits) {
  const std::vector<std::pair<const char*, Lines>> all = {
      {"run.name=../evil", {"letters, digits", "'../evil'"}},
      {"run.name=.hidden", {"not starting with '.'"}},
      {"model.num_layers=0", {"from 1 to 10,000", "got 0"}},
      {"model.d_model=2e6", {"to 1,048,576", "2,000,000"}},
      {"model.num_heads=7", {"must divide d_model = 256", "head_dim"}},
      {"model.num_kv_heads=3", {"must divide num_heads = 8", "1, 2, 4, 8"}},
      {"model.head_dim=33", {"even", "33"}},
      {"model.embedding_rows=100", {"from 8,192"}},
      {"model.sequence_length=1", {"from 2"}},
      {"model.document_separator=8192", {"from 0 to 8,191"}},
      {"norm.kind=none", {"rms or layer"}},
      {"norm.eps=-1e-5", {"at least 0"}},
      {"norm.mix_alpha=2", {"from 0 to 1"}},
      {"init.cutoff=-1", {"at least 0"}},
      {"train.micro_batch_size=9", {"from 1 to 8"}},
      {"train.max_duration=0", {"above 0"}},
      {"train.stop_at=0", {"from 1"}},
      {"train.max_duration=1e13", {"2^53 tokens"}},
      {"optim.betas=[0.9]", {"two numbers"}},
      {"optim.betas=[0.9, 1.0]", {"optim.betas[1]: must be at least 0 and below 1"}},
      {"optim.lr=0", {"above 0"}},
      {"schedule.alpha_f=1.5", {"from 0 to 1"}},
      {"schedule.t_max=0", {"from 1"}},
      {"schedule.kind=wsd", {"schedule.decay: must be from 1"}},
      {"schedule.kind=inverse_sqrt", {"schedule.warmup: must be above 0"}},
      {"schedule.decay=5", {"wsd only"}},
      {"eval.sets={a/b: [x.npy]}", {"a label is made of letters"}},
      {"data.paths=['']", {"name of a file"}},
      {"metrics.every=0", {"from 1"}},
      {"model={d_model: 1048576, num_layers: 10000, mlp_dim: 16777216, num_heads: 16}", {"about 5.7", "at most 2^57"}},
      {"model={num_layers: 10000, mlp_dim: 1e6, sequence_length: 16777216}", {"the activations", "2^58 elements"}},
  };
  for (const auto& [argument, parts] : all) {
    const Lines lines = override_complaints({argument});
    ASSERT_EQ(lines.size(), 1u) << argument << "\n" << join(lines, "\n");
    expect_parts(lines[0], parts);
  }
  EXPECT_EQ(override_complaints({"model.num_heads=0", "model.sequence_length=-1", "model.vocab_size=0"}).size(), 3u);
}

TEST(Printing, ShippedConfigsAreValidAndReadBackEqual) {
  int configs = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(NORMA_SOURCE_DIR) / "configs")) {
    if (!entry.is_regular_file()) continue;  // recipes are parts of configs
    const LoadedConfig loaded = load_config(entry.path().string(), {});
    EXPECT_EQ(describe(loaded.problems, loaded.source), Lines{});
    EXPECT_EQ(describe(validate(loaded.config), loaded.source), Lines{});
    EXPECT_TRUE(read(to_yaml(loaded.config)) == loaded.config) << entry.path();
    ++configs;
  }
  EXPECT_GE(configs, 9);
}

TEST(Printing, OddValuesReadBackEqual) {
  RunConfig config;
  for (const char* text : {"",
                           "null",
                           "~",
                           "true",
                           "No",
                           "1e5",
                           "a: b",
                           "- x",
                           "*a",
                           "&a",
                           "!t",
                           "# c",
                           "a #b",
                           "it's",
                           "\"q\"",
                           "back\\slash",
                           "tab\tnew\nline",
                           "{}",
                           "[a]",
                           " lead",
                           "trail ",
                           "\u00e4\u4e2d",
                           "%x",
                           "@x",
                           "/data/a-b_c.npy",
                           "<<",
                           "\x7f"}) {
    config.data.paths.emplace_back(text);
    config.eval.sets[cat("key ", text)] = {text};
  }
  config.eval.sets["<<"] = {};
  config.optim.lr = 0.1 + 0.2;
  config.optim.eps = 5e-324;
  config.run.seed = INT64_MAX;
  config.model.clip_qkv = 1e300;
  config.norm.layers["1-3"].inner.q.granularity = Granularity::whole;
  config.norm.layers["all"].mlp.out.kind = NormKind::none;
  const RunConfig again = read(to_yaml(config));
  EXPECT_TRUE(again == config) << to_yaml(again);
  EXPECT_EQ(again.data.paths, config.data.paths);
  EXPECT_EQ(again.optim.lr, config.optim.lr);
}

TEST(Comparing, SeesEveryField) {
  RunConfig config = read(to_yaml(RunConfig{}));
  EXPECT_TRUE(config == RunConfig{});
  config.norm.layers["0"];
  EXPECT_FALSE(config == RunConfig{});
  RunConfig other = config;
  EXPECT_TRUE(config == other);
  other.norm.layers["0"].inner.context.eps = 0;
  EXPECT_FALSE(config == other);
}

TEST(Listing, ShowsTypeDefaultAndMeaningWithinTheWidth) {
  const std::string all = list_keys("");
  expect_parts(all, {"model.num_heads", "integer", "precision", "One of: none, rms, layer."});
  std::istringstream lines(all);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 110u) << line;
  EXPECT_EQ(all.find("norm.final.gain_init"), std::string::npos);
  expect_parts(list_keys("norm.final"), {"norm.final.gain_init"});
  expect_parts(list_keys("norm.layers.3.mlp"), {"norm.layers.<key>.mlp.skip"});
  EXPECT_EQ(list_keys("optim").find("model."), std::string::npos);
  EXPECT_THROW(list_keys("optimm"), ConfigError);
}

}  // namespace
}  // namespace norma
