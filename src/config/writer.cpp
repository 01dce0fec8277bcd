// The config as YAML, and field-by-field comparison.
#include <algorithm>
#include <cctype>

#include "norma/config/yaml.h"

#include "fields.h"

namespace norma {
namespace {

bool is_plain(const std::string& text) {
  static const std::vector<std::string> kReserved = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"};
  if (text.empty()) return false;
  std::string lower;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80 || (!std::isalnum(byte) && std::string_view("_./-").find(c) == std::string_view::npos)) {
      return false;
    }
    lower.push_back(static_cast<char>(std::tolower(byte)));
  }
  const auto first = static_cast<unsigned char>(text[0]);
  const bool opens_plain = std::isalpha(first) || first == '_' || first == '/';
  return opens_plain && std::find(kReserved.begin(), kReserved.end(), lower) == kReserved.end();
}

class Printer {
 public:
  template <Section T>
  void print_section(T& section) {
    section.visit([this](const char* name, auto& field, const char*) { this->print(name, field); });
  }

  std::string take() { return std::move(text_); }

 private:
  template <class T>
  void print(const std::string& name, T& value) {
    if constexpr (Section<T> && !Shorthand<T>) {
      line(name, ":");
      indent_ += 2;
      print_section(value);
      indent_ -= 2;
    } else {
      line(name, ": " + value_text(value));
    }
  }

  template <class T>
  void print(const std::string& name, std::map<std::string, T>& values) {
    line(name, values.empty() ? ": {}" : ":");
    indent_ += 2;
    for (auto& [key, value] : values) print(value_text(key), value);
    indent_ -= 2;
  }

  void line(const std::string& name, const std::string& rest) {
    text_ += cat(std::string(indent_, ' '), name, rest, "\n");
  }

  std::string text_;
  std::size_t indent_ = 0;
};

template <class T>
bool equal(std::map<std::string, T>& a, std::map<std::string, T>& b);

template <class T>
bool equal(T& a, T& b) {
  if constexpr (Section<T>) {
    std::vector<void*> fields;
    a.visit([&](const char*, auto& field, const char*) { fields.push_back(&field); });
    bool same = true;
    std::size_t next = 0;
    b.visit([&]<class F>(const char*, F& field, const char*) {
      same = equal(*static_cast<F*>(fields[next++]), field) && same;
    });
    return same;
  } else {
    return a == b;
  }
}

template <class T>
bool equal(std::map<std::string, T>& a, std::map<std::string, T>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](auto& x, auto& y) { return x.first == y.first && equal(x.second, y.second); });
}

}  // namespace

std::string value_text(const std::string& text) {
  if (is_plain(text)) return text;
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (byte < 0x20 || byte == 0x7f) {
      quoted += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string to_yaml(const RunConfig& config) {
  RunConfig copy = config;  // visit() needs fields that it could change
  Printer printer;
  printer.print_section(copy);
  return printer.take();
}

bool operator==(const RunConfig& a, const RunConfig& b) {
  RunConfig left = a, right = b;
  return equal(left, right);
}

}  // namespace norma
