// Memory that is lent to tensors for a while: gathered weights, gradients on their way. The tensors live on without it,
// so that views of them (the model's leaves, what autograd saved) find their data again wherever it is lent next.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

namespace norma {

class BufferPool {
 public:
  BufferPool(at::Device device, bool poison) : device_(device), poison_(poison) {}

  // A 1-D tensor without memory. Views of it are to be made now: its storage says it is full size until first taken.
  at::Tensor make_borrower(std::int64_t numel, at::ScalarType type);

  void lend(const at::Tensor& borrower);       // the values are undefined
  void take_back(const at::Tensor& borrower);  // after this, touching the tensor or its views is an error
  static bool has_memory(const at::Tensor& borrower);

  int peak() const { return peak_; }  // buffers lent at once
  std::int64_t bytes() const;         // of all buffers, lent or not: they are kept for the next step

 private:
  struct Slot {
    at::Tensor memory;                 // bytes
    c10::StorageImpl* lent = nullptr;  // to whom
  };

  at::Device device_;
  bool poison_;
  std::int64_t capacity_for(std::int64_t bytes) const;

  std::vector<std::int64_t> sizes_;  // bytes of every borrower
  std::vector<Slot> slots_;
  int lent_ = 0, peak_ = 0;
};

}  // namespace norma
