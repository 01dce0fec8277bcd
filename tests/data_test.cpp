// The order of instances, token files and batches; prepare_test.cpp tests how token files are made.
#include <algorithm>
#include <memory>
#include <set>

#include <gtest/gtest.h>

#include "norma/base/error.h"
#include "norma/base/json.h"
#include "norma/data/batch_stream.h"
#include "norma/data/token_file.h"

#include "../src/data/order.h"
#include "support/data_files.h"
#include "support/fixtures.h"

namespace norma {
namespace {

using namespace testing;

// ---- Order; the expected numbers come from numpy

TEST(Order, IsNumpysPcg64) {
  Pcg64 random(6198);
  EXPECT_EQ(random.next64(), 12993904571665206773ULL);
  EXPECT_EQ(random.next64(), 5279284732208017281ULL);
  EXPECT_EQ(random.next64(), 8264598822411623240ULL);
  Pcg64 halves(6198);
  EXPECT_EQ(halves.next32(), 12993904571665206773ULL & 0xffffffff);
  EXPECT_EQ(halves.next32(), 12993904571665206773ULL >> 32);
}

TEST(Order, IsNumpysShuffle) {
  using Order = std::vector<std::uint32_t>;
  EXPECT_EQ(shuffled_indices(16, 6198), (Order{4, 14, 6, 15, 3, 2, 13, 0, 10, 11, 9, 7, 8, 1, 12, 5}));
  EXPECT_EQ(shuffled_indices(16, 6199), (Order{5, 6, 15, 8, 4, 9, 11, 12, 2, 1, 14, 3, 10, 13, 0, 7}));
  EXPECT_EQ(shuffled_indices(16, 0), (Order{2, 11, 3, 10, 0, 4, 7, 5, 14, 12, 6, 9, 13, 8, 1, 15}));
  // A seed that takes two 32-bit words.
  EXPECT_EQ(shuffled_indices(16, 5000000000), (Order{7, 14, 3, 15, 0, 10, 8, 9, 13, 1, 4, 12, 11, 6, 5, 2}));
  EXPECT_EQ(shuffled_indices(0, 1), Order{});
  EXPECT_EQ(shuffled_indices(1, 1), Order{0});
}

TEST(Order, HundredThousandIndicesHaveNumpysHash) {
  const std::vector<std::uint32_t> order = shuffled_indices(100000, 6198);
  EXPECT_EQ(order.front(), 27125U);
  EXPECT_EQ(order.back(), 61313U);
  EXPECT_EQ(sha256_hex({reinterpret_cast<const char*>(order.data()), order.size() * 4}),
            "078a1b0cbed7a6e2ab1a2baaf335a1d5b96fd1b1137e10d4e8ac087f0c33e9c1");
}

// ---- Token files

TEST(Sidecar, ReadsBackAndRefusesBadFields) {
  Sidecar sidecar = sidecar_of(counting(0, 7), TokenDtype::uint16);
  sidecar.checksum = "abc";
  sidecar.split = "train";
  EXPECT_EQ(parse_sidecar(to_json(sidecar), "x"), sidecar);
  const auto refuses = [&](const std::string& field, const Json& value, const std::string& text) {
    Json json = Json::parse(to_json(sidecar));
    if (value.is_null())
      json.erase(field);
    else
      json[field] = value;
    expect_error<DataError>([&] { parse_sidecar(json.dump(), "x.npy.json"); }, {"x.npy.json", field, text});
  };
  refuses("tokens", nullptr, "missing");
  refuses("tokens", -1, "whole number");
  refuses("tokens", 1.5, "whole number");
  refuses("vocab_size", std::uint64_t{1} << 63, "to 1152921504606846976");
  refuses("eos_id", 100, "below vocab_size 100");
  refuses("dtype", "int64", "one of uint16, uint32");
  refuses("tokenizer", "../x.json", "folder");
  refuses("version", 2, "another Norma");
  expect_error<DataError>([] { parse_sidecar("[1]", "x"); }, {"object"});
  expect_error<DataError>([] { parse_sidecar("{", "x"); }, {"x"});
}

TEST(TokenDataset, InstancesRunThroughTheFilesInListedOrder) {
  const TemporaryFolder folder;
  const auto name = [&](const char* file) { return (folder.path() / file).string(); };
  write_tokens(name("b.npy"), counting(0, 11), TokenDtype::uint32);  // 2 instances of 4 tokens; 3 tokens are dropped
  write_tokens(name("a.npy"), counting(50, 8), TokenDtype::uint16);  // 2 instances
  write_tokens(name("short.npy"), counting(90, 3), TokenDtype::uint32);  // no instance
  write_tokens(name("empty.npy"), {}, TokenDtype::uint32);
  fs::create_symlink(name("a.npy"), name("link.npy"));
  fs::create_symlink(name("a.npy.json"), name("link.npy.json"));

  const TokenDataset dataset =
      open({name("b.npy"), name("short.npy"), name("empty.npy"), name("a.npy"), name("b.npy"), name("link.npy")}, 4);
  EXPECT_EQ(dataset.num_files(), 6);
  EXPECT_EQ(dataset.num_instances(), 8);
  EXPECT_EQ(dataset.num_tokens(), 11 + 3 + 0 + 8 + 11 + 8);
  const std::vector<std::int64_t> first{0, 4, 50, 54, 0, 4, 50, 54};
  for (std::int64_t i = 0; i < 8; ++i) EXPECT_EQ(instance(dataset, i), counting(first[static_cast<std::size_t>(i)], 4));
  EXPECT_EQ(dataset.tokenizer(), folder.path() / "tokenizer.json");
  EXPECT_THROW(instance(dataset, 8), CheckFailure);

  // The files of a glob are sorted.
  EXPECT_EQ(instance(open({name("[ab].npy")}, 4), 0), counting(50, 4));
}

TEST(TokenDataset, FilesWithoutSidecarNeedADtype) {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "x.npy").string();
  write(path, raw<std::uint16_t>(counting(0, 8)));
  expect_error<DataError>([&] { open({path}, 4); }, {"x.npy", "data.dtype"});
  EXPECT_EQ(instance(open({path}, 4, TokenDtype::uint16), 1), counting(4, 4));
  EXPECT_FALSE(open({path}, 4, TokenDtype::uint16).tokenizer());
}

TEST(TokenDataset, RefusesWhatIsNotTokenData) {
  const TemporaryFolder folder;
  const auto name = [&](const char* file) { return (folder.path() / file).string(); };
  write_tokens(name("good.npy"), counting(0, 8), TokenDtype::uint32);
  write(name("odd.npy"), "12345");
  write(name("header.npy"), "\x93NUMPY......................");
  write_tokens(name("cut.npy"), counting(0, 8), TokenDtype::uint32);
  fs::resize_file(name("cut.npy"), 16);
  write_tokens(name("foreign.npy"), counting(0, 8), TokenDtype::uint32, "t2");

  const TokenDtype u32 = TokenDtype::uint32;
  expect_error<DataError>([&] { open({}, 4); }, {"data.paths", "empty list"});
  expect_error<DataError>([&] { open({name("none.npy")}, 4); }, {"data.paths", "none.npy", "does not exist"});
  expect_error<DataError>([&] { open({name("none-*.npy")}, 4); }, {"data.paths", "none-*.npy", "match"});
  expect_error<DataError>([&] { open({folder.path().string()}, 4); }, {"must be a file", "*.npy"});
  expect_error<DataError>([&] { open({name("odd.npy")}, 4, u32); }, {"odd.npy", "multiple of 4", "got 5"});
  expect_error<DataError>([&] { open({name("header.npy")}, 4, u32); }, {"header.npy", "NumPy header"});
  expect_error<DataError>([&] { open({name("cut.npy")}, 4); }, {"cut.npy", "8 tokens", "got 4"});
  expect_error<DataError>([&] { open({name("good.npy")}, 9); }, {"at least one instance of 9", "8 tokens"});
  expect_error<DataError>([&] { open({name("good.npy")}, 4, TokenDtype::uint16); }, {"data.dtype", "uint16", "uint32"});
  expect_error<DataError>([&] { open({name("good.npy")}, 4, u32, 64); }, {"good.npy", "100", "model.vocab_size"});
  expect_error<DataError>([&] { open({name("good.npy"), name("foreign.npy")}, 4); }, {"same tokenizer", "foreign.npy"});

  write(name("big.npy"), raw<std::uint32_t>({1, 2, 3, 4, 5, 6, 70000, 8}));
  const TokenDataset big = open({name("big.npy")}, 4, u32, 100);
  EXPECT_EQ(instance(big, 0), counting(1, 4));
  expect_error<DataError>([&] { instance(big, 1); }, {"big.npy", "below 100", "70000", "token 6"});
}

TEST(TokenDataset, FingerprintKnowsTheDataButNotTheFolder) {
  const TemporaryFolder one, two;
  const auto print = [](const fs::path& folder, std::int64_t length) {
    return open({(folder / "x.npy").string()}, length).fingerprint();
  };
  write_tokens(one.path() / "x.npy", counting(0, 8), TokenDtype::uint32);
  write_tokens(two.path() / "x.npy", counting(0, 8), TokenDtype::uint32);
  EXPECT_EQ(print(one.path(), 4), print(two.path(), 4));
  EXPECT_NE(print(one.path(), 4), print(one.path(), 2));
  write_tokens(two.path() / "x.npy", counting(1, 8), TokenDtype::uint32);
  EXPECT_NE(print(one.path(), 4), print(two.path(), 4));
}

TEST(TokenDataset, VerifyFindsAChangedByte) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "x.npy";
  write_tokens(path, counting(0, 8), TokenDtype::uint32);
  open({path.string()}, 4).verify();
  std::string bytes = slurp(path);
  bytes[5] ^= 1;
  write(path, bytes);
  expect_error<DataError>([&] { open({path.string()}, 4).verify(); }, {"x.npy", "checksum"});
}

// ---- Batches

// n instances of two tokens, [2i, 2i + 1].
std::shared_ptr<const TokenDataset> dataset_of(const TemporaryFolder& folder, std::int64_t n) {
  const std::string path = (folder.path() / "stream.npy").string();
  write(path, raw<std::uint32_t>(counting(0, 2 * n)));
  return std::make_shared<TokenDataset>(open({path}, 2, TokenDtype::uint32));
}

BatchStreamOptions stream_options(std::int64_t batch, std::int64_t rank = 0, std::int64_t world = 1,
                                  bool shuffle = true) {
  return {6198, shuffle, batch, rank, world, 2};
}

TEST(BatchStream, BatchesAreSlicesOfOlmosOrder) {
  const TemporaryFolder folder;
  const auto dataset = dataset_of(folder, 16);
  BatchStream stream(dataset, stream_options(5));
  EXPECT_EQ(stream.batches_per_epoch(), 3);
  const TokenBatch first = stream.next();
  EXPECT_EQ(first.instances, (Ids{4, 14, 6, 15, 3}));
  EXPECT_EQ(first.ids, (Ids{8, 9, 28, 29, 12, 13, 30, 31, 6, 7}));
  EXPECT_EQ(first.next, (Position{0, 5, 10}));
  EXPECT_EQ(stream.next().instances, (Ids{2, 13, 0, 10, 11}));
  const TokenBatch last = stream.next();
  EXPECT_EQ(last.epoch, 0);
  EXPECT_EQ(last.next, (Position{1, 0, 30}));  // the last of 16 instances fills no batch
  const TokenBatch second_epoch = stream.next();
  EXPECT_EQ(second_epoch.epoch, 1);
  EXPECT_EQ(second_epoch.instances, (Ids{5, 6, 15, 8, 4}));

  BatchStream in_order(dataset, stream_options(5, 0, 1, false));
  EXPECT_EQ(in_order.next().instances, counting(0, 5));
}

TEST(BatchStream, RanksShareEachEpochWithoutGapOrRepeat) {
  const TemporaryFolder folder;
  const auto dataset = dataset_of(folder, 103);
  for (const std::int64_t world : {1, 2, 3, 8}) {
    std::vector<std::unique_ptr<BatchStream>> streams;
    for (std::int64_t rank = 0; rank < world; ++rank) {
      streams.push_back(std::make_unique<BatchStream>(dataset, stream_options(8, rank, world)));
    }
    for (std::int64_t epoch = 0; epoch < 2; ++epoch) {
      const auto order = shuffled_indices(103, static_cast<std::uint64_t>(6198 + epoch));
      std::set<std::int64_t> seen;
      for (std::int64_t batch = 0; batch < 12; ++batch) {
        std::vector<TokenBatch> parts(streams.size());
        std::transform(streams.begin(), streams.end(), parts.begin(), [](auto& stream) { return stream->next(); });
        for (std::int64_t slot = 0; slot < 8; ++slot) {
          const TokenBatch& part = parts[static_cast<std::size_t>(slot % world)];
          const std::int64_t index = part.instances[static_cast<std::size_t>(slot / world)];
          EXPECT_EQ(index, order[static_cast<std::size_t>(batch * 8 + slot)]) << "world " << world;
          seen.insert(index);
        }
        for (const TokenBatch& part : parts) EXPECT_EQ(part.next, parts[0].next);
      }
      EXPECT_EQ(seen.size(), 96U);
    }
  }
}

TEST(BatchStream, SeekGoesOnAsIfItHadReadOn) {
  const TemporaryFolder folder;
  const auto dataset = dataset_of(folder, 50);
  std::vector<TokenBatch> straight(20);  // an epoch has 6 batches, so these reach into the fourth
  BatchStream reader(dataset, stream_options(8));
  for (TokenBatch& batch : straight) batch = reader.next();
  BatchStream stream(dataset, stream_options(8));
  for (const std::size_t start : {10U, 3U, 5U, 0U, 16U}) {
    stream.seek(straight[start].next);
    for (std::size_t i = start + 1; i < std::min<std::size_t>(start + 5, straight.size()); ++i) {
      const TokenBatch batch = stream.next();
      EXPECT_EQ(batch.ids, straight[i].ids);
      EXPECT_EQ(batch.next, straight[i].next);
    }
  }
  // Seeking far ahead costs no more than seeking to the next batch.
  stream.seek({1000000, 16, 7});
  EXPECT_EQ(stream.next().next, (Position{1000000, 24, 7 + 16}));
}

TEST(BatchStream, AnotherBatchSizeGoesOnInTheSameOrder) {
  const TemporaryFolder folder;
  const auto dataset = dataset_of(folder, 16);
  BatchStream stream(dataset, stream_options(4));
  stream.seek({0, 5, 10});
  EXPECT_EQ(stream.next().instances, (Ids{2, 13, 0, 10}));
  stream.seek({0, 14, 28});  // the two instances that are left fill no batch
  EXPECT_EQ(stream.next().next, (Position{1, 4, 36}));
}

TEST(BatchStream, SaysWhatCannotWork) {
  const TemporaryFolder folder;
  const auto dataset = dataset_of(folder, 4);
  expect_error<DataError>([&] { BatchStream(dataset, stream_options(5)); },
                          {"4 instances", "train.global_batch_size 5"});
  expect_error<ConfigError>([&] { BatchStream(dataset, stream_options(2, 0, 3)); }, {"train.global_batch_size", "3"});
  BatchStream stream(dataset, stream_options(2));
  expect_error<DataError>([&] { stream.seek({0, 5, 0}); }, {"instance 5 of 4"});
  expect_error<DataError>([&] { stream.seek({-1, 0, 0}); }, {"epoch -1"});

  EXPECT_EQ(parse_position(to_json(Position{3, 2, 1}), "x"), (Position{3, 2, 1}));
  expect_error<DataError>([] { parse_position(Json::parse(R"({"epoch": 1, "tokens": 2})"), "manifest"); },
                          {"manifest", "instances"});
  expect_error<DataError>([] { parse_position(Json::parse("[]"), "manifest"); }, {"manifest", "object"});
  expect_error<DataError>(
      [] {
        parse_position({{"epoch", std::uint64_t{1} << 63}}, "manifest");
      },
      {"to 1152921504606846976"});
}

TEST(BatchStream, ErrorsOfTheBackgroundThreadSurface) {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "x.npy").string();
  write(path, raw<std::uint32_t>({1, 2, 3, 4, 500, 6, 7, 8}));
  const auto dataset = std::make_shared<TokenDataset>(open({path}, 2, TokenDtype::uint32, 100));
  BatchStream stream(dataset, stream_options(1, 0, 1, false));
  EXPECT_EQ(stream.next().ids, (Ids{1, 2}));
  EXPECT_EQ(stream.next().ids, (Ids{3, 4}));
  for (int i = 0; i < 2; ++i) expect_error<DataError>([&] { stream.next(); }, {"x.npy", "500", "token 4"});
  stream.seek({0, 3, 6});
  EXPECT_EQ(stream.next().ids, (Ids{7, 8}));
}

}  // namespace
}  // namespace norma
