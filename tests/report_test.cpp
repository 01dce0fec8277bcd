// The report on runs, from folders as training leaves them.
#include "norma/study/report.h"

#include <string>

#include <gtest/gtest.h>

#include "norma/base/error.h"
#include "norma/record/metrics.h"
#include "norma/record/run_folder.h"
#include "norma/record/summary.h"

#include "support/errors.h"
#include "support/fixtures.h"

namespace norma::testing {
namespace {

class ReportTest : public ::testing::Test {
 protected:
  // A finished run of 20 steps with a validation loss every two.
  fs::path add_run(const std::string& name, const std::string& preset) const {
    const fs::path folder = path(name);
    fs::create_directories(folder);
    RunDescription description;
    description.config.run.name = name;
    description.config.norm.preset = preset;
    write_description(folder, description);
    MetricsWriter metrics(folder, {0, false});
    for (std::int64_t step = 1; step <= 20; ++step) {
      metrics.write(step, {{metrics::kTrainLoss, 5.0}});
      const double loss = 4.0 - 0.1 * static_cast<double>(step);
      if (step % 2 == 0) metrics.write(step, {{metrics::validation_loss("books"), loss}});
    }
    Summary summary;
    summary.name = name;
    summary.outcome = Outcome::finished;
    summary.parameters = 1234567;
    summary.step = 20;
    summary.final_loss = 2.25;
    summary.seconds = 90.0;
    summary.training_seconds = 80.0;
    summary.tokens_per_second = 5000.0;
    write_summary(folder, summary);
    return folder;
  }
  fs::path path(const std::string& name) const { return folder_.path() / name; }
  static std::string markdown(const std::vector<fs::path>& runs) { return make_report({runs, {}, ""}).markdown; }

 private:
  TemporaryFolder folder_;
};

TEST_F(ReportTest, ComparesRunsSideBySide) {
  const Report report = make_report({{add_run("a", "pre"), add_run("b", "hybrid_star")}, {}, "Two runs."});
  EXPECT_TRUE(contains(report.markdown, "Two runs.\n"));
  EXPECT_TRUE(contains(report.markdown,
                       "| run | placement | parameters | steps | tokens | train loss | validation: books | tokens/s | "
                       "time |\n| --- |"));
  EXPECT_TRUE(contains(report.markdown, "| a | pre | 1,234,567 | 20 | 0 | 2.2500 | 2.0000 (ppl 7.4) | 5.0k | 1m30s |"));
  EXPECT_TRUE(contains(report.markdown, "## Validation over time: books\n\n| step | a | b |"));
  EXPECT_TRUE(contains(report.markdown, "| 4 | 3.6000 | 3.6000 |"));
  EXPECT_TRUE(contains(report.markdown, "| 20 | 2.0000 | 2.0000 |"));
  EXPECT_TRUE(contains(report.markdown, "| `norm.preset` | pre | hybrid_star |"));
  EXPECT_FALSE(contains(report.markdown, "`optim.lr`"));
  EXPECT_TRUE(contains(report.summary, "run  placement"));
}

TEST_F(ReportTest, ShowsWhatIsNotKnownAsADash) {
  const fs::path older = add_run("older", "pre"), training = add_run("training", "pre");
  Summary summary = read_summary(older);
  summary.training_seconds.reset();
  write_summary(older, summary);
  fs::remove(training / kSummaryFile);
  const std::string text = markdown({older, training});
  EXPECT_TRUE(contains(text, "| older | pre | 1,234,567 | 20 | 0 | 2.2500 | 2.0000 (ppl 7.4) | - | 1m30s |"));
  EXPECT_TRUE(contains(text, "| training | pre | - | - | - | - | 2.0000 (ppl 7.4) | - | - |"));
}

TEST_F(ReportTest, TakesTheRunsInsideAFolder) {
  add_run("all/b", "pre");
  add_run("all/a", "post");
  fs::create_directories(path("all/tokens"));
  const std::string text = markdown({path("all")});
  EXPECT_LT(text.find("| all/a | post |"), text.find("| all/b | pre |"));
  EXPECT_TRUE(contains(error_text<DataError>([&] { markdown({path("all/tokens")}); }), "holds none"));
}

TEST_F(ReportTest, FindsBaselineAndSamplesInTheRunFolder) {
  const fs::path a = add_run("a", "pre"), b = add_run("b", "post");
  write_file_atomic(a / kBaselineFile, json_text({{"books", {3.0, 2.0, 100}}}));
  write_texts(a / kSamplesFile, {{"The kernel", " is | small", 4, "length"}});
  std::string text = markdown({a, b});
  EXPECT_TRUE(contains(text, "| unigram counts | - | - | - | - | - | 3.0000 (ppl 20.1) | - | - |"));
  EXPECT_TRUE(contains(text, "| bigram counts | - | - | - | - | - | 2.0000 (ppl 7.4) | - | - |"));
  EXPECT_TRUE(contains(text, "## Sample: a\n\n```text\nThe kernel is | small\n```"));
  fs::copy_file(a / kBaselineFile, b / kBaselineFile);
  EXPECT_TRUE(contains(markdown({a, b}), "| unigram counts |"));
  write_file_atomic(b / kBaselineFile, json_text({{"books", {4.0, 3.5, 50}}}));
  text = markdown({a, b});
  EXPECT_TRUE(contains(text, "| unigram counts (a) |") && contains(text, "| bigram counts (b) |"));
  write_file_atomic(path("counts.json"), json_text({{"", {1.0, 0.5, 9}}}));
  text = make_report({{a, b}, path("counts.json"), ""}).markdown;
  EXPECT_TRUE(contains(text, "| unigram counts | - | - | - | - | - | 1.0000"));
}

TEST_F(ReportTest, NamesTheFileThatIsDamaged) {
  const fs::path run = add_run("a", "pre");
  write_file_atomic(run / kSummaryFile, "{}");
  EXPECT_TRUE(contains(error_text<DataError>([&] { markdown({run}); }), "a/summary.json: 'name' is missing"));
}

}  // namespace
}  // namespace norma::testing
