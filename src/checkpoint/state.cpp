#include "norma/checkpoint/state.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
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

struct KindOfState {
  TensorKind kind;
  const char* file;
  const std::vector<at::Tensor> FlatState::*buffers;
};

const std::array<KindOfState, 3>& kinds() {
  static const std::array<KindOfState, 3> all = {{{TensorKind::weight, "model", &FlatState::weights},
                                                  {TensorKind::exp_avg, "optimizer", &FlatState::exp_avg},
                                                  {TensorKind::exp_avg_sq, "optimizer", &FlatState::exp_avg_sq}}};
  return all;
}

std::string dtype_name(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? "F64" : "F32";
}

// "model.safetensors", or "model-00003-of-00008.safetensors" for one shard of several.
std::string file_name(const std::string& stem, int place, int degree) {
  if (degree == 1) return stem + ".safetensors";
  char text[64];
  std::snprintf(text, sizeof text, "-%05d-of-%05d.safetensors", place, degree);
  return stem + text;
}

// A tensor's range in this rank's shard, with its values.
struct Piece {
  TensorEntry entry;  // without ranges
  TensorRange range;  // its file is not known yet
  at::Tensor values;  // [end - begin], a view of the flat buffer
  const char* stem;   // of the file
};

std::vector<Piece> pieces_of(const FlatState& state) {
  std::vector<Piece> pieces;
  for (const KindOfState& kind : kinds()) {
    const std::vector<at::Tensor>& buffers = state.*kind.buffers;
    for (std::size_t u = 0; u < buffers.size(); ++u) {
      const UnitLayout& unit = state.layout.units[u];
      for (const TensorPiece& p : pieces_of(unit, shard_of(unit, state.shard_degree, state.place))) {
        const at::Tensor values = buffers[u].narrow(0, p.offset, p.end - p.begin);
        const TensorEntry entry = {p.tensor->name, kind.kind, dtype_name(values), p.tensor->shape, {}};
        pieces.push_back({entry, {0, p.begin, p.end}, values, kind.file});
      }
    }
  }
  return pieces;
}

std::span<const std::byte> bytes_of(const at::Tensor& contiguous) {
  return {static_cast<const std::byte*>(contiguous.const_data_ptr()), contiguous.nbytes()};
}

FileEntry write_file(const fs::path& path, const char* stem, const std::vector<Piece>& pieces) {
  std::vector<TensorInfo> infos;
  for (const Piece& piece : pieces) {
    if (piece.stem != stem) continue;
    infos.push_back({stored_name(piece.entry), piece.entry.dtype, stored_shape(piece.entry, piece.range), 0, 0});
  }
  SafetensorsWriter writer(path, infos);
  for (const Piece& piece : pieces) {
    if (piece.stem == stem) writer.write(stored_name(piece.entry), bytes_of(piece.values.to(at::kCPU).contiguous()));
  }
  return writer.close();
}

// Writes this rank's files; none when another replica does.
std::vector<FileEntry> write_files(const fs::path& folder, const FlatState& state) {
  std::vector<FileEntry> files;
  if (!state.owner) return files;
  const c10::NoGradGuard no_grad;
  const std::vector<Piece> pieces = pieces_of(state);
  for (const char* stem : {kinds()[0].file, kinds()[1].file}) {
    if (state.exp_avg.empty() && stem != kinds()[0].file) continue;
    files.push_back(write_file(folder / file_name(stem, state.place, state.shard_degree), stem, pieces));
  }
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
    const std::vector<at::Tensor>& buffers = state.*kind.buffers;
    for (std::size_t u = 0; u < buffers.size(); ++u) {
      const UnitLayout& unit = state.layout.units[u];
      std::map<const TensorSpan*, TensorEntry> by_tensor;
      for (int place = 0; place < state.shard_degree; ++place) {
        for (const TensorPiece& p : pieces_of(unit, shard_of(unit, state.shard_degree, place))) {
          TensorEntry& entry = by_tensor[p.tensor];
          entry.ranges.push_back({index_of(file_name(kind.file, place, state.shard_degree)), p.begin, p.end});
        }
      }
      for (const TensorSpan& tensor : unit.tensors) {
        TensorEntry entry = by_tensor.at(&tensor);
        entries.push_back({tensor.name, kind.kind, dtype_name(buffers[u]), tensor.shape, entry.ranges});
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
  FlatState copy{state.layout, state.shard_degree, state.place, state.owner, {}, {}, {}};
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

// The part of a stored range that this rank wants, into its place.
void copy_overlap(const SafetensorsFile& file, const TensorEntry& entry, const TensorRange& stored,
                  const Piece& piece) {
  const std::int64_t begin = std::max(stored.begin, piece.range.begin), end = std::min(stored.end, piece.range.end);
  if (begin >= end) return;
  const std::span<const std::byte> bytes = file.bytes(stored_name(entry));
  const std::size_t size = piece.values.element_size();
  if (bytes.size() != static_cast<std::size_t>(stored.end - stored.begin) * size) {
    throw CheckpointError(cat("[checkpoint] tensor ", entry.name, ": ", bytes.size(), " bytes stored, ",
                              static_cast<std::size_t>(stored.end - stored.begin) * size, " expected"));
  }
  at::Tensor staged = at::empty({end - begin}, piece.values.options().device(at::kCPU));
  std::memcpy(staged.mutable_data_ptr(), bytes.data() + static_cast<std::size_t>(begin - stored.begin) * size,
              staged.nbytes());
  piece.values.narrow(0, begin - piece.range.begin, end - begin).copy_(staged);
}

const TensorEntry& matching_entry(const fs::path& folder, const Manifest& manifest, const Piece& piece) {
  const TensorEntry* entry = manifest.find(piece.entry.name, piece.entry.kind);
  if (entry == nullptr) {
    throw CheckpointError(cat("[checkpoint] ", folder.string(), " lacks ", stored_name(piece.entry),
                              "; it is of another model (compare model.* and norm.* with its config)"));
  }
  if (entry->shape != piece.entry.shape || entry->dtype != piece.entry.dtype) {
    throw CheckpointError(cat("[checkpoint] ", folder.string(), ": ", stored_name(*entry), " is ", entry->dtype, " ",
                              at::IntArrayRef(entry->shape), ", the model has ", piece.entry.dtype, " ",
                              at::IntArrayRef(piece.entry.shape)));
  }
  return *entry;
}

void refuse_left_over(const fs::path& folder, const Manifest& manifest, const FlatState& state) {
  for (const TensorEntry& entry : manifest.tensors) {
    const bool unused_moment = entry.kind != TensorKind::weight && state.exp_avg.empty();
    if (state.layout.find(entry.name) == nullptr && !unused_moment) {
      throw CheckpointError(cat("[checkpoint] ", folder.string(), " holds ", stored_name(entry),
                                ", which the model does not have (compare model.* and norm.* with its config)"));
    }
  }
}

}  // namespace

void read_checkpoint(const fs::path& folder, const Manifest& manifest, const FlatState& state) {
  const c10::NoGradGuard no_grad;
  refuse_left_over(folder, manifest, state);
  std::map<std::int64_t, SafetensorsFile> files;
  for (const Piece& piece : pieces_of(state)) {
    const TensorEntry& entry = matching_entry(folder, manifest, piece);
    for (const TensorRange& range : entry.ranges) {
      if (range.end <= piece.range.begin || range.begin >= piece.range.end) continue;
      const fs::path path = folder / manifest.files[static_cast<std::size_t>(range.file)].name;
      copy_overlap(files.try_emplace(range.file, path).first->second, entry, range, piece);
    }
  }
}

}  // namespace norma
