// Typed access to the components of a tokenizer.json. A Component knows its path in the file, so that every
// error can name it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "norma/base/error.h"

namespace norma {

class Component {
 public:
  using Value = nlohmann::json;

  // `file` names the document, `path` the place in it ("" for the whole); `value` must outlive the component.
  Component(const Value& value, std::string file, std::string path)
      : value_(&value), file_(std::move(file)), path_(std::move(path)) {}

  const Value& value() const { return *value_; }
  bool is_null() const { return value_->is_null(); }
  bool has(const char* key) const { return value_->is_object() && value_->contains(key); }

  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw DataError(cat("[tokenizer] ", file_, ": ", path_.empty() ? "the file" : path_.c_str(), " ", parts...));
  }

  // A missing key is the same as null.
  Component at(const char* key) const {
    static const Value null;
    if (!value_->is_object()) fail("must be an object; got ", value_->type_name());
    const auto found = value_->find(key);
    return {found == value_->end() ? null : *found, file_, path_.empty() ? key : cat(path_, ".", key)};
  }

  std::vector<Component> list(const char* key) const {
    const Component child = at(key);
    if (!child.value().is_array()) child.fail("must be a list; got ", child.value().type_name());
    std::vector<Component> items;
    for (std::size_t i = 0; i < child.value().size(); ++i) {
      items.emplace_back(child.value()[i], file_, cat(child.path_, "[", i, "]"));
    }
    return items;
  }

  const std::string& text() const {
    if (!value_->is_string()) fail("must be a string; got ", value_->type_name());
    return value_->get_ref<const std::string&>();
  }

  bool flag(const char* key, bool if_missing) const {
    const Component child = at(key);
    if (child.is_null()) return if_missing;
    if (!child.value().is_boolean()) child.fail("must be true or false; got ", child.value().type_name());
    return child.value().get<bool>();
  }

  // What the Hugging Face library does not read without.
  bool required_flag(const char* key) const {
    const Component child = at(key);
    if (!child.value().is_boolean()) {
      child.fail("must be true or false; ", has(key) ? cat("got ", child.value().dump()) : "it is missing");
    }
    return child.value().get<bool>();
  }

  std::string type() const { return at("type").text(); }

  // For a component of a kind that is not read.
  [[noreturn]] void fail_type(std::string_view supported) const {
    fail("is of type '", type(), "', which is not supported; allowed: ", supported);
  }

 private:
  const Value* value_;
  std::string file_;
  std::string path_;
};

}  // namespace norma
