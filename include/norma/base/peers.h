// The processes of a run, as the rooms see them: they add up numbers, gather texts and wait for each other. The rooms
// never learn how messages travel.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace norma {

// Every rank must call the same methods in the same order. Each of them may throw CollectiveError.
class Peers {
 public:
  virtual ~Peers() = default;
  virtual int rank() const { return 0; }
  virtual int size() const { return 1; }
  bool is_first() const { return rank() == 0; }

  virtual void sum(std::vector<double>& /*values*/) {}
  virtual void minimum(std::vector<double>& /*values*/) {}
  virtual std::vector<std::string> gather(const std::string& text) { return {text}; }  // by rank, on every rank
  std::string broadcast(const std::string& text) { return gather(is_first() ? text : "").front(); }  // rank 0's
  virtual void barrier(const std::string& /*what*/) {}

  // Runs `action` on rank 0 and returns its text on every rank. If it throws, every rank throws the same error.
  std::string on_first(const std::function<std::string()>& action);
};

// A process without others.
using NoPeers = Peers;

}  // namespace norma
