#include "norma/interop/model_source.h"

#include "norma/base/error.h"
#include "norma/checkpoint/state.h"
#include "norma/config/foreign_yaml.h"
#include "norma/config/yaml.h"
#include "norma/data/run_tokenizer.h"
#include "norma/interop/hf_folder.h"
#include "norma/interop/olmo_folder.h"
#include "norma/record/run_folder.h"

namespace norma {
namespace {

// Checks a config of ours for what a model needs. Problems are those of reading and validating it.
NormPlan plan_of(LoadedConfig& loaded) {
  append(loaded.problems, validate(loaded.config));
  if (!loaded.problems.empty()) return {};
  return make_norm_plan(loaded.config.norm, loaded.config.model, loaded.problems);
}

ModelSource open_hf_folder(const fs::path& path) {
  const auto folder = std::make_shared<const HfFolder>(path);
  const HfModel& hf = folder->model();
  ModelSource source;
  source.what = cat("the ", hf.model_type, " folder ", path.string());
  source.folder = path;
  source.config.model = hf.model;
  source.config.norm = hf.norm;
  if (const auto tokenizer = tokenizer_in(path)) source.config.data.tokenizer = fs::absolute(*tokenizer);
  source.norms = hf.plan;
  source.weights = folder;
  return source;
}

// What one of our configs says of the model, in place of OLMo's.
OlmoModel read_our_config(const std::string& file) {
  LoadedConfig loaded = load_config(file, {});
  const NormPlan plan = plan_of(loaded);
  if (!loaded.problems.empty()) {
    throw ConfigError("[config] " + join(describe(loaded.problems, loaded.source), "\n  "));
  }
  return {loaded.config.model, loaded.config.norm, plan};
}

ForeignModel open_olmo_file(const fs::path& file, const std::string& config) {
  const std::string beside = (file.parent_path() / "config.yaml").string(), used = config.empty() ? beside : config;
  if (config.empty() && !fs::exists(beside)) {
    throw ConfigError(cat("[import] the names in ", file.string(), " do not say what the model is, and there is no ",
                          beside, "; name OLMo's config.yaml, or a config of ours, with --config"));
  }
  const Json json = read_foreign_yaml(used);
  const bool is_olmo = is_olmo_config(json);
  const OlmoModel olmo = is_olmo ? read_olmo_config(json, used) : read_our_config(used);
  ForeignModel found;
  found.what = cat("OLMo's weights ", file.string(), " with ", used);
  found.folder = file.parent_path();
  found.config.model = olmo.model;
  found.config.norm = olmo.norm;
  found.norms = olmo.plan;
  found.weights = std::make_shared<const OlmoWeights>(file, olmo.model, olmo.plan);
  if (!is_olmo) found.settings = used;
  return found;
}

[[noreturn]] void refuse(const fs::path& path) {
  std::string text = "holds no config.json (Hugging Face) and no model.safetensors (OLMo)";
  if (!fs::exists(path)) text = "does not exist";
  if (fs::is_regular_file(path)) text = "is no .safetensors file; Python pickles (.pt, .bin) are not read";
  if (fs::exists(path / kManifestName) || fs::exists(path / kLatestFile)) {
    text = "is a checkpoint or a run already; name it in checkpoint.resume";
  }
  throw DataError(cat("[import] ", path.string(), " ", text));
}

}  // namespace

ModelSource open_checkpoint_model(const fs::path& path) {
  ModelSource source;
  source.folder = find_checkpoint(path);
  source.what = "the checkpoint " + source.folder.string();
  const Manifest manifest = open_checkpoint(source.folder);
  LoadedConfig loaded = parse_config(manifest.config, (source.folder / kManifestName).string());
  source.norms = plan_of(loaded);
  if (!loaded.problems.empty()) {
    throw CheckpointError(cat("[checkpoint] the config inside ", source.folder.string(),
                              " is not understood: ", join(describe(loaded.problems, loaded.source), "; ")));
  }
  source.config = loaded.config;
  source.weights = std::make_shared<const CheckpointReader>(source.folder, manifest);
  source.step = manifest.step;
  return source;
}

ModelSource find_model(const fs::path& path) {
  std::error_code error;
  return fs::exists(path / "config.json", error) ? open_hf_folder(path) : open_checkpoint_model(path);
}

ForeignModel open_foreign_model(const fs::path& path, const std::string& config) {
  if (fs::exists(path / "config.json")) return {open_hf_folder(path), config};
  if (fs::is_regular_file(path) && path.extension() == ".safetensors") return open_olmo_file(path, config);
  if (fs::is_regular_file(path / "model.safetensors") && !fs::exists(path / kManifestName)) {
    return open_olmo_file(path / "model.safetensors", config);
  }
  refuse(path);
}

}  // namespace norma
