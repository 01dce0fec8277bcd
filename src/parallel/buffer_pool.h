// Memory that is lent to tensors for a while: for gathered weights and for gradients that are being summed. A tensor
// lives on without its memory, so that its views (the model's leaves, what autograd saved) find their data again in
// whatever memory is lent to it next.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

namespace norma {

class BufferPool {
 public:
  BufferPool(at::Device device, bool poison) : device_(device), poison_(poison) {}

  // A 1-D tensor without memory. Make its views now: its storage claims its full size until the first take_back().
  at::Tensor make_borrower(std::int64_t numel, at::ScalarType type);

  void lend(const at::Tensor& borrower);       // the values are undefined
  void take_back(const at::Tensor& borrower);  // after this, touching the tensor or its views is an error
  static bool has_memory(const at::Tensor& borrower);

  int peak() const { return peak_; }  // the most buffers that were lent at once
  std::int64_t bytes() const;         // of all buffers, lent or not: they are kept for the next step

 private:
  struct Slot {
    at::Tensor memory;                     // bytes
    c10::StorageImpl* borrower = nullptr;  // null while it is not lent
  };

  std::int64_t capacity_for(std::int64_t bytes) const;

  at::Device device_;
  bool poison_;                      // fill memory with NaN when it is taken back
  std::vector<std::int64_t> sizes_;  // bytes of every borrower
  std::vector<Slot> slots_;
  int lent_ = 0, peak_ = 0;
};

}  // namespace norma
