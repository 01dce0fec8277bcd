// Numbers and durations of configs, as OLMo reads them.
#include "norma/config/number.h"

#include <cstdint>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "norma/config/yaml.h"

namespace norma {
namespace {

TEST(Numbers, IntegersFollowOlmo) {
  const std::vector<std::pair<const char*, std::int64_t>> good = {
      {"0", 0},
      {"-17", -17},
      {"+5", 5},
      {"1_000", 1000},
      {"0x10", 16},
      {"1e12", 1000000000000},
      {"1E3", 1000},
      {"4.0", 4},
      {"1.5e3", 1500},
      {"10e-1", 1},
      {"0e5", 0},
      {"5.", 5},
      {"9223372036854775807", INT64_MAX},
      {"-9223372036854775808", INT64_MIN},
      {"9007199254740993.0", 9007199254740993},
  };
  for (const auto& [text, value] : good) EXPECT_EQ(parse_integer(text), value) << text;
  for (const char* text : {"",     "-",           "1.5",   "1e-1", "abc",
                           "1e",   "e5",          "1 000", "1__0", "_1",
                           "1_",   "007",         "0x",    "0x-1", "9223372036854775808",
                           "1e19", "1e999999999", "--1",   ".",    "1e12T",
                           "5 ",   "nan"}) {
    EXPECT_EQ(parse_integer(text), std::nullopt) << text;
  }
}

TEST(Numbers, DoublesAreFiniteDecimals) {
  const std::vector<std::pair<const char*, double>> good = {
      {"3e-4", 3e-4},
      {".5", 0.5},
      {"-2.50", -2.5},
      {"1_000.5", 1000.5},
      {"0.1", 0.1},
      {"1e+2", 100},
      {"7", 7},
      {"0x10", 16},
      {"4.9406564584124654e-324", 4.9406564584124654e-324},
  };
  for (const auto& [text, value] : good) EXPECT_EQ(parse_double(text), value) << text;
  for (const char* text : {"", ".inf", "inf", ".nan", "nan", "1e999", "1,5", "1.2.3", "3e-4x", "00.5", "e", "0x1p3"}) {
    EXPECT_EQ(parse_double(text), std::nullopt) << text;
  }
}

TEST(Numbers, DurationsAreStepsTokensOrEpochs) {
  EXPECT_EQ(parse_duration("500"), (Duration{500, DurationUnit::steps}));
  EXPECT_EQ(parse_duration("1e12T"), (Duration{1e12, DurationUnit::tokens}));
  EXPECT_EQ(parse_duration("8_388_608_000T"), (Duration{8388608000.0, DurationUnit::tokens}));
  EXPECT_EQ(parse_duration("1.9T"), (Duration{1, DurationUnit::tokens}));  // int(float("1.9"))
  EXPECT_EQ(parse_duration("2ep"), (Duration{2, DurationUnit::epochs}));
  EXPECT_EQ(parse_duration("30min"), (Duration{30, DurationUnit::minutes}));
  EXPECT_EQ(parse_duration("0.5 min"), (Duration{0.5, DurationUnit::minutes}));
  EXPECT_EQ(parse_duration("1.5h"), (Duration{90, DurationUnit::minutes}));
  for (const char* text : {"", "T", "ep", "min", "h", "1.5ep", "1.5", "5t", "5 steps", "1e300", "T5"}) {
    EXPECT_EQ(parse_duration(text), std::nullopt) << text;
  }
}

TEST(Numbers, PrintedDurationsReadBackEqual) {
  EXPECT_EQ(to_string(Duration{1e9, DurationUnit::tokens}), "1e9T");
  EXPECT_EQ(to_string(Duration{1.5e11, DurationUnit::tokens}), "1.5e11T");
  EXPECT_EQ(to_string(Duration{500, DurationUnit::steps}), "500");
  EXPECT_EQ(to_string(Duration{2, DurationUnit::epochs}), "2ep");
  EXPECT_EQ(to_string(Duration{0.5, DurationUnit::minutes}), "0.5min");
  for (const double value : {1.0, 1000.0, 8388608000.0, 1234567.0, 1e15, 9007199254740991.0}) {
    for (const auto unit : {DurationUnit::steps, DurationUnit::tokens, DurationUnit::epochs}) {
      const Duration duration{value, unit};
      EXPECT_EQ(parse_duration(to_string(duration)), duration) << to_string(duration);
    }
  }
}

// The values that overrides give stand in the resolved config, which reads back to the same.
TEST(Overrides, ReachTheResolvedConfig) {
  const std::vector<std::string> overrides = {
      "norm.preset=span",          "norm.span.scaling=branch", "init.std=0.02",
      "init.scale_embedding=true", "optim.decay_biases=false", "parallel.recompute_n=3",
      "parallel.console_ranks=[]", "eval.task_documents=500",  "eval.batch_tokens=4096",
      "eval.context_length=1024",  "eval.reuse_context=true"};
  const LoadedConfig loaded = load_config("", overrides);
  EXPECT_TRUE(loaded.problems.empty());
  const std::map<std::string, std::string> values = values_by_key(loaded.config);
  for (const std::string& override : overrides) {
    const std::size_t equals = override.find('=');
    EXPECT_EQ(values.at(override.substr(0, equals)), override.substr(equals + 1));
  }
  EXPECT_TRUE(parse_config(to_yaml(loaded.config), "resolved.yaml").config == loaded.config);
}

}  // namespace
}  // namespace norma
