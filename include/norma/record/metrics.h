// What a run measures while it trains: the names of the metrics, metrics.jsonl with its writer and its reader, and the
// same numbers for TensorBoard.
//
// Names are OLMo's (olmo/train.py and ai2-olmo-eval) wherever it has one. A name is spelled here and nowhere else: the
// code that measures and the code that reads use the constants and functions below.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "norma/base/file.h"

namespace norma {

using Metrics = std::vector<std::pair<std::string, double>>;  // in the order in which they are written

namespace metrics {

// ---- A training step, over all ranks ----

inline constexpr const char* kTrainLoss = "train/CrossEntropyLoss";  // nats: sum over targets / tokens of the batch
inline constexpr const char* kTrainPerplexity = "train/Perplexity";
inline constexpr const char* kZLoss = "train/ZLoss";                          // times its weight
inline constexpr const char* kLoadBalancingLoss = "train/LoadBalancingLoss";  // times its weight
inline constexpr const char* kRouterZLoss = "train/MoEZLoss";                 // times its weight
inline constexpr const char* kGradNorm = "optim/total_grad_norm";             // before clipping
inline constexpr const char* kLearningRate = "optim/learning_rate_group0";
inline constexpr const char* kClippingRate = "optim/clipping_rate";     // 1 when the gradient was clipped, else 0
inline constexpr const char* kTotalTokens = "throughput/total_tokens";  // since the run's beginning
inline constexpr const char* kTotalGflops = "throughput/total_training_Gflops";
inline constexpr const char* kLogTotalGflops = "throughput/total_training_log_Gflops";  // natural logarithm
inline constexpr const char* kTokensPerSecond = "throughput/tokens_per_second";
inline constexpr const char* kDeviceTokensPerSecond = "throughput/device/tokens_per_second";
inline constexpr const char* kDeviceBatchesPerSecond = "throughput/device/batches_per_second";
inline constexpr const char* kCommunicationWait = "throughput/device/communication_wait_seconds_per_step";  // rank 0

// ---- A step, per layer with experts. OLMo's shares and counts are those of rank 0, ours those of all ranks ----

std::string expert_share(std::int64_t layer, std::size_t expert);   // percent of the layer's (token, expert) pairs
std::string expert_tokens(std::int64_t layer, std::size_t expert);  // such pairs
std::string load_ratio(std::int64_t layer);      // busiest expert / mean: 1 at balance, the number of experts at worst
std::string router_entropy(std::int64_t layer);  // nats, mean over tokens

// ---- A step, per parameter; `tensor` is its name ----

enum class ParameterKind { param, grad, exp_avg, exp_avg_sq };
enum class Statistic { min, max, avg, norm };  // min and max are of |x|, avg is the signed mean, norm is the L2 norm
std::string parameter(ParameterKind kind, std::string_view tensor, Statistic statistic);

// ---- An evaluation ----

std::string validation_loss(std::string_view label);  // nats per token, mean over instances
std::string validation_perplexity(std::string_view label);
std::string document_loss(std::string_view label);  // nats per token, scored document by document
std::string bits_per_byte(std::string_view label);  // scored document by document
std::string task_score(std::string_view task, std::string_view task_metric);

// The label, when `name` is a validation_loss().
std::optional<std::string> validation_label(std::string_view name);

}  // namespace metrics

struct MetricsOptions {
  std::int64_t resume_step = 0;  // lines of later steps are dropped: a resumed file equals that of a straight run
  bool tensorboard = true;
};

class TensorboardWriter;

// Appends to metrics.jsonl, one JSON object a line, "step" first; a number that is not finite is a string ("nan",
// "inf", "-inf"). Each line is handed to the system at once. Throws DiskError when a write fails.
class MetricsWriter {
 public:
  MetricsWriter(const fs::path& run_folder, MetricsOptions options);
  ~MetricsWriter();
  void write(std::int64_t step, const Metrics& metrics);

 private:
  std::unique_ptr<OutputFile> lines_;
  std::unique_ptr<TensorboardWriter> events_;
};

// Gives the lines one by one, so that a file of any size needs little memory. A last line that is still being written
// is left out. Throws DataError naming the file and the line.
void read_metrics(const fs::path& run_folder, const std::function<void(std::int64_t step, const Metrics&)>& take);

}  // namespace norma
