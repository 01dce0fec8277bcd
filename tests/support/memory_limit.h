// A limit on the memory that a test may ask for: beyond it std::bad_alloc is thrown and the machine keeps its memory.
#pragma once

#include <cstdint>
#include <fstream>
#include <stdexcept>

#include <sys/resource.h>
#include <unistd.h>

namespace norma::testing {

// While it lives, this process gets at most `bytes` of address space in addition to what it has.
class MemoryLimit {
 public:
  explicit MemoryLimit(std::uint64_t bytes) {
    std::uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    if (pages == 0 || getrlimit(RLIMIT_AS, &before_) != 0) throw std::runtime_error("the memory in use cannot be read");
    rlimit limit = before_;
    limit.rlim_cur = static_cast<rlim_t>(pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)) + bytes);
    if (setrlimit(RLIMIT_AS, &limit) != 0) throw std::runtime_error("the memory cannot be limited");
  }
  ~MemoryLimit() { setrlimit(RLIMIT_AS, &before_); }
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;

 private:
  rlimit before_{};
};

}  // namespace norma::testing
