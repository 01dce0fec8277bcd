// Event protobuf (tensorflow/core/util/event.proto): 1 wall_time double, 2 step int64, 3 file_version string,
// 5 summary { 1 value { 1 tag string, 2 simple_value float } }, 7 session_log { 1 status enum START = 1 }.
#include "tensorboard.h"

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstring>

#include <unistd.h>

#include "norma/base/text.h"

static_assert(std::endian::native == std::endian::little, "event files are little-endian");

namespace norma {
namespace {

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) ? 0x82f63b78u : 0u);
    table[i] = crc;
  }
  return table;
}

template <class T>
std::string bytes_of(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// CRC-32C (Castagnoli), as TFRecord uses it.
std::uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<std::uint32_t, 256> kTable = make_crc_table();
  std::uint32_t crc = 0xffffffffu;
  for (const char byte : bytes) crc = kTable[(crc ^ static_cast<unsigned char>(byte)) & 0xffu] ^ (crc >> 8);
  return crc ^ 0xffffffffu;
}

std::uint32_t masked_crc(std::string_view bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
  return out;
}

// Protobuf wire types: 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes.
std::string key(int field, int wire_type) {
  return varint(static_cast<std::uint64_t>(field << 3 | wire_type));
}

std::string text_field(int field, std::string_view text) {
  return key(field, 2) + varint(text.size()) + std::string(text);
}

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string event(std::int64_t step, const std::string& payload) {
  return key(1, 1) + bytes_of(wall_time()) + key(2, 0) + varint(static_cast<std::uint64_t>(step)) + payload;
}

fs::path new_event_file(const fs::path& folder) {
  static std::atomic<int> count{0};
  return folder /
         cat("events.out.tfevents.", static_cast<std::int64_t>(wall_time()), ".norma.", getpid(), ".", count++);
}

}  // namespace

TensorboardWriter::TensorboardWriter(const fs::path& folder, std::int64_t resume_step)
    : file_(new_event_file(folder), OutputFile::Mode::truncate) {
  write_record(event(0, text_field(3, "brain.Event:2")));
  const std::string start = key(1, 0) + varint(1);
  if (resume_step > 0) write_record(event(resume_step + 1, text_field(7, start)));
}

void TensorboardWriter::write(std::int64_t step, const std::vector<std::pair<std::string, double>>& metrics) {
  std::string summary;
  for (const auto& [name, value] : metrics) {
    summary += text_field(1, text_field(1, name) + key(2, 5) + bytes_of(static_cast<float>(value)));
  }
  write_record(event(step, text_field(5, summary)));
}

void TensorboardWriter::write_record(const std::string& record) {
  const std::string length = bytes_of(static_cast<std::uint64_t>(record.size()));
  file_.write(length + bytes_of(masked_crc(length)) + record + bytes_of(masked_crc(record)));
}

}  // namespace norma
