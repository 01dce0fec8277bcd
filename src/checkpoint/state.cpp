#include "norma/checkpoint/state.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <map>
#include <optional>
#include <set>
#include <thread>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "norma/base/error.h"

namespace norma {
namespace {

constexpr const char* kModelFile = "model";
constexpr const char* kOptimizerFile = "optimizer";

struct KindOfState {
  TensorKind kind;
  const char* file;  // the first part of its name
  const std::vector<at::Tensor> FlatState::*buffers;
};

const std::array<KindOfState, 3>& kinds() {
  static const std::array<KindOfState, 3> all = {{{TensorKind::weight, kModelFile, &FlatState::weights},
                                                  {TensorKind::exp_avg, kOptimizerFile, &FlatState::exp_avg},
                                                  {TensorKind::exp_avg_sq, kOptimizerFile, &FlatState::exp_avg_sq}}};
  return all;
}

// "model.safetensors", or "model-00003-of-00008.safetensors" for one shard of several.
std::string file_name(const std::string& stem, int shard_rank, int degree) {
  if (degree == 1) return stem + ".safetensors";
  char text[64];
  std::snprintf(text, sizeof text, "-%05d-of-%05d.safetensors", shard_rank, degree);
  return stem + text;
}

// One piece of one kind: a tensor of this rank's files.
struct OwnedRange {
  TensorEntry entry;  // without ranges
  TensorRange range;  // without its file's index
  at::Tensor values;  // [end - begin], a view of the flat buffer
};

TensorEntry entry_of(const TensorSpan& tensor, const KindOfState& kind, const FlatState& state) {
  return {tensor.name, kind.kind, dtype_name((state.*kind.buffers)[0].scalar_type()), tensor.shape, {}};
}

// What this rank writes into its file of that name.
std::vector<OwnedRange> owned_ranges(const FlatState& state, const std::string& file) {
  const std::vector<ShardPiece> pieces = pieces_of(state.layout, state.shard_degree, state.shard_rank);
  std::vector<OwnedRange> owned;
  for (const KindOfState& kind : kinds()) {
    const std::vector<at::Tensor>& buffers = state.*kind.buffers;
    if (kind.file != file || buffers.empty()) continue;
    for (const ShardPiece& piece : pieces) {
      owned.push_back(
          {entry_of(*piece.tensor, kind, state), {0, piece.begin, piece.end}, values_of(piece, buffers[piece.unit])});
    }
  }
  return owned;
}

FileEntry write_file(const fs::path& path, const std::vector<OwnedRange>& owned) {
  std::vector<TensorInfo> infos;
  for (const OwnedRange& one : owned) {
    infos.push_back({stored_name(one.entry), one.entry.dtype, stored_shape(one.entry, one.range), 0, 0});
  }
  SafetensorsWriter writer(path, infos);
  for (const OwnedRange& one : owned) writer.write(stored_name(one.entry), bytes_of(one.values.to(at::kCPU)));
  return writer.close();
}

// Writes this rank's files; none when another replica does.
std::vector<FileEntry> write_files(const fs::path& folder, const FlatState& state) {
  std::vector<FileEntry> files;
  if (!state.owner) return files;
  const c10::NoGradGuard no_grad;
  const auto write = [&](const char* stem) {
    const fs::path path = folder / file_name(stem, state.shard_rank, state.shard_degree);
    files.push_back(write_file(path, owned_ranges(state, stem)));
  };
  write(kModelFile);
  if (!state.exp_avg.empty()) write(kOptimizerFile);
  return files;
}

// Where every tensor lies once all shards are written: a function of layout and degree. `files` are those of all ranks.
std::vector<TensorEntry> all_entries(const FlatState& state, const std::vector<FileEntry>& files) {
  const auto index_of = [&](const std::string& name) {
    const auto found = std::find_if(files.begin(), files.end(), [&](const FileEntry& f) { return f.name == name; });
    NORMA_CHECK(found != files.end(), "[checkpoint] no rank wrote ", name);
    return static_cast<std::int64_t>(found - files.begin());
  };
  std::vector<TensorEntry> entries;
  for (const KindOfState& kind : kinds()) {
    if ((state.*kind.buffers).empty()) continue;
    const std::size_t first = entries.size();  // the kind's tensor of number 0
    for (const TensorSpan* tensor : state.layout.tensors()) entries.push_back(entry_of(*tensor, kind, state));
    for (int shard_rank = 0; shard_rank < state.shard_degree; ++shard_rank) {
      const std::string file = file_name(kind.file, shard_rank, state.shard_degree);
      for (const ShardPiece& piece : pieces_of(state.layout, state.shard_degree, shard_rank)) {
        entries[first + piece.number].ranges.push_back({index_of(file), piece.begin, piece.end});
      }
    }
  }
  return entries;
}

// What a rank tells the others about its files.
std::string to_message(const std::vector<FileEntry>& files, const std::string& failure) {
  Json json;
  json["failure"] = failure;
  json["files"] = Json::array();
  for (const FileEntry& file : files) {
    json["files"].push_back({{"name", file.name}, {"bytes", file.bytes}, {"checksum", file.checksum}});
  }
  return to_text(json);
}

std::vector<FileEntry> files_of(const std::vector<std::string>& messages) {
  std::vector<FileEntry> files;
  for (std::size_t rank = 0; rank < messages.size(); ++rank) {
    const Json json = parse_json(messages[rank], cat("what rank ", rank, " says of its files"));
    const std::string failure = json.at("failure").get<std::string>();
    if (!failure.empty()) {
      throw DiskError(messages.size() == 1 ? failure : cat("[checkpoint] rank ", rank, " could not save: ", failure));
    }
    for (const Json& file : json.at("files")) {
      files.push_back({file.at("name").get<std::string>(), file.at("bytes").get<std::uint64_t>(),
                       file.at("checksum").get<std::string>()});
    }
  }
  return files;
}

FlatState copy_of(const FlatState& state) {
  const c10::NoGradGuard no_grad;
  FlatState copy{state.layout, state.shard_degree, state.shard_rank, state.owner, {}, {}, {}};
  if (!state.owner) return copy;
  const auto copy_all = [](const std::vector<at::Tensor>& from, std::vector<at::Tensor>& to) {
    for (const at::Tensor& tensor : from) to.push_back(tensor.to(at::kCPU, /*non_blocking=*/false, /*copy=*/true));
  };
  copy_all(state.weights, copy.weights);
  copy_all(state.exp_avg, copy.exp_avg);
  copy_all(state.exp_avg_sq, copy.exp_avg_sq);
  return copy;
}

}  // namespace

struct CheckpointSave::Work {
  Work(const FlatState& given, Peers& others) : state(given), peers(others) {}

  void write() {
    try {
      files = write_files(folder, state);
    } catch (const std::exception& error) {
      failure = error.what();
    }
    written = true;
  }

  FlatState state;
  Peers& peers;
  Manifest manifest;
  std::optional<PendingCheckpoint> pending;  // on rank 0
  fs::path folder;
  std::vector<FileEntry> files;
  std::string failure;
  std::atomic<bool> written{false};
  std::thread thread;
};

CheckpointSave::CheckpointSave(const fs::path& root, Manifest manifest, const FlatState& state, Peers& peers,
                               SaveMode mode)
    : work_(std::make_unique<Work>(mode == SaveMode::background ? copy_of(state) : state, peers)) {
  Work& work = *work_;
  work.manifest = std::move(manifest);
  work.manifest.world_size = peers.size();
  work.folder = work.peers.on_first([&] {
    work.pending.emplace(root, work.manifest.step);
    return work.pending->folder().string();
  });
  if (mode == SaveMode::background) {
    work.thread = std::thread([&work] { work.write(); });
  } else {
    work.write();
  }
}

CheckpointSave::~CheckpointSave() {
  if (work_->thread.joinable()) work_->thread.join();
}

bool CheckpointSave::written() const {
  return work_->written;
}

fs::path CheckpointSave::finish(const CommitObserver& observer) {
  Work& work = *work_;
  if (work.thread.joinable()) work.thread.join();
  work.manifest.files = files_of(work.peers.gather(to_message(work.files, work.failure)));
  return work.peers.on_first([&] {
    work.manifest.tensors = all_entries(work.state, work.manifest.files);
    return work.pending->commit(work.manifest, observer).string();
  });
}

namespace {

// Throws unless the checkpoint holds the state's tensors, in their shapes and types, and no others.
void check_tensors(const fs::path& folder, const Manifest& manifest, const FlatState& state) {
  std::map<std::string, const TensorEntry*> stored;
  for (const TensorEntry& entry : manifest.tensors) stored[stored_name(entry)] = &entry;
  std::set<std::string> known;  // names of the model
  for (const TensorSpan* tensor : state.layout.tensors()) known.insert(tensor->name);
  for (const TensorEntry& entry : manifest.tensors) {
    const bool unused_moment = entry.kind != TensorKind::weight && state.exp_avg.empty();
    if (known.contains(entry.name) || unused_moment) continue;
    throw CheckpointError(cat("[checkpoint] ", folder.string(), " holds ", stored_name(entry),
                              ", which the model does not have (compare model.* and norm.* with its config)"));
  }
  for (const KindOfState& kind : kinds()) {
    if ((state.*kind.buffers).empty()) continue;
    for (const TensorSpan* tensor : state.layout.tensors()) {
      const TensorEntry wanted = entry_of(*tensor, kind, state);
      const auto found = stored.find(stored_name(wanted));
      if (found == stored.end()) {
        throw CheckpointError(cat("[checkpoint] ", folder.string(), " lacks ", stored_name(wanted),
                                  "; it is of another model (compare model.* and norm.* with its config)"));
      }
      const TensorEntry& entry = *found->second;
      if (entry.shape == wanted.shape && entry.dtype == wanted.dtype) continue;
      throw CheckpointError(cat("[checkpoint] ", folder.string(), ": ", stored_name(entry), " is ", entry.dtype, " ",
                                at::IntArrayRef(entry.shape), ", the model has ", wanted.dtype, " ",
                                at::IntArrayRef(wanted.shape)));
    }
  }
}

}  // namespace

void read_checkpoint(const fs::path& folder, const Manifest& manifest, const FlatState& state) {
  const c10::NoGradGuard no_grad;
  check_tensors(folder, manifest, state);
  const std::vector<ShardPiece> pieces = pieces_of(state.layout, state.shard_degree, state.shard_rank);
  for (const KindOfState& kind : kinds()) {
    const std::vector<at::Tensor>& buffers = state.*kind.buffers;
    if (!buffers.empty()) fill(pieces, buffers, CheckpointReader(folder, manifest, kind.kind));
  }
}

}  // namespace norma
