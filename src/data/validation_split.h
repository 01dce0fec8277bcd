// Which documents of prepare() go to validation: a draw by the document's number alone, and a repair when that draw
// leaves one side without a document.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "norma/data/prepare.h"

namespace norma {

class ValidationSplit {
 public:
  explicit ValidationSplit(const PrepareOptions& options) : options_(options) {}

  bool is_wanted() const { return options_.validation_every > 0 || options_.validation_fraction > 0; }
  // Whether the document with this number (from 0, empty ones counted) goes to validation.
  bool takes(std::int64_t number) const;

  // To be called once for every document that is not empty; then repair() mends the split when it has to. It returns
  // true when the split has changed and the documents must be split anew.
  void observe(std::int64_t number);
  bool repair();

  // After a repair with one document only: where to cut its text, at a paragraph, line or word border near the wanted
  // share. The part from there on goes to validation.
  bool cuts() const { return cuts_; }
  std::size_t cut_of(std::string_view text) const;

  const std::string& note() const { return note_; }  // what was mended, in words; else empty

 private:
  bool is_drawn(std::int64_t number) const;
  // The lower, the nearer a document is to validation.
  double distance(std::int64_t number) const;

  const PrepareOptions& options_;
  std::int64_t documents_ = 0;
  std::int64_t drawn_ = 0;
  std::int64_t nearest_ = 0, farthest_ = 0;  // numbers
  std::optional<std::int64_t> moved_;
  bool cuts_ = false;
  std::string note_;
};

}  // namespace norma
