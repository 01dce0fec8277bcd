// This process and its peers: how they find each other, exchange small values, and learn that one of them failed.
//
// Ranks form a mesh of `replicate` rows and `shard` columns: rank = replica * shard_degree + shard_rank. A row holds
// the model once, in shards; a column holds the same shard `replicate` times.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "norma/base/peers.h"
#include "norma/parallel/group.h"
#include "norma/parallel/launch.h"

namespace norma {

// What the sharding engine needs to know of the mesh. A group that would have one member is null.
struct Mesh {
  int shard_degree = 1, shard_rank = 0;   // which shard of the model this process holds: its column
  int replicate_degree = 1, replica = 0;  // and of which copy: its row
  Group* gather = nullptr;                // the row, for parameters
  Group* reduce = nullptr;                // the row, for gradients (on a GPU with its own stream)
  Group* replicas = nullptr;              // the column
};

struct WorldOptions {
  LaunchEnvironment launch;
  at::Device device = at::kCPU;
  int shard_degree = 1, replicate_degree = 1;  // their product is the world size
  Seconds start_timeout{600};                  // for every process to arrive
  Seconds timeout{600};                        // for a collective during training
  Seconds grace{5};                            // from a peer's failure to the end of this process
};

class World : public Peers {
 public:
  World();  // one process
  // Meets the others. Throws CollectiveError when they do not all come in time, ConfigError when their meshes differ.
  explicit World(const WorldOptions& options);
  // Waits for the others unless a failure was reported.
  ~World() override;
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  int rank() const override;
  int size() const override;
  Mesh mesh() const;

  // These run over all ranks, on the CPU.
  void sum(std::vector<double>& values) override;
  void minimum(std::vector<double>& values) override;
  std::vector<std::string> gather(const std::string& text) override;
  void barrier(const std::string& what) override;

  // From here on collectives have the timeout of training. Until then they have that of the start, when a rank may read
  // files for long.
  void start_training();

  // Says what this process is doing, for the report of a peer that waits for it in vain.
  void set_step(std::int64_t step);

  // Tells the others that this process fails, and why; they end with exit code 6 within the grace time. When a
  // collective failed, it first asks which ranks are missing. Returns the text to show, "" where another rank has said
  // the same already. Never throws.
  std::string report_failure(const std::string& text, bool collective);

  std::vector<const Group*> groups() const;  // the mesh's, for counting traffic

 private:
  void check_same_mesh(const WorldOptions& options);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace norma
