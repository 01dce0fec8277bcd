// Safetensors files: what is written is read again, and every malformed header is refused with the reason.
#include "norma/checkpoint/safetensors.h"

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/base/random.h"

#include "support/errors.h"
#include "support/fixtures.h"

namespace norma {

namespace {

using ::norma::testing::contains;
using ::norma::testing::error_text;
using ::norma::testing::TemporaryFolder;

std::span<const std::byte> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// A whole file with this header and this many bytes of data.
std::string file_with(const std::string& header, std::size_t data_bytes) {
  std::string file(8, '\0');
  for (int i = 0; i < 8; ++i) file[static_cast<std::size_t>(i)] = static_cast<char>(header.size() >> (8 * i));
  return file + header + std::string(data_bytes, 'x');
}

// The error's text; "" when the header is accepted.
std::string verdict(const std::string& file) {
  try {
    parse_safetensors_header(bytes_of(file), "a.safetensors");
    return "";
  } catch (const CheckpointError& error) {
    return error.what();
  }
}

std::string tensor(const std::string& name, const std::string& shape, int begin, int end,
                   const std::string& dtype = "U8") {
  return cat('"', name, R"(":{"dtype":")", dtype, R"(","shape":)", shape, ",\"data_offsets\":[", begin, ",", end, "]}");
}

TEST(Safetensors, RoundTripKeepsBytesShapesAndChecksum) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "model.safetensors";
  SafetensorsWriter writer(
      path, {{"a \"quoted\"", "F32", {2, 3}, 0, 0}, {"none", "F32", {0}, 0, 0}, {"scalar", "I64", {}, 0, 0}},
      {{"run", "tiny"}});
  writer.write("a \"quoted\"", bytes_of("0123456789"));
  writer.write("a \"quoted\"", bytes_of("abcdefghijklmn"));
  writer.write("scalar", bytes_of("ABCDEFGH"));
  const FileEntry entry = writer.close();
  EXPECT_EQ(entry.name, "model.safetensors");
  EXPECT_EQ(entry.bytes, fs::file_size(path));
  EXPECT_EQ(entry.checksum, checksum(MappedFile(path).bytes()));

  const SafetensorsFile file(path);
  EXPECT_EQ(file.header().metadata, (StringPairs{{"format", "pt"}, {"run", "tiny"}}));
  EXPECT_EQ(file.header().data_offset % 8, 0u);
  ASSERT_NE(file.find("a \"quoted\""), nullptr);
  EXPECT_EQ(file.find("a \"quoted\"")->shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(file.find("b"), nullptr);
  EXPECT_TRUE(std::ranges::equal(file.bytes("scalar"), bytes_of("ABCDEFGH")));
  EXPECT_TRUE(std::ranges::equal(file.bytes("a \"quoted\""), bytes_of("0123456789abcdefghijklmn")));
  EXPECT_TRUE(file.bytes("none").empty());
  EXPECT_TRUE(contains(error_text<CheckpointError>([&] { file.bytes("b"); }), "no tensor 'b'"));
}

TEST(Safetensors, WriterRefusesWrongTurnsAndCounts) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a";
  SafetensorsWriter writer(path, {{"a", "U8", {4}, 0, 0}, {"b", "U8", {2}, 0, 0}});
  EXPECT_THROW(writer.write("b", bytes_of("x")), CheckFailure);
  EXPECT_THROW(writer.write("a", bytes_of("12345")), CheckFailure);
  writer.write("a", bytes_of("1234"));
  EXPECT_THROW(writer.close(), CheckFailure);
  EXPECT_THROW(writer.write("a", bytes_of("5")), CheckFailure);
  writer.write("b", bytes_of("56"));
  EXPECT_THROW(writer.write("b", bytes_of("7")), CheckFailure);
  EXPECT_NO_THROW(writer.close());
  EXPECT_THROW(SafetensorsWriter(path, {{"a", "F12", {4}, 0, 0}}), CheckFailure);
  EXPECT_THROW(SafetensorsWriter(path, {{"a", "U8", {1}, 0, 0}, {"a", "U8", {1}, 0, 0}}), CheckFailure);
  EXPECT_THROW(SafetensorsWriter(folder.path() / "no" / "a", {}), DiskError);
}

TEST(Safetensors, AcceptsEveryOrderOfTensorsAndPadding) {
  const std::string header =
      cat("{", tensor("b", "[2]", 3, 5), ",", tensor("none", "[0,7]", 3, 3), ",", tensor("a", "[3]", 0, 3), "}  ");
  EXPECT_EQ(verdict(file_with(header, 5)), "");
  const std::string file = file_with(header, 5);
  const SafetensorsHeader parsed = parse_safetensors_header(bytes_of(file), "t");
  EXPECT_EQ(parsed.tensors[0].name, "a");
  EXPECT_EQ(parsed.tensors[2].name, "b");
  EXPECT_EQ(verdict(file_with("{}", 0)), "");
}

struct BadHeader {
  const char* reason;
  std::string file;
};

std::vector<BadHeader> bad_headers() {
  const auto one = [](const std::string& entry, std::size_t bytes) { return file_with("{" + entry + "}", bytes); };
  std::string many = "[1";
  for (int i = 0; i < 16; ++i) many += ",1";
  return {
      {"no room", "1234567"},
      {"at most 100000000", std::string(8, '\xff') + "{}"},
      {"only 2 bytes follow", std::string("\x03\0\0\0\0\0\0\0{}", 10)},
      {"must start with '{'", file_with(" {}", 0)},
      {"must start with '{'", file_with("", 0)},
      {"line 1: syntax", file_with("{]", 0)},
      {"occurs twice", one(tensor("a", "[1]", 0, 1) + "," + tensor("a", "[1]", 1, 2), 2)},
      {"nested more than", file_with("{\"a\":" + std::string(200000, '[') + "}", 0)},
      {"must be described by an object", one("\"a\":3", 0)},
      {"lacks \"dtype\"", one("\"a\":{\"shape\":[],\"data_offsets\":[0,1]}", 1)},
      {"nothing else", one(R"("a":{"dtype":"U8","shape":[],"data_offsets":[0,1],"x":1})", 1)},
      {"unknown dtype 'F12'", one(tensor("a", "[1]", 0, 1, "F12"), 1)},
      {"dtype must be a text", one(R"("a":{"dtype":8,"shape":[],"data_offsets":[0,1]})", 1)},
      {"whole numbers", one(tensor("a", "[-1]", 0, 1), 1)},
      {"whole numbers", one(tensor("a", "[1.0]", 0, 1), 1)},
      {"whole numbers", one(tensor("a", "[18446744073709551615]", 0, 1), 1)},
      {"whole numbers", one(R"("a":{"dtype":"U8","shape":[],"data_offsets":[0,"1"]})", 1)},
      {"at most 16", one(tensor("a", many + "]", 0, 1), 1)},
      {"overflows", one(tensor("a", "[4294967296,4294967296]", 0, 0), 0)},
      {"overflows", one(tensor("a", "[4294967296,1073741824]", 0, 0, "F64"), 0)},
      {"shape must be a list", one(tensor("a", "3", 0, 1), 1)},
      {"begin and an end", one(R"("a":{"dtype":"U8","shape":[],"data_offsets":[0]})", 1)},
      {"ends before", one(tensor("a", "[1]", 2, 1), 2)},
      {"needs 8 bytes", one(tensor("a", "[2]", 0, 7, "F32"), 7)},
      {"ends at byte 4 of a data section of 3", one(tensor("a", "[4]", 0, 4), 3)},
      {"overlaps", one(tensor("a", "[3]", 0, 3) + "," + tensor("b", "[2]", 2, 4), 4)},
      {"overlaps", one(tensor("a", "[3]", 0, 3) + "," + tensor("b", "[0]", 1, 1), 3)},
      {"hole before", one(tensor("a", "[1]", 0, 1) + "," + tensor("b", "[1]", 2, 3), 3)},
      {"hole before", one(tensor("a", "[1]", 1, 2), 2)},
      {"end at byte 1", one(tensor("a", "[1]", 0, 1), 2)},
      {"__metadata__ must be an object", file_with(R"({"__metadata__":[]})", 0)},
      {"must be a text", file_with(R"({"__metadata__":{"a":1}})", 0)},
  };
}

TEST(Safetensors, RefusesEveryMalformedHeaderWithItsReason) {
  for (const BadHeader& bad : bad_headers()) {
    const std::string text = verdict(bad.file);
    EXPECT_TRUE(contains(text, bad.reason)) << bad.file.substr(0, 200);
    EXPECT_TRUE(contains(text, "[a.safetensors]"));
  }
}

TEST(Safetensors, DamagedHeadersNeverDoMoreThanThrow) {
  const std::string good = file_with(cat("{\"__metadata__\":{\"format\":\"pt\"},", tensor("a", "[3,2]", 0, 24, "F32"),
                                         ",", tensor("b", "[]", 24, 32, "I64"), "}"),
                                     32);
  ASSERT_EQ(verdict(good), "");
  for (std::uint64_t trial = 0; trial < 20000; ++trial) {
    std::string bad = good;
    for (std::uint64_t i = 0; i < 1 + trial % 3; ++i) {
      const auto at = static_cast<std::size_t>(uniform(trial, 2 * i) * static_cast<double>(bad.size()));
      bad[at] = static_cast<char>(uniform(trial, 2 * i + 1) * 256);
    }
    if (trial % 5 == 0) bad.resize(static_cast<std::size_t>(uniform(trial, 99) * static_cast<double>(bad.size())));
    verdict(bad);
  }
}

}  // namespace

}  // namespace norma
