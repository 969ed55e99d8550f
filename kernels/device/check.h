// SPDX-License-Identifier: Apache-2.0
// Errors: one exception type says what was expected, what came and what to do; check() guards every public function.
#pragma once

#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace lockstep {

// Stable codes; the README lists each with its remedy. `usage` ends the program with 2, the others with 1.
enum class ErrorCode {
  usage,       // options that make no sense
  file,        // a file that cannot be opened, read or written
  data,        // file contents that break their format or fit nothing
  launch,      // ranks, launcher and machine disagree
  mismatch,    // ranks disagree about binary, options, data or plan
  plan,        // variables, layouts, buckets that cannot be planned
  tape,        // nothing to differentiate, or an op result that left the tape
  collective,  // a collective called wrongly, or one that did not finish
  device,      // device missing or out of memory
  numbers,     // the training produced a number it cannot go on with
  internal,    // a bug in Lockstep
};

constexpr std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::usage:
      return "usage";
    case ErrorCode::file:
      return "file";
    case ErrorCode::data:
      return "data";
    case ErrorCode::launch:
      return "launch";
    case ErrorCode::mismatch:
      return "mismatch";
    case ErrorCode::plan:
      return "plan";
    case ErrorCode::tape:
      return "tape";
    case ErrorCode::collective:
      return "collective";
    case ErrorCode::device:
      return "device";
    case ErrorCode::numbers:
      return "numbers";
    case ErrorCode::internal:
      return "internal";
  }
  return "internal";
}

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message, std::source_location at)
      : std::runtime_error(message), code_(code), at_(at) {}
  ErrorCode code() const { return code_; }
  const std::source_location& at() const { return at_; }

 private:
  ErrorCode code_;
  std::source_location at_;
};

// Joins its parts into one message: str("expected ", 3, " dimensions").
template <class... Parts>
std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

[[noreturn]] inline void fail(ErrorCode code, const std::string& message,
                              std::source_location at = std::source_location::current()) {
  throw Error(code, message, at);
}

// `message` is text, or a callable returning it, so that a passing check formats nothing.
template <class Message>
void check(bool condition, ErrorCode code, Message&& message,
           std::source_location at = std::source_location::current()) {
  if (condition) [[likely]]
    return;
  if constexpr (std::is_invocable_v<Message>) {
    fail(code, message(), at);
  } else {
    fail(code, std::string(message), at);
  }
}

}  // namespace lockstep
