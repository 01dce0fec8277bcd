// norma export --to hf: a folder appears only when it was read again and computes the same.
#include <cstdio>
#include <map>
#include <span>
#include <system_error>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "norma/base/error.h"
#include "norma/base/file.h"
#include "norma/base/log.h"
#include "norma/checkpoint/commit.h"
#include "norma/interop/hf_folder.h"
#include "norma/interop/model_source.h"
#include "norma/model/cost.h"

#include "checkpoint_model.h"
#include "export_formats.h"
#include "option_checks.h"
#include "run_tokenizer.h"

namespace norma {
namespace {

constexpr std::int64_t kInstances = 2, kMostTokens = 32;  // [B, T] of the ids whose logits are compared
constexpr std::int64_t kMostPrinted = 1 << 16;            // logits in the file of --logits

// The run's tokenizer; nullopt, with a warning, when there is none. The one that --tokenizer names must be usable.
std::optional<HfTokenizer> find_tokenizer(const ExportArguments& arguments, const RunConfig& config,
                                          const fs::path& checkpoint) {
  try {
    return hf_tokenizer_of(find_run_tokenizer(arguments.tokenizer, config, checkpoint), config.model.sequence_length);
  } catch (const DataError& error) {
    if (!arguments.tokenizer.empty()) throw;
    log_warning(cat(error.what(), "; the exported folder has no tokenizer"));
    return std::nullopt;
  }
}

// ---- What the model computes ----

// Ids [2, T] without short or regular repetitions.
at::Tensor probe_ids(const ModelConfig& model) {
  const std::int64_t time = std::min(model.sequence_length, kMostTokens);
  const at::Tensor t = at::arange(time, at::kLong), b = at::arange(kInstances, at::kLong).unsqueeze(1);
  return (b * 7 + t * 5 + t * t * 3 + b * t).remainder(model.vocab_size);
}

at::Tensor logits_of(const Session& session, const at::Tensor& ids) {
  const c10::NoGradGuard no_grad;
  return session.model->logits(ids, *session.engine).to(at::kDouble);  // [B, T, V]
}

// Rounds the weights to what the folder will hold.
void round_weights(Session& session, at::ScalarType type) {
  for (const ShardPiece& piece : session.engine->pieces()) {
    const at::Tensor values = values_of(piece, session.engine->flat_units()[piece.unit].master);
    values.copy_(values.to(piece.tensor->name.ends_with(".selection_bias") ? at::kFloat : type));
  }
  session.engine->refresh_compute();
}

// The weights of a session of one process, which holds all of them.
class SessionWeights final : public WeightReader {
 public:
  explicit SessionWeights(const Session& session) {
    for (const ShardPiece& piece : session.engine->pieces()) {
      values_[piece.tensor->name] = values_of(piece, session.engine->flat_units()[piece.unit].master);
    }
  }
  void read(const std::string& parameter, std::int64_t begin, const at::Tensor& out) const override {
    out.copy_(values_.at(parameter).narrow(0, begin, out.numel()));
  }
  // A checksum over every weight's name and values.
  std::string digest() const {
    RunningChecksum sum;
    for (const auto& [name, values] : values_) {
      sum.update(std::as_bytes(std::span(name)));
      sum.update(bytes_of(values));
    }
    return sum.digest();
  }

 private:
  std::map<std::string, at::Tensor> values_;
};

// What the written folder must give when it is read again.
struct Expected {
  std::string weights;
  at::Tensor ids, logits;
};

// Reads the folder as norma reads any Hugging Face folder.
void check_folder(const fs::path& folder, const RunConfig& source, const Expected& expected) {
  ModelSource written = find_model(folder);
  RunConfig config = source;
  config.model = written.config.model;
  config.norm = written.config.norm;
  written.config = config;
  const Session session = load_model(written, at::kCPU, World());
  NORMA_CHECK(SessionWeights(session).digest() == expected.weights,
              "[export] the folder, read again, has other weights");
  const at::Tensor logits = logits_of(session, expected.ids);
  NORMA_CHECK(at::equal(logits, expected.logits), "[export] the folder, read again, gives other logits: up to ",
              shortest((logits - expected.logits).abs().max().item<double>()), " away");
}

Json numbers_of(const at::Tensor& values) {
  const at::Tensor dense = values.contiguous();
  const double* const first = dense.const_data_ptr<double>();
  return std::vector<double>(first, first + dense.numel());
}

Json rows_of(const at::Tensor& values) {  // [B, T, ...] as nested lists
  if (values.dim() == 1) return numbers_of(values);
  Json rows = Json::array();
  for (const at::Tensor& row : values.unbind(0)) rows.push_back(rows_of(row));
  return rows;
}

void write_logits(const std::string& path, const HfModel& model, const at::Tensor& ids, const at::Tensor& logits) {
  Json id_rows = Json::array();
  for (const at::Tensor& row : ids.unbind(0)) {
    const std::int64_t* const first = row.contiguous().const_data_ptr<std::int64_t>();
    id_rows.push_back(std::vector<std::int64_t>(first, first + row.numel()));
  }
  Json json = {{"num_parameters", model_cost(model.model, model.plan).parameters}, {"ids", id_rows}};
  if (ids.size(1) > 1) {
    const std::int64_t pairs = ids.size(1) - 1;
    const at::Tensor log_p = at::log_softmax(logits.narrow(1, 0, pairs), -1);
    json["loss"] = -log_p.gather(2, ids.narrow(1, 1, pairs).unsqueeze(2)).mean().item<double>();
  }
  json["logits_first"] = numbers_of(logits[0][0]);
  json["logits_last"] = numbers_of(logits[-1][-1]);
  if (logits.numel() <= kMostPrinted) json["logits"] = rows_of(logits);
  write_file_atomic(path, json.dump() + "\n");
}

}  // namespace

void export_hf(const ExportArguments& arguments) {
  HfExportOptions options;
  options.dtype = choice<HfDtype>("export", "--dtype", arguments.dtype);
  options.max_shard_bytes = arguments.max_shard_bytes;
  const auto remote_code = choice<RemoteCode>("export", "--remote-code", arguments.remote_code);
  const fs::path target = output_folder("export", "--out", arguments.out);
  output_file("export", "--logits", arguments.logits);
  StagedPath staged(target, "export");
  const fs::path checkpoint = find_checkpoint(arguments.from);
  verify_checkpoint(checkpoint);
  HfModel model;
  CheckpointModel source = load_checkpoint_model(checkpoint, Device::cpu, arguments.threads, [&](RunConfig& config) {
    if (arguments.ignore_document_separator) config.model.document_separator.reset();
    if (config.precision == Precision::bf16) config.precision = Precision::fp32;  // the master weights
    Problems none;
    model = hf_model_of(config.model, make_norm_plan(config.norm, config.model, none), remote_code);
    options.tokenizer = find_tokenizer(arguments, config, checkpoint);  // fails before weights are read
  });

  const at::Tensor ids = probe_ids(source.config.model), before = logits_of(source.session, ids);
  round_weights(source.session, options.dtype == HfDtype::bf16 ? at::kBFloat16 : at::kFloat);
  const Expected expected{SessionWeights(source.session).digest(), ids, logits_of(source.session, ids)};
  if (!at::isfinite(expected.logits).all().item<bool>()) {
    throw DivergedError(cat("[export] ", checkpoint.string(), " holds a model whose logits are not finite"));
  }
  staged.make_folder();
  write_hf_folder(staged.path(), model, options, SessionWeights(source.session));
  source.session = {};  // one model at a time in memory
  check_folder(staged.path(), source.config, expected);
  sync_folder(staged.path());
  if (!arguments.logits.empty()) write_logits(arguments.logits, model, ids, expected.logits);
  staged.publish();

  const double rounding = (expected.logits - before).abs().max().item<double>();
  std::printf(
      "%s as %s in %s: read again, it gives the same logits%s\n", checkpoint.c_str(), model.model_type.c_str(),
      arguments.out.c_str(),
      rounding > 0.0 ? cat(" (rounding the weights moved them by up to ", shortest(rounding), ")").c_str() : "");
  if (model.model_type == kNormaType) std::printf("Load it with trust_remote_code=True.\n");
}

}  // namespace norma
