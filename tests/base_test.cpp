// The room base: text, log, threads, random numbers, layout. Files and JSON have tests of their own.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/base/layout.h"
#include "norma/base/log.h"
#include "norma/base/random.h"
#include "norma/base/text.h"
#include "norma/base/thread_pool.h"

#include "support/errors.h"
#include "support/fixtures.h"

namespace norma {

namespace {

using ::norma::testing::contains;
using ::norma::testing::TemporaryFolder;

TEST(Text, JoinsSplitsAndTrims) {
  EXPECT_EQ(join({"a", "b", "c"}, ", "), "a, b, c");
  EXPECT_EQ(join({}, ", "), "");
  EXPECT_EQ(split("a..b", '.'), (std::vector<std::string>{"a", "", "b"}));
  EXPECT_EQ(split("", '.'), std::vector<std::string>{""});
  EXPECT_EQ(trim(" \t a b\r\n"), "a b");
  EXPECT_EQ(trim(" \n"), "");
}

TEST(Text, WritesNumbersForPeople) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(-999), "-999");
  EXPECT_EQ(with_commas(1234567), "1,234,567");
  EXPECT_EQ(with_commas(-123456), "-123,456");
  EXPECT_EQ(fixed(2.5, 3), "2.500");
  EXPECT_EQ(human_bytes(512), "512 B");
  EXPECT_EQ(human_bytes(1.5 * 1024 * 1024 * 1024), "1.5 GiB");
  EXPECT_EQ(human_count(4500), "4.5k");
  EXPECT_EQ(human_count(1200000), "1.2M");
  EXPECT_EQ(human_count(999999), "1.0M");
  EXPECT_EQ(human_seconds(3.2), "3.2s");
  EXPECT_EQ(human_seconds(59.99), "1m00s");
  EXPECT_EQ(human_seconds(245), "4m05s");
  EXPECT_EQ(human_seconds(2 * 3600 + 3 * 60 + 4), "2h03m");
}

TEST(Text, ShortestTextReadsBackAsTheSameDouble) {
  EXPECT_EQ(shortest(0.1), "0.1");
  EXPECT_EQ(shortest(3e-4), "0.0003");
  EXPECT_EQ(shortest(1e12), "1e+12");
  EXPECT_EQ(shortest(0), "0");
  EXPECT_EQ(shortest(-2), "-2");
  EXPECT_EQ(shortest(1e-5), "1e-05");
  EXPECT_EQ(shortest(std::nan("")), "nan");
  EXPECT_EQ(shortest(-INFINITY), "-inf");
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const double value = std::pow(10, 40 * uniform(1, i) - 20);
    EXPECT_EQ(std::stod(shortest(value)), value);
  }
}

TEST(Text, NearestNamesOnlyPlausibleSlips) {
  const std::vector<std::string> names{"lr", "norm.preset", "model.num_heads", "model.num_layers"};
  EXPECT_EQ(nearest("lrr", names), "lr");
  EXPECT_EQ(nearest("norm.prseet", names), "norm.preset");
  EXPECT_EQ(nearest("num_layers", names), "model.num_layers");
  EXPECT_EQ(nearest("model.num_head", names), "model.num_heads");
  EXPECT_EQ(nearest("colour", names), "");
  EXPECT_EQ(nearest("xy", names), "");
  EXPECT_EQ(nearest("", names), "");
  EXPECT_EQ(nearest("a", {"b"}), "");
  EXPECT_EQ(did_you_mean("lrr", names), ", did you mean 'lr'?");
  EXPECT_EQ(did_you_mean("colour", names), "");
}

TEST(Log, FileReceivesEveryLineWithATimeStampAndConsoleOnlyItsLevel) {
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "run.log";
  ::testing::internal::CaptureStderr();
  start_log(LogLevel::warning, file.string());
  log_debug("first {}");
  log_info("second");
  log_warning("third");
  log_error("fourth");
  start_log(LogLevel::info, "");
  log_info("fifth");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "warning: third\nerror: fourth\nfifth\n");
  const std::vector<std::string> lines = split(read_file(file, 10000), '\n');
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_TRUE(contains(lines[0], " debug: first {}"));
  EXPECT_TRUE(lines[2].ends_with(" warning: third"));
  EXPECT_EQ(lines[2].size(), std::string("2000-01-01 00:00:00.000 warning: third").size());
}

TEST(Log, RefusesAFileItCannotWrite) {
  const TemporaryFolder folder;
  EXPECT_THROW(start_log(LogLevel::info, folder.path().string()), DiskError);
}

TEST(Log, ProgressIsAPlainLineAwayFromATerminal) {
  ::testing::internal::CaptureStderr();
  ProgressLine progress;
  if (!progress.on_terminal()) progress.update("step 1");
  progress.finish();
  const std::string shown = ::testing::internal::GetCapturedStderr();
  if (!progress.on_terminal()) {
    EXPECT_EQ(shown, "step 1\n");
  }
}

TEST(ThreadPool, CarriesResultsAndExceptions) {
  ThreadPool pool(3);
  EXPECT_EQ(pool.size(), 3);
  auto good = pool.submit([] { return 7; });
  auto bad = pool.submit([]() -> int { throw DataError("bad line"); });
  EXPECT_EQ(good.get(), 7);
  EXPECT_THROW(bad.get(), DataError);
}

TEST(ThreadPool, FinishesItsQueueBeforeItGoes) {
  std::atomic<int> done{0};
  {
    ThreadPool pool(2);
    for (int i = 0; i < 100; ++i) pool.submit([&] { ++done; });
  }
  EXPECT_EQ(done, 100);
}

TEST(ParallelRanges, CoverEveryElementOnce) {
  for (const int n : {0, 1, 2, 7, 1000}) {
    for (const int threads : {-1, 1, 3, 8}) {
      std::vector<int> seen(static_cast<std::size_t>(n), 0);
      parallel_ranges(n, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
      });
      EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), n);
    }
  }
}

TEST(ParallelRanges, RethrowAfterAllRangesEnded) {
  std::atomic<int> ended{0};
  const auto body = [&](std::int64_t begin, std::int64_t) {
    ++ended;
    if (begin == 0) throw std::out_of_range("first");
  };
  EXPECT_THROW(parallel_ranges(4, 4, body), std::out_of_range);
  EXPECT_EQ(ended, 4);
  EXPECT_GE(available_cores(), 1);
}

TEST(Random, PhiloxGivesThePublishedVectors) {
  using Words = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const std::uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, StreamsDifferBySeedAndName) {
  EXPECT_EQ(stream_key(1, "a"), stream_key(1, "a"));
  EXPECT_NE(stream_key(1, "a"), stream_key(2, "a"));
  EXPECT_NE(stream_key(1, "a"), stream_key(1, "b"));
  EXPECT_NE(uniform(1, 5), uniform(1, 5 + (std::uint64_t{1} << 32)));
}

TEST(Random, UniformIsFlatAndInsideTheOpenInterval) {
  const int n = 200000;
  std::vector<int> bins(10, 0);
  double sum = 0;
  for (int i = 0; i < n; ++i) {
    const double u = uniform(42, static_cast<std::uint64_t>(i));
    ASSERT_TRUE(u > 0 && u < 1);
    sum += u;
    ++bins[static_cast<std::size_t>(u * 10)];
  }
  EXPECT_NEAR(sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  for (const int count : bins) EXPECT_NEAR(count, n / 10.0, 5 * std::sqrt(0.09 * n));
}

TEST(Random, QuantileMatchesHighPrecisionValues) {
  const std::vector<std::pair<double, double>> values{
      {1e-300, -37.047096299361199237},  {1e-20, -9.2623400897984075796},  {1e-5, -4.2648907939228246102},
      {0.02425, -1.9729610513118848376}, {0.075, -1.4395314709384559349},  {0.3, -0.52440051270804081597},
      {0.9, 1.2815515655446005935},      {0.999999, 4.7534243088170877657}};
  for (const auto& [p, x] : values) EXPECT_NEAR(normal_quantile(p) / x, 1, 1e-15) << p;
  EXPECT_EQ(normal_quantile(0.5), 0);
  EXPECT_THROW(normal_quantile(0), CheckFailure);
  EXPECT_THROW(normal_quantile(1), CheckFailure);
}

TEST(Random, QuantileInvertsTheDistributionFunction) {
  // The bound is what rounding x to a double does: it moves Phi(x) by about x^2 * 1.1e-16 of its value.
  for (double exponent = -300; exponent < -0.31; exponent += 0.37) {
    const double p = std::pow(10, exponent);
    const double x = normal_quantile(p);
    EXPECT_NEAR(0.5 * std::erfc(-x * M_SQRT1_2) / p, 1, 1e-15 * (10 + x * x)) << p;
  }
  for (double p = 0.5; p < 1; p += 0.001) {
    EXPECT_NEAR(0.5 * std::erfc(-normal_quantile(p) * M_SQRT1_2), p, 1e-15) << p;
  }
  EXPECT_NEAR(0.5 * std::erfc(-normal_quantile(1 - 0x1p-53) * M_SQRT1_2), 1 - 0x1p-53, 1e-15);
}

TEST(Random, TruncatedNormalHasTheRightMoments) {
  const int n = 400000;
  double sum = 0, squares = 0, largest = 0;
  for (int i = 0; i < n; ++i) {
    const double x = truncated_normal(7, static_cast<std::uint64_t>(i), 0.02, 3) / 0.02;
    sum += x;
    squares += x * x;
    largest = std::max(largest, std::fabs(x));
  }
  EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(std::sqrt(squares / n), 0.98658, 0.005);
  EXPECT_LE(largest, 3);
  EXPECT_GT(largest, 2.9);
  EXPECT_EQ(truncated_normal(7, 3, 2, 0), 2 * normal_quantile(uniform(7, 3)));
}

TEST(Layout, PutsDecayingTensorsFirstFrozenOnesLastAndAligns) {
  const UnitLayout unit = lay_out_unit({"blocks.0"}, {{"norm", {5}, 0, 0, false},
                                                      {"qkv", {3, 7}, 0, 0, true},
                                                      {"kept", {2}, 0, 0, true, true},
                                                      {"gain", {}, 0, 0, false},
                                                      {"out", {4, 4}, 0, 0, true}});
  ASSERT_EQ(unit.tensors.size(), 5u);
  EXPECT_EQ(unit.tensors[0].name, "qkv");
  EXPECT_EQ(unit.tensors[1].offset, 32);
  EXPECT_EQ(unit.decay_end, 48);
  EXPECT_EQ(unit.tensors[2].name, "norm");
  EXPECT_EQ(unit.tensors[3].offset, 64);
  EXPECT_EQ(unit.tensors[3].numel, 1);
  EXPECT_EQ(unit.trained_end, 80);
  EXPECT_EQ(unit.tensors[4].name, "kept");
  EXPECT_EQ(unit.numel, 96);
  const Layout layout{{unit}};
  EXPECT_EQ(layout.num_parameters(), 5 + 21 + 1 + 16 + 2);
  EXPECT_EQ(layout.find("gain"), &layout.units[0].tensors[3]);
  EXPECT_EQ(layout.find("none"), nullptr);
}

TEST(Layout, ThePiecesOfAllRanksCoverEveryTensorOnce) {
  const UnitLayout first = lay_out_unit({"a"}, {{"x", {5, 7}, 0, 0, true}, {"y", {3}, 0, 0, false}});
  const Layout layout{{first, lay_out_unit({"b"}, {{"z", {100}, 0, 0, true}})}};
  const std::vector<const TensorSpan*> tensors = layout.tensors();
  ASSERT_EQ(tensors.size(), 3U);
  for (const int degree : {1, 2, 3, 8}) {
    std::vector<std::int64_t> covered(tensors.size(), 0);
    for (int rank = 0; rank < degree; ++rank) {
      for (const ShardPiece& piece : pieces_of(layout, degree, rank)) {
        const ShardSpan shard = shard_of(layout.units[piece.unit], degree, rank);
        EXPECT_EQ(piece.tensor, tensors[piece.number]);
        EXPECT_EQ(piece.begin, covered[piece.number]) << degree << " " << piece.tensor->name;
        EXPECT_EQ(piece.tensor->offset + piece.begin, shard.begin + piece.offset);
        EXPECT_LE(piece.offset + piece.numel(), shard.numel);
        covered[piece.number] = piece.end;
      }
    }
    for (std::size_t t = 0; t < tensors.size(); ++t) EXPECT_EQ(covered[t], tensors[t]->numel) << degree;
  }
}

TEST(Layout, RefusesBrokenShapesAndDoubleNames) {
  const std::int64_t big = std::int64_t{1} << 40;
  EXPECT_THROW(lay_out_unit({"u"}, {{"a", {big, big}, 0, 0, true}}), CheckFailure);
  EXPECT_THROW(lay_out_unit({"u"}, {{"a", {0}, 0, 0, true}}), CheckFailure);
  EXPECT_THROW(lay_out_unit({"u"}, {{"a", {1}, 0, 0, true}, {"a", {2}, 0, 0, false}}), CheckFailure);
  EXPECT_EQ(lay_out_unit({"u"}, {}).numel, 0);
}

}  // namespace

}  // namespace norma
