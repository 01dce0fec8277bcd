#include "norma/base/json.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <unordered_set>
#include <utility>
#include <vector>

#include "norma/base/error.h"

namespace norma {

namespace {

// Reads the text for the parser and notes how far it has come, because the parser's events carry no position.
class Cursor {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  Cursor(const char* at, const char** furthest) : at_(at), furthest_(furthest) {}
  reference operator*() const { return *at_; }
  Cursor& operator++() {
    *furthest_ = ++at_;
    return *this;
  }
  Cursor operator++(int) {
    Cursor before = *this;
    ++*this;
    return before;
  }
  bool operator==(const Cursor& other) const { return at_ == other.at_; }
  bool operator!=(const Cursor& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** furthest_;
};

// Builds the value from the parser's events. The parser itself is iterative, so that depth costs memory, not stack.
class Builder {
 public:
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  Builder(std::string_view text, const char* const* position, const std::string& where, int max_depth, ExitCode kind)
      : text_(text), position_(position), where_(where), max_depth_(max_depth), kind_(kind) {}

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(number_integer_t value) { return add(value); }
  bool number_unsigned(number_unsigned_t value) { return add(value); }
  bool number_float(number_float_t value, const string_t&) { return add(value); }
  bool string(string_t& value) { return add(std::move(value)); }
  bool binary(binary_t&) { return true; }  // never sent for text

  bool start_object(std::size_t) { return open(Json::object()); }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(string_t& name) {
    if (!levels_.back().keys.insert(name).second) fail(offset(), cat("the key \"", name, "\" occurs twice"));
    levels_.back().key = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const Json::exception& error) {
    // The text is "[json.exception.parse_error.101] parse error at line 1, column 2: reason"; only the reason is kept.
    std::string reason = error.what();
    const std::size_t colon = reason.find(": ");
    if (colon != std::string::npos && reason.find("parse error at") != std::string::npos) {
      reason.erase(0, colon + 2);
    }
    fail(std::max<std::size_t>(position, 1) - 1, reason.substr(0, 300));
  }

  Json take() { return std::move(root_); }

 private:
  struct Level {
    Json* value;
    std::unordered_set<std::string> keys;
    std::string key;
  };

  std::size_t offset() const { return static_cast<std::size_t>(*position_ - text_.data()); }

  [[noreturn]] void fail(std::size_t offset, const std::string& reason) const {
    const auto end = text_.begin() + static_cast<std::ptrdiff_t>(std::min(offset, text_.size()));
    const auto line = 1 + std::count(text_.begin(), end, '\n');
    throw_error(kind_, cat("[", where_, "] not acceptable JSON at line ", line, ": ", reason));
  }

  // A parent does not grow while a child is being filled, so pointers into it stay valid.
  Json* append(Json value) {
    if (levels_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Level& level = levels_.back();
    if (level.value->is_array()) {
      level.value->push_back(std::move(value));
      return &level.value->back();
    }
    // The key is known to be new, so it is appended without the linear search of an ordered object.
    auto& members = level.value->get_ref<Json::object_t&>();
    members.emplace_back(std::move(level.key), std::move(value));
    return &members.back().second;
  }

  bool add(Json value) {
    append(std::move(value));
    return true;
  }

  bool open(Json container) {
    if (levels_.size() >= static_cast<std::size_t>(max_depth_)) {
      fail(offset(), cat("nested more than ", max_depth_, " levels deep"));
    }
    levels_.push_back({append(std::move(container)), {}, {}});
    return true;
  }

  bool close() {
    levels_.pop_back();
    return true;
  }

  std::string_view text_;
  const char* const* position_;
  const std::string& where_;
  int max_depth_;
  ExitCode kind_;
  Json root_;
  std::vector<Level> levels_;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& where, int max_depth, ExitCode kind) {
  const char* position = text.data();
  Builder builder(text, &position, where, max_depth, kind);
  const Cursor begin(text.data(), &position);
  const Cursor end(text.data() + text.size(), &position);
  NORMA_CHECK(Json::sax_parse(begin, end, &builder), "[json] the parser stopped without a reason");
  return builder.take();
}

Json read_json(const fs::path& path, std::uint64_t max_bytes, int max_depth) {
  return parse_json(read_file(path, max_bytes), path.string(), max_depth);
}

std::string to_text(const Json& json, int indent) {
  return json.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

void write_json(const fs::path& path, const Json& json) {
  write_file_atomic(path, to_text(json, 2) + "\n");
}

}  // namespace norma
