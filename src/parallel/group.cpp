#include "norma/parallel/group.h"

#include <cstdlib>

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include "norma/base/error.h"

#include "activity.h"

namespace norma {
namespace {

using WorkPtr = c10::intrusive_ptr<c10d::Work>;

// Gloo's text is long and starts with a file of its source: "[/path/pair.cc:538] Read error ...". Messages show the
// rest of its first line.
std::string reason_of(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  const std::string text = torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
  const std::string line = text.substr(0, text.find('\n'));
  const std::size_t source = line.find("] ");
  return line.compare(0, 2, "[/") == 0 && source != std::string::npos ? line.substr(source + 2) : line;
}

// The interfaces that GLOO_SOCKET_IFNAME names, as in PyTorch; without it, the one with this address.
std::vector<std::shared_ptr<gloo::transport::Device>> devices(const std::string& address) {
  const char* const interfaces = std::getenv("GLOO_SOCKET_IFNAME");
  if (interfaces == nullptr) return {c10d::ProcessGroupGloo::createDeviceForHostname(address)};
  std::vector<std::shared_ptr<gloo::transport::Device>> found;
  for (const std::string& name : split(interfaces, ',')) {
    found.push_back(c10d::ProcessGroupGloo::createDeviceForInterface(name));
  }
  return found;
}

class GlooGroup : public Group {
 public:
  GlooGroup(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, Seconds timeout,
            const std::string& address)
      : Group(rank, size) {
    auto options = c10d::ProcessGroupGloo::Options::create(whole_milliseconds(timeout));
    options->devices = devices(address);
    backend_ = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
  }

  void set_timeout(Seconds timeout) override { backend_->setTimeout(whole_milliseconds(timeout)); }
  void abort() override { backend_->abort(); }

 protected:
  Pending start_all_gather(const at::Tensor& whole, const at::Tensor& part) override {
    at::Tensor out = whole, in = part;
    return pending(backend_->_allgather_base(out, in), {whole, part});
  }
  Pending start_reduce_scatter(const at::Tensor& part, const at::Tensor& whole) override {
    at::Tensor out = part, in = whole;
    return pending(backend_->_reduce_scatter_base(out, in), {whole, part});
  }
  Pending start_all_reduce(const at::Tensor& tensor) override {
    std::vector<at::Tensor> tensors = {tensor};
    return pending(backend_->allreduce(tensors), tensors);
  }

 private:
  // The work runs on another thread: it and its tensors must live until it is done.
  static Pending pending(const WorkPtr& work, const std::vector<at::Tensor>& kept) {
    return Pending([work, kept] { work->wait(); });
  }

  c10::intrusive_ptr<c10d::ProcessGroupGloo> backend_;
};

}  // namespace

std::chrono::milliseconds whole_milliseconds(Seconds seconds) {
  return std::chrono::ceil<std::chrono::milliseconds>(seconds);
}

// Starts a collective. A failure while it starts or runs becomes a CollectiveError that names it.
Pending Group::named(const std::function<Pending()>& start, const std::string& text) {
  const auto failure = [this, text](const std::exception& error) {
    const std::string step = activity_ ? cat(" at step ", activity_->step()) : "";
    return CollectiveError(cat("[parallel] ", text, step, " failed: ", reason_of(error)));
  };
  try {
    auto started = std::make_shared<Pending>(start());
    return Pending([this, started, failure, text] {
      if (activity_) activity_->set_waiting(text);
      const auto begin = std::chrono::steady_clock::now();
      try {
        started->wait();
      } catch (const std::exception& error) {
        throw failure(error);
      }
      traffic_.waited += std::chrono::steady_clock::now() - begin;
      if (activity_) activity_->set_waiting("");
    });
  } catch (const std::exception& error) {
    throw failure(error);
  }
}

Pending Group::all_gather(const at::Tensor& whole, const at::Tensor& part, const std::string& what) {
  NORMA_CHECK(whole.numel() == part.numel() * size_, "[parallel] all-gather of ", what);
  traffic_.all_gathers += 1;
  traffic_.gathered_bytes += static_cast<double>(whole.nbytes()) * (size_ - 1) / size_;
  return named([&] { return start_all_gather(whole, part); }, cat("the all-gather of ", what));
}

Pending Group::reduce_scatter(const at::Tensor& part, const at::Tensor& whole, const std::string& what) {
  NORMA_CHECK(whole.numel() == part.numel() * size_, "[parallel] reduce-scatter of ", what);
  traffic_.reduce_scatters += 1;
  traffic_.scattered_bytes += static_cast<double>(whole.nbytes()) * (size_ - 1) / size_;
  return named([&] { return start_reduce_scatter(part, whole); }, cat("the reduce-scatter of ", what));
}

Pending Group::all_reduce(const at::Tensor& tensor, const std::string& what) {
  traffic_.all_reduces += 1;
  traffic_.reduced_bytes += 2.0 * static_cast<double>(tensor.nbytes()) * (size_ - 1) / size_;
  return named([&] { return start_all_reduce(tensor); }, cat("the all-reduce of ", what));
}

std::unique_ptr<Group> make_gloo_group(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                       Seconds timeout, const std::string& address) {
  try {
    return std::make_unique<GlooGroup>(store, rank, size, timeout, address);
  } catch (const std::exception& error) {
    throw CollectiveError(
        cat("[parallel] rank ", rank, " of ", size, ": the peers did not find each other: ", reason_of(error)));
  }
}

}  // namespace norma
