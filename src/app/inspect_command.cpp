// norma inspect: what a checkpoint, a Hugging Face folder or a token file holds.
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>

#include "norma/base/error.h"
#include "norma/base/text.h"
#include "norma/checkpoint/commit.h"
#include "norma/config/names.h"
#include "norma/data/token_file.h"
#include "norma/data/tokenizer.h"
#include "norma/interop/hf_folder.h"
#include "norma/model/cost.h"

#include "commands.h"

namespace norma {
namespace {

struct InspectArguments {
  std::string path, dtype = "auto";
  std::int64_t head = 32;
  bool verify = false;
};

void inspect_checkpoint(const fs::path& folder, bool verify) {
  const Manifest manifest = verify ? verify_checkpoint(folder) : open_checkpoint(folder);
  std::printf("checkpoint %s\nstep %s, %s tokens seen, written by %lld %s\n", folder.c_str(),
              with_commas(manifest.step).c_str(), with_commas(manifest.tokens).c_str(),
              static_cast<long long>(manifest.world_size), manifest.world_size == 1 ? "process" : "processes");
  for (const FileEntry& file : manifest.files) {
    std::printf("  %s  %s  xxh3 %s%s\n", file.name.c_str(), human_bytes(static_cast<double>(file.bytes)).c_str(),
                file.checksum.c_str(), verify ? "  verified" : "");
  }
  std::printf("data %s\ntrainer %s\n", manifest.data.dump().c_str(), manifest.trainer.dump().c_str());
  std::int64_t parameters = 0;
  for (const TensorEntry& tensor : manifest.tensors) {
    if (tensor.kind != TensorKind::weight) continue;
    std::printf("  %-42s %s %s\n", tensor.name.c_str(), tensor.dtype.c_str(), shape_text(tensor.shape).c_str());
    parameters += element_count(tensor.shape).value_or(0);
  }
  std::printf("%s parameters\n", with_commas(parameters).c_str());
}

// Shows a Hugging Face folder in our terms; what cannot be represented is refused by its name.
void inspect_hf_folder(const fs::path& path) {
  const HfFolder folder(path);
  const HfModel& hf = folder.model();
  const ModelConfig& m = hf.model;
  std::printf("Hugging Face folder %s, model_type %s\n%lld layers, d_model %lld, %lld heads, %s parameters\n",
              path.c_str(), hf.model_type.c_str(), static_cast<long long>(m.num_layers),
              static_cast<long long>(m.d_model), static_cast<long long>(m.num_heads),
              with_commas(model_cost(m, hf.plan).parameters).c_str());
  if (hf.skipped_layers > 0) {
    std::printf("%lld layers that predict further tokens are not read\n", static_cast<long long>(hf.skipped_layers));
  }
  std::printf("\n%s\n", to_table(hf.plan).c_str());
}

TokenDtype inspected_dtype(const InspectArguments& arguments, const std::optional<Sidecar>& sidecar) {
  const auto dtype = parse_enum<TokenDtype>(arguments.dtype);
  if (!dtype) throw ConfigError(cat("[inspect] --dtype must be auto, uint16 or uint32; got '", arguments.dtype, "'"));
  if (*dtype != TokenDtype::automatic) return *dtype;
  if (sidecar) return sidecar->dtype;
  throw ConfigError(cat("[inspect] ", arguments.path, " has no sidecar: say --dtype uint16 or --dtype uint32"));
}

// ", checksum verified", or why it is not.
std::string verify_text(const TokenDataset& tokens, const std::optional<Sidecar>& sidecar) {
  if (!sidecar) return ", NOT verified: no sidecar says what the checksum should be";
  tokens.verify();
  return ", checksum verified";
}

// Prints the first ids as text, if the tokenizer beside the file is still the one that made them.
void print_text(const fs::path& tokenizer, const Sidecar& sidecar, const std::vector<std::uint32_t>& ids) {
  const std::string found = checksum(MappedFile(tokenizer).bytes());
  if (found == sidecar.tokenizer_checksum) {
    std::printf("as text: %s\n", Tokenizer::load(tokenizer).decode(ids).c_str());
  } else {
    std::printf(
        "as text: not shown, for %s is not the tokenizer these tokens were made with: its checksum is %s, "
        "theirs %s\n",
        tokenizer.c_str(), found.c_str(), sidecar.tokenizer_checksum.c_str());
  }
}

void inspect_tokens(const InspectArguments& arguments) {
  const std::optional<Sidecar> sidecar = read_sidecar(arguments.path);
  TokenDatasetOptions options;
  options.paths = {arguments.path};
  options.dtype = inspected_dtype(arguments, sidecar);
  options.sequence_length = 1;
  options.id_bound = std::int64_t{1} << 32;
  options.key = "PATH";
  const TokenDataset tokens(options);
  const std::string verified = arguments.verify ? verify_text(tokens, sidecar) : "";
  std::printf("token file %s\n%s tokens of %s%s\n", arguments.path.c_str(), with_commas(tokens.num_tokens()).c_str(),
              std::string(enum_name(options.dtype)).c_str(), verified.c_str());
  if (sidecar) {
    std::printf("%s documents, vocabulary of %s, end of text %lld, split '%s', tokenizer %s\n",
                with_commas(sidecar->documents).c_str(), with_commas(sidecar->vocab_size).c_str(),
                static_cast<long long>(sidecar->eos_id), sidecar->split.c_str(), sidecar->tokenizer.c_str());
  }
  std::vector<std::uint32_t> first;
  std::int64_t largest = 0, id = 0;
  for (std::int64_t i = 0; i < tokens.num_tokens(); ++i) {
    tokens.read(i, {&id, 1});
    largest = std::max(largest, id);
    if (i < arguments.head) first.push_back(static_cast<std::uint32_t>(id));
  }
  std::printf("largest id %lld\nfirst %zu ids:", static_cast<long long>(largest), first.size());
  for (const std::uint32_t one : first) std::printf(" %u", one);
  std::printf("\n");
  const auto tokenizer = tokens.tokenizer();
  if (sidecar && tokenizer && fs::exists(*tokenizer)) print_text(*tokenizer, *sidecar, first);
}

}  // namespace

void add_inspect_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "inspect", "Show what a checkpoint, a run's newest one, a Hugging Face folder or a token file holds.");
  const auto arguments = std::make_shared<InspectArguments>();
  command->add_option("path", arguments->path, "checkpoint folder, run folder, Hugging Face folder, or token file")
      ->required();
  command->add_flag("--verify", arguments->verify, "compare every byte with its checksum");
  command->add_option("--dtype", arguments->dtype, "of a token file without sidecar: uint16 or uint32")
      ->capture_default_str();
  command->add_option("--head", arguments->head, "ids to show of a token file")
      ->capture_default_str()
      ->check(CLI::Range(0, 100000));
  command->footer("Example: norma inspect runs/tiny --verify\n         norma inspect data/train-00000.npy");
  command->callback([arguments] {
    if (!fs::exists(arguments->path)) throw DataError(cat("[inspect] ", arguments->path, " does not exist"));
    if (fs::exists(fs::path(arguments->path) / "config.json")) {
      inspect_hf_folder(arguments->path);
    } else if (fs::is_directory(arguments->path)) {
      inspect_checkpoint(find_checkpoint(arguments->path), arguments->verify);
    } else {
      inspect_tokens(*arguments);
    }
  });
}

}  // namespace norma
