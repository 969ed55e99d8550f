// SPDX-License-Identifier: Apache-2.0
#include "runtime/program.h"

#include <new>
#include <string_view>

#include "collectives/bootstrap.h"
#include "collectives/host/thread_ranks.h"
#include "kernels/device/check.h"
#include "kernels/device/number_text.h"
#include "kernels/device/printable.h"
#include "runtime/files/standard_output.h"

namespace lockstep {
namespace {

// The number after --ranks; 0 where it is not given.
int thread_ranks_of(int argc, char** argv) {
  constexpr std::string_view kOption = "--ranks";
  for (int i = 1; i < argc; ++i) {
    std::string_view text = argv[i];
    if (!text.starts_with(kOption)) continue;
    text.remove_prefix(kOption.size());
    if (text.starts_with("="))
      text.remove_prefix(1);
    else if (text.empty())
      text = i + 1 < argc ? argv[i + 1] : "";
    else
      continue;
    const std::optional<int64_t> ranks = whole_number_in(text);
    check(ranks && *ranks >= 1 && *ranks <= 256, ErrorCode::usage,
          [&] { return str("--ranks: expected 1 to 256 ranks, got '", text, "'"); });
    return int(*ranks);
  }
  return 0;
}

}  // namespace

std::string speaker_of(const Communicator& ranks) {
  if (ranks.size() == 1) return "";
  return str(" rank ", ranks.rank(), " of ", ranks.size(), " on ", ranks.place().host, ":");
}

void print_error(const std::string& speaker, const std::exception& error) {
  const auto* known = dynamic_cast<const Error*>(&error);
  ErrorCode code = known ? known->code() : ErrorCode::internal;
  std::string what = error.what(), place;
  if (dynamic_cast<const std::bad_alloc*>(&error)) {
    code = ErrorCode::device;
    what = "out of memory of the host; see `ulimit -v`, or use fewer ranks, a smaller batch or a smaller file";
  }
  // A bug is looked for in the source, everything else where the user is.
  if (known && code == ErrorCode::internal) place = str(" (", known->at().file_name(), ":", known->at().line(), ")");
  print_remark(str("lockstep: error: [", to_string(code), "]", speaker, " ", printable(what), place, "\n"));
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
        run_thread_ranks(threads, [&](Communicator& ranks) {
          const int mine = body(ranks);
          if (ranks.rank() == 0) code = mine;
        });
        return code;
      },
      [&](const std::exception& error) { print_error(speaker, error); });
}

}  // namespace lockstep
