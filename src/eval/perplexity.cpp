#include "norma/eval/perplexity.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace norma {

double Perplexity::perplexity() const {
  return std::exp(cross_entropy);
}

namespace {

at::Tensor read_instances(const TokenDataset& dataset, std::int64_t begin, std::int64_t count) {
  const std::int64_t length = dataset.sequence_length();
  at::Tensor ids = at::empty({count, length}, at::kLong);  // [count, T]
  for (std::int64_t i = 0; i < count; ++i) {
    dataset.read(begin + i, {ids.mutable_data_ptr<std::int64_t>() + i * length, static_cast<std::size_t>(length)});
  }
  return ids;
}

}  // namespace

Perplexity evaluate_perplexity(Transformer& model, UnitRunner& runner, const TokenDataset& dataset, Peers& peers,
                               const PerplexityOptions& options) {
  const c10::NoGradGuard no_grad;
  const auto targets = static_cast<double>(dataset.sequence_length() - 1);
  const std::int64_t total =
      options.max_instances > 0 ? std::min(options.max_instances, dataset.num_instances()) : dataset.num_instances();
  const std::int64_t at_once = options.batch_size * peers.size();
  double sum = 0.0, squares = 0.0;
  Perplexity result;
  for (std::int64_t begin = 0; begin < total; begin += at_once) {
    const std::int64_t mine = begin + options.batch_size * peers.rank();
    const std::int64_t count = std::clamp<std::int64_t>(total - mine, 0, options.batch_size);
    // A rank without an instance left runs a pass that does not count, because units may need every rank.
    const at::Tensor ids = read_instances(dataset, count > 0 ? mine : 0, std::max<std::int64_t>(count, 1));
    const ModelLoss ce = model.loss(ids.to(options.device), {1.0, 0.0, options.loss_chunk, 0.0}, runner);
    if (count > 0) {
      const at::Tensor means = ce.token_ce.to(at::kDouble).sum(1) / targets;  // [count]
      sum += means.sum().item<double>();
      squares += means.square().sum().item<double>();
    }
    result.instances = std::min(begin + at_once, total);
    std::vector<double> refusals = {options.progress && !options.progress(result.instances, total) ? 1.0 : 0.0};
    peers.sum(refusals);
    if (refusals[0] > 0.0) break;
  }
  std::vector<double> sums = {sum, squares};
  peers.sum(sums);
  const auto n = static_cast<double>(result.instances);
  result.cross_entropy = sums[0] / n;
  if (result.instances > 1) {
    const double spread = std::max(sums[1] - n * result.cross_entropy * result.cross_entropy, 0.0);
    result.standard_error = std::sqrt(spread / (n - 1.0) / n);
  }
  result.complete = result.instances == total;
  return result;
}

namespace {

// Documents in pieces of at most context_length tokens. The first piece follows an end-of-text, each later one the last
// token of the piece before it.
class DocumentRequests {
 public:
  DocumentRequests(const TokenDocuments& documents, std::int64_t context_length) : end_of_text_{documents.end_of_text} {
    const auto longest = static_cast<std::size_t>(context_length);
    const std::span<const std::uint32_t> ids = documents.ids;
    for (std::size_t d = 0; d < documents.size(); ++d) {
      for (std::size_t begin = documents.begin[d]; begin < documents.begin[d + 1]; begin += longest) {
        const std::size_t count = std::min(longest, documents.begin[d + 1] - begin);
        const bool is_first = begin == documents.begin[d];
        requests_.push_back({is_first ? std::span<const std::uint32_t>(end_of_text_) : ids.subspan(begin - 1, 1),
                             ids.subspan(begin, count)});
        document_of_.push_back(d);
      }
    }
  }
  DocumentRequests(const DocumentRequests&) = delete;
  DocumentRequests& operator=(const DocumentRequests&) = delete;

  const std::vector<ScoreRequest>& all() const { return requests_; }
  std::size_t document_of(std::size_t request) const { return document_of_[request]; }

 private:
  std::array<std::uint32_t, 1> end_of_text_;
  std::vector<ScoreRequest> requests_;
  std::vector<std::size_t> document_of_;
};

}  // namespace

DocumentPerplexity evaluate_documents(Transformer& model, UnitRunner& runner, const TokenDocuments& documents,
                                      std::span<const std::int64_t> token_bytes, Peers& peers,
                                      const ScoringOptions& options) {
  const DocumentRequests requests(documents, options.context_length);
  const LogProbabilities scores = score_requests(model, runner, requests.all(), peers, options);
  DocumentPerplexity result;
  result.complete = scores.complete;
  if (!scores.complete) return result;
  std::vector<double> nats(documents.size(), 0.0), bits = nats, tokens = nats, bytes = nats;
  for (std::size_t i = 0; i < requests.all().size(); ++i) {
    nats[requests.document_of(i)] -= scores.values[i];
  }
  for (std::size_t d = 0; d < documents.size(); ++d) {
    bits[d] = nats[d] / std::numbers::ln2;
    tokens[d] = static_cast<double>(documents.begin[d + 1] - documents.begin[d]);
    for (std::size_t i = documents.begin[d]; i < documents.begin[d + 1]; ++i) {
      const std::uint32_t id = documents.ids[i];
      if (id < token_bytes.size()) bytes[d] += static_cast<double>(token_bytes[id]);
    }
    result.bytes += static_cast<std::int64_t>(bytes[d]);
  }
  result.tokens = static_cast<std::int64_t>(documents.ids.size());
  result.nats_per_token = ratio_of(nats, tokens);
  if (result.bytes > 0) result.bits_per_byte = ratio_of(bits, bytes);
  return result;
}

}  // namespace norma
