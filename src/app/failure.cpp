#include "failure.h"

#include <filesystem>
#include <new>

#include <c10/util/Exception.h>

namespace norma {
namespace {

constexpr const char* kPleaseReport = "\nThis is a bug in norma: please report it.";

// "what(): message" of LibTorch carries a C++ backtrace; people get the first line.
std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

Failure out_of_memory(const std::string& detail) {
  return {ExitCode::memory, "[memory] " + detail + "; try a smaller train.micro_batch_size or train.loss_chunk"};
}

// What LibTorch throws is an out-of-memory of either kind of device, or our bug.
Failure of_torch(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  if (text.find("can't allocate memory") != std::string::npos) return out_of_memory(first_line(text));
  return {ExitCode::internal, "[internal] " + text + kPleaseReport};
}

}  // namespace

Failure describe_failure(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    return {error.exit_code(), error.what()};
  } catch (const c10::OutOfMemoryError& error) {
    return out_of_memory(first_line(error.what()));
  } catch (const c10::Error& error) {
    return of_torch(error);
  } catch (const std::bad_alloc&) {
    return out_of_memory("out of memory");
  } catch (const std::filesystem::filesystem_error& error) {
    return {ExitCode::data, std::string("[file] ") + error.what()};
  } catch (const std::exception& error) {
    return {ExitCode::internal, std::string("[internal] ") + error.what() + kPleaseReport};
  } catch (...) {
    return {ExitCode::internal, std::string("[internal] an unknown failure") + kPleaseReport};
  }
}

}  // namespace norma
