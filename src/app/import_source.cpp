#include "import_source.h"

#include <memory>

#include "norma/base/error.h"
#include "norma/checkpoint/manifest.h"
#include "norma/config/foreign_yaml.h"
#include "norma/interop/hf_folder.h"
#include "norma/interop/olmo_folder.h"
#include "norma/record/run_folder.h"

namespace norma {
namespace {

ImportSource open_hf_folder(const fs::path& path, const std::string& config) {
  const auto folder = std::make_shared<const HfFolder>(path);
  const HfModel& hf = folder->model();
  return {
      cat("the ", hf.model_type, " folder ", path.string()),
      hf.model,
      hf.norm,
      hf.plan,
      [folder](const std::string& name, std::int64_t begin, const at::Tensor& out) { folder->read(name, begin, out); },
      path,
      config};
}

// What one of our configs says of the model, in place of OLMo's.
OlmoModel read_our_config(const std::string& config) {
  const CheckedConfig ours = load_checked_config(config, {});
  return {ours.config.model, ours.config.norm, ours.norms};
}

ImportSource open_olmo_file(const fs::path& file, const std::string& config) {
  const std::string beside = (file.parent_path() / "config.yaml").string(), used = config.empty() ? beside : config;
  if (config.empty() && !fs::exists(beside)) {
    throw ConfigError(cat("[import] the names in ", file.string(), " do not say what the model is, and there is no ",
                          beside, "; name OLMo's config.yaml, or a config of ours, with --config"));
  }
  const Json json = read_foreign_yaml(used);
  const bool is_olmo = is_olmo_config(json);
  const OlmoModel olmo = is_olmo ? read_olmo_config(json, used) : read_our_config(used);
  const auto weights = std::make_shared<const OlmoWeights>(file, olmo.model, olmo.plan);
  return {cat("OLMo's weights ", file.string(), " with ", used),
          olmo.model,
          olmo.norm,
          olmo.plan,
          [weights](const std::string& name, std::int64_t begin, const at::Tensor& out) {
            weights->read(name, begin, out);
          },
          file.parent_path(),
          is_olmo ? "" : used};
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

ImportSource open_import_source(const fs::path& path, const std::string& config) {
  if (fs::exists(path / "config.json")) return open_hf_folder(path, config);
  if (fs::is_regular_file(path) && path.extension() == ".safetensors") return open_olmo_file(path, config);
  if (fs::is_regular_file(path / "model.safetensors") && !fs::exists(path / kManifestName)) {
    return open_olmo_file(path / "model.safetensors", config);
  }
  refuse(path);
}

}  // namespace norma
