// SPDX-License-Identifier: Apache-2.0
#include "runtime/program.h"

#include <cstdio>
#include <cstring>
#include <new>
#include <optional>
#include <string_view>
#include <system_error>

#include "collectives/bootstrap.h"
#include "collectives/host/thread_ranks.h"
#include "kernels/device/check.h"
#include "kernels/device/number_text.h"
#include "kernels/device/printable.h"
#include "runtime/files/standard_output.h"

namespace lockstep {
namespace {

// The text after `option`, as "--option text" or "--option=text".
std::optional<std::string_view> value_of(std::string_view option, int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::string_view text = argv[i];
    if (!text.starts_with(option)) continue;
    text.remove_prefix(option.size());
    if (text.starts_with("=")) return text.substr(1);
    if (text.empty()) return i + 1 < argc ? argv[i + 1] : "";
  }
  return std::nullopt;
}

// The number after --ranks; 0 where it is not given.
int thread_ranks_of(int argc, char** argv) {
  const std::optional<std::string_view> text = value_of("--ranks", argc, argv);
  if (!text) return 0;
  const std::optional<int64_t> ranks = whole_number_in(*text);
  check(ranks && *ranks >= 1 && *ranks <= 256, ErrorCode::usage,
        [&] { return str("--ranks: expected 1 to 256 ranks, got '", *text, "'"); });
  return int(*ranks);
}

}  // namespace

std::chrono::milliseconds timeout_of(int argc, char** argv) {
  const std::string_view text = value_of("--timeout", argc, argv).value_or("");
  double seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  const bool makes_sense = error == std::errc() && end == text.data() + text.size() && seconds > 0 && seconds <= 1e6;
  return makes_sense ? std::chrono::milliseconds(int64_t(seconds * 1e3)) : kDefaultTimeout;
}

std::string speaker_of(const Communicator& ranks) {
  if (ranks.size() == 1) return "";
  return str(" rank ", ranks.rank(), " of ", ranks.size(), " on ", ranks.place().host, ":");
}

void print_error(const std::string& speaker, const std::exception& error) {
  // What the system has run out of is no bug.
  const auto refused = [&](const std::string& what) {
    print_error(speaker, Error(ErrorCode::device, what, std::source_location::current()));
  };
  if (dynamic_cast<const std::bad_alloc*>(&error))
    return refused("out of memory of the host; see `ulimit -v`, or use fewer ranks, a smaller batch or a smaller file");
  if (dynamic_cast<const std::system_error*>(&error))
    return refused(str("the system refuses threads: ", error.what(),
                       "; use fewer ranks and threads, or raise the limits (ulimit -u, pids.max of the container)"));
  const auto* known = dynamic_cast<const Error*>(&error);
  const ErrorCode code = known ? known->code() : ErrorCode::internal;
  std::string place;
  // A bug is looked for in the source, everything else where the user is.
  if (known && code == ErrorCode::internal) place = str(" (", known->at().file_name(), ":", known->at().line(), ")");
  print_remark(str("lockstep: error: [", to_string(code), "]", speaker, " ", printable(error.what()), place, "\n"));
}

int run_program(int argc, char** argv, const std::function<int(Communicator&)>& body) {
  prepare_standard_streams();
  std::string speaker;
  return run_connected(
      [&](Communicator& launched) {
        const int threads = thread_ranks_of(argc, argv);
        speaker = speaker_of(launched);
        if (threads == 0) return body(launched);
        check(launched.size() == 1, ErrorCode::usage, [&] {
          return str("--ranks ", threads, " starts ranks as threads, but the launcher has started ", launched.size(),
                     " processes already; use one or the other");
        });
        int code = 0;
        run_thread_ranks({.ranks = threads, .node_of = {}, .timeout = timeout_of(argc, argv)},
                         [&](Communicator& ranks) {
                           const int mine = body(ranks);
                           if (ranks.rank() == 0) code = mine;
                         });
        return code;
      },
      [&](const std::exception& error) { print_error(speaker, error); }, timeout_of(argc, argv));
}

}  // namespace lockstep
