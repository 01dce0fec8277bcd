#include "norma/base/peers.h"

#include "norma/base/error.h"
#include "norma/base/json.h"

namespace norma {

std::string Peers::on_first(const std::function<std::string()>& action) {
  if (size() == 1) return action();
  Json told = {{"code", 0}, {"text", ""}};
  std::exception_ptr thrown;
  if (is_first()) {
    try {
      told["text"] = action();
    } catch (const std::exception& failure) {
      thrown = std::current_exception();
      const auto* const error = dynamic_cast<const Error*>(&failure);
      told = {{"code", static_cast<int>(error != nullptr ? error->exit_code() : ExitCode::internal)},
              {"text", failure.what()}};
    }
  }
  told = parse_json(broadcast(to_text(told)), "what rank 0 says");
  if (thrown) std::rethrow_exception(thrown);
  const auto code = told.at("code").get<int>();
  if (code != 0) throw_error(static_cast<ExitCode>(code), told.at("text").get<std::string>());
  return told.at("text").get<std::string>();
}

}  // namespace norma
