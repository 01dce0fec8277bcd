// Chosen by CMake in a CUDA build; no_nccl_group.cpp otherwise.
#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "norma/base/error.h"
#include "norma/parallel/group.h"

namespace norma {
namespace {

// A communicator runs its operations one after the other, so each group has its own, with its own stream. asyncOp=false
// runs a collective on the current stream, which is the group's during the call.
class NcclGroup : public Group {
 public:
  NcclGroup(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, Seconds timeout, at::Device device)
      : Group(rank, size), device_(device), stream_(c10::cuda::getStreamFromPool(true, device.index())) {
    auto options = c10d::ProcessGroupNCCL::Options::create(/*is_high_priority_stream=*/true);
    options->timeout = whole_milliseconds(timeout);
    backend_ = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
    backend_->setBoundDeviceId(device);
    backend_->eagerConnectSingleDevice(device);
  }
  ~NcclGroup() override {
    try {
      backend_->shutdown();
    } catch (const std::exception&) {
      backend_.reset();  // the communicator may be broken already, and the process ends anyway
    }
  }

  void set_timeout(Seconds timeout) override { backend_->setTimeout(whole_milliseconds(timeout)); }
  void abort() override { backend_->abort(); }

 protected:
  Pending start_all_gather(const at::Tensor& whole, const at::Tensor& part) override {
    return on_stream({whole, part}, [&] {
      at::Tensor out = whole, in = part;
      c10d::AllgatherOptions options;
      options.asyncOp = false;
      backend_->_allgather_base(out, in, options);
    });
  }
  Pending start_reduce_scatter(const at::Tensor& part, const at::Tensor& whole) override {
    return on_stream({whole, part}, [&] {
      at::Tensor out = part, in = whole;
      c10d::ReduceScatterOptions options;
      options.asyncOp = false;
      backend_->_reduce_scatter_base(out, in, options);
    });
  }
  Pending start_all_reduce(const at::Tensor& tensor) override {
    return on_stream({tensor}, [&] {
      std::vector<at::Tensor> tensors = {tensor};
      c10d::AllreduceOptions options;
      options.asyncOp = false;
      backend_->allreduce(tensors, options);
    });
  }

 private:
  template <class Start>
  Pending on_stream(std::vector<at::Tensor> kept, Start&& start) {
    at::cuda::CUDAEvent ready;
    ready.record(c10::cuda::getCurrentCUDAStream(device_.index()));
    ready.block(stream_);
    auto done = std::make_shared<at::cuda::CUDAEvent>();
    {
      const c10::cuda::CUDAStreamGuard guard(stream_);
      start();
      done->record(stream_);
    }
    return Pending([done, device = device_, kept = std::move(kept)] {
      done->block(c10::cuda::getCurrentCUDAStream(device.index()));
    });
  }

  at::Device device_;
  c10::cuda::CUDAStream stream_;
  c10::intrusive_ptr<c10d::ProcessGroupNCCL> backend_;
};

}  // namespace

std::unique_ptr<Group> make_nccl_group(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                       Seconds timeout, at::Device device) {
  try {
    return std::make_unique<NcclGroup>(store, rank, size, timeout, device);
  } catch (const std::exception& error) {
    const std::string text = error.what();
    throw CollectiveError(cat("[parallel] rank ", rank, " of ", size,
                              ": NCCL did not find its peers: ", text.substr(0, text.find('\n'))));
  }
}

}  // namespace norma
