// SPDX-License-Identifier: Apache-2.0
// What `lockstep checkpoint` says and does about checkpoints that nobody writes at the moment. It needs neither ranks
// nor a GPU.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/checkpoint/checkpoint_folder.h"

namespace lockstep {

// A line for each checkpoint of a folder, newest first, and for what killed runs have left. Error(file, data) where
// there is nothing.
std::string list_text(const std::string& folder);

// A manifest in words; with its tensors if asked for.
std::string show_text(const std::string& checkpoint, bool tensors);

// Reads every byte of a checkpoint, or of all in a folder, and says how each is. Error(file, data) where there is none.
struct Verified {
  std::string text;
  int64_t checkpoints = 0, damaged = 0;
};
Verified verify(const std::string& path);

// What differs between two checkpoints: configuration, variables, and of each that differs how many elements, by how
// much, and the first of them. Empty when they hold the same.
std::string differences_of(const std::string& a, const std::string& b);

struct PruneRequest {
  std::optional<KeepRules> keep;  // removes what the rules do not keep
  std::optional<int64_t> after;   // removes those of later steps
  bool damaged = false;           // removes those that a run has put aside
  bool dry_run = false;           // only says what it would remove
};
// Also removes what killed runs have left. Error(file) where a run writes into the folder.
std::string prune(const std::string& folder, const PruneRequest& request);

}  // namespace lockstep
