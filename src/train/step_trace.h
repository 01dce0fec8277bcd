// A trace of some training steps for chrome://tracing or Perfetto: every op, unit and collective with its time, and on
// a GPU every kernel. Kineto, inside LibTorch, records and writes it.
#pragma once

#include "norma/base/file.h"

namespace norma {

class StepTrace {
 public:
  explicit StepTrace(bool cuda) : cuda_(cuda) {}
  ~StepTrace();
  StepTrace(const StepTrace&) = delete;
  StepTrace& operator=(const StepTrace&) = delete;

  void start();
  // Writes what happened since start(). Throws DiskError.
  void stop(const fs::path& file);
  bool running() const { return running_; }

 private:
  bool cuda_;
  bool running_ = false;
};

}  // namespace norma
