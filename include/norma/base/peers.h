// The other processes of a run, for the little that rooms ask of them: add up, agree, meet. The rooms never learn how
// messages travel.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace norma {

// Every rank calls the same methods in the same order. All of them may throw CollectiveError.
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

  // Runs `action` on rank 0 and gives its text to every rank. What it throws, all throw, with the same exit code.
  std::string on_first(const std::function<std::string()>& action);
};

// One process alone.
using NoPeers = Peers;

}  // namespace norma
