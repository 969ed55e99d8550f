// SPDX-License-Identifier: Apache-2.0
#include "tools/checkpoint/checkpoint_options.h"

#include "kernels/device/known_name.h"
#include "kernels/device/number_text.h"
#include "tools/checkpoint/run_changes.h"

namespace lockstep {

std::string_view to_string(CheckpointErrors errors) { return errors == CheckpointErrors::warn ? "warn" : "stop"; }

void check_checkpoint_options(const CheckpointRunOptions& options) {
  const auto at_least = [](const char* option, int64_t value, int64_t least) {
    check(value >= least, ErrorCode::usage,
          [&] { return str(option, ": expected a whole number of at least ", least, ", got ", value); });
  };
  at_least("--checkpoint-every", options.every, 0);
  at_least("--keep-every", options.keep.every, 0);
  check(options.keep.newest >= 2, ErrorCode::usage, [&] {
    return str("--keep: expected at least 2 checkpoints, got ", options.keep.newest,
               ": the one before is what a run goes on from when the newest is damaged");
  });
  check(!options.folder.empty() || (options.every == 0 && options.keep.every == 0 && options.resume != "auto"),
        ErrorCode::usage,
        "--checkpoint-every, --keep-every and --resume auto are about the checkpoints in a folder; name it with "
        "--checkpoint-dir");
  for (const std::string& name : options.allow_change)
    check_known("change", name, changes_that_can_be_allowed(), list_of(changes_that_can_be_allowed()));
  if (!options.exit_after.empty()) (void)seconds_of("--exit-after", options.exit_after);
}

double seconds_of(const char* option, const std::string& text) {
  const auto refuse = [&] {
    fail(ErrorCode::usage,
         str(option, ": expected a time such as 3h50m, 90s or a number of seconds above 0, got '", text, "'"));
  };
  double seconds = 0;
  double most = 1e9;  // units come from hours to seconds
  for (size_t begin = 0; begin < text.size();) {
    const size_t unit = std::min(text.find_first_of("hms", begin), text.size());
    const std::optional<double> number = real_number_in(std::string_view(text).substr(begin, unit - begin));
    const double factor = unit == text.size() ? 1 : text[unit] == 'h' ? 3600 : text[unit] == 'm' ? 60 : 1;
    if (!number || !(*number >= 0) || factor >= most || *number > 1e9) refuse();
    seconds += *number * factor;
    most = factor;
    begin = unit + 1;
  }
  if (!(seconds > 0)) refuse();
  return seconds;
}

std::string describe(const CheckpointRunOptions& options) {
  std::string text = str("folder='", options.folder, "' every=", options.every, " keep=", options.keep.newest,
                         " keep_every=", options.keep.every, " errors=", to_string(options.errors), " resume='",
                         options.resume, "' exit_after=", options.exit_after);
  for (const std::string& name : options.allow_change) text += str(" allow_change=", name);
  return text;
}

}  // namespace lockstep
