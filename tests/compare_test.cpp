// Paired comparisons of models from predictions files; the expected numbers are computed by hand.
#include "norma/study/compare.h"

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "norma/base/error.h"

#include "support/errors.h"
#include "support/fixtures.h"

namespace norma::testing {
namespace {

// A document of two continuations, " yes" and " no"; the more probable one is `chosen`.
Json document(const std::string& task, std::int64_t number, std::int64_t label, std::int64_t chosen) {
  const double right = chosen == label ? 1.0 : 0.0;
  return {{"task", task},
          {"metric", "acc"},
          {"document", number},
          {"label", label},
          {"log_probabilities", chosen == 0 ? std::vector<double>{-1.0, -2.5} : std::vector<double>{-2.5, -1.0}},
          {"characters", {4, 3}},
          {"bytes", {4, 3}},
          {"scores", {{"acc", right}, {"len_norm", right}, {"bpb", chosen == label ? 0.5 : 1.25}}}};
}

// A document of one continuation has no accuracy.
Json text(const std::string& task, std::int64_t number, double bits) {
  return {{"task", task},
          {"metric", "bpb"},
          {"document", number},
          {"label", 0},
          {"log_probabilities", {-bits}},
          {"characters", {10}},
          {"bytes", {11}},
          {"scores", {{"bpb", bits}, {"ce_loss", bits / 2.0}}}};
}

// Documents 0, 1, ... with the label 0; `right` tells for which of them it is chosen.
std::vector<Json> answers(const std::string& task, const std::vector<int>& right) {
  std::vector<Json> lines;
  for (const int one : right) {
    lines.push_back(document(task, static_cast<std::int64_t>(lines.size()), 0, one == 1 ? 0 : 1));
  }
  return lines;
}

std::vector<Json> operator+(std::vector<Json> a, const std::vector<Json>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class Compare : public ::testing::Test {
 protected:
  static Json header(const std::string& model) {
    return {{"norma_predictions", 1},      {"model", model},       {"step", 100}, {"precision", "fp32"},
            {"tokenizer_checksum", "abc"}, {"context_length", 512}};
  }
  fs::path path(const std::string& name) const { return folder_.path() / name; }
  fs::path write(const std::string& name, const std::string& bytes) const {
    write_file_atomic(path(name), bytes);
    return path(name);
  }
  fs::path write(const std::string& name, const std::vector<Json>& documents) const {
    return write(name, header("runs/" + name), documents);
  }
  fs::path write(const std::string& name, const Json& head, const std::vector<Json>& documents) const {
    std::string bytes = head.dump() + "\n";
    for (const Json& one : documents) bytes += one.dump() + "\n";
    return write(name, bytes);
  }
  ModelComparison compare(const std::vector<Json>& a, const std::vector<Json>& b,
                          const std::string& metric = "") const {
    return compare_predictions({{write("a", a), write("b", b)}, metric}).others.at(0);
  }
  std::string refusal(const std::vector<Json>& a, const std::vector<Json>& b) const {
    return error_text<DataError>([&] { compare(a, b); });
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(Compare, AnAccuracyIsComparedDocumentByDocument) {
  const ModelComparison result = compare(answers("t", {1, 0, 1, 0}), answers("t", {1, 1, 1, 1}));
  ASSERT_EQ(result.tasks.size(), 1U);
  const TaskComparison& task = result.tasks[0];
  EXPECT_EQ(task.metric, TaskMetric::acc);
  EXPECT_EQ(task.documents, 4);
  EXPECT_DOUBLE_EQ(task.pair.a, 0.5);
  EXPECT_DOUBLE_EQ(task.pair.b, 1.0);
  EXPECT_DOUBLE_EQ(task.pair.difference, 0.5);
  // Differences 0, 1, 0, 1: sd = 1 / sqrt 3, t = sqrt 3 with 3 degrees of freedom.
  EXPECT_NEAR(task.pair.standard_error.value(), 1.0 / std::sqrt(12.0), 1e-12);
  EXPECT_NEAR(task.pair.p_value.value(), 0.5 - 1.0 / std::numbers::pi, 1e-12);
  EXPECT_NEAR(task.pair.low.value(), 0.5 - 3.182446305 / std::sqrt(12.0), 1e-8);
  EXPECT_NEAR(task.pair.high.value(), 0.5 + 3.182446305 / std::sqrt(12.0), 1e-8);
  EXPECT_EQ(task.discordant.value().only_a, 0);
  EXPECT_EQ(task.discordant.value().only_b, 2);
  EXPECT_NEAR(task.discordant.value().p_value, 0.5, 1e-12);
  EXPECT_TRUE(result.means.empty());
  EXPECT_TRUE(result.notes.empty());
}

TEST_F(Compare, FewDocumentsHaveWideIntervals) {
  const PairedDifference two = compare(answers("t", {0, 0}), answers("t", {1, 0})).tasks.at(0).pair;
  EXPECT_NEAR(two.p_value.value(), 0.5, 1e-12);  // t = 1 with one degree of freedom
  EXPECT_NEAR(two.high.value(), 0.5 + 0.5 * 12.7062047362, 1e-8);
  const PairedDifference one = compare(answers("t", {0}), answers("t", {1})).tasks.at(0).pair;
  EXPECT_EQ(one.difference, 1.0);
  EXPECT_FALSE(one.standard_error || one.low || one.high || one.p_value);
  const PairedDifference same = compare(answers("t", {0, 1, 1}), answers("t", {0, 1, 1})).tasks.at(0).pair;
  EXPECT_EQ(same.standard_error.value(), 0.0);
  EXPECT_EQ(same.p_value.value(), 1.0);
}

TEST_F(Compare, ManyDocumentsComeNearTheNormalDistribution) {
  std::vector<int> a(1001, 0), b(1001, 0);
  for (std::size_t i = 0; i < 40; ++i) b[i] = 1;
  for (std::size_t i = 40; i < 65; ++i) a[i] = 1;
  const TaskComparison task = compare(answers("t", a), answers("t", b)).tasks.at(0);
  const double mean = 15.0 / 1001.0, error = std::sqrt((65.0 - 1001.0 * mean * mean) / 1000.0 / 1001.0);
  EXPECT_NEAR(task.pair.standard_error.value(), error, 1e-12);
  EXPECT_NEAR(task.pair.high.value(), mean + 1.962339081 * error, 1e-9);  // Student's t with 1000 degrees of freedom
  EXPECT_NEAR(task.pair.p_value.value(), std::erfc(mean / error / std::sqrt(2.0)), 3e-4);
  double tail = 0.0;  // the probability of at most 25 heads of 65 fair coins
  for (int k = 0; k <= 25; ++k) {
    tail += std::exp(std::lgamma(66.0) - std::lgamma(k + 1.0) - std::lgamma(66.0 - k) - 65.0 * std::numbers::ln2);
  }
  EXPECT_NEAR(task.discordant.value().p_value, 2.0 * tail, 1e-11);
}

TEST_F(Compare, F1IsComparedByTheJackknife) {
  const std::vector<int> labels = {0, 0, 1, 1}, of_a = {0, 1, 1, 1}, of_b = {0, 0, 1, 0};
  std::vector<Json> a, b;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    a.push_back(document("t", static_cast<std::int64_t>(i), labels[i], of_a[i]));
    b.push_back(document("t", static_cast<std::int64_t>(i), labels[i], of_b[i]));
    a.back()["metric"] = b.back()["metric"] = "f1";
  }
  const TaskComparison task = compare(a, b).tasks.at(0);
  EXPECT_NEAR(task.pair.a, 2.0 / 3.0, 1e-12);
  EXPECT_NEAR(task.pair.b, 0.8, 1e-12);
  // Without one of the documents, B - A is 2/3, -1/3, 2/15 or 1/3.
  EXPECT_NEAR(task.pair.standard_error.value(), std::sqrt(0.75 * 118.0 / 225.0), 1e-12);
  EXPECT_FALSE(task.discordant);
}

TEST_F(Compare, MeansAreOfTasksWithOneUnit) {
  const std::vector<Json> bits_a = {text("bits", 0, 1.0), text("bits", 1, 2.0)};
  const std::vector<Json> bits_b = {text("bits", 0, 0.5), text("bits", 1, 2.0)};
  const ModelComparison result = compare(answers("s", {1, 0, 1, 0}) + answers("t", {1, 1}) + bits_a,
                                         answers("s", {1, 1, 1, 1}) + answers("t", {0, 1}) + bits_b);
  ASSERT_EQ(result.tasks.size(), 3U);
  EXPECT_DOUBLE_EQ(result.tasks[2].pair.difference, -0.25);
  EXPECT_FALSE(result.tasks[2].discordant);
  ASSERT_EQ(result.means.size(), 1U);
  const MeanComparison& mean = result.means[0];
  EXPECT_EQ(mean.unit, "accuracy");
  EXPECT_EQ(mean.tasks, 2);
  EXPECT_DOUBLE_EQ(mean.pair.a, 0.75);
  EXPECT_DOUBLE_EQ(mean.pair.b, 0.75);
  const double error = std::sqrt(1.0 / 12.0 + 0.25) / 2.0;
  EXPECT_NEAR(mean.pair.standard_error.value(), error, 1e-12);
  EXPECT_NEAR(mean.pair.high.value(), 1.959963985 * error, 1e-9);
  EXPECT_EQ(mean.pair.p_value.value(), 1.0);
}

TEST_F(Compare, AMetricCanBeAskedFor) {
  const std::vector<Json> a = answers("t", {1, 0}) + std::vector<Json>{text("bits", 0, 1.0)};
  const ModelComparison bits = compare(a, a, "bpb");
  EXPECT_EQ(bits.tasks.size(), 2U);
  EXPECT_DOUBLE_EQ(bits.tasks[0].pair.a, 0.875);
  EXPECT_EQ(bits.means.at(0).unit, "bits per byte");
  const ModelComparison choices = compare(a, a, "len_norm");
  EXPECT_EQ(choices.tasks.size(), 1U);
  EXPECT_TRUE(contains(choices.notes.at(0), "bits"));
  EXPECT_TRUE(contains(error_text<ConfigError>([&] { compare(a, a, "len_nrm"); }), "did you mean 'len_norm'?"));
  EXPECT_TRUE(contains(error_text<ConfigError>([&] { compare(a, a, "f1"); }), "has the metric asked for"));
}

TEST_F(Compare, WhatOneFileAloneHasIsLeftOutAndSaid) {
  const ModelComparison result =
      compare(answers("t", {1, 0, 1}) + answers("mine", {1}), answers("yours", {1}) + answers("t", {1, 1}));
  ASSERT_EQ(result.tasks.size(), 1U);
  EXPECT_EQ(result.tasks[0].documents, 2);
  ASSERT_EQ(result.notes.size(), 3U);
  EXPECT_TRUE(contains(result.notes[0], "only A has them: mine"));
  EXPECT_TRUE(contains(result.notes[1], "only B has them: yours"));
  EXPECT_TRUE(contains(result.notes[2], "1 of A and 0 of B"));
  EXPECT_TRUE(contains(refusal(answers("s", {1}), answers("t", {1})), "no document of a task in common"));
}

TEST_F(Compare, OtherTokenizersAndContextsAreNoted) {
  const std::vector<Json> documents = answers("t", {1, 0});
  Json other = header("other");
  other["tokenizer_checksum"] = "def";
  other["context_length"] = 2048;
  other["step"] = nullptr;
  const Comparison result = compare_predictions({{write("a", documents), write("b", other, documents)}, ""});
  EXPECT_FALSE(result.others[0].other.model.step);
  ASSERT_EQ(result.others[0].notes.size(), 2U);
  EXPECT_TRUE(contains(result.others[0].notes[0], "tokenizers differ"));
  EXPECT_TRUE(contains(result.others[0].notes[1], "(512 and 2048)"));
}

TEST_F(Compare, DocumentsThatDifferAreRefused) {
  const std::vector<Json> a = answers("t", {1, 0});
  const auto changed = [&](const char* key, const Json& value) {
    std::vector<Json> b = a;
    b[1][key] = value;
    if (std::string(key) == "log_probabilities") b[1]["characters"] = b[1]["bytes"] = {4, 3, 2};
    return refusal(a, b);
  };
  EXPECT_TRUE(contains(changed("document", 0), "b:3: document 0 of task t comes again"));
  EXPECT_TRUE(contains(changed("label", 1), "task t, document 1: labels differ, 0 and 1"));
  EXPECT_TRUE(contains(changed("log_probabilities", {-1, -2, -3}), "numbers of continuations differ, 2 and 3"));
  EXPECT_TRUE(contains(changed("bytes", {5, 3}), "lengths of continuations differ"));
  EXPECT_TRUE(contains(changed("scores", {{"bpb", 1.0}}), "only one of the files has 'acc'"));
}

TEST_F(Compare, AMalformedLineIsNamed) {
  const fs::path good = write("good", answers("t", {1, 0}));
  const auto broken = [&](const char* key, const Json& value) {
    std::vector<Json> documents = answers("t", {1, 0});
    documents[1][key] = value;
    return error_text<DataError>([&] { compare_predictions({{good, write("bad", documents)}, ""}); });
  };
  for (const auto& [key, value] : std::vector<std::pair<const char*, Json>>{{"task", 3},
                                                                            {"task", "a\nb"},
                                                                            {"metric", "best"},
                                                                            {"metric", "bpb"},
                                                                            {"document", -1},
                                                                            {"document", 1.5},
                                                                            {"label", 2},
                                                                            {"log_probabilities", Json::array()},
                                                                            {"bytes", {4, 3, 2}},
                                                                            {"log_probabilities", {-1, nullptr}},
                                                                            {"characters", {4, -3}},
                                                                            {"scores", 1},
                                                                            {"scores", {{"acc", 0.5}}}}) {
    const std::string error = broken(key, value);
    EXPECT_TRUE(contains(error, path("bad").string() + ":3")) << key << " " << value;
  }
  for (const std::string& bytes : {std::string("{\"norma_predictions\": 2}"), std::string("{}"), std::string(),
                                   std::string("{\"norma_predictions\": 1, \"model\": \"m\""), std::string("[1]"),
                                   header("m").dump() + "\n{\"task\": \"t\""}) {
    const std::string error = error_text<DataError>([&] { compare_predictions({{good, write("bad", bytes)}, ""}); });
    EXPECT_TRUE(contains(error, path("bad").string())) << bytes;
  }
  const std::string endless = header("m").dump() + "\n" + std::string((1 << 20) + 1, 'x');
  EXPECT_TRUE(contains(error_text<DataError>([&] {
                         compare_predictions({{good, write("bad", endless)}, ""});
                       }),
                       "a line must have at most"));
  EXPECT_TRUE(contains(error_text<ConfigError>([&] { compare_predictions({{good}, ""}); }), "at least two"));
}

TEST_F(Compare, ResultsLeadToTheirPredictions) {
  fs::create_directory(path("below"));
  write("below/predictions.jsonl", answers("t", {1, 0}));
  Json results = header("runs/a");
  results.erase("norma_predictions");
  results["norma_results"] = 1;
  results["predictions"] = "predictions.jsonl";
  const fs::path first = write("below/results.json", results.dump(2));
  const fs::path second = write("b", answers("t", {1, 1}));
  const Comparison result = compare_predictions({{first, second, first}, ""});
  ASSERT_EQ(result.others.size(), 2U);
  EXPECT_EQ(result.first.model.path, "runs/below/predictions.jsonl");
  EXPECT_DOUBLE_EQ(result.others[0].tasks.at(0).pair.difference, 0.5);
  EXPECT_DOUBLE_EQ(result.others[1].tasks.at(0).pair.difference, 0.0);
  // A line that holds the words of both keys.
  fs::copy_file(path("below/predictions.jsonl"), path("below/norma_predictions.jsonl"));
  results["predictions"] = "norma_predictions.jsonl";
  write("below/results.json", results.dump());
  EXPECT_EQ(compare_predictions({{first, second}, ""}).first.model.path, "runs/below/predictions.jsonl");
  results.erase("predictions");
  write("below/results.json", results.dump(2));
  EXPECT_TRUE(contains(error_text<DataError>([&] {
                         compare_predictions({{first, second}, ""});
                       }),
                       "without predictions"));
}

TEST_F(Compare, TheTableIsAlignedAndTheJsonComplete) {
  const fs::path a = write("a", answers("short", {1, 0, 1, 0}) + answers("a_longer_name", {1}));
  const fs::path b = write("b", answers("short", {1, 1, 1, 1}) + answers("a_longer_name", {0}));
  const Comparison result = compare_predictions({{a, b}, ""});
  const std::string table = compare_table(result);
  EXPECT_TRUE(contains(table, "A  runs/a, step 100"));
  const std::string head = "task             metric  ",
                    row = "short            acc               4  0.5000  1.0000  +0.5000";
  EXPECT_TRUE(contains(table, head));
  EXPECT_TRUE(contains(table, row));
  EXPECT_TRUE(contains(table, "mean of 2 tasks"));
  const Json json = to_json(result);
  const Json& task = json["others"][0]["tasks"]["short"];
  EXPECT_EQ(task["only_b"], 2);
  EXPECT_EQ(task["difference"], 0.5);
  EXPECT_TRUE(json["others"][0]["tasks"]["a_longer_name"]["standard_error"].is_null());
  EXPECT_EQ(json["others"][0]["means"]["accuracy"]["tasks"], 2);
  EXPECT_EQ(json["first"]["context_length"], 512);
}

}  // namespace
}  // namespace norma::testing
