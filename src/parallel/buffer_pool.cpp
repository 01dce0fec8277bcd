#include "buffer_pool.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "norma/base/error.h"

namespace norma {
namespace {

c10::StorageImpl* storage_of(const at::Tensor& tensor) {
  return tensor.storage().unsafeGetStorageImpl();
}

std::int64_t bytes_of(const at::Tensor& tensor) {
  return tensor.numel() * static_cast<std::int64_t>(tensor.element_size());
}

void set_memory(c10::StorageImpl* storage, void* memory, std::int64_t bytes, at::Device device) {
  storage->set_data_ptr_noswap(at::DataPtr(memory, device));
  storage->set_nbytes(static_cast<std::size_t>(bytes));
}

}  // namespace

at::Tensor BufferPool::make_borrower(std::int64_t numel, at::ScalarType type) {
  const at::TensorOptions options = at::TensorOptions().dtype(type).device(device_);
  at::Tensor tensor = at::empty({0}, options);
  const auto bytes = numel * static_cast<std::int64_t>(tensor.element_size());
  sizes_.push_back(bytes);
  // Without an allocator the storage never makes memory of its own.
  const c10::Storage storage(c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), bytes,
                                                                   at::DataPtr(nullptr, device_),
                                                                   /*allocator=*/nullptr, /*resizable=*/false));
  tensor.set_(storage, 0, {numel}, {1});
  return tensor;
}

bool BufferPool::has_memory(const at::Tensor& borrower) {
  return storage_of(borrower)->data() != nullptr;
}

std::int64_t BufferPool::bytes() const {
  std::int64_t sum = 0;
  for (const Slot& slot : slots_) sum += slot.memory.numel();
  return sum;
}

// A new buffer is as large as the largest borrower of a similar size: blocks differ by a norm or two, and one buffer
// must serve them all, while tables are far larger.
std::int64_t BufferPool::capacity_for(std::int64_t bytes) const {
  std::int64_t capacity = bytes;
  for (const std::int64_t size : sizes_) {
    if (size <= 2 * bytes) capacity = std::max(capacity, size);
  }
  return capacity;
}

void BufferPool::lend(const at::Tensor& borrower) {
  const std::int64_t bytes = bytes_of(borrower);
  NORMA_CHECK(!has_memory(borrower), "[pool] memory lent twice");
  // The smallest free buffer that is large enough; a block does not get a table's.
  Slot* best = nullptr;
  for (Slot& slot : slots_) {
    const std::int64_t size = slot.memory.numel();
    const bool fits = slot.borrower == nullptr && size >= bytes && size <= 2 * bytes;
    if (fits && (best == nullptr || size < best->memory.numel())) best = &slot;
  }
  if (best == nullptr) {
    best = &slots_.emplace_back();
    best->memory = at::empty({capacity_for(bytes)}, at::TensorOptions().dtype(at::kByte).device(device_));
  }
  best->borrower = storage_of(borrower);
  set_memory(best->borrower, best->memory.mutable_data_ptr(), bytes, device_);
  peak_ = std::max(peak_, ++lent_);
}

void BufferPool::take_back(const at::Tensor& borrower) {
  c10::StorageImpl* const storage = storage_of(borrower);
  const auto slot = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& s) { return s.borrower == storage; });
  NORMA_CHECK(slot != slots_.end(), "[pool] memory taken back that was not lent");
  if (poison_) slot->memory.fill_(0xff);  // NaN in every floating type
  slot->borrower = nullptr;
  --lent_;
  set_memory(storage, nullptr, 0, device_);
}

}  // namespace norma
