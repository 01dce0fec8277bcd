#include "norma/checkpoint/state.h"

#include <array>
#include <cstring>
#include <map>
#include <set>

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

constexpr const char* kModelFile = "model.safetensors";
constexpr const char* kOptimizerFile = "optimizer.safetensors";

const std::array<KindOfState, 3>& kinds() {
  static const std::array<KindOfState, 3> all = {{{TensorKind::weight, kModelFile, &FlatState::weights},
                                                  {TensorKind::exp_avg, kOptimizerFile, &FlatState::exp_avg},
                                                  {TensorKind::exp_avg_sq, kOptimizerFile, &FlatState::exp_avg_sq}}};
  return all;
}

std::string dtype_name(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? "F64" : "F32";
}

// A tensor of the state with its place in the checkpoint.
struct Piece {
  TensorEntry entry;
  at::Tensor values;  // [numel], a view of the flat buffer
  const char* file;
};

std::vector<Piece> pieces_of(const FlatState& state) {
  std::vector<Piece> pieces;
  for (const KindOfState& kind : kinds()) {
    const std::vector<at::Tensor>& buffers = state.*kind.buffers;
    for (std::size_t u = 0; u < buffers.size(); ++u) {
      for (const TensorSpan& span : state.layout.units[u].tensors) {
        const at::Tensor values = buffers[u].narrow(0, span.offset, span.numel);
        pieces.push_back({{span.name, kind.kind, dtype_name(values), span.shape, {}}, values, kind.file});
      }
    }
  }
  return pieces;
}

std::span<const std::byte> bytes_of(const at::Tensor& contiguous) {
  return {static_cast<const std::byte*>(contiguous.const_data_ptr()), contiguous.nbytes()};
}

FileEntry write_file(const PendingCheckpoint& pending, const char* file, const std::vector<Piece>& pieces) {
  std::vector<TensorInfo> infos;
  for (const Piece& piece : pieces) {
    if (piece.file == file) infos.push_back({stored_name(piece.entry), piece.entry.dtype, piece.entry.shape, 0, 0});
  }
  SafetensorsWriter writer(pending.file(file), infos);
  for (const Piece& piece : pieces) {
    if (piece.file == file) writer.write(stored_name(piece.entry), bytes_of(piece.values.to(at::kCPU).contiguous()));
  }
  return writer.close();
}

// One range of a stored tensor into its place.
void copy_range(const SafetensorsFile& file, const TensorEntry& entry, const TensorRange& range, const Piece& piece) {
  const std::span<const std::byte> bytes = file.bytes(stored_name(entry));
  at::Tensor staged = at::empty({range.end - range.begin}, piece.values.options().device(at::kCPU));
  if (bytes.size() != staged.nbytes()) {
    throw CheckpointError(
        cat("[checkpoint] tensor ", entry.name, ": ", bytes.size(), " bytes stored, ", staged.nbytes(), " expected"));
  }
  std::memcpy(staged.mutable_data_ptr(), bytes.data(), bytes.size());
  piece.values.narrow(0, range.begin, range.end - range.begin).copy_(staged);
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

void refuse_left_over(const fs::path& folder, const Manifest& manifest, const FlatState& state,
                      const std::vector<Piece>& pieces) {
  std::set<std::pair<TensorKind, std::string>> known;
  for (const Piece& piece : pieces) known.insert({piece.entry.kind, piece.entry.name});
  for (const TensorEntry& entry : manifest.tensors) {
    const bool wanted = known.count({entry.kind, entry.name}) > 0;
    const bool unused_moment = entry.kind != TensorKind::weight && state.exp_avg.empty();
    if (!wanted && !unused_moment) {
      throw CheckpointError(cat("[checkpoint] ", folder.string(), " holds ", stored_name(entry),
                                ", which the model does not have (compare model.* and norm.* with its config)"));
    }
  }
}

}  // namespace

fs::path write_checkpoint(const fs::path& root, Manifest manifest, const FlatState& state) {
  std::vector<Piece> pieces = pieces_of(state);
  PendingCheckpoint pending(root, manifest.step);
  manifest.files = {write_file(pending, kModelFile, pieces)};
  if (!state.exp_avg.empty()) manifest.files.push_back(write_file(pending, kOptimizerFile, pieces));
  for (Piece& piece : pieces) {
    piece.entry.ranges = {{piece.file == kModelFile ? 0 : 1, 0, piece.values.numel()}};
    manifest.tensors.push_back(piece.entry);
  }
  return pending.commit(manifest);
}

void read_checkpoint(const fs::path& folder, const Manifest& manifest, const FlatState& state) {
  const c10::NoGradGuard no_grad;
  const std::vector<Piece> pieces = pieces_of(state);
  refuse_left_over(folder, manifest, state, pieces);
  std::map<std::int64_t, SafetensorsFile> files;
  for (const Piece& piece : pieces) {
    const TensorEntry& entry = matching_entry(folder, manifest, piece);
    for (const TensorRange& range : entry.ranges) {
      const fs::path path = folder / manifest.files[static_cast<std::size_t>(range.file)].name;
      const SafetensorsFile& file = files.try_emplace(range.file, path).first->second;
      copy_range(file, entry, range, piece);
    }
  }
}

}  // namespace norma
