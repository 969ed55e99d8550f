// SPDX-License-Identifier: Apache-2.0
// What a user asks of `lockstep train` about checkpoints.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/checkpoint/checkpoint_folder.h"
#include "tools/checkpoint/fault_injection.h"

namespace lockstep {

enum class CheckpointErrors : uint8_t {
  warn,  // training goes on when a checkpoint could not be written
  stop,  // it ends
};
inline constexpr CheckpointErrors kCheckpointErrors[] = {CheckpointErrors::warn, CheckpointErrors::stop};
std::string_view to_string(CheckpointErrors errors);

struct CheckpointRunOptions {
  std::string folder;  // empty: no checkpoints
  int64_t every = 0;   // steps; 0: only at the end, and when the run is stopped
  KeepRules keep = {};
  CheckpointErrors errors = CheckpointErrors::warn;
  std::string resume;                     // "auto", or the folder of a checkpoint; empty: a new run
  std::vector<std::string> allow_change;  // what may be otherwise than in the run that wrote the checkpoint
  std::string exit_after;                 // "3h50m" after the start of the program; empty: never
  std::vector<Fault> inject;
};

// Error(usage).
void check_checkpoint_options(const CheckpointRunOptions& options);

// The seconds of "3h50m", "90s", "1h2m3s" or "600". Error(usage) names `option`.
double seconds_of(const char* option, const std::string& text);

// For ranks to compare: they have to write, stop and resume alike.
std::string describe(const CheckpointRunOptions& options);

}  // namespace lockstep
