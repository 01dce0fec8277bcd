#include "run_description.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include "norma/data/run_tokenizer.h"

#include "version.h"

namespace norma {

RunDescription describe_run(const CheckedConfig& checked, const RunPlan& plan,
                            const std::vector<std::string>& arguments, const std::string& device) {
  Environment environment;
  environment.version = version_text();
  environment.commit = commit_hash();
  environment.libtorch = libtorch_version();
  environment.command = arguments;
  environment.working_folder = fs::current_path().string();
  if (const auto origin = token_origin(checked.config.data.paths, fs::current_path())) {
    environment.tokenizer_checksum = origin->checksum;
  }
  environment.device = device;
  environment.threads = at::get_num_threads();
  environment.cpu_capability = at::get_cpu_capability();
  return {
      .config_file = checked.source.file, .config = checked.config, .plan = describe(plan), .environment = environment};
}

}  // namespace norma
